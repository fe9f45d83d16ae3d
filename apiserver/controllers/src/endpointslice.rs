//! The endpoint slice controller: which pods stand behind a Service (upstream:
//! `pkg/controller/endpointslice`, `staging/src/k8s.io/endpointslice`).
//!
//! Inputs: services, pods, nodes, endpoint slices. Outputs: endpoint slices, and an event on a
//! Service whose slices are refused, or whose selector has a slip ([`near`]).
//! Invariants: touches only slices that carry its `managed-by` label; a change of one pod changes
//! one slice of each family ([`slices`]); a look at one Service costs nothing for the others.
//!
//! A Service that loses its selector keeps its slices until the mirroring controller has taken its
//! Endpoints over: so traffic goes on, and what somebody writes into those Endpoints from now on
//! counts alone. Upstream leaves both sets of slices in place, and with them the pods of yesterday.

mod desired;
mod hints;
mod near;
mod slices;
mod topology;
mod trigger;

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::api::{self, Api};
use crate::cache::{Change, Key};
use crate::controllers::{self, Context};
use crate::event::{Occurrence, Severity};
use crate::meta::{self, Held};
use crate::mirroring;
use crate::queue::Queue;
use crate::selector;
use crate::view::View;
use crate::words;
use crate::worker::Recheck;
use crate::write::{Plan, Write};

use near::Told;

pub(crate) use desired::{
    address, counts, families, family_of, hostname, is_headless, pod_port, protocol,
    publishes_not_ready, target,
};
pub(crate) use slices::{Group, Owner, reconcile, same_ports};
pub(crate) use trigger::{LAST_CHANGE, Triggers};

/// The label by which slices name their Service.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The label that says who writes a slice.
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// The label of slices and endpoints of Services without a cluster IP.
pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";
/// This controller's name in `managed-by`.
pub(crate) const MANAGER: &str = "endpointslice-controller.k8s.io";
/// The most endpoints in one slice (upstream: `--max-endpoints-per-slice`).
const MAX_ENDPOINTS: usize = 100;
/// Who tells of failures.
const COMPONENT: &str = "endpoint-slice-controller";
/// Upstream's `--concurrent-service-endpoint-syncs`.
const PARALLEL: usize = 5;

/// Registers the controller's handlers and returns its loop.
pub(crate) fn run(context: &Context) -> impl Future<Output = ()> + Send + use<> {
    let queue = Arc::new(Queue::default());
    register(&context.view, &queue);
    let memory = Arc::new(Memory::default());
    let look_at = move |Context { api, view, .. }: Context, key: Key| {
        let memory = memory.clone();
        async move { reconcile_service(&api, &view, &memory, &key).await }
    };
    controllers::serve("endpointslice", context.clone(), queue, PARALLEL, look_at)
}

/// What one look at a Service leaves for the next.
#[derive(Default)]
struct Memory {
    triggers: Triggers,
    told: Told,
}

fn register(view: &Arc<View>, queue: &Arc<Queue<Key>>) {
    let sink = queue.clone();
    view.services.on_change(move |change| sink.add(meta::key(change.latest())));
    let (sink, source) = (queue.clone(), Arc::downgrade(view));
    view.pods.on_change(move |change| {
        if let Some(view) = source.upgrade() {
            for key in services_of(change, &view).into_iter().chain(services_near(change, &view)) {
                sink.add(key);
            }
        }
    });
    let sink = queue.clone();
    view.endpoint_slices.on_change(move |change| {
        // Our own, and those of the mirroring controller, which replace ours.
        let managed = |slice: &&Arc<EndpointSlice>| {
            matches!(meta::label(&***slice, MANAGED_BY), Some(MANAGER | mirroring::MANAGER))
        };
        for slice in change.sides().filter(managed) {
            if let Some(service) = meta::label(&**slice, SERVICE_NAME) {
                sink.add(Key::new(meta::namespace(&**slice), service));
            }
        }
    });
    let (sink, source) = (queue.clone(), Arc::downgrade(view));
    view.nodes.on_change(move |change| {
        let (old, new) = (change.old.as_deref(), change.new.as_deref());
        let moved = old.map(desired::zone) != new.map(desired::zone);
        let resized = old.map(topology::capacity) != new.map(topology::capacity);
        if (moved || resized)
            && let Some(view) = source.upgrade()
        {
            let mut services = view.services.all();
            services.retain(|service| moved || hints::is_by_annotation(service));
            for service in services {
                sink.add(meta::key(&*service));
            }
        }
    });
}

/// The Services that a pod's change concerns: those that select it, or did.
pub(crate) fn services_of(change: &Change<Pod>, view: &View) -> HashSet<Key> {
    if let (Some(old), Some(new)) = (&change.old, &change.new)
        && !desired::differs(old, new)
    {
        return HashSet::new();
    }
    let mut concerned = HashSet::new();
    for pod in change.sides() {
        let namespace = meta::namespace(&**pod);
        let near =
            pod.words().into_iter().flat_map(|label| view.services.found_by(namespace, &label));
        concerned.extend(near.filter(|service| selects(service, pod)).map(|s| meta::key(&*s)));
    }
    concerned
}

/// The Services that a new pod, or one with new labels, could be meant for: those that ask for a
/// value of its labels, and do not select it.
fn services_near(change: &Change<Pod>, view: &View) -> Vec<Key> {
    let labels = |pod: &Arc<Pod>| pod.metadata.labels.clone();
    let Some(pod) = &change.new else { return Vec::new() };
    if change.old.as_ref().is_some_and(|old| labels(old) == labels(pod)) {
        return Vec::new();
    }
    let values = pod.metadata.labels.iter().flat_map(|labels| labels.values());
    let asking =
        values.flat_map(|v| view.services.found_by(meta::namespace(&**pod), &words::of_value(v)));
    asking.filter(|service| !selects(service, pod)).map(|s| meta::key(&*s)).collect()
}

/// The pods that a Service selects.
pub(crate) fn pods_of(service: &Service, view: &View) -> Vec<Arc<Pod>> {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let labels = selector.map(words::of_labels).unwrap_or_default();
    view.pods.found_by_all(meta::namespace(service), &labels)
}

/// Whether a Service's selector matches a pod; without a selector it matches none.
pub(crate) fn selects(service: &Service, pod: &Pod) -> bool {
    let spec = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    spec.filter(|selector| !selector.is_empty())
        .is_some_and(|selector| selector::contains(pod.metadata.labels.as_ref(), selector))
}

/// Whether the Service has another name instead of endpoints.
pub(crate) fn is_external_name(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("ExternalName")
}

/// Whether the Service says which pods are its endpoints.
pub(crate) fn has_selector(service: &Service) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| !selector.is_empty())
}

/// Whether the Service is one that this controller (and the endpoints controller) serves.
pub(crate) fn is_managed(service: &Service) -> bool {
    has_selector(service) && !is_external_name(service)
}

async fn reconcile_service(
    api: &Api,
    view: &View,
    memory: &Memory,
    key: &Key,
) -> Result<Recheck, api::Error> {
    let outcome = api.run(look(view, memory, key)).await;
    if let Err(error) = &outcome
        && error.is_news()
        && let Some(service) = view.services.get(key)
    {
        let Key { namespace, name } = key;
        let why = error.message();
        let text = format!("Error updating Endpoint Slices for Service {namespace}/{name}: {why}");
        let reason = "FailedToUpdateEndpointSlices";
        api.tell(Occurrence::new(COMPONENT, &*service, Severity::Warning, reason, text));
    }
    outcome
}

fn look(view: &View, memory: &Memory, key: &Key) -> Plan {
    let (own, mirrored) = slices_of(view, key);
    let Some(service) = view.services.get(key) else {
        memory.triggers.forget(key);
        memory.told.news(key, None);
        return Plan::of(own.iter().map(|slice| Write::delete(&**slice)).collect());
    };
    if meta::is_deleted(&*service) {
        return Plan::default();
    }
    if !is_managed(&service) {
        let endpoints = view.endpoints.get(key);
        let taken_over = endpoints.map(|original| mirroring::taken_over(&original, &mirrored));
        return Plan::of(obsolete(&service, &own, &taken_over.unwrap_or_default()));
    }
    let pods = pods_of(&service, view);
    let trigger = memory.triggers.note(&service, &pods);
    let node_of = |node: &str| view.nodes.get(&Key::new("", node));
    let mut groups = desired::groups(&service, &pods, &node_of);
    let said = if hints::is_by_annotation(&service) {
        topology::spread(&mut groups, &own, &view.nodes.all())
    } else {
        Vec::new()
    };
    let owner = desired::owner(&service, MANAGER, trigger);
    let mut writes = slices::reconcile(&owner, &groups, &own);
    let tell = |(severity, reason, text): topology::Said| {
        Write::Event(Occurrence::new(COMPONENT, &*service, severity, reason, text))
    };
    // Told when something changes, not at every look.
    if !writes.is_empty() {
        writes.extend(said.into_iter().map(tell));
    }
    let slip =
        pods.is_empty().then(|| near::explain(&service, &view.pods.in_namespace(&key.namespace)));
    if let Some(text) = memory.told.news(key, slip.flatten()) {
        writes.push(tell((Severity::Warning, "SelectorMatchesNothing", text)));
    }
    Plan::of(writes)
}

/// The slices of a Service that this controller made, and those that mirroring made.
pub(crate) fn slices_of(
    view: &View,
    key: &Key,
) -> (Vec<Arc<EndpointSlice>>, Vec<Arc<EndpointSlice>>) {
    let managed_by = |slices: &[Arc<EndpointSlice>], manager: &str| {
        let managed =
            |slice: &&Arc<EndpointSlice>| meta::label(&***slice, MANAGED_BY) == Some(manager);
        slices.iter().filter(managed).cloned().collect()
    };
    let all = view.endpoint_slices.found_by(&key.namespace, &key.name);
    (managed_by(&all, MANAGER), managed_by(&all, mirroring::MANAGER))
}

/// Removes the slices of a Service that no longer wants ours: all of one that became another name;
/// of one that lost its selector, those of the families that mirroring has taken over.
fn obsolete(service: &Service, own: &[Arc<EndpointSlice>], taken_over: &[String]) -> Vec<Write> {
    let unwanted = |slice: &&Arc<EndpointSlice>| {
        is_external_name(service) || taken_over.contains(&slice.address_type)
    };
    own.iter().filter(unwanted).map(|slice| Write::delete(&**slice)).collect()
}

#[cfg(test)]
mod tests;
