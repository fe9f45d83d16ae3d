//! Pods.

use k8s_openapi::api::core::v1::Pod;

use super::Surroundings;
use super::container::{containers, started};
use super::metadata::{controlled_by, events, labels, labels_and_annotations, names, tolerations};
use super::text::Text;
use super::volume::volumes;
use crate::duration::age;

/// Describes a pod.
pub(super) fn describe(out: &mut Text, pod: &Pod, around: &Surroundings) {
    head(out, pod);
    labels_and_annotations(out, &pod.metadata);
    state(out, pod, around);
    controlled_by(out, &pod.metadata);
    let spec = pod.spec.clone().unwrap_or_default();
    let status = pod.status.clone().unwrap_or_default();
    if let Some(name) = status.nominated_node_name.filter(|n| !n.is_empty()) {
        out.pair(0, "NominatedNodeName", name);
    }
    let init = spec.init_containers.unwrap_or_default();
    if !init.is_empty() {
        let statuses = status.init_container_statuses.unwrap_or_default();
        containers(out, "Init Containers", &init, &statuses, Some(pod), "");
    }
    let statuses = status.container_statuses.unwrap_or_default();
    containers(out, "Containers", &spec.containers, &statuses, Some(pod), "");
    let conditions = status.conditions.unwrap_or_default();
    if !conditions.is_empty() {
        out.line(0, "Conditions:");
        out.line(1, "Type\tStatus");
        for condition in conditions {
            out.line(1, format_args!("{} \t{} ", condition.type_, condition.status));
        }
    }
    volumes(out, spec.volumes.as_ref(), "");
    let qos = status.qos_class.unwrap_or_else(|| quality_of_service(pod).to_owned());
    out.pair(0, "QoS Class", qos);
    labels(out, "Node-Selectors", spec.node_selector.as_ref());
    tolerations(out, "Tolerations", spec.tolerations.as_ref());
    events(out, around);
}

fn head(out: &mut Text, pod: &Pod) {
    names(out, &pod.metadata);
    let spec = pod.spec.as_ref();
    if let Some(priority) = spec.and_then(|s| s.priority) {
        out.pair(0, "Priority", priority);
    }
    let optional = [
        ("Priority Class Name", spec.and_then(|s| s.priority_class_name.as_deref())),
        ("Runtime Class Name", spec.and_then(|s| s.runtime_class_name.as_deref())),
        ("Service Account", spec.and_then(|s| s.service_account_name.as_deref())),
    ];
    for (title, value) in optional {
        if let Some(value) = value.filter(|v| !v.is_empty()) {
            out.pair(0, title, value);
        }
    }
    let status = pod.status.as_ref();
    match spec.and_then(|s| s.node_name.as_deref()) {
        None | Some("") => out.pair(0, "Node", "<none>"),
        Some(node) => {
            let host = status.and_then(|s| s.host_ip.as_deref()).unwrap_or("");
            out.pair(0, "Node", format_args!("{node}/{host}"));
        }
    }
    if let Some(start) = started(status.and_then(|s| s.start_time.as_ref()).map(|t| t.0)) {
        out.pair(0, "Start Time", start);
    }
}

fn state(out: &mut Text, pod: &Pod, around: &Surroundings) {
    let status = pod.status.as_ref();
    let phase = status.and_then(|s| s.phase.as_deref()).unwrap_or("");
    match &pod.metadata.deletion_timestamp {
        Some(end) if !matches!(phase, "Failed" | "Succeeded") => {
            let lasts = age(end.0, around.now);
            out.pair(0, "Status", format_args!("Terminating (lasts {lasts})"));
            let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
            out.pair(0, "Termination Grace Period", format_args!("{grace}s"));
        }
        _ => out.pair(0, "Status", phase),
    }
    let optional = [
        ("Reason", status.and_then(|s| s.reason.as_deref())),
        ("Message", status.and_then(|s| s.message.as_deref())),
    ];
    for (title, value) in optional {
        if let Some(value) = value.filter(|v| !v.is_empty()) {
            out.pair(0, title, value);
        }
    }
    out.pair(0, "IP", status.and_then(|s| s.pod_ip.as_deref()).unwrap_or(""));
    let ips = status.and_then(|s| s.pod_ips.as_ref()).filter(|ips| !ips.is_empty());
    match ips {
        None => out.pair(0, "IPs", "<none>"),
        Some(ips) => {
            out.line(0, "IPs:");
            ips.iter().for_each(|ip| out.pair(1, "IP", &ip.ip));
        }
    }
}

/// The class that follows from requests and limits of CPU and memory (upstream's `qos` package).
fn quality_of_service(pod: &Pod) -> &'static str {
    let Some(spec) = &pod.spec else { return "BestEffort" };
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let (mut any, mut guaranteed) = (false, true);
    for container in all {
        let resources = container.resources.clone().unwrap_or_default();
        let limits = resources.limits.unwrap_or_default();
        let requests = resources.requests.unwrap_or_default();
        for name in ["cpu", "memory"] {
            let (limit, request) = (limits.get(name), requests.get(name));
            any |= limit.is_some() || request.is_some();
            // A missing request defaults to the limit.
            guaranteed &= limit.is_some() && request.is_none_or(|r| Some(r) == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
#[path = "pod/tests.rs"]
mod tests;
