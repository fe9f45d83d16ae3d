//! Asking containers how they are: probes, and the handlers of life cycle hooks.
//!
//! Inputs: a handler and where the container is. Outputs: [`Outcome`]s, and for probes the changes
//! that matter to the pod ([`Verdict`]). Upstream: `pkg/kubelet/prober`, `pkg/probe`. Deliberately
//! not here: what a failed probe means for the container (`pod/plan.rs`).

mod counter;
mod handler;

use std::{path::PathBuf, time::Duration};

use k8s_openapi::api::core::v1::{Container, Probe};
use tokio::sync::mpsc;

pub(crate) use counter::{Counter, Verdict};
pub(crate) use handler::{Handler, Outcome, Place, run};

/// Which probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Has the container come up?
    Startup,
    /// May it get traffic?
    Readiness,
    /// Must it be restarted?
    Liveness,
}

impl Kind {
    /// As in events.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }

    /// The probe of this kind that a container has.
    pub(crate) fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
        }
    }
}

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Which probe.
    pub(crate) kind: Kind,
    /// Enough successes or failures in a row, if so.
    pub(crate) verdict: Option<Verdict>,
    /// The text of a failure.
    pub(crate) failure: Option<String>,
}

/// Probes a container again and again; ends when the receiver is gone or, for a startup probe,
/// with its verdict.
pub(crate) async fn watch(
    kind: Kind,
    probe: Probe,
    place: Place,
    io: PathBuf,
    findings: mpsc::Sender<Finding>,
) {
    let seconds = |value: Option<i32>, default: u64| {
        Duration::from_secs(value.and_then(|v| u64::try_from(v).ok()).unwrap_or(default))
    };
    let Some(handler) = Handler::of_probe(&probe) else { return };
    tokio::time::sleep(seconds(probe.initial_delay_seconds, 0)).await;
    let limit = seconds(probe.timeout_seconds, 1).max(Duration::from_secs(1));
    let mut counter = Counter::new(kind, &probe);
    let period = seconds(probe.period_seconds, 10).max(Duration::from_secs(1));
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let outcome = run(&handler, &place, &io, limit).await;
        let verdict = counter.count(outcome.is_success());
        let failure = match outcome {
            Outcome::Success => None,
            Outcome::Failure(text) => Some(text),
        };
        let over = kind == Kind::Startup && verdict.is_some();
        let silent = verdict.is_none() && failure.is_none();
        if !silent && findings.send(Finding { kind, verdict, failure }).await.is_err() || over {
            return;
        }
    }
}
