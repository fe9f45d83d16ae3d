//! When a node is well formed, and what of it cannot change.
//!
//! Upstream: `ValidateNode`, `ValidateNodeUpdate` of `pkg/apis/core/validation/validation.go`.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Node, NodeSpec, Taint};
use serde::Serialize;

use crate::addresses::{is_ipv6, validate_cidr};
use crate::field::{FieldErrors, Path};
use crate::names;
use crate::pod::validate::{EFFECTS, amount};

/// A taint as upstream shows a duplicate.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown<'a> {
    key: &'a str,
    value: &'a str,
    effect: &'a str,
    time_added: Option<()>,
}

pub(super) fn node(node: &Node) -> FieldErrors {
    let default = NodeSpec::default();
    let spec = node.spec.as_ref().unwrap_or(&default);
    // Upstream reports taints below metadata.
    let taints = spec.taints.as_deref().unwrap_or_default();
    let mut errors = validate_taints(taints, &Path::new("metadata").child("taints"));
    errors.extend(status(node));
    let path = Path::new("spec").child("podCIDRs");
    let ranges = spec.pod_cidrs.as_deref().unwrap_or_default();
    for (i, range) in ranges.iter().enumerate() {
        errors.extend(validate_cidr(&path.index(i), range));
    }
    let of_ipv6 = |range: &&String| range.split('/').next().is_some_and(is_ipv6);
    let ipv6 = ranges.iter().filter(of_ipv6).count();
    if ranges.len() > 1 && (ipv6 != 1 || ranges.len() > 2) {
        let detail = "may specify no more than one CIDR for each IP family";
        errors.push(path.invalid(ranges, detail));
    }
    errors
}

pub(super) fn update(new: &Node, old: &Node) -> FieldErrors {
    let spec = |node: &Node| node.spec.clone().unwrap_or_default();
    let (new, old) = (spec(new), spec(old));
    let path = Path::new("spec");
    let mut errors = FieldErrors::new();
    let ranges = |spec: &NodeSpec| spec.pod_cidrs.clone().unwrap_or_default();
    if !ranges(&old).is_empty() && ranges(&new) != ranges(&old) {
        let detail = r#"node updates may not change podCIDR except from "" to valid"#;
        errors.push(path.child("podCIDRs").forbidden(detail));
    }
    let provider = |spec: &NodeSpec| spec.provider_id.clone().unwrap_or_default();
    if !provider(&old).is_empty() && provider(&new) != provider(&old) {
        let detail = r#"node updates may not change providerID except from "" to valid"#;
        errors.push(path.child("providerID").forbidden(detail));
    }
    errors
}

/// Problems of what a node reports of itself.
pub(super) fn status(node: &Node) -> FieldErrors {
    let Some(status) = &node.status else { return Vec::new() };
    let path = Path::new("status");
    let mut errors = FieldErrors::new();
    for (field, list) in [("capacity", &status.capacity), ("allocatable", &status.allocatable)] {
        for (name, text) in list.iter().flatten() {
            errors.extend(amount(name, text, &path.child(field).child(name)));
        }
    }
    let mut seen = BTreeSet::new();
    for (i, address) in status.addresses.iter().flatten().enumerate() {
        if !seen.insert((&address.type_, &address.address)) {
            errors.push(path.child("addresses").index(i).duplicate(address));
        }
    }
    errors
}

fn validate_taints(taints: &[Taint], path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let mut seen = BTreeSet::new();
    for (i, taint) in taints.iter().enumerate() {
        let path = path.index(i);
        let (key, effect) = (taint.key.as_str(), taint.effect.as_str());
        let value = taint.value.as_deref().unwrap_or_default();
        errors.extend(path.child("key").invalid_for_each(key, names::qualified_name(key)));
        let problems = names::label_value(value);
        if !problems.is_empty() {
            errors.push(path.child("value").invalid(value, problems.join(";")));
        }
        match effect {
            "" => errors.push(path.child("effect").required("")),
            known if EFFECTS.contains(&known) => {}
            other => errors.push(path.child("effect").not_supported(other, EFFECTS)),
        }
        if !seen.insert((key, effect)) {
            let mut error = path.duplicate(Shown { key, value, effect, time_added: None });
            "taints must be unique by key and effect pair".clone_into(&mut error.detail);
            errors.push(error);
        }
    }
    errors
}
