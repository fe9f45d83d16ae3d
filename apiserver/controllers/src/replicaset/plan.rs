//! What a replica set needs: pure decisions.
//!
//! Inputs: a replica set, the pods and replica sets of its namespace, the time. Outputs: writes.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use super::rank;
use crate::meta;
use crate::pod;
use crate::selector;
use crate::write::{PatchKind, Target, Write};

/// What to do about the number of pods.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// There are as many as wanted.
    Nothing,
    /// Create this pod so many times.
    Create(Box<Pod>, usize),
    /// Remove these.
    Remove(Vec<Arc<Pod>>),
}

/// Why pods could not be created or removed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// While creating, else while removing.
    pub(super) creating: bool,
    /// What the API server said.
    pub(super) message: String,
}

/// Whether the set's selector matches the pod; an empty selector selects nothing here.
pub(super) fn selects(set: &ReplicaSet, pod: &Pod) -> bool {
    set.spec.as_ref().is_some_and(|spec| {
        let empty =
            spec.selector.match_labels.is_none() && spec.selector.match_expressions.is_none();
        !empty && selector::matches(&spec.selector, pod.metadata.labels.as_ref())
    })
}

/// The pods of this set that count.
fn active<'a>(set: &'a ReplicaSet, pods: &'a [Arc<Pod>]) -> impl Iterator<Item = &'a Arc<Pod>> {
    pods.iter().filter(|pod| {
        pod::is_active(pod) && meta::is_controlled_by(&pod.metadata, set) && selects(set, pod)
    })
}

/// Adopts orphans that match and releases own pods that no longer do (upstream:
/// `PodControllerRefManager.ClaimPods`).
pub(super) fn claim(set: &ReplicaSet, pods: &[Arc<Pod>]) -> Vec<Write> {
    if meta::is_deleted(set) {
        return Vec::new();
    }
    let mut writes = Vec::new();
    for pod in pods {
        let owner = meta::controller_of(&pod.metadata);
        let ours = owner.is_some_and(|owner| owner.uid == meta::uid(set));
        let matches = selects(set, pod);
        let references = pod.metadata.owner_references.iter().flatten();
        let wanted: Vec<_> = if owner.is_none() && matches && pod::is_active(pod) {
            references.cloned().chain([meta::controller_reference(set)]).collect()
        } else if ours && !matches && !meta::is_deleted(&**pod) {
            references.filter(|owner| owner.uid != meta::uid(set)).cloned().collect()
        } else {
            continue;
        };
        writes.push(Write::Patch {
            target: Target::of(&**pod),
            subresource: None,
            kind: PatchKind::Merge,
            // The resource version makes the server refuse when somebody else was faster.
            body: json!({ "metadata": {
                "ownerReferences": wanted,
                "resourceVersion": pod.metadata.resource_version,
            }}),
        });
    }
    writes
}

/// Compares the number of pods with the wish.
pub(super) fn manage(
    set: &ReplicaSet,
    pods: &[Arc<Pod>],
    related: &[Arc<ReplicaSet>],
    burst: usize,
    now: Timestamp,
) -> Step {
    let Some(spec) = &set.spec else { return Step::Nothing };
    if meta::is_deleted(set) {
        return Step::Nothing;
    }
    let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
    let mine: Vec<Arc<Pod>> = active(set, pods).cloned().collect();
    if mine.len() < wanted {
        let count = (wanted - mine.len()).min(burst);
        let template = spec.template.clone().unwrap_or_default();
        return Step::Create(Box::new(new_pod(set, template)), count);
    }
    let surplus = (mine.len() - wanted).min(burst);
    if surplus == 0 {
        return Step::Nothing;
    }
    // Pods of sets with the same owner (the other revisions of a Deployment) count as company.
    let siblings: Vec<&Arc<ReplicaSet>> = match meta::controller_of(&set.metadata) {
        Some(owner) => related
            .iter()
            .filter(|other| {
                meta::controller_of(&other.metadata).is_some_and(|o| o.uid == owner.uid)
            })
            .collect(),
        None => related.iter().filter(|other| meta::uid(&***other) == meta::uid(set)).collect(),
    };
    let company: Vec<&Arc<Pod>> = pods
        .iter()
        .filter(|pod| pod::is_active(pod))
        .filter(|pod| siblings.iter().any(|set| meta::is_controlled_by(&pod.metadata, &***set)))
        .collect();
    Step::Remove(rank::least_useful(mine, &company, surplus, now))
}

/// A pod made from the template (upstream: `GetPodFromTemplate`).
fn new_pod(set: &ReplicaSet, template: PodTemplateSpec) -> Pod {
    let metadata = template.metadata.unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            namespace: set.metadata.namespace.clone(),
            labels: metadata.labels,
            annotations: metadata.annotations,
            finalizers: metadata.finalizers,
            generate_name: Some(format!("{}-", meta::name(set))),
            owner_references: Some(vec![meta::controller_reference(set)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

/// The status write that brings the set up to date, if one is needed (upstream:
/// `calculateStatus`, `updateReplicaSetStatus`).
pub(super) fn status(
    set: &ReplicaSet,
    pods: &[Arc<Pod>],
    failure: Option<&Failure>,
    now: Timestamp,
) -> Option<Write> {
    let spec = set.spec.as_ref()?;
    let template = spec.template.as_ref().and_then(|template| template.metadata.as_ref());
    let template_labels = template.and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let (mut all, mut labelled, mut ready, mut available) = (0, 0, 0, 0);
    for pod in active(set, pods) {
        all += 1;
        labelled += i32::from(selector::contains(pod.metadata.labels.as_ref(), &template_labels));
        ready += i32::from(pod::is_ready(pod));
        available += i32::from(pod::is_available(pod, min_ready, now));
    }
    let old = set.status.clone().unwrap_or_default();
    let new = ReplicaSetStatus {
        replicas: all,
        fully_labeled_replicas: some_unless_zero(labelled),
        ready_replicas: some_unless_zero(ready),
        available_replicas: some_unless_zero(available),
        observed_generation: set.metadata.generation,
        conditions: conditions(old.conditions.clone(), failure, now),
        terminating_replicas: old.terminating_replicas,
    };
    if new == normalized(old) {
        return None;
    }
    let mut updated = set.clone();
    updated.status = Some(new);
    Some(Write::update_status(updated))
}

/// Absent and zero, absent and empty mean the same.
fn normalized(mut status: ReplicaSetStatus) -> ReplicaSetStatus {
    for count in [
        &mut status.fully_labeled_replicas,
        &mut status.ready_replicas,
        &mut status.available_replicas,
    ] {
        *count = count.and_then(some_unless_zero);
    }
    status.conditions = status.conditions.filter(|conditions| !conditions.is_empty());
    status
}

fn some_unless_zero(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

/// `ReplicaFailure` as long as pods cannot be created or removed.
fn conditions(
    old: Option<Vec<ReplicaSetCondition>>,
    failure: Option<&Failure>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    const KIND: &str = "ReplicaFailure";
    let mut conditions = old.unwrap_or_default();
    match failure {
        Some(failure) => {
            if !conditions.iter().any(|condition| condition.type_ == KIND) {
                let reason = if failure.creating { "FailedCreate" } else { "FailedDelete" };
                conditions.push(ReplicaSetCondition {
                    type_: KIND.to_owned(),
                    status: "True".to_owned(),
                    reason: Some(reason.to_owned()),
                    message: Some(failure.message.clone()),
                    last_transition_time: Some(meta::seconds(now)),
                });
            }
        }
        None => conditions.retain(|condition| condition.type_ != KIND),
    }
    Some(conditions).filter(|conditions| !conditions.is_empty())
}

/// When the next ready pod becomes available, if the spec makes it wait.
pub(super) fn recheck(set: &ReplicaSet, pods: &[Arc<Pod>], now: Timestamp) -> Option<Duration> {
    let min_ready = set.spec.as_ref()?.min_ready_seconds.unwrap_or(0);
    if min_ready == 0 {
        return None;
    }
    active(set, pods)
        .filter(|pod| pod::is_ready(pod) && !pod::is_available(pod, min_ready, now))
        .filter_map(|pod| pod::ready_since(pod))
        .map(|since| {
            let due = since.as_second() + i64::from(min_ready);
            let millis = due.saturating_mul(1000) - now.as_millisecond();
            Duration::from_millis(u64::try_from(millis).unwrap_or(0).max(1))
        })
        .min()
}

#[cfg(test)]
mod tests;
