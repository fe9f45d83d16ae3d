//! What a client is told about a Service that is stored all the same (upstream:
//! `pkg/api/service/warnings.go`).

use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use super::{CLUSTER_IP, EXTERNAL_NAME, HEADLESS};
use crate::addresses::{cidr_warning, ip_warning};
use crate::field::Path;

pub(super) fn of(service: &Service) -> Vec<String> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let mut warnings = Vec::new();
    let has_external_ips = spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty());
    if service.metadata.annotations.iter().flatten().any(|(key, _)| key == OLD_TOPOLOGY) {
        warnings.push(format!(
            "annotation {OLD_TOPOLOGY} is deprecated, please use {TOPOLOGY} instead"
        ));
    }
    let headless =
        super::type_of(service) == CLUSTER_IP && spec.cluster_ip.as_deref() == Some(HEADLESS);
    let external_name = super::type_of(service) == EXTERNAL_NAME;
    let path = Path::new("spec");
    for (i, address) in spec.cluster_ips.iter().flatten().enumerate() {
        warnings.extend(ip_warning(&path.child("clusterIPs").index(i), address));
    }
    if headless {
        warnings.extend(ignored_when_headless(spec, has_external_ips));
    }
    for (i, address) in spec.external_ips.iter().flatten().enumerate() {
        warnings.extend(ip_warning(&path.child("externalIPs").index(i), address));
    }
    if has_external_ips && !headless && !external_name {
        warnings.push(
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters"
                .to_owned(),
        );
    }
    let address = spec.load_balancer_ip.as_deref().unwrap_or_default();
    warnings.extend(ip_warning(&path.child("loadBalancerIP"), address));
    for (i, range) in spec.load_balancer_source_ranges.iter().flatten().enumerate() {
        warnings.extend(cidr_warning(&path.child("loadBalancerSourceRanges").index(i), range));
    }
    if external_name && has_external_ips {
        warnings.push(format!("spec.externalIPs is ignored when spec.type is {EXTERNAL_NAME:?}"));
    }
    let named = spec.external_name.as_ref().is_some_and(|name| !name.is_empty());
    if !external_name && named {
        warnings
            .push(format!("spec.externalName is ignored when spec.type is not {EXTERNAL_NAME:?}"));
    }
    if spec.traffic_distribution.as_deref() == Some("PreferClose") {
        warnings.push(
            r#"spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone""#
                .to_owned(),
        );
    }
    warnings
}

pub(super) const OLD_TOPOLOGY: &str = "service.kubernetes.io/topology-aware-hints";
pub(super) const TOPOLOGY: &str = "service.kubernetes.io/topology-mode";

fn ignored_when_headless(spec: &ServiceSpec, has_external_ips: bool) -> Vec<String> {
    let balanced = spec.load_balancer_ip.as_ref().is_some_and(|ip| !ip.is_empty());
    let sticky = spec.session_affinity.as_deref().is_some_and(|affinity| affinity != "None");
    let ignored = [
        (balanced, "spec.loadBalancerIP"),
        (has_external_ips, "spec.externalIPs"),
        (sticky, "spec.SessionAffinity"),
    ];
    let ignored = ignored.into_iter().filter(|(set, _)| *set);
    ignored.map(|(_, field)| format!("{field} is ignored for headless services")).collect()
}
