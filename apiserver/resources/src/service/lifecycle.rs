//! How a Service's linked and allocated fields go along with a write.
//!
//! Upstream: `patchAllocatedValues`, `normalizeClusterIPs` of
//! `pkg/registry/core/service/storage/storage.go`, `dropTypeDependentFields` of `strategy.go`.
//! Invariants: what was allocated stays unless the type has no use for it or the client changed it;
//! `clusterIP` and the first of `clusterIPs` go together.
//! Deliberately not here: the families of addresses (`super::families`).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{LoadBalancerStatus, Service, ServiceSpec};

use super::LOAD_BALANCER;

pub(super) fn on_create(service: &mut Service) {
    let spec = service.spec.get_or_insert_default();
    let address = text(spec.cluster_ip.as_ref());
    if !address.is_empty() && list(spec.cluster_ips.as_ref()).is_empty() {
        // An old client knows the singular field only.
        spec.cluster_ips = Some(vec![address.to_owned()]);
    }
}

pub(super) fn on_update(new: &mut Service, old: &Service) {
    keep_allocated(new, old);
    normalize_cluster_ips(new, old);
    drop_type_dependent_fields(new, old);
}

/// Fills in what was allocated before and the client left out, so that a PUT of the original
/// manifest changes nothing.
fn keep_allocated(new: &mut Service, old: &Service) {
    let Some(before) = old.spec.as_ref() else { return };
    if super::needs_cluster_ip(old) && super::needs_cluster_ip(new) {
        let spec = new.spec.get_or_insert_default();
        if text(spec.cluster_ip.as_ref()).is_empty() {
            spec.cluster_ip.clone_from(&before.cluster_ip);
        }
        if list(spec.cluster_ips.as_ref()).is_empty() {
            spec.cluster_ips.clone_from(&before.cluster_ips);
        }
    }
    if super::needs_node_port(old) && super::needs_node_port(new) {
        keep_node_ports(new.spec.get_or_insert_default(), before);
    }
    if super::needs_health_check_node_port(old) && super::needs_health_check_node_port(new) {
        let spec = new.spec.get_or_insert_default();
        if spec.health_check_node_port.unwrap_or_default() == 0 {
            spec.health_check_node_port = before.health_check_node_port;
        }
    }
}

/// A port keeps its node port by its name, unless another port has taken it.
fn keep_node_ports(new: &mut ServiceSpec, old: &ServiceSpec) {
    let mut used: BTreeSet<i32> = node_ports(old).intersection(&node_ports(new)).copied().collect();
    let by_name: BTreeMap<&str, i32> = old
        .ports
        .iter()
        .flatten()
        .map(|p| (text(p.name.as_ref()), p.node_port.unwrap_or_default()))
        .collect();
    for port in new.ports.iter_mut().flatten() {
        if port.node_port.unwrap_or_default() != 0 {
            continue;
        }
        let kept = by_name.get(text(port.name.as_ref())).copied().unwrap_or_default();
        if kept != 0 && used.insert(kept) {
            port.node_port = Some(kept);
        }
    }
}

/// Lets a client that knows only one of `clusterIP` and `clusterIPs` change both.
fn normalize_cluster_ips(new: &mut Service, old: &Service) {
    let before = old.spec.clone().unwrap_or_default();
    let spec = new.spec.get_or_insert_default();
    let (address, old_address) = (text(spec.cluster_ip.as_ref()), text(before.cluster_ip.as_ref()));
    let same_plural = list(spec.cluster_ips.as_ref()) == list(before.cluster_ips.as_ref());
    if address == old_address {
        if list(spec.cluster_ips.as_ref()).is_empty() {
            spec.cluster_ips.clone_from(&before.cluster_ips);
        }
    } else if same_plural {
        let cleared = address.is_empty();
        spec.cluster_ips = (!cleared).then(|| vec![address.to_owned()]);
    }
}

/// See [`super::dropped_on_type_change`].
pub(super) fn drop_type_dependent_fields(new: &mut Service, old: &Service) {
    let before = old.spec.clone().unwrap_or_default();
    if super::needs_cluster_ip(old) && !super::needs_cluster_ip(new) {
        drop_addresses(new.spec.get_or_insert_default(), &before);
    }
    if super::needs_node_port(old) && !super::needs_node_port(new) {
        let spec = new.spec.get_or_insert_default();
        if node_ports(&before).is_superset(&node_ports(spec)) {
            spec.ports.iter_mut().flatten().for_each(|p| p.node_port = None);
        }
    }
    let checked = super::needs_health_check_node_port(old);
    if checked && !super::needs_health_check_node_port(new) {
        drop_if_same(
            &mut new.spec.get_or_insert_default().health_check_node_port,
            before.health_check_node_port.as_ref(),
        );
    }
    if super::type_of(old) == LOAD_BALANCER && super::type_of(new) != LOAD_BALANCER {
        let spec = new.spec.get_or_insert_default();
        let allocate = before.allocate_load_balancer_node_ports.as_ref();
        drop_if_same(&mut spec.allocate_load_balancer_node_ports, allocate);
        drop_if_same(&mut spec.load_balancer_class, before.load_balancer_class.as_ref());
    }
    if super::is_externally_accessible(old) && !super::is_externally_accessible(new) {
        drop_if_same(
            &mut new.spec.get_or_insert_default().external_traffic_policy,
            before.external_traffic_policy.as_ref(),
        );
    }
    if super::type_of(new) != LOAD_BALANCER
        && let Some(status) = &mut new.status
    {
        // No balancer, no address of one; that it may take a while to go is nobody's concern.
        status.load_balancer = Some(LoadBalancerStatus::default());
    }
}

fn drop_addresses(new: &mut ServiceSpec, old: &ServiceSpec) {
    let same_address = text(new.cluster_ip.as_ref()) == text(old.cluster_ip.as_ref());
    if same_address && list(new.cluster_ips.as_ref()) == list(old.cluster_ips.as_ref()) {
        new.cluster_ip = None;
        new.cluster_ips = None;
    }
    drop_if_same(&mut new.ip_families, old.ip_families.as_ref());
    drop_if_same(&mut new.ip_family_policy, old.ip_family_policy.as_ref());
}

fn drop_if_same<T: PartialEq>(new: &mut Option<T>, old: Option<&T>) {
    if new.as_ref() == old {
        *new = None;
    }
}

fn node_ports(spec: &ServiceSpec) -> BTreeSet<i32> {
    spec.ports.iter().flatten().filter_map(|p| p.node_port).filter(|&n| n != 0).collect()
}

fn text(field: Option<&String>) -> &str {
    field.map(String::as_str).unwrap_or_default()
}

fn list(field: Option<&Vec<String>>) -> &[String] {
    field.map(Vec::as_slice).unwrap_or_default()
}
