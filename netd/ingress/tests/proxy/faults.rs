//! Backends that are not there, break off, or take too long: what the client is told, and what is
//! tried instead.

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::StatusCode;
use ingress::objects::Options;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::rig::{Rig, Rules, Server, free_address, get, raw, reason};

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
