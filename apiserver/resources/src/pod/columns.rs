//! The row of a pod in `kubectl get pods` (upstream: `printPod` of
//! `pkg/printers/internalversion/printers.go`).
//!
//! Input: a pod and the current time. Output: cells.
//! Invariant: STATUS names the first thing that keeps the pod from being well: a deletion, else a
//! failing or unfinished init container, else the first container with a reason, else the phase.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodSpec, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::is_sidecar;
use crate::columns::{self, Cell, Column, NONE};
use crate::duration::since;

pub(super) const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Ready"),
    Column::text("Status"),
    Column::text("Restarts"),
    Column::AGE,
    Column::wide("IP"),
    Column::wide("Node"),
    Column::wide("Nominated Node"),
    Column::wide("Readiness Gates"),
];

/// The reason that the node controller gives a pod whose node does not answer.
const NODE_LOST: &str = "NodeLost";

pub(super) fn cells(pod: &Pod, now: Timestamp) -> Vec<Cell> {
    let no_spec = PodSpec::default();
    let no_status = PodStatus::default();
    let spec = pod.spec.as_ref().unwrap_or(&no_spec);
    let status = pod.status.as_ref().unwrap_or(&no_status);
    let summary = Summary::of(spec, status);
    let pod_ip = status.pod_ips.iter().flatten().next().map(|ip| ip.ip.as_str());
    vec![
        columns::name(&pod.metadata),
        format!("{}/{}", summary.ready, summary.total).into(),
        shown_status(pod, status, summary.reason).into(),
        summary.restarts.text(now).into(),
        columns::age(&pod.metadata, now),
        columns::or_none(pod_ip).into(),
        columns::or_none(spec.node_name.as_deref()).into(),
        columns::or_none(status.nominated_node_name.as_deref()).into(),
        readiness_gates(spec, status).into(),
    ]
}

/// A deletion hides every other reason.
fn shown_status(pod: &Pod, status: &PodStatus, reason: String) -> String {
    if pod.metadata.deletion_timestamp.is_none() {
        reason
    } else if status.reason.as_deref() == Some(NODE_LOST) {
        "Unknown".to_owned()
    } else if super::is_finished(pod) {
        reason
    } else {
        "Terminating".to_owned()
    }
}

/// How often containers were started again, and when the last one ended.
#[derive(Clone, Copy, Default)]
struct Restarts {
    count: i32,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, container: &ContainerStatus) {
        self.count += container.restart_count;
        let ended = container.last_state.as_ref().and_then(|s| s.terminated.as_ref());
        let ended = ended.and_then(|t| t.finished_at.as_ref()).map(|time| time.0);
        self.last = self.last.max(ended);
    }

    fn text(self, now: Timestamp) -> String {
        match self.last {
            Some(last) if self.count != 0 => {
                format!("{} ({} ago)", self.count, since(Some(&Time(last)), now))
            }
            _ => self.count.to_string(),
        }
    }
}

/// What the container statuses say together.
struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    restarts: Restarts,
    /// An init container has not done its part.
    initializing: bool,
}

impl Summary {
    fn of(spec: &PodSpec, status: &PodStatus) -> Self {
        let init_containers = spec.init_containers.as_deref().unwrap_or_default();
        let sidecars = init_containers.iter().filter(|c| is_sidecar(c)).count();
        let mut summary = Self {
            ready: 0,
            total: spec.containers.len() + sidecars,
            reason: reason_of_pod(status),
            restarts: Restarts::default(),
            initializing: false,
        };
        let sidecar_restarts = summary.read_init_containers(init_containers, status);
        if !summary.initializing || has_condition(status, "Initialized") {
            // Restarts of finished init containers are no longer of interest.
            summary.restarts = sidecar_restarts;
            summary.read_containers(status);
        }
        summary
    }

    /// Counts init containers up to the first that has not done its part; returns the restarts of
    /// sidecars alone.
    fn read_init_containers(&mut self, init: &[Container], status: &PodStatus) -> Restarts {
        let mut sidecar_restarts = Restarts::default();
        let statuses = status.init_container_statuses.as_deref().unwrap_or_default();
        for (position, container) in statuses.iter().enumerate() {
            let sidecar = init.iter().any(|c| c.name == container.name && is_sidecar(c));
            self.restarts.add(container);
            if sidecar {
                sidecar_restarts.add(container);
            }
            if terminated(container).is_some_and(|t| t.exit_code == 0) {
                continue;
            }
            if sidecar && container.started == Some(true) {
                self.ready += usize::from(container.ready);
                continue;
            }
            self.initializing = true;
            self.reason =
                init_reason(container).unwrap_or_else(|| format!("Init:{position}/{}", init.len()));
            break;
        }
        sidecar_restarts
    }

    /// Goes through the containers from the last to the first, so that the first one's reason wins.
    fn read_containers(&mut self, status: &PodStatus) {
        let mut running = false;
        for container in status.container_statuses.iter().flatten().rev() {
            self.restarts.add(container);
            if let Some(reason) = waiting_reason(container) {
                reason.clone_into(&mut self.reason);
            } else if let Some(end) = terminated(container) {
                self.reason = end_reason(end, "");
            } else if container.ready && state(container).is_some_and(|s| s.running.is_some()) {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            let ready = has_condition(status, "Ready");
            self.reason = if ready { "Running" } else { "NotReady" }.to_owned();
        }
    }
}

fn reason_of_pod(status: &PodStatus) -> String {
    let gated = status
        .conditions
        .iter()
        .flatten()
        .any(|c| c.type_ == "PodScheduled" && c.reason.as_deref() == Some("SchedulingGated"));
    if gated {
        return "SchedulingGated".to_owned();
    }
    let own = status.reason.clone().filter(|r| !r.is_empty());
    own.or_else(|| status.phase.clone()).unwrap_or_default()
}

fn init_reason(container: &ContainerStatus) -> Option<String> {
    if let Some(end) = terminated(container) {
        return Some(end_reason(end, "Init:"));
    }
    let waiting = waiting_reason(container).filter(|&reason| reason != "PodInitializing");
    waiting.map(|reason| format!("Init:{reason}"))
}

fn end_reason(end: &ContainerStateTerminated, prefix: &str) -> String {
    match (end.reason.as_deref().unwrap_or_default(), end.signal.unwrap_or_default()) {
        ("", 0) => format!("{prefix}ExitCode:{}", end.exit_code),
        ("", signal) => format!("{prefix}Signal:{signal}"),
        (reason, _) => format!("{prefix}{reason}"),
    }
}

fn readiness_gates(spec: &PodSpec, status: &PodStatus) -> String {
    let gates = spec.readiness_gates.as_deref().unwrap_or_default();
    if gates.is_empty() {
        return NONE.to_owned();
    }
    let open = gates.iter().filter(|g| has_condition(status, &g.condition_type)).count();
    format!("{open}/{}", gates.len())
}

/// Whether the pod has this condition with status True.
fn has_condition(status: &PodStatus, kind: &str) -> bool {
    let mut conditions = status.conditions.iter().flatten();
    conditions.find(|c| c.type_ == kind).is_some_and(|c| c.status == "True")
}

fn state(container: &ContainerStatus) -> Option<&ContainerState> {
    container.state.as_ref()
}

fn terminated(container: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    state(container)?.terminated.as_ref()
}

fn waiting_reason(container: &ContainerStatus) -> Option<&str> {
    state(container)?.waiting.as_ref()?.reason.as_deref().filter(|r| !r.is_empty())
}

#[cfg(test)]
mod tests;
