//! HTTP/1.1: where requests go, what they carry, connections that are kept, bodies that flow.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper_util::rt::TokioIo;
use ingress::objects::Options;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::rig::{Rig, Rules, Server, free_address, get, raw, reason, send, soon, text};

#[tokio::test]
async fn requests_go_where_host_and_path_say() {
    let (web, api) = (Server::telling("web").await, Server::telling("api").await);
    let rules = Rules::default().lead("a.test", "/", "web", &[web.address]).lead(
        "a.test",
        "/api",
        "api",
        &[api.address],
    );
    let rig = Rig::with_workers(2, rules);
    for (host, path, expected) in
        [("a.test", "/", "web"), ("A.TEST:8080", "/apix", "web"), ("a.test", "/api/v1?x=/y", "api")]
    {
        let answer = get(rig.plain, host, path).await;
        assert!(answer.body().starts_with(expected), "{host}{path}: {}", answer.body());
        assert!(answer.body().contains(&format!("GET {path}\n")), "{}", answer.body());
    }
    let unknown = get(rig.plain, "b.test", "/").await;
    assert_eq!((unknown.status(), reason(&unknown)), (StatusCode::NOT_FOUND, "no-rule-for-host"));
    assert!(unknown.body().contains("No Ingress has a rule for host b.test."), "{unknown:?}");
}

#[tokio::test]
async fn a_page_says_whose_rules_have_no_such_path() {
    let web = Server::telling("web").await;
    let to = [web.address];
    let rules = Rules::default().lead("", "/a", "web", &to).lead("a.test", "/a", "web", &to);
    let rig = Rig::start(rules);
    for (host, sentence) in [
        ("a.test", "Ingresses have rules for host a.test, but none for path /b."),
        (
            "x.test",
            "No Ingress has a rule for host x.test, and those without a host have none for path /b.",
        ),
    ] {
        let answer = get(rig.plain, host, "/b").await;
        assert_eq!((answer.status(), reason(&answer)), (StatusCode::NOT_FOUND, "no-rule-for-path"));
        assert_eq!(*answer.body(), format!("404 Not Found\n{sentence}\n"));
    }
}

#[tokio::test]
async fn backends_learn_who_asks_and_nothing_that_was_invented() {
    let web = Server::telling("web").await;
    let rig = Rig::start(Rules::default().lead("", "/", "web", &[web.address]));
    let request = Request::post("/form?a=b")
        .header("host", "Shop.Test:8080")
        .header("x-forwarded-for", "10.9.9.9")
        .header("x-forwarded-proto", "https")
        .header("forwarded", "for=10.9.9.9")
        .header("connection", "x-drop-me, keep-alive")
        .header("x-drop-me", "1")
        .header("proxy-connection", "keep-alive")
        .header("expect", "100-continue")
        .body(Full::from("content"))
        .unwrap();
    let answer = send(rig.plain, request).await;
    let port = rig.plain.port().to_string();
    let seen = answer.body();
    for line in [
        "POST /form?a=b",
        "host: Shop.Test:8080",
        "x-forwarded-for: 127.0.0.1",
        "x-real-ip: 127.0.0.1",
        "x-forwarded-proto: http",
        "x-forwarded-host: Shop.Test:8080",
        &format!("x-forwarded-port: {port}"),
        "content-length: 7",
    ] {
        assert!(seen.lines().any(|one| one == line), "{line} is not in\n{seen}");
    }
    for word in ["10.9.9.9", "x-drop-me", "proxy-connection", "forwarded: ", "expect"] {
        assert!(!seen.contains(word), "{word} is in\n{seen}");
    }
    assert!(seen.ends_with("\n\ncontent"), "{seen}");
}

#[tokio::test]
async fn connections_to_backends_are_used_again() {
    let web = Server::telling("web").await;
    let rig = Rig::start(Rules::default().lead("", "/", "web", &[web.address]));
    for _ in 0..50 {
        assert_eq!(get(rig.plain, "a.test", "/").await.status(), StatusCode::OK);
    }
    assert_eq!(web.requests.load(Ordering::SeqCst), 50);
    assert_eq!(web.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn one_connection_carries_many_requests_one_after_the_other() {
    let web = Server::telling("web").await;
    let rig = Rig::start(Rules::default().lead("", "/", "web", &[web.address]));
    let stream = TcpStream::connect(rig.plain).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for n in 0..20 {
        let request = Request::get(format!("/{n}")).header("host", "a").body(String::new());
        sender.ready().await.unwrap();
        let answer = text(sender.send_request(request.unwrap()).await.unwrap()).await;
        assert!(answer.body().contains(&format!("GET /{n}\n")), "{}", answer.body());
    }
}

#[tokio::test]
async fn requests_that_were_sent_ahead_are_answered_in_order() {
    let web = Server::telling("web").await;
    let rig = Rig::start(Rules::default().lead("", "/", "web", &[web.address]));
    let one = |n: u8| format!("GET /{n} HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let answers = raw(rig.plain, (one(1) + &one(2) + &one(3)).as_bytes()).await;
    let order: Vec<_> = answers.lines().filter(|line| line.starts_with("GET /")).collect();
    assert_eq!(order, ["GET /1", "GET /2", "GET /3"]);
}

/// A backend that sends each part when the test says so.
async fn slow_backend() -> (Server, mpsc::Sender<Result<Frame<Bytes>, std::io::Error>>) {
    let (send, receive) = mpsc::channel(1);
    let parts = std::sync::Arc::new(std::sync::Mutex::new(Some(receive)));
    let server = Server::start(move |_| {
        let parts = parts.lock().unwrap().take().expect("one request only");
        async move { http::Response::new(StreamBody::new(ReceiverStream::new(parts))) }
    })
    .await;
    (server, send)
}

#[tokio::test]
async fn an_answer_flows_part_by_part() {
    let (server, parts) = slow_backend().await;
    let rig = Rig::start(Rules::default().lead("", "/", "web", &[server.address]));
    let stream = TcpStream::connect(rig.plain).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("/").header("host", "a").body(String::new()).unwrap();
    let mut answer = soon("the head", sender.send_request(request)).await.unwrap();
    for text in ["one", "two", "three"] {
        parts.send(Ok(Frame::data(Bytes::from_static(text.as_bytes())))).await.unwrap();
        let part = soon("a part", answer.body_mut().frame()).await.unwrap().unwrap();
        assert_eq!(part.into_data().unwrap(), text);
    }
    drop(parts);
    assert!(soon("the end", answer.body_mut().frame()).await.is_none());
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_whole() {
    let (server, parts) = slow_backend().await;
    let rig = Rig::start(Rules::default().lead("", "/", "web", &[server.address]));
    let asking = raw(rig.plain, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let breaking = async {
        parts.send(Ok(Frame::data(Bytes::from_static(b"half")))).await.unwrap();
        parts.send(Err(std::io::Error::other("broke"))).await.unwrap();
    };
    let (answer, ()) = tokio::join!(asking, breaking);
    assert!(answer.contains("half") && !answer.ends_with("0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_request_flows_part_by_part() {
    let (told, mut seen) = mpsc::channel(8);
    let server = Server::start(move |request: Request<hyper::body::Incoming>| {
        let told = told.clone();
        async move {
            let mut parts = request.into_body().into_data_stream();
            while let Some(part) = parts.next().await {
                told.send(part.unwrap()).await.unwrap();
            }
            crate::rig::page("done")
        }
    })
    .await;
    let rig = Rig::start(Rules::default().lead("", "/", "web", &[server.address]));
    let mut stream = TcpStream::connect(rig.plain).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    for text in ["one", "two", "three"] {
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        stream.write_all(chunk.as_bytes()).await.unwrap();
        assert_eq!(soon("a part", seen.recv()).await.unwrap(), text);
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    soon("the answer", stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[tokio::test]
async fn a_large_body_passes_both_ways_unharmed() {
    let server = Server::start(|request: Request<hyper::body::Incoming>| async move {
        http::Response::new(request.into_body())
    })
    .await;
    let rig = Rig::start(Rules::default().lead("", "/", "web", &[server.address]));
    let sent: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
    let request =
        Request::post("/").header("host", "a").body(Full::<Bytes>::from(sent.clone())).unwrap();
    let stream = TcpStream::connect(rig.plain).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.unwrap();
    let received = soon("the body", answer.into_body().collect()).await.unwrap().to_bytes();
    assert!(received == sent, "{} bytes of {}", received.len(), sent.len());
}

#[tokio::test]
async fn a_new_table_ends_no_connection_and_a_removed_endpoint_gets_nothing_new() {
    let (old, new) = (Server::telling("old").await, Server::telling("new").await);
    let lead = |to| Rules::default().lead("", "/", "web", &[to]);
    let mut rig = Rig::start(lead(old.address));
    let stream = TcpStream::connect(rig.plain).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for (who, server) in [("old", &old), ("new", &new), ("old", &old)] {
        rig.change(lead(server.address));
        sender.ready().await.unwrap();
        let request = Request::get("/").header("host", "a").body(String::new()).unwrap();
        let answer = text(sender.send_request(request).await.unwrap()).await;
        assert!(answer.body().starts_with(who), "{}", answer.body());
    }
}

#[tokio::test]
async fn a_request_under_way_ends_well_though_its_endpoint_was_removed() {
    let (server, parts) = slow_backend().await;
    let lead = |to: &[std::net::SocketAddr]| Rules::default().lead("", "/", "web", to);
    let mut rig = Rig::start(lead(&[server.address]));
    let asking =
        tokio::spawn(raw(rig.plain, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
    parts.send(Ok(Frame::data(Bytes::from_static(b"before ")))).await.unwrap();
    server.was_asked().await;
    rig.change(lead(&[]));
    let refused = get(rig.plain, "a", "/").await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    parts.send(Ok(Frame::data(Bytes::from_static(b"after")))).await.unwrap();
    drop(parts);
    let answer = soon("the rest", asking).await.unwrap();
    assert!(answer.contains("before ") && answer.contains("after"), "{answer}");
}

#[tokio::test]
async fn a_proxy_that_stops_lets_requests_end() {
    let (server, parts) = slow_backend().await;
    let rig = Rig::start(Rules::default().lead("", "/", "web", &[server.address]));
    let plain = rig.plain;
    let asking = tokio::spawn(raw(plain, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    parts.send(Ok(Frame::data(Bytes::from_static(b"before ")))).await.unwrap();
    server.was_asked().await;
    let stopping = tokio::spawn(rig.proxy.stop(Duration::from_secs(10)));
    // The doors close at once.
    soon("closed doors", async {
        while TcpStream::connect(plain).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    parts.send(Ok(Frame::data(Bytes::from_static(b"after")))).await.unwrap();
    drop(parts);
    soon("the end of the proxy", stopping).await.unwrap();
    let answer = soon("the rest", asking).await.unwrap();
    assert!(answer.contains("before ") && answer.contains("after"), "{answer}");
}

#[tokio::test]
async fn doors_open_and_close_while_the_others_serve() {
    let web = Server::telling("web").await;
    let mut rig = Rig::start(Rules::default().lead("", "/", "web", &[web.address]));
    let keep = ingress::Door { address: rig.plain, tls: false };
    let more = ingress::Door { address: free_address(), tls: false };
    assert!(rig.proxy.listen([keep, more]).is_empty());
    assert_eq!(get(more.address, "a", "/").await.status(), StatusCode::OK);
    assert!(rig.proxy.listen([keep]).is_empty());
    soon("a closed door", async {
        while TcpStream::connect(more.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(get(rig.plain, "a", "/").await.status(), StatusCode::OK);
    // A port that somebody has is told, and had as soon as it is free.
    let taken = std::net::TcpListener::bind(more.address).unwrap();
    let failed = rig.proxy.listen([keep, more]);
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].1.kind(), std::io::ErrorKind::AddrInUse);
    drop(taken);
    assert!(rig.proxy.listen([keep, more]).is_empty());
    assert_eq!(get(more.address, "a", "/").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn plain_http_is_sent_on_to_https_only_where_it_is_wished() {
    let web = Server::telling("web").await;
    let options = Options { ssl_redirect: true, ..Options::default() };
    let rules = Rules::default().lead("free.test", "/", "web", &[web.address]).with(options).lead(
        "safe.test",
        "/",
        "web",
        &[web.address],
    );
    let rig = Rig::start(rules);
    assert_eq!(get(rig.plain, "free.test", "/").await.status(), StatusCode::OK);
    let answer = get(rig.plain, "safe.test:8080", "/a?b=c").await;
    assert_eq!(answer.status(), StatusCode::PERMANENT_REDIRECT);
    assert_eq!(answer.headers()["location"], "https://safe.test/a?b=c");
}

/// The short way and hyper's are two ways for the same thing: a backend must not see a difference.
#[tokio::test]
async fn both_ways_of_a_request_look_the_same_to_a_backend() {
    let web = Server::telling("web").await;
    let rig = Rig::start(Rules::default().lead("a.test", "/", "web", &[web.address]));
    let lines = "Host: a.test:8080\r\nUser-Agent: test\r\nAccept: text/html\r\nCookie: a=1\r\n\
                 X-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\n\
                 Keep-Alive: 5\r\nProxy-Authorization: x\r\nProxy-Connection: keep-alive\r\n\
                 X-Own: one\r\nX-Own: two\r\n";
    let seen = async |connection: &str| {
        let head = format!("GET /a?b=c HTTP/1.1\r\n{lines}Connection: {connection}\r\n\r\n");
        let answer = raw(rig.plain, head.as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let mut head: Vec<String> = head.lines().map(str::to_lowercase).collect();
        let mut body: Vec<String> = body.lines().map(str::to_owned).collect();
        // The order of headers means nothing, and clocks go on.
        head.retain(|line| !line.starts_with("date:"));
        head.sort_unstable();
        body.sort_unstable();
        (head, body)
    };
    // A header that belongs to this hop is something to think about.
    let (short, long) = (seen("keep-alive").await, seen("keep-alive, x-unused").await);
    assert_eq!(short, long);
    assert!(short.1.iter().any(|line| line == "x-forwarded-for: 127.0.0.1"), "{short:?}");
}

#[tokio::test]
async fn a_connection_may_go_both_ways_in_turn() {
    let web = Server::telling("web").await;
    let rig = Rig::start(Rules::default().lead("", "/", "web", &[web.address]));
    let head = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n{more}\r\n");
    let body = "POST /3 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nxyz";
    let all = [
        head("/1", ""),
        head("/2", ""),
        body.to_owned(),
        head("/4", ""),
        head("/5", "Connection: close\r\n"),
    ];
    let answers = raw(rig.plain, all.concat().as_bytes()).await;
    let is_told = |line: &&str| line.starts_with("GET /") || line.starts_with("POST /");
    let asked: Vec<_> = answers.lines().filter(is_told).collect();
    assert_eq!(asked, ["GET /1", "GET /2", "POST /3", "GET /4", "GET /5"]);
}

/// Chunks, lengths and ends of connections, large and small, by the short way.
#[tokio::test]
async fn bodies_of_all_kinds_arrive_whole() {
    let server = Server::start(|request: Request<hyper::body::Incoming>| async move {
        let count: usize = request.uri().path()[2..].parse().unwrap();
        let bytes = Bytes::from(vec![b'x'; count]);
        let parts: Vec<_> = bytes
            .chunks(30_000)
            .map(|p| Ok::<_, std::io::Error>(Frame::data(bytes.slice_ref(p))))
            .collect();
        if request.uri().path().starts_with("/c") {
            http::Response::new(BodyExt::boxed(StreamBody::new(futures::stream::iter(parts))))
        } else {
            http::Response::new(Full::new(bytes).map_err(|never| match never {}).boxed())
        }
    })
    .await;
    let rig = Rig::start(Rules::default().lead("", "/", "web", &[server.address]));
    for kind in ["c", "l"] {
        for count in [0, 1, 100, 16_384, 70_000, 3_000_000] {
            let answer = get(rig.plain, "a", &format!("/{kind}{count}")).await;
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(answer.body().len(), count, "{kind}");
        }
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}
