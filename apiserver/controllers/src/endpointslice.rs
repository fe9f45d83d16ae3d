//! The endpoint slice controller: which pods stand behind a Service (upstream:
//! `pkg/controller/endpointslice`, `staging/src/k8s.io/endpointslice`).
//!
//! Inputs: services, pods, nodes (for zones), endpoint slices. Outputs: endpoint slices.
//! Invariants: touches only slices that carry its `managed-by` label; a change of one pod changes
//! one slice ([`slices`]); slices hold at most 100 endpoints.

mod desired;
mod slices;

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::cache::{Change, Key};
use crate::controllers::{self, Context};
use crate::meta;
use crate::queue::Queue;
use crate::selector;
use crate::view::View;
use crate::write::{Plan, Write};

pub(crate) use desired::{
    counts, hostname, is_headless, pod_port, protocol, publishes_not_ready, target,
};
pub(crate) use slices::{Group, Owner, reconcile};

/// The label by which slices name their Service.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The label that says who writes a slice.
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// The label of slices and endpoints of Services without a cluster IP.
pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";
/// This controller's name in `managed-by`.
const MANAGER: &str = "endpointslice-controller.k8s.io";
/// Upstream's `--concurrent-service-endpoint-syncs`.
const PARALLEL: usize = 5;

/// Registers the controller's handlers and returns its loop.
pub(crate) fn run(context: &Context) -> impl Future<Output = ()> + Send + use<> {
    let queue = Arc::new(Queue::default());
    register(&context.view, &queue);
    let look_at =
        |Context { api, view, .. }: Context, key| async move { api.run(look(&view, &key)).await };
    controllers::serve("endpointslice", context.clone(), queue, PARALLEL, look_at)
}

fn register(view: &Arc<View>, queue: &Arc<Queue<Key>>) {
    let sink = queue.clone();
    view.services.on_change(move |change| sink.add(meta::key(change.latest())));
    let (sink, source) = (queue.clone(), Arc::downgrade(view));
    view.pods.on_change(move |change| {
        if let Some(view) = source.upgrade() {
            for key in services_of(change, &view) {
                sink.add(key);
            }
        }
    });
    let sink = queue.clone();
    view.endpoint_slices.on_change(move |change| {
        for slice in
            change.sides().filter(|slice| meta::label(&***slice, MANAGED_BY) == Some(MANAGER))
        {
            if let Some(service) = meta::label(&**slice, SERVICE_NAME) {
                sink.add(Key::new(meta::namespace(&**slice), service));
            }
        }
    });
    let (sink, source) = (queue.clone(), Arc::downgrade(view));
    view.nodes.on_change(move |change| {
        let zone = |node: &Option<_>| node.as_deref().and_then(desired::zone).map(str::to_owned);
        if zone(&change.old) != zone(&change.new)
            && let Some(view) = source.upgrade()
        {
            for service in view.services.all() {
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
    let services = view.services.in_namespace(meta::namespace(change.latest()));
    let concerned = |service: &&Arc<Service>| change.sides().any(|pod| selects(service, pod));
    services.iter().filter(concerned).map(|service| meta::key(&**service)).collect()
}

/// Whether a Service's selector matches a pod; without a selector it matches none.
pub(crate) fn selects(service: &Service, pod: &Pod) -> bool {
    let spec = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    spec.filter(|selector| !selector.is_empty())
        .is_some_and(|selector| selector::contains(pod.metadata.labels.as_ref(), selector))
}

/// Whether the Service is one that this controller (and the endpoints controller) serves.
pub(crate) fn is_managed(service: &Service) -> bool {
    let Some(spec) = &service.spec else { return false };
    spec.type_.as_deref() != Some("ExternalName")
        && spec.selector.as_ref().is_some_and(|selector| !selector.is_empty())
}

fn look(view: &View, key: &Key) -> Plan {
    let existing: Vec<Arc<EndpointSlice>> = view
        .endpoint_slices
        .in_namespace(&key.namespace)
        .into_iter()
        .filter(|slice| {
            meta::label(&**slice, SERVICE_NAME) == Some(&key.name)
                && meta::label(&**slice, MANAGED_BY) == Some(MANAGER)
        })
        .collect();
    let service = view.services.get(key);
    let Some(service) = service.filter(|service| is_managed(service)) else {
        // A Service whose selector was taken away keeps its slices as they are, so that somebody
        // else may go on with them; a removed Service's are the garbage collector's work, too.
        return match view.services.get(key) {
            Some(_) => Plan::default(),
            None => Plan::of(existing.iter().map(|slice| Write::delete(&**slice)).collect()),
        };
    };
    if meta::is_deleted(&*service) {
        return Plan::default();
    }
    let pods: Vec<Arc<Pod>> = view
        .pods
        .in_namespace(&key.namespace)
        .into_iter()
        .filter(|pod| selects(&service, pod))
        .collect();
    let zones = |node: &str| {
        let node = view.nodes.get(&Key::new("", node))?;
        desired::zone(&node).map(str::to_owned)
    };
    let groups = desired::groups(&service, &pods, &zones);
    let owner = desired::owner(&service, MANAGER);
    Plan::of(slices::reconcile(&owner, &groups, &existing))
}

#[cfg(test)]
mod tests;
