//! What a node's state calls for: pure.
//!
//! Inputs: the node, its pods, whether it is silent, the time. Outputs: writes.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::event;
use crate::cache::Change;
use crate::event::Severity;
use crate::meta;
use crate::pod;
use crate::write::{PatchKind, Target, Write};

const READY: &str = "Ready";
/// The conditions that a node's agent reports (upstream: `nodeConditionTypes`).
const REPORTED: [&str; 4] = [READY, "MemoryPressure", "DiskPressure", "PIDPressure"];
pub(super) const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub(super) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
pub(super) const NO_SCHEDULE: &str = "NoSchedule";
pub(super) const NO_EXECUTE: &str = "NoExecute";

/// Which taint a condition's status calls for (upstream: `nodeConditionToTaintKeyStatusMap`).
const BY_CONDITION: [(&str, &str, &str); 6] = [
    (READY, "False", NOT_READY),
    (READY, "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
];

fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

/// Whether the node's agent has ever spoken.
pub(super) fn has_reported(node: &Node) -> bool {
    condition(node, READY).is_some()
}

/// Whether the node says that it is ready.
pub(super) fn is_ready(node: &Node) -> bool {
    condition(node, READY).is_some_and(|ready| ready.status == "True")
}

/// The time of the node's last report in its own status, where it does not use a lease.
pub(super) fn heartbeat(node: &Node) -> Option<&Time> {
    condition(node, READY)?.last_heartbeat_time.as_ref()
}

/// Whether a change made the node ready or not ready.
pub(super) fn readiness(change: &Change<Node>) -> bool {
    change.old.as_deref().is_some_and(is_ready) != change.new.as_deref().is_some_and(is_ready)
}

/// What is no longer known of a silent node (upstream: `tryUpdateNodeHealth`).
pub(super) fn unknown(node: &Node, now: Timestamp) -> Option<Write> {
    let conditions: Vec<NodeCondition> = REPORTED
        .iter()
        .filter_map(|kind| {
            let present = condition(node, kind);
            if present.is_some_and(|condition| condition.status == "Unknown") {
                return None;
            }
            let (reason, message) = match present {
                Some(_) => ("NodeStatusUnknown", "Kubelet stopped posting node status."),
                None => ("NodeStatusNeverUpdated", "Kubelet never posted node status."),
            };
            let heartbeat = present
                .and_then(|condition| condition.last_heartbeat_time.clone())
                .or_else(|| node.metadata.creation_timestamp.clone());
            Some(NodeCondition {
                type_: (*kind).to_owned(),
                status: "Unknown".to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message.to_owned()),
                last_heartbeat_time: heartbeat,
                last_transition_time: Some(meta::seconds(now)),
            })
        })
        .collect();
    (!conditions.is_empty()).then(|| Write::Patch {
        target: Target::of(node),
        subresource: Some("status"),
        kind: PatchKind::Strategic,
        body: json!({ "status": { "conditions": conditions } }),
    })
}

/// The taints that the node's conditions call for; foreign taints stay. With `cut_off` no pod may
/// be driven away, because not a single node is ready (upstream: `stateFullDisruption`).
pub(super) fn taints(node: &Node, cut_off: bool, now: Timestamp) -> Option<Write> {
    let held: Vec<Taint> =
        node.spec.iter().flat_map(|s| s.taints.iter().flatten()).cloned().collect();
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    for (kind, status, key) in BY_CONDITION {
        let holds = condition(node, kind).is_some_and(|condition| condition.status == status);
        if holds {
            wanted.push((key, NO_SCHEDULE));
            if kind == READY && !cut_off {
                wanted.push((key, NO_EXECUTE));
            }
        }
    }
    if node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false) {
        wanted.push((UNSCHEDULABLE, NO_SCHEDULE));
    }
    if !has_reported(node) {
        // The server taints a new node as not ready; that stays until the node has spoken.
        let new = held.iter().any(|taint| taint.key == NOT_READY && taint.effect == NO_SCHEDULE);
        wanted.extend(new.then_some((NOT_READY, NO_SCHEDULE)));
    }
    let is =
        |taint: &Taint, (key, effect): &(&str, &str)| taint.key == *key && taint.effect == *effect;
    let mut next: Vec<Taint> = held
        .iter()
        .filter(|taint| !is_ours(taint) || wanted.iter().any(|wish| is(taint, wish)))
        .cloned()
        .collect();
    for wish in wanted {
        if !next.iter().any(|taint| is(taint, &wish)) {
            next.push(Taint {
                key: wish.0.to_owned(),
                effect: wish.1.to_owned(),
                time_added: Some(meta::seconds(now)),
                value: None,
            });
        }
    }
    // Evictions count from here; `kubectl taint` does not note the time.
    for taint in next.iter_mut().filter(|taint| taint.effect == NO_EXECUTE) {
        taint.time_added.get_or_insert_with(|| meta::seconds(now));
    }
    (next != held).then(|| Write::Patch {
        target: Target::of(node),
        subresource: None,
        kind: PatchKind::Merge,
        body: json!({
            "metadata": { "resourceVersion": node.metadata.resource_version },
            "spec": { "taints": next },
        }),
    })
}

fn is_ours(taint: &Taint) -> bool {
    let by_condition = BY_CONDITION.iter().any(|(_, _, key)| *key == taint.key);
    match taint.effect.as_str() {
        NO_SCHEDULE => by_condition || taint.key == UNSCHEDULABLE,
        NO_EXECUTE => taint.key == NOT_READY || taint.key == UNREACHABLE,
        _ => false,
    }
}

/// Whether the node drives pods away.
pub(super) fn has_evicting_taint(node: &Node) -> bool {
    node.spec.iter().flat_map(|s| s.taints.iter().flatten()).any(|taint| taint.effect == NO_EXECUTE)
}

/// Pods of a node that is not ready are not ready either, whatever they last said (upstream:
/// `MarkPodsNotReady`).
pub(super) fn pods_not_ready(node: &Node, pods: &[Arc<Pod>], now: Timestamp) -> Vec<Write> {
    if is_ready(node) || !has_reported(node) {
        return Vec::new();
    }
    let ready: Vec<&Arc<Pod>> = pods.iter().filter(|pod| pod::is_ready(pod)).collect();
    let mut writes = Vec::new();
    if !ready.is_empty() {
        let message = format!("Node {} status is now: NodeNotReady", meta::name(node));
        writes.push(event(node, Severity::Normal, "NodeNotReady", message));
    }
    for pod in ready {
        let condition = json!({
            "type": READY,
            "status": "False",
            "lastTransitionTime": meta::seconds(now),
        });
        writes.push(Write::Patch {
            target: Target::of(&**pod),
            subresource: Some("status"),
            kind: PatchKind::Strategic,
            body: json!({ "status": { "conditions": [condition] } }),
        });
        let message = "Node is not ready".to_owned();
        writes.push(event(&**pod, Severity::Warning, "NodeNotReady", message));
    }
    writes
}
