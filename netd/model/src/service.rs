//! One Service and its slices become virtual services: which frontends it has, and which backends
//! answer at each of them.
//!
//! Pure. The choice of endpoints follows Kubernetes (`pkg/proxy/topology.go`,
//! `CategorizeEndpoints`): ready endpoints, else those that still serve while terminating;
//! topology hints only when every ready endpoint carries one; a traffic policy of Local keeps the
//! endpoints of this node, and drops where there is none here but some elsewhere. What can't be
//! served is left out and named ([`Claims::problems`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::address::{Backend, Family, Frontend, Protocol};
use crate::handover::Spread;
use crate::ipvs::SCHEDULERS;
use crate::problem::{Cause, Problem, Purpose, Severity, Sort};
use crate::snapshot::{
    ByNode, Endpoint, EndpointSlice, Service, ServiceName, ServicePort, Snapshot,
};

mod spreading;

use spreading::Spreading;

/// Why a frontend exists. The order is that of rank: of two Services that claim one frontend, the
/// one to which the API gave it wins over one that somebody wrote it into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `spec.clusterIPs`.
    ClusterIp,
    /// An address of this node.
    NodePort,
    /// `status.loadBalancer.ingress`.
    LoadBalancer,
    /// `spec.externalIPs`.
    ExternalIp,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
            Self::ExternalIp => "ExternalIP",
        })
    }
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
    /// A process of this node, at the very address.
    Node(ByNode),
}

impl Pool {
    /// The backends; empty when nobody else answers.
    #[must_use]
    pub fn backends(&self) -> &[Backend] {
        match self {
            Self::Backends(list) => list,
            Self::Refuse | Self::Drop | Self::Node(_) => &[],
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
    /// Who answers clients outside the cluster, where that differs: with
    /// `externalTrafficPolicy: Local`, and where clients are spread over the nodes.
    pub outside: Option<Pool>,
    /// How clients outside the cluster are spread over the nodes; at load balancers' addresses.
    pub spread: Option<Arc<Spread>>,
    /// Seconds for which a client keeps its backend.
    pub affinity_seconds: Option<u32>,
    /// IPVS scheduler asked for.
    pub scheduler: Option<Arc<str>>,
    /// The only clients admitted; empty admits all.
    pub source_ranges: Vec<IpNet>,
    /// Backends that run on this node, sorted: they need care when they call themselves.
    pub local: Arc<[IpAddr]>,
}

/// What one Service asks of this node, and what of it can't be had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Its frontends. One that the Service names twice (an external address that is also a node's,
    /// say) counts once, by the kind that comes first.
    pub frontends: BTreeMap<Frontend, VirtualService>,
    /// What can't be honoured, sorted.
    pub problems: Vec<Problem>,
}

/// What every Service is judged by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) snapshot: &'a Snapshot,
    /// Where API servers listen: no place for other Services' packets.
    pub(crate) api_servers: &'a BTreeSet<Backend>,
    /// Protocols that this kernel can't translate.
    pub(crate) missing: &'a BTreeSet<Protocol>,
}

impl Rules<'_> {
    fn is_of_node(&self, addr: IpAddr) -> bool {
        self.snapshot.nodes.values().any(|node| node.addresses.contains(&addr))
    }
}

/// The Service by which pods find the API server.
fn is_api_service(name: &ServiceName) -> bool {
    (&*name.namespace, &*name.name) == ("default", "kubernetes")
}

/// Where API servers listen, as the slices of their own Service say.
pub(crate) fn api_servers(snapshot: &Snapshot) -> BTreeSet<Backend> {
    let Some(slices) = snapshot.slices.get(&ServiceName::new("default", "kubernetes")) else {
        return BTreeSet::new();
    };
    let of_slice = |slice: &Arc<EndpointSlice>| {
        let slice = slice.clone();
        let ports: Vec<u16> = slice.ports.iter().map(|p| p.port).collect();
        let addresses: Vec<IpAddr> =
            slice.endpoints.iter().flat_map(|e| e.addresses.iter().copied()).collect();
        addresses
            .into_iter()
            .flat_map(move |addr| ports.clone().into_iter().map(move |port| Backend { addr, port }))
    };
    slices.values().flat_map(of_slice).collect()
}

/// What one Service asks of this node.
#[must_use]
pub(crate) fn claims(rules: Rules<'_>, name: &ServiceName) -> Claims {
    let mut out = Claims::default();
    let Some(service) = rules.snapshot.services.get(name) else { return out };
    let mut problems = BTreeSet::new();
    let external = admitted_addresses(rules.snapshot, name, service, &mut problems);
    check_scheduler(rules.snapshot, name, service, &mut problems);
    for port in &service.ports {
        let owner = Owner { service: name.clone(), port: port.name.clone() };
        if rules.missing.contains(&port.protocol) {
            let cause = Cause::ProtocolMissing(port.protocol);
            problems.insert(Problem { owner, cause });
            continue;
        }
        for family in Family::ALL {
            if !has_family(service, family) {
                continue;
            }
            let endpoints = match service.by_node {
                Some(by_node) => Endpoints::replaced(by_node),
                None => Endpoints::of(rules, (name, service), port, family, &mut problems),
            };
            for (addr, kind, number) in frontends(rules.snapshot, service, &external, port, family)
            {
                let frontend = Frontend { addr, protocol: port.protocol, port: number };
                // A node's own address is that node's business.
                let is_spread = kind == Kind::LoadBalancer && !rules.is_of_node(addr);
                out.frontends.entry(frontend).or_insert_with(|| {
                    virtual_service(&owner, service, kind, is_spread, &endpoints)
                });
            }
        }
    }
    out.problems = problems.into_iter().collect();
    out
}

/// Addresses by which a Service can be reached besides its own, with why each is one.
type External = Vec<(IpAddr, Kind)>;

fn admitted_addresses(
    snapshot: &Snapshot,
    name: &ServiceName,
    service: &Service,
    problems: &mut BTreeSet<Problem>,
) -> External {
    let balancer = service.load_balancer_ips.iter().map(|addr| (*addr, Kind::LoadBalancer));
    let written = service.external_ips.iter().map(|addr| (*addr, Kind::ExternalIp));
    let mut out = External::new();
    for (addr, kind) in balancer.chain(written) {
        let cause = objection(snapshot, addr);
        if cause.as_ref().is_none_or(|cause| cause.severity() == Severity::Notice) {
            out.push((addr, kind));
        }
        let owner = Owner { service: name.clone(), port: "".into() };
        // Where there is no pool, the nodes' own addresses are the balancer's on purpose.
        let told = cause.filter(|cause| {
            !(kind == Kind::LoadBalancer && matches!(cause, Cause::NodeAddress { .. }))
        });
        problems.extend(told.map(|cause| Problem { owner, cause }));
    }
    out
}

/// What speaks against an address that somebody wrote by hand. A pod's address would be taken from
/// the pod, and a cluster address may be given to another Service at any time. A node's address is
/// served, as Kubernetes does.
fn objection(snapshot: &Snapshot, addr: IpAddr) -> Option<Cause> {
    let settings = &snapshot.settings;
    let in_range = |ranges: &[IpNet], purpose| {
        let range = *ranges.iter().find(|range| range.contains(&addr))?;
        Some(Cause::AddressInRange { addr, range, purpose })
    };
    let of_node = || {
        let (node, _) = snapshot.nodes.iter().find(|(_, node)| node.addresses.contains(&addr))?;
        Some(Cause::NodeAddress { addr, node: node.clone() })
    };
    Sort::of(addr)
        .map(|sort| Cause::SpecialAddress { addr, sort })
        .or_else(of_node)
        .or_else(|| in_range(&settings.cluster_cidrs, Purpose::Pods))
        .or_else(|| in_range(&settings.service_cidrs, Purpose::Services))
}

fn check_scheduler(
    snapshot: &Snapshot,
    name: &ServiceName,
    service: &Service,
    problems: &mut BTreeSet<Problem>,
) {
    if let Some(wanted) = service.scheduler.as_ref().filter(|s| !SCHEDULERS.contains(&&***s)) {
        let owner = Owner { service: name.clone(), port: "".into() };
        let used = snapshot.settings.default_scheduler.clone();
        problems.insert(Problem {
            owner,
            cause: Cause::UnknownScheduler { name: wanted.clone(), used },
        });
    }
}

fn has_family(service: &Service, family: Family) -> bool {
    // A Service of one family gets no node port of the other: its slices have no such addresses.
    service.cluster_ips.iter().any(|a| Family::of(*a) == family)
}

fn frontends(
    snapshot: &Snapshot,
    service: &Service,
    external: &External,
    port: &ServicePort,
    family: Family,
) -> Vec<(IpAddr, Kind, u16)> {
    let node_addresses = snapshot.this_node().map_or(&[][..], |node| &node.addresses);
    if service.by_node.is_some() {
        // Its process listens there, and nowhere else.
        let balancer = external.iter().filter(|(_, kind)| *kind == Kind::LoadBalancer).copied();
        let own = service.cluster_ips.iter().map(|addr| (*addr, Kind::ClusterIp));
        let all = own.chain(balancer).filter(|(addr, _)| Family::of(*addr) == family);
        return all.map(|(addr, kind)| (addr, kind, port.port)).collect();
    }
    let at_nodes = port.node_port.into_iter().flat_map(|node_port| {
        let reachable = node_addresses.iter().filter(|addr| !addr.is_loopback());
        reachable.map(move |addr| (*addr, Kind::NodePort, node_port))
    });
    let own = service.cluster_ips.iter().map(|addr| (*addr, Kind::ClusterIp));
    own.chain(external.iter().copied())
        .map(|(addr, kind)| (addr, kind, port.port))
        .chain(at_nodes)
        .filter(|(addr, ..)| Family::of(*addr) == family)
        .collect()
}

fn virtual_service(
    owner: &Owner,
    service: &Service,
    kind: Kind,
    is_spread: bool,
    endpoints: &Endpoints,
) -> VirtualService {
    let external = kind != Kind::ClusterIp;
    let pool = match !external && service.internal_local {
        true => &endpoints.local,
        false => &endpoints.cluster,
    };
    // Whose client is spread to this node gets one of its own pods; who comes by another way, too.
    let keeps = is_spread && endpoints.spreading.comes_here;
    VirtualService {
        owner: owner.clone(),
        kind,
        outside: ((external && service.external_local) || keeps)
            .then(|| endpoints.local.clone())
            .filter(|outside| outside != pool),
        spread: endpoints.spreading.table.clone().filter(|_| is_spread),
        local: endpoints.on_this_node.clone(),
        pool: pool.clone(),
        affinity_seconds: service.affinity_seconds,
        scheduler: service.scheduler.clone(),
        // Node ports are closed by the ranges, too: Kubernetes leaves them open, which makes the
        // field useless as a firewall wherever nodes can be reached.
        source_ranges: if external { service.source_ranges.clone() } else { Vec::new() },
    }
}

/// The usable endpoints of one Service port in one family.
struct Endpoints {
    /// For everyone.
    cluster: Pool,
    /// For those whom a policy of Local holds.
    local: Pool,
    on_this_node: Arc<[IpAddr]>,
    spreading: Spreading,
}

impl Endpoints {
    /// What takes the place of endpoints where each node answers for itself.
    fn replaced(by_node: ByNode) -> Self {
        let pool = Pool::Node(by_node);
        Self {
            cluster: pool.clone(),
            local: pool,
            on_this_node: [].into(),
            spreading: Spreading::default(),
        }
    }

    fn of(
        rules: Rules<'_>,
        (name, service): (&ServiceName, &Service),
        port: &ServicePort,
        family: Family,
        problems: &mut BTreeSet<Problem>,
    ) -> Self {
        let Rules { snapshot, .. } = rules;
        let this_node = &*snapshot.settings.node_name;
        let mut all: Vec<(&Endpoint, Backend)> = snapshot
            .slices
            .get(name)
            .into_iter()
            .flat_map(|slices| slices.values())
            .filter(|slice| slice.family == family)
            .flat_map(|slice| offered(slice, port.name.as_ref(), port.protocol))
            .collect();
        all.retain(|(_, backend)| match forbidden(rules, name, backend) {
            None => true,
            Some(sort) => {
                let owner = Owner { service: name.clone(), port: port.name.clone() };
                let cause = Cause::Endpoint { backend: *backend, sort };
                problems.insert(Problem { owner, cause });
                false
            }
        });
        let ready: Vec<(&Endpoint, Backend)> =
            all.iter().filter(|(e, _)| e.ready).copied().collect();
        let cluster = match preferred(snapshot, &ready) {
            list if !list.is_empty() => list,
            _ => terminating(&all),
        };
        let is_here = |e: &Endpoint| e.node.as_deref() == Some(this_node);
        let here: Vec<_> = all.iter().filter(|(e, _)| is_here(e)).copied().collect();
        let local = match here.iter().filter(|(e, _)| e.ready).map(|(_, b)| *b).collect::<Vec<_>>()
        {
            list if !list.is_empty() => list,
            _ => terminating(&here),
        };
        let on_this_node: BTreeSet<IpAddr> = here.iter().map(|(_, b)| b.addr).collect();
        let nobody_here = if cluster.is_empty() { Pool::Refuse } else { Pool::Drop };
        Self {
            on_this_node: on_this_node.into_iter().collect(),
            cluster: pool(cluster, Pool::Refuse),
            local: pool(local, nobody_here),
            spreading: Spreading::of(snapshot, service, family, &all),
        }
    }
}

/// What makes an endpoint no place for this Service's packets. Kubernetes' API refuses all but the
/// last two when it is asked to store them, and its documentation forbids cluster addresses.
fn forbidden(rules: Rules<'_>, name: &ServiceName, backend: &Backend) -> Option<Sort> {
    Sort::of(backend.addr).or_else(|| {
        let ranges = &rules.snapshot.settings.service_cidrs;
        if ranges.iter().any(|range| range.contains(&backend.addr)) {
            Some(Sort::ClusterAddress)
        } else if rules.api_servers.contains(backend) && !is_api_service(name) {
            Some(Sort::ApiServer)
        } else {
            None
        }
    })
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

fn pool(mut list: Vec<Backend>, nobody: Pool) -> Pool {
    list.sort_unstable();
    list.dedup();
    if list.is_empty() { nobody } else { Pool::Backends(list.into()) }
}
