//! Kubernetes' objects, cut down to what the name server keeps of them.
//!
//! Tolerant as `convert` is: what can't be understood is left out.

use std::net::IpAddr;

use dns::DomainName;
use dns::pods::{Pod, Policy, Wishes};
use dns::zone::{Endpoint, Port, Service, Slice};
use k8s_openapi::api::core::v1 as core;
use netmodel::address::Protocol;
use netmodel::snapshot::ServiceName;

use crate::inputs::slices::Kept;

/// What a Service is for the name server; nothing while it has no address yet.
pub(super) fn service(object: &core::Service) -> Option<Service> {
    let spec = object.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        let mut target = DomainName::from_ascii(spec.external_name.as_deref()?).ok()?;
        target.set_fqdn(true);
        return Some(Service::External(Box::new(target)));
    }
    if spec.cluster_ip.as_deref() == Some("None") {
        let publish_not_ready = spec.publish_not_ready_addresses.unwrap_or(false);
        return Some(Service::Headless { publish_not_ready });
    }
    let ips = cluster_ips(object);
    let ports = spec
        .ports
        .iter()
        .flatten()
        .filter_map(|one| port(one.name.as_deref(), one.protocol.as_deref(), one.port));
    (!ips.is_empty()).then(|| Service::Addresses { ips, ports: ports.collect() })
}

/// `spec.clusterIPs`, as far as they are addresses.
pub(super) fn cluster_ips(object: &core::Service) -> Vec<IpAddr> {
    let Some(spec) = &object.spec else { return Vec::new() };
    let list = spec.cluster_ips.as_deref().unwrap_or(spec.cluster_ip.as_slice());
    let mut ips: Vec<IpAddr> = list.iter().filter_map(|ip| ip.parse().ok()).collect();
    // There are many Services.
    ips.shrink_to_fit();
    ips
}

/// A slice of a headless Service.
pub(super) fn slice(kept: &Kept) -> Slice {
    let ports = kept.slice.ports.iter();
    let ports = ports.filter(|port| !port.name.is_empty()).map(|port| Port {
        name: port.name.to_ascii_lowercase().into(),
        protocol: match port.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        },
        number: port.port,
    });
    let endpoints = kept.slice.endpoints.iter().enumerate().flat_map(|(n, endpoint)| {
        let hostname = kept.hostnames.get(n).and_then(Option::as_ref);
        let one = |addr: &IpAddr| Endpoint {
            addr: *addr,
            hostname: hostname.cloned(),
            ready: endpoint.ready,
        };
        endpoint.addresses.iter().map(one).collect::<Vec<_>>()
    });
    Slice { ports: ports.collect(), endpoints: endpoints.collect() }
}

/// A port that has a name.
fn port(name: Option<&str>, protocol: Option<&str>, number: i32) -> Option<Port> {
    let protocol = match protocol.unwrap_or("TCP") {
        "TCP" => "tcp",
        "UDP" => "udp",
        "SCTP" => "sctp",
        _ => return None,
    };
    let name = name.filter(|name| !name.is_empty())?;
    let number = u16::try_from(number).ok()?;
    Some(Port { name: name.to_ascii_lowercase().into(), protocol, number })
}

/// A Pod that has an address, until it has ended.
pub(super) fn pod(name: &ServiceName, object: &core::Pod) -> Option<Pod> {
    let (spec, status) = (object.spec.as_ref()?, object.status.as_ref()?);
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let ips = status.pod_ips.iter().flatten().filter_map(|one| one.ip.parse().ok());
    let mut ips: Vec<IpAddr> = ips.collect();
    if ips.is_empty() {
        ips.extend(status.pod_ip.as_ref().and_then(|ip| ip.parse::<IpAddr>().ok()));
    }
    let host_network = spec.host_network.unwrap_or(false);
    let pod = Pod {
        namespace: name.namespace.clone(),
        name: (*name.name).into(),
        ips,
        host_network,
        config: wishes(spec, host_network),
    };
    (!pod.ips.is_empty()).then_some(pod)
}

/// What a Pod wants otherwise than others for its `/etc/resolv.conf` (upstream:
/// `pkg/kubelet/network/dns/dns.go`).
fn wishes(spec: &core::PodSpec, host_network: bool) -> Option<Box<Wishes>> {
    let policy = match spec.dns_policy.as_deref() {
        None | Some("ClusterFirst") if !host_network => Policy::Cluster,
        Some("ClusterFirstWithHostNet") => Policy::Cluster,
        Some("None") => Policy::Nothing,
        _ => Policy::Node,
    };
    let config = spec.dns_config.as_ref();
    let servers = config.and_then(|config| config.nameservers.as_deref()).unwrap_or_default();
    let options = config.and_then(|config| config.options.as_deref()).unwrap_or_default();
    let ndots = options.iter().rev().find(|option| option.name.as_deref() == Some("ndots"));
    let wishes = Wishes {
        policy,
        servers: servers.iter().filter_map(|server| server.parse().ok()).collect(),
        searches: config.and_then(|config| config.searches.clone()).unwrap_or_default(),
        ndots: ndots.and_then(|option| option.value.as_deref()?.parse().ok()),
    };
    (wishes != Wishes::default()).then(|| Box::new(wishes))
}
