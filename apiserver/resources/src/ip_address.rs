//! IPAddresses: one object for each cluster IP that is taken, named by the address.
//!
//! Upstream: `pkg/registry/networking/ipaddress/strategy.go`, `ValidateIPAddress` of
//! `pkg/apis/networking/validation/validation.go`, `printIPAddress`.
//! Owns: the strategy, and the object that stands for an address of a Service.
//! Invariant: a name is the usual text of its address, so that no address has two objects.
//! Deliberately not here: who may take or give back an address (the API server's transaction).

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, IPAddressSpec, ParentReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::columns::{self, Cell, Column, NONE};
use crate::families::Family;
use crate::field::{FieldErrors, Path};
use crate::names;
use crate::strategy::Strategy;

/// Label: the family of the address.
const FAMILY_LABEL: &str = "ipaddress.kubernetes.io/ip-family";
/// Label: who made the object.
const MANAGED_BY_LABEL: &str = "ipaddress.kubernetes.io/managed-by";
/// The value of the second label on objects of Services.
const ALLOCATOR: &str = "ipallocator.k8s.io";

const COLUMNS: &[Column] = &[Column::NAME, Column::text("ParentRef"), Column::AGE];

/// The behaviour of IPAddresses.
pub(crate) struct IpAddresses;

impl Strategy for IpAddresses {
    type Object = IPAddress;

    fn default(&self, address: &mut IPAddress) {
        let parent = &mut address.spec.parent_ref;
        crate::omit::empty_texts([&mut parent.group, &mut parent.namespace]);
    }

    fn validate(&self, address: &IPAddress) -> FieldErrors {
        validate_parent(&address.spec.parent_ref, &Path::new("spec").child("parentRef"))
    }

    fn validate_update(&self, new: &IPAddress, old: &IPAddress) -> FieldErrors {
        let path = Path::new("spec").child("parentRef");
        path.immutable(&new.spec.parent_ref, &old.spec.parent_ref).into_iter().collect()
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, address: &IPAddress, now: Timestamp) -> Vec<Cell> {
        let metadata = &address.metadata;
        vec![columns::name(metadata), holder(address).into(), columns::age(metadata, now)]
    }
}

/// The object that stands for an address of a Service; identity and time are the pipeline's.
#[must_use]
pub fn of_service(address: IpAddr, namespace: &str, name: &str) -> IPAddress {
    let labels = BTreeMap::from([
        (FAMILY_LABEL.to_owned(), Family::from(address).to_string()),
        (MANAGED_BY_LABEL.to_owned(), ALLOCATOR.to_owned()),
    ]);
    IPAddress {
        metadata: ObjectMeta {
            name: Some(address.to_string()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: IPAddressSpec {
            parent_ref: ParentReference {
                group: None,
                name: name.to_owned(),
                namespace: Some(namespace.to_owned()),
                resource: "services".to_owned(),
            },
        },
    }
}

/// The namespace and name of the Service that the object says it belongs to.
#[must_use]
pub fn service_of(address: &IPAddress) -> Option<(&str, &str)> {
    let parent = &address.spec.parent_ref;
    let of_core = parent.group.as_deref().unwrap_or_default().is_empty();
    let namespace = parent.namespace.as_deref().unwrap_or_default();
    (of_core && parent.resource == "services").then_some((namespace, parent.name.as_str()))
}

/// Whom the address belongs to: `services/default/kubernetes`.
#[must_use]
pub fn holder(address: &IPAddress) -> String {
    let parent = &address.spec.parent_ref;
    if parent.resource.is_empty() && parent.name.is_empty() {
        return NONE.to_owned();
    }
    let mut text = parent.resource.to_lowercase();
    for (separator, part) in [(".", &parent.group), ("/", &parent.namespace)] {
        if let Some(part) = part.as_deref().filter(|p| !p.is_empty()) {
            text.push_str(separator);
            text.push_str(part);
        }
    }
    format!("{text}/{}", parent.name)
}

fn validate_parent(parent: &ParentReference, path: &Path) -> FieldErrors {
    if *parent == ParentReference::default() {
        return vec![path.required("")];
    }
    let mut errors = FieldErrors::new();
    // Services are of the group that has no name: it cannot be demanded.
    if let Some(group) = &parent.group {
        errors.extend(path.child("group").invalid_for_each(group, names::dns_subdomain(group)));
    }
    for (field, value) in [("resource", &parent.resource), ("name", &parent.name)] {
        let path = path.child(field);
        if value.is_empty() {
            errors.push(path.required(""));
        } else {
            errors.extend(path.invalid_for_each(value, names::path_segment(value)));
        }
    }
    if let Some(namespace) = &parent.namespace {
        let path = path.child("namespace");
        errors.extend(path.invalid_for_each(namespace, names::path_segment(namespace)));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::metadata;
    use crate::table;

    fn problems(name: &str, spec: Value) -> Vec<String> {
        let object = json!({ "metadata": { "name": name }, "spec": spec });
        let mut address: IPAddress = serde_json::from_value(object).expect("an IPAddress");
        Strategy::default(&IpAddresses, &mut address);
        let row = table::by_path("networking.k8s.io", "v1", "ipaddresses").expect("a row");
        let mut errors = metadata::validate(row, &address.metadata);
        errors.extend(IpAddresses.validate(&address));
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_name_is_the_usual_text_of_an_address() {
        let parent =
            json!({ "parentRef": { "resource": "services", "namespace": "d", "name": "a" } });
        for (name, expected) in [
            ("10.96.0.1", None),
            ("fd00:10:96::1", None),
            ("10.096.0.1", Some("must not have leading 0s")),
            ("fd00:10:96:0::1", Some(r#"must be in canonical form ("fd00:10:96::1")"#)),
            ("::ffff:10.96.0.1", Some("must not be an IPv4-mapped IPv6 address")),
            ("web", Some("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")),
        ] {
            let expected: Vec<String> = expected
                .map(|detail| format!("metadata.name: Invalid value: {name:?}: {detail}"))
                .into_iter()
                .collect();
            assert_eq!(problems(name, parent.clone()), expected, "{name}");
        }
    }

    #[test]
    fn an_address_belongs_to_somebody() {
        let of = |parent: Value| problems("10.0.0.1", json!({ "parentRef": parent }));
        assert_eq!(problems("10.0.0.1", json!({})), ["spec.parentRef: Required value"]);
        assert_eq!(of(json!({ "name": "a" })), ["spec.parentRef.resource: Required value"]);
        assert_eq!(of(json!({ "resource": "x" })), ["spec.parentRef.name: Required value"]);
        assert_eq!(
            of(json!({ "resource": "a/b", "name": "c%", "namespace": "..", "group": "X" })).len(),
            4
        );
    }

    #[test]
    fn the_parent_never_changes() {
        let old = of_service("10.0.0.1".parse().expect("an address"), "d", "a");
        let mut new = old.clone();
        assert_eq!(IpAddresses.validate_update(&new, &old), []);
        new.spec.parent_ref.name = "b".to_owned();
        let errors = IpAddresses.validate_update(&new, &old);
        assert_eq!(errors[0].detail, "field is immutable");
    }

    #[test]
    fn a_row_names_the_parent_as_kubectl_does() {
        let address = of_service("fd00::7".parse().expect("an address"), "default", "web");
        assert_eq!(holder(&address), "services/default/web");
        assert_eq!(service_of(&address), Some(("default", "web")));
        let labels = address.metadata.labels.clone().expect("labels");
        assert_eq!(labels[FAMILY_LABEL], "IPv6");
        let other =
            json!({ "parentRef": { "group": "gateway.io", "resource": "Gateways", "name": "g" } });
        let other: IPAddress =
            serde_json::from_value(json!({ "spec": other })).expect("an IPAddress");
        assert_eq!(holder(&other), "gateways.gateway.io/g");
        assert_eq!(service_of(&other), None);
    }
}
