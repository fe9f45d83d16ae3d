//! EndpointSlices: a Service's backends as netd reads them.
//!
//! Upstream: `pkg/registry/discovery/endpointslice/strategy.go`, `pkg/apis/discovery/validation`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, EndpointPort, EndpointSlice};

use crate::addresses::{ip_warning, is_ipv6, validate_backend_ip, validate_ip};
use crate::columns::{self, Cell, Column, UNSET};
use crate::equality::same;
use crate::field::{FieldErrors, Path};
use crate::names;
use crate::ports::PROTOCOLS;
use crate::strategy::Strategy;

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("AddressType"),
    Column::text("Ports"),
    Column::text("Endpoints"),
    Column::AGE,
];

const ADDRESS_TYPES: &[&str] = &["FQDN", "IPv4", "IPv6"];
const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 100;
/// Zones, and likewise nodes, that a hint may name.
const MAX_HINTS: usize = 8;

/// How many ports or addresses a cell shows before it says how many more there are.
const SHOWN: usize = 3;

/// The behaviour of EndpointSlices.
pub(crate) struct EndpointSlices;

impl Strategy for EndpointSlices {
    type Object = EndpointSlice;

    fn default(&self, slice: &mut EndpointSlice) {
        for port in slice.ports.iter_mut().flatten() {
            port.name.get_or_insert_default();
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
    }

    fn prepare_create(&self, slice: &mut EndpointSlice) {
        slice.metadata.generation = Some(1);
        drop_topology(slice);
    }

    fn prepare_update(&self, new: &mut EndpointSlice, old: &EndpointSlice) {
        let stayed = same(&new.endpoints, &old.endpoints)
            && same(&new.ports, &old.ports)
            && new.address_type == old.address_type
            && same(&new.metadata.labels, &old.metadata.labels);
        if !same(&new.endpoints, &old.endpoints) {
            drop_topology(new);
        }
        if !stayed {
            new.metadata.generation = Some(old.metadata.generation.unwrap_or_default() + 1);
        }
    }

    fn validate(&self, slice: &EndpointSlice) -> FieldErrors {
        let path = Path::new("addressType");
        let mut errors = match slice.address_type.as_str() {
            "" => vec![path.required("")],
            known if ADDRESS_TYPES.contains(&known) => Vec::new(),
            other => vec![path.not_supported(other, ADDRESS_TYPES)],
        };
        errors.extend(validate_endpoints(slice));
        errors.extend(validate_ports(slice.ports.as_deref().unwrap_or_default()));
        errors
    }

    fn validate_update(&self, new: &EndpointSlice, old: &EndpointSlice) -> FieldErrors {
        let path = Path::new("addressType");
        path.immutable(&new.address_type, &old.address_type).into_iter().collect()
    }

    fn warnings(&self, slice: &EndpointSlice) -> Vec<String> {
        let mut warnings = Vec::new();
        if slice.address_type == "FQDN" {
            warnings.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
        }
        for (i, endpoint) in slice.endpoints.iter().flatten().enumerate() {
            let path = Path::new("endpoints").index(i).child("addresses");
            let addresses = endpoint.addresses.iter().enumerate();
            warnings.extend(addresses.filter_map(|(j, ip)| ip_warning(&path.index(j), ip)));
        }
        warnings
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, slice: &EndpointSlice, now: Timestamp) -> Vec<Cell> {
        let metadata = &slice.metadata;
        let addresses: Vec<String> =
            slice.endpoints.iter().flatten().flat_map(|e| e.addresses.iter().cloned()).collect();
        vec![
            columns::name(metadata),
            slice.address_type.as_str().into(),
            format_ports(slice.ports.as_deref().unwrap_or_default()).into(),
            first_few(&addresses).into(),
            columns::age(metadata, now),
        ]
    }
}

/// A field of an older version of the API.
fn drop_topology(slice: &mut EndpointSlice) {
    for endpoint in slice.endpoints.iter_mut().flatten() {
        endpoint.deprecated_topology = None;
    }
}

fn validate_endpoints(slice: &EndpointSlice) -> FieldErrors {
    let path = Path::new("endpoints");
    let endpoints = slice.endpoints.as_deref().unwrap_or_default();
    if endpoints.len() > MAX_ENDPOINTS {
        return vec![path.too_many(endpoints.len(), MAX_ENDPOINTS)];
    }
    let endpoints = endpoints.iter().enumerate();
    endpoints.flat_map(|(i, e)| validate_endpoint(e, &slice.address_type, &path.index(i))).collect()
}

fn validate_endpoint(endpoint: &Endpoint, kind: &str, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let addresses = path.child("addresses");
    match endpoint.addresses.len() {
        0 => errors.push(addresses.required("must contain at least 1 address")),
        1..=MAX_ADDRESSES => {}
        many => errors.push(addresses.too_many(many, MAX_ADDRESSES)),
    }
    for (i, address) in endpoint.addresses.iter().enumerate() {
        errors.extend(validate_address(address, kind, &addresses.index(i)));
    }
    if let Some(host) = &endpoint.hostname {
        errors.extend(path.child("hostname").invalid_for_each(host, names::dns_label(host)));
    }
    if let Some(node) = &endpoint.node_name {
        errors.extend(path.child("nodeName").invalid_for_each(node, names::dns_subdomain(node)));
    }
    if let Some(hints) = &endpoint.hints {
        errors.extend(validate_hints(hints, &path.child("hints")));
    }
    errors
}

/// For whom an endpoint is meant first.
fn validate_hints(hints: &EndpointHints, path: &Path) -> FieldErrors {
    let zones: Vec<&str> = hints.for_zones.iter().flatten().map(|z| z.name.as_str()).collect();
    let nodes: Vec<&str> = hints.for_nodes.iter().flatten().map(|n| n.name.as_str()).collect();
    let mut errors = validate_hint(&zones, names::label_value, &path.child("forZones"));
    errors.extend(validate_hint(&nodes, names::dns_subdomain, &path.child("forNodes")));
    errors
}

fn validate_hint(
    hints: &[&str],
    problems: impl Fn(&str) -> names::Problems,
    path: &Path,
) -> FieldErrors {
    if hints.len() > MAX_HINTS {
        return vec![path.too_many(hints.len(), MAX_HINTS)];
    }
    let mut errors = FieldErrors::new();
    let mut seen = BTreeSet::new();
    for (i, hint) in hints.iter().enumerate() {
        let path = path.index(i).child("name");
        if !seen.insert(hint) {
            errors.push(path.duplicate(hint));
        }
        errors.extend(path.invalid_for_each(hint, problems(hint)));
    }
    errors
}

fn validate_address(address: &str, kind: &str, path: &Path) -> FieldErrors {
    if kind == "FQDN" {
        return validate_domain(address, path);
    }
    if !ADDRESS_TYPES.contains(&kind) {
        return Vec::new();
    }
    let mut errors = validate_ip(path, address);
    if errors.is_empty() && is_ipv6(address) != (kind == "IPv6") {
        errors.push(path.invalid(address, format!("must be an {kind} address")));
    }
    if errors.is_empty() {
        errors.extend(validate_backend_ip(path, address));
    }
    errors
}

/// A domain name with at least two labels.
fn validate_domain(address: &str, path: &Path) -> FieldErrors {
    let name = address.strip_suffix('.').unwrap_or(address);
    let problems = names::dns_subdomain(name);
    if address.is_empty() {
        vec![path.required("")]
    } else if !problems.is_empty() {
        vec![path.invalid(name, problems.join(","))]
    } else if !name.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        vec![path.invalid(name, detail)]
    } else {
        Vec::new()
    }
}

fn validate_ports(ports: &[EndpointPort]) -> FieldErrors {
    let path = Path::new("ports");
    if ports.len() > MAX_PORTS {
        return vec![path.too_many(ports.len(), MAX_PORTS)];
    }
    let mut errors = FieldErrors::new();
    let mut seen = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let path = path.index(i);
        let name = port.name.as_deref().unwrap_or_default();
        if !name.is_empty() {
            errors.extend(path.child("name").invalid_for_each(name, names::dns_label(name)));
        }
        if !seen.insert(name) {
            errors.push(path.child("name").duplicate(name));
        }
        match port.protocol.as_deref() {
            None => errors.push(path.child("protocol").required("")),
            Some(known) if PROTOCOLS.contains(&known) => {}
            Some(other) => errors.push(path.child("protocol").not_supported(other, PROTOCOLS)),
        }
        if let Some(number) = port.port {
            let path = path.child("port");
            errors.extend(path.invalid_for_each(number, names::port_number(number)));
        }
        if let Some(name) = &port.app_protocol {
            let path = path.child("appProtocol");
            errors.extend(path.invalid_for_each(name, names::qualified_name(name)));
        }
    }
    errors
}

fn format_ports(ports: &[EndpointPort]) -> String {
    let texts: Vec<String> = ports
        .iter()
        .map(|port| match (port.port, &port.name) {
            (Some(number), _) => number.to_string(),
            (None, Some(name)) => name.clone(),
            (None, None) => "*".to_owned(),
        })
        .collect();
    first_few(&texts)
}

/// The first three, and how many more there are; `<unset>` when there is nothing to show
/// (upstream: `listWithMoreString`).
fn first_few(texts: &[String]) -> String {
    let shown = texts.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(",");
    match texts.len().saturating_sub(SHOWN) {
        0 if shown.is_empty() => UNSET.to_owned(),
        0 => shown,
        hidden => format!("{shown} + {hidden} more..."),
    }
}

#[cfg(test)]
mod tests;
