//! When a pod is well formed. The parts of its spec stand in `validate/`.
//!
//! Upstream: `ValidatePodCreate`, `ValidatePodSpec`, `ValidatePodTemplateSpec` of
//! `pkg/apis/core/validation/validation.go`.
//! Input: a pod or a template after defaulting. Output: field errors, in upstream's order.
//! Deliberately not here: fields of Windows pods, cloud disks beyond their number, and the old
//! annotations of seccomp and AppArmor.

mod containers;
mod environment;
mod mounts;
mod network;
mod probes;
mod resources;
mod scheduling;
mod security;
mod volumes;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodSpec, PodTemplateSpec, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::admission::PRIORITY_CLASSES;
use crate::field::{FieldErrors, Path};
use crate::labels::validate_labels;
use crate::metadata::validate_annotations;
use crate::names;

pub(crate) use self::resources::amount;
pub(crate) use self::scheduling::EFFECTS;

const RESTART_POLICIES: &[&str] = &["Always", "OnFailure", "Never"];

/// What a container may refer to, and what its pod decides for it.
pub(super) struct Surroundings<'a> {
    /// The well-formed volumes by name.
    volumes: BTreeMap<&'a str, &'a Volume>,
    /// `spec.terminationGracePeriodSeconds`.
    grace_period: Option<i64>,
    /// `spec.restartPolicy`.
    restart_policy: &'a str,
}

/// All problems of a pod.
pub(super) fn pod(pod: &Pod) -> FieldErrors {
    let path = Path::new("spec");
    let default = PodSpec::default();
    let pod_spec = pod.spec.as_ref().unwrap_or(&default);
    let mut errors = spec(pod_spec, &path, true);
    for (field, list) in [
        ("containers", Some(&pod_spec.containers)),
        ("initContainers", pod_spec.init_containers.as_ref()),
    ] {
        for (i, container) in list.into_iter().flatten().enumerate() {
            let image = container.image.as_deref().unwrap_or_default();
            if image.trim() != image {
                let detail = "must not have leading or trailing whitespace";
                errors.push(path.child(field).index(i).child("image").invalid(image, detail));
            }
        }
    }
    if pod_spec.ephemeral_containers.as_ref().is_some_and(|list| !list.is_empty()) {
        errors.push(path.child("ephemeralContainers").forbidden("cannot be set on create"));
    }
    let gated = pod_spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty());
    if gated && pod_spec.node_name.as_deref().is_some_and(|n| !n.is_empty()) {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.push(path.child("nodeName").forbidden(detail));
    }
    errors
}

/// All problems of a pod template.
pub(crate) fn template(template: &PodTemplateSpec, path: &Path) -> FieldErrors {
    let no_metadata = ObjectMeta::default();
    let metadata = template.metadata.as_ref().unwrap_or(&no_metadata);
    let default = PodSpec::default();
    let pod_spec = template.spec.as_ref().unwrap_or(&default);
    let mut errors = validate_labels(&path.child("labels"), metadata.labels.as_ref());
    errors.extend(validate_annotations(&path.child("annotations"), metadata.annotations.as_ref()));
    errors.extend(spec(pod_spec, &path.child("spec"), false));
    if pod_spec.ephemeral_containers.as_ref().is_some_and(|list| !list.is_empty()) {
        let path = path.child("spec").child("ephemeralContainers");
        errors.push(path.forbidden("ephemeral containers not allowed in pod template"));
    }
    errors
}

fn spec(spec: &PodSpec, path: &Path, is_pod: bool) -> FieldErrors {
    let (volumes, mut errors) = volumes::validate(spec, &path.child("volumes"));
    if spec.termination_grace_period_seconds.is_none() {
        errors.insert(0, path.child("terminationGracePeriodSeconds").required(""));
    }
    let surroundings = Surroundings {
        volumes,
        grace_period: spec.termination_grace_period_seconds,
        restart_policy: spec.restart_policy.as_deref().unwrap_or_default(),
    };
    errors.extend(containers::validate(spec, &surroundings, path));
    errors.extend(network::validate_host_ports(spec, path, is_pod));
    let policy = path.child("restartPolicy");
    match surroundings.restart_policy {
        "" => errors.push(policy.required("")),
        known if RESTART_POLICIES.contains(&known) => {}
        other => errors.push(policy.not_supported(other, RESTART_POLICIES)),
    }
    errors.extend(network::validate_dns_policy(spec, path));
    errors.extend(validate_labels(&path.child("nodeSelector"), spec.node_selector.as_ref()));
    errors.extend(security::validate_pod(spec, path));
    errors.extend(scheduling::validate_affinity(spec, &path.child("affinity")));
    errors.extend(network::validate_dns_config(spec, &path.child("dnsConfig")));
    errors.extend(scheduling::validate_gates(spec, path));
    errors.extend(scheduling::validate_spread(spec, &path.child("topologySpreadConstraints")));
    errors.extend(names_of_others(spec, path));
    errors.extend(deadline(spec, &path.child("activeDeadlineSeconds")));
    errors.extend(network::validate_names(spec, path));
    errors.extend(scheduling::validate_tolerations(spec, &path.child("tolerations")));
    errors.extend(network::validate_host_aliases(spec, &path.child("hostAliases")));
    errors.extend(priority(spec, path));
    errors
}

/// Names of a service account, a node and a runtime class.
fn names_of_others(spec: &PodSpec, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (field, name) in [
        ("serviceAccountName", &spec.service_account_name),
        ("nodeName", &spec.node_name),
        ("runtimeClassName", &spec.runtime_class_name),
    ] {
        if let Some(name) = name.as_deref().filter(|n| !n.is_empty()) {
            errors.extend(path.child(field).invalid_for_each(name, names::dns_subdomain(name)));
        }
    }
    errors
}

fn deadline(spec: &PodSpec, path: &Path) -> FieldErrors {
    let Some(seconds) = spec.active_deadline_seconds else { return Vec::new() };
    path.invalid_for_each(seconds, names::in_range(seconds, 1, i32::MAX.into()))
}

fn priority(spec: &PodSpec, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let class = spec.priority_class_name.as_deref().unwrap_or_default();
    if !class.is_empty() {
        let path = path.child("priorityClassName");
        let malformed = path.invalid_for_each(class, names::dns_subdomain(class));
        if malformed.is_empty() && !PRIORITY_CLASSES.iter().any(|(name, _)| *name == class) {
            errors.push(path.not_found(class));
        }
        errors.extend(malformed);
    }
    let policy = path.child("preemptionPolicy");
    let policies = ["PreemptLowerPriority", "Never"];
    if let Some(other) = spec.preemption_policy.as_deref().filter(|p| !policies.contains(p)) {
        errors.push(policy.not_supported(other, &policies));
    }
    errors
}

/// A path without `..`, which could lead out of the volume.
fn no_backsteps(path: &Path, value: &str) -> FieldErrors {
    if value.split('/').any(|step| step == "..") {
        return vec![path.invalid(value, "must not contain '..'")];
    }
    Vec::new()
}

/// A path that stays below the place it starts from.
fn descending_path(path: &Path, value: &str) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if value.starts_with('/') {
        errors.push(path.invalid(value, "must be a relative path"));
    }
    errors.extend(no_backsteps(path, value));
    errors
}

/// [`descending_path`] that does not look like the hidden directories of atomic writes.
fn unreserved_path(path: &Path, value: &str) -> FieldErrors {
    let mut errors = descending_path(path, value);
    if value.starts_with("..") && value != ".." && !value.starts_with("../") {
        errors.push(path.invalid(value, "must not start with '..'"));
    }
    errors
}

#[cfg(test)]
mod tests;
