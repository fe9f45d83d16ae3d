//! What the API says: watches that keep one snapshot up to date, and what was said about it.
//!
//! Objects are cut down to what the data plane reads before they are kept, so that a thousand
//! Services cost little memory. Beside the snapshot stand the facts that change nothing in the
//! kernel: versions, conditions, the Node's annotations. Invariant: [`Inputs::dirty`] names all
//! that changed in the snapshot since it was last taken, [`Inputs::news`] all else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;
use kube::runtime::watcher;
use netmodel::snapshot::{EndpointSlice, Node, Service, ServiceName, Settings, Snapshot};

pub(crate) mod fan;
pub(crate) mod intern;
pub(crate) mod slices;
mod watch;

pub(crate) use watch::watch;

/// Something a watch saw, cut down.
#[derive(Debug)]
pub(crate) enum Event {
    Service(Change<(Option<Service>, Facts)>),
    Slice(Change<OwnedSlice>),
    Node(Change<(Node, Option<Box<OwnNode>>)>),
    Ranges(Change<Vec<IpNet>>),
    /// A watch failed and tries again.
    Failed(&'static str, watcher::Error),
    /// The server has no ServiceCIDRs, or does not show them, or can't be reached.
    NoRanges(watcher::Error),
}

/// Namespace and name of a slice.
pub(crate) type SliceName = ServiceName;

/// A step of a watch.
#[derive(Debug)]
pub(crate) enum Change<T> {
    /// A new list begins.
    Begin,
    /// An object of the list, or a changed one.
    Set(ServiceName, T),
    /// The list is complete.
    Listed,
    /// An object went, or has nothing for us.
    Gone(ServiceName),
}

/// A slice, whose it is, and when the change happened that it reports.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OwnedSlice {
    pub(crate) owner: ServiceName,
    pub(crate) slice: Arc<EndpointSlice>,
    /// `endpoints.kubernetes.io/last-change-trigger-time`.
    pub(crate) triggered: Option<Timestamp>,
}

/// What is told about a Service but changes nothing in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) uid: Box<str>,
    pub(crate) resource_version: Box<str>,
    /// The message of the condition that says it can't be honoured, while that is so.
    pub(crate) complaint: Option<Box<str>>,
    /// `spec.healthCheckNodePort`, while the type and the policy make it count.
    pub(crate) health_check_port: Option<u16>,
    /// It has LoadBalancer addresses that the API server did not give.
    pub(crate) balanced_by_others: bool,
}

/// What only the node itself cares about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OwnNode {
    pub(crate) uid: String,
    /// What the Node says about its engine.
    pub(crate) stated: Option<String>,
    /// The engine that is asked for.
    pub(crate) wanted: Option<String>,
    /// It is going away; balancers should look elsewhere.
    pub(crate) leaving: bool,
    /// Its condition `Ready` is true.
    pub(crate) ready: bool,
    /// Load balancers are told to leave it out.
    pub(crate) excluded: bool,
}

/// What changed in the snapshot since the last look.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    /// More than some Services: nodes, ranges, or all of the kernel.
    pub(crate) all: bool,
    /// Perhaps the node's own network.
    pub(crate) network: bool,
    /// Which other nodes are silent.
    pub(crate) silence: bool,
    /// Services that changed, or whose endpoints did.
    pub(crate) services: BTreeSet<ServiceName>,
    /// When the changes happened that slices report.
    pub(crate) triggered: Vec<Timestamp>,
}

impl Dirty {
    pub(crate) fn is_clean(&self) -> bool {
        !self.all && !self.network && !self.silence && self.services.is_empty()
    }
}

/// What changed beside the snapshot.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// Something about this Node.
    pub(crate) own_node: bool,
    /// Services whose facts changed.
    pub(crate) services: BTreeSet<ServiceName>,
    /// Which ports load balancers ask at.
    pub(crate) health_check_ports: bool,
    /// Slices and Services seen, for the counters of changes.
    pub(crate) service_changes: u64,
    pub(crate) slice_changes: u64,
}

/// The snapshot under construction.
#[derive(Debug)]
pub(crate) struct Inputs {
    /// What is known.
    pub(crate) snapshot: Snapshot,
    /// What changed and was not looked at yet.
    pub(crate) dirty: Dirty,
    /// What else changed.
    pub(crate) news: News,
    /// What is told about Services, headless ones and the like included.
    pub(crate) facts: BTreeMap<ServiceName, Facts>,
    /// Those whose LoadBalancer addresses another load balancer gave.
    pub(crate) balanced_by_others: BTreeSet<ServiceName>,
    /// What is told about this node, once it is there.
    pub(crate) own_node: Option<OwnNode>,
    own_node_was_there: bool,
    /// Which Service each slice belongs to.
    owners: BTreeMap<SliceName, ServiceName>,
    /// The ranges of Services by the flags, for servers that have no ServiceCIDRs.
    configured: Vec<IpNet>,
    ranges: BTreeMap<ServiceName, Vec<IpNet>>,
    services: Listing,
    slices: Listing,
    nodes: Listing,
    range_list: Listing,
    /// Watches that failed and have not worked since.
    failing: BTreeSet<&'static str>,
    started: Timestamp,
}

/// How far a watch's list has come.
#[derive(Debug, Default)]
struct Listing {
    complete_once: bool,
    /// Names not seen yet in the list that is being read: those left at its end are gone.
    unseen: BTreeSet<ServiceName>,
}

impl Listing {
    /// What a step means for single objects: each is set or goes.
    fn step<T>(
        &mut self,
        change: Change<T>,
        have: impl FnOnce() -> BTreeSet<ServiceName>,
    ) -> Vec<(ServiceName, Option<T>)> {
        match change {
            Change::Begin => {
                self.unseen = have();
                Vec::new()
            }
            Change::Set(name, object) => {
                self.unseen.remove(&name);
                vec![(name, Some(object))]
            }
            Change::Listed => {
                self.complete_once = true;
                std::mem::take(&mut self.unseen).into_iter().map(|name| (name, None)).collect()
            }
            Change::Gone(name) => {
                self.unseen.remove(&name);
                vec![(name, None)]
            }
        }
    }
}

impl Inputs {
    pub(crate) fn new(settings: Settings, started: Timestamp) -> Self {
        Self {
            configured: settings.service_cidrs.clone(),
            snapshot: Snapshot::new(settings),
            dirty: Dirty { all: true, ..Dirty::default() },
            news: News::default(),
            facts: BTreeMap::new(),
            balanced_by_others: BTreeSet::new(),
            own_node: None,
            own_node_was_there: false,
            owners: BTreeMap::new(),
            ranges: BTreeMap::new(),
            services: Listing::default(),
            slices: Listing::default(),
            nodes: Listing::default(),
            range_list: Listing::default(),
            failing: BTreeSet::new(),
            started,
        }
    }

    /// Have all lists been complete once? Nothing may be programmed before.
    pub(crate) fn synced(&self) -> bool {
        [&self.services, &self.slices, &self.nodes, &self.range_list]
            .iter()
            .all(|list| list.complete_once)
    }

    /// Is this node being taken away, or gone already? One that is not registered yet is not.
    pub(crate) fn is_leaving(&self) -> bool {
        self.own_node.as_ref().map_or(self.own_node_was_there, |own| own.leaving)
    }

    /// Is the API heard, as far as can be told?
    pub(crate) fn in_touch(&self) -> bool {
        self.failing.is_empty()
    }

    pub(crate) fn apply(&mut self, event: Event) {
        match event {
            Event::Service(change) => {
                self.works_again("Services", &change);
                let have = || self.facts.keys().cloned().collect();
                for (name, object) in self.services.step(change, have) {
                    self.set_service(name, object);
                }
            }
            Event::Slice(change) => {
                self.works_again("EndpointSlices", &change);
                let have = || self.owners.keys().cloned().collect();
                for (name, object) in self.slices.step(change, have) {
                    self.set_slice(&name, object);
                }
            }
            Event::Node(change) => {
                self.works_again("Nodes", &change);
                let nodes = &self.snapshot.nodes;
                let have = || nodes.keys().map(|name| ServiceName::new("", name)).collect();
                for (name, object) in self.nodes.step(change, have) {
                    self.set_node(name.name, object);
                }
            }
            Event::Ranges(change) => {
                let have = || self.ranges.keys().cloned().collect();
                for (name, object) in self.range_list.step(change, have) {
                    match object {
                        Some(ranges) => self.ranges.insert(name, ranges),
                        None => self.ranges.remove(&name),
                    };
                }
                self.set_ranges();
            }
            Event::Failed(what, error) => {
                let error = crate::error_chain(&error);
                // Once is enough for an API server that is away.
                if self.failing.insert(what) {
                    tracing::warn!(error, "watch {what}; it is tried again");
                } else {
                    tracing::debug!(error, "watch {what}");
                }
            }
            Event::NoRanges(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "watch ServiceCIDRs");
                self.range_list.complete_once = true;
            }
        }
    }

    /// Which other nodes are silent on their network, as it seems: anybody there may invent names,
    /// and only those of nodes count.
    pub(crate) fn set_silent(&mut self, silent: BTreeSet<Arc<str>>) {
        let is_node = |name: &&Arc<str>| self.snapshot.nodes.contains_key(*name);
        let nodes: Vec<_> = silent.iter().filter(is_node).collect();
        if !self.snapshot.silent.iter().filter(is_node).eq(nodes.iter().copied()) {
            tracing::info!(?nodes, "nodes that were heard and are not any more");
            self.dirty.silence = true;
        }
        self.snapshot.silent = silent;
    }

    fn works_again<T>(&mut self, what: &'static str, change: &Change<T>) {
        // A list begins before it is known whether it can be read.
        if !matches!(change, Change::Begin) && self.failing.remove(what) {
            tracing::info!("watch {what}: it works again");
        }
    }

    fn set_service(&mut self, name: ServiceName, object: Option<(Option<Service>, Facts)>) {
        self.news.service_changes += 1;
        let (new, facts) = object.unzip();
        self.set_facts(&name, facts);
        let new = new.flatten();
        let old = self.snapshot.services.get(&name);
        if old.map(AsRef::as_ref) == new.as_ref() {
            return;
        }
        match new {
            Some(new) => self.snapshot.services.insert(name.clone(), Arc::new(new)),
            None => self.snapshot.services.remove(&name),
        };
        self.dirty.services.insert(name);
    }

    fn set_facts(&mut self, name: &ServiceName, new: Option<Facts>) {
        let old = match &new {
            Some(facts) => self.facts.insert(name.clone(), facts.clone()),
            None => self.facts.remove(name),
        };
        if old == new {
            return;
        }
        match new.as_ref().is_some_and(|facts| facts.balanced_by_others) {
            true => self.balanced_by_others.insert(name.clone()),
            false => self.balanced_by_others.remove(name),
        };
        let port = |facts: &Option<Facts>| facts.as_ref().and_then(|f| f.health_check_port);
        self.news.health_check_ports |= port(&old) != port(&new);
        self.news.services.insert(name.clone());
    }

    fn set_slice(&mut self, name: &SliceName, new: Option<OwnedSlice>) {
        self.news.slice_changes += 1;
        let new_owner = new.as_ref().map(|new| &new.owner);
        // Its label may have been edited: it leaves one Service and joins another.
        if let Some(old_owner) = self.owners.get(name).filter(|old| Some(*old) != new_owner) {
            if let Some(slices) = self.snapshot.slices.get_mut(old_owner) {
                slices.remove(&name.name);
                if slices.is_empty() {
                    self.snapshot.slices.remove(old_owner);
                }
            }
            self.dirty.services.insert(old_owner.clone());
            self.owners.remove(name);
        }
        let Some(OwnedSlice { owner, slice, triggered }) = new else { return };
        let slices = self.snapshot.slices.entry(owner.clone()).or_default();
        if slices.get(&name.name) == Some(&slice) {
            return;
        }
        slices.insert(name.name.clone(), slice);
        self.owners.insert(name.clone(), owner.clone());
        self.dirty.services.insert(owner);
        // What happened before netd was there says nothing about how fast it is.
        self.dirty.triggered.extend(triggered.filter(|at| *at >= self.started));
    }

    fn set_node(&mut self, name: Arc<str>, new: Option<(Node, Option<Box<OwnNode>>)>) {
        let (new, own) = new.unzip();
        if name == self.snapshot.settings.node_name {
            let own = own.flatten().map(|own| *own);
            self.news.own_node |= own != self.own_node;
            self.own_node_was_there |= own.is_some();
            self.own_node = own;
        }
        if self.snapshot.nodes.get(&name).map(AsRef::as_ref) == new.as_ref() {
            return;
        }
        match new {
            Some(new) => self.snapshot.nodes.insert(name, Arc::new(new)),
            None => self.snapshot.nodes.remove(&name),
        };
        // Routes, node ports and masquerading all look at nodes; nodes change rarely.
        self.dirty.all = true;
    }

    /// Where the cluster has ServiceCIDRs they are the truth, and the flags may be a guess.
    fn set_ranges(&mut self) {
        if !self.range_list.complete_once {
            return;
        }
        let mut ranges: Vec<IpNet> = self.ranges.values().flatten().copied().collect();
        if ranges.is_empty() {
            ranges.clone_from(&self.configured);
        }
        ranges.sort_unstable();
        ranges.dedup();
        if self.snapshot.settings.service_cidrs != ranges {
            self.snapshot.settings.service_cidrs = ranges;
            self.dirty.all = true;
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod weight;
