//! When an event is well formed.
//!
//! Upstream: `pkg/apis/core/validation/events.go`. Events with an `eventTime` come from new clients
//! and are looked at more closely.
//! Deliberately not here: what upstream demands only of new events sent through events.k8s.io/v1
//! (no old timestamps, a known type); old and new clients share one storage.

use k8s_openapi::api::core::v1::Event;

use crate::field::{FieldErrors, Path};
use crate::names;

/// The longest name of an instance, an action or a reason.
const SHORT: usize = 128;
/// The longest message of a new event.
const MESSAGE: usize = 1024;

pub(super) fn any(event: &Event) -> FieldErrors {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let namespace = text(&event.metadata.namespace);
    let of_object = text(&event.involved_object.namespace);
    let mismatch = || {
        let path = Path::new("involvedObject").child("namespace");
        path.invalid(&of_object, "does not match event.namespace")
    };
    let mut errors = FieldErrors::new();
    if event.event_time.is_none() {
        // Events of objects without a namespace stand in `default`.
        let expected = if of_object.is_empty() { "default" } else { of_object.as_str() };
        if namespace != expected && !(of_object.is_empty() && namespace.is_empty()) {
            errors.push(mismatch());
        }
        return errors;
    }
    if of_object.is_empty() && !["default", "kube-system"].contains(&namespace.as_str()) {
        errors.push(mismatch());
    }
    let controller = text(&event.reporting_component);
    let path = Path::new("reportingController");
    if controller.is_empty() {
        errors.push(path.required(""));
    }
    errors.extend(path.invalid_for_each(&controller, names::qualified_name(&controller)));
    for (field, value) in [
        ("reportingInstance", text(&event.reporting_instance)),
        ("action", text(&event.action)),
        ("reason", text(&event.reason)),
    ] {
        let path = Path::new(field);
        if value.is_empty() {
            errors.push(path.required(""));
        } else if value.len() > SHORT {
            errors.push(path.invalid("", format!("can have at most {SHORT} characters")));
        }
    }
    if text(&event.message).len() > MESSAGE {
        let detail = format!("can have at most {MESSAGE} characters");
        errors.push(Path::new("message").invalid("", detail));
    }
    errors
}

/// A new event may be counted on, nothing else.
pub(super) fn update(new: &Event, old: &Event) -> FieldErrors {
    let at = Path::new;
    let changes = [
        at("involvedObject").immutable(&new.involved_object, &old.involved_object),
        at("reason").immutable(&new.reason, &old.reason),
        at("message").immutable(&new.message, &old.message),
        at("type").immutable(&new.type_, &old.type_),
        at("eventTime").immutable(&new.event_time, &old.event_time),
        at("action").immutable(&new.action, &old.action),
        at("reportingController").immutable(&new.reporting_component, &old.reporting_component),
        at("reportingInstance").immutable(&new.reporting_instance, &old.reporting_instance),
    ];
    changes.into_iter().flatten().collect()
}
