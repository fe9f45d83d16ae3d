//! Where a pod wants to run: affinity, spreading, tolerations, gates (upstream:
//! `validateAffinity`, `validateTopologySpreadConstraints`, `ValidateTolerations`).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm, PodSpec, Toleration,
    TopologySpreadConstraint, WeightedPodAffinityTerm,
};

use crate::field::{FieldErrors, Path};
use crate::labels::validate_selector;
use crate::names;

/// What a taint does to pods that do not tolerate it.
pub(crate) const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const WEIGHT: &str = "must be in the range 1-100";

pub(super) fn validate_affinity(spec: &PodSpec, path: &Path) -> FieldErrors {
    let Some(affinity) = &spec.affinity else { return Vec::new() };
    let mut errors = FieldErrors::new();
    if let Some(node) = &affinity.node_affinity {
        let path = path.child("nodeAffinity");
        if let Some(required) = &node.required_during_scheduling_ignored_during_execution {
            let terms = &required.node_selector_terms;
            errors.extend(node_terms(terms, &path.child(REQUIRED).child("nodeSelectorTerms")));
        }
        let preferred = node.preferred_during_scheduling_ignored_during_execution.iter().flatten();
        for (i, term) in preferred.enumerate() {
            let path = path.child(PREFERRED).index(i);
            if !(1..=100).contains(&term.weight) {
                errors.push(path.child("weight").invalid(term.weight, WEIGHT));
            }
            errors.extend(node_term(&term.preference, &path.child("preference")));
        }
    }
    if let Some(pods) = &affinity.pod_affinity {
        errors.extend(pod_terms(
            pods.required_during_scheduling_ignored_during_execution.as_deref(),
            pods.preferred_during_scheduling_ignored_during_execution.as_deref(),
            &path.child("podAffinity"),
        ));
    }
    if let Some(pods) = &affinity.pod_anti_affinity {
        errors.extend(pod_terms(
            pods.required_during_scheduling_ignored_during_execution.as_deref(),
            pods.preferred_during_scheduling_ignored_during_execution.as_deref(),
            &path.child("podAntiAffinity"),
        ));
    }
    errors
}

fn node_terms(terms: &[NodeSelectorTerm], path: &Path) -> FieldErrors {
    if terms.is_empty() {
        return vec![path.required("must have at least one node selector term")];
    }
    terms.iter().enumerate().flat_map(|(i, term)| node_term(term, &path.index(i))).collect()
}

fn node_term(term: &NodeSelectorTerm, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (i, requirement) in term.match_expressions.iter().flatten().enumerate() {
        errors.extend(node_labels(requirement, &path.child("matchExpressions").index(i)));
    }
    for (i, requirement) in term.match_fields.iter().flatten().enumerate() {
        errors.extend(node_fields(requirement, &path.child("matchFields").index(i)));
    }
    errors
}

fn node_labels(requirement: &NodeSelectorRequirement, path: &Path) -> FieldErrors {
    let values = requirement.values.as_deref().unwrap_or_default();
    let path_of_values = path.child("values");
    let mut errors = FieldErrors::new();
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => errors
            .push(path_of_values.required("must be specified when `operator` is 'In' or 'NotIn'")),
        "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(
            path_of_values
                .forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'"),
        ),
        "Gt" | "Lt" if values.len() != 1 => errors.push(
            path_of_values
                .required("must be specified single value when `operator` is 'Lt' or 'Gt'"),
        ),
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => {
            errors.push(path.child("operator").invalid(other, "not a valid selector operator"));
        }
    }
    let key = &requirement.key;
    errors.extend(path.child("key").invalid_for_each(key, names::qualified_name(key)));
    for (i, value) in values.iter().enumerate() {
        errors.extend(path_of_values.index(i).invalid_for_each(value, names::label_value(value)));
    }
    errors
}

/// A node can be chosen by one field only, its name.
fn node_fields(requirement: &NodeSelectorRequirement, path: &Path) -> FieldErrors {
    let values = requirement.values.as_deref().unwrap_or_default();
    let mut errors = FieldErrors::new();
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.len() == 1 => {}
        "In" | "NotIn" => errors.push(path.child("values").required(
            "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
        )),
        other => {
            errors.push(path.child("operator").invalid(other, "not a valid selector operator"));
        }
    }
    if requirement.key != "metadata.name" {
        let detail = "not a valid field selector key";
        errors.push(path.child("key").invalid(&requirement.key, detail));
    }
    errors
}

fn pod_terms(
    required: Option<&[PodAffinityTerm]>,
    preferred: Option<&[WeightedPodAffinityTerm]>,
    path: &Path,
) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (i, term) in required.into_iter().flatten().enumerate() {
        errors.extend(pod_term(term, &path.child(REQUIRED).index(i)));
    }
    for (i, weighted) in preferred.into_iter().flatten().enumerate() {
        let path = path.child(PREFERRED).index(i);
        if !(1..=100).contains(&weighted.weight) {
            errors.push(path.child("weight").invalid(weighted.weight, WEIGHT));
        }
        errors.extend(pod_term(&weighted.pod_affinity_term, &path.child("podAffinityTerm")));
    }
    errors
}

fn pod_term(term: &PodAffinityTerm, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (field, selector) in
        [("labelSelector", &term.label_selector), ("namespaceSelector", &term.namespace_selector)]
    {
        if let Some(selector) = selector {
            errors.extend(validate_selector(&path.child(field), selector));
        }
    }
    for name in term.namespaces.iter().flatten() {
        errors.extend(path.child("namespace").invalid_for_each(name, names::dns_label(name)));
    }
    let key = &term.topology_key;
    let path = path.child("topologyKey");
    if key.is_empty() {
        errors.push(path.required("can not be empty"));
    }
    errors.extend(path.invalid_for_each(key, names::qualified_name(key)));
    errors
}

pub(super) fn validate_gates(spec: &PodSpec, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let gates = path.child("readinessGates");
    for (i, gate) in spec.readiness_gates.iter().flatten().enumerate() {
        let kind = &gate.condition_type;
        let path = gates.index(i).child("conditionType");
        errors.extend(path.invalid_for_each(kind, names::qualified_name(kind)));
    }
    let gates = path.child("schedulingGates");
    let mut seen = BTreeSet::new();
    for (i, gate) in spec.scheduling_gates.iter().flatten().enumerate() {
        let name = &gate.name;
        errors.extend(gates.index(i).invalid_for_each(name, names::qualified_name(name)));
        if !seen.insert(name) {
            errors.push(gates.index(i).duplicate(name));
        }
    }
    errors
}

pub(super) fn validate_spread(spec: &PodSpec, path: &Path) -> FieldErrors {
    let constraints = spec.topology_spread_constraints.as_deref().unwrap_or_default();
    let mut errors = FieldErrors::new();
    for (i, constraint) in constraints.iter().enumerate() {
        errors.extend(spread(constraint, &path.index(i)));
        let pair = |c: &TopologySpreadConstraint| {
            format!("{{{}, {}}}", c.topology_key, c.when_unsatisfiable)
        };
        if constraints[i + 1..].iter().any(|other| pair(other) == pair(constraint)) {
            let path = path.index(i).child("{topologyKey, whenUnsatisfiable}");
            errors.push(path.duplicate(pair(constraint)));
        }
    }
    errors
}

fn spread(constraint: &TopologySpreadConstraint, path: &Path) -> FieldErrors {
    let positive = "must be greater than zero";
    let mut errors = FieldErrors::new();
    if constraint.max_skew <= 0 {
        errors.push(path.child("maxSkew").invalid(constraint.max_skew, positive));
    }
    if constraint.topology_key.is_empty() {
        errors.push(path.child("topologyKey").required("can not be empty"));
    }
    let actions = ["DoNotSchedule", "ScheduleAnyway"];
    let action = constraint.when_unsatisfiable.as_str();
    if !actions.contains(&action) {
        errors.push(path.child("whenUnsatisfiable").not_supported(action, &actions));
    }
    if let Some(domains) = constraint.min_domains {
        let path = path.child("minDomains");
        if domains <= 0 {
            errors.push(path.invalid(domains, positive));
        }
        if action != "DoNotSchedule" {
            errors.push(path.invalid(
                domains,
                format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"),
            ));
        }
    }
    let policies = ["Honor", "Ignore"];
    for (field, policy) in [
        ("nodeAffinityPolicy", &constraint.node_affinity_policy),
        ("nodeTaintsPolicy", &constraint.node_taints_policy),
    ] {
        if let Some(other) = policy.as_deref().filter(|p| !policies.contains(p)) {
            errors.push(path.child(field).not_supported(other, &policies));
        }
    }
    if let Some(selector) = &constraint.label_selector {
        errors.extend(validate_selector(&path.child("labelSelector"), selector));
    }
    errors
}

pub(super) fn validate_tolerations(spec: &PodSpec, path: &Path) -> FieldErrors {
    let tolerations = spec.tolerations.iter().flatten().enumerate();
    tolerations.flat_map(|(i, toleration)| one_toleration(toleration, &path.index(i))).collect()
}

fn one_toleration(toleration: &Toleration, path: &Path) -> FieldErrors {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (key, operator) = (text(&toleration.key), text(&toleration.operator));
    let (value, effect) = (text(&toleration.value), text(&toleration.effect));
    let of_operator = path.child("operator");
    let mut errors = FieldErrors::new();
    if !key.is_empty() {
        errors.extend(path.child("key").invalid_for_each(&key, names::qualified_name(&key)));
    } else if operator != "Exists" {
        let detail = "operator must be Exists when `key` is empty, which means \"match all values \
                      and all keys\"";
        errors.push(of_operator.invalid(&operator, detail));
    }
    if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
        let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        errors.push(path.child("effect").invalid(&effect, detail));
    }
    match operator.as_str() {
        "Equal" | "" => {
            let problems = names::label_value(&value);
            if !problems.is_empty() {
                errors.push(of_operator.invalid(&value, problems.join(";")));
            }
        }
        "Exists" if value.is_empty() => {}
        "Exists" => {
            let detail = "value must be empty when `operator` is 'Exists'";
            errors.push(of_operator.invalid(&value, detail));
        }
        other => errors.push(of_operator.not_supported(other, &["Equal", "Exists"])),
    }
    if !effect.is_empty() && !EFFECTS.contains(&effect.as_str()) {
        errors.push(path.child("effect").not_supported(&effect, EFFECTS));
    }
    errors
}
