//! What is known of a pod beyond its record: facts that a restart of the agent may lose.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::{drain::Drain, record::PodRecord};

/// A pod, what is remembered of it and what is known of it now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PodFacts<'a> {
    /// The pod as the API has it.
    pub(crate) pod: &'a Pod,
    /// Whether the API no longer has it.
    pub(crate) gone: bool,
    /// What is remembered.
    pub(crate) record: &'a PodRecord,
    /// What is known now, by container.
    pub(crate) live: &'a BTreeMap<String, Live>,
    /// Why no sandbox could be made, and when to try again.
    pub(crate) sandbox_trouble: Option<&'a Trouble>,
    /// How long it serves on though it is going; `None` if it does not.
    pub(crate) drain: Option<Drain>,
    /// The time.
    pub(crate) now: Timestamp,
}

/// One container now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Live {
    /// It is being stopped, with this grace.
    pub(crate) stopping: Option<Duration>,
    /// Why it cannot be started.
    pub(crate) trouble: Option<Trouble>,
    /// Its startup probe has succeeded, or it has none.
    pub(crate) started: bool,
    /// Its readiness probe succeeds, or it has none.
    pub(crate) ready: bool,
    /// A probe says that it must be restarted; the event's text.
    pub(crate) unhealthy: Option<Unhealthy>,
}

/// A failed liveness or startup probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unhealthy {
    /// The text of the event about it.
    pub(crate) message: String,
    /// The probe's own grace, if it has one.
    pub(crate) grace: Option<Duration>,
}

/// Why something cannot be started now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// The reason in the status, such as `ErrImagePull`.
    pub(crate) reason: String,
    /// The message in the status.
    pub(crate) message: String,
    /// Failures in a row.
    pub(crate) failures: u32,
    /// When to try again.
    pub(crate) retry_at: Timestamp,
}

/// The restart policies of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    /// Whatever happens.
    Always,
    /// After a failure.
    OnFailure,
    /// Never.
    Never,
}

impl RestartPolicy {
    pub(crate) fn of(spec: &PodSpec) -> Self {
        match spec.restart_policy.as_deref() {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }

    /// Whether a container that ended with this code runs again.
    pub(crate) fn restarts(self, code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => code != 0,
            Self::Never => false,
        }
    }
}

/// An init container that keeps running beside the main ones (a sidecar).
pub(crate) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

impl<'a> PodFacts<'a> {
    /// The pod's spec.
    pub(crate) fn spec(&self) -> Option<&'a PodSpec> {
        self.pod.spec.as_ref()
    }

    pub(crate) fn init_containers(&self) -> &'a [Container] {
        self.spec().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default()
    }

    pub(crate) fn main_containers(&self) -> &'a [Container] {
        self.spec().map(|spec| spec.containers.as_slice()).unwrap_or_default()
    }

    pub(crate) fn policy(&self) -> RestartPolicy {
        self.spec().map_or(RestartPolicy::Always, RestartPolicy::of)
    }

    pub(crate) fn live(&self, container: &str) -> &'a Live {
        static NONE: Live =
            Live { stopping: None, trouble: None, started: false, ready: false, unhealthy: None };
        self.live.get(container).unwrap_or(&NONE)
    }

    /// Whether somebody wants the pod gone.
    pub(crate) fn is_terminating(&self) -> bool {
        self.gone || self.pod.metadata.deletion_timestamp.is_some()
    }

    /// Whether the init containers have done their work.
    pub(crate) fn is_initialized(&self) -> bool {
        let main_ran = self
            .main_containers()
            .iter()
            .any(|container| self.record.container(&container.name).current().is_some());
        main_ran || self.init_containers().iter().all(|container| self.init_done(container))
    }

    /// Whether the next container may start after this init container.
    pub(crate) fn init_done(&self, container: &Container) -> bool {
        let record = self.record.container(&container.name);
        if is_sidecar(container) {
            record.is_running() && self.live(&container.name).started
        } else {
            record.ended().is_some_and(|ended| ended.code == 0)
        }
    }

    /// Whether an init container has failed for good.
    pub(crate) fn init_failed(&self) -> bool {
        self.policy() == RestartPolicy::Never
            && !self.is_initialized()
            && self.init_containers().iter().filter(|c| !is_sidecar(c)).any(|container| {
                let ended = self.record.container(&container.name).ended();
                ended.is_some_and(|ended| ended.code != 0)
            })
    }

    /// Whether nothing of the pod will ever run again.
    pub(crate) fn is_finished(&self) -> bool {
        let reported = self.pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if matches!(reported, Some("Succeeded" | "Failed")) || self.init_failed() {
            return true;
        }
        let main = self.main_containers();
        !main.is_empty()
            && main.iter().all(|container| {
                let ended = self.record.container(&container.name).ended();
                ended.is_some_and(|ended| !self.policy().restarts(ended.code))
            })
    }
}
