//! The watches: Kubernetes' objects in, events with lean copies out.
//!
//! What kube-proxy leaves out is left out by the same label selector, so that headless Services and
//! those of another proxy never get here. An object that can't be decoded counts as absent and is
//! named in the log; the others are not affected.

use std::sync::Arc;

use futures::stream::{BoxStream, StreamExt, select_all};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::networking::v1 as networking;
use kube::api::Api;
use kube::core::DeserializeGuard;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use netmodel::snapshot::ServiceName;
use serde::de::DeserializeOwned;

use super::{Change, Event};
use crate::convert;

/// Events applied in one go, at most.
const CHUNK: usize = 1024;
/// Objects read in one go when a list begins: what is being decoded is all that netd ever holds of
/// Kubernetes' own large types.
const PAGE: u32 = 200;
/// The objects that are for this proxy (upstream: `cmd/kube-proxy/app/server.go`).
const OURS: &str = "!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name";

/// The stream of all watches.
pub(crate) fn watch(client: &Client, own_node: &str) -> BoxStream<'static, Vec<Event>> {
    let services = kind::<core::Service, _>(client, "Services", OURS, |name, object| {
        Some((name, convert::service(object)))
    })
    .map(|seen| seen.map_or_else(|(what, e)| Event::Failed(what, e), Event::Service));
    let slices = kind::<discovery::EndpointSlice, _>(client, "EndpointSlices", OURS, |name, o| {
        Some((name, convert::slice(o)?))
    })
    .map(|seen| seen.map_or_else(|(what, e)| Event::Failed(what, e), Event::Slice));
    let own_node: Arc<str> = own_node.into();
    let nodes = kind::<core::Node, _>(client, "Nodes", "", move |name, object| {
        let own = (*own_node == *name.name).then(|| Box::new(convert::own_node(object)));
        Some((name, (convert::node(object), own)))
    })
    .map(|seen| seen.map_or_else(|(what, e)| Event::Failed(what, e), Event::Node));
    let ranges = kind::<networking::ServiceCIDR, _>(client, "ServiceCIDRs", "", |name, object| {
        Some((name, convert::service_ranges(object)))
    })
    .map(|seen| seen.map_or_else(|(_, e)| Event::NoRanges(e), Event::Ranges));
    let all = [services.boxed(), slices.boxed(), nodes.boxed(), ranges.boxed()];
    select_all(all).ready_chunks(CHUNK).boxed()
}

type Seen<T> = Result<Change<T>, (&'static str, watcher::Error)>;

/// Watches one kind; objects are cut down by `cut`, which says `None` when there is nothing in an
/// object for us.
fn kind<K, T>(
    client: &Client,
    what: &'static str,
    selector: &str,
    cut: impl Fn(ServiceName, &K) -> Option<(ServiceName, T)> + Send + 'static,
) -> impl futures::Stream<Item = Seen<T>> + Send + 'static
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + std::fmt::Debug + Send + 'static,
    T: Send + 'static,
{
    let api: Api<DeserializeGuard<K>> = Api::all(client.clone());
    let name = |object: &DeserializeGuard<K>| {
        ServiceName::new(&object.namespace().unwrap_or_default(), &object.name_any())
    };
    let all = watcher::Config::default().page_size(PAGE);
    let config = if selector.is_empty() { all } else { all.labels(selector) };
    watcher(api, config).default_backoff().map(move |event| {
        let set = |object: DeserializeGuard<K>| {
            let name = name(&object);
            let object = object.0.inspect_err(|error| {
                tracing::warn!(%name, error = %error.error, "one of the {what} can't be read");
            });
            match object.ok().and_then(|object| cut(name.clone(), &object)) {
                Some((name, object)) => Change::Set(name, object),
                None => Change::Gone(name),
            }
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
