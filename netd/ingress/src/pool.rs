//! Connections to backends, kept open and used again; one pool for each worker.
//!
//! Owns which endpoint a request goes to (a random one, rather not one that just failed) and the
//! idle connections to it. Connections of a worker are driven by that worker, so that nothing
//! crosses cores. An endpoint that left the table is not chosen any more, and its idle connections
//! end within [`IDLE`]. Deliberately not here: how a connection is made ([`crate::backend`]).

use std::collections::HashMap;
use std::io::ErrorKind::WouldBlock;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::body::Upload;
use crate::table::Protocol;

/// How long an idle connection is kept. Many servers close theirs after five seconds, and a request
/// that meets its connection's end is lost.
pub(crate) const IDLE: Duration = Duration::from_secs(4);
/// How long one that takes many requests is kept without a new one.
const SHARED_IDLE: Duration = Duration::from_secs(30);
/// How long an endpoint that could not be reached is asked last.
const SHUNNED: Duration = Duration::from_secs(2);
/// Idle connections to one endpoint.
const MOST_IDLE: usize = 512;
/// How long the addresses of a name outside the cluster are good.
const RESOLVED: Duration = Duration::from_secs(5);

/// Whom a connection is to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Peer {
    /// The endpoint.
    pub(crate) address: SocketAddr,
    /// What it speaks.
    pub(crate) protocol: Protocol,
    /// Its name, where it has one: TLS tells it.
    pub(crate) name: Option<Arc<str>>,
}

/// A connection that takes requests.
#[derive(Debug)]
pub(crate) enum Sender {
    /// One request at a time.
    Http1(http1::SendRequest<Upload>),
    /// Many at a time.
    Http2(http2::SendRequest<Upload>),
}

/// An HTTP/1 connection that is in use, and where it belongs.
#[derive(Debug)]
pub(crate) struct Lease {
    /// The pool it came from.
    pub(crate) pool: Arc<Pool>,
    /// Whom it is to.
    pub(crate) peer: Peer,
    /// The connection.
    pub(crate) sender: http1::SendRequest<Upload>,
}

impl Lease {
    /// Returns the connection to the pool as soon as it can take another request.
    pub(crate) fn give_back(self) {
        let Self { pool, peer, mut sender } = self;
        if sender.is_ready() {
            return pool.put(peer, sender);
        }
        // The request's body may still be on its way, or the answer's end be digested.
        if sender.is_closed() {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if sender.ready().await.is_ok() {
                    pool.put(peer, sender);
                }
            });
        }
    }
}

#[derive(Debug)]
struct Idle {
    sender: http1::SendRequest<Upload>,
    since: Instant,
}

#[derive(Debug, Default)]
struct Inner {
    /// Of the short way, which has no use for hyper's.
    plain: HashMap<SocketAddr, Vec<(TcpStream, Instant)>>,
    idle: HashMap<Peer, Vec<Idle>>,
    /// With the time of their last use.
    shared: HashMap<Peer, (http2::SendRequest<Upload>, Instant)>,
    shunned: HashMap<SocketAddr, Instant>,
    names: HashMap<Arc<str>, (Instant, Arc<[IpAddr]>)>,
    random: u64,
}

/// The pool of a worker.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<Inner>);

impl Pool {
    /// An empty pool.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Inner { random: rand::random::<u64>() | 1, ..Inner::default() }))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A random endpoint, if possible none that was tried already or failed a moment ago.
    pub(crate) fn choose(
        &self,
        endpoints: &[SocketAddr],
        tried: &[SocketAddr],
    ) -> Option<SocketAddr> {
        if let ([only], []) = (endpoints, tried) {
            return Some(*only);
        }
        let mut inner = self.inner();
        let random = inner.next_random();
        let fresh = |one: &&SocketAddr| !tried.contains(one);
        if inner.shunned.is_empty() && tried.is_empty() {
            return pick(endpoints, random);
        }
        let now = Instant::now();
        inner.shunned.retain(|_, until| *until > now);
        let well = |one: &&SocketAddr| fresh(one) && !inner.shunned.contains_key(one);
        let best: Vec<SocketAddr> = endpoints.iter().filter(well).copied().collect();
        if !best.is_empty() {
            return pick(&best, random);
        }
        let rest: Vec<SocketAddr> = endpoints.iter().filter(fresh).copied().collect();
        pick(&rest, random)
    }

    /// This endpoint could not be reached.
    pub(crate) fn shun(&self, endpoint: SocketAddr) {
        self.inner().shunned.insert(endpoint, Instant::now() + SHUNNED);
    }

    /// A connection that waits for a request.
    pub(crate) fn take(&self, peer: &Peer) -> Option<Sender> {
        let mut inner = self.inner();
        if peer.protocol == Protocol::H2c {
            let (sender, used) = inner.shared.get_mut(peer)?;
            if sender.is_closed() {
                inner.shared.remove(peer);
                return None;
            }
            *used = Instant::now();
            return Some(Sender::Http2(sender.clone()));
        }
        let idle = inner.idle.get_mut(peer)?;
        // The one used last is the one that will be closed last.
        while let Some(one) = idle.pop() {
            if one.sender.is_ready() && one.since.elapsed() < IDLE {
                return Some(Sender::Http1(one.sender));
            }
        }
        None
    }

    /// A connection that can take another request.
    pub(crate) fn put(&self, peer: Peer, sender: http1::SendRequest<Upload>) {
        let mut inner = self.inner();
        let idle = inner.idle.entry(peer).or_default();
        if idle.len() < MOST_IDLE {
            idle.push(Idle { sender, since: Instant::now() });
        }
    }

    /// A connection of the short way that waits for a request.
    pub(crate) fn take_plain(&self, endpoint: SocketAddr) -> Option<TcpStream> {
        let mut inner = self.inner();
        let idle = inner.plain.get_mut(&endpoint)?;
        while let Some((stream, since)) = idle.pop() {
            // It has nothing to say: neither that it ended, nor an answer that nobody asked for.
            let quiet = stream.try_read(&mut [0]).is_err_and(|error| error.kind() == WouldBlock);
            if quiet && since.elapsed() < IDLE {
                return Some(stream);
            }
        }
        None
    }

    /// A connection of the short way that can take another request.
    pub(crate) fn put_plain(&self, endpoint: SocketAddr, stream: TcpStream) {
        let mut inner = self.inner();
        let idle = inner.plain.entry(endpoint).or_default();
        if idle.len() < MOST_IDLE {
            idle.push((stream, Instant::now()));
        }
    }

    /// A new connection that takes many requests.
    pub(crate) fn share(&self, peer: Peer, sender: http2::SendRequest<Upload>) {
        self.inner().shared.insert(peer, (sender, Instant::now()));
    }

    /// The addresses of a name, if they are known.
    pub(crate) fn resolved(&self, name: &str) -> Option<Arc<[IpAddr]>> {
        let inner = self.inner();
        let (at, addresses) = inner.names.get(name)?;
        (at.elapsed() < RESOLVED).then(|| addresses.clone())
    }

    /// A name was resolved.
    pub(crate) fn remember(&self, name: Arc<str>, addresses: Arc<[IpAddr]>) {
        self.inner().names.insert(name, (Instant::now(), addresses));
    }

    /// Lets go what was not used for a while; to be called now and then.
    pub(crate) fn sweep(&self) {
        let mut inner = self.inner();
        inner.idle.retain(|_, idle| {
            idle.retain(|one| one.since.elapsed() < IDLE && !one.sender.is_closed());
            !idle.is_empty()
        });
        inner.plain.retain(|_, idle| {
            idle.retain(|(_, since)| since.elapsed() < IDLE);
            !idle.is_empty()
        });
        // Requests on it go on: it ends with the last of them.
        inner.shared.retain(|_, (one, used)| !one.is_closed() && used.elapsed() < SHARED_IDLE);
        inner.names.retain(|_, (at, _)| at.elapsed() < RESOLVED);
    }
}

impl Inner {
    /// Xorshift: which endpoint comes next is no secret.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

fn pick(endpoints: &[SocketAddr], random: u64) -> Option<SocketAddr> {
    let count = u64::try_from(endpoints.len()).ok().filter(|count| *count > 0)?;
    let place = usize::try_from((random >> 32) % count).ok()?;
    endpoints.get(place).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(count: u16) -> Vec<SocketAddr> {
        (1..=count).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect()
    }

    #[test]
    fn endpoints_are_chosen_evenly() {
        let (pool, all) = (Pool::new(), endpoints(4));
        let mut counts = HashMap::new();
        for _ in 0..8000 {
            *counts.entry(pool.choose(&all, &[]).unwrap()).or_insert(0) += 1;
        }
        assert!(all.iter().all(|one| (1700..2300).contains(&counts[one])), "{counts:?}");
    }

    #[tokio::test]
    async fn what_failed_is_asked_last() {
        let (pool, all) = (Pool::new(), endpoints(3));
        pool.shun(all[0]);
        assert!((0..100).all(|_| pool.choose(&all, &[]) != Some(all[0])));
        assert!((0..100).all(|_| pool.choose(&all, &all[1..2]) == Some(all[2])));
        assert_eq!(pool.choose(&all, &all[1..]), Some(all[0]));
        assert_eq!(pool.choose(&all, &all), None);
        assert_eq!(pool.choose(&[], &[]), None);
    }
}
