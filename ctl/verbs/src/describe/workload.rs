//! Deployments, ReplicaSets and the pod template inside them.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Surroundings;
use super::container::{containers, port};
use super::metadata::{
    annotations, controlled_by, date_or_zero, events, labels, labels_and_annotations, names,
    tolerations,
};
use super::text::Text;
use super::volume::volumes;
use crate::pods::format_selector;

/// Describes a Deployment with the ReplicaSets it owns.
pub(super) fn deployment(
    out: &mut Text,
    object: &Deployment,
    sets: &[ReplicaSet],
    around: &Surroundings,
) {
    names(out, &object.metadata);
    let created = object.metadata.creation_timestamp.as_ref().map(|t| t.0);
    out.pair(0, "CreationTimestamp", date_or_zero(created));
    labels_and_annotations(out, &object.metadata);
    let (Some(spec), status) = (&object.spec, object.status.clone().unwrap_or_default()) else {
        return events(out, around);
    };
    out.pair(0, "Selector", format_selector(&spec.selector));
    let count = |n: Option<i32>| n.unwrap_or(0);
    out.pair(
        0,
        "Replicas",
        format_args!(
            "{} desired | {} updated | {} total | {} available | {} unavailable",
            count(spec.replicas),
            count(status.updated_replicas),
            count(status.replicas),
            count(status.available_replicas),
            count(status.unavailable_replicas)
        ),
    );
    let strategy = spec.strategy.clone().unwrap_or_default();
    out.pair(0, "StrategyType", strategy.type_.unwrap_or_default());
    out.pair(0, "MinReadySeconds", count(spec.min_ready_seconds));
    if let Some(rolling) = strategy.rolling_update {
        let text = |v: Option<IntOrString>| v.as_ref().map_or("0".to_owned(), port);
        out.pair(
            0,
            "RollingUpdateStrategy",
            format_args!(
                "{} max unavailable, {} max surge",
                text(rolling.max_unavailable),
                text(rolling.max_surge)
            ),
        );
    }
    template(out, &spec.template);
    let conditions = status.conditions.unwrap_or_default();
    let rows = conditions.iter().map(|c| (&c.type_, &c.status, c.reason.as_deref()));
    conditions_table(out, rows.collect());
    if !sets.is_empty() {
        let new = newest(&spec.template, sets);
        let (new, old): (Vec<_>, Vec<_>) =
            sets.iter().partition(|s| Some(&s.metadata.name) == new.as_ref());
        // Old sets are only interesting while they have pods.
        out.pair(0, "OldReplicaSets", set_list(&old));
        out.pair(0, "NewReplicaSet", set_list(&new));
    }
    events(out, around);
}

/// The name of the ReplicaSet whose template is the Deployment's.
fn newest(wanted: &PodTemplateSpec, sets: &[ReplicaSet]) -> Option<Option<String>> {
    let mut matching: Vec<&ReplicaSet> =
        sets.iter().filter(|set| has_template(set, wanted)).collect();
    matching.sort_by(|a, b| a.metadata.creation_timestamp.cmp(&b.metadata.creation_timestamp));
    matching.first().map(|set| set.metadata.name.clone())
}

fn has_template(set: &ReplicaSet, wanted: &PodTemplateSpec) -> bool {
    let Some(template) = set.spec.as_ref().and_then(|s| s.template.as_ref()) else { return false };
    let mut template = template.clone();
    if let Some(labels) = template.metadata.as_mut().and_then(|m| m.labels.as_mut()) {
        labels.remove("pod-template-hash");
    }
    template == *wanted
}

fn set_list(sets: &[&ReplicaSet]) -> String {
    let texts: Vec<String> = sets
        .iter()
        .map(|set| {
            let created = set.status.as_ref().map_or(0, |s| s.replicas);
            let wanted = set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(0);
            let name = set.metadata.name.as_deref().unwrap_or("");
            format!("{name} ({created}/{wanted} replicas created)")
        })
        .collect();
    if texts.is_empty() { "<none>".to_owned() } else { texts.join(", ") }
}

/// Describes a ReplicaSet with the phases of its pods.
pub(super) fn replica_set(
    out: &mut Text,
    object: &ReplicaSet,
    pods: &[Pod],
    around: &Surroundings,
) {
    names(out, &object.metadata);
    let Some(spec) = &object.spec else { return events(out, around) };
    out.pair(0, "Selector", format_selector(&spec.selector));
    labels_and_annotations(out, &object.metadata);
    controlled_by(out, &object.metadata);
    let status = object.status.clone().unwrap_or_default();
    let wanted = spec.replicas.unwrap_or(0);
    out.pair(0, "Replicas", format_args!("{} current / {wanted} desired", status.replicas));
    let phase = |wanted: &str| {
        let phases = pods.iter().filter_map(|p| p.status.as_ref()?.phase.as_deref());
        phases.filter(|p| *p == wanted).count()
    };
    out.pair(
        0,
        "Pods Status",
        format_args!(
            "{} Running / {} Waiting / {} Succeeded / {} Failed",
            phase("Running"),
            phase("Pending"),
            phase("Succeeded"),
            phase("Failed")
        ),
    );
    template(out, &spec.template.clone().unwrap_or_default());
    let conditions = status.conditions.unwrap_or_default();
    let rows = conditions.iter().map(|c| (&c.type_, &c.status, c.reason.as_deref()));
    conditions_table(out, rows.collect());
    events(out, around);
}

fn conditions_table(out: &mut Text, rows: Vec<(&String, &String, Option<&str>)>) {
    if rows.is_empty() {
        return;
    }
    out.line(0, "Conditions:");
    out.line(1, "Type\tStatus\tReason");
    out.line(1, "----\t------\t------");
    for (kind, status, reason) in rows {
        out.line(1, format_args!("{kind} \t{status}\t{}", reason.unwrap_or("")));
    }
}

/// A pod template.
pub(super) fn template(out: &mut Text, template: &PodTemplateSpec) {
    out.line(0, "Pod Template:");
    let meta = template.metadata.clone().unwrap_or_default();
    labels(out, "  Labels", meta.labels.as_ref());
    if meta.annotations.as_ref().is_some_and(|a| !a.is_empty()) {
        annotations(out, "  Annotations", meta.annotations.as_ref());
    }
    let spec = template.spec.clone().unwrap_or_default();
    if let Some(account) = spec.service_account_name.filter(|s| !s.is_empty()) {
        out.pair(1, "Service Account", account);
    }
    let init = spec.init_containers.unwrap_or_default();
    if !init.is_empty() {
        containers(out, "Init Containers", &init, &[], None, "  ");
    }
    containers(out, "Containers", &spec.containers, &[], None, "  ");
    volumes(out, spec.volumes.as_ref(), "  ");
    if let Some(class) = spec.priority_class_name.filter(|c| !c.is_empty()) {
        out.pair(1, "Priority Class Name", class);
    }
    labels(out, "  Node-Selectors", spec.node_selector.as_ref());
    tolerations(out, "  Tolerations", spec.tolerations.as_ref());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn around() -> Surroundings {
        Surroundings { events: Some(vec![]), now: jiff::Timestamp::UNIX_EPOCH }
    }

    #[test]
    fn a_deployment_in_the_middle_of_a_rollout() {
        let template = json!({"metadata": {"labels": {"app": "web"}},
                              "spec": {"containers": [{"name": "c", "image": "nginx:2"}]}});
        let deployment_object: Deployment = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}},
                "strategy": {"type": "RollingUpdate", "rollingUpdate":
                    {"maxSurge": "25%", "maxUnavailable": 1}},
                "template": template},
            "status": {"replicas": 4, "updatedReplicas": 1, "availableReplicas": 3,
                "unavailableReplicas": 1, "conditions": [
                    {"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"}]}}))
        .unwrap();
        let set = |name: &str, image: &str, replicas: i32| -> ReplicaSet {
            let mut t = template.clone();
            t["metadata"]["labels"]["pod-template-hash"] = json!(name);
            t["spec"]["containers"][0]["image"] = json!(image);
            serde_json::from_value(json!({"metadata": {"name": name}, "spec": {
                "replicas": replicas, "selector": {}, "template": t},
                "status": {"replicas": replicas}}))
            .unwrap()
        };
        let sets = [set("web-1", "nginx:1", 3), set("web-2", "nginx:2", 1)];
        let mut out = Text::default();
        deployment(&mut out, &deployment_object, &sets, &around());
        let expected = "\
Name:                   web
Namespace:              default
CreationTimestamp:      Mon, 01 Jan 0001 00:00:00 +0000
Labels:                 <none>
Annotations:            <none>
Selector:               app=web
Replicas:               3 desired | 1 updated | 4 total | 3 available | 1 unavailable
StrategyType:           RollingUpdate
MinReadySeconds:        0
RollingUpdateStrategy:  1 max unavailable, 25% max surge
Pod Template:
  Labels:  app=web
  Containers:
   c:
    Image:         nginx:2
    Port:          <none>
    Host Port:     <none>
    Environment:   <none>
    Mounts:        <none>
  Volumes:         <none>
  Node-Selectors:  <none>
  Tolerations:     <none>
Conditions:
  Type           Status  Reason
  ----           ------  ------
  Available      True    MinimumReplicasAvailable
OldReplicaSets:  web-1 (3/3 replicas created)
NewReplicaSet:   web-2 (1/1 replicas created)
Events:          <none>
";
        assert_eq!(out.render(), expected);
    }

    #[test]
    fn a_replica_set_counts_the_phases_of_its_pods() {
        let set: ReplicaSet = serde_json::from_value(json!({"metadata": {"name": "rs"},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"tier": "x"}}, "template": {}},
            "status": {"replicas": 2}}))
        .unwrap();
        let pod = |phase: &str| -> Pod {
            serde_json::from_value(json!({"status": {"phase": phase}})).unwrap()
        };
        let mut out = Text::default();
        replica_set(&mut out, &set, &[pod("Running"), pod("Pending")], &around());
        let text = out.render();
        assert!(
            text.contains("Pods Status:  1 Running / 1 Waiting / 0 Succeeded / 0 Failed\n"),
            "{text}"
        );
        assert!(text.contains("Replicas:     2 current / 2 desired\n"), "{text}");
    }
}
