//! Deployments: a rolling sequence of ReplicaSets.
//!
//! Upstream: `pkg/registry/apps/deployment/strategy.go`, `pkg/apis/apps/{v1/defaults.go,validation}`.

mod validate;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus};
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::columns::{self, Cell, Column};
use crate::equality::same;
use crate::field::FieldErrors;
use crate::labels::format_selector;
use crate::omit;
use crate::pod::defaults;
use crate::strategy::Strategy;
use crate::template;

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Ready"),
    Column::integer("Up-to-date"),
    Column::integer("Available"),
    Column::AGE,
    Column::wide("Containers"),
    Column::wide("Images"),
    Column::wide("Selector"),
];

const ROLLING_UPDATE: &str = "RollingUpdate";

/// The behaviour of Deployments.
pub(crate) struct Deployments;

impl Strategy for Deployments {
    type Object = Deployment;

    fn default(&self, deployment: &mut Deployment) {
        let spec = deployment.spec.get_or_insert_default();
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
        spec.progress_deadline_seconds.get_or_insert(600);
        omit::zeros([&mut spec.min_ready_seconds]);
        omit::noes([&mut spec.paused]);
        defaults::template(&mut spec.template);
        let strategy = spec.strategy.get_or_insert_default();
        omit::empty_texts([&mut strategy.type_]);
        if strategy.type_.get_or_insert_with(|| ROLLING_UPDATE.to_owned()) == ROLLING_UPDATE {
            let quarter = || IntOrString::String("25%".to_owned());
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.max_unavailable.get_or_insert_with(quarter);
            rolling.max_surge.get_or_insert_with(quarter);
        }
    }

    fn prepare_create(&self, deployment: &mut Deployment) {
        deployment.status = Some(DeploymentStatus::default());
        deployment.metadata.generation = Some(1);
    }

    fn prepare_update(&self, new: &mut Deployment, old: &Deployment) {
        new.status.clone_from(&old.status);
        // Annotations count, too: controllers copy them to the ReplicaSets.
        let annotated = same(&new.metadata.annotations, &old.metadata.annotations);
        if !annotated || !same(&new.spec, &old.spec) {
            new.metadata.generation = Some(old.metadata.generation.unwrap_or_default() + 1);
        }
    }

    fn prepare_status_update(&self, new: &mut Deployment, old: &Deployment) {
        new.spec.clone_from(&old.spec);
        new.metadata.labels.clone_from(&old.metadata.labels);
    }

    fn validate(&self, deployment: &Deployment) -> FieldErrors {
        validate::deployment(deployment)
    }

    fn validate_update(&self, new: &Deployment, old: &Deployment) -> FieldErrors {
        validate::update(new, old)
    }

    fn validate_status_update(&self, new: &Deployment, old: &Deployment) -> FieldErrors {
        validate::status(new, old)
    }

    fn warnings(&self, deployment: &Deployment) -> Vec<String> {
        let pods = deployment.spec.as_ref().map(|s| &s.template);
        template::template_warnings(&deployment.metadata, pods)
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, deployment: &Deployment, now: Timestamp) -> Vec<Cell> {
        let metadata = &deployment.metadata;
        let (no_spec, no_status) = (DeploymentSpec::default(), DeploymentStatus::default());
        let spec = deployment.spec.as_ref().unwrap_or(&no_spec);
        let status = deployment.status.as_ref().unwrap_or(&no_status);
        let ready = status.ready_replicas.unwrap_or_default();
        let (names, images) = template::containers_and_images(Some(&spec.template));
        vec![
            columns::name(metadata),
            format!("{ready}/{}", spec.replicas.unwrap_or_default()).into(),
            status.updated_replicas.unwrap_or_default().into(),
            status.available_replicas.unwrap_or_default().into(),
            columns::age(metadata, now),
            names.into(),
            images.into(),
            format_selector(&spec.selector).into(),
        ]
    }

    fn scale(&self, deployment: &Deployment) -> Option<Scale> {
        let spec = deployment.spec.as_ref()?;
        let current = deployment.status.as_ref().and_then(|s| s.replicas).unwrap_or_default();
        Some(template::scale(&deployment.metadata, spec.replicas, current, &spec.selector))
    }

    fn set_replicas(&self, deployment: &mut Deployment, replicas: i32) {
        deployment.spec.get_or_insert_default().replicas = Some(replicas);
    }
}

#[cfg(test)]
mod tests;
