//! The IPVS engine's state: virtual servers, the addresses they live on, and the nftables table
//! beside them.
//!
//! IPVS balances and translates. It can't refuse, masquerade, or give clients outside the cluster
//! other backends than those inside: the table does (the frontends in question are translated by
//! nftables before IPVS sees them). A virtual address must be the node's own for IPVS to see its
//! packets, which is why the table closes every port of it that is not served.
//!
//! What goes, drains: its destinations get weight 0, take no new connections and keep the old, and
//! their address stays, until the last connection has ended. So connections outlive a Service, and
//! the engine itself, as they do with nftables.

pub mod plan;
pub mod repairs;
pub mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

pub use plan::{Op, apply, phases, plan, sweep};
pub use walk::walk;

use crate::address::{Backend, Frontend};
use crate::dataplane::Dataplane;
use crate::nft;
use crate::nft::ruleset::{Engine, Layout};
use crate::service::{Pool, VirtualService};

/// Round robin: what Kubernetes takes where nothing else is asked for.
pub const DEFAULT_SCHEDULER: &str = "rr";

/// The schedulers that a Service may ask for.
pub const SCHEDULERS: [&str; 9] = ["rr", "wrr", "lc", "wlc", "sh", "dh", "sed", "nq", "mh"];

/// The share of each backend: Kubernetes knows no weights.
const WEIGHT: u32 = 1;

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

/// What IPVS and the link of virtual addresses hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Programmed {
    /// The virtual servers.
    pub servers: Servers,
    /// The addresses on the link of virtual addresses.
    pub addresses: BTreeSet<IpAddr>,
}

impl Programmed {
    /// The addresses that are bound only because connections to them have not ended.
    #[must_use]
    pub fn draining(&self, plane: &Dataplane) -> BTreeSet<IpAddr> {
        self.addresses.iter().filter(|addr| !plane.is_claimed(**addr)).copied().collect()
    }

    /// Of some addresses, those that will be bound only because of that after some changes.
    #[must_use]
    pub fn draining_after(
        &self,
        ops: &[Op],
        addresses: impl IntoIterator<Item = IpAddr>,
        plane: &Dataplane,
    ) -> BTreeSet<IpAddr> {
        let released: BTreeSet<IpAddr> = ops
            .iter()
            .filter_map(|op| if let Op::Release(addr) = op { Some(*addr) } else { None })
            .collect();
        let stays = |addr: &IpAddr| self.addresses.contains(addr) && !released.contains(addr);
        addresses.into_iter().filter(|addr| stays(addr) && !plane.is_claimed(*addr)).collect()
    }

    /// The servers that take new connections.
    pub fn taking(&self) -> impl Iterator<Item = Frontend> {
        let takes = |server: &Server| server.destinations.values().any(|weight| *weight > 0);
        self.servers.iter().filter(move |(_, server)| takes(server)).map(|(frontend, _)| *frontend)
    }

    /// The destinations that only wait for their connections to end.
    pub fn retired(&self) -> impl Iterator<Item = (Frontend, Backend)> {
        self.servers.iter().flat_map(|(frontend, server)| {
            let retired = server.destinations.iter().filter(|(_, weight)| **weight == 0);
            retired.map(|(backend, _)| (*frontend, *backend))
        })
    }
}

/// All that the engine puts into the kernel when nothing drains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The virtual servers.
    pub servers: Servers,
    /// The addresses on the link of virtual addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// The table beside them.
    pub table: nft::State,
}

impl State {
    /// What a data plane needs.
    #[must_use]
    pub fn desired(layout: &Layout, plane: &Dataplane) -> Self {
        debug_assert_eq!(layout.engine, Engine::Ipvs, "the table beside IPVS is another one");
        let servers = plane.iter().filter_map(|(f, s)| Some((*f, server(layout, f, s)?))).collect();
        let balanced = plane.iter().filter(|(_, s)| !matches!(s.pool, Pool::Node(_)));
        let addresses =
            balanced.map(|(f, _)| f.addr).filter(|addr| layout.is_virtual(*addr)).collect();
        Self { servers, addresses, table: nft::State::desired(layout, plane, &BTreeSet::new()) }
    }
}

/// The virtual server of a frontend; none where nobody answers, because the table refuses there,
/// nor where the table translates.
#[must_use]
pub fn server(layout: &Layout, frontend: &Frontend, service: &VirtualService) -> Option<Server> {
    let backends = service.pool.backends();
    (!backends.is_empty() && !layout.translates(frontend.addr)).then(|| Server {
        scheduler: layout.schedulers.choose(service.scheduler.as_ref()),
        persistence_seconds: service.affinity_seconds,
        destinations: backends.iter().map(|b| (*b, WEIGHT)).collect(),
    })
}

/// Which schedulers there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedulers {
    /// That of Services that ask for none.
    pub default: Option<Arc<str>>,
    /// Those that the kernel turned out not to have.
    pub missing: BTreeSet<Arc<str>>,
}

impl Schedulers {
    /// The scheduler that a Service gets: what it asks for, where that can be had.
    #[must_use]
    pub fn choose(&self, wanted: Option<&Arc<str>>) -> Arc<str> {
        let has =
            |name: &&Arc<str>| SCHEDULERS.contains(&&***name) && !self.missing.contains(*name);
        let chosen = wanted.filter(has).or_else(|| self.default.as_ref().filter(has));
        chosen.cloned().unwrap_or_else(|| DEFAULT_SCHEDULER.into())
    }
}

/// Is a virtual server that the kernel has one of ours? By its address, which is on our link
/// (`bound`), or by being a node port at an address of this node (`own`); anything else belongs to
/// somebody else.
#[must_use]
pub fn is_ours(
    frontend: &Frontend,
    bound: &BTreeSet<IpAddr>,
    own: &BTreeSet<IpAddr>,
    node_ports: &RangeInclusive<u16>,
    plane: &Dataplane,
) -> bool {
    bound.contains(&frontend.addr)
        || (own.contains(&frontend.addr) && node_ports.contains(&frontend.port))
        || plane.get(frontend).is_some()
}
