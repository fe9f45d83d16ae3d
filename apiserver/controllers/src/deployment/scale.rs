//! How large each replica set of a Deployment is to be (upstream: `deployment/sync.go`,
//! `rolling.go`, `util.go`).
//!
//! Pure. Inputs: the Deployment and its replica sets. Outputs: sizes, and the writes that set them.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::COMPONENT;
use super::revision::{DESIRED_REPLICAS, MAX_REPLICAS};
use crate::event::{Occurrence, Severity};
use crate::meta;
use crate::write::Write;

/// `spec.replicas` of the Deployment.
pub(super) fn wanted(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// `spec.replicas` of a replica set.
pub(super) fn size(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// `status.availableReplicas` of a replica set.
pub(super) fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

/// The sum of the sizes.
pub(super) fn total<'a>(sets: impl IntoIterator<Item = &'a Arc<ReplicaSet>>) -> i32 {
    sets.into_iter().map(|set| size(set)).sum()
}

/// The available pods that a replica set will still have when it has its size. Its status may be
/// older than its size; counting pods that are about to go would take more pods away than may be
/// missing (upstream counts them).
fn lasting(set: &ReplicaSet) -> i32 {
    available(set).min(size(set))
}

/// The sum of the available pods.
pub(super) fn total_available<'a>(sets: impl IntoIterator<Item = &'a Arc<ReplicaSet>>) -> i32 {
    sets.into_iter().map(|set| available(set)).sum()
}

/// Whether the strategy is `RollingUpdate`, which is the default.
pub(super) fn is_rolling(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("Recreate")
}

/// `maxSurge` and `maxUnavailable` in pods. Surge is rounded up, unavailable down; both zero would
/// never move, so one may then be unavailable (upstream: `ResolveFenceposts`).
fn fenceposts(deployment: &Deployment) -> (i32, i32) {
    if !is_rolling(deployment) {
        return (0, 0);
    }
    let wanted = wanted(deployment);
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let share = |value: Option<&IntOrString>, round_up| match value {
        None => part("25%", wanted, round_up),
        Some(IntOrString::Int(count)) => *count,
        Some(IntOrString::String(percent)) => part(percent, wanted, round_up),
    };
    let surge = share(rolling.and_then(|rolling| rolling.max_surge.as_ref()), true);
    let unavailable = share(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), false);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

fn part(percent: &str, of: i32, round_up: bool) -> i32 {
    let percent: i64 = percent.trim_end_matches('%').parse().unwrap_or(0);
    let hundredths = percent.saturating_mul(i64::from(of));
    let whole = if round_up { (hundredths + 99).div_euclid(100) } else { hundredths / 100 };
    i32::try_from(whole).unwrap_or(i32::MAX)
}

/// How many pods there may be beyond the wanted number.
pub(super) fn max_surge(deployment: &Deployment) -> i32 {
    fenceposts(deployment).0
}

/// How many of the wanted pods may be missing; never more than all of them.
pub(super) fn max_unavailable(deployment: &Deployment) -> i32 {
    fenceposts(deployment).1.min(wanted(deployment))
}

/// The size that the new replica set may have now (upstream: `NewRSNewReplicas`). `others` is the
/// total size of the old ones, `present` the new one's size.
pub(super) fn new_set_size(deployment: &Deployment, others: i32, present: i32) -> i32 {
    let wanted = wanted(deployment);
    if !is_rolling(deployment) {
        return wanted;
    }
    let room = wanted + max_surge(deployment) - others - present;
    if room <= 0 { present } else { present + room.min(wanted - present) }
}

/// Notes on a replica set what the Deployment's size was; answers whether that is new.
pub(super) fn annotate_sizes(deployment: &Deployment, set: &mut ReplicaSet) -> bool {
    let wanted = wanted(deployment);
    let held: &mut BTreeMap<String, String> = set.metadata.annotations.get_or_insert_default();
    let mut changed = false;
    for (key, value) in [(DESIRED_REPLICAS, wanted), (MAX_REPLICAS, wanted + max_surge(deployment))]
    {
        let value = value.to_string();
        if held.get(key) != Some(&value) {
            held.insert(key.to_owned(), value);
            changed = true;
        }
    }
    changed
}

/// The writes that give a replica set a size; none if it has it (upstream: `scaleReplicaSet`).
pub(super) fn resize(deployment: &Deployment, set: &ReplicaSet, to: i32) -> Vec<Write> {
    let from = size(set);
    let mut updated = set.clone();
    let annotated = annotate_sizes(deployment, &mut updated);
    if from == to && !annotated {
        return Vec::new();
    }
    if let Some(spec) = &mut updated.spec {
        spec.replicas = Some(to);
    }
    let mut writes = vec![Write::update(updated)];
    if from != to {
        writes.push(scaled(deployment, meta::name(set), from, to));
    }
    writes
}

/// The event that people follow a rollout by.
pub(super) fn scaled(deployment: &Deployment, set: &str, from: i32, to: i32) -> Write {
    let direction = if from < to { "up" } else { "down" };
    Write::Event(Occurrence::new(
        COMPONENT,
        deployment,
        Severity::Normal,
        "ScalingReplicaSet",
        format!("Scaled {direction} replica set {set} from {from} to {to}"),
    ))
}

/// Whether the new replica set serves alone: it is as large as the Deployment and all its pods are
/// available (upstream: `IsSaturated`).
fn is_saturated(deployment: &Deployment, new: Option<&Arc<ReplicaSet>>) -> bool {
    let wanted = wanted(deployment);
    new.is_some_and(|set| {
        annotated(set, DESIRED_REPLICAS) == Some(wanted)
            && size(set) == wanted
            && available(set) == wanted
    })
}

fn annotated(set: &ReplicaSet, key: &str) -> Option<i32> {
    meta::annotation(set, key).and_then(|text| text.parse().ok())
}

/// Whether `replicas` changed since the replica sets were last sized, apart from any rollout
/// (upstream: `isScalingEvent`).
pub(super) fn is_scaling(deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> bool {
    sets.iter()
        .filter(|set| size(set) > 0)
        .filter_map(|set| annotated(set, DESIRED_REPLICAS))
        .any(|desired| desired != wanted(deployment))
}

/// Sizes the replica sets to a changed `replicas` without moving the rollout on: a single active
/// one takes all, several share the change by their sizes (upstream: `scale`).
pub(super) fn share(
    deployment: &Deployment,
    new: Option<&Arc<ReplicaSet>>,
    old: &[Arc<ReplicaSet>],
) -> Vec<Write> {
    let all: Vec<Arc<ReplicaSet>> = old.iter().chain(new).cloned().collect();
    let mut active: Vec<Arc<ReplicaSet>> = all.iter().filter(|s| size(s) > 0).cloned().collect();
    let only = match active.as_slice() {
        [] => new.cloned().or_else(|| old.iter().max_by_key(|set| meta::created(&***set)).cloned()),
        [only] => Some(only.clone()),
        _ => None,
    };
    if let Some(only) = only {
        return resize(deployment, &only, wanted(deployment));
    }
    if is_saturated(deployment, new) {
        let surplus = old.iter().filter(|set| size(set) > 0);
        return surplus.flat_map(|set| resize(deployment, set, 0)).collect();
    }
    if !is_rolling(deployment) {
        return Vec::new();
    }
    let allowed = match wanted(deployment) {
        0 => 0,
        wanted => wanted + max_surge(deployment),
    };
    let to_add = allowed - total(&active);
    // The largest first; of equals, the newer grows and the older shrinks first.
    active.sort_by(|a, b| {
        let age = meta::created(&**a).cmp(&meta::created(&**b));
        let age = if to_add > 0 { age.reverse() } else { age };
        size(b).cmp(&size(a)).then(age).then_with(|| meta::name(&**a).cmp(meta::name(&**b)))
    });
    let mut added = 0;
    let mut sizes = Vec::with_capacity(active.len());
    for set in &active {
        let part = if to_add == 0 { 0 } else { proportion(deployment, set, to_add, added) };
        added += part;
        sizes.push(size(set) + part);
    }
    if let Some(largest) = sizes.first_mut() {
        *largest = (*largest + to_add - added).max(0);
    }
    active.iter().zip(sizes).flat_map(|(set, to)| resize(deployment, set, to)).collect()
}

/// A replica set's part of a change (upstream: `GetReplicaSetProportion`).
fn proportion(deployment: &Deployment, set: &ReplicaSet, to_add: i32, added: i32) -> i32 {
    if size(set) == 0 || to_add == added {
        return 0;
    }
    let left = to_add - added;
    let fraction = fraction(deployment, set);
    if to_add > 0 { fraction.min(left) } else { fraction.max(left) }
}

fn fraction(deployment: &Deployment, set: &ReplicaSet) -> i32 {
    let wanted = wanted(deployment);
    if wanted == 0 {
        return -size(set);
    }
    // Against the size that the Deployment had when this set got its present one.
    let before = annotated(set, MAX_REPLICAS).filter(|max| *max > 0).unwrap_or_else(|| {
        deployment.status.as_ref().and_then(|status| status.replicas).unwrap_or(0)
    });
    if before <= 0 {
        return 0;
    }
    let now = i64::from(wanted + max_surge(deployment));
    let scaled = i64::from(size(set)) * now;
    let before = i64::from(before);
    // Rounded half up, as upstream rounds.
    let rounded = (2 * scaled + before) / (2 * before);
    i32::try_from(rounded).unwrap_or(i32::MAX) - size(set)
}

/// One step of a rolling update, or nothing: first the new replica set grows as far as the surge
/// allows, else the old ones shrink as far as availability allows (upstream: `rolloutRolling`).
pub(super) fn roll(
    deployment: &Deployment,
    new: &Arc<ReplicaSet>,
    old: &[Arc<ReplicaSet>],
) -> Vec<Write> {
    let wanted = wanted(deployment);
    let present = size(new);
    let to = if present > wanted { wanted } else { new_set_size(deployment, total(old), present) };
    if present != to {
        return resize(deployment, new, to);
    }
    shrink(deployment, new, old)
}

/// Shrinks old replica sets: pods that are not available first, they serve nobody; then as many
/// as the available ones exceed the minimum (upstream: `reconcileOldReplicaSets`).
fn shrink(deployment: &Deployment, new: &Arc<ReplicaSet>, old: &[Arc<ReplicaSet>]) -> Vec<Write> {
    let least = wanted(deployment) - max_unavailable(deployment);
    let waiting = size(new) - lasting(new);
    let removable = total(old) + size(new) - least - waiting;
    if removable <= 0 || total(old) == 0 {
        return Vec::new();
    }
    let mut oldest_first: Vec<&Arc<ReplicaSet>> = old.iter().filter(|set| size(set) > 0).collect();
    oldest_first.sort_by_key(|set| (meta::created(&***set), meta::name(&***set).to_owned()));
    let mut sizes: Vec<i32> = oldest_first.iter().map(|set| size(set)).collect();

    let mut cleaned = 0;
    for (set, to) in oldest_first.iter().zip(&mut sizes) {
        let useless = (*to - lasting(set)).clamp(0, removable - cleaned);
        *to -= useless;
        cleaned += useless;
    }
    let lasting_old: i32 = old.iter().map(|set| lasting(set)).sum();
    let mut spare = lasting_old + lasting(new) - least;
    for to in &mut sizes {
        let step = (*to).min(spare.max(0));
        *to -= step;
        spare -= step;
    }
    oldest_first
        .iter()
        .zip(sizes)
        .flat_map(
            |(set, to)| {
                if size(set) == to { Vec::new() } else { resize(deployment, set, to) }
            },
        )
        .collect()
}
