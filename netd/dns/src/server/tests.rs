//! Sockets on loopback, and who may ask.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::*;
use crate::Dns;
use crate::zone::Service;

fn dns() -> Dns {
    let dns = Dns::new("node-1", &"cluster.local.".parse().unwrap(), vec![]);
    serve_web_at(&dns, 20);
    dns
}

fn serve_web_at(dns: &Dns, last: u8) {
    let web = Service::Addresses { ips: vec![[10, 96, 0, last].into()], ports: vec![] };
    dns.change(|zone| zone.set_service("shop", "web", Some(web)));
}

/// A name server at an address of loopback that nobody else has.
async fn running() -> (Dns, SocketAddr) {
    let dns = dns();
    // Free for TCP is mostly free for UDP. Not the other way round: connections that are over keep
    // their ports for a minute.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    dns.listen(vec![free]);
    let server = dns.clone();
    tokio::spawn(async move { server.run().await });
    // The sockets are there when the first connection is.
    wait_until(|| async move { TcpStream::connect(free).await.is_ok() }).await;
    (dns, free)
}

/// Waits for what another task does.
async fn wait_until<F: Future<Output = bool>>(mut done: impl FnMut() -> F) {
    // By the clock on the wall: that of tokio may be stopped, or far ahead.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done().await {
        assert!(Instant::now() < deadline, "it does not come to pass");
        tokio::task::yield_now().await;
    }
}

fn packet(name: &str) -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

const WEB: &str = "web.shop.svc.cluster.local.";

fn data(answer: &[u8]) -> Vec<String> {
    let answer = Message::from_vec(answer).unwrap();
    answer.answers.iter().map(|record| record.data.to_string()).collect()
}

async fn ask(at: SocketAddr, packet: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(packet, at).await.unwrap();
    let mut buffer = vec![0; 4096];
    let length = tokio::time::timeout(Duration::from_secs(5), socket.recv(&mut buffer));
    let length = length.await.expect("an answer in time").unwrap();
    buffer.truncate(length);
    buffer
}

async fn send(stream: &mut TcpStream, packet: &[u8]) -> io::Result<()> {
    let length = u16::try_from(packet.len()).unwrap();
    stream.write_all(&[&length.to_be_bytes(), packet].concat()).await
}

async fn receive(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut answer = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn a_change_is_answered_at_once() {
    let (dns, at) = running().await;
    for last in 30..60 {
        serve_web_at(&dns, last);
        assert_eq!(data(&ask(at, &packet(WEB)).await), [format!("10.96.0.{last}")]);
        // From the answers that are ready, too.
        assert_eq!(data(&ask(at, &packet(WEB)).await), [format!("10.96.0.{last}")]);
    }
    let page = dns.metrics();
    assert!(page.contains("minictl_dns_requests_total{type=\"A\"} 60"), "{page}");
}

#[tokio::test]
async fn one_connection_carries_many_questions() {
    let (_dns, at) = running().await;
    let mut stream = TcpStream::connect(at).await.unwrap();
    for _ in 0..3 {
        send(&mut stream, &packet(WEB)).await.unwrap();
        send(&mut stream, &packet("none.shop.svc.cluster.local.")).await.unwrap();
    }
    for _ in 0..3 {
        assert_eq!(data(&receive(&mut stream).await.unwrap()), ["10.96.0.20"]);
        assert_eq!(receive(&mut stream).await.unwrap()[3] & 15, 3);
    }
}

#[tokio::test]
async fn nonsense_on_a_connection_is_refused_or_closed() {
    let (_dns, at) = running().await;
    let mut stream = TcpStream::connect(at).await.unwrap();
    // As long as can be, and nothing but noise.
    send(&mut stream, &vec![0x11; 65535]).await.unwrap();
    assert_eq!(receive(&mut stream).await.unwrap().len(), HEADER);
    for nothing in [Vec::new(), vec![0; 3], vec![0xff; 40]] {
        let mut stream = TcpStream::connect(at).await.unwrap();
        send(&mut stream, &nothing).await.unwrap();
        assert!(receive(&mut stream).await.is_err(), "{nothing:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_slow_is_not_waited_for() {
    let (_dns, at) = running().await;
    for begun in [&[][..], &[0], &[0, 40, 1, 2, 3]] {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(begun).await.unwrap();
        let mut rest = Vec::new();
        // The clock runs while nothing else does.
        stream.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
    }
}

#[tokio::test]
async fn sockets_follow_the_addresses() {
    let (dns, at) = running().await;
    let other = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    dns.listen(vec![other]);
    wait_until(|| async move { TcpStream::connect(other).await.is_ok() }).await;
    assert_eq!(data(&ask(other, &packet(WEB)).await), ["10.96.0.20"]);
    wait_until(|| async move { TcpStream::connect(at).await.is_err() }).await;
}

#[test]
fn strangers_are_refused_in_few_bytes() {
    let dns = dns();
    dns.admit(vec!["10.244.0.0/16".parse().unwrap(), "fd00:10:244::/56".parse().unwrap()]);
    let question = packet(WEB);
    let answer = |from: &str| dns.answer(&question, from.parse().unwrap());
    for client in ["10.244.3.9:5000", "127.0.0.1:5000", "[fd00:10:244::9]:5000", "[::1]:5000"] {
        assert_eq!(data(&answer(client).unwrap()), ["10.96.0.20"], "{client}");
    }
    for client in ["192.168.56.1:5000", "203.0.113.9:53", "[2001:db8::1]:5000"] {
        let refusal = answer(client).unwrap();
        assert_eq!((refusal.len(), refusal[3] & 15), (HEADER, 5), "{client}");
    }
    let mut not_even_a_question = question.clone();
    not_even_a_question[2] |= 0x80;
    assert_eq!(dns.answer(&not_even_a_question, "203.0.113.9:53".parse().unwrap()), None);
}

/// The client's own Pod, whose search path is completed.
fn with_pod(dns: &Dns, ip: &str) {
    let pod = crate::pods::Pod {
        namespace: "shop".into(),
        name: "client".into(),
        ips: vec![ip.parse().unwrap()],
        host_network: false,
        config: None,
    };
    dns.admit(vec!["10.244.0.0/16".parse().unwrap()]);
    dns.change(|zone| zone.set_pod("shop", "client", Some(pod)));
}

#[test]
fn what_is_not_there_is_ready_too_until_it_is_there() {
    let dns = dns();
    with_pod(&dns, "10.244.0.5");
    let mut ready = Ready::default();
    let mut code = |name: &str, client: &str| {
        let mut answer = Vec::new();
        let from = SocketAddr::new(client.parse().unwrap(), 5000);
        dns.server.handle(&packet(name), from, Protocol::Udp, &mut ready, &mut answer);
        (answer[3] & 15, data(&answer))
    };
    let name = "web.shop.shop.svc.cluster.local.";
    for _ in 0..2 {
        assert_eq!(code("none.shop.svc.cluster.local.", "10.244.0.5").0, 3);
        // The same name means something to a Pod whose search path it is made of.
        let completed = ["web.shop.svc.cluster.local.", "10.96.0.20"].map(str::to_owned);
        assert_eq!(code(name, "10.244.0.5"), (0, completed.to_vec()));
        assert_eq!(code(name, "10.244.0.6"), (3, vec![]));
    }
    let (entries, _) = dns.server.journal.since(0);
    let completed: Vec<_> = entries.iter().filter_map(|entry| entry.completed.as_deref()).collect();
    assert_eq!(completed, [WEB; 2], "the second time, too");
    let none = Service::Addresses { ips: vec![[10, 96, 0, 33].into()], ports: vec![] };
    dns.change(|zone| zone.set_service("shop", "none", Some(none)));
    let there = (0, vec!["10.96.0.33".to_owned()]);
    assert_eq!(code("none.shop.svc.cluster.local.", "10.244.0.5"), there);
}

/// On a stopped clock, which runs on while everybody waits.
#[tokio::test(start_paused = true)]
async fn a_stub_that_asks_us_back_makes_no_loop() {
    let (dns, at) = running().await;
    // It hands every question on to us, as systemd-resolved does when it is told to.
    let stub = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let stub_at = stub.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        loop {
            let (length, _) = stub.recv_from(&mut buffer).await.unwrap();
            stub.send_to(&buffer[..length], at).await.unwrap();
        }
    });
    // Ourselves first, in either spelling, and then the stub.
    let mapped = format!("[::ffff:127.0.0.1]:{}", at.port()).parse().unwrap();
    dns.forward_to(&[at, mapped, stub_at]);
    assert_eq!([at, mapped, stub_at].map(|addr| dns.answers_at(addr)), [true, true, false]);
    let answer = ask(at, &packet("www.example.com.")).await;
    assert_eq!(answer[3] & 15, 2, "nobody knows");
    // What came back was the same question, and waited for the same answer.
    let page = dns.metrics();
    assert!(page.contains("minictl_dns_forward_requests_total 3"), "{page}");
}

#[test]
fn what_was_asked_is_written_down() {
    let dns = dns();
    for name in [WEB, "WEB.shop.svc.cluster.local.", "none.shop.svc.cluster.local."] {
        dns.answer(&packet(name), "127.0.0.1:5000".parse().unwrap()).unwrap();
    }
    let (entries, next) = dns.server.journal.since(0);
    assert_eq!(next, 3);
    let told: Vec<(String, String, u16)> = entries
        .iter()
        .map(|e| (crate::journal::name_of(&e.name), e.code.to_string(), e.answers))
        .collect();
    assert_eq!(told[0].0, WEB);
    assert_eq!(told[1].0, "WEB.shop.svc.cluster.local.");
    assert_eq!((told[0].2, told[2].2), (1, 0));
    assert_ne!(told[0].1, told[2].1);
}
