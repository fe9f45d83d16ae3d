//! Nodes: taints, schedulability, the pod CIDR, and what the machine reports of itself.
//!
//! Upstream: `pkg/registry/core/node/strategy.go`.
//! Deliberately not here: allocating the pod CIDR (the API server's transaction).

mod validate;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;

use crate::columns::{self, Cell, Column, NONE, UNKNOWN};
use crate::field::FieldErrors;
use crate::omit;
use crate::pod::defaults::round;
use crate::strategy::Strategy;

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Status"),
    Column::text("Roles"),
    Column::AGE,
    Column::text("Version"),
    Column::wide("Internal-IP"),
    Column::wide("External-IP"),
    Column::wide("OS-Image"),
    Column::wide("Kernel-Version"),
    Column::wide("Container-Runtime"),
];

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const OLD_ROLE_LABEL: &str = "kubernetes.io/role";

/// The behaviour of Nodes.
pub(crate) struct Nodes;

impl Strategy for Nodes {
    type Object = Node;

    fn default(&self, node: &mut Node) {
        if let Some(spec) = &mut node.spec {
            omit::noes([&mut spec.unschedulable]);
            omit::empty_texts([&mut spec.pod_cidr]);
            omit::empty_lists([&mut spec.pod_cidrs]);
            // Old clients know the singular field only.
            match (&spec.pod_cidr, spec.pod_cidrs.as_deref().unwrap_or_default()) {
                (Some(range), []) => {
                    spec.pod_cidrs = Some(vec![range.clone()]);
                }
                (_, [first, ..]) => spec.pod_cidr = Some(first.clone()),
                _ => {}
            }
        }
        default_status(node);
    }

    fn prepare_update(&self, new: &mut Node, old: &Node) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status_update(&self, new: &mut Node, old: &Node) {
        new.spec.clone_from(&old.spec);
        default_status(new);
    }

    fn validate(&self, node: &Node) -> FieldErrors {
        validate::node(node)
    }

    fn validate_update(&self, new: &Node, old: &Node) -> FieldErrors {
        validate::update(new, old)
    }

    fn validate_status_update(&self, new: &Node, _old: &Node) -> FieldErrors {
        validate::status(new)
    }

    fn fields(&self, node: &Node) -> Vec<(&'static str, String)> {
        vec![("spec.unschedulable", unschedulable(node).to_string())]
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, node: &Node, now: Timestamp) -> Vec<Cell> {
        let metadata = &node.metadata;
        let info = node.status.as_ref().and_then(|s| s.node_info.as_ref());
        vec![
            columns::name(metadata),
            status(node).into(),
            roles(node).into(),
            columns::age(metadata, now),
            info.map_or("", |i| i.kubelet_version.as_str()).into(),
            address(node, "InternalIP").into(),
            address(node, "ExternalIP").into(),
            or_unknown(info.map(|i| i.os_image.as_str())).into(),
            or_unknown(info.map(|i| i.kernel_version.as_str())).into(),
            or_unknown(info.map(|i| i.container_runtime_version.as_str())).into(),
        ]
    }
}

fn unschedulable(node: &Node) -> bool {
    node.spec.as_ref().and_then(|s| s.unschedulable).unwrap_or(false)
}

fn status(node: &Node) -> String {
    let ready = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let ready = match ready.into_iter().find(|c| c.type_ == "Ready") {
        Some(condition) if condition.status == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let cordoned = if unschedulable(node) { ",SchedulingDisabled" } else { "" };
    format!("{ready}{cordoned}")
}

/// Role names from labels, sorted (upstream: `findNodeRoles`).
fn roles(node: &Node) -> String {
    let mut roles: Vec<&str> = node
        .metadata
        .labels
        .iter()
        .flatten()
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) => Some(role),
            None if key == OLD_ROLE_LABEL => Some(value.as_str()),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { NONE.to_owned() } else { roles.join(",") }
}

fn address<'a>(node: &'a Node, kind: &str) -> &'a str {
    let mut addresses = node.status.iter().flat_map(|s| s.addresses.iter().flatten());
    addresses.find(|a| a.type_ == kind).map_or(NONE, |a| a.address.as_str())
}

fn or_unknown(text: Option<&str>) -> &str {
    text.filter(|t| !t.is_empty()).unwrap_or(UNKNOWN)
}

/// All of a node can be given to pods unless the node says otherwise.
fn default_status(node: &mut Node) {
    let Some(status) = &mut node.status else { return };
    round(&mut status.capacity);
    round(&mut status.allocatable);
    if status.allocatable.is_none() {
        status.allocatable.clone_from(&status.capacity);
    }
}

#[cfg(test)]
mod tests;
