//! The mirroring controller: hand-written Endpoints become endpoint slices (upstream:
//! `pkg/controller/endpointslicemirroring`).
//!
//! Inputs: endpoints, services, endpoint slices. Outputs: endpoint slices.
//! Invariants: mirrors only Endpoints of a Service without a selector; never those that the
//! endpoints controller writes; touches only slices that carry its `managed-by` label; at most
//! 1000 addresses of each subset.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};

use crate::cache::Key;
use crate::controllers::{self, Context};
use crate::endpoints;
use crate::endpointslice::{self as slices, Group, MANAGED_BY, Owner, SERVICE_NAME};
use crate::meta;
use crate::queue::Queue;
use crate::view::View;
use crate::write::{Plan, Write};

/// This controller's name in `managed-by`.
const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Leader election once lived in Endpoints; those are nobody's addresses.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const LAST_CHANGE: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// Upstream: `--mirroring-max-endpoints-per-subset`.
const MOST_PER_SUBSET: usize = 1000;
const PARALLEL: usize = 5;

/// Registers the controller's handlers and returns its loop.
pub(crate) fn run(context: &Context) -> impl Future<Output = ()> + Send + use<> {
    let queue = Arc::new(Queue::default());
    let sink = queue.clone();
    context.view.endpoints.on_change(move |change| sink.add(meta::key(change.latest())));
    let sink = queue.clone();
    context.view.services.on_change(move |change| sink.add(meta::key(change.latest())));
    let sink = queue.clone();
    context.view.endpoint_slices.on_change(move |change| {
        let slice = change.latest();
        if meta::label(slice, MANAGED_BY) == Some(MANAGER)
            && let Some(service) = meta::label(slice, SERVICE_NAME)
        {
            sink.add(Key::new(meta::namespace(slice), service));
        }
    });
    let look_at =
        |Context { api, view, .. }: Context, key| async move { api.run(look(&view, &key)).await };
    controllers::serve("endpointslicemirroring", context.clone(), queue, PARALLEL, look_at)
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
    let (endpoints, service) = (view.endpoints.get(key), view.services.get(key));
    Plan::of(plan(endpoints.as_deref(), service.as_deref(), &existing))
}

/// The writes that mirror the Endpoints, or remove a mirror that has no original.
fn plan(
    endpoints: Option<&Endpoints>,
    service: Option<&Service>,
    existing: &[Arc<EndpointSlice>],
) -> Vec<Write> {
    let Some(endpoints) = endpoints.filter(|endpoints| is_mirrored(endpoints, service)) else {
        return existing.iter().map(|slice| Write::delete(&**slice)).collect();
    };
    slices::reconcile(&owner(endpoints), &groups(endpoints), existing)
}

fn is_mirrored(endpoints: &Endpoints, service: Option<&Service>) -> bool {
    let skipped = meta::label(endpoints, SKIP_MIRROR) == Some("true")
        || meta::annotation(endpoints, LEADER).is_some()
        // Left behind by a Service that lost its selector: its slices are still there as well.
        || meta::label(endpoints, endpoints::MANAGED_BY) == Some(endpoints::MANAGER);
    let selectorless = service.is_some_and(|service| {
        let spec = service.spec.as_ref();
        let selector = spec.and_then(|spec| spec.selector.as_ref());
        selector.is_none_or(BTreeMap::is_empty)
    });
    selectorless && !skipped && !meta::is_deleted(endpoints)
}

fn owner(endpoints: &Endpoints) -> Owner {
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), meta::name(endpoints).to_owned());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    for key in [LAST_APPLIED, LAST_CHANGE] {
        annotations.remove(key);
    }
    Owner {
        namespace: meta::namespace(endpoints).to_owned(),
        prefix: format!("{}-", meta::name(endpoints)),
        labels,
        annotations,
        reference: meta::controller_reference(endpoints),
    }
}

/// The addresses by family and ports; each subset's ports stay together.
fn groups(endpoints: &Endpoints) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports = ports(subset);
        for (address, ready) in addresses(subset).take(MOST_PER_SUBSET) {
            let Ok(ip) = address.ip.parse::<IpAddr>() else { continue };
            let family = if ip.is_ipv6() { "IPv6" } else { "IPv4" };
            let endpoint = endpoint(address, ready);
            match groups.iter_mut().find(|g| g.address_type == family && g.ports == ports) {
                Some(group) => group.endpoints.push(endpoint),
                None => groups.push(Group {
                    address_type: family.to_owned(),
                    ports: ports.clone(),
                    endpoints: vec![endpoint],
                }),
            }
        }
    }
    groups
}

fn addresses(subset: &EndpointSubset) -> impl Iterator<Item = (&EndpointAddress, bool)> {
    let ready = subset.addresses.iter().flatten().map(|address| (address, true));
    ready.chain(subset.not_ready_addresses.iter().flatten().map(|address| (address, false)))
}

fn ports(subset: &EndpointSubset) -> Vec<EndpointPort> {
    subset
        .ports
        .iter()
        .flatten()
        .map(|port| EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(port.port),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
            app_protocol: port.app_protocol.clone(),
        })
        .collect()
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: None,
            terminating: None,
        }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

#[cfg(test)]
mod tests;
