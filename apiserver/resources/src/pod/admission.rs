//! What upstream's built-in admission plug-ins add to a pod: a service account
//! (`plugin/pkg/admission/serviceaccount`), a priority (`priority`) and the time it may stay on a
//! node that does not answer (`defaulttolerationseconds`).
//!
//! Deliberately not here: mounting a token; there are none yet.

use k8s_openapi::api::core::v1::{Pod, PodSpec, Toleration};

/// How long a pod stays on a node that is not ready or unreachable, in seconds.
const TOLERATION_SECONDS: i64 = 300;

/// The taints of a node that does not answer.
const NODE_TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// The priority classes that always exist.
pub(super) const PRIORITY_CLASSES: [(&str, i32); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

pub(super) fn on_create(pod: &mut Pod) {
    let spec = pod.spec.get_or_insert_default();
    if spec.service_account_name.as_deref().unwrap_or_default().is_empty() {
        spec.service_account_name = Some("default".to_owned());
        spec.service_account = Some("default".to_owned());
    }
    set_priority(spec);
    tolerate_node_problems(spec);
}

pub(super) fn on_update(new: &mut Pod, old: &Pod) {
    let spec = new.spec.get_or_insert_default();
    if let Some(before) = &old.spec {
        // A client that puts its manifest back does not know what was computed.
        spec.priority = spec.priority.or(before.priority);
        if spec.preemption_policy.is_none() {
            spec.preemption_policy.clone_from(&before.preemption_policy);
        }
    }
    tolerate_node_problems(spec);
}

/// A class that does not exist leaves the pod without a priority; validation says so.
fn set_priority(spec: &mut PodSpec) {
    let class = spec.priority_class_name.as_deref().unwrap_or_default();
    let known = PRIORITY_CLASSES.iter().find(|(name, _)| *name == class);
    if let (None, Some((_, priority))) = (spec.priority, known) {
        spec.priority = Some(*priority);
    } else if class.is_empty() {
        spec.priority.get_or_insert(0);
    }
    spec.preemption_policy.get_or_insert_with(|| "PreemptLowerPriority".to_owned());
}

fn tolerate_node_problems(spec: &mut PodSpec) {
    for taint in NODE_TAINTS {
        if !spec.tolerations.iter().flatten().any(|t| tolerates_eviction(t, taint)) {
            spec.tolerations.get_or_insert_default().push(Toleration {
                key: Some(taint.to_owned()),
                operator: Some("Exists".to_owned()),
                effect: Some("NoExecute".to_owned()),
                toleration_seconds: Some(TOLERATION_SECONDS),
                value: None,
            });
        }
    }
}

fn tolerates_eviction(toleration: &Toleration, taint: &str) -> bool {
    let key = toleration.key.as_deref().unwrap_or_default();
    let effect = toleration.effect.as_deref().unwrap_or_default();
    (key.is_empty() || key == taint) && (effect.is_empty() || effect == "NoExecute")
}
