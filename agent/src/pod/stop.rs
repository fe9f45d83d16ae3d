//! Ending a container gracefully: the preStop hook, the stop signal, and after the grace, SIGKILL.
//!
//! The end itself is seen where every end is seen, by waiting on the task; this only pushes.
//! Upstream: `kuberuntime_container.go` (`killContainer`).

use std::{path::PathBuf, time::Duration};

use k8s_openapi::api::core::v1::LifecycleHandler;
use tokio::time::Instant;

use crate::probe::{Handler, Outcome, Place, run};

/// A container to be ended.
pub(super) struct Stop {
    pub(super) place: Place,
    /// Folder for the hook's FIFOs.
    pub(super) io: PathBuf,
    pub(super) hook: Option<LifecycleHandler>,
    pub(super) signal: i32,
    pub(super) grace: Duration,
}

/// Least time between the stop signal and SIGKILL, even if the hook took all of the grace.
const LEAST: Duration = Duration::from_secs(2);

/// Pushes until the container is over or was told to by SIGKILL. Answers the text of a failed hook.
pub(super) async fn stop(stop: Stop) -> Option<String> {
    let deadline = Instant::now() + stop.grace;
    let mut complaint = None;
    if let Some(handler) = stop.hook.as_ref().and_then(Handler::of_hook) {
        match run_until(deadline, &handler, &stop).await {
            Outcome::Success => {}
            Outcome::Failure(text) => complaint = Some(text),
        }
    }
    let containerd = &stop.place.containerd;
    let id = &stop.place.id;
    let failed = |error: crate::RuntimeError| {
        tracing::warn!(id, error = crate::error_chain(&error), "cannot signal a container");
    };
    if let Err(error) = containerd.signal(id, stop.signal, false).await {
        failed(error);
    }
    let deadline = if complaint.is_some() || stop.hook.is_some() {
        deadline.max(Instant::now() + LEAST.min(stop.grace))
    } else {
        deadline
    };
    // Waiting beyond the grace is for the worker's own wait.
    if tokio::time::timeout_at(deadline, containerd.wait(id, "")).await.is_err()
        && let Err(error) = containerd.signal(id, libc::SIGKILL, true).await
    {
        failed(error);
    }
    complaint
}

async fn run_until(deadline: Instant, handler: &Handler, stop: &Stop) -> Outcome {
    let limit = deadline.saturating_duration_since(Instant::now());
    let hook = run(handler, &stop.place, &stop.io, limit);
    match tokio::time::timeout(limit, hook).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::Failure("the hook took longer than the grace period".to_owned()),
    }
}

/// A signal by its name or number, as images and pods write it.
pub(super) fn signal_number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    if let Some(offset) = full.strip_prefix("SIGRTMIN+") {
        return offset.parse::<i32>().ok().map(|offset| libc::SIGRTMIN() + offset);
    }
    full.parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
}

#[cfg(test)]
mod tests {
    use super::signal_number;

    #[test]
    fn signals_are_known_by_name_and_number() {
        for (name, number) in [("SIGTERM", 15), ("quit", 3), ("9", 9), ("SIGWINCH", libc::SIGWINCH)]
        {
            assert_eq!(signal_number(name), Some(number), "{name}");
        }
        assert_eq!(signal_number("SIGRTMIN+3"), Some(libc::SIGRTMIN() + 3));
        assert_eq!(signal_number("SIGNOPE"), None);
    }
}
