//! ReplicaSets: a number of pods of one template.
//!
//! Upstream: `pkg/registry/apps/replicaset/strategy.go`, `pkg/apis/apps/validation`.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::autoscaling::v1::Scale;

use crate::columns::{self, Cell, Column};
use crate::labels::format_selector;
use crate::strategy::Strategy;
use crate::template;

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::integer("Desired"),
    Column::integer("Current"),
    Column::integer("Ready"),
    Column::AGE,
    Column::wide("Containers"),
    Column::wide("Images"),
    Column::wide("Selector"),
];

/// The behaviour of ReplicaSets.
pub(crate) struct ReplicaSets;

impl Strategy for ReplicaSets {
    type Object = ReplicaSet;

    fn default(&self, set: &mut ReplicaSet) {
        set.spec.get_or_insert_default().replicas.get_or_insert(1);
    }

    fn prepare_create(&self, set: &mut ReplicaSet) {
        set.status = Some(ReplicaSetStatus::default());
        set.metadata.generation = Some(1);
    }

    fn prepare_update(&self, new: &mut ReplicaSet, old: &ReplicaSet) {
        new.status.clone_from(&old.status);
        if new.spec != old.spec {
            new.metadata.generation = Some(old.metadata.generation.unwrap_or_default() + 1);
        }
    }

    fn prepare_status_update(&self, new: &mut ReplicaSet, old: &ReplicaSet) {
        new.spec.clone_from(&old.spec);
    }

    fn fields(&self, set: &ReplicaSet) -> Vec<(&'static str, String)> {
        let replicas = set.status.as_ref().map_or(0, |s| s.replicas);
        vec![("status.replicas", replicas.to_string())]
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, set: &ReplicaSet, now: Timestamp) -> Vec<Cell> {
        let metadata = &set.metadata;
        let spec = set.spec.clone().unwrap_or_default();
        let status = set.status.clone().unwrap_or_default();
        let (names, images) = template::containers_and_images(spec.template.as_ref());
        vec![
            columns::name(metadata),
            spec.replicas.unwrap_or_default().into(),
            status.replicas.into(),
            status.ready_replicas.unwrap_or_default().into(),
            columns::age(metadata, now),
            names.into(),
            images.into(),
            format_selector(&spec.selector).into(),
        ]
    }

    fn scale(&self, set: &ReplicaSet) -> Option<Scale> {
        let spec = set.spec.as_ref()?;
        let current = set.status.as_ref().map_or(0, |s| s.replicas);
        Some(template::scale(&set.metadata, spec.replicas, current, &spec.selector))
    }

    fn set_replicas(&self, set: &mut ReplicaSet, replicas: i32) {
        set.spec.get_or_insert_default().replicas = Some(replicas);
    }
}
