//! Rules of `metadata`, the same for every kind.
//!
//! Upstream: apimachinery `pkg/api/validation/objectmeta.go` of 1.36.
//! Inputs: a row of the resource table, one or two `ObjectMeta`. Outputs: field errors.
//! [`validate`] is for every write, after a name was generated; [`validate_update`] adds what a
//! change must not do.
//! Deliberately not here: setting uid, creationTimestamp and resourceVersion (HTTP pipeline).

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::addresses::validate_canonical_ip;
use crate::field::{FieldErrors, Path};
use crate::labels::{Labels, validate_labels};
use crate::names::{self, Problems};
use crate::table::{NameRule, Resource};

/// How many bytes all keys and values of the annotations may have together.
const ANNOTATIONS_SIZE: usize = 256 * 1024;

/// Finalizer of a delete that leaves the dependents.
const ORPHAN: &str = "orphan";
/// Finalizer of a delete that waits for the dependents.
const FOREGROUND: &str = "foregroundDeletion";

/// All problems of an object's metadata as such.
#[must_use]
pub fn validate(resource: &Resource, metadata: &ObjectMeta) -> FieldErrors {
    let path = Path::new("metadata");
    let mut errors = validate_name(resource, metadata, &path);
    errors.extend(validate_namespace(resource, metadata, &path));
    errors.extend(path.child("generation").negative(metadata.generation.unwrap_or_default()));
    errors.extend(validate_labels(&path.child("labels"), metadata.labels.as_ref()));
    errors.extend(validate_annotations(&path.child("annotations"), metadata.annotations.as_ref()));
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    errors.extend(validate_owners(&path.child("ownerReferences"), owners));
    errors.extend(validate_finalizers(metadata, &path.child("finalizers")));
    errors
}

/// Problems of the change of an object's metadata, besides those of [`validate`].
#[must_use]
pub fn validate_update(new: &ObjectMeta, old: &ObjectMeta) -> FieldErrors {
    let path = Path::new("metadata");
    let mut errors = FieldErrors::new();
    if old.deletion_timestamp.is_some() {
        errors.extend(validate_no_new_finalizers(new, old, &path.child("finalizers")));
    }
    if new.resource_version.as_deref().unwrap_or_default().is_empty() {
        let detail = "must be specified for an update";
        errors.push(path.child("resourceVersion").invalid("", detail));
    }
    let generation = new.generation.unwrap_or_default();
    if generation < old.generation.unwrap_or_default() {
        errors.push(path.child("generation").invalid(generation, "must not be decremented"));
    }
    errors.extend(path.child("name").immutable(&new.name, &old.name));
    errors.extend(path.child("namespace").immutable(&new.namespace, &old.namespace));
    errors.extend(path.child("uid").immutable(&new.uid, &old.uid));
    let created = (&new.creation_timestamp, &old.creation_timestamp);
    errors.extend(path.child("creationTimestamp").immutable(created.0, created.1));
    let deleted = (&new.deletion_timestamp, &old.deletion_timestamp);
    errors.extend(path.child("deletionTimestamp").immutable(deleted.0, deleted.1));
    let grace = (&new.deletion_grace_period_seconds, &old.deletion_grace_period_seconds);
    errors.extend(path.child("deletionGracePeriodSeconds").immutable(grace.0, grace.1));
    errors
}

/// What is wrong with a name of this resource.
#[must_use]
pub fn name_problems(resource: &Resource, name: &str) -> Problems {
    match resource.names {
        NameRule::DnsSubdomain => names::dns_subdomain(name),
        NameRule::DnsLabel => names::dns_label(name),
        NameRule::IpAddress => {
            let errors = validate_canonical_ip(&Path::new("metadata").child("name"), name);
            errors.into_iter().map(|error| error.detail).collect()
        }
        NameRule::PathSegment => names::path_segment(name),
    }
}

fn validate_name(resource: &Resource, metadata: &ObjectMeta, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if let Some(prefix) = metadata.generate_name.as_deref().filter(|p| !p.is_empty()) {
        let problems = name_problems(resource, &names::mask_trailing_dash(prefix));
        errors.extend(path.child("generateName").invalid_for_each(prefix, problems));
    }
    match metadata.name.as_deref().unwrap_or_default() {
        "" => errors.push(path.child("name").required("name or generateName is required")),
        name => {
            let problems = name_problems(resource, name);
            errors.extend(path.child("name").invalid_for_each(name, problems));
        }
    }
    errors
}

fn validate_namespace(resource: &Resource, metadata: &ObjectMeta, path: &Path) -> FieldErrors {
    let path = path.child("namespace");
    match (resource.namespaced, metadata.namespace.as_deref().unwrap_or_default()) {
        (true, "") => vec![path.required("")],
        (true, name) => path.invalid_for_each(name, names::dns_label(name)),
        (false, "") => Vec::new(),
        (false, _) => vec![path.forbidden("not allowed on this type")],
    }
}

/// Checks the keys of annotations and their size together.
#[must_use]
pub fn validate_annotations(path: &Path, annotations: Option<&Labels>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let mut size = 0;
    for (key, value) in annotations.into_iter().flatten() {
        // The case of an annotation's prefix does not matter.
        errors.extend(path.invalid_for_each(key, names::qualified_name(&key.to_lowercase())));
        size += key.len() + value.len();
    }
    if size > ANNOTATIONS_SIZE {
        errors.push(path.too_long(ANNOTATIONS_SIZE));
    }
    errors
}

fn validate_owners(path: &Path, owners: &[OwnerReference]) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let mut controller: Option<String> = None;
    for owner in owners {
        errors.extend(validate_owner(path, owner));
        if owner.controller != Some(true) {
            continue;
        }
        let name = format!("{}/{}", owner.kind, owner.name);
        match &controller {
            None => controller = Some(name),
            Some(first) => errors.push(path.invalid(
                owners,
                format!(
                    "Only one reference can have Controller set to true. Found \"true\" in \
                     references for {first} and {name}"
                ),
            )),
        }
    }
    errors
}

fn validate_owner(path: &Path, owner: &OwnerReference) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let version = owner.api_version.rsplit('/').next().unwrap_or_default();
    if version.is_empty() {
        let detail = "version must not be empty";
        errors.push(path.child("apiVersion").invalid(&owner.api_version, detail));
    }
    for (field, value) in [("kind", &owner.kind), ("name", &owner.name), ("uid", &owner.uid)] {
        if value.is_empty() {
            errors.push(path.child(field).invalid(value, "must not be empty"));
        }
    }
    if owner.api_version == "v1" && owner.kind == "Event" {
        let detail = "/v1, Kind=Event is disallowed from being an owner";
        errors.push(path.invalid(owner, detail));
    }
    errors
}

fn validate_finalizers(metadata: &ObjectMeta, path: &Path) -> FieldErrors {
    let finalizers = metadata.finalizers.as_deref().unwrap_or_default();
    let mut errors = FieldErrors::new();
    for name in finalizers {
        errors.extend(path.invalid_for_each(name, names::qualified_name(name)));
    }
    let has = |name: &str| finalizers.iter().any(|f| f == name);
    if has(ORPHAN) && has(FOREGROUND) {
        let detail = format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set");
        errors.push(path.invalid(finalizers, detail));
    }
    errors
}

fn validate_no_new_finalizers(new: &ObjectMeta, old: &ObjectMeta, path: &Path) -> FieldErrors {
    let known: BTreeSet<&String> = old.finalizers.iter().flatten().collect();
    let wanted: BTreeSet<&String> = new.finalizers.iter().flatten().collect();
    let added: Vec<String> = wanted.difference(&known).map(|name| format!("{name:?}")).collect();
    if added.is_empty() {
        return Vec::new();
    }
    // The list is printed as Go prints it; clients have come to know the text.
    let list = format!("[]string{{{}}}", added.join(", "));
    vec![path.forbidden(format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers {list}"
    ))]
}

#[cfg(test)]
mod tests;
