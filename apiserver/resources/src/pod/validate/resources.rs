//! Requests and limits (upstream: `ValidateContainerResourceRequirements`, `validateResizePolicy`).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Container;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::Surroundings;
use crate::field::{FieldErrors, Path};
use crate::names;
use crate::quantity::Quantity;

const OF_CONTAINERS: &[&str] = &["cpu", "memory", "ephemeral-storage"];
/// Standard names that make no sense for a container.
const OF_OTHERS: &[&str] = &[
    "pods",
    "services",
    "secrets",
    "configmaps",
    "storage",
    "requests.cpu",
    "requests.memory",
    "limits.cpu",
    "limits.memory",
];

type List = BTreeMap<String, Text>;

pub(super) fn validate(
    container: &Container,
    around: &Surroundings<'_>,
    path: &Path,
) -> FieldErrors {
    let none = List::new();
    let resources = container.resources.as_ref();
    let limits = resources.and_then(|r| r.limits.as_ref()).unwrap_or(&none);
    let requests = resources.and_then(|r| r.requests.as_ref()).unwrap_or(&none);
    let base = path.child("resources");
    let mut errors = amounts(limits, &base.child("limits"));
    errors.extend(amounts(requests, &base.child("requests")));
    errors.extend(requests_within_limits(requests, limits, &base));
    errors.extend(resize_policy(container, around, &path.child("resizePolicy")));
    errors
}

fn amounts(list: &List, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (name, text) in list {
        let path = path.key(name);
        errors.extend(resource_name(name, &path));
        errors.extend(amount(name, text, &path));
    }
    errors
}

fn resource_name(name: &str, path: &Path) -> FieldErrors {
    let mut errors = path.invalid_for_each(name, names::qualified_name(name));
    if name.contains('/') {
        let extended = !is_native(name) && !name.starts_with("requests.");
        if errors.is_empty() && !is_native(name) && !extended {
            errors.push(path.invalid(name, "doesn't follow extended resource name standard"));
        }
        return errors;
    }
    let ours = OF_CONTAINERS.contains(&name) || is_huge_pages(name);
    if errors.is_empty() && !ours && !OF_OTHERS.contains(&name) {
        errors.push(path.invalid(name, "must be a standard resource type or fully qualified"));
    }
    if !ours {
        errors.push(path.invalid(name, "must be a standard resource for containers"));
    }
    errors
}

/// Checks one amount: readable, not negative, whole where halves make no sense.
pub(crate) fn amount(name: &str, text: &Text, path: &Path) -> FieldErrors {
    let quantity = match Quantity::parse(&text.0) {
        Ok(quantity) => quantity,
        Err(error) => return vec![path.invalid(&text.0, error.to_string())],
    };
    let mut errors = FieldErrors::new();
    if quantity.is_negative() {
        errors.push(path.invalid(&text.0, "must be greater than or equal to 0"));
    }
    let countable = !is_native(name) || name == "pods";
    if countable && !quantity.is_whole() {
        errors.push(path.invalid(&text.0, "must be an integer"));
    }
    errors
}

fn requests_within_limits(requests: &List, limits: &List, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path_of_requests = path.child("requests");
    for (name, request) in requests {
        let Ok(wanted) = Quantity::parse(&request.0) else { continue };
        let Some(text) = limits.get(name) else {
            if !may_overcommit(name) {
                let detail = "Limit must be set for non overcommitable resources";
                errors.push(path.child("limits").required(detail));
            }
            continue;
        };
        let Ok(limit) = Quantity::parse(&text.0) else { continue };
        let relation = if !may_overcommit(name) && wanted != limit {
            "equal to"
        } else if wanted > limit {
            "less than or equal to"
        } else {
            continue;
        };
        let detail = format!("must be {relation} {name} limit of {}", text.0);
        errors.push(path_of_requests.invalid(&request.0, detail));
    }
    errors
}

fn resize_policy(container: &Container, around: &Surroundings<'_>, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let mut seen = BTreeSet::new();
    for (i, policy) in container.resize_policy.iter().flatten().enumerate() {
        if !seen.insert(&policy.resource_name) {
            errors.push(path.index(i).duplicate(&policy.resource_name));
        }
        let known = ["cpu", "memory"];
        if !known.contains(&policy.resource_name.as_str()) {
            errors.push(path.not_supported(&policy.resource_name, &known));
        }
        let known = ["NotRequired", "RestartContainer"];
        if !known.contains(&policy.restart_policy.as_str()) {
            errors.push(path.not_supported(&policy.restart_policy, &known));
        }
        if around.restart_policy == "Never" && policy.restart_policy != "NotRequired" {
            let detail = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            errors.push(path.invalid(&policy.restart_policy, detail));
        }
    }
    errors
}

/// Resources of Kubernetes itself, in contrast to devices of vendors.
fn is_native(name: &str) -> bool {
    name.split_once('/').is_none_or(|(prefix, _)| prefix.ends_with("kubernetes.io"))
}

fn is_huge_pages(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn may_overcommit(name: &str) -> bool {
    is_native(name) && !is_huge_pages(name)
}
