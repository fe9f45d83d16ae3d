//! Kubernetes' objects become the lean ones of `netmodel`.
//!
//! Tolerant on purpose: a value that can't be understood is left out, so that one bad object never
//! stops the others; the API server has told its author already.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use netmodel::address::{Family, Protocol};
use netmodel::snapshot::{
    Endpoint, EndpointPort, EndpointSlice, Node, Service, ServiceName, ServicePort,
};

/// The annotation by which a Service asks for an IPVS scheduler.
const SCHEDULER_ANNOTATION: &str = "minictl.io/ipvs-scheduler";
/// Objects with this label are another proxy's.
const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
/// Slices with this label belong to a headless Service.
const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
/// The label of a slice that names its Service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// Kubernetes' default for `sessionAffinityConfig.clientIP.timeoutSeconds`.
const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;

/// A Service, if there is anything to do for it in the kernel.
pub(crate) fn service(object: &core::Service) -> Option<Service> {
    let spec = object.spec.as_ref()?;
    if has_label(&object.metadata, PROXY_NAME_LABEL)
        || has_label(&object.metadata, HEADLESS_LABEL)
        || spec.type_.as_deref() == Some("ExternalName")
    {
        return None;
    }
    let cluster_ips = match &spec.cluster_ips {
        Some(list) => addresses(list),
        None => addresses(spec.cluster_ip.as_slice()),
    };
    // Headless, or not allocated yet.
    if cluster_ips.is_empty() {
        return None;
    }
    let annotations = object.metadata.annotations.as_ref();
    Some(Service {
        ports: spec.ports.iter().flatten().filter_map(service_port).collect(),
        cluster_ips,
        external_ips: addresses(spec.external_ips.as_deref().unwrap_or_default()),
        load_balancer_ips: load_balancer_ips(object),
        source_ranges: spec
            .load_balancer_source_ranges
            .iter()
            .flatten()
            .filter_map(|range| range.trim().parse().ok())
            .collect(),
        affinity_seconds: affinity_seconds(spec),
        external_local: spec.external_traffic_policy.as_deref() == Some("Local"),
        internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
        scheduler: annotations
            .and_then(|a| a.get(SCHEDULER_ANNOTATION))
            .map(|name| Arc::from(name.as_str())),
    })
}

fn service_port(port: &core::ServicePort) -> Option<ServicePort> {
    Some(ServicePort {
        name: port.name.as_deref().unwrap_or_default().into(),
        protocol: protocol(port.protocol.as_deref())?,
        port: number(port.port)?,
        node_port: port.node_port.and_then(number),
    })
}

fn load_balancer_ips(object: &core::Service) -> Vec<IpAddr> {
    let ingress = object
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref())
        .and_then(|balancer| balancer.ingress.as_ref());
    ingress
        .into_iter()
        .flatten()
        // With mode Proxy the balancer itself answers, and packets must go there.
        .filter(|one| one.ip_mode.as_deref() != Some("Proxy"))
        .filter_map(|one| one.ip.as_ref()?.parse().ok())
        .collect()
}

fn affinity_seconds(spec: &core::ServiceSpec) -> Option<u32> {
    (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        spec.session_affinity_config
            .as_ref()
            .and_then(|config| config.client_ip.as_ref()?.timeout_seconds)
            .and_then(|seconds| u32::try_from(seconds).ok())
            .unwrap_or(DEFAULT_AFFINITY_SECONDS)
    })
}

/// A slice and the Service it belongs to.
pub(crate) fn slice(object: &discovery::EndpointSlice) -> Option<(ServiceName, EndpointSlice)> {
    let labels = object.metadata.labels.as_ref()?;
    if has_label(&object.metadata, PROXY_NAME_LABEL) || has_label(&object.metadata, HEADLESS_LABEL)
    {
        return None;
    }
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let name = ServiceName::new(namespace, labels.get(SERVICE_NAME_LABEL)?);
    let family = match object.address_type.as_str() {
        "IPv4" => Family::V4,
        "IPv6" => Family::V6,
        // FQDN: nothing the kernel could translate to.
        _ => return None,
    };
    let ports = object.ports.iter().flatten().filter_map(|port| {
        Some(EndpointPort {
            name: port.name.as_deref().unwrap_or_default().into(),
            protocol: protocol(port.protocol.as_deref())?,
            port: number(port.port?)?,
        })
    });
    let endpoints = object.endpoints.iter().flatten().map(|e| endpoint(e, family));
    Some((name, EndpointSlice { family, ports: ports.collect(), endpoints: endpoints.collect() }))
}

fn endpoint(object: &discovery::Endpoint, family: Family) -> Endpoint {
    let conditions = object.conditions.as_ref();
    // Absent conditions: ready means true, serving means ready, terminating means false.
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    let hints = object.hints.as_ref();
    let names = |list: Vec<&str>| list.into_iter().map(Arc::from).collect();
    Endpoint {
        addresses: addresses(&object.addresses)
            .into_iter()
            .filter(|addr| Family::of(*addr) == family)
            .collect(),
        node: object.node_name.as_deref().map(Arc::from),
        ready,
        serving: conditions.and_then(|c| c.serving).unwrap_or(ready),
        terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
        for_nodes: names(
            hints.iter().filter_map(|h| h.for_nodes.as_ref()).flatten().map(|n| &*n.name).collect(),
        ),
        for_zones: names(
            hints.iter().filter_map(|h| h.for_zones.as_ref()).flatten().map(|z| &*z.name).collect(),
        ),
    }
}

/// A node.
pub(crate) fn node(object: &core::Node) -> Node {
    let listed = object.status.as_ref().and_then(|s| s.addresses.as_ref());
    let spec = object.spec.as_ref();
    let ranges: Vec<&String> = match spec.and_then(|s| s.pod_cidrs.as_ref()) {
        Some(list) => list.iter().collect(),
        None => spec.and_then(|s| s.pod_cidr.as_ref()).into_iter().collect(),
    };
    Node {
        addresses: listed
            .into_iter()
            .flatten()
            .filter(|a| matches!(a.type_.as_str(), "InternalIP" | "ExternalIP"))
            .filter_map(|a| a.address.parse().ok())
            .collect(),
        pod_cidrs: ranges.iter().filter_map(|r| r.parse::<IpNet>().ok()).collect(),
        zone: object
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(ZONE_LABEL))
            .map(|zone| Arc::from(zone.as_str())),
    }
}

fn has_label(metadata: &ObjectMeta, label: &str) -> bool {
    metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(label))
}

/// Addresses that parse; `None` (headless) and empty strings don't.
fn addresses(list: &[String]) -> Vec<IpAddr> {
    list.iter().filter_map(|addr| addr.parse().ok()).collect()
}

fn protocol(name: Option<&str>) -> Option<Protocol> {
    match name.unwrap_or("TCP") {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        _ => None,
    }
}

fn number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests;
