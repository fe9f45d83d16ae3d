//! Doors on loopback, with servers on other loopback addresses in the node's place.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::*;

const SOON: Duration = Duration::from_secs(10);

async fn soon<T>(what: &str, it: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, it).await.unwrap_or_else(|_| panic!("{what} took too long"))
}

fn one(door: Door) -> BTreeMap<Door, ServiceName> {
    BTreeMap::from([(door, ServiceName::new("default", "web"))])
}

/// A server on another address of the loopback network, and the door that leads to it.
async fn tcp_server() -> (TcpListener, Door) {
    let server = TcpListener::bind("127.0.0.9:0").await.unwrap();
    let door = Door { protocol: Protocol::Tcp, target: server.local_addr().unwrap() };
    (server, door)
}

async fn udp_server() -> (UdpSocket, Door) {
    let server = UdpSocket::bind("127.0.0.9:0").await.unwrap();
    let door = Door { protocol: Protocol::Udp, target: server.local_addr().unwrap() };
    (server, door)
}

#[tokio::test]
async fn a_half_closed_connection_still_gets_its_answer() {
    let (server, door) = tcp_server().await;
    let mut relay = Relay::new();
    assert!(relay.follow(&one(door)).is_empty());
    let mut client = soon("connect", TcpStream::connect(door.address())).await.unwrap();
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let (mut passed, from) = soon("accept", server.accept()).await.unwrap();
    assert!(from.ip().is_loopback());
    let mut question = String::new();
    soon("the question", passed.read_to_string(&mut question)).await.unwrap();
    assert_eq!(question, "question");
    passed.write_all(b"answer").await.unwrap();
    drop(passed);
    let mut answer = String::new();
    soon("the answer", client.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(answer, "answer");
}

#[tokio::test]
async fn much_data_waits_for_a_slow_reader_without_being_kept_here() {
    let (server, door) = tcp_server().await;
    let mut relay = Relay::new();
    relay.follow(&one(door));
    let mut client = TcpStream::connect(door.address()).await.unwrap();
    let (mut passed, _) = soon("accept", server.accept()).await.unwrap();
    let chunk = vec![7_u8; 1 << 16];
    let mut sent = 0;
    // Until the kernel's buffers are full: nobody reads, so writing must stop.
    while let Ok(written) =
        tokio::time::timeout(Duration::from_millis(300), client.write(&chunk)).await
    {
        sent += written.unwrap();
        assert!(sent < 64 << 20, "the relay takes whatever comes");
    }
    client.shutdown().await.unwrap();
    let mut received = 0;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match soon("the rest", passed.read(&mut buffer)).await.unwrap() {
            0 => break,
            read => received += read,
        }
    }
    assert_eq!(received, sent);
}

#[tokio::test]
async fn what_is_not_served_behind_the_door_is_reset() {
    let (server, door) = tcp_server().await;
    drop(server);
    let mut relay = Relay::new();
    relay.follow(&one(door));
    let mut client = TcpStream::connect(door.address()).await.unwrap();
    let error = soon("the reset", client.read(&mut [0; 1])).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_door_closes_and_its_connections_go_on() {
    let (server, door) = tcp_server().await;
    let mut relay = Relay::new();
    relay.follow(&one(door));
    let mut client = TcpStream::connect(door.address()).await.unwrap();
    let (mut passed, _) = soon("accept", server.accept()).await.unwrap();
    relay.follow(&BTreeMap::new());
    soon("the refusal", async {
        // One that came just before the end is reset.
        while !TcpStream::connect(door.address())
            .await
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
    client.write_all(b"still").await.unwrap();
    let mut buffer = [0; 5];
    soon("what was sent", passed.read_exact(&mut buffer)).await.unwrap();
    assert!(relay.follow(&one(door)).is_empty(), "it opens again beside the old connection");
    drop(relay);
    let end = soon("the end", passed.read(&mut buffer)).await;
    assert!(!matches!(end, Ok(1..)), "what is relayed ends with the relay");
}

#[tokio::test]
async fn a_port_that_somebody_holds_is_told_and_the_others_open() {
    let (_held_server, held) = tcp_server().await;
    let holder = StdListener::bind(held.address()).unwrap();
    let (_server, free) = tcp_server().await;
    let mut relay = Relay::new();
    let mut wanted = one(held);
    wanted.insert(free, ServiceName::new("default", "other"));
    let failed = relay.follow(&wanted);
    assert_eq!(failed.len(), 1);
    assert_eq!((&*failed[0].0.name, failed[0].1), ("web", held));
    assert_eq!(failed[0].2.kind(), io::ErrorKind::AddrInUse);
    TcpStream::connect(free.address()).await.unwrap();
    drop(holder);
    assert!(relay.follow(&wanted).is_empty(), "and tried again");
}

#[tokio::test]
async fn datagrams_find_their_way_back_to_each_client() {
    let (server, door) = udp_server().await;
    let mut relay = Relay::new();
    assert!(relay.follow(&one(door)).is_empty());
    let mut clients = Vec::new();
    for name in [b"one", b"two"] {
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.connect(door.address()).await.unwrap();
        client.send(name).await.unwrap();
        clients.push((client, name));
    }
    let mut buffer = [0; 16];
    for _ in 0..2 {
        let (length, from) = soon("a datagram", server.recv_from(&mut buffer)).await.unwrap();
        server.send_to(&buffer[..length], from).await.unwrap();
    }
    for (client, name) in clients {
        let length = soon("the answer", client.recv(&mut buffer)).await.unwrap();
        assert_eq!(&buffer[..length], name);
    }
}

#[tokio::test]
async fn an_idle_session_expires() {
    let (server, door) = udp_server().await;
    let mut relay = Relay::new();
    relay.follow(&one(door));
    let free = relay.slots.available_permits();
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(door.address()).await.unwrap();
    client.send(b"x").await.unwrap();
    let (_, session) = soon("the datagram", server.recv_from(&mut [0; 1])).await.unwrap();
    assert_eq!(relay.slots.available_permits(), free - 1);
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(121)).await;
    tokio::time::resume();
    soon("the session's end", async {
        while relay.slots.available_permits() < free {
            tokio::task::yield_now().await;
        }
        // Its socket is closed, too, although nobody else has called since.
        while UdpSocket::bind(session).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[test]
fn doors_are_on_loopback_and_lead_to_the_node() {
    let target: SocketAddr = "192.168.56.70:30080".parse().unwrap();
    let door = Door { protocol: Protocol::Tcp, target };
    assert_eq!(door.address().to_string(), "127.0.0.1:30080");
    let target: SocketAddr = "[fd00::70]:30080".parse().unwrap();
    assert_eq!(Door { target, ..door }.address().to_string(), "[::1]:30080");
}

mod of_a_plane {
    use netmodel::snapshot::{
        Endpoint, EndpointPort, EndpointSlice, Service, ServicePort, Settings, Snapshot,
    };

    use super::*;

    fn cluster(endpoints: &[&str]) -> Snapshot {
        let mut snapshot = Snapshot::new(Settings {
            node_name: "node-1".into(),
            cluster_cidrs: vec![],
            service_cidrs: vec![],
            bridge: "mini0".into(),
            node_ports: 30000..=32767,
            default_scheduler: "rr".into(),
        });
        let addresses = ["192.168.56.70", "203.0.113.7", "fd00::70"];
        let node =
            Node { addresses: addresses.map(|a| a.parse().unwrap()).to_vec(), ..Node::default() };
        snapshot.nodes.insert("node-1".into(), Arc::new(node));
        let port = |protocol, node_port| ServicePort {
            name: format!("{protocol}").into(),
            protocol,
            port: 80,
            node_port: Some(node_port),
        };
        let ports =
            [port(Protocol::Tcp, 30080), port(Protocol::Udp, 30081), port(Protocol::Sctp, 30082)];
        let service = Service {
            ports: ports.to_vec(),
            cluster_ips: vec!["10.96.0.1".parse().unwrap()],
            external_local: true,
            ..Service::default()
        };
        let name = ServiceName::new("default", "web");
        snapshot.services.insert(name.clone(), Arc::new(service));
        let slice = EndpointSlice {
            family: Family::V4,
            ports: ports
                .iter()
                .map(|p| EndpointPort { name: p.name.clone(), protocol: p.protocol, port: 8080 })
                .collect(),
            endpoints: endpoints
                .iter()
                .map(|addr| Endpoint {
                    addresses: vec![addr.parse().unwrap()],
                    ready: true,
                    ..Endpoint::default()
                })
                .collect(),
        };
        snapshot.slices.entry(name).or_default().insert("web-x".into(), Arc::new(slice));
        snapshot
    }

    #[test]
    fn each_tcp_and_udp_port_has_one_door_to_the_first_address() {
        let snapshot = cluster(&["10.244.2.5"]);
        let doors = wanted(&Dataplane::of(&snapshot), snapshot.this_node());
        let targets: Vec<String> = doors.keys().map(|door| door.target.to_string()).collect();
        assert_eq!(targets, ["192.168.56.70:30080", "192.168.56.70:30081"]);
    }

    #[test]
    fn without_endpoints_there_is_no_door_so_that_the_kernel_refuses() {
        let snapshot = cluster(&[]);
        assert!(wanted(&Dataplane::of(&snapshot), snapshot.this_node()).is_empty());
    }
}
