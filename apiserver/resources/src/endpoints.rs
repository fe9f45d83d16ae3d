//! v1 Endpoints: the old form of a Service's backends, still written by hand for Services without
//! a selector.
//!
//! Upstream: `pkg/registry/core/endpoint/strategy.go`, `ValidateEndpoints` of
//! `pkg/apis/core/validation/validation.go`.
//! Deliberately not here: mirroring into EndpointSlices (controllers).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints};

use crate::addresses::{ip_warning, validate_backend_ip, validate_ip};
use crate::columns::{self, Cell, Column, NONE};
use crate::field::{FieldErrors, Path};
use crate::names;
use crate::ports::PROTOCOLS;
use crate::strategy::Strategy;

const COLUMNS: &[Column] = &[Column::NAME, Column::text("Endpoints"), Column::AGE];

/// How many addresses a cell shows before it says how many more there are.
const SHOWN_ADDRESSES: usize = 3;

/// The behaviour of Endpoints.
pub(crate) struct EndpointsStrategy;

impl Strategy for EndpointsStrategy {
    type Object = Endpoints;

    fn default(&self, endpoints: &mut Endpoints) {
        for subset in endpoints.subsets.iter_mut().flatten() {
            for port in subset.ports.iter_mut().flatten() {
                port.protocol.get_or_insert_with(|| "TCP".to_owned());
            }
        }
    }

    fn validate(&self, endpoints: &Endpoints) -> FieldErrors {
        let subsets = endpoints.subsets.iter().flatten().enumerate();
        subsets.flat_map(|(i, s)| validate_subset(s, &Path::new("subsets").index(i))).collect()
    }

    fn warnings(&self, endpoints: &Endpoints) -> Vec<String> {
        let mut warnings = Vec::new();
        for (i, subset) in endpoints.subsets.iter().flatten().enumerate() {
            for (field, addresses) in addresses(subset) {
                let path = Path::new("subsets").index(i).child(field);
                for (j, address) in addresses.iter().enumerate() {
                    warnings.extend(ip_warning(&path.index(j).child("ip"), &address.ip));
                }
            }
        }
        warnings
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, endpoints: &Endpoints, now: Timestamp) -> Vec<Cell> {
        let metadata = &endpoints.metadata;
        let subsets = endpoints.subsets.as_deref().unwrap_or_default();
        vec![columns::name(metadata), format_subsets(subsets).into(), columns::age(metadata, now)]
    }
}

/// Both lists of a subset, with the names of their fields.
fn addresses(subset: &EndpointSubset) -> [(&'static str, &[EndpointAddress]); 2] {
    [
        ("addresses", subset.addresses.as_deref().unwrap_or_default()),
        ("notReadyAddresses", subset.not_ready_addresses.as_deref().unwrap_or_default()),
    ]
}

fn validate_subset(subset: &EndpointSubset, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let lists = addresses(subset);
    if lists.iter().all(|(_, addresses)| addresses.is_empty()) {
        errors.push(path.required("must specify `addresses` or `notReadyAddresses`"));
    }
    for (field, addresses) in lists {
        for (i, address) in addresses.iter().enumerate() {
            errors.extend(validate_address(address, &path.child(field).index(i)));
        }
    }
    let ports = subset.ports.as_deref().unwrap_or_default();
    for (i, port) in ports.iter().enumerate() {
        errors.extend(validate_port(port, ports.len() > 1, &path.child("ports").index(i)));
    }
    errors
}

fn validate_address(address: &EndpointAddress, path: &Path) -> FieldErrors {
    let mut errors = validate_ip(&path.child("ip"), &address.ip);
    if let Some(host) = address.hostname.as_deref().filter(|h| !h.is_empty()) {
        errors.extend(path.child("hostname").invalid_for_each(host, names::dns_label(host)));
    }
    if let Some(node) = &address.node_name {
        errors.extend(path.child("nodeName").invalid_for_each(node, names::dns_subdomain(node)));
    }
    if errors.is_empty() {
        errors.extend(validate_backend_ip(&path.child("ip"), &address.ip));
    }
    errors
}

fn validate_port(port: &EndpointPort, needs_name: bool, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    match port.name.as_deref().unwrap_or_default() {
        "" if needs_name => errors.push(path.child("name").required("")),
        "" => {}
        name => errors.extend(path.child("name").invalid_for_each(name, names::dns_label(name))),
    }
    errors.extend(path.child("port").invalid_for_each(port.port, names::port_number(port.port)));
    match port.protocol.as_deref().unwrap_or_default() {
        "" => errors.push(path.child("protocol").required("")),
        known if PROTOCOLS.contains(&known) => {}
        other => errors.push(path.child("protocol").not_supported(other, PROTOCOLS)),
    }
    if let Some(name) = &port.app_protocol {
        let path = path.child("appProtocol");
        errors.extend(path.invalid_for_each(name, names::qualified_name(name)));
    }
    errors
}

/// `10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more...`; `<none>` without subsets, empty when none of
/// their addresses is ready (upstream: `formatEndpoints`).
fn format_subsets(subsets: &[EndpointSubset]) -> String {
    if subsets.is_empty() {
        return NONE.to_owned();
    }
    let all: Vec<String> = subsets.iter().flat_map(ready_endpoints).collect();
    let shown = all.iter().take(SHOWN_ADDRESSES).cloned().collect::<Vec<_>>().join(",");
    match all.len().saturating_sub(SHOWN_ADDRESSES) {
        0 => shown,
        hidden => format!("{shown} + {hidden} more..."),
    }
}

/// Every ready address with every port; the addresses alone when there are no ports, as a headless
/// Service may have it.
fn ready_endpoints(subset: &EndpointSubset) -> Vec<String> {
    let addresses = subset.addresses.as_deref().unwrap_or_default();
    let ports = subset.ports.as_deref().unwrap_or_default();
    if ports.is_empty() {
        return addresses.iter().map(|a| a.ip.clone()).collect();
    }
    let of_port = |port: i32| addresses.iter().map(move |a| join_host_port(&a.ip, port));
    ports.iter().flat_map(|p| of_port(p.port)).collect()
}

fn join_host_port(ip: &str, port: i32) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

#[cfg(test)]
mod tests;
