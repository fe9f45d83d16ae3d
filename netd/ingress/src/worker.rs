//! A worker: one thread that accepts connections and serves them by itself.
//!
//! Each worker has a listening socket of its own for every door, and the kernel spreads connections
//! over them. Owns how many connections there may be, and their end.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::{ClientConfig, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::backend::Names;
use crate::connection;
use crate::limits::{Connections, client_of};
use crate::metrics::Counts;
use crate::pool::Pool;
use crate::proxy::Door;
use crate::table::Table;

/// The pause between two looks at idle connections.
const SWEEP: Duration = Duration::from_secs(1);
/// The pause when the machine has no descriptors left.
const BREATH: Duration = Duration::from_millis(50);

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Accept connections here.
    Open(Door, std::net::TcpListener, Option<Arc<ServerConfig>>),
    /// Accept no more here, and end the connections that came in by this door.
    Close(Door),
    /// End all, and say when that is done, or was given up after this time.
    Stop(Duration, oneshot::Sender<()>),
}

/// What a worker's connections share.
#[derive(Debug)]
pub(crate) struct Worker {
    /// The routes; shared by all workers.
    pub(crate) table: Arc<ArcSwap<Table>>,
    /// Connections to backends.
    pub(crate) pool: Arc<Pool>,
    /// What happened.
    pub(crate) counts: Arc<Counts>,
    /// How backends are spoken to by TLS.
    pub(crate) tls: Arc<ClientConfig>,
    /// Who knows backends outside the cluster.
    pub(crate) names: Names,
    most: Connections,
    clients: Clients,
}

impl Worker {
    /// A worker that serves nobody yet.
    #[must_use]
    pub(crate) fn new(
        table: Arc<ArcSwap<Table>>,
        tls: Arc<ClientConfig>,
        names: Names,
        most: Connections,
    ) -> Self {
        let (pool, counts) = (Arc::new(Pool::new()), Arc::default());
        Self { table, pool, counts, tls, names, most, clients: Clients::default() }
    }
}

/// The connections that are open.
#[derive(Debug, Default)]
struct Clients {
    open: Mutex<Open>,
    /// Somebody left.
    left: Notify,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    /// Dropping an end asks the connection to finish.
    ends: HashMap<u64, (Door, oneshot::Sender<()>)>,
    by_client: HashMap<IpAddr, usize>,
    count: usize,
}

impl Clients {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection's number and its end, unless its client has too many.
    fn enter(
        &self,
        door: Door,
        client: IpAddr,
        most: Connections,
    ) -> Option<(u64, oneshot::Receiver<()>)> {
        let mut open = self.open();
        let of_one = open.by_client.entry(client).or_default();
        if *of_one >= most.of_one {
            return None;
        }
        *of_one += 1;
        open.count += 1;
        open.next += 1;
        let (id, (end, told)) = (open.next, oneshot::channel());
        open.ends.insert(id, (door, end));
        Some((id, told))
    }

    fn leave(&self, id: u64, client: IpAddr) {
        let mut open = self.open();
        open.ends.remove(&id);
        open.count -= 1;
        if let Some(of_one) = open.by_client.get_mut(&client) {
            *of_one -= 1;
            if *of_one == 0 {
                open.by_client.remove(&client);
            }
        }
        drop(open);
        self.left.notify_waiters();
    }

    /// Waits until there are fewer than this.
    async fn fewer_than(&self, count: usize) {
        loop {
            let left = self.left.notified();
            if self.open().count < count {
                return;
            }
            left.await;
        }
    }

    fn end(&self, which: impl Fn(Door) -> bool) {
        self.open().ends.retain(|_, (door, _)| !which(*door));
    }
}

/// Does what it is told until it is told to stop, or nobody is left to tell it anything.
pub(crate) async fn run(worker: Arc<Worker>, mut commands: mpsc::UnboundedReceiver<Command>) {
    let mut doors: HashMap<Door, JoinHandle<()>> = HashMap::new();
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let command = tokio::select! {
            command = commands.recv() => command,
            _ = sweep.tick() => {
                worker.pool.sweep();
                continue;
            }
        };
        match command {
            Some(Command::Open(door, listener, tls)) => match TcpListener::from_std(listener) {
                Ok(listener) => {
                    let accepting = accept(worker.clone(), door, listener, tls);
                    doors.insert(door, tokio::spawn(accepting));
                }
                Err(error) => tracing::error!(%error, %door, "listen"),
            },
            Some(Command::Close(door)) => {
                if let Some(accepting) = doors.remove(&door) {
                    accepting.abort();
                }
                worker.clients.end(|one| one == door);
            }
            Some(Command::Stop(grace, done)) => {
                doors.values().for_each(JoinHandle::abort);
                worker.clients.end(|_| true);
                // Those that take longer are cut off.
                let _ = tokio::time::timeout(grace, worker.clients.fewer_than(1)).await;
                let _ = done.send(());
                return;
            }
            None => return,
        }
    }
}

async fn accept(
    worker: Arc<Worker>,
    door: Door,
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
) {
    loop {
        worker.clients.fewer_than(worker.most.all).await;
        match listener.accept().await {
            Ok((stream, peer)) => welcome(&worker, door, stream, peer, tls.clone()),
            Err(error) => {
                tracing::debug!(%error, %door, "accept a connection");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}

fn welcome(
    worker: &Arc<Worker>,
    door: Door,
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
) {
    let client = client_of(peer.ip());
    let Some((id, end)) = worker.clients.enter(door, client, worker.most) else {
        worker.counts.refused();
        return;
    };
    worker.counts.opened();
    let worker = worker.clone();
    tokio::spawn(async move {
        let seat = Seat { worker: worker.clone(), id, client };
        connection::serve(worker, stream, tls, (peer, door.address.port()), (seat, end)).await;
    });
}

/// A client's place among the connections. It is free again when this is dropped, however the
/// connection ended; a tunnel keeps it after its request is over.
#[derive(Debug)]
pub(crate) struct Seat {
    worker: Arc<Worker>,
    id: u64,
    client: IpAddr,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.worker.clients.leave(self.id, self.client);
        self.worker.counts.closed();
    }
}

#[cfg(test)]
mod tests;
