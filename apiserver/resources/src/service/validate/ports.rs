//! Rules of a Service's ports (upstream: `validateServicePort` and the checks for duplicates).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use serde::Serialize;

use crate::field::{FieldErrors, Path};
use crate::names;
use crate::ports::{PROTOCOLS, validate_port};

/// A port as upstream shows a duplicate: its own struct, of which only these two fields are set.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Duplicate<'a> {
    name: &'a str,
    protocol: &'a str,
    app_protocol: Option<&'a str>,
    port: i32,
    target_port: i32,
    node_port: i32,
}

pub(super) fn validate(ports: &[ServicePort], path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let mut names = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let path = path.index(i);
        errors.extend(validate_name(port, ports.len() > 1, &mut names, &path.child("name")));
        let number = path.child("port");
        errors.extend(number.invalid_for_each(port.port, names::port_number(port.port)));
        let protocol = path.child("protocol");
        match port.protocol.as_deref().unwrap_or_default() {
            "" => errors.push(protocol.required("")),
            known if PROTOCOLS.contains(&known) => {}
            other => errors.push(protocol.not_supported(other, PROTOCOLS)),
        }
        if let Some(target) = &port.target_port {
            errors.extend(validate_port(&path.child("targetPort"), target));
        }
        if let Some(name) = &port.app_protocol {
            let path = path.child("appProtocol");
            errors.extend(path.invalid_for_each(name, names::qualified_name(name)));
        }
    }
    errors
}

/// Several ports need names to tell them apart; they become parts of DNS names.
fn validate_name<'a>(
    port: &'a ServicePort,
    required: bool,
    seen: &mut BTreeSet<&'a str>,
    path: &Path,
) -> FieldErrors {
    let mut errors = FieldErrors::new();
    match port.name.as_deref().unwrap_or_default() {
        "" if required => errors.push(path.required("")),
        "" => {}
        name => {
            errors.extend(path.invalid_for_each(name, names::dns_label(name)));
            if !seen.insert(name) {
                errors.push(path.duplicate(name));
            }
        }
    }
    errors
}

/// Node ports where the type has none, and ports or node ports that stand twice.
pub(super) fn validate_node_ports(service: &Service, path: &Path) -> FieldErrors {
    let ports = super::super::ports(service);
    let mut errors = FieldErrors::new();
    let protocol = |port: &ServicePort| port.protocol.clone().unwrap_or_default();
    let has_node_ports = super::super::type_of(service) != super::super::CLUSTER_IP;
    let mut node_ports = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let path = path.index(i).child("nodePort");
        let number = port.node_port.unwrap_or_default();
        if number == 0 {
            continue;
        }
        if !has_node_ports {
            errors.push(path.forbidden("may not be used when `type` is 'ClusterIP'"));
        } else if !(1..=65_535).contains(&number) {
            errors.extend(path.invalid_for_each(number, names::port_number(number)));
        }
        if !node_ports.insert((protocol(port), number)) {
            errors.push(path.duplicate(number));
        }
    }
    let mut numbers = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let protocol = protocol(port);
        if !numbers.insert((protocol.clone(), port.port)) {
            errors.push(path.index(i).duplicate(Duplicate {
                name: "",
                protocol: &protocol,
                app_protocol: None,
                port: port.port,
                target_port: 0,
                node_port: 0,
            }));
        }
    }
    errors
}
