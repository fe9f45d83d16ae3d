//! The sockets of the lab's name server, and the way to others' (`lab up --uplink`).
//!
//! Every message is answered on its own; a question that is passed on leaves by a new socket, whose
//! random port only the server asked can answer to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::DNS_PORT;
use super::names::{Names, Reply};

/// How long a name server of the machine may take before the next one is asked.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a connection may be silent.
const IDLE: Duration = Duration::from_secs(10);
/// How many questions are in work at a time.
const AT_ONCE: usize = 256;
/// Where a machine's name servers are written: its own file first, then that of a local stub, which
/// cannot be reached from a namespace.
const RESOLVERS: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// How a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Datagram,
    Stream,
}

/// A name server: what it knows, and whom it asks.
#[derive(Clone)]
pub(super) struct NameServer {
    names: Names,
    upstreams: Arc<[SocketAddr]>,
    room: Arc<Semaphore>,
}

impl NameServer {
    pub(super) fn new(names: Names, upstreams: Vec<SocketAddr>) -> Self {
        Self { names, upstreams: upstreams.into(), room: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Answers datagrams, for ever.
    pub(super) async fn serve_datagrams(self, socket: UdpSocket) {
        let socket = Arc::new(socket);
        let mut message = vec![0; usize::from(u16::MAX)];
        loop {
            let Ok((length, from)) = socket.recv_from(&mut message).await else { continue };
            let Ok(place) = self.room.clone().try_acquire_owned() else { continue };
            let (server, socket) = (self.clone(), socket.clone());
            let asked = message[..length].to_vec();
            tokio::spawn(async move {
                if let Some(answer) = server.answer(&asked, Way::Datagram).await {
                    // Who asked may be gone.
                    let _ = socket.send_to(&answer, from).await;
                }
                drop(place);
            });
        }
    }

    /// Answers connections, for ever.
    pub(super) async fn serve_streams(self, listener: TcpListener) {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let Ok(place) = self.room.clone().try_acquire_owned() else { continue };
            let server = self.clone();
            tokio::spawn(async move {
                // A client that leaves or is silent is the end of its connection, and no more.
                let _ = server.converse(stream).await;
                drop(place);
            });
        }
    }

    async fn converse(&self, mut stream: TcpStream) -> std::io::Result<()> {
        loop {
            let asked = timeout(IDLE, receive(&mut stream)).await??;
            let Some(answer) = self.answer(&asked, Way::Stream).await else { return Ok(()) };
            send(&mut stream, &answer).await?;
        }
    }

    async fn answer(&self, asked: &[u8], way: Way) -> Option<Vec<u8>> {
        match self.names.reply(asked) {
            Reply::Send(answer) => Some(answer),
            Reply::Nothing => None,
            Reply::Forward(failure) => {
                for upstream in self.upstreams.iter() {
                    match timeout(PATIENCE, ask(*upstream, asked, way)).await {
                        Ok(Ok(answer)) => return Some(answer),
                        Ok(Err(error)) => tracing::warn!(%upstream, "no answer: {error}"),
                        Err(_) => tracing::warn!(%upstream, "no answer within {PATIENCE:?}"),
                    }
                }
                Some(failure)
            }
        }
    }
}

/// A message on a connection, behind its length.
async fn receive(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut message = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn send(stream: &mut TcpStream, message: &[u8]) -> std::io::Result<()> {
    let length = u16::try_from(message.len()).map_err(std::io::Error::other)?;
    // In one piece, as some clients read it so.
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await
}

/// Asks another name server, the way that was asked by: who came by a connection had an answer that
/// was too long for a datagram. Only what answers this very question counts.
async fn ask(upstream: SocketAddr, asked: &[u8], way: Way) -> std::io::Result<Vec<u8>> {
    if way == Way::Stream {
        let mut stream = TcpStream::connect(upstream).await?;
        send(&mut stream, asked).await?;
        return receive(&mut stream).await;
    }
    let any: IpAddr = match upstream {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(upstream).await?;
    socket.send(asked).await?;
    let mut answer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut answer).await?;
        if answer[..length].get(..2) == asked.get(..2) {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

/// The machine's name servers that can be reached from a lab.
pub(super) fn machine_name_servers() -> Vec<SocketAddr> {
    let found = RESOLVERS.iter().find_map(|file| {
        let text = std::fs::read_to_string(Path::new(file)).ok()?;
        let servers = name_servers(&text);
        (!servers.is_empty()).then_some(servers)
    });
    if found.is_none() {
        tracing::warn!("no name server of this machine can be reached from the lab");
    }
    found.unwrap_or_default()
}

/// The name servers of a resolv.conf, without those that only the machine itself reaches.
fn name_servers(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse::<IpAddr>().ok())
        // The uplink of a lab is IPv4's alone.
        .filter(|address| address.is_ipv4() && !address.is_loopback())
        .map(|address| SocketAddr::new(address, DNS_PORT))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOSED: Names = Names { v4: true, v6: true, closed: true };

    /// A question for the address of `someapi.somecompany.com` or of another name of its length.
    fn question(first: &str) -> Vec<u8> {
        let mut message = vec![0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in [first, "somecompany", "com"] {
            message.push(u8::try_from(label.len()).unwrap());
            message.extend(label.bytes());
        }
        message.extend([0, 0, 1, 0, 1]);
        message
    }

    #[test]
    fn only_name_servers_that_a_lab_can_reach_are_asked() {
        let stub = "# systemd\nnameserver 127.0.0.53\noptions edns0\n";
        assert_eq!(name_servers(stub), []);
        let real = "search example.com\nnameserver 10.0.0.2\nnameserver fe80::1%eth0\n";
        assert_eq!(name_servers(real), ["10.0.0.2:53".parse().unwrap()]);
    }

    #[tokio::test]
    async fn many_questions_on_one_connection_are_answered_in_turn() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let serving = tokio::spawn(NameServer::new(CLOSED, Vec::new()).serve_streams(listener));
        let mut stream = TcpStream::connect(at).await.unwrap();
        for _ in 0..3 {
            send(&mut stream, &question("someapi")).await.unwrap();
            let answer = receive(&mut stream).await.unwrap();
            assert!(answer.ends_with(&[203, 0, 113, 20]), "{answer:?}");
        }
        serving.abort();
    }

    #[tokio::test]
    async fn a_question_for_others_is_passed_on_and_an_answer_to_another_is_not() {
        let upstream = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = upstream.local_addr().unwrap();
        let open = Names { closed: false, ..CLOSED };
        let server = NameServer::new(open, vec![at]);
        let asked = question("another");
        let answering = tokio::spawn(async move { server.answer(&asked, Way::Datagram).await });
        let mut message = [0; 512];
        let (length, from) = upstream.recv_from(&mut message).await.unwrap();
        assert_eq!(message[..length], question("another"));
        upstream.send_to(&[0, 8, 0], from).await.unwrap();
        upstream.send_to(&[0, 9, 1], from).await.unwrap();
        assert_eq!(answering.await.unwrap(), Some(vec![0, 9, 1]));
    }
}
