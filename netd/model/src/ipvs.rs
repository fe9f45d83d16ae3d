//! The IPVS engine's state: virtual servers, the addresses they live on, and the nftables table
//! beside them.
//!
//! IPVS balances and translates. It can't refuse, masquerade, or give clients outside the cluster
//! other backends than those inside: the table does (the frontends in question are translated by
//! nftables before IPVS sees them). A virtual address must be the node's own for IPVS to see its
//! packets, which is why the table closes every port of it that is not served.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::address::{Backend, Frontend, Protocol};
use crate::dataplane::{Dataplane, Touched};
use crate::nft;
use crate::nft::ruleset::{Engine, Hook, Layout};
use crate::nft::walk::{Place, Traveller};
use crate::packet::{From, Outcome, Packet, Walk};
use crate::service::VirtualService;

/// Round robin: what Kubernetes takes where nothing else is asked for.
pub const DEFAULT_SCHEDULER: &str = "rr";

/// The schedulers that a Service may ask for.
pub const SCHEDULERS: [&str; 9] = ["rr", "wrr", "lc", "wlc", "sh", "dh", "sed", "nq", "mh"];

/// One virtual server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// How it chooses.
    pub scheduler: Arc<str>,
    /// Seconds for which a client keeps its destination.
    pub persistence_seconds: Option<u32>,
    /// Destinations and their weights; 0 takes no new connections and keeps the old.
    pub destinations: BTreeMap<Backend, u32>,
}

/// Virtual servers by frontend.
pub type Servers = BTreeMap<Frontend, Server>;

/// All that the engine puts into the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The virtual servers.
    pub servers: Servers,
    /// The addresses on the link of virtual addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// The table beside them.
    pub table: nft::State,
}

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

impl State {
    /// What a data plane needs.
    #[must_use]
    pub fn desired(layout: &Layout, plane: &Dataplane) -> Self {
        debug_assert_eq!(layout.engine, Engine::Ipvs, "the table beside IPVS is another one");
        let servers = plane.iter().filter_map(|(f, s)| Some((*f, server(layout, f, s)?))).collect();
        let addresses =
            plane.iter().map(|(f, _)| f.addr).filter(|addr| layout.is_virtual(*addr)).collect();
        Self { servers, addresses, table: nft::State::desired(layout, plane) }
    }
}

/// The virtual server of a frontend; none where nobody answers, because the table refuses there,
/// nor where the table translates.
fn server(layout: &Layout, frontend: &Frontend, service: &VirtualService) -> Option<Server> {
    let backends = service.pool.backends();
    (!backends.is_empty() && !layout.translates(frontend.addr)).then(|| Server {
        scheduler: match &service.scheduler {
            Some(wanted) if SCHEDULERS.contains(&&**wanted) => wanted.clone(),
            _ => DEFAULT_SCHEDULER.into(),
        },
        persistence_seconds: service.affinity_seconds,
        destinations: backends.iter().map(|b| (*b, 1)).collect(),
    })
}

/// The servers that a change of the plane may touch, as they should be.
#[must_use]
pub fn desired_of_touched(
    layout: &Layout,
    plane: &Dataplane,
    touched: &Touched,
) -> (Servers, BTreeSet<IpAddr>) {
    let servers = touched
        .frontends
        .iter()
        .filter_map(|f| Some((*f, server(layout, f, plane.get(f)?)?)))
        .collect();
    let addresses = touched
        .frontends
        .iter()
        .map(|f| f.addr)
        .filter(|addr| layout.is_virtual(*addr) && plane.is_claimed(*addr))
        .collect();
    (servers, addresses)
}

/// The parts of the observed servers and addresses that a change of the plane may touch.
#[must_use]
pub fn observed_of_touched(
    servers: &Servers,
    addresses: &BTreeSet<IpAddr>,
    touched: &Touched,
) -> (Servers, BTreeSet<IpAddr>) {
    let some =
        touched.frontends.iter().filter_map(|f| Some((*f, servers.get(f)?.clone()))).collect();
    let bound =
        touched.frontends.iter().map(|f| f.addr).filter(|addr| addresses.contains(addr)).collect();
    (some, bound)
}

/// Is a virtual server that the kernel has one of ours? By its address, which is on our link
/// (`bound`), or by being a node port; anything else belongs to somebody else.
#[must_use]
pub fn is_ours(
    frontend: &Frontend,
    bound: &BTreeSet<IpAddr>,
    node_ports: &RangeInclusive<u16>,
    plane: &Dataplane,
) -> bool {
    bound.contains(&frontend.addr)
        || node_ports.contains(&frontend.port)
        || plane.get(frontend).is_some()
}

/// The changes of the table to make before those of the servers, and those to make after.
///
/// A virtual address is the node's own, so a packet that the table lets through and IPVS does not
/// know reaches whatever the node itself listens on. So a frontend counts as served only while
/// its server is there, and a virtual address as virtual from before it is bound until after it is
/// released.
#[must_use]
pub fn phases(table_ops: Vec<nft::Op>) -> (Vec<nft::Op>, Vec<nft::Op>) {
    table_ops.into_iter().partition(|op| match op {
        nft::Op::Replace | nft::Op::AddChain(_) => true,
        nft::Op::Delete(key, _) => key.container != nft::Container::Vips,
        nft::Op::Add(key, _) => key.container == nft::Container::Vips,
    })
}

/// The changes that turn observed servers and addresses into desired ones: an address is bound
/// after its servers are there, and released before they go.
///
/// Destinations that connections are bound to are not deleted: they get weight 0, take no new
/// connections, and stay until [`sweep`] finds them idle.
#[must_use]
pub fn diff(
    observed: (&Servers, &BTreeSet<IpAddr>),
    desired: (&Servers, &BTreeSet<IpAddr>),
) -> Vec<Op> {
    let mut ops: Vec<Op> = observed.1.difference(desired.1).copied().map(Op::Release).collect();
    for (frontend, want) in desired.0 {
        diff_server(&mut ops, *frontend, observed.0.get(frontend), want);
    }
    for (frontend, have) in observed.0.iter().filter(|(f, _)| !desired.0.contains_key(f)) {
        let address_goes =
            observed.1.contains(&frontend.addr) && !desired.1.contains(&frontend.addr);
        if address_goes || !drains(*frontend) {
            ops.push(Op::DeleteServer(*frontend));
        } else {
            have.destinations.keys().for_each(|b| retire(&mut ops, *frontend, *b, have));
        }
    }
    ops.extend(desired.1.difference(observed.1).copied().map(Op::Bind));
    ops
}

fn diff_server(ops: &mut Vec<Op>, frontend: Frontend, have: Option<&Server>, want: &Server) {
    let same_kind = |have: &Server| {
        (&have.scheduler, have.persistence_seconds) == (&want.scheduler, want.persistence_seconds)
    };
    match have {
        None => ops.push(Op::AddServer(frontend, want.clone())),
        Some(have) if !same_kind(have) => ops.push(Op::SetServer(frontend, want.clone())),
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
    let Some(have) = have else { return };
    for backend in have.destinations.keys().filter(|b| !want.destinations.contains_key(b)) {
        retire(ops, frontend, *backend, have);
    }
}

/// Do connections to this frontend end by themselves? UDP has no end to wait for.
fn drains(frontend: Frontend) -> bool {
    frontend.protocol != Protocol::Udp
}

fn retire(ops: &mut Vec<Op>, frontend: Frontend, backend: Backend, have: &Server) {
    if !drains(frontend) {
        ops.push(Op::DeleteDestination(frontend, backend));
    } else if have.destinations.get(&backend) != Some(&0) {
        ops.push(Op::SetDestination(frontend, backend, 0));
    }
}

/// The retired destinations (weight 0) that may go, of those that no connection is bound to, and
/// the servers that nothing is left of.
#[must_use]
pub fn sweep(
    observed: &Servers,
    idle: &BTreeSet<(Frontend, Backend)>,
    desired: &Servers,
) -> Vec<Op> {
    let mut ops = Vec::new();
    for (frontend, server) in observed {
        let goes = |(backend, weight): &(&Backend, &u32)| {
            **weight == 0 && idle.contains(&(*frontend, **backend))
        };
        let going: Vec<Backend> =
            server.destinations.iter().filter(goes).map(|(backend, _)| *backend).collect();
        if going.len() == server.destinations.len() && !desired.contains_key(frontend) {
            ops.push(Op::DeleteServer(*frontend));
        } else {
            let wanted = desired.get(frontend).map(|s| &s.destinations);
            let unwanted = going.iter().filter(|b| !wanted.is_some_and(|w| w.contains_key(b)));
            ops.extend(unwanted.map(|b| Op::DeleteDestination(*frontend, *b)));
        }
    }
    ops
}

/// What servers and addresses become by a plan that the kernel accepted.
pub fn apply(servers: &mut Servers, addresses: &mut BTreeSet<IpAddr>, ops: &[Op]) {
    for op in ops {
        match op {
            Op::Bind(addr) => {
                addresses.insert(*addr);
            }
            Op::Release(addr) => {
                addresses.remove(addr);
            }
            Op::AddServer(frontend, server) => {
                let empty = Server { destinations: BTreeMap::new(), ..server.clone() };
                servers.insert(*frontend, empty);
            }
            Op::SetServer(frontend, server) => {
                if let Some(have) = servers.get_mut(frontend) {
                    have.scheduler = server.scheduler.clone();
                    have.persistence_seconds = server.persistence_seconds;
                }
            }
            Op::DeleteServer(frontend) => {
                servers.remove(frontend);
            }
            Op::AddDestination(f, backend, weight) | Op::SetDestination(f, backend, weight) => {
                if let Some(server) = servers.get_mut(f) {
                    server.destinations.insert(*backend, *weight);
                }
            }
            Op::DeleteDestination(frontend, backend) => {
                if let Some(server) = servers.get_mut(frontend) {
                    server.destinations.remove(backend);
                }
            }
        }
    }
}

/// IPVS takes a node's own packets right after translation, before any filter
/// (`NF_IP_PRI_NAT_DST + 1` in `ip_vs_core.c`).
const OWN_PRIORITY: i32 = -99;

/// Walks a packet through IPVS and the table beside it.
#[must_use]
pub fn walk(state: &State, place: &Place, packet: Packet) -> Walk {
    let mut traveller = Traveller::new(&state.table, &place.bridge, packet);
    let outcome = journey(state, &mut traveller, place, packet);
    Walk { outcome, steps: traveller.steps }
}

fn journey(state: &State, t: &mut Traveller<'_>, place: &Place, packet: Packet) -> Outcome {
    let own = |addr: IpAddr| place.own_addresses.contains(&addr) || state.addresses.contains(&addr);
    let from_node = packet.from == From::Node;
    let before: Option<Outcome> = if from_node {
        t.hook_between(Hook::Output, i32::MIN, OWN_PRIORITY)
    } else {
        t.hook(Hook::Prerouting).or_else(|| match own(t.destination.addr) {
            true => t.hook(Hook::Input),
            false => t.hook(Hook::Forward),
        })
    };
    if let Some(end) = before {
        return end;
    }
    let was_own = own(t.destination.addr);
    let sees = from_node || was_own;
    let balanced = sees && balance(state, t, packet);
    if from_node {
        // What IPVS sends crosses output as a new packet, to its new destination.
        if let Some(end) = t.hook_between(Hook::Output, OWN_PRIORITY, i32::MAX) {
            return end;
        }
    }
    let arrives = own(t.destination.addr);
    let hooks: &[Hook] = match (from_node || balanced, arrives) {
        (true, true) => &[Hook::Postrouting, Hook::Input],
        (true, false) => &[Hook::Postrouting],
        (false, true) => &[],
        (false, false) => &[Hook::Postrouting],
    };
    for hook in hooks {
        if let Some(end) = t.hook(*hook) {
            return end;
        }
    }
    t.delivered()
}

/// Does IPVS know the frontend? Then it chooses and translates.
fn balance(state: &State, t: &mut Traveller<'_>, packet: Packet) -> bool {
    let Backend { addr, port } = t.destination;
    let frontend = Frontend { addr, port, protocol: packet.to.protocol };
    let Some(server) = state.servers.get(&frontend) else { return false };
    let open: Vec<Backend> =
        server.destinations.iter().filter(|(_, w)| **w > 0).map(|(b, _)| *b).collect();
    let Ok(count) = u32::try_from(open.len()) else { return false };
    if count == 0 {
        return false;
    }
    let chosen = open[(packet.random % count) as usize];
    t.note("ipvs", format!("{frontend} scheduler {}: {chosen}", server.scheduler));
    t.destination = chosen;
    true
}
