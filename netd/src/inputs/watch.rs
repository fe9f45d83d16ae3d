//! The watches: Kubernetes' objects in, events with lean copies out.
//!
//! Each object is shown to all [`Listener`](super::fan::Listener)s, and cut down for the kernel's
//! loop. What kube-proxy leaves out never gets to that loop: headless Services and those of another
//! proxy, by the same labels. An object that can't be decoded counts as absent and is named in the
//! log; the others are not affected. Listeners hear of a change at once, the loop when it is ready:
//! while it works on the kernel, some [`WAITING`] batches wait for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::stream::{BoxStream, StreamExt, select_all};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::networking::v1 as networking;
use kube::api::Api;
use kube::core::DeserializeGuard;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use netmodel::snapshot::{Service, ServiceName};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::fan::{Fan, Followed, Listener};
use super::intern::Interner;
use super::slices::{Kept, Slices};
use super::{Change, Event, Facts, OwnedSlice};
use crate::convert;

/// Events applied in one go, at most.
const CHUNK: usize = 1024;
/// Batches of events that wait for a loop that is busy.
const WAITING: usize = 4;
/// Objects read in one go when a list begins: what is being decoded is all that netd ever holds of
/// Kubernetes' own large types.
const PAGE: u32 = 200;
/// An object with this label, or with that of another proxy, is not for this one (upstream:
/// `cmd/kube-proxy/app/server.go`).
const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

/// The stream of all watches, and what must be polled for it to flow.
pub(crate) fn watch(
    client: &Client,
    own_node: &str,
    slices: &Slices,
    listeners: Vec<Box<dyn Listener>>,
) -> (BoxStream<'static, Vec<Event>>, impl Future<Output = ()> + Send + use<>) {
    let mut seen = all(client, own_node, slices, listeners);
    let (send, mut receive) = mpsc::channel(WAITING);
    let flow = async move {
        while let Some(events) = seen.next().await {
            if send.send(events).await.is_err() {
                return;
            }
        }
    };
    let events = futures::stream::poll_fn(move |context| receive.poll_recv(context));
    (events.boxed(), flow)
}

fn all(
    client: &Client,
    own_node: &str,
    slices: &Slices,
    listeners: Vec<Box<dyn Listener>>,
) -> BoxStream<'static, Vec<Event>> {
    let fan: Shared = Arc::new(Mutex::new(Fan::new(slices.clone(), listeners)));
    let services = kind(client, "Services", tell::<core::Service>(&fan), cut_service)
        .map(|seen| Some(seen.map_or_else(|(what, e)| Event::Failed(what, e), Event::Service)));
    let kept = slices.clone();
    let slices = kind(
        client,
        "EndpointSlices",
        tell::<discovery::EndpointSlice>(&fan),
        move |name, object| cut_slice(&kept, name, object),
    )
    .map(|seen| Some(seen.map_or_else(|(what, e)| Event::Failed(what, e), Event::Slice)));
    let own_node: Arc<str> = own_node.into();
    let nodes = kind(client, "Nodes", tell::<core::Node>(&fan), move |name, object| {
        let own = (*own_node == *name.name).then(|| Box::new(convert::own_node(object)));
        Some((name, (convert::node(object), own)))
    })
    .map(|seen| Some(seen.map_or_else(|(what, e)| Event::Failed(what, e), Event::Node)));
    let ranges = kind(
        client,
        "ServiceCIDRs",
        |_| (),
        |name, object: &networking::ServiceCIDR| Some((name, convert::service_ranges(object))),
    )
    .map(|seen| Some(seen.map_or_else(|(_, e)| Event::NoRanges(e), Event::Ranges)));
    // Only listeners care for Pods, and where they may not be seen, they do without.
    let pods = kind(client, "Pods", tell::<core::Pod>(&fan), |_, _| None::<(_, ())>).map(|seen| {
        if let Err((_, error)) = seen {
            tracing::debug!(error = &error as &dyn std::error::Error, "watch Pods");
        }
        None
    });
    let all = [services.boxed(), slices.boxed(), nodes.boxed(), ranges.boxed(), pods.boxed()];
    let events = select_all(all).filter_map(std::future::ready);
    events.ready_chunks(CHUNK).boxed()
}

/// What the loop gets of a Service.
pub(super) fn cut_service(
    name: ServiceName,
    object: &core::Service,
) -> Option<(ServiceName, (Option<Service>, Facts))> {
    let event = || (name, convert::service(object));
    is_ours(object.metadata.labels.as_ref()).then(event)
}

/// What the loop gets of a slice. Listeners were told first: it is kept already.
pub(super) fn cut_slice(
    kept: &Slices,
    name: ServiceName,
    object: &discovery::EndpointSlice,
) -> Option<(ServiceName, OwnedSlice)> {
    let ours = is_ours(object.metadata.labels.as_ref());
    let Kept { owner, slice, .. } = ours.then(|| kept.get(&name)).flatten()?;
    let triggered = convert::triggered(object);
    Some((name, OwnedSlice { owner, slice, triggered }))
}

/// Streams are polled one after the other; the lock is never contended.
type Shared = Arc<Mutex<Fan>>;

fn tell<K: Followed + 'static>(fan: &Shared) -> impl Fn(Change<&K>) + Send + 'static {
    let fan = fan.clone();
    move |change| fan.lock().unwrap_or_else(PoisonError::into_inner).tell(change)
}

fn is_ours(labels: Option<&BTreeMap<String, String>>) -> bool {
    let Some(labels) = labels else { return true };
    let by_node = labels.get(convert::PROXY_LABEL).is_some_and(|proxy| proxy == convert::BY_NODE);
    let is_other_proxys = labels.contains_key(convert::PROXY_LABEL) && !by_node;
    !is_other_proxys && !labels.contains_key(HEADLESS_LABEL)
}

type Seen<T> = Result<Change<T>, (&'static str, watcher::Error)>;

/// Watches one kind; each step is shown to `tell`, and objects are cut down by `cut`, which says
/// `None` when there is nothing in an object for us.
fn kind<K, T>(
    client: &Client,
    what: &'static str,
    tell: impl Fn(Change<&K>) + Send + 'static,
    cut: impl Fn(ServiceName, &K) -> Option<(ServiceName, T)> + Send + 'static,
) -> impl futures::Stream<Item = Seen<T>> + Send + 'static
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + std::fmt::Debug + Send + 'static,
    T: Send + 'static,
{
    let api: Api<DeserializeGuard<K>> = Api::all(client.clone());
    let mut namespaces = Interner::default();
    let mut name = move |object: &DeserializeGuard<K>| {
        let namespace = namespaces.share(object.meta().namespace.as_deref().unwrap_or_default());
        ServiceName { namespace, name: object.name_any().into() }
    };
    let config = watcher::Config::default().page_size(PAGE);
    watcher(api, config).default_backoff().map(move |event| {
        let mut set = |object: DeserializeGuard<K>| {
            let name = name(&object);
            let object = object.0.inspect_err(|error| {
                tracing::warn!(%name, error = %error.error, "one of the {what} can't be read");
            });
            let Ok(object) = object else {
                tell(Change::Gone(name.clone()));
                return Change::Gone(name);
            };
            tell(Change::Set(name.clone(), &object));
            match cut(name.clone(), &object) {
                Some((name, object)) => Change::Set(name, object),
                None => Change::Gone(name),
            }
        };
        match event {
            Ok(watcher::Event::Init) => {
                tell(Change::Begin);
                Ok(Change::Begin)
            }
            Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => {
                Ok(set(object))
            }
            Ok(watcher::Event::InitDone) => {
                tell(Change::Listed);
                Ok(Change::Listed)
            }
            Ok(watcher::Event::Delete(object)) => {
                let name = name(&object);
                tell(Change::Gone(name.clone()));
                Ok(Change::Gone(name))
            }
            Err(error) => Err((what, error)),
        }
    })
}
