//! Which changes a pod may go through: images, a deadline, more tolerations, fewer gates.
//!
//! Upstream: `ValidatePodUpdate` of `pkg/apis/core/validation/validation.go`.
//! Deliberately not here: the diff that upstream prints after its refusal; the changed fields are
//! named instead.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Toleration};
use serde_json::Value;

use crate::equality::same;
use crate::field::{FieldErrors, Path};
use crate::names;

const UPDATABLE: &str = "pod updates may not change fields other than \
     `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
     `spec.tolerations` (only additions to existing tolerations),\
     `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(super) fn validate(new: &Pod, old: &Pod) -> FieldErrors {
    let default = PodSpec::default();
    let now = new.spec.as_ref().unwrap_or(&default);
    let before = old.spec.as_ref().unwrap_or(&default);
    let path = Path::new("spec");
    let mut errors = FieldErrors::new();
    let inits = |spec: &PodSpec| spec.init_containers.clone().unwrap_or_default();
    for (field, new, old) in [
        ("containers", now.containers.clone(), before.containers.clone()),
        ("initContainers", inits(now), inits(before)),
    ] {
        if new.len() != old.len() {
            errors
                .push(path.child(field).forbidden("pod updates may not add or remove containers"));
            return errors;
        }
    }
    let deadline = deadline(now, before, &path.child("activeDeadlineSeconds"));
    let stop = !deadline.is_empty() && now.active_deadline_seconds.is_some();
    errors.extend(deadline);
    if stop {
        return errors;
    }
    errors.extend(tolerations(now, before, &path.child("tolerations")));
    errors.extend(scheduling_gates(now, before, &path.child("schedulingGates")));
    let masked = with_changeable_fields_of(now, before);
    if !same(&masked, before) {
        let changed = changed_fields(&masked, before).join(", ");
        errors.push(path.forbidden(format!("{UPDATABLE}\nchanged: {changed}")));
    }
    errors
}

fn deadline(new: &PodSpec, old: &PodSpec, path: &Path) -> FieldErrors {
    match (new.active_deadline_seconds, old.active_deadline_seconds) {
        (Some(now), _) if !names::in_range(now, 0, i32::MAX.into()).is_empty() => {
            path.invalid_for_each(now, names::in_range(now, 0, i32::MAX.into()))
        }
        (Some(now), Some(before)) if before < now => {
            vec![path.invalid(now, "must be less than or equal to previous value")]
        }
        (None, Some(_)) => {
            let detail = "must not update from a positive integer to nil value";
            vec![path.invalid(Value::Null, detail)]
        }
        _ => Vec::new(),
    }
}

fn tolerations(new: &PodSpec, old: &PodSpec, path: &Path) -> FieldErrors {
    let without_seconds = |t: &Toleration| Toleration { toleration_seconds: None, ..t.clone() };
    let kept = |before: &Toleration| {
        let wanted = without_seconds(before);
        new.tolerations.iter().flatten().any(|t| same(&without_seconds(t), &wanted))
    };
    if old.tolerations.iter().flatten().all(kept) {
        return Vec::new();
    }
    vec![path.forbidden("existing toleration can not be modified except its tolerationSeconds")]
}

fn scheduling_gates(new: &PodSpec, old: &PodSpec, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (i, gate) in new.scheduling_gates.iter().flatten().enumerate() {
        if !old.scheduling_gates.iter().flatten().any(|g| g.name == gate.name) {
            errors.push(path.index(i).child("name").forbidden(format!(
                "only deletion is allowed, but found new scheduling gate '{}'",
                gate.name
            )));
        }
    }
    errors
}

/// The new spec with everything that may change put back: what still differs may not.
fn with_changeable_fields_of(new: &PodSpec, old: &PodSpec) -> PodSpec {
    let mut masked = new.clone();
    put_images_back(&mut masked.containers, &old.containers);
    if let (Some(new), Some(old)) = (&mut masked.init_containers, &old.init_containers) {
        put_images_back(new, old);
    }
    masked.active_deadline_seconds = old.active_deadline_seconds;
    masked.scheduling_gates.clone_from(&old.scheduling_gates);
    masked.tolerations.clone_from(&old.tolerations);
    let grace = (masked.termination_grace_period_seconds, old.termination_grace_period_seconds);
    if let (Some(1), Some(i64::MIN..=-1)) = grace {
        masked.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
    masked
}

fn put_images_back(new: &mut [Container], old: &[Container]) {
    for (new, old) in new.iter_mut().zip(old) {
        new.image.clone_from(&old.image);
    }
}

fn changed_fields(new: &PodSpec, old: &PodSpec) -> Vec<String> {
    let json = |spec: &PodSpec| serde_json::to_value(spec).unwrap_or_default();
    let (Value::Object(new), Value::Object(old)) = (json(new), json(old)) else {
        return Vec::new();
    };
    let names: std::collections::BTreeSet<&String> = new.keys().chain(old.keys()).collect();
    let changed = names.into_iter().filter(|name| new.get(*name) != old.get(*name));
    changed.map(|name| format!("spec.{name}")).collect()
}
