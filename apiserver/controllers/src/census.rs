//! Metadata of every object of every resource, for whoever must not miss any: the garbage
//! collector and the emptying of namespaces.
//!
//! Inputs: the view's caches for the kinds that the view holds whole; a reflector of metadata alone
//! for all others. Outputs: lookups, and a call for each change.
//! Invariant: events are left out; nothing owns them and they expire by themselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Endpoints, Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{IPAddress, Ingress, IngressClass, ServiceCIDR};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use resources::address_pool::AddressPool;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::api;
use crate::cache::{Cache, Key};
use crate::controllers::{Config, ResourceId};
use crate::meta::Held;
use crate::reflector::{self, Source};
use crate::view::{Kind, View};

/// An object of which only the metadata is kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Whole")]
struct Thin {
    metadata: ObjectMeta,
}

/// As the server sends it.
#[derive(Deserialize)]
struct Whole {
    metadata: ObjectMeta,
}

impl From<Whole> for Thin {
    fn from(whole: Whole) -> Self {
        // `kubectl apply` keeps the whole object in an annotation.
        let metadata = ObjectMeta { annotations: None, labels: None, ..whole.metadata };
        Self { metadata }
    }
}

impl Held for Thin {
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// A change of one object's metadata: before and after.
pub(crate) type Seen<'a> = (Option<&'a ObjectMeta>, Option<&'a ObjectMeta>);
type Handler = Arc<dyn Fn(ResourceId, Seen<'_>) + Send + Sync>;

/// What the census needs of a cache, whatever it holds.
trait Ledger: Send + Sync {
    fn get(&self, key: &Key) -> Option<ObjectMeta>;
    fn in_namespace(&self, namespace: &str) -> Vec<ObjectMeta>;
    fn on_change(&self, resource: ResourceId, handler: Handler);
}

/// A cache of the view.
struct OfView<K> {
    view: Arc<View>,
    kind: std::marker::PhantomData<fn() -> K>,
}

fn get<K: Held>(cache: &Cache<K>, key: &Key) -> Option<ObjectMeta> {
    cache.get(key).map(|object| object.meta().clone())
}

fn in_namespace<K: Held>(cache: &Cache<K>, namespace: &str) -> Vec<ObjectMeta> {
    cache.in_namespace(namespace).iter().map(|object| object.meta().clone()).collect()
}

fn on_change<K: Held>(cache: &Cache<K>, resource: ResourceId, handler: Handler) {
    cache.on_change(move |change| {
        let old = change.old.as_ref().map(|object| object.meta());
        let new = change.new.as_ref().map(|object| object.meta());
        handler(resource, (old, new));
    });
}

impl<K: Kind> Ledger for OfView<K> {
    fn get(&self, key: &Key) -> Option<ObjectMeta> {
        get(K::cache(&self.view), key)
    }

    fn in_namespace(&self, namespace: &str) -> Vec<ObjectMeta> {
        in_namespace(K::cache(&self.view), namespace)
    }

    fn on_change(&self, resource: ResourceId, handler: Handler) {
        on_change(K::cache(&self.view), resource, handler);
    }
}

impl Ledger for Cache<Thin> {
    fn get(&self, key: &Key) -> Option<ObjectMeta> {
        get(self, key)
    }

    fn in_namespace(&self, namespace: &str) -> Vec<ObjectMeta> {
        in_namespace(self, namespace)
    }

    fn on_change(&self, resource: ResourceId, handler: Handler) {
        on_change(self, resource, handler);
    }
}

/// See the module's text.
pub(crate) struct Census {
    ledgers: BTreeMap<ResourceId, Arc<dyn Ledger>>,
    thin: Vec<(ResourceId, Arc<Cache<Thin>>)>,
}

impl Census {
    /// A census of the resources that the server stores.
    pub(crate) fn new(config: &Config, view: &Arc<View>) -> Self {
        let mut census = Self { ledgers: BTreeMap::new(), thin: Vec::new() };
        for resource in config.resources.iter().filter(|resource| !is_event(resource)) {
            let ledger = of_view(resource, view).unwrap_or_else(|| {
                let cache = Arc::new(Cache::<Thin>::default());
                census.thin.push((*resource, cache.clone()));
                cache
            });
            census.ledgers.insert(*resource, ledger);
        }
        census
    }

    /// Calls `handler` after each change of any object. Register before the reflectors run.
    pub(crate) fn on_change(&self, handler: impl Fn(ResourceId, Seen<'_>) + Send + Sync + 'static) {
        let handler: Handler = Arc::new(handler);
        for (resource, ledger) in &self.ledgers {
            ledger.on_change(*resource, handler.clone());
        }
    }

    /// The reflectors of the resources that the view does not hold.
    pub(crate) fn reflectors(
        &self,
        client: &kube::Client,
        stop: &CancellationToken,
    ) -> Vec<impl Future<Output = ()> + Send + use<>> {
        let reflect = |(resource, cache): &(ResourceId, Arc<Cache<Thin>>)| {
            let source = Source { path: api::collection(resource, ""), fields: None };
            let (client, cache, stop) = (client.clone(), cache.clone(), stop.clone());
            async move { reflector::reflect(client, source, &cache, stop).await }
        };
        self.thin.iter().map(reflect).collect()
    }

    /// Waits until all of those were listed once.
    pub(crate) async fn wait_listed(&self) {
        for (_, cache) in &self.thin {
            cache.wait_listed().await;
        }
    }

    /// An object's metadata.
    pub(crate) fn get(&self, resource: &ResourceId, key: &Key) -> Option<ObjectMeta> {
        self.ledgers.get(resource)?.get(key)
    }

    /// All objects of a namespace.
    pub(crate) fn in_namespace(&self, namespace: &str) -> Vec<(ResourceId, ObjectMeta)> {
        self.ledgers
            .iter()
            .filter(|(resource, _)| resource.namespaced)
            .flat_map(|(resource, ledger)| {
                ledger.in_namespace(namespace).into_iter().map(|metadata| (*resource, metadata))
            })
            .collect()
    }

    /// The resource of an owner reference, if the server stores such.
    pub(crate) fn resource_of(&self, api_version: &str, kind: &str) -> Option<ResourceId> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        self.ledgers
            .keys()
            .find(|r| r.kind == kind && r.group == group && r.version == version)
            .copied()
    }
}

/// Whether the resource is events, under either of their names.
pub(crate) fn is_event(resource: &ResourceId) -> bool {
    resource.plural == "events"
}

fn of_view(resource: &ResourceId, view: &Arc<View>) -> Option<Arc<dyn Ledger>> {
    fn ledger<K: Kind>(resource: &ResourceId, view: &Arc<View>) -> Option<Arc<dyn Ledger>> {
        let ledger = OfView::<K> { view: view.clone(), kind: std::marker::PhantomData };
        (K::resource() == *resource).then(|| Arc::new(ledger) as Arc<dyn Ledger>)
    }
    // Not ConfigMaps and Leases: the view holds only some of them.
    ledger::<Pod>(resource, view)
        .or_else(|| ledger::<ReplicaSet>(resource, view))
        .or_else(|| ledger::<Deployment>(resource, view))
        .or_else(|| ledger::<Service>(resource, view))
        .or_else(|| ledger::<Endpoints>(resource, view))
        .or_else(|| ledger::<EndpointSlice>(resource, view))
        .or_else(|| ledger::<Node>(resource, view))
        .or_else(|| ledger::<Namespace>(resource, view))
        .or_else(|| ledger::<ServiceAccount>(resource, view))
        .or_else(|| ledger::<ServiceCIDR>(resource, view))
        .or_else(|| ledger::<IPAddress>(resource, view))
        .or_else(|| ledger::<Ingress>(resource, view))
        .or_else(|| ledger::<IngressClass>(resource, view))
        .or_else(|| ledger::<AddressPool>(resource, view))
}
