//! Which addresses there are, and which of them this node would serve: each node's judgement of
//! itself.
//!
//! Input: the cluster as the data plane sees it, and what the node knows of itself. Output: for
//! every LoadBalancer address whether it is offered, and if not, why. The rules are `MetalLB`'s
//! (upstream: `speaker/layer2_controller.go`), but that a Service without any endpoint is announced
//! under policy Cluster: who calls is then refused at once, instead of finding nobody.
//!
//! A node judges nobody else. What others would serve they say themselves, so nodes agree even when
//! one of them sees the cluster as it was a moment ago.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use netmodel::address::Family;
use netmodel::snapshot::{Endpoint, Service, ServiceName, Snapshot};

/// What a node knows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fitness {
    /// `node.kubernetes.io/exclude-from-external-load-balancers` is on it.
    pub excluded: bool,
    /// It is being taken away.
    pub leaving: bool,
    /// Services that a process of this node answers for itself, and which does not answer now.
    pub unanswered: BTreeSet<ServiceName>,
    /// Services whose addresses another load balancer gave: it is its part to announce them.
    pub others: BTreeSet<ServiceName>,
    /// Addresses that the node's kernel does not serve, or not all of.
    pub unserved: BTreeSet<IpAddr>,
}

/// A LoadBalancer address as a node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The Services that have it.
    pub services: BTreeSet<ServiceName>,
    /// Why this node does not offer to serve it, if it does not.
    pub declined: Option<Declined>,
}

/// Why a node does not offer to serve an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Declined {
    /// It is an address of a node itself, which answers for it without being elected.
    NodeAddress,
    /// Another load balancer gave it.
    OtherBalancer,
    /// The label says so.
    Excluded,
    /// The node is being taken away.
    Leaving,
    /// The node's kernel does not serve it.
    NotProgrammed,
    /// This Service's policy is Local, and none of its ready endpoints is here.
    NoLocalEndpoint(ServiceName),
    /// Nothing listens here for this Service yet.
    NotListening(ServiceName),
    /// No network of this node has the address.
    NotOnLink,
}

impl Declined {
    /// A word in CamelCase.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NodeAddress => "NodeAddress",
            Self::OtherBalancer => "OtherBalancer",
            Self::Excluded => "NodeExcluded",
            Self::Leaving => "NodeLeaving",
            Self::NotProgrammed => "NotProgrammed",
            Self::NoLocalEndpoint(_) => "NoLocalEndpoint",
            Self::NotListening(_) => "NotListening",
            Self::NotOnLink => "NotOnLink",
        }
    }
}

impl fmt::Display for Declined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeAddress => f.write_str("a node itself has the address and answers for it"),
            Self::OtherBalancer => f.write_str("another load balancer gave the address"),
            Self::Excluded => f.write_str(
                "the node has the label node.kubernetes.io/exclude-from-external-load-balancers",
            ),
            Self::Leaving => f.write_str("the node is being taken away"),
            Self::NotProgrammed => f.write_str(
                "the node's kernel does not serve the address, which events of the node and of \
                 the service explain",
            ),
            Self::NoLocalEndpoint(service) => write!(
                f,
                "service {service} has externalTrafficPolicy Local and no ready endpoint here"
            ),
            Self::NotListening(service) => write!(f, "nothing listens here for service {service}"),
            Self::NotOnLink => f.write_str("no network of the node has the address"),
        }
    }
}

/// How a Service that has an address is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Served {
    /// By any node.
    Anywhere,
    /// By nodes that have endpoints.
    WhereEndpointsAre,
    /// By a process of each node itself.
    ByTheNode,
}

/// All LoadBalancer addresses of a cluster.
#[must_use]
pub fn wanted(snapshot: &Snapshot, node: &Fitness) -> BTreeMap<IpAddr, Wanted> {
    let mut all: BTreeMap<IpAddr, Vec<(&ServiceName, Served)>> = BTreeMap::new();
    for (name, service) in &snapshot.services {
        for address in &service.load_balancer_ips {
            all.entry(*address).or_default().push((name, served(service)));
        }
    }
    let of_nodes: BTreeSet<IpAddr> =
        snapshot.nodes.values().flat_map(|node| node.addresses.iter().copied()).collect();
    let judge = |(address, services): (IpAddr, Vec<(&ServiceName, Served)>)| {
        let declined = if of_nodes.contains(&address) {
            Some(Declined::NodeAddress)
        } else if services.iter().all(|(name, _)| node.others.contains(*name)) {
            Some(Declined::OtherBalancer)
        } else {
            let unserved = node.unserved.contains(&address).then_some(Declined::NotProgrammed);
            unfit(node)
                .or(unserved)
                .or_else(|| not_listening(node, &services))
                .or_else(|| without_endpoint(snapshot, Family::of(address), &services))
        };
        let services = services.into_iter().map(|(name, _)| name.clone()).collect();
        (address, Wanted { services, declined })
    };
    all.into_iter().map(judge).collect()
}

fn served(service: &Service) -> Served {
    if service.by_node.is_some() {
        Served::ByTheNode
    } else if service.external_local {
        Served::WhereEndpointsAre
    } else {
        Served::Anywhere
    }
}

fn unfit(node: &Fitness) -> Option<Declined> {
    if node.leaving {
        Some(Declined::Leaving)
    } else if node.excluded {
        Some(Declined::Excluded)
    } else {
        None
    }
}

fn not_listening(node: &Fitness, services: &[(&ServiceName, Served)]) -> Option<Declined> {
    let silent = services
        .iter()
        .find(|(name, served)| *served == Served::ByTheNode && node.unanswered.contains(*name));
    silent.map(|(name, _)| Declined::NotListening((*name).clone()))
}

/// Under policy Local a node without endpoints would refuse what another could serve. Services that
/// have no endpoint anywhere keep nobody from serving those that share the address.
fn without_endpoint(
    snapshot: &Snapshot,
    family: Family,
    services: &[(&ServiceName, Served)],
) -> Option<Declined> {
    let mut nowhere = None;
    let mut served = false;
    for (name, how) in services {
        let place = match how {
            Served::Anywhere | Served::ByTheNode => Place::Here,
            Served::WhereEndpointsAre => place(snapshot, family, name),
        };
        match place {
            Place::Here => served = true,
            Place::Elsewhere => return Some(Declined::NoLocalEndpoint((*name).clone())),
            Place::Nowhere => nowhere = nowhere.or(Some(*name)),
        }
    }
    nowhere.filter(|_| !served).map(|name| Declined::NoLocalEndpoint(name.clone()))
}

/// Where a Service's endpoints are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Here,
    Elsewhere,
    Nowhere,
}

/// Ready endpoints count; where there is none at all, those that still serve while they terminate
/// (upstream: KEP-1669).
fn place(snapshot: &Snapshot, family: Family, service: &ServiceName) -> Place {
    let endpoints = || {
        let slices = snapshot.slices.get(service).into_iter().flat_map(|slices| slices.values());
        slices.filter(|slice| slice.family == family).flat_map(|slice| &slice.endpoints)
    };
    let here = |endpoint: &Endpoint| endpoint.node.as_ref() == Some(&snapshot.settings.node_name);
    let serves: [fn(&Endpoint) -> bool; 2] = [|e| e.ready, |e| e.serving && e.terminating];
    for counts in serves {
        let mut counting = endpoints().filter(|endpoint| counts(endpoint)).peekable();
        if counting.peek().is_some() {
            return if counting.any(here) { Place::Here } else { Place::Elsewhere };
        }
    }
    Place::Nowhere
}

#[cfg(test)]
mod tests;
