//! The short way and hyper's are two ways for the same thing: neither a backend nor a client of HTTP/2 may
//! see a difference.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use ingress::objects::Options;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::rig::{Rig, Rules, Server, free_address, raw, reason, soon, text};

type AnyBody = BoxBody<Bytes, std::convert::Infallible>;

async fn http2(address: SocketAddr) -> SendRequest<AnyBody> {
    let stream = TcpStream::connect(address).await.unwrap();
    let io = TokioIo::new(stream);
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// No body: the short way.
fn nothing() -> AnyBody {
    Empty::new().boxed()
}

/// No body either, but that is only known at its end: hyper's way.
fn nothing_yet() -> AnyBody {
    StreamBody::new(futures::stream::iter([Ok(Frame::data(Bytes::new()))])).boxed()
}

async fn ask(rig: &Rig, path: &str) -> Response<Incoming> {
    let request = Request::get(format!("http://a.test{path}")).body(nothing()).unwrap();
    soon("the head", http2(rig.plain).await.send_request(request)).await.unwrap()
}

/// What is left of headers without their order and the time.
fn sorted(headers: &HeaderMap) -> BTreeSet<String> {
    let known = headers.iter().filter(|(name, _)| *name != "date");
    known.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
}

#[tokio::test]
async fn both_ways_of_a_request_of_http2_look_the_same() {
    let web = Server::telling("web").await;
    let rig = Rig::start(Rules::default().lead("a.test", "/", "web", &[web.address]));
    let mut sender = http2(rig.plain).await;
    let mut seen = async |method: Method, body: AnyBody| {
        let request = Request::builder()
            .method(method)
            .uri("http://a.test/a%20b?c=d")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("x-forwarded-for", "1.2.3.4")
            .header("forwarded", "for=1.2.3.4")
            .header("x-own", "one")
            .header("x-own", "two")
            .header("te", "trailers")
            .body(body)
            .unwrap();
        let answer = text(soon("an answer", sender.send_request(request)).await.unwrap()).await;
        let lines = answer.body().lines().filter(|line| *line != "transfer-encoding: chunked");
        let told: BTreeSet<String> = lines.map(str::to_owned).collect();
        let mut headers = sorted(answer.headers());
        headers.retain(|line| !line.starts_with("content-length"));
        (answer.status(), headers, told)
    };
    for method in [Method::GET, Method::HEAD] {
        let (short, long) =
            (seen(method.clone(), nothing()).await, seen(method.clone(), nothing_yet()).await);
        assert_eq!(short, long);
        if method == Method::GET {
            assert!(short.2.contains("GET /a%20b?c=d"), "{short:?}");
            assert!(short.2.contains("cookie: a=1; b=2"), "{short:?}");
            assert!(short.2.contains("x-forwarded-for: 127.0.0.1"), "{short:?}");
        }
    }
}

/// Answers that the proxy gives itself are the same as well.
#[tokio::test]
async fn failures_look_the_same_by_both_ways() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let nonsense = says(b"nonsense\r\n\r\n", End::Orderly).await.0;
    let rules = Rules::default()
        .with(Options { response_timeout: Some(Duration::from_millis(200)), ..Options::default() })
        .lead("", "/silent", "silent", &[silent.local_addr().unwrap()])
        .lead("", "/nonsense", "nonsense", &[nonsense])
        .lead("", "/refused", "refused", &[free_address()])
        .lead("", "/empty", "empty", &[]);
    let rig = Rig::start(rules);
    let mut sender = http2(rig.plain).await;
    for (path, code, word) in [
        ("/silent", 504, "endpoint-timeout"),
        ("/nonsense", 502, "endpoint-broke-off"),
        ("/refused", 502, "connect-failed"),
        ("/empty", 503, "no-endpoints"),
    ] {
        for body in [nothing(), nothing_yet()] {
            let request = Request::get(format!("http://a.test{path}")).body(body).unwrap();
            let answer = text(soon(path, sender.send_request(request)).await.unwrap()).await;
            assert_eq!((answer.status().as_u16(), reason(&answer)), (code, word), "{path}");
        }
    }
}

/// Chunks and lengths, large and small; all by one connection to the backend.
#[tokio::test]
async fn bodies_of_all_kinds_arrive_whole_by_http2() {
    let server = Server::start(|request: Request<Incoming>| async move {
        let (kind, count) = request.uri().path()[1..].split_at(1);
        let bytes = Bytes::from(vec![b'x'; count.parse().unwrap()]);
        let parts: Vec<_> = bytes
            .chunks(30_000)
            .map(|part| Ok::<_, std::io::Error>(Frame::data(bytes.slice_ref(part))))
            .collect();
        if kind == "c" {
            Response::new(BodyExt::boxed(StreamBody::new(futures::stream::iter(parts))))
        } else {
            Response::new(Full::new(bytes).map_err(|never| match never {}).boxed())
        }
    })
    .await;
    let rig = Rig::start(Rules::default().lead("", "/", "web", &[server.address]));
    for kind in ["c", "l"] {
        for count in [0, 1, 100, 16_384, 70_000, 3_000_000] {
            let answer = text(ask(&rig, &format!("/{kind}{count}")).await).await;
            assert_eq!((answer.status(), answer.body().len()), (StatusCode::OK, count), "{kind}");
        }
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

/// How a backend ends its connection.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Stays,
    Orderly,
    Reset,
}

/// A backend that answers every request with these words, and then ends the connection like this.
async fn says(words: &'static [u8], end: End) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::<AtomicUsize>::default();
    let count = connections.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut head = [0; 4096];
                while stream.read(&mut head).await.is_ok_and(|count| count > 0) {
                    stream.write_all(words).await.unwrap();
                    if end == End::Reset {
                        // What was written before must have been read: a reset overtakes it.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                    }
                    if end != End::Stays {
                        return;
                    }
                }
            });
        }
    });
    (address, connections)
}

#[tokio::test]
async fn trailers_arrive_and_the_connection_is_used_again() {
    let (address, connections) = says(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
          3;ext=1\r\none\r\n3\r\ntwo\r\n0\r\nX-Sum: 6\r\nConnection: close\r\n\r\n",
        End::Stays,
    )
    .await;
    let rig = Rig::start(Rules::default().lead("", "/", "web", &[address]));
    for _ in 0..3 {
        let answer = ask(&rig, "/").await;
        assert!(!answer.headers().contains_key("transfer-encoding"), "{answer:?}");
        let body = soon("the body", answer.into_body().collect()).await.unwrap();
        let trailers = body.trailers().expect("trailers").clone();
        assert_eq!(sorted(&trailers), BTreeSet::from(["x-sum: 6".to_owned()]));
        assert_eq!(body.to_bytes(), "onetwo");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

/// A body that ends with its connection is whole if the connection ended well; one that broke off
/// never looks whole, whatever it was to be.
#[tokio::test]
async fn bodies_that_break_off_do_not_look_whole() {
    let until_close = b"HTTP/1.1 200 OK\r\n\r\nhalf";
    let length = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf";
    let chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    let bad_chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nxyz\r\n";
    for (words, end, is_whole) in [
        (&until_close[..], End::Orderly, true),
        (until_close, End::Reset, false),
        (length, End::Orderly, false),
        (length, End::Reset, false),
        (chunks, End::Orderly, false),
        (chunks, End::Reset, false),
        (bad_chunks, End::Stays, false),
    ] {
        let (address, _) = says(words, end).await;
        let rig = Rig::start(Rules::default().lead("", "/", "web", &[address]));
        let said = String::from_utf8_lossy(words);
        let body = async {
            // A reset may overtake the head.
            let request = Request::get("http://a.test/").body(nothing()).unwrap();
            let answer = http2(rig.plain).await.send_request(request).await?;
            answer.into_body().collect().await.map(|body| body.to_bytes())
        };
        let body = soon("the body by HTTP/2", body).await;
        assert_eq!(body.is_ok(), is_whole, "HTTP/2: {body:?}, said {said:?}");
        assert!(body.is_err() || body.is_ok_and(|body| body == "half"));
        let answer = raw(rig.plain, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let whole = answer.ends_with("\r\n\r\n4\r\nhalf\r\n0\r\n\r\n");
        assert_eq!(whole, is_whole, "HTTP/1.1: {answer}, said {said:?}");
    }
}

/// Bytes that nobody asked for are not the next client's answer.
#[tokio::test]
async fn a_connection_with_more_than_an_answer_is_not_used_again() {
    for words in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"[..],
        b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nevil",
    ] {
        let (address, connections) = says(words, End::Stays).await;
        let rig = Rig::start(Rules::default().lead("", "/", "web", &[address]));
        for n in 1..=3 {
            let answer = text(ask(&rig, "/").await).await;
            assert!(matches!(&**answer.body(), "ok" | ""), "{answer:?}");
            assert_eq!(connections.load(Ordering::SeqCst), n);
        }
    }
}

/// A client that takes its request back is waited for by nobody, before the answer and within it.
#[tokio::test]
async fn a_stream_that_is_reset_ends_what_it_asked_for() {
    for said in ["", "HTTP/1.1 200 OK\r\n\r\nbegun"] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let rules = Rules::default().lead("", "/", "web", &[listener.local_addr().unwrap()]);
        let rig = Rig::start(rules);
        let mut sender = http2(rig.plain).await;
        let request = Request::get("http://a.test/").body(nothing()).unwrap();
        let asking = tokio::spawn(sender.send_request(request));
        let (mut backend, _) = soon("the request", listener.accept()).await.unwrap();
        let mut bytes = [0; 4096];
        assert!(backend.read(&mut bytes).await.unwrap() > 0);
        backend.write_all(said.as_bytes()).await.unwrap();
        if said.is_empty() {
            asking.abort();
            let _ = asking.await;
        } else {
            let mut answer = soon("the head", asking).await.unwrap().unwrap();
            let part = soon("a part", answer.body_mut().frame()).await.unwrap().unwrap();
            assert_eq!(part.into_data().unwrap(), "begun");
        }
        let end = soon("the proxy's leaving", backend.read(&mut bytes)).await;
        assert_eq!(end.unwrap_or(0), 0, "{said:?}");
    }
}

/// A client that reads nothing stops the backend, not the proxy's memory; other streams go on.
#[tokio::test]
async fn a_client_that_does_not_read_holds_only_itself_back() {
    const LARGE: usize = 64 << 20;
    let server = Server::start(|request: Request<Incoming>| async move {
        let count = if request.uri().path() == "/large" { LARGE } else { 2 };
        Response::new(Full::new(Bytes::from(vec![b'x'; count])))
    })
    .await;
    let rig = Rig::start(Rules::default().lead("", "/", "web", &[server.address]));
    let mut sender = http2(rig.plain).await;
    let mut get = async |path: &str| {
        let request = Request::get(format!("http://a.test{path}")).body(nothing()).unwrap();
        soon(path, sender.send_request(request)).await.unwrap()
    };
    let large = get("/large").await;
    for _ in 0..20 {
        assert_eq!(text(get("/small").await).await.body(), "xx");
    }
    let whole = soon("the large body", large.into_body().collect()).await.unwrap();
    assert_eq!(whole.to_bytes().len(), LARGE);
}
