//! Which replica sets belong to a Deployment (upstream: `getReplicaSetsForDeployment`).
//!
//! Pure. Inputs: the Deployment and the replica sets of its namespace. Outputs: the owned ones, and
//! the writes that adopt matching orphans and release what no longer matches.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use serde_json::json;

use crate::meta;
use crate::selector;
use crate::write::{PatchKind, Target, Write};

/// Whether the Deployment's selector matches the replica set; an empty one selects nothing here.
pub(super) fn selects(deployment: &Deployment, set: &ReplicaSet) -> bool {
    deployment.spec.as_ref().is_some_and(|spec| {
        let empty =
            spec.selector.match_labels.is_none() && spec.selector.match_expressions.is_none();
        !empty && selector::matches(&spec.selector, set.metadata.labels.as_ref())
    })
}

/// The replica sets that the Deployment owns.
pub(super) fn owned(deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> Vec<Arc<ReplicaSet>> {
    sets.iter()
        .filter(|set| meta::is_controlled_by(&set.metadata, deployment) && selects(deployment, set))
        .cloned()
        .collect()
}

/// Adopts matching orphans, releases own replica sets that no longer match.
pub(super) fn claim(deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> Vec<Write> {
    if meta::is_deleted(deployment) {
        return Vec::new();
    }
    let mut writes = Vec::new();
    for set in sets.iter().filter(|set| !meta::is_deleted(&***set)) {
        let owner = meta::controller_of(&set.metadata);
        let ours = owner.is_some_and(|owner| owner.uid == meta::uid(deployment));
        let matches = selects(deployment, set);
        let references = set.metadata.owner_references.iter().flatten();
        let wanted: Vec<_> = if owner.is_none() && matches {
            references.cloned().chain([meta::controller_reference(deployment)]).collect()
        } else if ours && !matches {
            references.filter(|owner| owner.uid != meta::uid(deployment)).cloned().collect()
        } else {
            continue;
        };
        writes.push(Write::Patch {
            target: Target::of(&**set),
            subresource: None,
            kind: PatchKind::Merge,
            body: json!({ "metadata": {
                "ownerReferences": wanted,
                "resourceVersion": set.metadata.resource_version,
            }}),
        });
    }
    writes
}
