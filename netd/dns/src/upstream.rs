//! Other servers: who is asked for names that are not the cluster's, and how.
//!
//! Each question goes out with a number and from a port drawn by lot, and only an answer from the
//! server asked, with that number and to that very question, counts. A server that does not answer
//! is asked after the others for a while. One that is ourselves is never asked: it would ask us.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::RecordType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::cache::Key;
use crate::message::{LARGEST_DATAGRAM, Reply};

/// How long one server may take. Programs wait for five seconds altogether.
const PATIENCE: Duration = Duration::from_millis(1200);
/// How often servers are asked for one question, all taken together.
const ATTEMPTS: usize = 3;
/// How long a server that did not answer is asked last.
const REST: Duration = Duration::from_secs(5);

/// Why nobody could be asked.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    /// No server is known.
    #[error("there is no server to ask for names outside the cluster")]
    Nobody,
    /// All of them were silent, or talked nonsense.
    #[error("no server answers: {}", said.iter().map(|(who, why)| format!("{who}: {why}")).collect::<Vec<_>>().join("; "))]
    Silent {
        /// Who was asked, and what came of it.
        said: Vec<(SocketAddr, String)>,
    },
}

/// What came of one exchange with one server.
#[derive(Debug, thiserror::Error)]
enum ExchangeError {
    #[error("it takes too long")]
    Slow,
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("the answer can't be read")]
    Unreadable,
    #[error("it answers {0}")]
    Unable(ResponseCode),
}

/// The servers that are asked.
#[derive(Debug, Default)]
pub(crate) struct Upstreams {
    servers: Mutex<Vec<Server>>,
    pub(crate) asked: AtomicU64,
    pub(crate) failed: AtomicU64,
}

#[derive(Clone, Debug)]
struct Server {
    addr: SocketAddr,
    /// It did not answer, and is asked last until then.
    rests_until: Option<Instant>,
}

impl Upstreams {
    /// From now on, these are asked, in this order.
    pub(crate) fn set(&self, addrs: &[SocketAddr]) {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if !servers.iter().map(|server| &server.addr).eq(addrs) {
            *servers = addrs.iter().map(|addr| Server { addr: *addr, rests_until: None }).collect();
        }
    }

    /// Those that answered last time come first.
    fn in_turn(&self, now: Instant) -> Vec<SocketAddr> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        servers.sort_by_key(|server| server.rests_until.is_some_and(|until| now < until));
        servers.into_iter().map(|server| server.addr).collect()
    }

    fn note(&self, addr: SocketAddr, well: bool) {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        for server in servers.iter_mut().filter(|server| server.addr == addr) {
            match (well, server.rests_until) {
                (true, Some(_)) => tracing::info!(server = %addr, "a DNS server answers again"),
                (false, None) => tracing::warn!(server = %addr, "a DNS server does not answer"),
                _ => {}
            }
            server.rests_until = (!well).then(|| Instant::now() + REST);
        }
    }

    /// Asks one server after the other until one answers.
    pub(crate) async fn ask(&self, key: &Key) -> Result<(Reply, SocketAddr), UpstreamError> {
        let servers = self.in_turn(Instant::now());
        if servers.is_empty() {
            return Err(UpstreamError::Nobody);
        }
        let mut said = Vec::new();
        let mut refusal = None;
        for addr in servers.iter().cycle().take(ATTEMPTS.max(servers.len())) {
            self.asked.fetch_add(1, Ordering::Relaxed);
            match exchange(*addr, key).await {
                Ok(reply) => {
                    self.note(*addr, true);
                    return Ok((reply, *addr));
                }
                Err(error) => {
                    tracing::debug!(server = %addr, name = %key.name, %error, "ask a DNS server");
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    // It is there, and knows no answer: asking it again is of no use.
                    if let ExchangeError::Unable(code) = error {
                        self.note(*addr, true);
                        if refusal.replace((Reply::code(code), *addr)).is_some_and(|r| r.1 == *addr)
                        {
                            break;
                        }
                    } else {
                        self.note(*addr, false);
                    }
                    said.push((*addr, error.to_string()));
                }
            }
        }
        refusal.ok_or(UpstreamError::Silent { said })
    }
}

/// Asks one server, by TCP if the answer is too long.
async fn exchange(server: SocketAddr, key: &Key) -> Result<Reply, ExchangeError> {
    let both = async {
        let message = datagram(server, key).await?;
        if message.metadata.truncation { stream(server, key).await } else { Ok(message) }
    };
    let message = timeout(PATIENCE, both).await.map_err(|_| ExchangeError::Slow)??;
    match message.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => Ok(reply(message)),
        code => Err(ExchangeError::Unable(code)),
    }
}

fn question(key: &Key) -> (Message, Result<Vec<u8>, ExchangeError>) {
    let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.metadata.checking_disabled = key.wishes.unchecked;
    message.add_query(Query::query(key.name.clone(), key.kind));
    let mut edns = Edns::new();
    edns.set_max_payload(LARGEST_DATAGRAM).set_dnssec_ok(key.wishes.signatures);
    message.set_edns(edns);
    let bytes = message.to_vec().map_err(|_| ExchangeError::Unreadable);
    (message, bytes)
}

/// Is this the answer to that question?
fn fits(asked: &Message, answer: &Message) -> bool {
    answer.metadata.message_type == MessageType::Response
        && answer.metadata.id == asked.metadata.id
        && answer.metadata.op_code == OpCode::Query
        && answer.queries == asked.queries
}

async fn datagram(server: SocketAddr, key: &Key) -> Result<Message, ExchangeError> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let (asked, bytes) = question(key);
    // The kernel draws the port, and lets nobody but the server through.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(&bytes?).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Somebody may be guessing: the true answer is waited for.
        match Message::from_vec(&buffer[..length]) {
            Ok(answer) if fits(&asked, &answer) => return Ok(answer),
            _ => {}
        }
    }
}

async fn stream(server: SocketAddr, key: &Key) -> Result<Message, ExchangeError> {
    let (asked, bytes) = question(key);
    let bytes = bytes?;
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(|_| ExchangeError::Unreadable)?;
    stream.write_all(&[&length.to_be_bytes(), &*bytes].concat()).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; length.into()];
    stream.read_exact(&mut buffer).await?;
    let answer = Message::from_vec(&buffer).ok().filter(|answer| fits(&asked, answer));
    answer.ok_or(ExchangeError::Unreadable)
}

fn reply(message: Message) -> Reply {
    // What belongs to the transport ends here.
    let plain = |record: &hickory_proto::rr::Record| record.record_type() != RecordType::OPT;
    Reply {
        code: message.metadata.response_code,
        authoritative: false,
        checked: message.metadata.authentic_data,
        answers: message.answers,
        authorities: message.authorities,
        additionals: message.additionals.into_iter().filter(plain).collect(),
    }
}
