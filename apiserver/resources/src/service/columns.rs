//! The row of a Service in `kubectl get services` (upstream: `printService`).

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Service, ServicePort};

use super::{CLUSTER_IP, EXTERNAL_NAME, LOAD_BALANCER, NODE_PORT};
use crate::columns::{self, Cell, Column, NONE, UNKNOWN};
use crate::labels::format_labels;

pub(super) const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Type"),
    Column::text("Cluster-IP"),
    Column::text("External-IP"),
    Column::text("Port(s)"),
    Column::AGE,
    Column::wide("Selector"),
];

pub(super) fn cells(service: &Service, now: Timestamp) -> Vec<Cell> {
    let metadata = &service.metadata;
    let address = super::cluster_ips(service).first().map(String::as_str);
    let selector = service.spec.as_ref().and_then(|s| s.selector.as_ref());
    vec![
        columns::name(metadata),
        super::type_of(service).into(),
        columns::or_none(address).into(),
        external_ips(service).into(),
        format_ports(super::ports(service)).into(),
        columns::age(metadata, now),
        format_labels(selector).into(),
    ]
}

/// The EXTERNAL-IP cell (upstream: `getServiceExternalIP`).
fn external_ips(service: &Service) -> String {
    let spec = service.spec.as_ref();
    let set = spec.and_then(|s| s.external_ips.as_deref()).unwrap_or_default();
    match super::type_of(service) {
        EXTERNAL_NAME => spec.and_then(|s| s.external_name.clone()).unwrap_or_default(),
        LOAD_BALANCER => {
            let mut all: Vec<&str> = ingress(service).into_iter().collect();
            all.extend(set.iter().map(String::as_str));
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        CLUSTER_IP | NODE_PORT if set.is_empty() => NONE.to_owned(),
        CLUSTER_IP | NODE_PORT => set.join(","),
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
