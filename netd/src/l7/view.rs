//! What is known of the cluster, and what of it changed.
//!
//! Pure but for the slices, which are looked up where all of them are kept. Owns `ingress`' objects,
//! and which changes matter: Services and slices change all the time, but few of them belong to an
//! Ingress.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ingress::Door;
use ingress::objects::decode;
use ingress::objects::{Cluster, Ingress, IngressClass, ObjectName, Service, Slice, TlsSecret};
use ingress::routes::services_in_use;

use crate::inputs::slices::Slices;

/// Something that changed; an absent object is one that went.
#[derive(Debug)]
pub(super) enum News {
    Service(ObjectName, Option<Service>),
    /// A slice of this Service came, changed or went.
    Endpoints(ObjectName),
    /// A node, and whether it is ready.
    Node(Arc<str>, Option<bool>),
    /// The Service whose addresses are the proxy's.
    Entrance(Option<Entrance>),
    Ingress(ObjectName, Option<Ingress>),
    Class(ObjectName, Option<IngressClass>),
    Secret(ObjectName, Option<TlsSecret>),
    /// A list is complete.
    Listed(List),
}

/// The lists that must be complete before anything is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum List {
    /// Services, slices and Nodes.
    Shared,
    Ingresses,
    Classes,
    Secrets,
}

/// How many lists there are.
const LISTS: usize = 4;

/// Where the proxy listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entrance {
    pub(super) uid: Box<str>,
    pub(super) addresses: BTreeSet<IpAddr>,
    /// Ports, and whether TLS is spoken there.
    pub(super) ports: Vec<(u16, bool)>,
}

/// What changed since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dirty {
    pub(super) routes: bool,
    pub(super) certificates: bool,
    pub(super) doors: bool,
}

/// All that is known.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) cluster: Cluster,
    pub(super) dirty: Dirty,
    /// All slices; those of Services in use are among what is known, too.
    slices: Slices,
    in_use: BTreeSet<ObjectName>,
    nodes: BTreeMap<Arc<str>, bool>,
    entrance: Option<Entrance>,
    complete: BTreeSet<List>,
}

impl View {
    /// Nothing is known yet but what these slices will be.
    pub(super) fn new(slices: Slices) -> Self {
        Self { slices, ..Self::default() }
    }

    /// Is everything known?
    pub(super) fn synced(&self) -> bool {
        self.complete.len() == LISTS
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.dirty != Dirty::default()
    }

    /// Where the proxy should listen.
    pub(super) fn doors(&self) -> Vec<Door> {
        let entrance = self.entrance.iter();
        let door = |address: IpAddr, (port, tls): (u16, bool)| Door {
            address: SocketAddr::new(address, port),
            tls,
        };
        entrance
            .flat_map(|one| one.addresses.iter().map(move |address| (one, *address)))
            .flat_map(|(one, address)| one.ports.iter().map(move |port| door(address, *port)))
            .collect()
    }

    /// The uid of the Service whose addresses are the proxy's.
    pub(super) fn uid(&self) -> Box<str> {
        self.entrance.as_ref().map(|one| one.uid.clone()).unwrap_or_default()
    }

    /// Is this the node that tells authors? It is the first of those that are ready.
    pub(super) fn speaks(&self, node: &str) -> bool {
        let first = self.nodes.iter().find(|(_, ready)| **ready);
        first.is_none_or(|(first, _)| **first == *node)
    }

    pub(super) fn apply(&mut self, news: News) {
        match news {
            News::Service(name, object) => {
                let used = self.in_use.contains(&name);
                let changed = set(&mut self.cluster.services, name, object.map(Arc::new));
                self.dirty.routes |= used && changed;
            }
            News::Endpoints(service) => {
                if self.in_use.contains(&service) {
                    self.dirty.routes |= self.look_up(service);
                }
            }
            News::Node(name, ready) => {
                set(&mut self.nodes, name, ready);
            }
            News::Entrance(entrance) => {
                self.dirty.doors |= self.entrance != entrance;
                self.entrance = entrance;
            }
            News::Ingress(name, object) => {
                if set(&mut self.cluster.ingresses, name, object.map(Arc::new)) {
                    self.rules_changed();
                }
            }
            News::Class(name, object) => {
                if set(&mut self.cluster.classes, name.name, object) {
                    self.rules_changed();
                }
            }
            News::Secret(name, object) => {
                self.dirty.certificates |=
                    set(&mut self.cluster.secrets, name, object.map(Arc::new));
            }
            News::Listed(list) => {
                if self.complete.insert(list) && self.synced() {
                    self.dirty = Dirty { routes: true, certificates: true, doors: true };
                }
            }
        }
    }

    fn rules_changed(&mut self) {
        self.dirty.routes = true;
        let in_use = services_in_use(&self.cluster);
        self.cluster.slices.retain(|service, _| in_use.contains(service));
        for service in in_use.difference(&std::mem::take(&mut self.in_use)) {
            self.look_up(service.clone());
        }
        self.in_use = in_use;
    }

    /// Looks at all slices of a Service. Says whether anything is new.
    fn look_up(&mut self, service: ObjectName) -> bool {
        let all = self.slices.of(&service).into_iter();
        let all: BTreeMap<Arc<str>, Slice> =
            all.map(|(name, kept)| (name, decode::slice(&kept.slice))).collect();
        set(&mut self.cluster.slices, service, (!all.is_empty()).then_some(all))
    }
}

/// Sets or removes; says whether that changed anything.
fn set<K: Ord, V: PartialEq>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) -> bool {
    if map.get(&key) == value.as_ref() {
        return false;
    }
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
    true
}

#[cfg(test)]
mod tests;
