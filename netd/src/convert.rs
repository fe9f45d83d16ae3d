//! Kubernetes' objects become the lean ones of `netmodel`.
//!
//! Tolerant on purpose: a value that can't be understood is left out, so that one bad object never
//! stops the others; the API server has told its author already.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use netmodel::address::{Family, Protocol};
use netmodel::snapshot::{
    ByNode, Endpoint, EndpointPort, EndpointSlice, Node, Service, ServiceName, ServicePort,
};

use crate::ENGINE_ANNOTATION;
use crate::conditions::PROGRAMMED;
use crate::inputs::intern::Interner;
use crate::inputs::slices::{Hostnames, Kept};
use crate::inputs::{Facts, OwnNode, SliceName};
use crate::wanted::WANTED_ANNOTATION;

/// The annotation by which a Service asks for an IPVS scheduler.
const SCHEDULER_ANNOTATION: &str = "minictl.io/ipvs-scheduler";
/// The label by which a Service says who serves it (upstream: `pkg/proxy/apis/well_known_labels.go`).
pub(crate) const PROXY_LABEL: &str = "service.kubernetes.io/service-proxy-name";
/// Its value where a process of each node answers.
pub(crate) const BY_NODE: &str = "minictl-node-local";
/// The cluster's DNS: many short connections of which nothing is to be remembered.
const DNS_SERVICE: (Option<&str>, Option<&str>) = (Some("kube-system"), Some("kube-dns"));
/// The condition of a Service whose LoadBalancer addresses the API server gave. Others are given by
/// another load balancer (`MetalLB`, a cloud's), which announces them itself.
const ASSIGNED: &str = "minictl.io/AddressAssigned";
/// The label of a slice that names its Service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// When the change happened that led to the last edit of a slice (upstream:
/// `EndpointsLastChangeTriggerTime`).
const TRIGGER_ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// Set on a node by Kubernetes' autoscaler before it deletes it (upstream: `pkg/proxy/healthcheck`).
const LEAVING_TAINT: &str = "ToBeDeletedByClusterAutoscaler";
/// Keeps a node from being a way into the cluster (upstream: `core/v1`, `LabelNodeExcludeBalancers`).
const EXCLUDE_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// Kubernetes' default for `sessionAffinityConfig.clientIP.timeoutSeconds`.
const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;

/// What there is to do for a Service in the kernel, if anything, and what is told about it.
pub(crate) fn service(object: &core::Service) -> (Option<Service>, Facts) {
    (programmed(object), facts(object))
}

fn facts(object: &core::Service) -> Facts {
    let metadata = &object.metadata;
    let conditions = || object.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let complaint = conditions().find(|c| c.type_ == PROGRAMMED && c.status == "False");
    let is_assigned = conditions().any(|c| c.type_ == ASSIGNED && c.status == "True");
    Facts {
        uid: metadata.uid.as_deref().unwrap_or_default().into(),
        resource_version: metadata.resource_version.as_deref().unwrap_or_default().into(),
        complaint: complaint.map(|c| c.message.as_str().into()),
        health_check_port: health_check_port(object),
        balanced_by_others: !is_assigned && !load_balancer_ips(object).is_empty(),
    }
}

/// The port counts for Services that a load balancer must only send to nodes with endpoints
/// (upstream: `pkg/api/v1/service`, `NeedsHealthCheck`).
fn health_check_port(object: &core::Service) -> Option<u16> {
    let spec = object.spec.as_ref()?;
    let counts = spec.type_.as_deref() == Some("LoadBalancer")
        && spec.external_traffic_policy.as_deref() == Some("Local");
    spec.health_check_node_port.filter(|_| counts).and_then(number)
}

fn programmed(object: &core::Service) -> Option<Service> {
    let spec = object.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
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
    let by_node = by_node(&object.metadata).ok()?;
    Some(Service {
        ports: exact(spec.ports.iter().flatten().filter_map(service_port)),
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
        scheduler: annotation(&object.metadata, SCHEDULER_ANNOTATION).map(Arc::from),
        by_node,
    })
}

/// Another proxy serves the Service.
struct NotOurs;

fn by_node(metadata: &ObjectMeta) -> Result<Option<ByNode>, NotOurs> {
    match metadata.labels.as_ref().and_then(|labels| labels.get(PROXY_LABEL)) {
        None => Ok(None),
        Some(proxy) if proxy == BY_NODE => {
            let name = (metadata.namespace.as_deref(), metadata.name.as_deref());
            Ok(Some(ByNode { untracked: name == DNS_SERVICE }))
        }
        Some(_) => Err(NotOurs),
    }
}

fn service_port(port: &core::ServicePort) -> Option<ServicePort> {
    Some(ServicePort {
        name: port.name.as_deref().map(Arc::from).unwrap_or_default(),
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

/// A slice and the Service it belongs to; `None` if it has no addresses or no Service.
pub(crate) fn slice(
    name: &SliceName,
    object: &discovery::EndpointSlice,
    words: &mut Interner,
) -> Option<Kept> {
    let labels = object.metadata.labels.as_ref()?;
    let owner = labels.get(SERVICE_NAME_LABEL)?.as_str();
    let owner = ServiceName { namespace: name.namespace.clone(), name: owner.into() };
    let family = match object.address_type.as_str() {
        "IPv4" => Family::V4,
        "IPv6" => Family::V6,
        // FQDN: nothing the kernel could translate to.
        _ => return None,
    };
    let ports = object.ports.iter().flatten().filter_map(|port| {
        Some(EndpointPort {
            name: words.share(port.name.as_deref().unwrap_or_default()),
            protocol: protocol(port.protocol.as_deref())?,
            port: number(port.port?)?,
        })
    });
    let ports = exact(ports);
    let endpoints = object.endpoints.iter().flatten();
    let endpoints = exact(endpoints.map(|one| endpoint(one, family, words)));
    let slice = Arc::new(EndpointSlice { family, ports, endpoints });
    Some(Kept { owner, slice, hostnames: hostnames(object) })
}

/// When the change happened that a slice reports.
pub(crate) fn triggered(object: &discovery::EndpointSlice) -> Option<Timestamp> {
    annotation(&object.metadata, TRIGGER_ANNOTATION).and_then(|at| at.parse().ok())
}

/// In lower case, as names are kept.
fn hostnames(object: &discovery::EndpointSlice) -> Hostnames {
    let name = |one: &discovery::Endpoint| {
        let name = one.hostname.as_deref().filter(|name| !name.is_empty())?;
        Some(name.to_ascii_lowercase().into_boxed_str())
    };
    let all: Vec<_> = object.endpoints.iter().flatten().map(name).collect();
    if all.iter().all(Option::is_none) { Hostnames::default() } else { all.into() }
}

fn endpoint(object: &discovery::Endpoint, family: Family, words: &mut Interner) -> Endpoint {
    let conditions = object.conditions.as_ref();
    // Absent conditions: ready means true, serving means ready, terminating means false.
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    let hints = object.hints.as_ref();
    let mut names = |list: Vec<&str>| list.into_iter().map(|name| words.share(name)).collect();
    let for_nodes = hints.iter().filter_map(|h| h.for_nodes.as_ref()).flatten();
    let for_zones = hints.iter().filter_map(|h| h.for_zones.as_ref()).flatten();
    let addresses = object.addresses.iter().filter_map(|one| one.parse().ok());
    Endpoint {
        for_nodes: names(for_nodes.map(|node| &*node.name).collect()),
        for_zones: names(for_zones.map(|zone| &*zone.name).collect()),
        addresses: exact(addresses.filter(|one| Family::of(*one) == family)),
        node: object.node_name.as_deref().map(|node| words.share(node)),
        ready,
        serving: conditions.and_then(|c| c.serving).unwrap_or(ready),
        terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
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

/// What only the node itself cares about.
pub(crate) fn own_node(object: &core::Node) -> OwnNode {
    let metadata = &object.metadata;
    let taints = object.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    OwnNode {
        uid: metadata.uid.clone().unwrap_or_default(),
        stated: annotation(metadata, ENGINE_ANNOTATION).map(str::to_owned),
        wanted: annotation(metadata, WANTED_ANNOTATION).map(str::to_owned),
        leaving: metadata.deletion_timestamp.is_some()
            || taints.into_iter().any(|taint| taint.key == LEAVING_TAINT),
        ready: is_ready(object),
        excluded: metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(EXCLUDE_LABEL)),
    }
}

fn is_ready(object: &core::Node) -> bool {
    let mut conditions = object.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The ranges of a ServiceCIDR.
pub(crate) fn service_ranges(object: &networking::ServiceCIDR) -> Vec<IpNet> {
    let ranges = object.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    ranges.filter_map(|range| range.parse().ok()).collect()
}

fn annotation<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// Addresses that parse; `None` (headless) and empty strings don't.
fn addresses(list: &[String]) -> Vec<IpAddr> {
    exact(list.iter().filter_map(|addr| addr.parse().ok()))
}

/// A list without room for more: it is kept for long, and there are many.
fn exact<T>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut list: Vec<T> = items.collect();
    list.shrink_to_fit();
    list
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
