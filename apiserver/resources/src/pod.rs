//! Pods: the strategy. Its parts stand in `pod/`.
//!
//! Upstream: `pkg/registry/core/pod/strategy.go`.
//! Deliberately not here: scheduling, running, and everything else that happens to a pod.

mod columns;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};

use crate::columns::{Cell, Column};
use crate::strategy::Strategy;

/// The behaviour of Pods.
pub(crate) struct Pods;

impl Strategy for Pods {
    type Object = Pod;

    fn prepare_create(&self, pod: &mut Pod) {
        pod.metadata.generation = Some(1);
        pod.status = Some(PodStatus { phase: Some("Pending".to_owned()), ..PodStatus::default() });
    }

    fn prepare_update(&self, new: &mut Pod, old: &Pod) {
        new.status.clone_from(&old.status);
        if new.spec != old.spec {
            new.metadata.generation = Some(old.metadata.generation.unwrap_or_default() + 1);
        }
    }

    fn prepare_status_update(&self, new: &mut Pod, old: &Pod) {
        new.spec.clone_from(&old.spec);
        new.metadata.owner_references.clone_from(&old.metadata.owner_references);
    }

    fn fields(&self, pod: &Pod) -> Vec<(&'static str, String)> {
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let spec_text = |text: Option<&String>| text.cloned().unwrap_or_default();
        vec![
            ("spec.nodeName", spec_text(spec.and_then(|s| s.node_name.as_ref()))),
            ("spec.restartPolicy", spec_text(spec.and_then(|s| s.restart_policy.as_ref()))),
            ("spec.schedulerName", spec_text(spec.and_then(|s| s.scheduler_name.as_ref()))),
            (
                "spec.serviceAccountName",
                spec_text(spec.and_then(|s| s.service_account_name.as_ref())),
            ),
            ("spec.hostNetwork", spec.and_then(|s| s.host_network).unwrap_or(false).to_string()),
            ("status.phase", spec_text(status.and_then(|s| s.phase.as_ref()))),
            ("status.podIP", spec_text(status.and_then(|s| s.pod_ip.as_ref()))),
            (
                "status.nominatedNodeName",
                spec_text(status.and_then(|s| s.nominated_node_name.as_ref())),
            ),
        ]
    }

    fn grace_period(&self, pod: &Pod, requested: Option<i64>) -> i64 {
        let spec = pod.spec.as_ref();
        let scheduled = spec.and_then(|s| s.node_name.as_deref()).is_some_and(|n| !n.is_empty());
        if !scheduled || is_finished(pod) {
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
