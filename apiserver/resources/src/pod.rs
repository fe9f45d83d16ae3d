//! Pods: the strategy. Its parts stand in `pod/`.
//!
//! Upstream: `pkg/registry/core/pod/strategy.go`.
//! Expected flow of a write: `defaults`, then `admission` (what upstream's built-in admission
//! plug-ins do), then `validate`; a change is also looked at by `update`.
//! Deliberately not here: scheduling, running, and everything else that happens to a pod.

mod admission;
mod columns;
pub(crate) mod defaults;
mod qos;
mod status;
mod update;
pub(crate) mod validate;
pub(crate) mod warnings;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::columns::{Cell, Column};
use crate::equality::same;
use crate::field::{FieldErrors, Path};
use crate::strategy::Strategy;

pub use qos::qos_class;

/// The behaviour of Pods.
pub(crate) struct Pods;

impl Strategy for Pods {
    type Object = Pod;

    fn default(&self, pod: &mut Pod) {
        defaults::pod(pod);
    }

    fn prepare_create(&self, pod: &mut Pod) {
        pod.metadata.generation = Some(1);
        pod.status = Some(status::of_new(pod));
        admission::on_create(pod);
    }

    fn prepare_update(&self, new: &mut Pod, old: &Pod) {
        new.status.clone_from(&old.status);
        admission::on_update(new, old);
        if !same(&new.spec, &old.spec) {
            new.metadata.generation = Some(old.metadata.generation.unwrap_or_default() + 1);
        }
    }

    fn prepare_status_update(&self, new: &mut Pod, old: &Pod) {
        new.spec.clone_from(&old.spec);
        new.metadata.owner_references.clone_from(&old.metadata.owner_references);
        status::settle(new, old);
    }

    fn validate(&self, pod: &Pod) -> FieldErrors {
        validate::pod(pod)
    }

    fn validate_update(&self, new: &Pod, old: &Pod) -> FieldErrors {
        update::validate(new, old)
    }

    fn validate_status_update(&self, new: &Pod, old: &Pod) -> FieldErrors {
        status::validate(new, old)
    }

    fn warnings(&self, pod: &Pod) -> Vec<String> {
        let name = warnings::of_name(pod.metadata.name.as_deref(), "the Pod's hostname");
        let spec = pod.spec.as_ref();
        let spec = spec.map(|s| warnings::of_spec(s, &Path::new("spec"))).unwrap_or_default();
        name.into_iter().chain(spec).collect()
    }

    fn fields(&self, pod: &Pod) -> Vec<(&'static str, String)> {
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let text = |field: Option<&String>| field.cloned().unwrap_or_default();
        let host_network = spec.and_then(|s| s.host_network).unwrap_or(false);
        let account = spec.and_then(|s| s.service_account_name.as_ref());
        let nominated = status.and_then(|s| s.nominated_node_name.as_ref());
        vec![
            ("spec.nodeName", text(spec.and_then(|s| s.node_name.as_ref()))),
            ("spec.restartPolicy", text(spec.and_then(|s| s.restart_policy.as_ref()))),
            ("spec.schedulerName", text(spec.and_then(|s| s.scheduler_name.as_ref()))),
            ("spec.serviceAccountName", text(account)),
            ("spec.hostNetwork", host_network.to_string()),
            ("status.phase", text(status.and_then(|s| s.phase.as_ref()))),
            ("status.podIP", text(status.and_then(|s| s.pod_ip.as_ref()))),
            ("status.nominatedNodeName", text(nominated)),
        ]
    }

    fn grace_period(&self, pod: &Pod, requested: Option<i64>) -> i64 {
        let spec = pod.spec.as_ref();
        let scheduled = spec.and_then(|s| s.node_name.as_deref()).is_some_and(|n| !n.is_empty());
        if !scheduled || is_finished(pod) {
            // Nobody would ever confirm the end of such a pod.
            return 0;
        }
        let own = spec.and_then(|s| s.termination_grace_period_seconds).unwrap_or(0);
        match requested.unwrap_or(own) {
            negative if negative < 0 => 1,
            seconds => seconds,
        }
    }

    fn columns(&self) -> &'static [Column] {
        columns::COLUMNS
    }

    fn cells(&self, pod: &Pod, now: Timestamp) -> Vec<Cell> {
        columns::cells(pod, now)
    }
}

/// Whether the pod will never run again.
fn is_finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// An init container that keeps running beside the others.
fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

#[cfg(test)]
mod tests;
