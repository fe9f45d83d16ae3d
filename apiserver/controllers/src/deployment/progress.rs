//! A Deployment's status and conditions (upstream: `calculateStatus`, `progress.go`).
//!
//! Pure. Inputs: the Deployment, its replica sets, the time. Outputs: the status as it should be,
//! and when to look again for a rollout that got stuck.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet, ReplicaSetCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::scale;
use crate::meta;

pub(super) const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const REPLICA_FAILURE: &str = "ReplicaFailure";
const COMPLETE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";
const RESUMED: &str = "DeploymentResumed";

/// A condition that starts now.
pub(super) fn condition(
    kind: &str,
    status: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) -> DeploymentCondition {
    DeploymentCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(meta::seconds(now)),
        last_transition_time: Some(meta::seconds(now)),
    }
}

/// A condition of the status.
pub(super) fn get<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

/// Puts a condition in, unless one with its status and reason is there (upstream:
/// `SetDeploymentCondition`).
pub(super) fn set(status: &mut DeploymentStatus, mut condition: DeploymentCondition) {
    if let Some(present) = get(status, &condition.type_) {
        if present.status == condition.status && present.reason == condition.reason {
            return;
        }
        if present.status == condition.status {
            condition.last_transition_time.clone_from(&present.last_transition_time);
        }
    }
    remove(status, &condition.type_.clone());
    status.conditions.get_or_insert_default().push(condition);
}

fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_ != kind);
    }
}

/// The seconds after which a rollout counts as stuck; `None` when nobody asked.
pub(super) fn deadline(deployment: &Deployment) -> Option<i32> {
    let seconds = deployment.spec.as_ref().and_then(|spec| spec.progress_deadline_seconds);
    seconds.filter(|seconds| *seconds != i32::MAX)
}

/// Marks a pause or its end, so that the time of the pause does not count as being stuck
/// (upstream: `checkPausedConditions`).
pub(super) fn mark_paused(deployment: &Deployment, status: &mut DeploymentStatus, now: Timestamp) {
    if deadline(deployment).is_none() {
        return;
    }
    let reason = get(status, PROGRESSING).and_then(|condition| condition.reason.as_deref());
    if reason == Some(TIMED_OUT) {
        return;
    }
    let paused = deployment.spec.as_ref().and_then(|spec| spec.paused).unwrap_or(false);
    let marked = reason == Some(PAUSED);
    if paused && !marked {
        let text = "Deployment is paused".to_owned();
        set(status, condition(PROGRESSING, "Unknown", PAUSED, text, now));
    } else if !paused && marked {
        let text = "Deployment is resumed".to_owned();
        set(status, condition(PROGRESSING, "Unknown", RESUMED, text, now));
    }
}

/// Counts and availability (upstream: `calculateStatus`). Conditions are kept.
pub(super) fn counted(
    deployment: &Deployment,
    status: &DeploymentStatus,
    new: Option<&Arc<ReplicaSet>>,
    all: &[Arc<ReplicaSet>],
    now: Timestamp,
) -> DeploymentStatus {
    let field = |set: &ReplicaSet,
                 read: fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> i32| {
        set.status.as_ref().map_or(0, read)
    };
    let available = scale::total_available(all);
    let some = |count: i32| (count != 0).then_some(count);
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(all.iter().map(|set| field(set, |s| s.replicas)).sum()),
        updated_replicas: some(new.map_or(0, |set| field(set, |s| s.replicas))),
        ready_replicas: some(all.iter().map(|s| field(s, |s| s.ready_replicas.unwrap_or(0))).sum()),
        available_replicas: some(available),
        unavailable_replicas: some((scale::total(all) - available).max(0)),
        collision_count: status.collision_count,
        conditions: status.conditions.clone(),
        terminating_replicas: status.terminating_replicas,
    };
    let least = scale::wanted(deployment) - scale::max_unavailable(deployment);
    let availability = if available >= least {
        let text = "Deployment has minimum availability.".to_owned();
        condition(AVAILABLE, "True", "MinimumReplicasAvailable", text, now)
    } else {
        let text = "Deployment does not have minimum availability.".to_owned();
        condition(AVAILABLE, "False", "MinimumReplicasUnavailable", text, now)
    };
    set(&mut status, availability);
    status
}

/// Whether all pods are of the new template, available, and no others are left (upstream:
/// `DeploymentComplete`).
fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = Some(scale::wanted(deployment)).filter(|wanted| *wanted != 0);
    status.updated_replicas == wanted
        && status.replicas == wanted
        && status.available_replicas == wanted
        && status.observed_generation >= deployment.metadata.generation
}

/// Whether any count moved the right way since the stored status (upstream:
/// `DeploymentProgressing`).
fn has_progressed(before: &DeploymentStatus, now: &DeploymentStatus) -> bool {
    let old = |status: &DeploymentStatus| {
        status.replicas.unwrap_or(0) - status.updated_replicas.unwrap_or(0)
    };
    now.updated_replicas > before.updated_replicas
        || old(now) < old(before)
        || now.ready_replicas > before.ready_replicas
        || now.available_replicas > before.available_replicas
}

/// Whether the rollout stands still for longer than its deadline (upstream: `DeploymentTimedOut`).
fn is_timed_out(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> bool {
    let (Some(seconds), Some(condition)) = (deadline(deployment), get(status, PROGRESSING)) else {
        return false;
    };
    match condition.reason.as_deref() {
        Some(COMPLETE) => false,
        Some(TIMED_OUT) => true,
        _ => condition
            .last_update_time
            .as_ref()
            .is_some_and(|Time(since)| now.as_second() > since.as_second() + i64::from(seconds)),
    }
}

/// Brings the `Progressing` and `ReplicaFailure` conditions up to date (upstream:
/// `syncRolloutStatus`). `before` is the stored status, `status` the counted one.
pub(super) fn follow(
    deployment: &Deployment,
    before: &DeploymentStatus,
    mut status: DeploymentStatus,
    new: Option<&Arc<ReplicaSet>>,
    all: &[Arc<ReplicaSet>],
    now: Timestamp,
) -> DeploymentStatus {
    let present = get(&status, PROGRESSING).cloned();
    let settled = status.replicas == status.updated_replicas
        && present.as_ref().is_some_and(|c| c.reason.as_deref() == Some(COMPLETE));
    if deadline(deployment).is_none() {
        remove(&mut status, PROGRESSING);
    } else if !settled {
        let subject = match new {
            Some(set) => format!("ReplicaSet {:?}", meta::name(&**set)),
            None => format!("Deployment {:?}", meta::name(deployment)),
        };
        if is_complete(deployment, &status) {
            let text = format!("{subject} has successfully progressed.");
            set(&mut status, condition(PROGRESSING, "True", COMPLETE, text, now));
        } else if has_progressed(before, &status) {
            let text = format!("{subject} is progressing.");
            let mut fresh = condition(PROGRESSING, "True", "ReplicaSetUpdated", text, now);
            if let Some(present) = present.filter(|present| present.status == "True") {
                fresh.last_transition_time = present.last_transition_time;
            }
            // Replaced even when it says the same: its update time is the sign of progress.
            remove(&mut status, PROGRESSING);
            set(&mut status, fresh);
        } else if is_timed_out(deployment, &status, now) {
            let text = format!("{subject} has timed out progressing.");
            set(&mut status, condition(PROGRESSING, "False", TIMED_OUT, text, now));
        }
    }
    match replica_failure(new, all) {
        Some(failure) => set(&mut status, failure),
        None => remove(&mut status, REPLICA_FAILURE),
    }
    status
}

/// The failure of a replica set, the new one's first.
fn replica_failure(
    new: Option<&Arc<ReplicaSet>>,
    all: &[Arc<ReplicaSet>],
) -> Option<DeploymentCondition> {
    let failure = |set: &Arc<ReplicaSet>| -> Option<ReplicaSetCondition> {
        let conditions = set.status.as_ref()?.conditions.as_ref()?;
        conditions.iter().find(|condition| condition.type_ == REPLICA_FAILURE).cloned()
    };
    let found = new.into_iter().chain(all).find_map(failure)?;
    Some(DeploymentCondition {
        type_: found.type_,
        status: found.status,
        reason: found.reason,
        message: found.message,
        last_update_time: found.last_transition_time.clone(),
        last_transition_time: found.last_transition_time,
    })
}

/// When a rollout that does not move has to be looked at again (upstream:
/// `requeueStuckDeployment`).
pub(super) fn recheck(
    deployment: &Deployment,
    status: &DeploymentStatus,
    now: Timestamp,
) -> Option<Duration> {
    let seconds = deadline(deployment)?;
    let condition = get(status, PROGRESSING)?;
    if is_complete(deployment, status)
        || matches!(condition.reason.as_deref(), Some(COMPLETE | TIMED_OUT | PAUSED))
    {
        return None;
    }
    let Time(since) = condition.last_update_time.as_ref()?;
    let left = since.as_second() + i64::from(seconds) - now.as_second();
    // One second more, so that the deadline is surely over by then.
    Some(Duration::from_secs(u64::try_from(left).unwrap_or(0) + 1))
}
