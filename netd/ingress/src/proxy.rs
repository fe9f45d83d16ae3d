//! The proxy as others see it: workers, doors, routes.
//!
//! Input: where to listen, a table, certificates. All can change at any time; what is under way
//! goes on. Doors are opened with `SO_REUSEPORT`, one socket for each worker, but not on a port that
//! another program has.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use nix::sys::resource::{Resource, getrlimit};
use rustls::ServerConfig;
use rustls::crypto::ring;
use socket2::{Domain, Socket, Type};
use tokio::sync::{mpsc, oneshot};

use crate::backend;
use crate::certificates::{CertificateError, Certificates};
use crate::limits::Connections;
use crate::metrics::{self, Counts};
use crate::table::Table;
use crate::worker::{Command, Worker, run};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// TLS sessions that can be taken up again without tickets.
const SESSIONS: usize = 4096;

/// A place to listen at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Door {
    /// Address and port.
    pub address: SocketAddr,
    /// By TLS.
    pub tls: bool,
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)
    }
}

/// Why the proxy can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No certificate for those who ask for no known name.
    #[error("prepare TLS")]
    Certificate(#[source] CertificateError),
    /// No settings for TLS.
    #[error("set up TLS")]
    Tls(#[source] rustls::Error),
    /// A thread or its event loop can't be had.
    #[error("start worker {0}")]
    Worker(usize, #[source] io::Error),
}

/// A running proxy; dropping it ends all its connections.
#[derive(Debug)]
pub struct Proxy {
    table: Arc<ArcSwap<Table>>,
    certificates: Arc<Certificates>,
    server_tls: Arc<ServerConfig>,
    workers: Vec<Handle>,
    doors: BTreeMap<Door, ()>,
}

/// What all workers count.
#[derive(Clone, Debug)]
pub struct Counters(Arc<[Arc<Counts>]>);

impl Counters {
    /// In Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        metrics::render(&self.0)
    }
}

#[derive(Debug)]
struct Handle {
    worker: Arc<Worker>,
    commands: mpsc::UnboundedSender<Command>,
    _thread: JoinHandle<()>,
}

impl Proxy {
    /// Starts so many workers. Their threads live in the network namespace of the calling one.
    ///
    /// # Errors
    /// The machine has no thread left, or TLS can't be set up.
    pub fn start(workers: usize) -> Result<Self, StartError> {
        let table = Arc::new(ArcSwap::from_pointee(Table::default()));
        let certificates = Arc::new(Certificates::new().map_err(StartError::Certificate)?);
        let server_tls = server_tls(certificates.clone()).map_err(StartError::Tls)?;
        let client_tls = backend::tls(&Arc::new(ring::default_provider()));
        let most = Connections::of(workers, files());
        let workers = (0..workers.max(1))
            .map(|n| {
                let worker = Worker::new(table.clone(), client_tls.clone(), most);
                Handle::start(n, Arc::new(worker)).map_err(|error| StartError::Worker(n, error))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { table, certificates, server_tls, workers, doors: BTreeMap::new() })
    }

    /// The next requests go by this table.
    pub fn route(&self, table: Table) {
        self.table.store(Arc::new(table));
    }

    /// Where certificates are to be put.
    #[must_use]
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// Listens at these doors and no others. An address need not be there yet.
    ///
    /// Returns the doors that can't be had, and why; they are tried again with the next call.
    pub fn listen(&mut self, wanted: impl IntoIterator<Item = Door>) -> Vec<(Door, io::Error)> {
        let wanted: BTreeMap<Door, ()> = wanted.into_iter().map(|door| (door, ())).collect();
        let gone: Vec<Door> =
            self.doors.keys().filter(|door| !wanted.contains_key(door)).copied().collect();
        for door in gone {
            self.doors.remove(&door);
            self.tell(|_| Command::Close(door));
        }
        let new: Vec<Door> =
            wanted.into_keys().filter(|door| !self.doors.contains_key(door)).collect();
        let mut failed = Vec::new();
        for door in new {
            match sockets(door.address, self.workers.len()) {
                Ok(listeners) => {
                    let mut listeners = listeners.into_iter();
                    let tls = door.tls.then(|| self.server_tls.clone());
                    self.doors.insert(door, ());
                    self.tell(|_| {
                        let listener = listeners.next().expect("one socket for each worker");
                        Command::Open(door, listener, tls.clone())
                    });
                }
                Err(error) => failed.push((door, error)),
            }
        }
        failed
    }

    fn tell(&self, mut command: impl FnMut(usize) -> Command) {
        for (n, handle) in self.workers.iter().enumerate() {
            if handle.commands.send(command(n)).is_err() {
                tracing::error!(worker = n, "an Ingress worker is gone");
            }
        }
    }

    /// The counters, which outlive the proxy.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters(self.workers.iter().map(|one| one.worker.counts.clone()).collect())
    }

    /// Takes no more connections, and lets those that are open finish for so long.
    pub async fn stop(self, grace: Duration) {
        let mut waiting = Vec::new();
        self.tell(|_| {
            let (done, told) = oneshot::channel();
            waiting.push(told);
            Command::Stop(grace, done)
        });
        for worker in waiting {
            // A worker that is gone has stopped, too.
            let _ = worker.await;
        }
    }
}

impl Handle {
    fn start(n: usize, worker: Arc<Worker>) -> io::Result<Self> {
        let (commands, told) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = worker.clone();
        let thread = std::thread::Builder::new()
            .name(format!("ingress-{n}"))
            .spawn(move || runtime.block_on(run(shared, told)))?;
        Ok(Self { worker, commands, _thread: thread })
    }
}

fn server_tls(certificates: Arc<Certificates>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = rustls::server::ServerSessionMemoryCache::new(SESSIONS);
    config.ticketer = ring::Ticketer::new()?;
    Ok(Arc::new(config))
}

/// How many files the process may open.
fn files() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// One listening socket for each worker.
fn sockets(address: SocketAddr, count: usize) -> io::Result<Vec<std::net::TcpListener>> {
    // With SO_REUSEPORT another program of the same user could share a port unnoticed; a socket
    // without it finds out first.
    drop(socket(address, false)?);
    (0..count).map(|_| socket(address, true)).collect()
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    // The address may come to this node later than the news of it.
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
    } else {
        socket.set_freebind_v4(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
