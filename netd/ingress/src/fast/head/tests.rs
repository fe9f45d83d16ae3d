//! Which heads are simple, and what becomes of them.

use proptest::prelude::*;

use super::*;

fn client() -> Client {
    Client::new("203.0.113.9".parse().unwrap(), 80, false)
}

/// What a backend sees of a request; `None` if it is not simple, or not whole.
fn seen(text: &str) -> Option<String> {
    let mut out = Vec::new();
    match request(text.as_bytes(), &client(), &mut out) {
        Request::Simple(_) => Some(String::from_utf8(out).unwrap()),
        Request::Partial | Request::Other => None,
    }
}

#[test]
fn a_simple_request_is_written_anew() {
    let text = "GET /a/b?c=%2e%2E HTTP/1.1\r\nHost: a.test:8080\r\nAccept:*/*\r\n\
                X-Forwarded-For: 10.0.0.1\r\nKeep-Alive: 5\r\nConnection: Keep-Alive\r\n\r\nGET";
    let mut out = Vec::new();
    let Request::Simple(simple) = request(text.as_bytes(), &client(), &mut out) else {
        panic!("it is simple")
    };
    assert_eq!(simple.host(text.as_bytes()), "a.test");
    assert_eq!(simple.path(text.as_bytes()), "/a/b");
    assert_eq!((simple.length, simple.head_only), (text.len() - 3, false));
    let expected = "GET /a/b?c=%2e%2E HTTP/1.1\r\nAccept: */*\r\nhost: a.test:8080\r\n\
                    x-forwarded-host: a.test:8080\r\nx-forwarded-for: 203.0.113.9\r\n\
                    x-real-ip: 203.0.113.9\r\nx-forwarded-proto: http\r\n\
                    x-forwarded-port: 80\r\n\r\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn what_needs_thought_is_left_to_others() {
    assert!(seen("GET / HTTP/1.1\r\nHost: a\r\n\r\n").is_some());
    for text in [
        "POST / HTTP/1.1\r\nHost: a\r\n\r\n",
        "get / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: A\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: \r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /%61 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a/../b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /#x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n Content-Length: 3\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHTTP2-Settings: AA\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: x-secret\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\u{16}\u{3}\u{1}",
    ] {
        let mut out = Vec::new();
        let read = request(text.as_bytes(), &client(), &mut out);
        assert!(matches!(read, Request::Other), "{text:?}: {read:?}");
    }
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(MOST));
    assert!(matches!(request(long.as_bytes(), &client(), &mut Vec::new()), Request::Other));
    for text in ["", "G", "GET / HTTP/1.1\r\nHost: a\r\n", "\r\n"] {
        let read = request(text.as_bytes(), &client(), &mut Vec::new());
        assert!(matches!(read, Request::Partial), "{text:?}: {read:?}");
    }
}

fn told(text: &str, head_only: bool) -> (Response, String) {
    let mut out = Vec::new();
    let response = response(text.as_bytes(), head_only, &mut out);
    (response, String::from_utf8_lossy(&out).into_owned())
}

#[test]
fn the_end_of_a_body_is_where_the_rules_say() {
    let of = |text: &str, head_only| match told(text, head_only).0 {
        Response::Answer(answer) => (answer.body, answer.keeps),
        other => panic!("{text:?}: {other:?}"),
    };
    for (text, body, keeps) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", Body::Length(3), true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Body::None, true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Body::Chunks, true),
        ("HTTP/1.1 200 OK\r\n\r\n", Body::UntilClose, false),
        ("HTTP/1.1 204 No Content\r\n\r\n", Body::None, true),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", Body::None, true),
        ("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", Body::Length(3), false),
        ("HTTP/1.1 200\r\nConnection: Close\r\nContent-Length: 3\r\n\r\n", Body::Length(3), false),
    ] {
        assert_eq!(of(text, false), (body, keeps), "{text:?}");
    }
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
    assert_eq!(of(length, true), (Body::None, true));
}

#[test]
fn an_answer_with_two_meanings_is_none() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let read = told(text, false).0;
        assert!(matches!(read, Response::Bad(_)), "{text:?}: {read:?}");
    }
    assert_eq!(told("HTTP/1.1 103 Early Hints\r\n\r\nHTTP", false).0, Response::Early(28));
    assert_eq!(told("HTTP/1.1 200 OK\r\nX: y\r\n", false).0, Response::Partial);
}

#[test]
fn an_answer_may_have_as_many_headers_as_hyper_reads() {
    let with = |count: usize| {
        let cookies: String = (0..count).map(|n| format!("Set-Cookie: c{n}=1\r\n")).collect();
        told(&format!("HTTP/1.1 204 No Content\r\n{cookies}\r\n"), false)
    };
    let (read, seen) = with(100);
    assert!(matches!(read, Response::Answer(_)), "{read:?}");
    assert_eq!(seen.matches("Set-Cookie").count(), 100);
    assert!(matches!(with(101).0, Response::Bad(_)));
}

#[test]
fn a_client_sees_nothing_of_the_backends_connection() {
    let text = "HTTP/1.1 200 Fine\r\nConnection: x-hop, keep-alive\r\nX-Hop: 1\r\nX-Kept: 1\r\n\
                Keep-Alive: timeout=5\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\n";
    let (_, seen) = told(text, false);
    assert_eq!(seen, "HTTP/1.1 200 Fine\r\nX-Kept: 1\r\nContent-Length: 1\r\n\r\n");
}

proptest! {
    /// Whatever came: what a backend sees is one whole head, and nothing after it.
    #[test]
    fn a_backend_sees_one_request(
        target in "/[a-z./?%#: ]{0,12}",
        name in "(x-a|host|te|connection|content-length|transfer-encoding|upgrade|accept)",
        value in "[a-z0-9:., \\t\\r\\n]{0,14}",
    ) {
        let text = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{name}: {value}\r\n\r\n");
        if let Some(seen) = seen(&text) {
            prop_assert!(seen.ends_with("\r\n\r\n"));
            prop_assert_eq!(seen.matches("\r\n\r\n").count(), 1);
            let lower = seen.to_lowercase();
            for word in ["content-length", "transfer-encoding", "upgrade", "connection"] {
                prop_assert!(!lower.contains(word), "{}", seen);
            }
            prop_assert_eq!(lower.matches("\r\nhost: ").count(), 1);
        }
    }

    #[test]
    fn no_bytes_upset_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = request(&bytes, &client(), &mut Vec::new());
        let _ = response(&bytes, false, &mut Vec::new());
    }
}
