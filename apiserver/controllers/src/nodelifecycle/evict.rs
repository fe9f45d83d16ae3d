//! When a pod has to leave a node with `NoExecute` taints: pure (upstream:
//! `pkg/controller/tainteviction`).
//!
//! Inputs: the pod, its node, the time. Outputs: writes, or when to look again.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::event;
use super::plan::{NO_EXECUTE, NOT_READY, UNREACHABLE};
use crate::event::Severity;
use crate::meta;
use crate::pod;
use crate::scheduler::tolerates;
use crate::write::{PatchKind, Plan, Target, Write};

/// Removes the pod if its time has come, else says when to look again.
pub(super) fn plan(pod: &Pod, node: &Node, now: Timestamp) -> Plan {
    let taints: Vec<&Taint> = node
        .spec
        .iter()
        .flat_map(|spec| spec.taints.iter().flatten())
        .filter(|taint| taint.effect == NO_EXECUTE)
        .collect();
    if taints.is_empty() || meta::is_deleted(pod) {
        return Plan::default();
    }
    match deadline(pod, &taints) {
        Deadline::Never => Plan::default(),
        Deadline::Now => Plan::of(removal(pod, now)),
        Deadline::At(at) => {
            let left = at.as_millisecond() - now.as_millisecond();
            match u64::try_from(left) {
                Ok(millis) if millis > 0 => {
                    Plan { writes: Vec::new(), recheck: Some(Duration::from_millis(millis)) }
                }
                _ => Plan::of(removal(pod, now)),
            }
        }
    }
}

/// Seconds that a pod stays on a node that is not ready or unreachable when it says nothing about
/// that (upstream: the admission plugin `DefaultTolerationSeconds` writes them into each pod).
const UNSAID: i64 = 300;

#[derive(Debug, PartialEq)]
enum Deadline {
    Never,
    Now,
    At(Timestamp),
}

/// Every taint must be tolerated; of the times that the tolerations allow, the shortest counts,
/// from when the first of the taints came.
fn deadline(pod: &Pod, taints: &[&Taint]) -> Deadline {
    let tolerations: &[Toleration] =
        pod::spec(pod).and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let mut shortest: Option<i64> = None;
    for taint in taints {
        let seconds = match tolerations.iter().find(|toleration| tolerates(toleration, taint)) {
            Some(used) => used.toleration_seconds,
            None if [NOT_READY, UNREACHABLE].contains(&taint.key.as_str()) => Some(UNSAID),
            None => return Deadline::Now,
        };
        if let Some(seconds) = seconds.map(|seconds| seconds.max(0)) {
            shortest = Some(shortest.map_or(seconds, |other| other.min(seconds)));
        }
    }
    let Some(seconds) = shortest else { return Deadline::Never };
    let since = taints.iter().filter_map(|taint| taint.time_added.as_ref()).map(|Time(at)| *at);
    match since.min() {
        Some(since) => Timestamp::from_second(since.as_second().saturating_add(seconds))
            .map_or(Deadline::Never, Deadline::At),
        // The taint was just put by hand; `plan::taints` is about to note the time on it.
        None => Deadline::Never,
    }
}

fn removal(pod: &Pod, now: Timestamp) -> Vec<Write> {
    let (namespace, name) = (meta::namespace(pod), meta::name(pod));
    let message = format!("Marking for deletion Pod {namespace}/{name}");
    let condition = json!({
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "DeletionByTaintManager",
        "message": "Taint manager: deleting due to NoExecute taint",
        "lastTransitionTime": meta::seconds(now),
    });
    vec![
        event(pod, Severity::Normal, "TaintManagerEviction", message),
        Write::Patch {
            target: Target::of(pod),
            subresource: Some("status"),
            kind: PatchKind::Strategic,
            body: json!({ "status": { "conditions": [condition] } }),
        },
        Write::delete(pod),
    ]
}
