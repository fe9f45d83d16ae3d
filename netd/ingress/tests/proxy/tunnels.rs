//! Connections that change to another protocol.

use std::sync::atomic::Ordering;

use futures::{SinkExt, StreamExt};
use http::{Method, Request, StatusCode, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

use crate::rig::{Rig, Rules, Server, get, raw, reason, soon};

/// A server that sends back what it hears.
async fn echo() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let Ok(mut socket) = accept_async(stream).await else { return };
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_text() && socket.send(message).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

async fn converse<S>(mut socket: WebSocketStream<S>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    for text in ["one", "two", "three"] {
        socket.send(Message::text(text)).await.unwrap();
        let heard = soon("an echo", socket.next()).await.unwrap().unwrap();
        assert_eq!(heard.into_text().unwrap().as_str(), text);
    }
    socket.close(None).await.unwrap();
    // Both ends agree that it is over.
    while let Some(Ok(message)) = soon("the end", socket.next()).await {
        assert!(message.is_close(), "{message}");
    }
}

#[tokio::test]
async fn a_websocket_passes() {
    let address = echo().await;
    let rig = Rig::start(Rules::default().lead("a.test", "/chat", "web", &[address]));
    let stream = TcpStream::connect(rig.plain).await.unwrap();
    let (socket, answer) = soon("101", client_async("ws://a.test/chat", stream)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    converse(socket).await;
}

#[tokio::test]
async fn a_websocket_outlives_the_rule_that_led_to_it() {
    let address = echo().await;
    let mut rig = Rig::start(Rules::default().lead("", "/", "web", &[address]));
    let stream = TcpStream::connect(rig.plain).await.unwrap();
    let (socket, _) = soon("101", client_async("ws://a.test/", stream)).await.unwrap();
    rig.change(Rules::default());
    assert_eq!(get(rig.plain, "a", "/").await.status(), StatusCode::NOT_FOUND);
    converse(socket).await;
}

/// Or one client could have any number of them.
#[tokio::test]
async fn a_websocket_counts_among_the_connections_until_it_ends() {
    let address = echo().await;
    let rig = Rig::start(Rules::default().lead("", "/", "web", &[address]));
    let open = || {
        let page = rig.proxy.counters().render();
        let line = page.lines().find(|line| line.starts_with("minictl_ingress_connections "));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u32>().ok()).unwrap()
    };
    let mut sockets = Vec::new();
    for count in 1..=3 {
        let stream = TcpStream::connect(rig.plain).await.unwrap();
        let (mut socket, _) = soon("101", client_async("ws://a.test/", stream)).await.unwrap();
        // An echo has passed both joints: the request is over.
        socket.send(Message::text("hello")).await.unwrap();
        soon("an echo", socket.next()).await.unwrap().unwrap();
        assert_eq!(open(), count);
        sockets.push(socket);
    }
    drop(sockets);
    soon("all places are free again", async {
        while open() != 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// RFC 8441: a browser that has an HTTP/2 connection opens the WebSocket on it.
#[tokio::test]
async fn a_websocket_on_an_http2_connection_passes() {
    let address = echo().await;
    let rig = Rig::start(Rules::default().lead("", "/", "web", &[address]));
    let stream = TcpStream::connect(rig.plain).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = Request::builder()
        .method(Method::CONNECT)
        .version(Version::HTTP_2)
        .uri("http://a.test/chat")
        .header("sec-websocket-version", "13")
        .extension(hyper::ext::Protocol::from_static("websocket"))
        .body(Empty::<Bytes>::new())
        .unwrap();
    // The server says in its first frame that it knows extended CONNECT; an answer comes after it.
    let first = Request::get("http://a.test/").body(Empty::<Bytes>::new()).unwrap();
    soon("a first answer", sender.send_request(first)).await.unwrap();
    let mut answer = soon("200", sender.send_request(request)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let tunnel = hyper::upgrade::on(&mut answer).await.unwrap();
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(tunnel), Role::Client, None).await;
    converse(socket).await;
}

#[tokio::test]
async fn a_backend_may_say_no() {
    let web = Server::start(|_| async {
        let mut answer = crate::rig::page("members only");
        *answer.status_mut() = StatusCode::FORBIDDEN;
        answer
    })
    .await;
    let rig = Rig::start(Rules::default().lead("", "/", "web", &[web.address]));
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    let answer = raw(rig.plain, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 403") && answer.ends_with("members only"), "{answer}");
    assert_eq!(web.requests.load(Ordering::SeqCst), 1);
    // And the connection still serves what comes next.
    assert_eq!(reason(&get(rig.plain, "a", "/").await), "");
}

/// The backend's end is the client's end.
#[tokio::test]
async fn an_end_that_breaks_off_ends_the_other() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rules = Rules::default().lead("", "/", "web", &[listener.local_addr().unwrap()]);
    let rig = Rig::start(rules);
    let stream = TcpStream::connect(rig.plain).await.unwrap();
    let accepting = async {
        let (stream, _) = listener.accept().await.unwrap();
        accept_async(stream).await.unwrap()
    };
    let (backend, client) =
        soon("101", async { tokio::join!(accepting, client_async("ws://a.test/", stream)) }).await;
    drop(backend);
    let (mut socket, _) = client.unwrap();
    assert!(!matches!(soon("the end", socket.next()).await, Some(Ok(_))));
}

/// A plain request has no use for what is left of the body's types.
#[tokio::test]
async fn other_protocols_pass_if_both_want_them() {
    let web = Server::start(|mut request| async move {
        let protocol = request.headers()["upgrade"].clone();
        let on = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut end = TokioIo::new(on.await.unwrap());
            tokio::io::AsyncWriteExt::write_all(&mut end, b"hello").await.unwrap();
        });
        http::Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header("connection", "upgrade")
            .header("upgrade", protocol)
            .body(Empty::<Bytes>::new().boxed())
            .unwrap()
    })
    .await;
    let rig = Rig::start(Rules::default().lead("", "/", "web", &[web.address]));
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n";
    let answer = raw(rig.plain, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 101") && answer.ends_with("hello"), "{answer}");
    assert!(answer.to_lowercase().contains("upgrade: spdy/3.1"), "{answer}");
}
