//! The endpoints controller: the same as endpoint slices, in the older `v1` form (upstream:
//! `pkg/controller/endpoint`).
//!
//! Inputs: services, pods, endpoints. Output: one Endpoints object per Service with a selector, in
//! the Service's first address family.
//! Invariants: at most 1000 addresses, the surplus cut off and said so by an annotation; an object
//! that says the right thing is not written; of a Service without a selector, the object is the
//! user's: it stays as it was last written.

mod subsets;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::{self, Api};
use crate::cache::Key;
use crate::controllers::{self, Context};
use crate::endpointslice::{self as slices, LAST_CHANGE, Triggers};
use crate::event::{Occurrence, Severity};
use crate::meta;
use crate::pod;
use crate::queue::Queue;
use crate::selector;
use crate::view::View;
use crate::worker::Recheck;
use crate::write::{Plan, Write};

use subsets::{Port, truncate};

pub(crate) use subsets::{pack, unpack};

/// Who writes the object; mirroring leaves it alone by this.
pub(crate) const MANAGER: &str = "endpoint-controller";
/// The label that says so (upstream: `LabelManagedBy` of the endpoints controller).
pub(crate) const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
/// `truncated` where addresses are missing.
pub(crate) const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const PARALLEL: usize = 5;

/// Registers the controller's handlers and returns its loop.
pub(crate) fn run(context: &Context) -> impl Future<Output = ()> + Send + use<> {
    let queue = Arc::new(Queue::default());
    let sink = queue.clone();
    context.view.services.on_change(move |change| sink.add(meta::key(change.latest())));
    let sink = queue.clone();
    context.view.endpoints.on_change(move |change| {
        // Ours, when somebody changed or removed it. What a user writes by hand may well come
        // before its Service and is left alone.
        if change.new.is_none() || change.sides().any(|held| is_ours(held)) {
            sink.add(meta::key(change.latest()));
        }
    });
    let (sink, source) = (queue.clone(), Arc::downgrade(&context.view));
    context.view.pods.on_change(move |change| {
        if let Some(view) = source.upgrade() {
            for key in slices::services_of(change, &view) {
                sink.add(key);
            }
        }
    });
    let triggers = Arc::new(Triggers::default());
    let look_at = move |Context { api, view, .. }: Context, key: Key| {
        let triggers = triggers.clone();
        async move { reconcile(&api, &view, &triggers, &key).await }
    };
    controllers::serve("endpoints", context.clone(), queue, PARALLEL, look_at)
}

async fn reconcile(
    api: &Api,
    view: &View,
    triggers: &Triggers,
    key: &Key,
) -> Result<Recheck, api::Error> {
    let outcome = api.run(look(view, triggers, key)).await;
    if let Err(error) = &outcome
        && error.is_news()
    {
        api.tell(failure(view, key, &error.message()));
    }
    outcome
}

fn failure(view: &View, key: &Key, why: &str) -> Occurrence {
    let Key { namespace, name } = key;
    let (object, reason, doing) = match view.endpoints.get(key) {
        Some(held) => ((*held).clone(), "FailedToUpdateEndpoint", "update endpoint"),
        None => (unwritten(key), "FailedToCreateEndpoint", "create endpoint for service"),
    };
    let text = format!("Failed to {doing} {namespace}/{name}: {why}");
    Occurrence::new(MANAGER, &object, Severity::Warning, reason, text)
}

/// The object as it is before it was ever written.
fn unwritten(key: &Key) -> Endpoints {
    let metadata = ObjectMeta {
        name: Some(key.name.clone()),
        namespace: Some(key.namespace.clone()),
        ..ObjectMeta::default()
    };
    Endpoints { metadata, subsets: None }
}

fn look(view: &View, triggers: &Triggers, key: &Key) -> Plan {
    let existing = view.endpoints.get(key);
    let remove = |held: &Endpoints| Plan::of(vec![Write::delete(held)]);
    let Some(service) = view.services.get(key) else {
        triggers.forget(key);
        // Endpoints go with their Service, ours or not (upstream deletes by name, too).
        return existing.as_deref().map(remove).unwrap_or_default();
    };
    if !slices::is_managed(&service) {
        // A Service that became another name has no addresses of ours to show.
        let stale = existing.filter(|held| slices::is_external_name(&service) && is_ours(held));
        return stale.as_deref().map(remove).unwrap_or_default();
    }
    if meta::is_deleted(&*service) {
        return Plan::default();
    }
    let pods = slices::pods_of(&service, view);
    let trigger = triggers.note(&service, &pods).map(|at| at.to_string());
    Plan::of(plan(&service, &pods, existing.as_deref(), trigger).into_iter().collect())
}

/// Whether this controller wrote the object.
pub(crate) fn is_ours(endpoints: &Endpoints) -> bool {
    meta::label(endpoints, MANAGED_BY) == Some(MANAGER)
}

/// The write that brings the Service's Endpoints up to date, if one is needed.
fn plan(
    service: &Service,
    pods: &[Arc<Pod>],
    existing: Option<&Endpoints>,
    trigger: Option<String>,
) -> Option<Write> {
    let (subsets, cut) = truncate(subsets(service, pods));
    let mut wanted = existing.cloned().unwrap_or_else(|| unwritten(&meta::key(service)));
    wanted.metadata.labels = Some(labels(service));
    let mut annotations = wanted.metadata.annotations.take().unwrap_or_default();
    let mut annotate = |key: &str, value: Option<String>| match value {
        Some(value) => annotations.insert(key.to_owned(), value),
        None => annotations.remove(key),
    };
    annotate(OVER_CAPACITY, cut.then(|| "truncated".to_owned()));
    annotate(LAST_CHANGE, trigger);
    wanted.metadata.annotations = Some(annotations).filter(|all| !all.is_empty());
    wanted.subsets = Some(subsets).filter(|subsets| !subsets.is_empty());
    match existing {
        None => Some(Write::create(wanted)),
        Some(held) if same(held, &wanted) => None,
        Some(_) => Some(Write::update(wanted)),
    }
}

/// The Service's labels, and ours on top.
fn labels(service: &Service) -> selector::Labels {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(slices::HEADLESS);
    if slices::is_headless(service) {
        labels.insert(slices::HEADLESS.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels
}

/// Whether both say the same; since when is not asked.
fn same(held: &Endpoints, wanted: &Endpoints) -> bool {
    let subsets = |endpoints: &Endpoints| endpoints.subsets.clone().unwrap_or_default();
    held.metadata.labels == wanted.metadata.labels
        && meta::annotation(held, OVER_CAPACITY) == meta::annotation(wanted, OVER_CAPACITY)
        && subsets(held) == subsets(wanted)
}

/// The Service's endpoints.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let publish = slices::publishes_not_ready(service);
    let family = slices::families(service).first().copied().unwrap_or("IPv4");
    let mut entries = Vec::new();
    for pod in pods.iter().filter(|pod| slices::counts(pod)) {
        if meta::is_deleted(&**pod) && !publish {
            continue;
        }
        let Some(ip) = slices::address(pod, family) else { continue };
        let address = EndpointAddress {
            ip: ip.to_string(),
            hostname: slices::hostname(service, pod),
            node_name: pod::node_name(pod).map(str::to_owned),
            target_ref: Some(slices::target(pod)),
        };
        let ready = publish || pod::is_ready(pod);
        entries.extend(ports(service, pod).into_iter().map(|port| (port, address.clone(), ready)));
    }
    pack(entries)
}

/// The ports of a pod in the Service; a headless Service without ports has one entry for none.
fn ports(service: &Service, pod: &Pod) -> Vec<Option<Port>> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    if ports.is_empty() && slices::is_headless(service) {
        return vec![None];
    }
    let of_pod = ports.iter().filter_map(|port| {
        Some(Some(Port {
            name: port.name.clone().unwrap_or_default(),
            protocol: slices::protocol(port).to_owned(),
            number: slices::pod_port(port, pod)?,
            app_protocol: port.app_protocol.clone(),
        }))
    });
    of_pod.collect()
}

#[cfg(test)]
mod tests;
