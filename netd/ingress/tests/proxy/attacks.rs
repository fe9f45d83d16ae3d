//! Clients that mean harm, by raw sockets.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http::StatusCode;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::rig::{Rig, Rules, Server, get, raw, soon};

async fn rig() -> (Server, Rig) {
    let web = Server::telling("web").await;
    let rig = Rig::start(Rules::default().lead("", "/", "web", &[web.address]));
    (web, rig)
}

fn code(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

/// Requests of which two servers could disagree where they end. None may bring a second request to
/// the backend.
#[tokio::test]
async fn no_request_can_be_smuggled() {
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let refused = [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 40\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4, 5\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x4\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nX: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nX: a\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/../b\r\n\r\n",
        "GET /a HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    for request in refused {
        let (web, rig) = rig().await;
        let answer = raw(rig.plain, format!("{request}{smuggled}").as_bytes()).await;
        let code = code(&answer);
        assert!(code == "400" || code == "501", "{request:?}: {answer}");
        assert_eq!(web.requests.load(Ordering::SeqCst), 0, "{request:?}");
    }
}

/// Bodies that are broken where the proxy finds it out too late to refuse: the backend sees the
/// one request at most, and the connection ends.
#[tokio::test]
async fn a_body_that_is_wrong_ends_the_connection() {
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n";
    let wrong = [
        format!("{head}\r\nzz\r\n{smuggled}"),
        format!("{head}\r\n-1\r\n{smuggled}"),
        format!("{head}\r\n10000000000000000\r\n{smuggled}"),
        format!("{head}\r\n4\r\nbodyX\r\n{smuggled}"),
        format!("{head}\r\n1;{}\r\n", "x".repeat(200_000)),
    ];
    for request in wrong {
        let (web, rig) = rig().await;
        let answer = raw(rig.plain, request.as_bytes()).await;
        assert_ne!(code(&answer), "200", "{request:.100}: {answer}");
        assert!(!answer.contains("GET /smuggled"), "{request:.100}: {answer}");
        assert!(web.requests.load(Ordering::SeqCst) <= 1, "{request:.100}");
    }
}

/// RFC 9112, 6.3: chunks win over a length, and the connection ends after the answer.
#[tokio::test]
async fn length_and_chunks_together_are_read_as_chunks_and_then_it_is_over() {
    for head in [
        "Content-Length: 40\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
    ] {
        let (web, rig) = rig().await;
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n0\r\n\r\n{smuggled}");
        let answer = raw(rig.plain, request.as_bytes()).await;
        assert!(!answer.contains("/smuggled"), "{answer}");
        assert!(!answer.contains("content-length: 40"), "{answer}");
        assert_eq!(web.requests.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn absolute_targets_win_over_the_host_header() {
    let web = Server::telling("web").await;
    let rig = Rig::start(Rules::default().lead("a.test", "/", "web", &[web.address]));
    let request = "GET http://a.test/x HTTP/1.1\r\nHost: other.test\r\nConnection: close\r\n\r\n";
    let answer = raw(rig.plain, request.as_bytes()).await;
    assert!(answer.contains("GET /x\n") && answer.contains("\nhost: a.test\n"), "{answer}");
    assert!(!answer.contains("other.test"), "{answer}");
    let request = "GET http://other.test/x HTTP/1.1\r\nHost: a.test\r\n\r\n";
    assert_eq!(code(&raw(rig.plain, request.as_bytes()).await), "404");
}

#[tokio::test]
async fn the_proxy_is_no_way_to_elsewhere() {
    let (web, rig) = rig().await;
    let request = format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", web.address);
    assert_eq!(code(&raw(rig.plain, request.as_bytes()).await), "405");
    let request = "TRACE / HTTP/1.1\r\nHost: a\r\nCookie: secret\r\n\r\n";
    assert_eq!(code(&raw(rig.plain, request.as_bytes()).await), "405");
    let request = "GET /a/%2e%2e/b HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(code(&raw(rig.plain, request.as_bytes()).await), "400");
    assert_eq!(web.requests.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let (web, rig) = rig().await;
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    assert_eq!(code(&raw(rig.plain, long.as_bytes()).await), "431");
    let many: String = (0..500).map(|n| format!("X-{n}: 1\r\n")).collect();
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n");
    assert_eq!(code(&raw(rig.plain, many.as_bytes()).await), "431");
    let target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(100_000));
    assert!(matches!(code(&raw(rig.plain, target.as_bytes()).await), "414" | "431"));
    assert_eq!(web.requests.load(Ordering::SeqCst), 0);
    assert_eq!(get(rig.plain, "a", "/").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn an_offer_to_change_to_http2_is_not_passed_on() {
    let (_web, rig) = rig().await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                   Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    let answer = raw(rig.plain, request.as_bytes()).await;
    assert_eq!(code(&answer), "200", "{answer}");
    assert!(!answer.contains("\nupgrade") && !answer.contains("http2-settings"), "{answer}");
}

/// Dozens of clients that never finish their heads keep nobody from being served.
#[tokio::test]
async fn slow_clients_keep_nobody_waiting() {
    let (_web, rig) = rig().await;
    let mut slow = Vec::new();
    for n in 0..48 {
        let mut stream = TcpStream::connect(rig.plain).await.unwrap();
        let parts: [&[u8]; 3] = [b"", b"P", b"GET / HTTP/1.1\r\nHost: a\r\nX-"];
        stream.write_all(parts[n % 3]).await.unwrap();
        slow.push(stream);
    }
    for _ in 0..20 {
        assert_eq!(get(rig.plain, "a", "/").await.status(), StatusCode::OK);
    }
}

/// RFC 9113's cheapest attack (CVE-2023-44487): requests that are taken back at once.
#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let (web, rig) = rig().await;
    let mut stream = TcpStream::connect(rig.plain).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    // ":method: GET, :scheme: http, :path: /" by index, ":authority: a" in words.
    let head = [0x82, 0x86, 0x84, 0x41, 0x01, b'a'];
    let mut burst = Vec::new();
    for n in 0..5000_u32 {
        let stream = 2 * n + 1;
        burst.extend(frame(1, 5, stream, &head));
        burst.extend(frame(3, 0, stream, &[0, 0, 0, 8]));
    }
    let _ = stream.write_all(&burst).await;
    let ended = soon("the end", async {
        let mut seen = Vec::new();
        let _ = stream.read_to_end(&mut seen).await;
        seen
    });
    let seen = ended.await;
    assert!(frames(&seen).contains(&7), "no GOAWAY in {:?}", frames(&seen));
    let asked = web.requests.load(Ordering::SeqCst);
    assert!(asked < 1000, "{asked} requests reached the backend");
    assert_eq!(get(rig.plain, "a", "/").await.status(), StatusCode::OK);
}

/// A length without a body would make a backend wait for the next client's request.
#[tokio::test]
async fn a_length_without_a_body_is_refused_in_http2() {
    let (web, rig) = rig().await;
    // ":method: GET, :scheme: http, :path: /" by index, ":authority: a" and "content-length: 5".
    let head = [0x82, 0x86, 0x84, 0x41, 0x01, b'a', 0x0f, 0x0d, 0x01, b'5'];
    let mut stream = TcpStream::connect(rig.plain).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    stream.write_all(&frame(1, 5, 1, &head)).await.unwrap();
    let refused = soon("a refusal", async {
        let (mut seen, mut part) = (Vec::new(), [0; 4096]);
        // RST_STREAM, or GOAWAY.
        while !frames(&seen).iter().any(|kind| matches!(kind, 3 | 7)) {
            let count = stream.read(&mut part).await.unwrap();
            assert!(count > 0, "{:?}", frames(&seen));
            seen.extend_from_slice(&part[..count]);
        }
    });
    refused.await;
    assert_eq!(web.requests.load(Ordering::SeqCst), 0);
    assert_eq!(get(rig.plain, "a", "/").await.status(), StatusCode::OK);
}

/// Headers without end (CVE-2024-27316).
#[tokio::test]
async fn a_flood_of_continuations_ends_the_connection() {
    let (web, rig) = rig().await;
    let mut stream = TcpStream::connect(rig.plain).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    stream.write_all(&frame(1, 1, 1, &[0x82, 0x86, 0x84, 0x41, 0x01, b'a'])).await.unwrap();
    // "x-long: …", never the last one.
    let mut part = vec![0x00, 0x01, b'x', 0x7f, 0x81, 0x7d];
    part.extend(vec![b'y'; 16_000]);
    let flood = async {
        for _ in 0..10_000 {
            if stream.write_all(&frame(9, 0, 1, &part)).await.is_err() {
                return;
            }
        }
        panic!("160 MB of headers were taken");
    };
    soon("the end of the flood", flood).await;
    assert_eq!(web.requests.load(Ordering::SeqCst), 0);
    assert_eq!(get(rig.plain, "a", "/").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_list_of_headers_that_is_too_long_is_refused_in_http2() {
    let (web, rig) = rig().await;
    let stream = TcpStream::connect(rig.plain).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("http://a/").header("x", "y".repeat(100_000));
    let answer = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap());
    if let Ok(answer) = soon("an answer", answer).await {
        assert_eq!(answer.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
    assert_eq!(web.requests.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_client_that_sends_nothing_is_sent_away() {
    let (_web, rig) = rig().await;
    let mut stream = TcpStream::connect(rig.plain).await.unwrap();
    let mut nothing = [0; 1];
    let waiting = tokio::time::timeout(Duration::from_secs(15), stream.read(&mut nothing));
    assert_eq!(waiting.await.expect("it is closed in time").unwrap_or(0), 0);
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The kinds of the frames in a stream.
fn frames(mut bytes: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while bytes.len() >= 9 {
        let length =
            usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]);
        kinds.push(bytes[3]);
        bytes = bytes.get(9 + length..).unwrap_or_default();
    }
    kinds
}
