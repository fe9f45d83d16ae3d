//! What the kinds that own pods by a template share: rules of selector and template, columns and
//! the `/scale` view.
//!
//! Upstream: `ValidatePodTemplateSpecForReplicaSet` of `pkg/apis/apps/validation/validation.go`,
//! `layoutContainerCells` of `pkg/printers/internalversion/printers.go`, `scaleFrom*` of
//! `pkg/registry/apps/*/storage`.

use k8s_openapi::api::autoscaling::v1::{Scale, ScaleSpec, ScaleStatus};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use crate::field::{FieldErrors, Path};
use crate::labels::{is_empty, matches, selector_query, validate_selector};
use crate::pod::{validate, warnings};

/// Checks selector and template: the pods of the template must be the selected ones.
///
/// A selector that is missing and one that is empty look the same here; both are called missing.
pub(crate) fn validate_selected_template(
    selector: &LabelSelector,
    template: &PodTemplateSpec,
    path: &Path,
) -> FieldErrors {
    let mut errors = validate_selector(&path.child("selector"), selector);
    if is_empty(selector) {
        errors.push(path.child("selector").required(""));
    }
    let path = path.child("template");
    let labels = template.metadata.as_ref().and_then(|m| m.labels.as_ref());
    let none = crate::labels::Labels::new();
    if is_empty(selector) || !matches(selector, labels.unwrap_or(&none)) {
        let detail = "`selector` does not match template `labels`";
        errors.push(path.child("metadata").child("labels").invalid(labels, detail));
    }
    errors.extend(validate::template(template, &path));
    let Some(spec) = &template.spec else { return errors };
    let path = path.child("spec");
    if let Some(other) = spec.restart_policy.as_deref().filter(|p| *p != "Always") {
        errors.push(path.child("restartPolicy").not_supported(other, &["Always"]));
    }
    if spec.active_deadline_seconds.is_some() {
        let detail = "activeDeadlineSeconds in ReplicaSet is not Supported";
        errors.push(path.child("activeDeadlineSeconds").forbidden(detail));
    }
    errors
}

/// Warnings about the name of an owner of pods and about its template.
pub(crate) fn template_warnings(
    metadata: &ObjectMeta,
    template: Option<&PodTemplateSpec>,
) -> Vec<String> {
    let path = Path::new("spec").child("template").child("spec");
    let spec = template.and_then(|t| t.spec.as_ref());
    let of_spec = spec.map(|s| warnings::of_spec(s, &path)).unwrap_or_default();
    let name = warnings::of_name(metadata.name.as_deref(), "Pod names and hostnames");
    name.into_iter().chain(of_spec).collect()
}

/// Checks counts of a status: none negative, none greater than `replicas`.
pub(crate) fn validate_counts(
    replicas: i32,
    observed_generation: Option<i64>,
    counts: &[(&str, Option<i32>)],
    path: &Path,
) -> FieldErrors {
    let mut errors = FieldErrors::new();
    errors.extend(path.child("replicas").negative(replicas));
    let generation = observed_generation.unwrap_or_default();
    errors.extend(path.child("observedGeneration").negative(generation));
    let count = |name: &str| {
        counts.iter().find(|(field, _)| *field == name).and_then(|(_, n)| *n).unwrap_or_default()
    };
    for (field, number) in counts {
        let number = number.unwrap_or_default();
        errors.extend(path.child(field).negative(number));
        if number > replicas {
            let detail = "cannot be greater than status.replicas";
            errors.push(path.child(field).invalid(number, detail));
        }
    }
    let available = count("availableReplicas");
    if available > count("readyReplicas") {
        let detail = "cannot be greater than readyReplicas";
        errors.push(path.child("availableReplicas").invalid(available, detail));
    }
    errors
}

/// The names and the images of a template's containers, each separated by commas.
pub(crate) fn containers_and_images(template: Option<&PodTemplateSpec>) -> (String, String) {
    let containers = template.and_then(|t| t.spec.as_ref()).map(|s| s.containers.as_slice());
    let containers = containers.unwrap_or_default();
    let names: Vec<&str> = containers.iter().map(|c| c.name.as_str()).collect();
    let images: Vec<&str> =
        containers.iter().map(|c| c.image.as_deref().unwrap_or_default()).collect();
    (names.join(","), images.join(","))
}

/// The `/scale` view of an object.
pub(crate) fn scale(
    metadata: &ObjectMeta,
    desired: Option<i32>,
    current: i32,
    selector: &LabelSelector,
) -> Scale {
    Scale {
        metadata: ObjectMeta {
            name: metadata.name.clone(),
            namespace: metadata.namespace.clone(),
            uid: metadata.uid.clone(),
            resource_version: metadata.resource_version.clone(),
            creation_timestamp: metadata.creation_timestamp.clone(),
            ..ObjectMeta::default()
        },
        spec: Some(ScaleSpec { replicas: desired }),
        status: Some(ScaleStatus { replicas: current, selector: Some(selector_query(selector)) }),
    }
}
