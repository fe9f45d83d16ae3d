//! The endpoints that a Service should have, grouped as slices group them (upstream:
//! `endpointslice/utils.go`, `reconciler.go`).
//!
//! Pure. Inputs: a Service, the pods that it selects, their nodes. Outputs: [`Group`]s.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::slices::{Group, Owner};
use super::{HEADLESS, MANAGED_BY, MAX_ENDPOINTS, SERVICE_NAME, hints};
use crate::meta;
use crate::pod;

const ZONE: &str = "topology.kubernetes.io/zone";

/// A node's zone.
pub(super) fn zone(node: &Node) -> Option<&str> {
    meta::label(node, ZONE).filter(|zone| !zone.is_empty())
}

/// Whether a pod changed in a way that its endpoint shows (upstream: `podEndpointsChanged`).
pub(super) fn differs(old: &Pod, new: &Pod) -> bool {
    fn shown(pod: &Pod) -> impl PartialEq {
        (
            meta::is_deleted(pod),
            pod::is_terminal(pod),
            pod::is_ready(pod),
            pod::node_name(pod),
            pod::ips(pod),
            &pod.metadata.labels,
            pod::spec(pod).map(|spec| (&spec.hostname, &spec.subdomain)),
            meta::uid(pod),
        )
    }
    shown(old) != shown(new)
}

/// Whether the Service wants endpoints that are not ready as well.
pub(crate) fn publishes_not_ready(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false)
}

/// What every slice of the Service carries.
pub(super) fn owner(service: &Service, manager: &str, trigger: Option<Timestamp>) -> Owner {
    let mut labels = BTreeMap::new();
    // The Service's own labels come along, ours on top.
    for (key, value) in service.metadata.labels.iter().flatten() {
        if key != HEADLESS {
            labels.insert(key.clone(), value.clone());
        }
    }
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(SERVICE_NAME.to_owned(), meta::name(service).to_owned());
    labels.insert(MANAGED_BY.to_owned(), manager.to_owned());
    Owner {
        namespace: meta::namespace(service).to_owned(),
        prefix: format!("{}-", meta::name(service)),
        labels,
        annotations: None,
        trigger,
        reference: meta::controller_reference(service),
        capacity: MAX_ENDPOINTS,
    }
}

/// Whether the Service has no cluster IP by choice.
pub(crate) fn is_headless(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    matches!(spec.and_then(|spec| spec.cluster_ip.as_deref()), Some("None"))
}

/// The address families that the Service has, IPv4 where it does not say.
pub(crate) fn families(service: &Service) -> Vec<&'static str> {
    let spec = service.spec.as_ref();
    let named: Vec<&'static str> = spec
        .iter()
        .flat_map(|spec| spec.ip_families.iter().flatten())
        .filter_map(|family| match family.as_str() {
            "IPv4" => Some("IPv4"),
            "IPv6" => Some("IPv6"),
            _ => None,
        })
        .collect();
    if !named.is_empty() {
        return named;
    }
    let ip = spec.and_then(|spec| spec.cluster_ip.as_deref()).and_then(|ip| ip.parse().ok());
    match ip {
        Some(IpAddr::V6(_)) => vec!["IPv6"],
        _ => vec!["IPv4"],
    }
}

/// The Service's endpoints, by address family and by the ports they have.
///
/// A pod whose node is gone is left out, unless the Service wants whatever there is: the pod will
/// be removed, and its address may be given to another one (upstream: `reconcileByAddressType`).
pub(super) fn groups(
    service: &Service,
    pods: &[Arc<Pod>],
    node_of: &dyn Fn(&str) -> Option<Arc<Node>>,
) -> Vec<Group> {
    let mut groups = Vec::new();
    for family in families(service) {
        let mut by_ports: Vec<Group> = Vec::new();
        for pod in pods.iter().filter(|pod| counts(pod)) {
            let Some(ip) = address(pod, family) else { continue };
            let node = pod::node_name(pod).and_then(node_of);
            if node.is_none() && !publishes_not_ready(service) {
                continue;
            }
            let ports = ports(service, pod);
            let endpoint = endpoint(service, pod, ip, node.as_deref());
            match by_ports.iter_mut().find(|group| group.ports == ports) {
                Some(group) => group.endpoints.push(endpoint),
                None => by_ports.push(Group {
                    address_type: family.to_owned(),
                    ports,
                    endpoints: vec![endpoint],
                }),
            }
        }
        if by_ports.is_empty() {
            // A slice without endpoints says that the Service was looked at.
            by_ports.push(Group {
                address_type: family.to_owned(),
                ports: Vec::new(),
                endpoints: Vec::new(),
            });
        }
        groups.append(&mut by_ports);
    }
    groups
}

/// The pod's address of a family.
pub(crate) fn address(pod: &Pod, family: &str) -> Option<IpAddr> {
    let mut all = pod::ips(pod).into_iter().filter_map(|ip| ip.parse().ok());
    all.find(|ip| family_of(ip) == family)
}

/// An address's family in the API's words.
pub(crate) fn family_of(ip: &IpAddr) -> &'static str {
    match ip {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    }
}

/// Whether a pod is an endpoint at all (upstream: `ShouldPodBeInEndpoints`).
pub(crate) fn counts(pod: &Pod) -> bool {
    !pod::is_terminal(pod) && !pod::ips(pod).is_empty()
}

/// A pod as an endpoint. One that is going away is no longer `ready`, but stays `serving` as long
/// as it answers its probe: who has nobody else may still send to it.
fn endpoint(service: &Service, pod: &Pod, ip: IpAddr, node: Option<&Node>) -> Endpoint {
    let serving = pod::is_ready(pod);
    let terminating = meta::is_deleted(pod);
    let ready = publishes_not_ready(service) || (serving && !terminating);
    let zone = node.and_then(zone);
    let node_name = pod::node_name(pod);
    Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: hostname(service, pod),
        node_name: node_name.map(str::to_owned),
        target_ref: Some(target(pod)),
        zone: zone.map(str::to_owned),
        hints: if ready { hints::of(service, zone, node_name) } else { None },
        ..Endpoint::default()
    }
}

/// The pod as an endpoint names it.
pub(crate) fn target(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// The name under which DNS knows the endpoint, for pods that belong to a headless Service
/// (upstream: `ShouldSetHostname`).
pub(crate) fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod::spec(pod)?;
    let hostname = spec.hostname.as_ref().filter(|name| !name.is_empty())?;
    let same = meta::namespace(service) == meta::namespace(pod)
        && spec.subdomain.as_deref() == Some(meta::name(service));
    same.then(|| hostname.clone())
}

/// The Service's ports as this pod has them: a named target port is the pod's own.
fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let spec = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    spec.filter_map(|port| {
        Some(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(pod_port(port, pod)?),
            protocol: Some(protocol(port).to_owned()),
            app_protocol: port.app_protocol.clone(),
        })
    })
    .collect()
}

/// A Service port's protocol.
pub(crate) fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

/// The port of the pod that a Service port leads to; none if the pod has no port of that name
/// (upstream: `FindPort`).
pub(crate) fn pod_port(port: &ServicePort, pod: &Pod) -> Option<i32> {
    match &port.target_port {
        None | Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) if name.is_empty() => Some(port.port),
        Some(IntOrString::String(name)) => {
            let spec = pod::spec(pod)?;
            let sidecars = spec
                .init_containers
                .iter()
                .flatten()
                .filter(|container| container.restart_policy.as_deref() == Some("Always"));
            spec.containers
                .iter()
                .chain(sidecars)
                .flat_map(|container| container.ports.iter().flatten())
                .find(|held| {
                    held.name.as_deref() == Some(name)
                        && held.protocol.as_deref().unwrap_or("TCP") == protocol(port)
                })
                .map(|held| held.container_port)
        }
    }
}
