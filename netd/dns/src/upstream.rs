//! Other servers: who is asked for names that are not the cluster's, and how.
//!
//! Each question goes out with a number and from a port drawn by lot, and only an answer from the
//! server asked, with that number and to that very question, counts. A server that does not answer
//! is asked after the others for a while, and all of them together have less time than a client
//! waits. One that is ourselves is never asked, whatever list it stands on and whatever came first,
//! the list or our address: it would ask us.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::RecordType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};

use crate::cache::Key;
use crate::message::{LARGEST_DATAGRAM, Reply};

/// How long one server may take.
const PATIENCE: Duration = Duration::from_millis(1200);
/// How long all of them may take for one question: programs wait for five seconds (resolv.conf(5)).
const ALTOGETHER: Duration = Duration::from_secs(4);
/// How often servers are asked for one question, all taken together.
const ATTEMPTS: usize = 3;
/// How long a server that did not answer is asked last.
const REST: Duration = Duration::from_secs(5);
/// How long a server that refused EDNS is asked without it: it may have been about one question, or
/// another server by then (upstream: unbound's `infra-host-ttl`).
pub(crate) const PLAIN: Duration = Duration::from_secs(900);

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

/// What may be said to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speech {
    /// EDNS: longer datagrams, and signatures if they are wished for.
    Extended,
    /// DNS as it was, for those who refuse the other.
    Plain,
}

/// The servers that are asked.
#[derive(Debug, Default)]
pub(crate) struct Upstreams {
    list: Mutex<List>,
    pub(crate) asked: AtomicU64,
    pub(crate) failed: AtomicU64,
}

#[derive(Debug, Default)]
struct List {
    servers: Vec<Server>,
    /// Where we answer ourselves.
    own: Vec<SocketAddr>,
}

impl List {
    fn is_own(&self, addr: SocketAddr) -> bool {
        self.own.contains(&canonical(addr))
    }
}

#[derive(Clone, Debug)]
struct Server {
    addr: SocketAddr,
    /// It did not answer, and is asked last until then.
    rests_until: Option<Instant>,
    /// It refused EDNS, and is asked without until then.
    plain_until: Option<Instant>,
}

impl Server {
    fn new(addr: SocketAddr) -> Self {
        Self { addr, rests_until: None, plain_until: None }
    }

    fn speech(&self, now: Instant) -> Speech {
        match self.plain_until.is_some_and(|until| now < until) {
            true => Speech::Plain,
            false => Speech::Extended,
        }
    }
}

impl Upstreams {
    /// From now on, these are asked, in this order, but for ourselves.
    pub(crate) fn set(&self, addrs: &[SocketAddr]) {
        let servers = &mut self.list().servers;
        if !servers.iter().map(|server| &server.addr).eq(addrs) {
            *servers = addrs.iter().copied().map(Server::new).collect();
        }
    }

    /// From now on, these are ourselves.
    pub(crate) fn set_own(&self, addrs: &[SocketAddr]) {
        self.list().own = addrs.iter().copied().map(canonical).collect();
    }

    /// Is this one of our own addresses?
    pub(crate) fn is_own(&self, addr: SocketAddr) -> bool {
        self.list().is_own(addr)
    }

    /// Those that answered last time come first.
    fn in_turn(&self, now: Instant) -> Vec<Server> {
        let list = self.list();
        let others = list.servers.iter().filter(|server| !list.is_own(server.addr));
        let mut servers: Vec<Server> = others.cloned().collect();
        servers.sort_by_key(|server| server.rests_until.is_some_and(|until| now < until));
        servers
    }

    fn note(&self, addr: SocketAddr, well: bool) {
        for server in self.list().servers.iter_mut().filter(|server| server.addr == addr) {
            match (well, server.rests_until) {
                (true, Some(_)) => tracing::info!(server = %addr, "a DNS server answers again"),
                (false, None) => tracing::warn!(server = %addr, "a DNS server does not answer"),
                _ => {}
            }
            server.rests_until = (!well).then(|| Instant::now() + REST);
        }
    }

    /// It is not asked in vain with EDNS for a while.
    fn note_plain(&self, addr: SocketAddr) {
        let now = Instant::now();
        for server in self.list().servers.iter_mut().filter(|server| server.addr == addr) {
            // Of many that were refused at a time, the first is enough.
            if server.speech(now) == Speech::Extended {
                tracing::info!(server = %addr, "a DNS server refuses EDNS; it is asked without");
                server.plain_until = Some(now + PLAIN);
            }
        }
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks one server after the other until one answers, or the time is over.
    pub(crate) async fn ask(&self, key: &Key) -> Result<(Reply, SocketAddr), UpstreamError> {
        let servers = self.in_turn(Instant::now());
        if servers.is_empty() {
            return Err(UpstreamError::Nobody);
        }
        let end = Instant::now() + ALTOGETHER;
        let mut said = Vec::new();
        let mut refusal = None;
        for server in servers.iter().cycle().take(ATTEMPTS.max(servers.len())) {
            let (addr, now) = (server.addr, Instant::now());
            let patience = PATIENCE.min(end.saturating_duration_since(now));
            if patience.is_zero() {
                break;
            }
            let speech = server.speech(now);
            self.asked.fetch_add(1, Ordering::Relaxed);
            let answer = timeout(patience, exchange(addr, key, speech)).await;
            match answer.unwrap_or(Err(ExchangeError::Slow)) {
                Ok((reply, understood)) => {
                    self.note(addr, true);
                    if understood != speech {
                        self.note_plain(addr);
                    }
                    return Ok((reply, addr));
                }
                Err(error) => {
                    tracing::debug!(server = %addr, name = %key.name, %error, "ask a DNS server");
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    said.push((addr, error.to_string()));
                    match error {
                        // It is there, and knows no answer: asking it again is of no use.
                        ExchangeError::Unable(code) => {
                            self.note(addr, true);
                            let before = refusal.replace((Reply::code(code), addr));
                            if before.is_some_and(|(_, who)| who == addr) {
                                break;
                            }
                        }
                        // It had less time than the others: nothing is known of it.
                        ExchangeError::Slow if patience < PATIENCE => {}
                        _ => self.note(addr, false),
                    }
                }
            }
        }
        refusal.ok_or(UpstreamError::Silent { said })
    }
}

/// An address as one of its kind: IPv4 within IPv6 is IPv4.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// Asks one server, and once more without EDNS if it refuses that (RFC 6891, section 7; upstream:
/// unbound does so for the same two codes). Says what it understood. The caller limits its time.
async fn exchange(
    server: SocketAddr,
    key: &Key,
    mut speech: Speech,
) -> Result<(Reply, Speech), ExchangeError> {
    let mut message = ask(server, key, speech).await?;
    if speech == Speech::Extended && refuses_edns(message.metadata.response_code) {
        speech = Speech::Plain;
        message = ask(server, key, speech).await?;
    }
    match message.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => Ok((reply(message), speech)),
        code => Err(ExchangeError::Unable(code)),
    }
}

fn refuses_edns(code: ResponseCode) -> bool {
    matches!(code, ResponseCode::FormErr | ResponseCode::NotImp)
}

/// Asks by a datagram, and by TCP if the answer is too long for one.
async fn ask(server: SocketAddr, key: &Key, speech: Speech) -> Result<Message, ExchangeError> {
    let message = datagram(server, key, speech).await?;
    if message.metadata.truncation { stream(server, key, speech).await } else { Ok(message) }
}

fn question(key: &Key, speech: Speech) -> (Message, Result<Vec<u8>, ExchangeError>) {
    let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.metadata.checking_disabled = key.wishes.unchecked;
    message.add_query(Query::query(key.name.clone(), key.kind));
    if speech == Speech::Extended {
        let mut edns = Edns::new();
        edns.set_max_payload(LARGEST_DATAGRAM).set_dnssec_ok(key.wishes.signatures);
        message.set_edns(edns);
    }
    let bytes = message.to_vec().map_err(|_| ExchangeError::Unreadable);
    (message, bytes)
}

/// Is this the answer to that question? Who can't read a question need not repeat it.
fn fits(asked: &Message, answer: &Message) -> bool {
    let repeats = answer.queries == asked.queries
        || answer.queries.is_empty() && refuses_edns(answer.metadata.response_code);
    answer.metadata.message_type == MessageType::Response
        && answer.metadata.id == asked.metadata.id
        && answer.metadata.op_code == OpCode::Query
        && repeats
}

/// The answer in a message, if it is one to that question.
fn heard(asked: &Message, bytes: &[u8]) -> Option<Message> {
    Message::from_vec(bytes).ok().filter(|answer| fits(asked, answer))
}

async fn datagram(server: SocketAddr, key: &Key, speech: Speech) -> Result<Message, ExchangeError> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let (asked, bytes) = question(key, speech);
    // The kernel draws the port, and lets nobody but the server through.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(&bytes?).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Somebody may be guessing: the true answer is waited for.
        if let Some(answer) = heard(&asked, &buffer[..length]) {
            return Ok(answer);
        }
    }
}

async fn stream(server: SocketAddr, key: &Key, speech: Speech) -> Result<Message, ExchangeError> {
    let (asked, bytes) = question(key, speech);
    let bytes = bytes?;
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(|_| ExchangeError::Unreadable)?;
    stream.write_all(&[&length.to_be_bytes(), &*bytes].concat()).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; length.into()];
    stream.read_exact(&mut buffer).await?;
    heard(&asked, &buffer).ok_or(ExchangeError::Unreadable)
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

/// For the fuzzer: what another server said is read, kept, and written as an answer to a client.
#[cfg(feature = "fuzz")]
pub(crate) fn fuzz(bytes: &[u8]) {
    let name: hickory_proto::rr::Name = "www.example.com.".parse().expect("a name");
    let key = Key { name, kind: RecordType::A, wishes: crate::message::Wishes::default() };
    let (mut asked, _) = question(&key, Speech::Extended);
    asked.metadata.id = 7;
    let Some(message) = heard(&asked, bytes) else { return };
    let reply = reply(message);
    let now = std::time::Instant::now();
    let mut cache = crate::cache::Cache::default();
    cache.put(key.clone(), &reply, now);
    let kept = cache.get(&key, now).or_else(|| cache.stale(&key, now)).unwrap_or(reply);
    let packet = asked.to_vec().expect("a question");
    crate::message::fuzz(&packet, &kept);
}
