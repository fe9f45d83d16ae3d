//! When a Service is well formed, and which changes it may go through.
//!
//! Upstream: `ValidateService`, `ValidateServiceUpdate` of `pkg/apis/core/validation/validation.go`.
//! Input: a Service after defaulting and `prepare_*`. Output: field errors, in upstream's order.
//! Deliberately not here: whether an address or a port is free and in range (the allocator knows).

mod addresses;
mod ports;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use super::warnings::{OLD_TOPOLOGY, TOPOLOGY};
use super::{EXTERNAL_NAME, LOAD_BALANCER, NODE_PORT};
use crate::addresses::{validate_cidr, validate_ip, validate_non_special_ip};
use crate::field::{FieldErrors, Path};
use crate::labels::validate_labels;
use crate::names;

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const TRAFFIC_POLICIES: &[&str] = &["Cluster", "Local"];
const DISTRIBUTIONS: &[&str] = &["PreferClose", "PreferSameNode", "PreferSameZone"];
/// The longest affinity, in seconds: one day.
const LONGEST_AFFINITY: i32 = 86_400;
/// The annotation that `spec.loadBalancerSourceRanges` once was.
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

pub(super) fn service(service: &Service) -> FieldErrors {
    let path = Path::new("spec");
    let default = ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&default);
    let mut errors = annotations(service);
    let headless = super::is_headless(service);
    if super::ports(service).is_empty() && !headless && super::type_of(service) != EXTERNAL_NAME {
        errors.push(path.child("ports").required(""));
    }
    errors.extend(type_specific(service, spec, &path));
    errors.extend(ports::validate(super::ports(service), &path.child("ports")));
    errors.extend(validate_labels(&path.child("selector"), spec.selector.as_ref()));
    errors.extend(affinity(spec, &path));
    errors.extend(addresses::validate(service, &path));
    errors.extend(external_ips(spec, &path.child("externalIPs")));
    errors.extend(service_type(spec, &path.child("type")));
    errors.extend(ports::validate_node_ports(service, &path.child("ports")));
    errors.extend(source_ranges(service, spec, &path));
    errors.extend(load_balancer_fields(service, spec, &path));
    errors.extend(traffic_policies(service, spec, &path));
    errors
}

/// Problems of the addresses and families by themselves: the allocator must be able to rely on them.
pub(super) fn cluster_ips(service: &Service) -> FieldErrors {
    addresses::validate(service, &Path::new("spec"))
}

/// Problems of the change itself.
pub(super) fn update(new: &Service, old: &Service) -> FieldErrors {
    let path = Path::new("spec");
    let mut errors = addresses::validate_change(new, old, &path);
    let class = |s: &Service| s.spec.as_ref().and_then(|s| s.load_balancer_class.clone());
    let both = |kind: &str| super::type_of(new) == kind && super::type_of(old) == kind;
    if both(LOAD_BALANCER) && class(new) != class(old) {
        errors.push(path.child("loadBalancerClass").invalid(class(new), "may not change once set"));
    }
    let check_port = |s: &Service| s.spec.as_ref().and_then(|s| s.health_check_node_port);
    let checked =
        super::needs_health_check_node_port(new) && super::needs_health_check_node_port(old);
    if checked && check_port(new) != check_port(old) {
        errors.push(path.child("healthCheckNodePort").forbidden("field is immutable"));
    }
    errors
}

/// Problems of `status.loadBalancer`.
pub(super) fn load_balancer_status(service: &Service) -> FieldErrors {
    let path = Path::new("status").child("loadBalancer").child("ingress");
    let balancer = service.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    let ingress = balancer.and_then(|b| b.ingress.as_deref()).unwrap_or_default();
    if super::type_of(service) != LOAD_BALANCER {
        let problem = path.forbidden("may only be used when `spec.type` is 'LoadBalancer'");
        return if ingress.is_empty() { Vec::new() } else { vec![problem] };
    }
    let mut errors = FieldErrors::new();
    for (i, entry) in ingress.iter().enumerate() {
        let path = path.index(i);
        let mode = path.child("ipMode");
        let ip = entry.ip.as_deref().unwrap_or_default();
        if !ip.is_empty() {
            errors.extend(validate_ip(&path.child("ip"), ip));
        }
        match entry.ip_mode.as_deref() {
            None if !ip.is_empty() => {
                errors.push(mode.required("must be specified when `ip` is set"))
            }
            Some(_) if ip.is_empty() => {
                errors.push(mode.forbidden("may not be specified when `ip` is not set"));
            }
            Some(other) if !["Proxy", "VIP"].contains(&other) => {
                errors.push(mode.not_supported(other, &["Proxy", "VIP"]));
            }
            _ => {}
        }
        let host = entry.hostname.as_deref().unwrap_or_default();
        if !host.is_empty() {
            let path = path.child("hostname");
            errors.extend(path.invalid_for_each(host, names::dns_subdomain(host)));
            if host.parse::<std::net::IpAddr>().is_ok() {
                errors.push(path.invalid(host, "must be a DNS name, not an IP address"));
            }
        }
    }
    errors
}

/// The old and the new name of one annotation say the same.
fn annotations(service: &Service) -> FieldErrors {
    let value = |key: &str| service.metadata.annotations.as_ref()?.get(key);
    match (value(TOPOLOGY), value(OLD_TOPOLOGY)) {
        (Some(new), Some(old)) if new != old => {
            let path = Path::new("metadata").child("annotations").key(TOPOLOGY);
            let detail = format!("must match annotations[{OLD_TOPOLOGY}] when both are specified");
            vec![path.invalid(new, detail)]
        }
        _ => Vec::new(),
    }
}

fn type_specific(service: &Service, spec: &ServiceSpec, path: &Path) -> FieldErrors {
    match super::type_of(service) {
        kind @ (LOAD_BALANCER | NODE_PORT) if super::is_headless(service) => {
            let detail = format!("may not be set to 'None' for {kind} services");
            vec![path.child("clusterIPs").index(0).invalid("None", detail)]
        }
        EXTERNAL_NAME => external_name(spec, path),
        _ => Vec::new(),
    }
}

fn external_name(spec: &ServiceSpec, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let set = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|l| !l.is_empty());
    let detail = "may not be set for ExternalName services";
    if set(&spec.cluster_ips) {
        errors.push(path.child("clusterIPs").forbidden(detail));
    }
    if set(&spec.ip_families) {
        errors.push(path.child("ipFamilies").forbidden(detail));
    }
    if spec.ip_family_policy.is_some() {
        errors.push(path.child("ipFamilyPolicy").forbidden(detail));
    }
    let path = path.child("externalName");
    let name = spec.external_name.as_deref().unwrap_or_default();
    // A trailing dot says that the name is complete.
    match name.strip_suffix('.').unwrap_or(name) {
        "" => errors.push(path.required("")),
        name => errors.extend(path.invalid_for_each(name, names::dns_subdomain(name))),
    }
    errors
}

fn affinity(spec: &ServiceSpec, path: &Path) -> FieldErrors {
    let config_path = path.child("sessionAffinityConfig");
    let config = spec.session_affinity_config.as_ref();
    match spec.session_affinity.as_deref().unwrap_or_default() {
        "" => vec![path.child("sessionAffinity").required("")],
        "None" if config.is_some() => {
            vec![config_path.forbidden("must not be set when session affinity is None")]
        }
        "None" => Vec::new(),
        "ClientIP" => {
            let detail = "when session affinity type is ClientIP";
            let path = config_path.child("clientIP").child("timeoutSeconds");
            match config.and_then(|c| c.client_ip.as_ref()?.timeout_seconds) {
                None => vec![path.required(detail)],
                Some(seconds) if (1..=LONGEST_AFFINITY).contains(&seconds) => Vec::new(),
                Some(seconds) => vec![path.invalid(
                    seconds,
                    format!("must be greater than 0 and less than {LONGEST_AFFINITY}"),
                )],
            }
        }
        other => {
            vec![path.child("sessionAffinity").not_supported(other, &["ClientIP", "None"])]
        }
    }
}

fn external_ips(spec: &ServiceSpec, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (i, ip) in spec.external_ips.iter().flatten().enumerate() {
        let path = path.index(i);
        let malformed = validate_ip(&path, ip);
        if malformed.is_empty() {
            errors.extend(validate_non_special_ip(&path, ip));
        }
        errors.extend(malformed);
    }
    errors
}

fn service_type(spec: &ServiceSpec, path: &Path) -> FieldErrors {
    match spec.type_.as_deref().unwrap_or_default() {
        "" => vec![path.required("")],
        kind if TYPES.contains(&kind) => Vec::new(),
        other => vec![path.not_supported(other, TYPES)],
    }
}

fn source_ranges(service: &Service, spec: &ServiceSpec, path: &Path) -> FieldErrors {
    let ranges = spec.load_balancer_source_ranges.as_deref().unwrap_or_default();
    let annotation = service.metadata.annotations.as_ref().and_then(|a| a.get(SOURCE_RANGES));
    let (path, ranges): (Path, Vec<(Option<usize>, &str)>) = if !ranges.is_empty() {
        // Upstream's path has a capital letter here.
        let listed = ranges.iter().enumerate().map(|(i, range)| (Some(i), range.trim()));
        (path.child("LoadBalancerSourceRanges"), listed.collect())
    } else if let Some(annotation) = annotation {
        // The form from before there was the field.
        let path = Path::new("metadata").child("annotations").key(SOURCE_RANGES);
        let listed = annotation.trim();
        let listed = listed.split(',').filter(|_| !listed.is_empty());
        (path, listed.map(|range| (None, range.trim())).collect())
    } else {
        return FieldErrors::new();
    };
    let mut errors = FieldErrors::new();
    if super::type_of(service) != LOAD_BALANCER {
        errors.push(path.forbidden("may only be used when `type` is 'LoadBalancer'"));
    }
    for (i, range) in ranges {
        let path = i.map_or_else(|| path.clone(), |i| path.index(i));
        errors.extend(validate_cidr(&path, range));
    }
    errors
}

fn load_balancer_fields(service: &Service, spec: &ServiceSpec, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let balanced = super::type_of(service) == LOAD_BALANCER;
    let only = "may only be used when `type` is 'LoadBalancer'";
    if !balanced && spec.allocate_load_balancer_node_ports.is_some() {
        errors.push(path.child("allocateLoadBalancerNodePorts").forbidden(only));
    }
    if balanced && spec.allocate_load_balancer_node_ports.is_none() {
        errors.push(Path::new("allocateLoadBalancerNodePorts").required(""));
    }
    let path = path.child("loadBalancerClass");
    match &spec.load_balancer_class {
        Some(class) if balanced => {
            errors.extend(path.invalid_for_each(class, names::qualified_name(class)));
        }
        Some(_) => errors.push(path.forbidden(only)),
        None => {}
    }
    errors
}

fn traffic_policies(service: &Service, spec: &ServiceSpec, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let external = path.child("externalTrafficPolicy");
    let policy = spec.external_traffic_policy.as_deref().unwrap_or_default();
    match (super::is_externally_accessible(service), policy) {
        (false, "") => {}
        (false, set) => {
            errors
                .push(external.invalid(set, "may only be set for externally-accessible services"));
        }
        (true, "") => errors.push(external.required("")),
        (true, known) if TRAFFIC_POLICIES.contains(&known) => {}
        (true, other) => errors.push(external.not_supported(other, TRAFFIC_POLICIES)),
    }
    errors.extend(health_check_port(service, spec, &path.child("healthCheckNodePort")));
    let internal = path.child("internalTrafficPolicy");
    match spec.internal_traffic_policy.as_deref() {
        None if super::type_of(service) != EXTERNAL_NAME => errors.push(internal.required("")),
        Some(other) if !TRAFFIC_POLICIES.contains(&other) => {
            errors.push(internal.not_supported(other, TRAFFIC_POLICIES));
        }
        _ => {}
    }
    let distribution = spec.traffic_distribution.as_deref();
    if let Some(other) = distribution.filter(|d| !DISTRIBUTIONS.contains(d)) {
        errors.push(path.child("trafficDistribution").not_supported(other, DISTRIBUTIONS));
    }
    errors
}

fn health_check_port(service: &Service, spec: &ServiceSpec, path: &Path) -> FieldErrors {
    let needed = super::needs_health_check_node_port(service);
    match spec.health_check_node_port.unwrap_or_default() {
        0 if needed => vec![path.required("")],
        0 => Vec::new(),
        port if needed => path.invalid_for_each(port, names::port_number(port)),
        port => vec![path.invalid(
            port,
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        )],
    }
}
