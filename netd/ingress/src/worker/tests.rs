//! What a worker grants a client, with clocks that the test holds.

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::objects::{ObjectName, Options};
use crate::proxy::Door;
use crate::table::{Protocol, Route, Target};

/// A worker whose rules all lead to one backend, and the door that clients come in by.
struct Rig {
    worker: Arc<Worker>,
    listener: TcpListener,
    door: Door,
}

impl Rig {
    async fn new(most: Connections, backend: SocketAddr) -> Self {
        let name = |name: &str| ObjectName::new("shop", name);
        let (ingress, service) = (name("rules"), name("web"));
        let target = Target::Endpoints(Protocol::Http, Box::from([backend]));
        let route = Arc::new(Route { ingress, options: Options::default(), service, target });
        let table = Table { default: Some(route), ..Table::default() };
        let tls = crate::backend::tls(&Arc::new(rustls::crypto::ring::default_provider()));
        let table = Arc::new(ArcSwap::from_pointee(table));
        let worker = Arc::new(Worker::new(table, tls, Names::of_the_machine(), most));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let door = Door { address: listener.local_addr().unwrap(), tls: false };
        Self { worker, listener, door }
    }

    /// A client that came in.
    async fn client(&self) -> TcpStream {
        let client = TcpStream::connect(self.door.address).await.unwrap();
        let (stream, peer) = self.listener.accept().await.unwrap();
        welcome(&self.worker, self.door, stream, peer, None);
        client
    }
}

/// Reads to the end; a reset is one as well.
async fn rest(client: &mut TcpStream) -> String {
    let mut seen = Vec::new();
    let _ = client.read_to_end(&mut seen).await;
    String::from_utf8_lossy(&seen).into_owned()
}

#[tokio::test]
async fn one_client_has_no_more_than_its_part_of_the_connections() {
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    let rig = Rig::new(Connections { all: 100, of_one: 2 }, nobody).await;
    let mut first = rig.client().await;
    let _second = rig.client().await;
    let mut third = rig.client().await;
    assert_eq!(rest(&mut third).await, "", "closed without a word");
    let page = crate::metrics::render(std::slice::from_ref(&rig.worker.counts));
    let refused = "minictl_ingress_refused_connections_total 1";
    assert!(page.lines().any(|line| line == refused), "{page}");
    // Its place is free when one of them ends.
    first.write_all(b"nonsense\r\n\r\n").await.unwrap();
    assert!(rest(&mut first).await.starts_with("HTTP/1.1 400"));
    rig.worker.clients.fewer_than(2).await;
    let mut again = rig.client().await;
    again.write_all(b"nonsense\r\n\r\n").await.unwrap();
    assert!(rest(&mut again).await.starts_with("HTTP/1.1 400"));
}

/// A client that stops within its request's body is told so, and its backend is let go.
#[tokio::test]
async fn a_body_that_stands_still_is_given_up() {
    let backend = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let most = Connections { all: 100, of_one: 100 };
    let rig = Rig::new(most, backend.local_addr().unwrap()).await;
    let mut client = rig.client().await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf";
    let began = tokio::time::Instant::now();
    client.write_all(head.as_bytes()).await.unwrap();
    let asking = async {
        let (mut backend, _) = backend.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"half") {
            assert!(backend.read_buf(&mut asked).await.unwrap() > 0, "{asked:?}");
        }
        backend
    };
    let asking = tokio::time::timeout(Duration::from_secs(20), asking);
    let mut backend = asking.await.expect("the backend is asked");
    // Only now: while the kernel connects, a paused clock would jump to the end of the patience.
    tokio::time::pause();
    let (told, more) = tokio::join!(rest(&mut client), rest(&mut backend));
    assert!(told.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{told}");
    assert!(told.contains("x-minictl-reason: request-timeout"), "{told}");
    assert!(told.to_lowercase().contains("\r\nconnection: close\r\n"), "{told}");
    assert_eq!(more, "");
    let waited = began.elapsed();
    let pause = crate::body::UPLOAD_PAUSE;
    assert!(waited >= pause && waited < 2 * pause, "{waited:?}");
}
