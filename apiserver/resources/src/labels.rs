//! Labels and label selectors of API objects: checking, matching, printing.
//!
//! Owns: what a `LabelSelector` means, when it is well formed, and how kubectl's columns show it.
//! Upstream: apimachinery `pkg/apis/meta/v1/{helpers.go,validation}`, `pkg/labels`.
//! Deliberately not here: the selector syntax of query strings, which the HTTP pipeline parses.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use crate::columns::NONE;
use crate::field::{FieldErrors, Path};
use crate::names;

/// Labels, or any other map of names to values.
pub type Labels = BTreeMap<String, String>;

/// Checks labels, or a selector that is a plain map.
#[must_use]
pub fn validate_labels(path: &Path, labels: Option<&Labels>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (key, value) in labels.into_iter().flatten() {
        errors.extend(path.invalid_for_each(key, names::qualified_name(key)));
        errors.extend(path.invalid_for_each(value, names::label_value(value)));
    }
    errors
}

/// Checks a selector with `matchLabels` and `matchExpressions`.
#[must_use]
pub fn validate_selector(path: &Path, selector: &LabelSelector) -> FieldErrors {
    let mut errors = validate_labels(&path.child("matchLabels"), selector.match_labels.as_ref());
    let path = path.child("matchExpressions");
    for (i, requirement) in selector.match_expressions.iter().flatten().enumerate() {
        errors.extend(validate_requirement(&path.index(i), requirement));
    }
    errors
}

fn validate_requirement(path: &Path, requirement: &LabelSelectorRequirement) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let values = requirement.values.as_deref().unwrap_or_default();
    let values_path = path.child("values");
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => errors
            .push(values_path.required("must be specified when `operator` is 'In' or 'NotIn'")),
        "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(
            values_path
                .forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'"),
        ),
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => {
            errors.push(path.child("operator").invalid(other, "not a valid selector operator"));
        }
    }
    let key = &requirement.key;
    errors.extend(path.child("key").invalid_for_each(key, names::qualified_name(key)));
    for (i, value) in values.iter().enumerate() {
        errors.extend(values_path.index(i).invalid_for_each(value, names::label_value(value)));
    }
    errors
}

/// Whether the selector has no condition at all; such a selector matches everything.
#[must_use]
pub fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

/// Whether an object with these labels is selected: every condition must hold.
#[must_use]
pub fn matches(selector: &LabelSelector, labels: &Labels) -> bool {
    let equal =
        selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal && selector.match_expressions.iter().flatten().all(|r| requirement_holds(r, labels))
}

fn requirement_holds(requirement: &LabelSelectorRequirement, labels: &Labels) -> bool {
    let value = labels.get(&requirement.key);
    let listed = value.is_some_and(|v| requirement.values.iter().flatten().any(|w| w == v));
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

/// The selector as columns show it: `app=web,tier in (a,b)`, `<none>` when it is empty
/// (upstream: `metav1.FormatLabelSelector`).
#[must_use]
pub fn format_selector(selector: &LabelSelector) -> String {
    let text = selector_query(selector);
    if text.is_empty() { NONE.to_owned() } else { text }
}

/// The selector in the syntax of query strings; empty when it has no condition.
#[must_use]
pub fn selector_query(selector: &LabelSelector) -> String {
    let mut conditions: Vec<(&str, String)> = Vec::new();
    for (key, value) in selector.match_labels.iter().flatten() {
        conditions.push((key, format!("{key}={value}")));
    }
    for requirement in selector.match_expressions.iter().flatten() {
        conditions.push((&requirement.key, format_requirement(requirement)));
    }
    // Upstream sorts by key, which also makes the text independent of the order in the manifest.
    conditions.sort_by(|a, b| a.0.cmp(b.0));
    let texts: Vec<String> = conditions.into_iter().map(|(_, text)| text).collect();
    texts.join(",")
}

fn format_requirement(requirement: &LabelSelectorRequirement) -> String {
    let key = &requirement.key;
    let mut values: Vec<&str> = requirement.values.iter().flatten().map(String::as_str).collect();
    values.sort_unstable();
    let values = values.join(",");
    match requirement.operator.as_str() {
        "In" => format!("{key} in ({values})"),
        "NotIn" => format!("{key} notin ({values})"),
        "DoesNotExist" => format!("!{key}"),
        _ => key.clone(),
    }
}

/// A map as columns show it: `a=1,b=2`, `<none>` when it is empty (upstream: `labels.FormatLabels`).
#[must_use]
pub fn format_labels(labels: Option<&Labels>) -> String {
    let Some(labels) = labels.filter(|l| !l.is_empty()) else { return NONE.to_owned() };
    let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}

#[cfg(test)]
mod tests;
