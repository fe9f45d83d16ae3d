//! From the virtual servers and addresses as they are to those that should be.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::address::{Backend, Frontend, Protocol};
use crate::dataplane::{Dataplane, Touched};
use crate::ipvs::{Programmed, Server, server};
use crate::nft;
use crate::nft::ruleset::{Engine, Layout};
use crate::service::Pool;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Bind a virtual address.
    Bind(IpAddr),
    /// Release a virtual address.
    Release(IpAddr),
    /// Add a virtual server without destinations.
    AddServer(Frontend, Server),
    /// Change scheduler or persistence.
    SetServer(Frontend, Server),
    /// Delete a virtual server with its destinations.
    DeleteServer(Frontend),
    /// Add a destination.
    AddDestination(Frontend, Backend, u32),
    /// Change a destination's weight.
    SetDestination(Frontend, Backend, u32),
    /// Delete a destination.
    DeleteDestination(Frontend, Backend),
}

impl Op {
    /// The frontend it is about.
    #[must_use]
    pub fn frontend(&self) -> Option<Frontend> {
        match self {
            Self::Bind(_) | Self::Release(_) => None,
            Self::AddServer(f, _)
            | Self::SetServer(f, _)
            | Self::DeleteServer(f)
            | Self::AddDestination(f, ..)
            | Self::SetDestination(f, ..)
            | Self::DeleteDestination(f, _) => Some(*f),
        }
    }
}

/// The changes that bring what is programmed to what the plane needs: everything, or only what a
/// change of the plane may have touched. With nftables as the engine nothing is needed, and what
/// there is drains.
///
/// An address is bound after its servers are there, and released before they go.
#[must_use]
pub fn plan(
    layout: &Layout,
    plane: &Dataplane,
    have: &Programmed,
    scope: Option<&Touched>,
) -> Vec<Op> {
    let frontends: BTreeSet<Frontend> = match scope {
        Some(touched) => touched.frontends.clone(),
        None => plane.iter().map(|(f, _)| *f).chain(have.servers.keys().copied()).collect(),
    };
    let mut servers = Vec::new();
    for frontend in &frontends {
        let want = wanted(layout, plane, frontend);
        diff_server(&mut servers, plane, *frontend, have.servers.get(frontend), want);
    }
    let mut addresses: BTreeSet<IpAddr> = frontends.iter().map(|f| f.addr).collect();
    if scope.is_none() {
        addresses.extend(&have.addresses);
    }
    let (mut ops, bound) = address_ops(layout, plane, have, &servers, &addresses);
    ops.extend(servers);
    ops.extend(bound);
    ops
}

fn wanted(layout: &Layout, plane: &Dataplane, frontend: &Frontend) -> Option<Server> {
    match layout.engine {
        Engine::Ipvs => server(layout, frontend, plane.get(frontend)?),
        Engine::Nftables => None,
    }
}

/// Releases and binds. An address stays as long as a server is left at it: without the address,
/// IPVS would not see the packets of its open connections. Unless it has become a node's: its own
/// this node has by another link, and another's would keep all that is sent to that node here.
fn address_ops(
    layout: &Layout,
    plane: &Dataplane,
    have: &Programmed,
    server_ops: &[Op],
    addresses: &BTreeSet<IpAddr>,
) -> (Vec<Op>, Vec<Op>) {
    let gone: BTreeSet<Frontend> = server_ops
        .iter()
        .filter_map(|op| if let Op::DeleteServer(f) = op { Some(*f) } else { None })
        .collect();
    let (mut releases, mut binds) = (Vec::new(), Vec::new());
    for addr in addresses {
        let is_balanced =
            layout.engine == Engine::Ipvs && layout.is_virtual(*addr) && plane.is_balanced(*addr);
        let bound = have.addresses.contains(addr);
        let mut left =
            have.servers.range(Frontend::all_of(*addr)).filter(|(f, _)| !gone.contains(f));
        match (bound, is_balanced) {
            (false, true) => binds.push(Op::Bind(*addr)),
            (true, false) if !layout.is_virtual(*addr) || left.next().is_none() => {
                releases.push(Op::Release(*addr));
            }
            _ => {}
        }
    }
    (releases, binds)
}

fn diff_server(
    ops: &mut Vec<Op>,
    plane: &Dataplane,
    frontend: Frontend,
    have: Option<&Server>,
    want: Option<Server>,
) {
    let retired = |backend: &&Backend| {
        want.as_ref().is_none_or(|want| !want.destinations.contains_key(*backend))
    };
    let drains = |backend: &Backend| drains(plane, &frontend, backend);
    if let (Some(have), None) = (have, &want)
        && !have.destinations.keys().any(drains)
    {
        return ops.push(Op::DeleteServer(frontend));
    }
    for backend in have.iter().flat_map(|have| have.destinations.keys()).filter(retired) {
        if !drains(backend) {
            ops.push(Op::DeleteDestination(frontend, *backend));
        } else if have.is_some_and(|have| have.destinations[backend] != 0) {
            ops.push(Op::SetDestination(frontend, *backend, 0));
        }
    }
    let Some(want) = want else { return };
    let kind = |server: &Server| (server.scheduler.clone(), server.persistence_seconds);
    match have {
        None => ops.push(Op::AddServer(frontend, want.clone())),
        Some(have) if kind(have) != kind(&want) => ops.push(Op::SetServer(frontend, want.clone())),
        Some(_) => {}
    }
    for (backend, weight) in &want.destinations {
        match have.and_then(|s| s.destinations.get(backend)) {
            None => ops.push(Op::AddDestination(frontend, *backend, *weight)),
            Some(old) if old != weight => {
                ops.push(Op::SetDestination(frontend, *backend, *weight));
            }
            Some(_) => {}
        }
    }
}

/// May a destination that is not wanted keep its connections? UDP has no end to wait for: a client
/// that keeps sending would keep it for ever, so only while the backend still serves there. Where a
/// process of the node answers from now on, a server that only drains would refuse everybody new.
fn drains(plane: &Dataplane, frontend: &Frontend, backend: &Backend) -> bool {
    let by_node = plane.get(frontend).is_some_and(|s| matches!(s.pool, Pool::Node(_)));
    !by_node && (frontend.protocol != Protocol::Udp || plane.serves(frontend, backend))
}

/// The retired destinations (weight 0) that may go, of those that no connection is bound to; the
/// servers that nothing is left of; and the addresses that were kept for them.
#[must_use]
pub fn sweep(
    layout: &Layout,
    plane: &Dataplane,
    have: &Programmed,
    idle: &BTreeSet<(Frontend, Backend)>,
) -> Vec<Op> {
    let mut ops = Vec::new();
    let places: BTreeSet<Frontend> = idle.iter().map(|(frontend, _)| *frontend).collect();
    for frontend in &places {
        let Some(server) = have.servers.get(frontend) else { continue };
        let want = wanted(layout, plane, frontend);
        let going: Vec<Backend> = server
            .destinations
            .iter()
            .filter(|(backend, weight)| **weight == 0 && idle.contains(&(*frontend, **backend)))
            .filter(|(b, _)| want.as_ref().is_none_or(|want| !want.destinations.contains_key(b)))
            .map(|(backend, _)| *backend)
            .collect();
        if want.is_none() && going.len() == server.destinations.len() {
            ops.push(Op::DeleteServer(*frontend));
        } else {
            ops.extend(going.into_iter().map(|b| Op::DeleteDestination(*frontend, b)));
        }
    }
    let addresses = places.iter().map(|f| f.addr).collect();
    let (mut releases, _) = address_ops(layout, plane, have, &ops, &addresses);
    releases.append(&mut ops);
    releases
}

/// The changes of the table to make before those of the servers, and those to make after.
///
/// A virtual address is the node's own, so a packet that the table lets through and IPVS does not
/// know reaches whatever the node itself listens on. So a frontend counts as served only while
/// its server is there, and an address as virtual, or as draining, from before it is bound until
/// after it is released.
#[must_use]
pub fn phases(table_ops: Vec<nft::Op>) -> (Vec<nft::Op>, Vec<nft::Op>) {
    let closes =
        |key: &nft::Key| matches!(key.container, nft::Container::Vips | nft::Container::Draining);
    table_ops.into_iter().partition(|op| match op {
        nft::Op::Replace | nft::Op::AddChain(_) => true,
        nft::Op::Delete(key, _) => !closes(key),
        nft::Op::Add(key, _) => closes(key),
    })
}

/// What is programmed after a plan that the kernel accepted.
pub fn apply(have: &mut Programmed, ops: &[Op]) {
    for op in ops {
        match op {
            Op::Bind(addr) => {
                have.addresses.insert(*addr);
            }
            Op::Release(addr) => {
                have.addresses.remove(addr);
            }
            Op::AddServer(frontend, server) => {
                let empty = Server { destinations: Default::default(), ..server.clone() };
                have.servers.insert(*frontend, empty);
            }
            Op::SetServer(frontend, server) => {
                if let Some(have) = have.servers.get_mut(frontend) {
                    have.scheduler = server.scheduler.clone();
                    have.persistence_seconds = server.persistence_seconds;
                }
            }
            Op::DeleteServer(frontend) => {
                have.servers.remove(frontend);
            }
            Op::AddDestination(f, backend, weight) | Op::SetDestination(f, backend, weight) => {
                if let Some(server) = have.servers.get_mut(f) {
                    server.destinations.insert(*backend, *weight);
                }
            }
            Op::DeleteDestination(frontend, backend) => {
                if let Some(server) = have.servers.get_mut(frontend) {
                    server.destinations.remove(backend);
                }
            }
        }
    }
}
