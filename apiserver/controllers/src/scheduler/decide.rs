//! One pod, one decision, and what is to be written for it.
//!
//! Pure. Inputs: the pod and the cluster. Outputs: a [`Decision`], and its writes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use serde_json::json;

use super::COMPONENT;
use super::filter::{self, Refusal, Wish};
use super::score;
use super::state::{Cluster, NodeState};
use crate::event::{Occurrence, Severity};
use crate::meta;
use crate::pod;
use crate::write::{PatchKind, Target, Write};

/// Where a pod goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// To the node of this name.
    Bind(String),
    /// Nowhere; the sentence says why.
    Unschedulable(String),
}

/// Finds the pod's node.
pub(super) fn schedule(pod: &Pod, cluster: &Cluster) -> Decision {
    let Some(spec) = pod::spec(pod) else {
        return Decision::Unschedulable("pod has no spec".to_owned());
    };
    if cluster.nodes.is_empty() {
        return Decision::Unschedulable("no nodes available to schedule pods".to_owned());
    }
    let wish = Wish::new(pod, spec);
    let mut possible: Vec<&NodeState> = Vec::new();
    let mut refusals: Vec<Refusal> = Vec::new();
    for node in &cluster.nodes {
        match filter::check(&wish, node) {
            Ok(()) => possible.push(node),
            Err(refusal) => refusals.push(refusal),
        }
    }
    match score::best(pod, &wish, &possible) {
        Some(node) => Decision::Bind(node.name().to_owned()),
        None => Decision::Unschedulable(explain(&refusals)),
    }
}

/// Upstream's `FitError.Error()`: the reasons with their counts, in the order of their text, and
/// what preemption has to say.
fn explain(refusals: &[Refusal]) -> String {
    let nodes = refusals.len();
    let counted = |reasons: BTreeMap<&str, usize>| {
        let mut texts: Vec<String> =
            reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        texts.sort();
        texts.join(", ")
    };
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    let mut preemption: BTreeMap<&str, usize> = BTreeMap::new();
    for refusal in refusals {
        for reason in &refusal.reasons {
            *reasons.entry(reason).or_default() += 1;
        }
        let verdict = if refusal.resolvable {
            "No preemption victims found for incoming pod"
        } else {
            "Preemption is not helpful for scheduling"
        };
        *preemption.entry(verdict).or_default() += 1;
    }
    format!(
        "0/{nodes} nodes are available: {}. preemption: 0/{nodes} nodes are available: {}.",
        counted(reasons),
        counted(preemption)
    )
}

/// What a decision writes: the binding and its event, or the failure's condition and event.
pub(super) fn writes(pod: &Pod, decision: &Decision, now: Timestamp) -> Vec<Write> {
    let event = |severity, reason, message| {
        Write::Event(Occurrence::new(COMPONENT, pod, severity, reason, message))
    };
    match decision {
        Decision::Bind(node) => {
            let (namespace, name) = (meta::namespace(pod), meta::name(pod));
            let message = format!("Successfully assigned {namespace}/{name} to {node}");
            vec![
                Write::Bind { pod: Target::of(pod), node: node.clone() },
                event(Severity::Normal, "Scheduled", message),
            ]
        }
        Decision::Unschedulable(why) => {
            let mut writes = vec![event(Severity::Warning, "FailedScheduling", why.clone())];
            writes.extend(not_scheduled(pod, why, now));
            writes
        }
    }
}

/// The condition that says why the pod waits, unless it says so already.
fn not_scheduled(pod: &Pod, why: &str, now: Timestamp) -> Option<Write> {
    const KIND: &str = "PodScheduled";
    let present = pod::condition(pod, KIND);
    let failed = present.filter(|condition| condition.status == "False");
    if failed.is_some_and(|condition| {
        condition.reason.as_deref() == Some("Unschedulable")
            && condition.message.as_deref() == Some(why)
    }) {
        return None;
    }
    let since = failed.and_then(|condition| condition.last_transition_time.clone());
    let condition = PodCondition {
        type_: KIND.to_owned(),
        status: "False".to_owned(),
        reason: Some("Unschedulable".to_owned()),
        message: Some(why.to_owned()),
        last_transition_time: Some(since.unwrap_or_else(|| meta::seconds(now))),
        ..PodCondition::default()
    };
    Some(Write::Patch {
        target: Target::of(pod),
        subresource: Some("status"),
        kind: PatchKind::Strategic,
        body: json!({ "status": { "conditions": [condition] } }),
    })
}
