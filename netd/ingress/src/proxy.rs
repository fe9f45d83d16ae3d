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

use crate::backend::{self, Names};
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
    /// Starts so many workers, which ask `names` for Services that stand for a name. Their threads
    /// live in the network namespace of the calling one.
    ///
    /// # Errors
    /// The machine has no thread left, or TLS can't be set up.
    pub fn start(workers: usize, names: &Names) -> Result<Self, StartError> {
        let table = Arc::new(ArcSwap::from_pointee(Table::default()));
        let certificates = Arc::new(Certificates::new().map_err(StartError::Certificate)?);
        let server_tls = server_tls(certificates.clone()).map_err(StartError::Tls)?;
        let client_tls = backend::tls(&Arc::new(ring::default_provider()));
        let most = Connections::of(workers, files());
        let workers = (0..workers.max(1))
            .map(|n| {
                let worker = Worker::new(table.clone(), client_tls.clone(), names.clone(), most);
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
    // without it finds out first. It must not listen itself: a program that is being started right
    // now holds a copy of it until it is loaded, and a copy that listens would keep us out, too.
    drop(bound(address, false)?);
    let listen = |_| {
        let socket = bound(address, true)?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    (0..count).map(listen).collect()
}

fn bound(address: SocketAddr, shared: bool) -> io::Result<Socket> {
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
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};

    use super::*;

    fn free(address: impl Into<std::net::IpAddr>) -> SocketAddr {
        let socket = bound(SocketAddr::new(address.into(), 0), false).unwrap();
        socket.local_addr().unwrap().as_socket().unwrap()
    }

    /// A child has all its parent's files until its program is loaded, however short its life.
    #[test]
    fn a_door_opens_while_programs_are_started() {
        let started = std::sync::atomic::AtomicBool::new(false);
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    // Looking for a program that is not there is the longest part of its start.
                    let _ = std::process::Command::new("/no/such/program").spawn();
                    started.store(true, std::sync::atomic::Ordering::Relaxed);
                }
            });
            while !started.load(std::sync::atomic::Ordering::Relaxed) {
                std::thread::yield_now();
            }
            let opened: Vec<_> =
                (0..1000).map(|_| sockets(free(Ipv4Addr::LOCALHOST), 2).map(drop)).collect();
            over.store(true, std::sync::atomic::Ordering::Relaxed);
            let failed: Vec<_> = opened.iter().filter_map(|one| one.as_ref().err()).collect();
            assert!(failed.is_empty(), "{} of 1000: {:?}", failed.len(), failed.first());
        });
    }

    #[test]
    fn a_port_that_another_program_has_is_not_shared() {
        for any in [std::net::IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            let address = free(any);
            let other = bound(address, true).unwrap();
            other.listen(1).unwrap();
            let refused = sockets(address, 2).map(|_| ()).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::AddrInUse, "{address}");
            drop(other);
            assert_eq!(sockets(address, 2).unwrap().len(), 2, "{address}");
        }
    }

    /// What remains of connections that were served by this port is no other program.
    #[test]
    fn a_port_opens_again_while_its_old_connections_end() {
        let address = free(Ipv4Addr::LOCALHOST);
        let before = sockets(address, 1).unwrap().remove(0);
        let client = TcpStream::connect(address).unwrap();
        before.set_nonblocking(false).unwrap();
        let (served, _) = before.accept().unwrap();
        drop(before);
        drop(sockets(address, 2).unwrap());
        drop((served, client));
        assert_eq!(sockets(address, 2).unwrap().len(), 2);
    }
}
