//! When a Deployment is well formed (upstream: `ValidateDeploymentSpec`,
//! `ValidateDeploymentStatus` of `pkg/apis/apps/validation/validation.go`).

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Serialize;

use super::ROLLING_UPDATE;
use crate::field::{FieldErrors, Path};
use crate::names;
use crate::template::{validate_counts, validate_selected_template};

const RECREATE: &str = "Recreate";

/// A strategy as upstream shows one that it does not know.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown<'a> {
    r#type: &'a str,
    rolling_update: Option<()>,
}

pub(super) fn deployment(deployment: &Deployment) -> FieldErrors {
    let path = Path::new("spec");
    let default = DeploymentSpec::default();
    let spec = deployment.spec.as_ref().unwrap_or(&default);
    let mut errors = FieldErrors::new();
    errors.extend(path.child("replicas").negative(spec.replicas.unwrap_or_default()));
    errors.extend(validate_selected_template(&spec.selector, &spec.template, &path));
    errors.extend(spec.strategy.iter().flat_map(|s| strategy(s, &path.child("strategy"))));
    let ready = spec.min_ready_seconds.unwrap_or_default();
    errors.extend(path.child("minReadySeconds").negative(ready));
    let limit = spec.revision_history_limit.unwrap_or_default();
    errors.extend(path.child("revisionHistoryLimit").negative(limit));
    if let Some(deadline) = spec.progress_deadline_seconds {
        let path = path.child("progressDeadlineSeconds");
        errors.extend(path.negative(deadline));
        if deadline <= ready {
            errors.push(path.invalid(deadline, "must be greater than minReadySeconds"));
        }
    }
    errors
}

pub(super) fn update(new: &Deployment, old: &Deployment) -> FieldErrors {
    let (Some(new), Some(old)) = (&new.spec, &old.spec) else { return Vec::new() };
    let path = Path::new("spec").child("selector");
    path.immutable(&new.selector, &old.selector).into_iter().collect()
}

pub(super) fn status(new: &Deployment, old: &Deployment) -> FieldErrors {
    let path = Path::new("status");
    let Some(status) = &new.status else { return Vec::new() };
    let replicas = status.replicas.unwrap_or_default();
    let counts = [
        ("updatedReplicas", status.updated_replicas),
        ("readyReplicas", status.ready_replicas),
        ("availableReplicas", status.available_replicas),
    ];
    let mut errors = validate_counts(replicas, status.observed_generation, &counts, &path);
    let unavailable = status.unavailable_replicas.unwrap_or_default();
    errors.extend(path.child("unavailableReplicas").negative(unavailable));
    let collisions = status.collision_count.unwrap_or_default();
    let before = old.status.as_ref().and_then(|s| s.collision_count).unwrap_or_default();
    errors.extend(path.child("collisionCount").negative(collisions));
    if collisions < before {
        errors.push(path.child("collisionCount").invalid(collisions, "cannot be decremented"));
    }
    errors
}

fn strategy(strategy: &DeploymentStrategy, path: &Path) -> FieldErrors {
    let kind = strategy.type_.as_deref().unwrap_or_default();
    match (kind, &strategy.rolling_update) {
        (RECREATE, Some(_)) => {
            let detail = "may not be specified when strategy `type` is 'Recreate'";
            vec![path.child("rollingUpdate").forbidden(detail)]
        }
        (RECREATE, None) => Vec::new(),
        (ROLLING_UPDATE, None) => {
            let detail = "this should be defaulted and never be nil";
            vec![path.child("rollingUpdate").required(detail)]
        }
        (ROLLING_UPDATE, Some(rolling)) => {
            let none = IntOrString::Int(0);
            let unavailable = rolling.max_unavailable.as_ref().unwrap_or(&none);
            let surge = rolling.max_surge.as_ref().unwrap_or(&none);
            rolling_update(unavailable, surge, &path.child("rollingUpdate"))
        }
        (kind, _) => {
            let shown = Shown { r#type: kind, rolling_update: None };
            vec![path.not_supported(shown, &[RECREATE, ROLLING_UPDATE])]
        }
    }
}

fn rolling_update(unavailable: &IntOrString, surge: &IntOrString, path: &Path) -> FieldErrors {
    let path_of_unavailable = path.child("maxUnavailable");
    let mut errors = count_or_percent(unavailable, &path_of_unavailable);
    errors.extend(count_or_percent(surge, &path.child("maxSurge")));
    if amount(unavailable) == 0 && amount(surge) == 0 {
        let detail = "may not be 0 when `maxSurge` is 0";
        errors.push(path_of_unavailable.invalid(unavailable, detail));
    }
    if matches!(unavailable, IntOrString::String(_)) && amount(unavailable) > 100 {
        errors.push(path_of_unavailable.invalid(unavailable, "must not be greater than 100%"));
    }
    errors
}

fn count_or_percent(value: &IntOrString, path: &Path) -> FieldErrors {
    match value {
        IntOrString::Int(number) => path.negative(*number).into_iter().collect(),
        IntOrString::String(text) => path.invalid_for_each(text, names::percent(text)),
    }
}

/// The number, or the number before the percent sign.
fn amount(value: &IntOrString) -> i64 {
    match value {
        IntOrString::Int(number) => i64::from(*number),
        IntOrString::String(text) => {
            text.strip_suffix('%').and_then(|digits| digits.parse().ok()).unwrap_or_default()
        }
    }
}
