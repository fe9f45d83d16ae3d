//! Services: what a VIP is made of.
//!
//! Upstream: `pkg/registry/core/service/{strategy.go,storage/storage.go}`, `pkg/apis/core/v1/defaults.go`.
//! Deliberately not here: allocating addresses and ports (the API server's transaction), backends.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec, ServiceStatus};

use crate::columns::{self, Cell, Column, NONE, UNKNOWN};
use crate::labels::format_labels;
use crate::strategy::Strategy;

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Type"),
    Column::text("Cluster-IP"),
    Column::text("External-IP"),
    Column::text("Port(s)"),
    Column::AGE,
    Column::wide("Selector"),
];

/// The behaviour of Services.
pub(crate) struct Services;

impl Strategy for Services {
    type Object = Service;

    fn prepare_create(&self, service: &mut Service) {
        service.status = Some(ServiceStatus::default());
    }

    fn prepare_update(&self, new: &mut Service, old: &Service) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status_update(&self, new: &mut Service, old: &Service) {
        new.spec.clone_from(&old.spec);
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, service: &Service, now: Timestamp) -> Vec<Cell> {
        let metadata = &service.metadata;
        let spec = service.spec.clone().unwrap_or_default();
        vec![
            columns::name(metadata),
            spec.type_.as_deref().unwrap_or_default().into(),
            columns::or_none(spec.cluster_ips.iter().flatten().next().map(String::as_str)).into(),
            external_ips(service, &spec).into(),
            format_ports(spec.ports.as_deref().unwrap_or_default()).into(),
            columns::age(metadata, now),
            format_labels(spec.selector.as_ref()).into(),
        ]
    }
}

/// The EXTERNAL-IP cell (upstream: `getServiceExternalIP`).
fn external_ips(service: &Service, spec: &ServiceSpec) -> String {
    let set = spec.external_ips.as_deref().unwrap_or_default();
    match spec.type_.as_deref().unwrap_or_default() {
        "ExternalName" => spec.external_name.clone().unwrap_or_default(),
        "LoadBalancer" => {
            let mut all: Vec<&str> = ingress(service).into_iter().collect();
            all.extend(set.iter().map(String::as_str));
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        "ClusterIP" | "NodePort" if set.is_empty() => NONE.to_owned(),
        "ClusterIP" | "NodePort" => set.join(","),
        _ => UNKNOWN.to_owned(),
    }
}

/// Addresses or names that a load balancer answers on, each once, sorted.
fn ingress(service: &Service) -> BTreeSet<&str> {
    let balancer = service.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    let entries = balancer.into_iter().flat_map(|b| b.ingress.iter().flatten());
    let named = entries
        .filter_map(|i| i.ip.as_deref().filter(|ip| !ip.is_empty()).or(i.hostname.as_deref()));
    named.filter(|name| !name.is_empty()).collect()
}

/// The PORT(S) cell: `80:30008/TCP,443/TCP`.
fn format_ports(ports: &[ServicePort]) -> String {
    let texts: Vec<String> = ports
        .iter()
        .map(|p| {
            let protocol = p.protocol.as_deref().unwrap_or_default();
            match p.node_port.unwrap_or_default() {
                0 => format!("{}/{protocol}", p.port),
                node_port => format!("{}:{node_port}/{protocol}", p.port),
            }
        })
        .collect();
    if texts.is_empty() { NONE.to_owned() } else { texts.join(",") }
}
