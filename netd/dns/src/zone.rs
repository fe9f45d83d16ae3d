//! The cluster's names: what the zone holds, and how it follows the cluster.
//!
//! Pure: Services, slices and Pods in, records out. A change costs what its Service costs and not
//! what the cluster costs. Names are kept in lower case, as Kubernetes' own names are. What is
//! answered is in `lookup` (Kubernetes DNS-Based Service Discovery 1.1.0, `docs/specification.md` of
//! kubernetes/dns) and in `reverse`. Deliberately not here: messages, caches, other zones.

mod lookup;
mod reverse;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::rr::Name;
use ipnet::IpNet;

use crate::pods::{Pod, Pods};

pub use lookup::{Lookup, Outcome};

/// Seconds for which an answer may be kept. Short, as CoreDNS has it: what changes is seen soon.
pub const TTL: u32 = 5;

/// What a Service is for the name server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Service {
    /// It has addresses of its own.
    Addresses {
        /// `spec.clusterIPs`.
        ips: Vec<IpAddr>,
        /// Its ports.
        ports: Vec<Port>,
    },
    /// Its endpoints are its addresses.
    Headless {
        /// Endpoints count before they are ready.
        publish_not_ready: bool,
    },
    /// It is another name.
    External(Box<Name>),
}

/// A port with a name; others have no records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name in lower case.
    pub name: Box<str>,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
    /// Its number.
    pub number: u16,
}

/// Some of a Service's endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// Ports that all of them have.
    pub ports: Vec<Port>,
    /// The endpoints, one for each address.
    pub endpoints: Vec<Endpoint>,
}

/// One address of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The address.
    pub addr: IpAddr,
    /// Its name below the Service's; without one its dashed address serves.
    pub hostname: Option<Box<str>>,
    /// It takes traffic.
    pub ready: bool,
}

impl Endpoint {
    /// The label by which the endpoint is found below its Service.
    fn label(&self) -> String {
        match &self.hostname {
            Some(name) => name.to_string(),
            None => dashed(self.addr),
        }
    }
}

/// An address as one label: `10-244-1-5`, `fd00-10-244--5`. A label neither begins nor ends with a
/// dash (upstream: CoreDNS, `endpointHostname`).
#[must_use]
pub fn dashed(addr: IpAddr) -> String {
    let mut label = addr.to_string().replace(['.', ':'], "-");
    if label.starts_with('-') {
        label.insert(0, '0');
    }
    if label.ends_with('-') {
        label.push('0');
    }
    label
}

/// The other way: what address a label means.
fn undashed(label: &str) -> Option<IpAddr> {
    let dots = label.replace('-', ".").parse().map(IpAddr::V4);
    dots.or_else(|_| label.replace('-', ":").parse().map(IpAddr::V6)).ok()
}

/// The zone of a cluster.
#[derive(Debug)]
pub struct Zone {
    /// The labels of its own name, `cluster` and `local`.
    domain: Vec<Box<str>>,
    /// The same as a name.
    apex: Name,
    /// Where this zone's server answers.
    servers: Vec<IpAddr>,
    /// The ranges whose addresses are the cluster's, and nobody else's, to name.
    ranges: Vec<IpNet>,
    namespaces: HashMap<Arc<str>, HashMap<Arc<str>, Entry>>,
    /// Services by their addresses, and headless Services by those of their endpoints.
    by_address: HashMap<IpAddr, Vec<ServiceKey>>,
    /// Which Service each slice belongs to, by namespace.
    owners: HashMap<Box<str>, HashMap<Box<str>, Box<str>>>,
    pods: Pods,
    serial: u32,
}

/// Namespace and name.
type ServiceKey = (Arc<str>, Arc<str>);

/// What is known under a Service's name; slices may come before their Service.
#[derive(Debug, Default)]
struct Entry {
    service: Option<Service>,
    /// By name. Most Services have one, or none that counts here.
    slices: Vec<(Box<str>, Slice)>,
}

impl Entry {
    fn is_empty(&self) -> bool {
        self.service.is_none() && self.slices.is_empty()
    }

    /// Sets or removes a slice; says whether that changed anything.
    fn set_slice(&mut self, name: &str, slice: Option<Slice>) -> bool {
        let place = self.slices.binary_search_by(|(other, _)| (**other).cmp(name));
        match (place, slice) {
            (Ok(at), Some(slice)) => {
                let changed = self.slices[at].1 != slice;
                self.slices[at].1 = slice;
                changed
            }
            (Err(at), Some(slice)) => {
                self.slices.reserve_exact(1);
                self.slices.insert(at, (name.into(), slice));
                true
            }
            (Ok(at), None) => {
                self.slices.remove(at);
                true
            }
            (Err(_), None) => false,
        }
    }

    /// The endpoints that have records, with their ports, if it is headless.
    fn published(&self) -> impl Iterator<Item = (&Endpoint, &[Port])> {
        let all = match &self.service {
            Some(Service::Headless { publish_not_ready }) => Some(*publish_not_ready),
            _ => None,
        };
        let slices = self.slices.iter().filter(move |_| all.is_some());
        slices
            .flat_map(|(_, slice)| slice.endpoints.iter().map(|e| (e, &*slice.ports)))
            .filter(move |(endpoint, _)| endpoint.ready || all == Some(true))
    }

    /// All addresses that lead back to this Service.
    fn addresses(&self) -> Vec<IpAddr> {
        match &self.service {
            Some(Service::Addresses { ips, .. }) => ips.clone(),
            _ => self.published().map(|(endpoint, _)| endpoint.addr).collect(),
        }
    }
}

impl Zone {
    /// An empty zone of this name; `ranges` are those of Services and Pods.
    ///
    /// # Examples
    /// `Zone::new(&"cluster.local.".parse().unwrap(), vec![])`
    #[must_use]
    pub fn new(apex: &Name, ranges: Vec<IpNet>) -> Self {
        let apex = apex.to_lowercase();
        Self {
            domain: lookup::labels(&apex).into_iter().map(Into::into).collect(),
            apex,
            servers: Vec::new(),
            ranges,
            namespaces: HashMap::new(),
            by_address: HashMap::new(),
            owners: HashMap::new(),
            pods: Pods::default(),
            serial: 1,
        }
    }

    /// The zone's name.
    #[must_use]
    pub fn apex(&self) -> &Name {
        &self.apex
    }

    /// The Pods.
    #[must_use]
    pub fn pods(&self) -> &Pods {
        &self.pods
    }

    /// This zone's server answers there. Says whether that changed anything.
    pub fn set_servers(&mut self, servers: Vec<IpAddr>) -> bool {
        self.serial = self.serial.wrapping_add(1);
        let changed = self.servers != servers;
        self.servers = servers;
        changed
    }

    /// A Service came, changed or went. Says whether that changed anything.
    pub fn set_service(&mut self, namespace: &str, name: &str, service: Option<Service>) -> bool {
        self.change(namespace, name, |entry| {
            let changed = entry.service != service;
            entry.service = service;
            changed
        })
    }

    /// A slice came with the name of its Service, changed or went. Says whether that changed
    /// anything.
    pub fn set_slice(&mut self, namespace: &str, name: &str, new: Option<(&str, Slice)>) -> bool {
        let before = match &new {
            Some((owner, _)) => {
                let owners = self.owners.entry(namespace.into()).or_default();
                owners.insert(name.into(), (*owner).into())
            }
            None => self.forget_owner(namespace, name),
        };
        // Its label may have been edited: it leaves one Service and joins another.
        let left =
            before.filter(|before| new.as_ref().is_none_or(|(owner, _)| *owner != &**before));
        let mut changed = left.is_some_and(|owner| {
            self.change(namespace, &owner, |entry| entry.set_slice(name, None))
        });
        if let Some((owner, slice)) = new {
            changed |= self.change(namespace, owner, |entry| entry.set_slice(name, Some(slice)));
        }
        changed
    }

    /// Whose a slice was that is gone.
    fn forget_owner(&mut self, namespace: &str, name: &str) -> Option<Box<str>> {
        let owners = self.owners.get_mut(namespace)?;
        let before = owners.remove(name);
        if owners.is_empty() {
            self.owners.remove(namespace);
        }
        before
    }

    /// A Pod came, changed or went. Says whether that changed anything.
    pub fn set_pod(&mut self, namespace: &str, name: &str, pod: Option<Pod>) -> bool {
        self.pods.set(namespace, name, pod)
    }

    /// Changes one entry, and what is found by its addresses.
    fn change(
        &mut self,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Entry) -> bool,
    ) -> bool {
        let key = self.key(namespace, name);
        let services = self.namespaces.entry(key.0.clone()).or_default();
        let entry = services.entry(key.1.clone()).or_default();
        let before = entry.addresses();
        let changed = change(entry);
        let after = entry.addresses();
        if entry.is_empty() {
            services.remove(name);
        }
        if services.is_empty() {
            self.namespaces.remove(namespace);
        }
        if before != after {
            self.index(&key, &before, &after);
        }
        self.serial = self.serial.wrapping_add(u32::from(changed));
        changed
    }

    /// A Service's name as it is kept already, if it is known.
    fn key(&self, namespace: &str, name: &str) -> ServiceKey {
        let Some((namespace, services)) = self.namespaces.get_key_value(namespace) else {
            return (namespace.into(), name.into());
        };
        let name =
            services.get_key_value(name).map_or_else(|| name.into(), |(name, _)| name.clone());
        (namespace.clone(), name)
    }

    fn index(&mut self, key: &ServiceKey, before: &[IpAddr], after: &[IpAddr]) {
        for addr in before {
            if let Some(keys) = self.by_address.get_mut(addr) {
                keys.retain(|other| other != key);
                if keys.is_empty() {
                    self.by_address.remove(addr);
                }
            }
        }
        for addr in after {
            // Most addresses lead to one Service.
            let keys = self.by_address.entry(*addr).or_insert_with(|| Vec::with_capacity(1));
            // The same address may stand in two slices.
            if !keys.contains(key) {
                keys.push(key.clone());
                keys.sort_unstable();
            }
        }
    }

    fn entry(&self, namespace: &str, name: &str) -> Option<&Entry> {
        self.namespaces.get(namespace)?.get(name)
    }

    /// A namespace is known by what is in it.
    fn has_namespace(&self, namespace: &str) -> bool {
        let services = self.namespaces.get(namespace);
        services.is_some_and(|services| services.values().any(|entry| entry.service.is_some()))
            || self.pods.has_namespace(namespace)
    }
}
