//! Services: what a VIP is made of. The parts stand in `service/`.
//!
//! Upstream: `pkg/registry/core/service/{strategy.go,storage}`, `pkg/apis/core/v1/defaults.go`.
//! Owns: the strategy, and the questions an allocator of addresses and ports asks of a Service.
//! Expected flow of a write: defaults, then `prepare_*` (which keeps what was allocated before and
//! drops what the new type has no use for), then [`settle_families`] and allocation of what is still
//! missing, then validation.
//! Deliberately not here: the allocation itself (the API server's transaction), backends.

pub mod balancer;

mod columns;
mod defaults;
mod families;
mod lifecycle;
mod validate;
mod warnings;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    LoadBalancerStatus, Service, ServicePort, ServiceSpec, ServiceStatus,
};

use crate::columns::{Cell, Column};
use crate::families::Family;
use crate::field::FieldErrors;
use crate::strategy::Strategy;

/// `spec.clusterIP` of a Service that has no address on purpose.
pub const HEADLESS: &str = "None";

const CLUSTER_IP: &str = "ClusterIP";
const NODE_PORT: &str = "NodePort";
const LOAD_BALANCER: &str = "LoadBalancer";
const EXTERNAL_NAME: &str = "ExternalName";

/// The behaviour of Services.
pub(crate) struct Services;

impl Strategy for Services {
    type Object = Service;

    fn default(&self, service: &mut Service) {
        defaults::apply(service);
    }

    fn prepare_create(&self, service: &mut Service) {
        let load_balancer = Some(LoadBalancerStatus::default());
        service.status = Some(ServiceStatus { load_balancer, conditions: None });
        lifecycle::on_create(service);
    }

    fn prepare_update(&self, new: &mut Service, old: &Service) {
        new.status.clone_from(&old.status);
        lifecycle::on_update(new, old);
    }

    fn prepare_status_update(&self, new: &mut Service, old: &Service) {
        new.spec.clone_from(&old.spec);
        defaults::apply(new);
    }

    fn validate(&self, service: &Service) -> FieldErrors {
        let mut errors = validate::service(service);
        errors.extend(balancer::validate(service));
        errors
    }

    fn validate_update(&self, new: &Service, old: &Service) -> FieldErrors {
        validate::update(new, old)
    }

    fn validate_status_update(&self, new: &Service, _old: &Service) -> FieldErrors {
        validate::load_balancer_status(new)
    }

    fn warnings(&self, service: &Service) -> Vec<String> {
        warnings::of(service)
    }

    fn fields(&self, service: &Service) -> Vec<(&'static str, String)> {
        let spec = service.spec.as_ref();
        let text = |field: Option<&String>| field.cloned().unwrap_or_default();
        vec![
            ("spec.clusterIP", text(spec.and_then(|s| s.cluster_ip.as_ref()))),
            ("spec.type", text(spec.and_then(|s| s.type_.as_ref()))),
        ]
    }

    fn columns(&self) -> &'static [Column] {
        columns::COLUMNS
    }

    fn cells(&self, service: &Service, now: Timestamp) -> Vec<Cell> {
        columns::cells(service, now)
    }
}

/// Whether the type has a cluster address, be it `None`: every type but `ExternalName`.
#[must_use]
pub fn needs_cluster_ip(service: &Service) -> bool {
    type_of(service) != EXTERNAL_NAME
}

/// Whether an address is to be allocated: the type has one, the Service is not headless and none
/// is set.
#[must_use]
pub fn lacks_cluster_ip(service: &Service) -> bool {
    let set = service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()).unwrap_or_default();
    needs_cluster_ip(service) && !is_headless(service) && set.is_empty()
}

/// Whether the Service has no address on purpose.
#[must_use]
pub fn is_headless(service: &Service) -> bool {
    cluster_ips(service) == [HEADLESS]
}

/// Whether the type can have node ports: `NodePort` and `LoadBalancer`.
#[must_use]
pub fn needs_node_port(service: &Service) -> bool {
    is_externally_reachable(service)
}

/// Whether each port without a node port is to get one (upstream: `shouldAssignNodePorts`).
#[must_use]
pub fn wants_node_ports(service: &Service) -> bool {
    match type_of(service) {
        NODE_PORT => true,
        LOAD_BALANCER => {
            let wanted = service.spec.as_ref().and_then(|s| s.allocate_load_balancer_node_ports);
            wanted.unwrap_or(true)
        }
        _ => false,
    }
}

/// Whether the Service needs a port on which nodes tell an outside load balancer that they have a
/// backend.
#[must_use]
pub fn needs_health_check_node_port(service: &Service) -> bool {
    let policy = service.spec.as_ref().and_then(|s| s.external_traffic_policy.as_deref());
    type_of(service) == LOAD_BALANCER && policy == Some("Local")
}

/// The addresses that are the Service's own: allocated or asked for; none when headless.
#[must_use]
pub fn held_cluster_ips(service: &Service) -> Vec<&str> {
    if !needs_cluster_ip(service) || is_headless(service) {
        return Vec::new();
    }
    cluster_ips(service).iter().map(String::as_str).collect()
}

/// The node ports that are the Service's own, with their protocols (`TCP` where none is set).
#[must_use]
pub fn held_node_ports(service: &Service) -> Vec<(&str, i32)> {
    if !needs_node_port(service) {
        return Vec::new();
    }
    let ports = ports(service).iter().filter_map(|p| {
        let number = p.node_port.filter(|&n| n != 0)?;
        Some((p.protocol.as_deref().unwrap_or("TCP"), number))
    });
    ports.collect()
}

/// Fills in `ipFamilyPolicy` and `ipFamilies`, of which `cluster` are there to be had, the first
/// one by default. `old` is the Service before an update.
///
/// # Errors
/// What upstream says when the Service asks for what the cluster has not, or contradicts itself.
pub fn settle_families(
    service: &mut Service,
    old: Option<&Service>,
    cluster: &[Family],
) -> Result<(), FieldErrors> {
    families::settle(service, old, cluster)
}

/// Clears what the old type filled in and the new type has no use for, as far as the client did
/// not change it; called by `prepare_update` (upstream: `dropTypeDependentFields`).
pub fn dropped_on_type_change(new: &mut Service, old: &Service) {
    lifecycle::drop_type_dependent_fields(new, old);
}

/// Node ports and load balancers are reached from outside; so are Services with external addresses
/// that have a VIP (upstream: `service.ExternallyAccessible`).
fn is_externally_accessible(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    let external = spec.and_then(|s| s.external_ips.as_ref()).is_some_and(|ips| !ips.is_empty());
    is_externally_reachable(service) || (type_of(service) == CLUSTER_IP && external)
}

fn is_externally_reachable(service: &Service) -> bool {
    matches!(type_of(service), NODE_PORT | LOAD_BALANCER)
}

fn type_of(service: &Service) -> &str {
    service.spec.as_ref().and_then(|s| s.type_.as_deref()).unwrap_or_default()
}

fn cluster_ips(service: &Service) -> &[String] {
    service.spec.as_ref().and_then(|s| s.cluster_ips.as_deref()).unwrap_or_default()
}

fn ports(service: &Service) -> &[ServicePort] {
    service.spec.as_ref().and_then(|s| s.ports.as_deref()).unwrap_or_default()
}

fn selects_nothing(spec: &ServiceSpec) -> bool {
    spec.selector.as_ref().is_none_or(std::collections::BTreeMap::is_empty)
}

#[cfg(test)]
mod tests;
