//! Backends that are not there, break off, or take too long: what the client is told, and what is
//! tried instead.

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use ingress::objects::Options;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::rig::{Rig, Rules, Server, free_address, get, raw, reason, send, soon, text};

#[tokio::test]
async fn an_endpoint_that_refuses_is_named() {
    let nobody = free_address();
    let rig = Rig::start(Rules::default().lead("", "/", "web", &[nobody]));
    let answer = get(rig.plain, "a", "/").await;
    assert_eq!((answer.status(), reason(&answer)), (StatusCode::BAD_GATEWAY, "connect-failed"));
    let told = format!("Service shop/web can't be reached: endpoint {nobody}: Connection refused");
    assert!(answer.body().contains(&told), "{}", answer.body());
}

#[tokio::test]
async fn another_endpoint_is_tried_when_one_refuses() {
    let web = Server::telling("web").await;
    let dead = free_address();
    let rig = Rig::start(Rules::default().lead("", "/", "web", &[dead, web.address]));
    for _ in 0..40 {
        assert_eq!(get(rig.plain, "a", "/").await.status(), StatusCode::OK);
    }
    let page = rig.proxy.counters().render();
    let failures = page.lines().find(|line| line.contains("kind=\"connect\"")).unwrap();
    let count: u32 = failures.rsplit(' ').next().unwrap().parse().unwrap();
    // It is not asked again and again: what failed is asked last for a while.
    assert!(count <= 3, "{failures}");
    assert!(page.contains("minictl_ingress_requests_total{code=\"200\"} 40"), "{page}");
}

/// With many endpoints that refuse, a request is tried at two of them whichever way it takes, and both
/// are named.
#[tokio::test]
async fn a_request_is_tried_at_one_other_endpoint() {
    let dead = std::array::from_fn::<_, 5, _>(|_| free_address());
    for (method, by_http2) in [("GET", false), ("GET", true), ("DELETE", false), ("DELETE", true)] {
        let rig = Rig::start(Rules::default().lead("", "/", "web", &dead));
        let request = Request::builder().method(method);
        let body = Full::<Bytes>::default();
        let answer = if by_http2 {
            let request = request.uri("http://a.test/").body(body).unwrap();
            let io = TokioIo::new(TcpStream::connect(rig.plain).await.unwrap());
            let (mut sender, connection) =
                http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            text(soon("an answer", sender.send_request(request)).await.unwrap()).await
        } else {
            send(rig.plain, request.uri("/").header("host", "a.test").body(body).unwrap()).await
        };
        assert_eq!(reason(&answer), "connect-failed");
        let page = answer.body();
        let named = dead.iter().filter(|one| page.contains(&format!("{one}:"))).count();
        assert_eq!(named, 2, "{method}, HTTP/2: {by_http2}: {page}");
        let counters = rig.proxy.counters().render();
        let failures = counters.lines().find(|line| line.contains("kind=\"connect\"")).unwrap();
        assert!(failures.ends_with(" 2"), "{method}, HTTP/2: {by_http2}: {failures}");
    }
}

#[tokio::test]
async fn a_request_with_a_body_is_tried_elsewhere_too() {
    let web = Server::telling("web").await;
    let rig = Rig::start(Rules::default().lead("", "/", "web", &[free_address(), web.address]));
    for _ in 0..10 {
        let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
        let answer = raw(rig.plain, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\nbody"), "{answer}");
    }
}

#[tokio::test]
async fn a_service_without_endpoints_is_unavailable() {
    let rig = Rig::start(Rules::default().lead("", "/", "web", &[]));
    let answer = get(rig.plain, "a", "/").await;
    assert_eq!(
        (answer.status(), reason(&answer)),
        (StatusCode::SERVICE_UNAVAILABLE, "no-endpoints")
    );
    assert!(answer.body().contains("Service shop/web has no ready endpoints"), "{answer:?}");
}

#[tokio::test]
async fn a_backend_that_is_silent_is_given_up() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let options =
        Options { response_timeout: Some(Duration::from_millis(300)), ..Options::default() };
    let address = silent.local_addr().unwrap();
    let rig = Rig::start(Rules::default().with(options).lead("", "/", "web", &[address]));
    let answer = get(rig.plain, "a", "/").await;
    assert_eq!(
        (answer.status(), reason(&answer)),
        (StatusCode::GATEWAY_TIMEOUT, "endpoint-timeout")
    );
    assert!(answer.body().contains(&address.to_string()), "{}", answer.body());
}

/// A backend that reads a request and then says this.
async fn rude(words: &'static [u8]) -> std::net::SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(words).await;
        }
    });
    address
}

#[tokio::test]
async fn a_backend_that_breaks_off_or_talks_nonsense_is_told() {
    for words in [
        &b""[..],
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    ] {
        let address = rude(words).await;
        let rig = Rig::start(Rules::default().lead("", "/", "web", &[address]));
        let answer = get(rig.plain, "a", "/").await;
        let found = (answer.status(), reason(&answer));
        let words = String::from_utf8_lossy(words);
        assert_eq!(found, (StatusCode::BAD_GATEWAY, "endpoint-broke-off"), "{words}: {answer:?}");
    }
}

#[tokio::test]
async fn a_kept_connection_that_ended_costs_no_request() {
    // Each connection serves one request and is then closed, without saying so.
    let address = rude(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let rig = Rig::start(Rules::default().lead("", "/", "web", &[address]));
    for _ in 0..30 {
        assert_eq!(get(rig.plain, "a", "/").await.status(), StatusCode::OK);
        // The end arrives, or it does not: both ways the next request must succeed.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_name_outside_may_not_lead_to_the_node_itself() {
    let secret = Server::telling("secret").await;
    let rules =
        Rules::default().lead("", "/", "web", &[secret.address]).external("web", "localhost");
    let rig = Rig::start(rules);
    let answer = get(rig.plain, "a", "/").await;
    assert_eq!((answer.status(), reason(&answer)), (StatusCode::BAD_GATEWAY, "name-not-resolved"));
    assert_eq!(secret.connections.load(Ordering::SeqCst), 0);
}

/// A backend that begins an answer, or none, and then waits: when the client leaves, so does the
/// proxy, and a long wait holds no connection that nobody needs.
#[tokio::test]
async fn who_leaves_is_waited_for_by_nobody() {
    let begun = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n";
    for said in ["", begun] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let rules = Rules::default().lead("", "/", "web", &[listener.local_addr().unwrap()]);
        let rig = Rig::start(rules);
        let mut client = TcpStream::connect(rig.plain).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let (mut backend, _) = soon("the request", listener.accept()).await.unwrap();
        let mut asked = [0; 4096];
        assert!(backend.read(&mut asked).await.unwrap() > 0);
        backend.write_all(said.as_bytes()).await.unwrap();
        if !said.is_empty() {
            assert!(client.read(&mut asked).await.unwrap() > 0);
        }
        drop(client);
        let end = soon("the proxy's leaving", backend.read(&mut asked)).await;
        assert_eq!(end.unwrap_or(0), 0, "{said:?}");
    }
}

/// What a client sends ahead is answered, in turn.
#[tokio::test]
async fn requests_that_come_while_another_is_answered_wait_for_it() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let rules = Rules::default().lead("", "/", "web", &[listener.local_addr().unwrap()]);
    let rig = Rig::start(rules);
    let mut client = TcpStream::connect(rig.plain).await.unwrap();
    client.write_all(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let (mut backend, _) = soon("the request", listener.accept()).await.unwrap();
    let mut bytes = vec![0; 4096];
    for n in 1..=3 {
        let count = soon("a request", backend.read(&mut bytes)).await.unwrap();
        let asked = String::from_utf8_lossy(&bytes[..count]).into_owned();
        assert!(asked.starts_with(&format!("GET /{n} ")), "{asked}");
        // The next one, in two parts, before this one is answered.
        let next = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", n + 1);
        for part in [&next[..9], &next[9..]] {
            client.write_all(part.as_bytes()).await.unwrap();
        }
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{n}");
        backend.write_all(answer.as_bytes()).await.unwrap();
        let count = soon("an answer", client.read(&mut bytes)).await.unwrap();
        assert!(bytes[..count].ends_with(n.to_string().as_bytes()), "answer {n}");
    }
}
