//! Environment variables and where their values come from (upstream: `ValidateEnv`,
//! `ValidateEnvFrom`).

use k8s_openapi::api::core::v1::{
    Container, EnvFromSource, EnvVar, ObjectFieldSelector, ResourceFieldSelector,
};

use crate::field::{FieldErrors, Path};
use crate::names;

/// Fields of the pod that a variable can show, besides single labels and annotations.
const FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

const ONE_OF: &str =
    "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`";
const TOO_MANY: &str = "may not have more than one field specified at a time";

pub(super) fn validate(container: &Container, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let env = path.child("env");
    for (i, variable) in container.env.iter().flatten().enumerate() {
        let path = env.index(i);
        let name = &variable.name;
        if name.is_empty() {
            errors.push(path.child("name").required(""));
        } else {
            errors.extend(path.child("name").invalid_for_each(name, names::env_name(name)));
        }
        errors.extend(value_from(variable, &path.child("valueFrom")));
    }
    let env_from = path.child("envFrom");
    for (i, source) in container.env_from.iter().flatten().enumerate() {
        errors.extend(validate_env_from(source, &env_from, i));
    }
    errors
}

fn value_from(variable: &EnvVar, path: &Path) -> FieldErrors {
    let Some(source) = &variable.value_from else { return Vec::new() };
    let mut errors = FieldErrors::new();
    let mut sources = 0;
    if let Some(field) = &source.field_ref {
        sources += 1;
        errors.extend(field_ref(field, FIELDS, &path.child("fieldRef")));
    }
    if let Some(resource) = &source.resource_field_ref {
        sources += 1;
        errors.extend(resource_ref(resource, false, &path.child("resourceFieldRef")));
    }
    if let Some(key) = &source.config_map_key_ref {
        sources += 1;
        errors.extend(key_ref(&key.name, &key.key, &path.child("configMapKeyRef")));
    }
    if let Some(key) = &source.secret_key_ref {
        sources += 1;
        errors.extend(key_ref(&key.name, &key.key, &path.child("secretKeyRef")));
    }
    sources += usize::from(source.file_key_ref.is_some());
    let valued = variable.value.as_deref().is_some_and(|v| !v.is_empty());
    match (sources, valued) {
        (0, _) => errors.push(path.invalid("", ONE_OF)),
        (_, true) => {
            errors.push(path.invalid("", "may not be specified when `value` is not empty"));
        }
        (1, false) => {}
        (_, false) => errors.push(path.invalid("", TOO_MANY)),
    }
    errors
}

/// Checks a reference to a field of the pod.
pub(super) fn field_ref(
    selector: &ObjectFieldSelector,
    fields: &[&str],
    path: &Path,
) -> FieldErrors {
    if selector.api_version.as_deref().unwrap_or_default().is_empty() {
        return vec![path.child("apiVersion").required("")];
    }
    let field = selector.field_path.as_str();
    if field.is_empty() {
        return vec![path.child("fieldPath").required("")];
    }
    let subscript = field.strip_suffix("']").and_then(|f| f.split_once("['"));
    match subscript {
        Some(("metadata.annotations", key)) => {
            path.invalid_for_each(key.to_lowercase(), names::qualified_name(&key.to_lowercase()))
        }
        Some(("metadata.labels", key)) => path.invalid_for_each(key, names::qualified_name(key)),
        Some((of, _)) => vec![path.invalid(of, "does not support subscript")],
        None if fields.contains(&field) => Vec::new(),
        None => vec![path.child("fieldPath").not_supported(field, fields)],
    }
}

/// Checks a reference to a container's resource; a volume has to name the container.
pub(super) fn resource_ref(
    selector: &ResourceFieldSelector,
    in_volume: bool,
    path: &Path,
) -> FieldErrors {
    let resource = selector.resource.as_str();
    let huge =
        resource.starts_with("requests.hugepages-") || resource.starts_with("limits.hugepages-");
    let container = selector.container_name.as_deref().unwrap_or_default();
    if in_volume && container.is_empty() {
        vec![path.child("containerName").required("")]
    } else if resource.is_empty() {
        vec![path.child("resource").required("")]
    } else if huge || RESOURCES.contains(&resource) {
        Vec::new()
    } else {
        vec![path.child("resource").not_supported(resource, RESOURCES)]
    }
}

fn key_ref(name: &str, key: &str, path: &Path) -> FieldErrors {
    let mut errors = path.child("name").invalid_for_each(name, names::dns_subdomain(name));
    if key.is_empty() {
        errors.push(path.child("key").required(""));
    } else {
        errors.extend(path.child("key").invalid_for_each(key, names::config_key(key)));
    }
    errors
}

fn validate_env_from(source: &EnvFromSource, list: &Path, index: usize) -> FieldErrors {
    let path = list.index(index);
    let mut errors = FieldErrors::new();
    if let Some(prefix) = source.prefix.as_deref().filter(|p| !p.is_empty()) {
        errors.extend(path.child("prefix").invalid_for_each(prefix, names::env_name(prefix)));
    }
    let maps = source.config_map_ref.as_ref().map(|r| ("configMapRef", r.name.as_str()));
    let secrets = source.secret_ref.as_ref().map(|r| ("secretRef", r.name.as_str()));
    let sources: Vec<(&str, &str)> = maps.into_iter().chain(secrets).collect();
    for (field, name) in &sources {
        let path = path.child(field).child("name");
        if name.is_empty() {
            errors.push(path.required(""));
        } else {
            errors.extend(path.invalid_for_each(name, names::dns_subdomain(name)));
        }
    }
    // Upstream blames the whole list here.
    match sources.len() {
        0 => {
            errors.push(list.invalid("", "must specify one of: `configMapRef` or `secretRef`"));
        }
        1 => {}
        _ => errors.push(list.invalid("", TOO_MANY)),
    }
    errors
}
