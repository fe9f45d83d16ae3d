//! What the API says: three watches that keep one snapshot up to date.
//!
//! Objects are cut down to what the data plane reads before they are kept, so that a thousand
//! Services cost little memory. An object that can't be decoded counts as absent and is named in
//! the log; the others are not affected.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::stream::{BoxStream, StreamExt, select_all};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use kube::api::Api;
use kube::core::DeserializeGuard;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use netmodel::snapshot::{ServiceName, Settings, Snapshot};
use serde::de::DeserializeOwned;

use crate::convert;

/// Events applied in one go, at most.
const CHUNK: usize = 1024;

/// Something a watch saw, cut down.
#[derive(Debug)]
pub(crate) enum Event {
    Service(Change<ServiceName, Option<netmodel::snapshot::Service>>),
    Slice(Change<SliceName, Option<(ServiceName, netmodel::snapshot::EndpointSlice)>>),
    Node(Change<Arc<str>, Option<netmodel::snapshot::Node>>),
    /// A watch failed and tries again.
    Failed(&'static str, watcher::Error),
}

/// Namespace and name of a slice.
pub(crate) type SliceName = ServiceName;

/// A step of a watch.
#[derive(Debug)]
pub(crate) enum Change<N, T> {
    /// A new list begins.
    Begin,
    /// An object of the list, or a changed one.
    Set(N, T),
    /// The list is complete.
    Listed,
    /// An object went.
    Gone(N),
}

/// The stream of all three watches.
pub(crate) fn watch(client: &Client) -> BoxStream<'static, Vec<Event>> {
    let services = kind::<core::Service, _>(client, "Services", |name, object| {
        (name, object.and_then(|o| convert::service(&o)))
    })
    .map(|e| e.map_or_else(|(k, e)| Event::Failed(k, e), Event::Service));
    let slices = kind::<discovery::EndpointSlice, _>(client, "EndpointSlices", |name, object| {
        (name, object.and_then(|o| convert::slice(&o)))
    })
    .map(|e| e.map_or_else(|(k, e)| Event::Failed(k, e), Event::Slice));
    let nodes = kind::<core::Node, _>(client, "Nodes", |name, object| {
        (name, object.map(|o| convert::node(&o)))
    })
    .map(|e| e.map_or_else(|(k, e)| Event::Failed(k, e), |c| Event::Node(c.named_by(|n| n.name))));
    select_all([services.boxed(), slices.boxed(), nodes.boxed()]).ready_chunks(CHUNK).boxed()
}

impl<N, T> Change<N, T> {
    fn named_by<M>(self, name: impl FnOnce(N) -> M) -> Change<M, T> {
        match self {
            Self::Begin => Change::Begin,
            Self::Set(n, object) => Change::Set(name(n), object),
            Self::Listed => Change::Listed,
            Self::Gone(n) => Change::Gone(name(n)),
        }
    }
}

type Seen<T> = Result<Change<ServiceName, T>, (&'static str, watcher::Error)>;

/// Watches one kind; objects are cut down by `cut`, which gets `None` for those it can't decode.
fn kind<K, T>(
    client: &Client,
    what: &'static str,
    cut: impl Fn(ServiceName, Option<K>) -> (ServiceName, T) + Send + 'static,
) -> impl futures::Stream<Item = Seen<T>> + Send + 'static
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + std::fmt::Debug + Send + 'static,
    T: Send + 'static,
{
    let api: Api<DeserializeGuard<K>> = Api::all(client.clone());
    let name = |object: &DeserializeGuard<K>| {
        ServiceName::new(&object.namespace().unwrap_or_default(), &object.name_any())
    };
    watcher(api, watcher::Config::default()).default_backoff().map(move |event| {
        let set = |object: DeserializeGuard<K>| {
            let name = name(&object);
            let object = object.0.inspect_err(|error| {
                tracing::warn!(%name, error = %error.error, "one of the {what} can't be read");
            });
            let (name, object) = cut(name, object.ok());
            Change::Set(name, object)
        };
        match event {
            Ok(watcher::Event::Init) => Ok(Change::Begin),
            Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => {
                Ok(set(object))
            }
            Ok(watcher::Event::InitDone) => Ok(Change::Listed),
            Ok(watcher::Event::Delete(object)) => Ok(Change::Gone(name(&object))),
            Err(error) => Err((what, error)),
        }
    })
}

/// What changed since the last look.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    /// More than some Services: nodes, or a watch that began anew.
    pub(crate) all: bool,
    /// Perhaps the node's own network.
    pub(crate) network: bool,
    /// Services that changed, or whose endpoints did.
    pub(crate) services: BTreeSet<ServiceName>,
}

impl Dirty {
    pub(crate) fn is_clean(&self) -> bool {
        !self.all && !self.network && self.services.is_empty()
    }
}

/// The snapshot under construction.
#[derive(Debug)]
pub(crate) struct Inputs {
    /// What is known.
    pub(crate) snapshot: Snapshot,
    /// What changed and was not looked at yet.
    pub(crate) dirty: Dirty,
    /// Which Service each slice belongs to.
    owners: std::collections::BTreeMap<SliceName, ServiceName>,
    services: Listing<ServiceName>,
    slices: Listing<SliceName>,
    nodes: Listing<Arc<str>>,
}

/// How far a watch's list has come.
#[derive(Debug)]
struct Listing<N> {
    complete_once: bool,
    /// Names not seen yet in the list that is being read: those left at its end are gone.
    unseen: BTreeSet<N>,
}

impl<N> Default for Listing<N> {
    fn default() -> Self {
        Self { complete_once: false, unseen: BTreeSet::new() }
    }
}

impl Inputs {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            snapshot: Snapshot::new(settings),
            dirty: Dirty { all: true, ..Dirty::default() },
            owners: std::collections::BTreeMap::new(),
            services: Listing::default(),
            slices: Listing::default(),
            nodes: Listing::default(),
        }
    }

    /// Have all three lists been complete once? Nothing may be programmed before.
    pub(crate) fn synced(&self) -> bool {
        self.services.complete_once && self.slices.complete_once && self.nodes.complete_once
    }

    pub(crate) fn apply(&mut self, event: Event) {
        match event {
            Event::Service(change) => self.apply_service(change),
            Event::Slice(change) => self.apply_slice(change),
            Event::Node(change) => self.apply_node(change),
            Event::Failed(what, error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "watch {what}");
            }
        }
    }

    fn apply_service(&mut self, change: Change<ServiceName, Option<netmodel::snapshot::Service>>) {
        match change {
            Change::Begin => {
                self.services.unseen = self.snapshot.services.keys().cloned().collect();
            }
            Change::Set(name, object) => {
                self.services.unseen.remove(&name);
                self.set_service(name, object);
            }
            Change::Listed => {
                self.services.complete_once = true;
                for name in std::mem::take(&mut self.services.unseen) {
                    self.set_service(name, None);
                }
            }
            Change::Gone(name) => self.set_service(name, None),
        }
    }

    fn set_service(&mut self, name: ServiceName, new: Option<netmodel::snapshot::Service>) {
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

    fn apply_slice(
        &mut self,
        change: Change<SliceName, Option<(ServiceName, netmodel::snapshot::EndpointSlice)>>,
    ) {
        match change {
            Change::Begin => self.slices.unseen = self.owners.keys().cloned().collect(),
            Change::Set(name, object) => {
                self.slices.unseen.remove(&name);
                self.set_slice(&name, object);
            }
            Change::Listed => {
                self.slices.complete_once = true;
                for name in std::mem::take(&mut self.slices.unseen) {
                    self.set_slice(&name, None);
                }
            }
            Change::Gone(name) => self.set_slice(&name, None),
        }
    }

    fn set_slice(
        &mut self,
        name: &SliceName,
        new: Option<(ServiceName, netmodel::snapshot::EndpointSlice)>,
    ) {
        let new_owner = new.as_ref().map(|(owner, _)| owner.clone());
        // Its label may have been edited: it leaves one Service and joins another.
        if let Some(old_owner) = self.owners.get(name).filter(|o| Some(*o) != new_owner.as_ref()) {
            if let Some(slices) = self.snapshot.slices.get_mut(old_owner) {
                slices.remove(&name.name);
                if slices.is_empty() {
                    self.snapshot.slices.remove(old_owner);
                }
            }
            self.dirty.services.insert(old_owner.clone());
            self.owners.remove(name);
        }
        let Some((owner, slice)) = new else { return };
        let slices = self.snapshot.slices.entry(owner.clone()).or_default();
        if slices.get(&name.name).is_some_and(|old| **old == slice) {
            return;
        }
        slices.insert(name.name.clone(), Arc::new(slice));
        self.owners.insert(name.clone(), owner.clone());
        self.dirty.services.insert(owner);
    }

    fn apply_node(&mut self, change: Change<Arc<str>, Option<netmodel::snapshot::Node>>) {
        match change {
            Change::Begin => {
                self.nodes.unseen = self.snapshot.nodes.keys().cloned().collect();
            }
            Change::Set(name, object) => {
                self.nodes.unseen.remove(&name);
                self.set_node(name, object);
            }
            Change::Listed => {
                self.nodes.complete_once = true;
                for name in std::mem::take(&mut self.nodes.unseen) {
                    self.set_node(name, None);
                }
            }
            Change::Gone(name) => self.set_node(name, None),
        }
    }

    fn set_node(&mut self, name: Arc<str>, new: Option<netmodel::snapshot::Node>) {
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
}

#[cfg(test)]
mod tests;
