//! What a Service gets that does not say otherwise (upstream: `SetDefaults_Service` of
//! `pkg/apis/core/v1/defaults.go`).
//!
//! Invariant: applying the defaults twice changes nothing.

use k8s_openapi::api::core::v1::{
    ClientIPConfig, Service, ServicePort, ServiceSpec, SessionAffinityConfig,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{CLUSTER_IP, EXTERNAL_NAME, LOAD_BALANCER};
use crate::omit;

/// How long a client stays with its backend, in seconds, when it says `ClientIP` only.
const AFFINITY_TIMEOUT: i32 = 10_800;

pub(super) fn apply(service: &mut Service) {
    let spec = service.spec.get_or_insert_default();
    leave_out_empties(spec);
    affinity(spec);
    set_if_empty(&mut spec.type_, CLUSTER_IP);
    for port in spec.ports.iter_mut().flatten() {
        default_port(port);
    }
    if super::is_externally_accessible(service) {
        let spec = service.spec.get_or_insert_default();
        set_if_empty(&mut spec.external_traffic_policy, "Cluster");
    }
    let spec = service.spec.get_or_insert_default();
    let kind = spec.type_.as_deref().unwrap_or_default();
    let balanced = kind == LOAD_BALANCER;
    if kind != EXTERNAL_NAME {
        spec.internal_traffic_policy.get_or_insert_with(|| "Cluster".to_owned());
    }
    if balanced {
        spec.allocate_load_balancer_node_ports.get_or_insert(true);
        ingress_modes(service);
    }
}

fn leave_out_empties(spec: &mut ServiceSpec) {
    omit::empty_texts([
        &mut spec.cluster_ip,
        &mut spec.external_name,
        &mut spec.external_traffic_policy,
        &mut spec.load_balancer_ip,
    ]);
    omit::empty_lists([&mut spec.cluster_ips, &mut spec.external_ips, &mut spec.ip_families]);
    omit::zeros([&mut spec.health_check_node_port]);
    omit::noes([&mut spec.publish_not_ready_addresses]);
    for port in spec.ports.iter_mut().flatten() {
        omit::empty_texts([&mut port.name]);
        omit::zeros([&mut port.node_port]);
    }
}

fn affinity(spec: &mut ServiceSpec) {
    set_if_empty(&mut spec.session_affinity, "None");
    let config = &mut spec.session_affinity_config;
    match spec.session_affinity.as_deref() {
        Some("None") => *config = None,
        Some("ClientIP") => {
            let timeout = config.as_ref().and_then(|c| c.client_ip.as_ref()?.timeout_seconds);
            let timeout_seconds = Some(timeout.unwrap_or(AFFINITY_TIMEOUT));
            let client_ip = Some(ClientIPConfig { timeout_seconds });
            *config = Some(SessionAffinityConfig { client_ip });
        }
        _ => {}
    }
}

fn default_port(port: &mut ServicePort) {
    set_if_empty(&mut port.protocol, "TCP");
    let unset = match &port.target_port {
        None | Some(IntOrString::Int(0)) => true,
        Some(IntOrString::String(name)) => name.is_empty(),
        Some(IntOrString::Int(_)) => false,
    };
    if unset {
        port.target_port = Some(IntOrString::Int(port.port));
    }
}

/// An address that a load balancer answers on is a VIP unless it says that it is a proxy.
fn ingress_modes(service: &mut Service) {
    let balancer = service.status.as_mut().and_then(|s| s.load_balancer.as_mut());
    for ingress in balancer.into_iter().flat_map(|b| b.ingress.iter_mut().flatten()) {
        if ingress.ip.as_deref().is_some_and(|ip| !ip.is_empty()) {
            ingress.ip_mode.get_or_insert_with(|| "VIP".to_owned());
        }
    }
}

fn set_if_empty(field: &mut Option<String>, value: &str) {
    if field.as_deref().unwrap_or_default().is_empty() {
        *field = Some(value.to_owned());
    }
}
