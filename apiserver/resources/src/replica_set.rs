//! ReplicaSets: a number of pods of one template.
//!
//! Upstream: `pkg/registry/apps/replicaset/strategy.go`, `pkg/apis/apps/validation`.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec, ReplicaSetStatus};
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::core::v1::PodTemplateSpec;

use crate::columns::{self, Cell, Column};
use crate::equality::same;
use crate::field::{FieldErrors, Path};
use crate::labels::format_selector;
use crate::omit;
use crate::pod::defaults;
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
        let spec = set.spec.get_or_insert_default();
        spec.replicas.get_or_insert(1);
        omit::zeros([&mut spec.min_ready_seconds]);
        defaults::template(spec.template.get_or_insert_default());
    }

    fn prepare_create(&self, set: &mut ReplicaSet) {
        set.status = Some(ReplicaSetStatus::default());
        set.metadata.generation = Some(1);
    }

    fn prepare_update(&self, new: &mut ReplicaSet, old: &ReplicaSet) {
        new.status.clone_from(&old.status);
        if !same(&new.spec, &old.spec) {
            new.metadata.generation = Some(old.metadata.generation.unwrap_or_default() + 1);
        }
    }

    fn prepare_status_update(&self, new: &mut ReplicaSet, old: &ReplicaSet) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(&self, set: &ReplicaSet) -> FieldErrors {
        let path = Path::new("spec");
        let no_spec = ReplicaSetSpec::default();
        let spec = set.spec.as_ref().unwrap_or(&no_spec);
        let mut errors = FieldErrors::new();
        errors.extend(path.child("replicas").negative(spec.replicas.unwrap_or_default()));
        let seconds = spec.min_ready_seconds.unwrap_or_default();
        errors.extend(path.child("minReadySeconds").negative(seconds));
        let no_pods = PodTemplateSpec::default();
        let pods = spec.template.as_ref().unwrap_or(&no_pods);
        errors.extend(template::validate_selected_template(&spec.selector, pods, &path));
        errors
    }

    fn validate_update(&self, new: &ReplicaSet, old: &ReplicaSet) -> FieldErrors {
        let path = Path::new("spec").child("selector");
        let selectors = (new.spec.as_ref(), old.spec.as_ref());
        let (Some(new), Some(old)) = selectors else { return Vec::new() };
        path.immutable(&new.selector, &old.selector).into_iter().collect()
    }

    fn validate_status_update(&self, new: &ReplicaSet, _old: &ReplicaSet) -> FieldErrors {
        let Some(status) = &new.status else { return Vec::new() };
        let counts = [
            ("fullyLabeledReplicas", status.fully_labeled_replicas),
            ("readyReplicas", status.ready_replicas),
            ("availableReplicas", status.available_replicas),
        ];
        let path = Path::new("status");
        template::validate_counts(status.replicas, status.observed_generation, &counts, &path)
    }

    fn warnings(&self, set: &ReplicaSet) -> Vec<String> {
        let pods = set.spec.as_ref().and_then(|s| s.template.as_ref());
        template::template_warnings(&set.metadata, pods)
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
        let (no_spec, no_status) = (ReplicaSetSpec::default(), ReplicaSetStatus::default());
        let spec = set.spec.as_ref().unwrap_or(&no_spec);
        let status = set.status.as_ref().unwrap_or(&no_status);
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

#[cfg(test)]
mod tests;
