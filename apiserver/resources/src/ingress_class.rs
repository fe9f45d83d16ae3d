//! IngressClasses: which program serves an Ingress.
//!
//! Upstream: `pkg/registry/networking/ingressclass/strategy.go`, `ValidateIngressClass` of
//! `pkg/apis/networking/validation/validation.go`, `printIngressClass`.
//! Owns: the strategy, and which class an Ingress gets that names none.

use std::cmp::Reverse;

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{
    IngressClass, IngressClassParametersReference, IngressClassSpec,
};

use crate::columns::{self, Cell, Column, NONE};
use crate::equality::same;
use crate::field::{FieldErrors, Path};
use crate::names;
use crate::strategy::Strategy;

/// Annotation, `true` on the class of Ingresses that name none.
pub const DEFAULT_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";

const LONGEST_CONTROLLER: usize = 250;
const SCOPES: [&str; 2] = ["Cluster", "Namespace"];
const COLUMNS: &[Column] =
    &[Column::NAME, Column::text("Controller"), Column::text("Parameters"), Column::AGE];

/// The behaviour of IngressClasses.
pub(crate) struct IngressClasses;

impl Strategy for IngressClasses {
    type Object = IngressClass;

    fn default(&self, class: &mut IngressClass) {
        if let Some(parameters) = class.spec.as_mut().and_then(|s| s.parameters.as_mut()) {
            parameters.scope.get_or_insert_with(|| "Cluster".to_owned());
        }
    }

    fn prepare_create(&self, class: &mut IngressClass) {
        class.metadata.generation = Some(1);
    }

    fn prepare_update(&self, new: &mut IngressClass, old: &IngressClass) {
        if !same(&new.spec, &old.spec) {
            new.metadata.generation = Some(old.metadata.generation.unwrap_or(0) + 1);
        }
    }

    fn validate(&self, class: &IngressClass) -> FieldErrors {
        let spec = class.spec.clone().unwrap_or_default();
        let path = Path::new("spec");
        let mut errors = validate_controller(controller_of(&spec), &path.child("controller"));
        if let Some(parameters) = &spec.parameters {
            errors.extend(validate_parameters(parameters, &path.child("parameters")));
        }
        errors
    }

    fn validate_update(&self, new: &IngressClass, old: &IngressClass) -> FieldErrors {
        let path = Path::new("spec.controller");
        path.immutable(&controller(new), &controller(old)).into_iter().collect()
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, class: &IngressClass, now: Timestamp) -> Vec<Cell> {
        let metadata = &class.metadata;
        let parameters = class.spec.as_ref().and_then(|s| s.parameters.as_ref());
        vec![
            columns::name(metadata),
            controller(class).into(),
            parameters.map_or_else(|| NONE.to_owned(), shown).into(),
            columns::age(metadata, now),
        ]
    }
}

/// The program that serves Ingresses of the class, such as `minictl.io/ingress`.
#[must_use]
pub fn controller(class: &IngressClass) -> &str {
    class.spec.as_ref().map(controller_of).unwrap_or_default()
}

/// The class of an Ingress that names none: of several the newest, then the first by name
/// (upstream: `plugin/pkg/admission/network/defaultingressclass`).
#[must_use]
pub fn default_of(classes: &[IngressClass]) -> Option<&str> {
    let defaults = classes.iter().filter(|class| is_default(class));
    let best = defaults.min_by_key(|class| {
        let metadata = &class.metadata;
        let created = metadata.creation_timestamp.as_ref().map(|time| time.0);
        (Reverse(created), metadata.name.clone())
    });
    best?.metadata.name.as_deref()
}

fn is_default(class: &IngressClass) -> bool {
    let annotations = class.metadata.annotations.as_ref();
    annotations.and_then(|a| a.get(DEFAULT_ANNOTATION)).is_some_and(|value| value == "true")
}

fn controller_of(spec: &IngressClassSpec) -> &str {
    spec.controller.as_deref().unwrap_or_default()
}

fn shown(parameters: &IngressClassParametersReference) -> String {
    let group = parameters.api_group.as_deref().map(|group| format!(".{group}"));
    format!("{}{}/{}", parameters.kind, group.unwrap_or_default(), parameters.name)
}

fn validate_controller(controller: &str, path: &Path) -> FieldErrors {
    if controller.is_empty() {
        return vec![path.required("")];
    }
    let mut errors = FieldErrors::new();
    if controller.len() > LONGEST_CONTROLLER {
        errors.push(path.too_long(LONGEST_CONTROLLER));
    }
    match controller.split_once('/') {
        Some((domain, rest)) if !domain.is_empty() && !rest.is_empty() => {
            errors.extend(path.invalid_for_each(domain, names::dns_subdomain(domain)));
            errors.extend(path.invalid_for_each(rest, names::http_path(rest)));
        }
        _ => errors.push(
            path.invalid(controller, "must be a domain-prefixed path (such as \"acme.io/foo\")"),
        ),
    }
    errors
}

fn validate_parameters(parameters: &IngressClassParametersReference, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if let Some(group) = &parameters.api_group {
        errors.extend(path.child("apiGroup").invalid_for_each(group, names::dns_subdomain(group)));
    }
    for (field, value) in [("kind", &parameters.kind), ("name", &parameters.name)] {
        let path = path.child(field);
        if value.is_empty() {
            errors.push(path.required(""));
        } else {
            errors.extend(path.invalid_for_each(value, names::path_segment(value)));
        }
    }
    let at = path.child("namespace");
    match (parameters.scope.as_deref(), &parameters.namespace) {
        (None, _) => errors.push(path.child("scope").required("")),
        (Some("Namespace"), None) => {
            errors.push(at.required("`parameters.scope` is set to 'Namespace'"));
        }
        (Some("Namespace"), Some(namespace)) => {
            errors.extend(at.invalid_for_each(namespace, names::dns_label(namespace)));
        }
        (Some("Cluster"), Some(_)) => {
            errors.push(at.forbidden("`parameters.scope` is set to 'Cluster'"));
        }
        (Some("Cluster"), None) => {}
        (Some(other), _) => errors.push(path.child("scope").not_supported(other, &SCOPES)),
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn class(value: Value) -> IngressClass {
        let mut class = serde_json::from_value(value).expect("an IngressClass");
        Strategy::default(&IngressClasses, &mut class);
        class
    }

    fn problems(spec: Value) -> Vec<String> {
        let class = class(json!({ "metadata": { "name": "a" }, "spec": spec }));
        IngressClasses.validate(&class).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_controller_is_a_path_with_a_domain() {
        assert_eq!(problems(json!({ "controller": "minictl.io/ingress" })), [""; 0]);
        assert_eq!(problems(json!({})), ["spec.controller: Required value"]);
        assert_eq!(
            problems(json!({ "controller": "nginx" })),
            [
                r#"spec.controller: Invalid value: "nginx": must be a domain-prefixed path (such as "acme.io/foo")"#
            ]
        );
        assert_eq!(
            problems(json!({ "controller": "a.io/x y" })),
            [
                r#"spec.controller: Invalid value: "x y": Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')"#
            ]
        );
    }

    #[test]
    fn parameters_stand_in_the_cluster_or_in_a_namespace() {
        let with = |more: Value| {
            let mut parameters = json!({ "kind": "Config", "name": "x" });
            for (key, value) in more.as_object().expect("an object") {
                parameters[key] = value.clone();
            }
            problems(json!({ "controller": "a.io/b", "parameters": parameters }))
        };
        assert_eq!(with(json!({})), [""; 0]);
        assert_eq!(with(json!({ "scope": "Namespace", "namespace": "n" })), [""; 0]);
        assert_eq!(
            with(json!({ "scope": "Namespace" })),
            ["spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'"]
        );
        assert_eq!(
            with(json!({ "namespace": "n" })),
            ["spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'"]
        );
        assert_eq!(
            with(json!({ "scope": "World", "kind": "" })),
            [
                "spec.parameters.kind: Required value",
                r#"spec.parameters.scope: Unsupported value: "World": supported values: "Cluster", "Namespace""#,
            ]
        );
    }

    #[test]
    fn of_several_default_classes_the_newest_counts() {
        let at = |name: &str, time: &str, default: &str| {
            let annotations = json!({ DEFAULT_ANNOTATION: default });
            class(json!({ "metadata": {
                "name": name, "creationTimestamp": time, "annotations": annotations,
            } }))
        };
        let (old, new) = ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
        assert_eq!(default_of(&[]), None);
        assert_eq!(default_of(&[at("a", old, "false")]), None);
        assert_eq!(default_of(&[at("a", old, "true"), at("b", new, "true")]), Some("b"));
        assert_eq!(default_of(&[at("b", new, "true"), at("a", new, "true")]), Some("a"));
    }

    #[test]
    fn the_controller_stays() {
        let of = |name: &str| class(json!({ "metadata": {}, "spec": { "controller": name } }));
        assert_eq!(IngressClasses.validate_update(&of("a.io/a"), &of("a.io/a")), []);
        let errors = IngressClasses.validate_update(&of("a.io/b"), &of("a.io/a"));
        assert_eq!(
            errors[0].to_string(),
            r#"spec.controller: Invalid value: "a.io/b": field is immutable"#
        );
    }
}
