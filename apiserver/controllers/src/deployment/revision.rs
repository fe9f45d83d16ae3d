//! Templates, hashes and revisions: how a Deployment knows its replica sets (upstream:
//! `deployment/util`, `getNewReplicaSet`, `ComputeHash`).
//!
//! Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::scale;
use crate::meta;

/// The label that tells the pods of a Deployment's templates apart.
pub(super) const HASH_LABEL: &str = "pod-template-hash";
/// The number of a template in the Deployment's history.
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
/// The numbers that a template had before it was rolled back to.
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// The Deployment's `replicas` when the replica set was last scaled.
pub(super) const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
/// The same plus `maxSurge`.
pub(super) const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";

/// Annotations of the Deployment that its replica sets do not get.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];

/// The replica set that has the Deployment's template: the oldest, if there are several.
pub(super) fn current(
    deployment: &Deployment,
    owned: &[Arc<ReplicaSet>],
) -> Option<Arc<ReplicaSet>> {
    let template = without_hash(&deployment.spec.as_ref()?.template);
    owned
        .iter()
        .filter(|set| set_template(set).is_some_and(|other| without_hash(other) == template))
        .min_by_key(|set| (meta::created(&***set), meta::name(&***set).to_owned()))
        .cloned()
}

fn set_template(set: &ReplicaSet) -> Option<&PodTemplateSpec> {
    set.spec.as_ref()?.template.as_ref()
}

/// The template as the user wrote it; absent and empty maps are the same.
fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    let metadata = template.metadata.get_or_insert_default();
    if let Some(labels) = &mut metadata.labels {
        labels.remove(HASH_LABEL);
    }
    metadata.labels = metadata.labels.take().filter(|labels| !labels.is_empty());
    metadata.annotations = metadata.annotations.take().filter(|held| !held.is_empty());
    metadata.creation_timestamp = None;
    template
}

/// The hash of a template: FNV-1a over its JSON, and over `collisions` when that hash was taken,
/// in the letters that Kubernetes uses (no vowels, so no words).
pub(super) fn template_hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let json = serde_json::to_vec(&without_hash(template))
        .expect("k8s-openapi's types serialise into memory without fail");
    let mut hash = fnv1a(0x811c_9dc5, &json);
    if let Some(collisions) = collisions {
        hash = fnv1a(hash, &collisions.to_le_bytes());
    }
    safe_encode(&hash.to_string())
}

fn fnv1a(seed: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(seed, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// Upstream's `rand.SafeEncodeString`.
fn safe_encode(text: &str) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    text.bytes().map(|byte| char::from(LETTERS[usize::from(byte) % LETTERS.len()])).collect()
}

/// The revision number that a replica set carries.
pub(super) fn revision_of(set: &ReplicaSet) -> i64 {
    meta::annotation(set, REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The number that the Deployment's present template gets.
pub(super) fn next_revision(old: &[Arc<ReplicaSet>]) -> i64 {
    old.iter().map(|set| revision_of(set)).max().unwrap_or(0) + 1
}

/// The replica set for the Deployment's template, not yet stored (upstream: `getNewReplicaSet`).
pub(super) fn new_set(
    deployment: &Deployment,
    old: &[Arc<ReplicaSet>],
    replicas_of_old: i32,
) -> Option<ReplicaSet> {
    let spec = deployment.spec.as_ref()?;
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let hash = template_hash(&spec.template, collisions);
    let mut template = spec.template.clone();
    let labels = &mut template.metadata.get_or_insert_default().labels;
    labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut selector: LabelSelector = spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash.clone());

    let mut set = ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", meta::name(deployment))),
            namespace: deployment.metadata.namespace.clone(),
            labels,
            owner_references: Some(vec![meta::controller_reference(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(scale::new_set_size(deployment, replicas_of_old, 0)),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    };
    annotate(deployment, &mut set, next_revision(old));
    scale::annotate_sizes(deployment, &mut set);
    Some(set)
}

/// Copies the Deployment's annotations and raises the revision (upstream:
/// `SetNewReplicaSetAnnotations`); answers whether anything changed.
pub(super) fn annotate(deployment: &Deployment, set: &mut ReplicaSet, revision: i64) -> bool {
    let old_revision = meta::annotation(set, REVISION).map(str::to_owned);
    let held: &mut BTreeMap<String, String> = set.metadata.annotations.get_or_insert_default();
    let mut changed = false;
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_COPIED.contains(&key.as_str()) && held.get(key) != Some(value) {
            held.insert(key.clone(), value.clone());
            changed = true;
        }
    }
    let old_number = old_revision.as_ref().map(|text| text.parse::<i64>().unwrap_or(0));
    if old_number.unwrap_or(0) < revision {
        held.insert(REVISION.to_owned(), revision.to_string());
        changed = true;
        // A set that had a number is being rolled back to: the old number goes into its history.
        if let Some(old) = old_revision {
            let history = held.get(REVISION_HISTORY).filter(|history| !history.is_empty());
            let history = history.map_or_else(|| old.clone(), |history| format!("{history},{old}"));
            held.insert(REVISION_HISTORY.to_owned(), history);
        }
    }
    changed
}

#[cfg(test)]
mod tests;
