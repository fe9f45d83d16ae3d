//! What a Deployment needs now: the whole decision, pure.
//!
//! Inputs: the Deployment, the replica sets of its namespace, the pods (for `Recreate`), the time.
//! Output: writes. Each plan is one step; the writes' own changes bring the next look.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;

use super::revision::{self, REVISION};
use super::{COMPONENT, adopt, progress, scale};
use crate::event::{Occurrence, Severity};
use crate::meta;
use crate::pod;
use crate::write::{Plan, Write};

/// Whether the strategy is `Recreate`.
pub(super) fn is_recreate(deployment: &Deployment) -> bool {
    !scale::is_rolling(deployment)
}

/// What the step before the status decided.
struct Step {
    writes: Vec<Write>,
    /// Whether the rollout's progress is to be judged; not while paused, scaling or going away.
    follow: bool,
}

/// The Deployment's next step.
pub(super) fn plan(
    deployment: &Deployment,
    sets: &[Arc<ReplicaSet>],
    pods: &[Arc<Pod>],
    now: Timestamp,
) -> Plan {
    let Some(spec) = &deployment.spec else { return Plan::default() };
    let owned = adopt::owned(deployment, sets);
    let new = revision::current(deployment, &owned);
    let old: Vec<Arc<ReplicaSet>> = owned
        .iter()
        .filter(|set| new.as_ref().is_none_or(|new| meta::uid(&***set) != meta::uid(&**new)))
        .cloned()
        .collect();

    let before = deployment.status.clone().unwrap_or_default();
    let mut status = before.clone();
    let going = meta::is_deleted(deployment);
    if !going {
        progress::mark_paused(deployment, &mut status, now);
    }
    let paused = spec.paused.unwrap_or(false);
    let step = if going {
        Step { writes: Vec::new(), follow: false }
    } else if paused || scale::is_scaling(deployment, &owned) {
        let mut writes = synced(deployment, new.as_ref(), &old);
        writes.extend(scale::share(deployment, new.as_ref(), &old));
        if paused {
            writes.extend(forget_history(deployment, &old));
        }
        Step { writes, follow: false }
    } else if let Some(new) = &new {
        Step { writes: rollout(deployment, new, &old, pods), follow: true }
    } else {
        return start(deployment, &old, sets, pods, status, now);
    };

    let counted = progress::counted(deployment, &status, new.as_ref(), &owned, now);
    let mut status = counted;
    if step.follow {
        if let Some(new) = &new
            && progress::deadline(deployment).is_some()
            && progress::get(&status, progress::PROGRESSING).is_none()
        {
            let text = format!("Found new replica set {:?}", meta::name(&**new));
            let found =
                progress::condition(progress::PROGRESSING, "True", "FoundNewReplicaSet", text, now);
            progress::set(&mut status, found);
        }
        status = progress::follow(deployment, &before, status, new.as_ref(), &owned, now);
    }
    let recheck = if step.follow { progress::recheck(deployment, &status, now) } else { None };
    let revision = new.as_ref().map(|new| {
        // What the new set carries, or is about to carry.
        revision::revision_of(new).max(revision::next_revision(&old))
    });
    let mut writes = step.writes;
    writes.extend(stored(deployment, revision, &before, status));
    Plan { writes, recheck }
}

/// One step of the rollout, the new replica set being there.
fn rollout(
    deployment: &Deployment,
    new: &Arc<ReplicaSet>,
    old: &[Arc<ReplicaSet>],
    pods: &[Arc<Pod>],
) -> Vec<Write> {
    let notes = synced(deployment, Some(new), old);
    if !notes.is_empty() {
        // Any size goes on top of the set as it is then stored.
        return notes;
    }
    let sizes = if is_recreate(deployment) {
        recreate(deployment, new, old, pods)
    } else {
        scale::roll(deployment, new, old)
    };
    if sizes.is_empty() { forget_history(deployment, old) } else { sizes }
}

/// All old pods have to be gone before the new ones come (upstream: `rolloutRecreate`).
fn recreate(
    deployment: &Deployment,
    new: &Arc<ReplicaSet>,
    old: &[Arc<ReplicaSet>],
    pods: &[Arc<Pod>],
) -> Vec<Write> {
    let shrunk = shut_down(deployment, old);
    if !shrunk.is_empty()
        || old_pods_run(old, pods)
        || scale::size(new) == scale::wanted(deployment)
    {
        return shrunk;
    }
    scale::resize(deployment, new, scale::wanted(deployment))
}

fn shut_down(deployment: &Deployment, old: &[Arc<ReplicaSet>]) -> Vec<Write> {
    let active = old.iter().filter(|set| scale::size(set) > 0);
    active.flat_map(|set| scale::resize(deployment, set, 0)).collect()
}

fn old_pods_run(old: &[Arc<ReplicaSet>], pods: &[Arc<Pod>]) -> bool {
    pods.iter()
        .filter(|pod| !pod::is_terminal(pod))
        .any(|pod| old.iter().any(|set| meta::is_controlled_by(&pod.metadata, &**set)))
}

/// Creates the replica set of a template that has none yet.
fn start(
    deployment: &Deployment,
    old: &[Arc<ReplicaSet>],
    sets: &[Arc<ReplicaSet>],
    pods: &[Arc<Pod>],
    mut status: DeploymentStatus,
    now: Timestamp,
) -> Plan {
    let before = deployment.status.clone().unwrap_or_default();
    if is_recreate(deployment) {
        let mut writes = shut_down(deployment, old);
        if !writes.is_empty() || old_pods_run(old, pods) {
            status = progress::counted(deployment, &status, None, old, now);
            status = progress::follow(deployment, &before, status, None, old, now);
            let recheck = progress::recheck(deployment, &status, now);
            writes.extend(stored(deployment, None, &before, status));
            return Plan { writes, recheck };
        }
    }
    let Some(set) = revision::new_set(deployment, old, scale::total(old)) else {
        return Plan::default();
    };
    let name = meta::name(&set).to_owned();
    if sets.iter().any(|other| meta::name(&**other) == name) {
        // Another template has this hash, or somebody took the name: the next hash differs.
        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
        return Plan::of(stored(deployment, None, &before, status).into_iter().collect());
    }
    let size = scale::size(&set);
    let number = revision::revision_of(&set);
    let mut writes = vec![Write::create(set)];
    if size > 0 {
        writes.push(scale::scaled(deployment, &name, 0, size));
    }
    status = progress::counted(deployment, &status, None, old, now);
    if progress::deadline(deployment).is_some() {
        let text = format!("Created new replica set {name:?}");
        let kind = progress::PROGRESSING;
        let made = progress::condition(kind, "True", "NewReplicaSetCreated", text, now);
        progress::set(&mut status, made);
    }
    writes.extend(stored(deployment, Some(number), &before, status));
    Plan::of(writes)
}

/// The new replica set carries the Deployment's annotations, the highest revision, and
/// `minReadySeconds`.
fn synced(
    deployment: &Deployment,
    new: Option<&Arc<ReplicaSet>>,
    old: &[Arc<ReplicaSet>],
) -> Vec<Write> {
    let Some(new) = new else { return Vec::new() };
    let mut updated = (**new).clone();
    let annotated = revision::annotate(deployment, &mut updated, revision::next_revision(old));
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let mut differs = false;
    if let Some(spec) = &mut updated.spec {
        differs = spec.min_ready_seconds.unwrap_or(0) != wanted;
        spec.min_ready_seconds = Some(wanted);
    }
    if annotated || differs { vec![Write::update(updated)] } else { Vec::new() }
}

/// Removes the oldest empty replica sets beyond `revisionHistoryLimit` (upstream:
/// `cleanupDeployment`).
fn forget_history(deployment: &Deployment, old: &[Arc<ReplicaSet>]) -> Vec<Write> {
    let limit = deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit);
    let Some(limit) = limit.filter(|limit| *limit != i32::MAX) else { return Vec::new() };
    let mut alive: Vec<&Arc<ReplicaSet>> =
        old.iter().filter(|set| !meta::is_deleted(&***set)).collect();
    let surplus = alive.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    alive.sort_by_key(|set| revision::revision_of(set));
    alive
        .into_iter()
        .take(surplus)
        .filter(|set| {
            let status = set.status.as_ref();
            let observed = status.and_then(|status| status.observed_generation).unwrap_or(0);
            scale::size(set) == 0
                && status.is_none_or(|status| status.replicas == 0)
                && set.metadata.generation.unwrap_or(0) <= observed
        })
        .map(|set| Write::delete(&**set))
        .collect()
}

/// The status write, if anything in it is new. The revision annotation rides along: `/status`
/// takes annotations, as upstream's does.
fn stored(
    deployment: &Deployment,
    revision: Option<i64>,
    before: &DeploymentStatus,
    status: DeploymentStatus,
) -> Option<Write> {
    let mut updated = deployment.clone();
    let mut changed = normalized(before) != normalized(&status);
    if let Some(revision) = revision {
        let revision = revision.to_string();
        let held = updated.metadata.annotations.get_or_insert_default();
        if held.get(REVISION) != Some(&revision) {
            held.insert(REVISION.to_owned(), revision);
            changed = true;
        }
    }
    updated.status = Some(status);
    changed.then(|| Write::update_status(updated))
}

/// Absent and zero, absent and empty mean the same.
fn normalized(status: &DeploymentStatus) -> DeploymentStatus {
    let some = |count: Option<i32>| count.filter(|count| *count != 0);
    DeploymentStatus {
        replicas: some(status.replicas),
        updated_replicas: some(status.updated_replicas),
        ready_replicas: some(status.ready_replicas),
        available_replicas: some(status.available_replicas),
        unavailable_replicas: some(status.unavailable_replicas),
        conditions: status.conditions.clone().filter(|conditions| !conditions.is_empty()),
        ..status.clone()
    }
}

/// The replica set could not be created: say so (upstream: `FailedRSCreateReason`).
pub(super) fn creation_failed(
    deployment: &Deployment,
    message: &str,
    now: Timestamp,
) -> Vec<Write> {
    const REASON: &str = "ReplicaSetCreateError";
    let before = deployment.status.clone().unwrap_or_default();
    let collisions = before.collision_count;
    let hash =
        deployment.spec.as_ref().map(|spec| revision::template_hash(&spec.template, collisions));
    let name = format!("{}-{}", meta::name(deployment), hash.unwrap_or_default());
    let text = format!("Failed to create new replica set {name:?}: {message}");
    let mut writes = vec![Write::Event(Occurrence::new(
        COMPONENT,
        deployment,
        Severity::Warning,
        REASON,
        text.clone(),
    ))];
    if progress::deadline(deployment).is_some() {
        let mut status = before.clone();
        let failed = progress::condition(progress::PROGRESSING, "False", REASON, text, now);
        progress::set(&mut status, failed);
        writes.extend(stored(deployment, None, &before, status));
    }
    writes
}

#[cfg(test)]
mod tests;
