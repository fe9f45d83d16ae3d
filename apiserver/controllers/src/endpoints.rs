//! The endpoints controller: the same as endpoint slices, in the older `v1` form (upstream:
//! `pkg/controller/endpoint`).
//!
//! Inputs: services, pods, endpoints. Output: one Endpoints object per Service with a selector.
//! Invariants: at most 1000 addresses, the surplus cut off and said so by an annotation; an object
//! that says the right thing is not written.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::cache::Key;
use crate::controllers::{self, Context};
use crate::endpointslice as slices;
use crate::meta;
use crate::pod;
use crate::queue::Queue;
use crate::view::View;
use crate::write::{Plan, Write};

/// Who writes the object; mirroring leaves it alone by this.
pub(crate) const MANAGER: &str = "endpoint-controller";
/// The label that says so (upstream: `LabelManagedBy` of the endpoints controller).
pub(crate) const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
/// `truncated` where addresses are missing.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const MOST_ADDRESSES: usize = 1000;
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
        let ours = |held: &Arc<Endpoints>| meta::label(&**held, MANAGED_BY) == Some(MANAGER);
        if change.new.is_none() || change.sides().any(ours) {
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
    let look_at =
        |Context { api, view, .. }: Context, key| async move { api.run(look(&view, &key)).await };
    controllers::serve("endpoints", context.clone(), queue, PARALLEL, look_at)
}

fn look(view: &View, key: &Key) -> Plan {
    let existing = view.endpoints.get(key);
    let Some(service) = view.services.get(key) else {
        // Endpoints go with their Service, ours or not (upstream deletes by name, too).
        let gone = existing.iter().map(|held| Write::delete(&**held));
        return Plan::of(gone.collect());
    };
    if !slices::is_managed(&service) {
        // Without a selector they are the user's: as they were last written.
        return Plan::default();
    }
    let pods: Vec<Arc<Pod>> = view
        .pods
        .in_namespace(&key.namespace)
        .into_iter()
        .filter(|pod| slices::selects(&service, pod))
        .collect();
    Plan::of(plan(&service, &pods, existing.as_deref()).into_iter().collect())
}

/// The write that brings the Service's Endpoints up to date, if one is needed.
fn plan(service: &Service, pods: &[Arc<Pod>], existing: Option<&Endpoints>) -> Option<Write> {
    let (subsets, cut) = truncate(subsets(service, pods));
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    if slices::is_headless(service) {
        labels.insert(slices::HEADLESS.to_owned(), String::new());
    } else {
        labels.remove(slices::HEADLESS);
    }
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let mut wanted = existing.cloned().unwrap_or_else(|| Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        subsets: None,
    });
    wanted.metadata.labels = Some(labels);
    let annotations = wanted.metadata.annotations.get_or_insert_default();
    if cut {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    if annotations.is_empty() {
        wanted.metadata.annotations = None;
    }
    wanted.subsets = Some(subsets).filter(|subsets| !subsets.is_empty());
    match existing {
        None => Some(Write::create(wanted)),
        Some(held) if same(held, &wanted) => None,
        Some(_) => Some(Write::update(wanted)),
    }
}

fn same(held: &Endpoints, wanted: &Endpoints) -> bool {
    let subsets = |endpoints: &Endpoints| endpoints.subsets.clone().unwrap_or_default();
    held.metadata.labels == wanted.metadata.labels
        && held.metadata.annotations.clone().unwrap_or_default()
            == wanted.metadata.annotations.clone().unwrap_or_default()
        && subsets(held) == subsets(wanted)
}

/// A port as a key that sorts as upstream sorts ports.
type PortKey = (String, String, i32, Option<String>);

/// The Service's endpoints, repacked so that ports with the same addresses share a subset
/// (upstream: `RepackSubsets`).
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let publish = slices::publishes_not_ready(service);
    let wants_v6 = service_is_v6(service);
    // Address by (text, pod), so that the order is that of upstream's sorted subsets.
    type Addresses = BTreeMap<(String, String), (EndpointAddress, bool)>;
    let mut by_port: BTreeMap<Option<PortKey>, Addresses> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| slices::counts(pod)) {
        let ready = publish || pod::is_ready(pod);
        if meta::is_deleted(&**pod) && !publish {
            continue;
        }
        let ip = pod::ips(pod)
            .into_iter()
            .find(|ip| ip.parse().is_ok_and(|ip: IpAddr| ip.is_ipv6() == wants_v6));
        let Some(ip) = ip else { continue };
        let address = EndpointAddress {
            ip: ip.to_owned(),
            hostname: slices::hostname(service, pod),
            node_name: pod::node_name(pod).map(str::to_owned),
            target_ref: Some(slices::target(pod)),
        };
        for port in ports(service, pod) {
            let key = (ip.to_owned(), meta::uid(&**pod).to_owned());
            by_port.entry(port).or_default().insert(key, (address.clone(), ready));
        }
    }
    let mut subsets: Vec<(Addresses, Vec<PortKey>)> = Vec::new();
    for (port, addresses) in by_port {
        match subsets.iter_mut().find(|(held, _)| *held == addresses) {
            Some((_, ports)) => ports.extend(port),
            None => subsets.push((addresses, port.into_iter().collect())),
        }
    }
    subsets.into_iter().map(|(addresses, ports)| subset(addresses.into_values(), ports)).collect()
}

fn service_is_v6(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    let first = spec.and_then(|spec| spec.ip_families.as_ref()).and_then(|all| all.first());
    first.is_some_and(|family| family == "IPv6")
}

/// The ports of a pod in the Service; a headless Service without ports has one entry for none.
fn ports(service: &Service, pod: &Pod) -> Vec<Option<PortKey>> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    if ports.is_empty() && slices::is_headless(service) {
        return vec![None];
    }
    ports
        .iter()
        .filter_map(|port| {
            let number = slices::pod_port(port, pod)?;
            let name = port.name.clone().unwrap_or_default();
            let protocol = slices::protocol(port).to_owned();
            Some(Some((name, protocol, number, port.app_protocol.clone())))
        })
        .collect()
}

fn subset(
    addresses: impl Iterator<Item = (EndpointAddress, bool)>,
    ports: Vec<PortKey>,
) -> EndpointSubset {
    let (ready, waiting): (Vec<_>, Vec<_>) = addresses.partition(|(_, ready)| *ready);
    let list = |addresses: Vec<(EndpointAddress, bool)>| {
        let addresses: Vec<_> = addresses.into_iter().map(|(address, _)| address).collect();
        Some(addresses).filter(|addresses| !addresses.is_empty())
    };
    let ports: Vec<EndpointPort> = ports
        .into_iter()
        .map(|(name, protocol, port, app_protocol)| EndpointPort {
            name: Some(name).filter(|name| !name.is_empty()),
            protocol: Some(protocol),
            port,
            app_protocol,
        })
        .collect();
    EndpointSubset {
        addresses: list(ready),
        not_ready_addresses: list(waiting),
        ports: Some(ports).filter(|ports| !ports.is_empty()),
    }
}

/// Cuts off what is beyond the limit, addresses that are not ready first.
fn truncate(mut subsets: Vec<EndpointSubset>) -> (Vec<EndpointSubset>, bool) {
    let count = |list: &Option<Vec<EndpointAddress>>| list.as_ref().map_or(0, Vec::len);
    let all: usize =
        subsets.iter().map(|s| count(&s.addresses) + count(&s.not_ready_addresses)).sum();
    if all <= MOST_ADDRESSES {
        return (subsets, false);
    }
    let mut left = MOST_ADDRESSES;
    let mut cut = |list: &mut Option<Vec<EndpointAddress>>| {
        if let Some(addresses) = list {
            addresses.truncate(left);
            left -= addresses.len();
        }
        *list = list.take().filter(|addresses| !addresses.is_empty());
    };
    for subset in &mut subsets {
        cut(&mut subset.addresses);
    }
    for subset in &mut subsets {
        cut(&mut subset.not_ready_addresses);
    }
    subsets.retain(|s| count(&s.addresses) + count(&s.not_ready_addresses) > 0);
    (subsets, true)
}

#[cfg(test)]
mod tests;
