//! Node ports on the loopback addresses: `localhost:30080` on the node itself.
//!
//! The kernel does not translate packets to 127.0.0.1 unless `route_localnet` opens the loopback
//! network to everybody, so netd listens there and passes on to the node's own address at the same
//! port, where the kernel's data plane decides everything. A [`Door`] is open as long as its
//! frontend has backends, so that a Service without endpoints is refused here, too. Invariants:
//! nothing but loopback is ever listened on; SCTP, which few kernels have sockets for, stays out; a
//! port that somebody else holds is told and tried again, and the others open; TCP connections
//! outlive their door, as they do in the kernel.
//!
//! Cost: two descriptors (one of each family) and two sleeping tasks for each port, a few kilobytes
//! of the kernel's memory; buffers only while data flows.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use netmodel::address::{Family, Frontend, Protocol};
use netmodel::dataplane::Dataplane;
use netmodel::service::{Kind, Pool};
use netmodel::snapshot::{Node, ServiceName};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;

mod tcp;
mod udp;

/// Connections and sessions that are relayed at a time, over all ports.
const MOST: usize = 4096;

/// One port on one loopback address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Door {
    pub(crate) protocol: Protocol,
    /// Where it leads: the node's first address of the family, and the node port.
    pub(crate) target: SocketAddr,
}

impl Door {
    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        let loopback: IpAddr = match self.target {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        SocketAddr::new(loopback, self.target.port())
    }
}

/// The doors that a data plane asks for, and whose they are.
pub(crate) fn wanted(plane: &Dataplane, node: Option<&Node>) -> BTreeMap<Door, ServiceName> {
    let addresses = node.map_or(&[][..], |node| &node.addresses);
    let first = |family| addresses.iter().find(|addr| Family::of(**addr) == family);
    let frontends = Family::ALL.into_iter().filter_map(first).flat_map(|a| plane.frontends_at(*a));
    frontends.filter_map(|frontend| door(plane, frontend)).collect()
}

fn door(plane: &Dataplane, frontend: Frontend) -> Option<(Door, ServiceName)> {
    let service = plane.get(&frontend)?;
    let leads_somewhere = service.kind == Kind::NodePort
        && frontend.protocol != Protocol::Sctp
        && matches!(service.pool, Pool::Backends(_));
    let target = SocketAddr::new(frontend.addr, frontend.port);
    let door = Door { protocol: frontend.protocol, target };
    leads_somewhere.then(|| (door, service.owner.service.clone()))
}

/// The open doors.
#[derive(Debug)]
pub(crate) struct Relay {
    open: BTreeMap<Door, AbortOnDropHandle<()>>,
    slots: Arc<Semaphore>,
    /// Ends all that is relayed when the relay goes.
    running: CancellationToken,
    _end: DropGuard,
}

impl Relay {
    pub(crate) fn new() -> Self {
        allow_many_descriptors();
        let running = CancellationToken::new();
        Self {
            open: BTreeMap::new(),
            slots: Arc::new(Semaphore::new(MOST)),
            _end: running.clone().drop_guard(),
            running,
        }
    }

    /// Opens and closes; returns those that could not be opened. Runs inside tokio.
    pub(crate) fn follow(
        &mut self,
        wanted: &BTreeMap<Door, ServiceName>,
    ) -> Vec<(ServiceName, Door, io::Error)> {
        // The node's address may have changed: a door must close before its place is free.
        self.open.retain(|door, _| wanted.contains_key(door));
        let mut failed = Vec::new();
        for (door, owner) in wanted {
            if self.open.contains_key(door) {
                continue;
            }
            match self.listen(*door) {
                Ok(serving) => drop(self.open.insert(*door, serving)),
                Err(error) => failed.push((owner.clone(), *door, error)),
            }
        }
        failed
    }

    fn listen(&self, door: Door) -> io::Result<AbortOnDropHandle<()>> {
        let (slots, running) = (self.slots.clone(), self.running.clone());
        Ok(AbortOnDropHandle::new(match door.protocol {
            Protocol::Udp => {
                let socket = std::net::UdpSocket::bind(door.address())?;
                socket.set_nonblocking(true)?;
                let socket = UdpSocket::from_std(socket)?;
                tokio::spawn(udp::serve(socket, door.target, slots))
            }
            _ => {
                // Sets SO_REUSEADDR, so that old connections do not keep a door shut.
                let listener = std::net::TcpListener::bind(door.address())?;
                listener.set_nonblocking(true)?;
                let listener = TcpListener::from_std(listener)?;
                tokio::spawn(tcp::serve(listener, door.target, slots, running))
            }
        }))
    }
}

/// The usual limit of 1024 is there for programs that use `select`.
fn allow_many_descriptors() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "raise the limit of open files");
    }
}

#[cfg(test)]
mod tests;
