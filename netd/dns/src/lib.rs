//! The cluster's name server, as every node has one.
//!
//! [`zone`] knows the cluster's names and [`pods`] who asks; `message` reads and writes packets,
//! `resolve` finds answers, in `cache` or at `upstream` where they are not the cluster's; `server`
//! holds the sockets, `journal` and `counters` what was asked. [`Dns`] is the handle on all of it:
//! whoever has it changes the zone, and says where to listen. Deliberately not here: Kubernetes'
//! own types, watches, and who puts the addresses on a link (netd).

mod addresses;
mod book;
mod cache;
mod counters;
mod journal;
mod message;
pub mod pods;
mod ready;
pub mod resolv_conf;
mod resolve;
mod server;
mod service;
mod trace;
mod upstream;
pub mod zone;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hickory_proto::rr::Name;
use hickory_server::net::xfer::Protocol;
use ipnet::IpNet;
use tokio::sync::watch;

use book::Book;
use ready::Ready;
use resolve::Resolver;
use server::{Handled, Server};
use zone::Zone;

pub use hickory_proto::rr::{Name as DomainName, RecordType};
pub use service::service;

/// A running name server; cheap to clone.
#[derive(Clone)]
pub struct Dns {
    server: Arc<Server>,
    book: Arc<Book>,
    listen: Arc<watch::Sender<Vec<SocketAddr>>>,
    node: Arc<str>,
}

impl std::fmt::Debug for Dns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dns").field("listen", &*self.listen.borrow()).finish_non_exhaustive()
    }
}

impl Dns {
    /// A name server of `domain` on a node; `ranges` are those of Services and Pods. It answers once
    /// it is told where to listen, and while its [`run`](Self::run) is polled.
    #[must_use]
    pub fn new(node: &str, domain: &Name, ranges: Vec<IpNet>) -> Self {
        let book = Arc::new(Book::new(Zone::new(domain, ranges)));
        let server = Server::new(Resolver::new(book.clone()));
        let (listen, _) = watch::channel(Vec::new());
        Self { server, book, listen: Arc::new(listen), node: node.into() }
    }

    /// Serves for ever. Dropping it closes all sockets.
    pub async fn run(&self) {
        server::listen::follow(self.server.clone(), self.listen.subscribe()).await;
    }

    /// Changes the zone; `change` says whether it did. What was changed is answered from then on.
    pub fn change(&self, change: impl FnOnce(&mut Zone) -> bool) {
        self.book.change(change);
    }

    /// Answers at these addresses, and at no others.
    pub fn listen(&self, addrs: Vec<SocketAddr>) {
        let servers: Vec<IpAddr> = addrs.iter().map(SocketAddr::ip).collect();
        self.server.resolver.surround(|of| of.servers.clone_from(&servers));
        self.listen.send_if_modified(|now| {
            let changed = *now != addrs;
            *now = addrs;
            changed
        });
        self.book.change(|zone| zone.set_servers(servers));
    }

    /// Where it answers.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listen.borrow().clone()
    }

    /// Is that one of the addresses at which it answers? IPv4 within IPv6 is IPv4.
    #[must_use]
    pub fn answers_at(&self, addr: SocketAddr) -> bool {
        self.server.resolver.upstreams.is_own(addr)
    }

    /// These may ask; everybody else is refused, except on loopback.
    pub fn admit(&self, clients: Vec<IpNet>) {
        self.server.admit(clients);
    }

    /// These servers are asked for names outside the cluster, but for those that are this very
    /// server, from now on or later.
    pub fn forward_to(&self, servers: &[SocketAddr]) {
        self.server.resolver.upstreams.set(servers);
    }

    /// The node's own search path, which stands in Pods' files after the cluster's domains.
    pub fn search(&self, domains: Vec<String>) {
        self.server.resolver.surround(|of| of.searches = domains);
    }

    /// What a datagram is answered with at once; nothing if it gets no answer, or takes a while.
    #[must_use]
    pub fn answer(&self, packet: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
        let (mut ready, mut answer) = (Ready::default(), Vec::new());
        match self.server.handle(packet, from, Protocol::Udp, &mut ready, &mut answer) {
            Handled::Answered => Some(answer),
            Handled::Ignored | Handled::Later(_) => None,
        }
    }

    /// The counters in Prometheus' text format.
    #[must_use]
    pub fn metrics(&self) -> String {
        let upstreams = &self.server.resolver.upstreams;
        let [asked, failed] =
            [&upstreams.asked, &upstreams.failed].map(|count| count.load(Ordering::Relaxed));
        self.server.counters.render(asked, failed)
    }
}

/// What a fuzzer may call of what is nobody else's to call.
#[cfg(feature = "fuzz")]
pub mod fuzz {
    /// Takes what another server said.
    pub fn heard(message: &[u8]) {
        crate::upstream::fuzz(message);
    }
}
