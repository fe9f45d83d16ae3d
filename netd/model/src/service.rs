//! One Service and its slices become virtual services: which frontends it has, and which backends
//! answer at each of them.
//!
//! Pure. The choice of endpoints follows Kubernetes (`pkg/proxy/topology.go`,
//! `CategorizeEndpoints`): ready endpoints, else those that still serve while terminating;
//! topology hints only when every ready endpoint carries one; a traffic policy of Local keeps the
//! endpoints of this node, and drops where there is none here but some elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::address::{Backend, Family, Frontend, Protocol};
use crate::snapshot::{Endpoint, EndpointSlice, Service, ServiceName, ServicePort, Snapshot};

/// Why a frontend exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `spec.clusterIPs`.
    ClusterIp,
    /// `status.loadBalancer.ingress`.
    LoadBalancer,
    /// `spec.externalIPs`.
    ExternalIp,
    /// An address of this node.
    NodePort,
}

/// The Service port that a frontend belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// The Service.
    pub service: ServiceName,
    /// The port's name; empty for a single unnamed port.
    pub port: Arc<str>,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.service)?;
        if self.port.is_empty() { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// Who answers, or how it is said that nobody does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pool {
    /// These backends, sorted, never empty.
    Backends(Arc<[Backend]>),
    /// The Service has no endpoint anywhere: refuse at once.
    Refuse,
    /// The policy is Local and no endpoint is here: drop, so that a load balancer looks elsewhere.
    Drop,
}

impl Pool {
    /// The backends; empty when nobody answers.
    #[must_use]
    pub fn backends(&self) -> &[Backend] {
        match self {
            Self::Backends(list) => list,
            Self::Refuse | Self::Drop => &[],
        }
    }
}

/// What happens at one frontend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualService {
    /// The Service port it belongs to.
    pub owner: Owner,
    /// Why it exists.
    pub kind: Kind,
    /// Who answers.
    pub pool: Pool,
    /// Who answers clients outside the cluster, where that differs (`externalTrafficPolicy: Local`).
    pub outside: Option<Pool>,
    /// Seconds for which a client keeps its backend.
    pub affinity_seconds: Option<u32>,
    /// IPVS scheduler asked for.
    pub scheduler: Option<Arc<str>>,
    /// The only clients admitted; empty admits all.
    pub source_ranges: Vec<IpNet>,
    /// Backends that run on this node: they need care when they call themselves.
    pub local: BTreeSet<IpAddr>,
}

/// All frontends of one Service on this node. A frontend that the Service names twice (an external
/// address that is also a node's, say) counts once, by the kind that comes first.
#[must_use]
pub fn virtual_services(
    snapshot: &Snapshot,
    name: &ServiceName,
) -> BTreeMap<Frontend, VirtualService> {
    let mut out = BTreeMap::new();
    let Some(service) = snapshot.services.get(name) else { return out };
    for port in &service.ports {
        for family in Family::ALL {
            if !has_family(service, family) {
                continue;
            }
            let reachable = Endpoints::of(snapshot, name, port, family);
            for (addr, kind, number) in frontends(snapshot, service, port, family) {
                let frontend = Frontend { addr, protocol: port.protocol, port: number };
                out.entry(frontend)
                    .or_insert_with(|| virtual_service(name, service, port, kind, &reachable));
            }
        }
    }
    out
}

fn has_family(service: &Service, family: Family) -> bool {
    // A Service of one family gets no node port of the other: its slices have no such addresses.
    service.cluster_ips.iter().any(|a| Family::of(*a) == family)
}

fn frontends(
    snapshot: &Snapshot,
    service: &Service,
    port: &ServicePort,
    family: Family,
) -> Vec<(IpAddr, Kind, u16)> {
    let at_port = |list: &[IpAddr], kind| -> Vec<(IpAddr, Kind, u16)> {
        list.iter()
            .filter(|addr| Family::of(**addr) == family)
            .map(|addr| (*addr, kind, port.port))
            .collect()
    };
    let mut out = at_port(&service.cluster_ips, Kind::ClusterIp);
    out.extend(at_port(&service.load_balancer_ips, Kind::LoadBalancer));
    out.extend(at_port(&service.external_ips, Kind::ExternalIp));
    let node_addresses = snapshot.this_node().map_or(&[][..], |node| &node.addresses);
    if let Some(node_port) = port.node_port {
        out.extend(
            node_addresses
                .iter()
                .filter(|addr| Family::of(**addr) == family && !addr.is_loopback())
                .map(|addr| (*addr, Kind::NodePort, node_port)),
        );
    }
    out
}

fn virtual_service(
    name: &ServiceName,
    service: &Service,
    port: &ServicePort,
    kind: Kind,
    endpoints: &Endpoints,
) -> VirtualService {
    let external = kind != Kind::ClusterIp;
    let pool = if !external && service.internal_local {
        endpoints.local_pool()
    } else {
        endpoints.cluster_pool()
    };
    VirtualService {
        owner: Owner { service: name.clone(), port: port.name.clone() },
        kind,
        outside: (external && service.external_local)
            .then(|| endpoints.local_pool())
            .filter(|outside| *outside != pool),
        local: endpoints.on_this_node.clone(),
        pool,
        affinity_seconds: service.affinity_seconds,
        scheduler: service.scheduler.clone(),
        // Node ports are closed by the ranges, too: Kubernetes leaves them open, which makes the
        // field useless as a firewall wherever nodes can be reached.
        source_ranges: if external { service.source_ranges.clone() } else { Vec::new() },
    }
}

/// The usable endpoints of one Service port in one family.
struct Endpoints {
    cluster: Vec<Backend>,
    local: Vec<Backend>,
    on_this_node: BTreeSet<IpAddr>,
}

impl Endpoints {
    fn of(snapshot: &Snapshot, name: &ServiceName, port: &ServicePort, family: Family) -> Self {
        let this_node = &*snapshot.settings.node_name;
        let all: Vec<(&Endpoint, Backend)> = snapshot
            .slices
            .get(name)
            .into_iter()
            .flat_map(|slices| slices.values())
            .filter(|slice| slice.family == family)
            .flat_map(|slice| offered(slice, port.name.as_ref(), port.protocol))
            .collect();
        let is_here = |e: &Endpoint| e.node.as_deref() == Some(this_node);
        let ready: Vec<(&Endpoint, Backend)> =
            all.iter().filter(|(e, _)| e.ready).copied().collect();
        let cluster = match preferred(snapshot, &ready) {
            list if !list.is_empty() => list,
            _ => terminating(&all),
        };
        let here: Vec<_> = all.iter().filter(|(e, _)| is_here(e)).copied().collect();
        let local = match here.iter().filter(|(e, _)| e.ready).map(|(_, b)| *b).collect::<Vec<_>>()
        {
            list if !list.is_empty() => list,
            _ => terminating(&here),
        };
        Self {
            on_this_node: here.iter().map(|(_, b)| b.addr).collect(),
            cluster: sorted(cluster),
            local: sorted(local),
        }
    }

    fn cluster_pool(&self) -> Pool {
        if self.cluster.is_empty() {
            Pool::Refuse
        } else {
            Pool::Backends(self.cluster.as_slice().into())
        }
    }

    fn local_pool(&self) -> Pool {
        match (self.local.is_empty(), self.cluster.is_empty()) {
            (false, _) => Pool::Backends(self.local.as_slice().into()),
            (true, false) => Pool::Drop,
            (true, true) => Pool::Refuse,
        }
    }
}

fn offered<'a>(
    slice: &'a EndpointSlice,
    port_name: &'a str,
    protocol: Protocol,
) -> impl Iterator<Item = (&'a Endpoint, Backend)> {
    let port = slice.ports.iter().find(|p| *p.name == *port_name && p.protocol == protocol);
    port.into_iter().flat_map(move |port| {
        slice.endpoints.iter().filter_map(move |endpoint| {
            // All addresses of an endpoint are fungible: upstream uses the first, and so do we.
            let addr = *endpoint.addresses.first()?;
            Some((endpoint, Backend { addr, port: port.port }))
        })
    })
}

fn terminating(endpoints: &[(&Endpoint, Backend)]) -> Vec<Backend> {
    endpoints.iter().filter(|(e, _)| e.serving && e.terminating).map(|(_, b)| *b).collect()
}

/// Ready endpoints after topology hints: those for this node, else those for its zone, else all.
fn preferred(snapshot: &Snapshot, ready: &[(&Endpoint, Backend)]) -> Vec<Backend> {
    let node = &*snapshot.settings.node_name;
    let zone = snapshot.this_node().and_then(|n| n.zone.as_deref());
    let hinted = |has_hint: &dyn Fn(&Endpoint) -> bool, is_ours: &dyn Fn(&Endpoint) -> bool| {
        let ours: Vec<Backend> =
            ready.iter().filter(|(e, _)| is_ours(e)).map(|(_, b)| *b).collect();
        (ready.iter().all(|(e, _)| has_hint(e)) && !ours.is_empty()).then_some(ours)
    };
    hinted(&|e| !e.for_nodes.is_empty(), &|e| e.for_nodes.iter().any(|n| **n == *node))
        .or_else(|| {
            hinted(&|e| !e.for_zones.is_empty(), &|e| {
                e.for_zones.iter().any(|z| Some(&**z) == zone)
            })
        })
        .unwrap_or_else(|| ready.iter().map(|(_, b)| *b).collect())
}

fn sorted(mut list: Vec<Backend>) -> Vec<Backend> {
    list.sort_unstable();
    list.dedup();
    list
}
