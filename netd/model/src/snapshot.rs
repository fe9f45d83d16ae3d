//! What the cluster wants, as far as the data plane cares: the input of every decision here.
//!
//! Owns lean copies of the API objects (Service, `EndpointSlice`, Node) with everything that the
//! data plane does not read left out. Deliberately not here: decoding from Kubernetes' own types
//! (netd does it), and any decision.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnet::IpNet;

use crate::address::{Family, Protocol};

/// Namespace and name of a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    /// The Service's namespace.
    pub namespace: Arc<str>,
    /// The Service's name.
    pub name: Arc<str>,
}

impl ServiceName {
    /// Names a Service.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A Service with at least one virtual address; headless and `ExternalName` Services never get
/// here, because nothing in the kernel represents them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// `spec.clusterIPs`.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// Addresses of `status.loadBalancer.ingress` whose `ipMode` is VIP.
    pub load_balancer_ips: Vec<IpAddr>,
    /// `spec.loadBalancerSourceRanges`; empty admits everyone.
    pub source_ranges: Vec<IpNet>,
    /// Seconds for which a client keeps its backend (`sessionAffinity: ClientIP`).
    pub affinity_seconds: Option<u32>,
    /// `externalTrafficPolicy: Local`.
    pub external_local: bool,
    /// `internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// IPVS scheduler asked for by annotation; `None` means [`Settings::default_scheduler`].
    pub scheduler: Option<Arc<str>>,
    /// Every node answers for itself, by a process of its own, and endpoints play no part.
    pub by_node: Option<ByNode>,
}

/// How a process of each node answers for a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByNode {
    /// Its connections are not tracked: there are many, and nothing is to be known of them.
    pub untracked: bool,
}

impl Service {
    /// The addresses at which a node answers by a process of its own; none when others answer.
    pub fn local_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let all = self.cluster_ips.iter().chain(&self.load_balancer_ips).copied();
        all.filter(|_| self.by_node.is_some())
    }
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; empty when the Service has a single unnamed port.
    pub name: Arc<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its port on the virtual addresses.
    pub port: u16,
    /// Its port on the nodes' addresses.
    pub node_port: Option<u16>,
}

/// One `EndpointSlice`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// The addresses' family.
    pub family: Family,
    /// Ports that all its endpoints offer, by Service port name.
    pub ports: Vec<EndpointPort>,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// The slices of one Service by their names: a list in order, because most Services have one, and
/// there are many Services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slices(Vec<(Arc<str>, Arc<EndpointSlice>)>);

impl Slices {
    /// The slice of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<EndpointSlice>> {
        self.place(name).ok().map(|at| &self.0[at].1)
    }

    /// Adds a slice, or puts it in the place of the one that has the name.
    pub fn insert(&mut self, name: Arc<str>, slice: Arc<EndpointSlice>) {
        match self.place(&name) {
            Ok(at) => self.0[at].1 = slice,
            Err(at) => {
                self.0.reserve_exact(1);
                self.0.insert(at, (name, slice));
            }
        }
    }

    /// Takes the slice of a name away.
    pub fn remove(&mut self, name: &str) -> Option<Arc<EndpointSlice>> {
        let at = self.place(name).ok()?;
        Some(self.0.remove(at).1)
    }

    /// All slices in the order of their names.
    pub fn values(&self) -> impl Iterator<Item = &Arc<EndpointSlice>> {
        self.0.iter().map(|(_, slice)| slice)
    }

    /// The same, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Arc<EndpointSlice>> {
        self.0.iter_mut().map(|(_, slice)| slice)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Is there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| (**other).cmp(name))
    }
}

impl FromIterator<(Arc<str>, Arc<EndpointSlice>)> for Slices {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Arc<EndpointSlice>)>>(all: I) -> Self {
        let mut out = Self::default();
        all.into_iter().for_each(|(name, slice)| out.insert(name, slice));
        out
    }
}

impl<const N: usize> From<[(Arc<str>, Arc<EndpointSlice>); N]> for Slices {
    fn from(all: [(Arc<str>, Arc<EndpointSlice>); N]) -> Self {
        all.into_iter().collect()
    }
}

/// One port of an `EndpointSlice`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPort {
    /// Name of the Service port it serves.
    pub name: Arc<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// The backends' own port.
    pub port: u16,
}

/// One endpoint: a pod, or an address written by hand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The node it runs on, if it is a pod.
    pub node: Option<Arc<str>>,
    /// Takes new connections.
    pub ready: bool,
    /// Would answer if asked, though it may be terminating.
    pub serving: bool,
    /// Is being deleted.
    pub terminating: bool,
    /// Nodes that should prefer it (`hints.forNodes`).
    pub for_nodes: Vec<Arc<str>>,
    /// Zones that should prefer it (`hints.forZones`).
    pub for_zones: Vec<Arc<str>>,
}

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its internal and external addresses.
    pub addresses: Vec<IpAddr>,
    /// The ranges its pods' addresses come from.
    pub pod_cidrs: Vec<IpNet>,
    /// `topology.kubernetes.io/zone`.
    pub zone: Option<Arc<str>>,
}

/// What does not come from the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The name of the node this data plane runs on.
    pub node_name: Arc<str>,
    /// Ranges of all pods.
    pub cluster_cidrs: Vec<IpNet>,
    /// Ranges of all cluster addresses.
    pub service_cidrs: Vec<IpNet>,
    /// The link that this node's pods hang on.
    pub bridge: Arc<str>,
    /// Ports that Services may have on nodes' addresses.
    pub node_ports: RangeInclusive<u16>,
    /// The IPVS scheduler of Services that ask for none, or for one that does not exist.
    pub default_scheduler: Arc<str>,
}

/// Everything that is known of the cluster at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// What does not come from the API.
    pub settings: Settings,
    /// All Services with virtual addresses.
    pub services: BTreeMap<ServiceName, Arc<Service>>,
    /// All slices, by Service and slice name.
    pub slices: BTreeMap<ServiceName, Slices>,
    /// All nodes.
    pub nodes: BTreeMap<Arc<str>, Arc<Node>>,
    /// Nodes that were heard on their common network and are not any more, which the API may not
    /// know yet.
    pub silent: BTreeSet<Arc<str>>,
}

impl Snapshot {
    /// A cluster of which nothing is known yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            nodes: BTreeMap::new(),
            silent: BTreeSet::new(),
        }
    }

    /// The node this data plane runs on, once the API knows it.
    #[must_use]
    pub fn this_node(&self) -> Option<&Node> {
        self.nodes.get(&self.settings.node_name).map(AsRef::as_ref)
    }

    /// The Services for which every node answers by a process of its own.
    pub fn locals(&self) -> impl Iterator<Item = (&ServiceName, &Service)> {
        let all = self.services.iter().map(|(name, service)| (name, &**service));
        all.filter(|(_, service)| service.by_node.is_some())
    }
}
