//! What to do next for a pod: pure.
//!
//! Expected flow: observe, [`plan`], execute the steps in order, write the status, wait for news or
//! for the plan's `wake`. Guarantees: the same facts give the same plan; a pod whose steps are all
//! done gives an empty plan. Upstream: `kuberuntime_manager.go` (`computePodActions`).

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;

use super::{
    backoff,
    facts::{PodFacts, is_sidecar},
};

/// Seconds of grace of a pod that does not say, as the API's default.
const DEFAULT_GRACE: i64 = 30;
/// The least grace, as kubelet's: even a forced deletion lets a process see its end.
const LEAST_GRACE: i64 = 1;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make namespaces, address and files of the pod.
    CreateSandbox,
    /// Run a container.
    Start {
        /// Which.
        container: String,
    },
    /// End a container.
    Stop {
        /// Which.
        container: String,
        /// How long it may take.
        grace: Duration,
        /// The event's text.
        message: String,
    },
    /// Remove containers, sandbox and volumes of a pod that will not run again.
    TearDown,
    /// Tell the API that nothing is left of the pod.
    Finish,
    /// Forget a pod that the API has forgotten.
    Forget,
}

/// The steps to take now, and when to look again if nothing happens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// In order.
    pub(crate) steps: Vec<Step>,
    /// The time at which facts change by themselves.
    pub(crate) wake: Option<Timestamp>,
}

/// Decides what to do next.
pub(crate) fn plan(facts: &PodFacts<'_>) -> Plan {
    if facts.is_terminating() {
        return terminate(facts);
    }
    if facts.is_finished() {
        return wind_down(facts);
    }
    let mut plan = Plan::default();
    stop_unhealthy(facts, &mut plan);
    if initialize(facts, &mut plan) {
        for container in facts.main_containers() {
            start_if_due(facts, container, &mut plan);
        }
    }
    let starts = plan.steps.iter().any(|step| matches!(step, Step::Start { .. }));
    if starts && facts.record.sandbox.is_none() {
        match facts.sandbox_trouble {
            Some(trouble) if trouble.retry_at > facts.now => {
                plan.steps.retain(|step| !matches!(step, Step::Start { .. }));
                wake_at(&mut plan, trouble.retry_at);
            }
            _ => plan.steps.insert(0, Step::CreateSandbox),
        }
    }
    plan
}

/// Ends everything, then reports it.
fn terminate(facts: &PodFacts<'_>) -> Plan {
    let mut plan = Plan::default();
    if let Some(until) = serves_until(facts) {
        wake_at(&mut plan, until);
        return plan;
    }
    let grace = termination_grace(facts);
    let is_helping = |name: &str| facts.init_containers().iter().any(|init| init.name == name);
    let main_runs = facts.record.containers.iter().any(|(n, c)| c.is_running() && !is_helping(n));
    for (name, container) in &facts.record.containers {
        // Sidecars help the main containers to their end.
        if main_runs && is_helping(name) {
            continue;
        }
        let stopping = facts.live(name).stopping;
        // A shorter grace than before overrules it: somebody lost patience.
        if container.is_running() && stopping.is_none_or(|before| grace < before) {
            plan.steps.push(stop(name, grace));
        }
    }
    if facts.record.any_running() {
        return plan;
    }
    if facts.record.sandbox.is_some() || !facts.record.containers.is_empty() {
        plan.steps.push(Step::TearDown);
    }
    plan.steps.push(if facts.gone { Step::Forget } else { Step::Finish });
    plan
}

/// A pod at its end keeps its record and logs; what costs something goes.
fn wind_down(facts: &PodFacts<'_>) -> Plan {
    let mut plan = Plan::default();
    for (name, container) in &facts.record.containers {
        if container.is_running() && facts.live(name).stopping.is_none() {
            plan.steps.push(stop(name, pod_grace(facts)));
        }
    }
    if !facts.record.any_running() && facts.record.sandbox.is_some() {
        plan.steps.push(Step::TearDown);
    }
    plan
}

/// The end of a drain that still goes on. Somebody who lost patience ends it.
fn serves_until(facts: &PodFacts<'_>) -> Option<Timestamp> {
    let until = facts.drain?.until;
    let hurry = facts.gone || facts.pod.metadata.deletion_grace_period_seconds == Some(0);
    (until > facts.now && !hurry && facts.record.any_running()).then_some(until)
}

fn stop(container: &str, grace: Duration) -> Step {
    let message = format!("Stopping container {container}");
    Step::Stop { container: container.to_owned(), grace, message }
}

fn termination_grace(facts: &PodFacts<'_>) -> Duration {
    let seconds = facts.pod.metadata.deletion_grace_period_seconds;
    let all = seconds.map_or_else(|| pod_grace(facts), grace);
    let drained = facts.drain.map_or(Duration::ZERO, |drain| drain.takes);
    all.saturating_sub(drained).max(grace(LEAST_GRACE))
}

fn pod_grace(facts: &PodFacts<'_>) -> Duration {
    let seconds = facts.spec().and_then(|spec| spec.termination_grace_period_seconds);
    grace(seconds.unwrap_or(DEFAULT_GRACE))
}

fn grace(seconds: i64) -> Duration {
    Duration::from_secs(seconds.max(LEAST_GRACE).unsigned_abs())
}

fn stop_unhealthy(facts: &PodFacts<'_>, plan: &mut Plan) {
    for container in facts.init_containers().iter().chain(facts.main_containers()) {
        let live = facts.live(&container.name);
        let Some(unhealthy) = &live.unhealthy else { continue };
        if facts.record.container(&container.name).is_running() && live.stopping.is_none() {
            plan.steps.push(Step::Stop {
                container: container.name.clone(),
                grace: unhealthy.grace.unwrap_or_else(|| pod_grace(facts)),
                message: unhealthy.message.clone(),
            });
        }
    }
}

/// Runs the init containers one after the other; answers whether the main ones may start.
fn initialize(facts: &PodFacts<'_>, plan: &mut Plan) -> bool {
    let initialized = facts.is_initialized();
    for container in facts.init_containers() {
        if is_sidecar(container) {
            // A sidecar is kept running all through the pod's life.
            start_if_due(facts, container, plan);
        } else if !initialized && !facts.init_done(container) {
            let ended = facts.record.container(&container.name).ended();
            // An init container that failed runs again also where a main one would not.
            if ended.is_none_or(|ended| ended.code != 0) {
                start_if_due(facts, container, plan);
            }
        }
        if !initialized && !facts.init_done(container) {
            return false;
        }
    }
    true
}

/// Starts a container that is not running, should be, and has waited long enough.
fn start_if_due(facts: &PodFacts<'_>, container: &Container, plan: &mut Plan) {
    let name = &container.name;
    let record = facts.record.container(name);
    if record.is_running() {
        return;
    }
    let trouble_until = facts.live(name).trouble.as_ref().map(|trouble| trouble.retry_at);
    let backoff_until = match record.ended() {
        Some(ended) => {
            let init = facts.init_containers().iter().any(|init| init.name == *name);
            if !init && !facts.policy().restarts(ended.code) {
                return;
            }
            Some(backoff::restart_at(record.backoff, ended))
        }
        None => None,
    };
    match trouble_until.max(backoff_until).filter(|until| *until > facts.now) {
        Some(until) => wake_at(plan, until),
        None => plan.steps.push(Step::Start { container: name.clone() }),
    }
}

fn wake_at(plan: &mut Plan, time: Timestamp) {
    plan.wake = Some(plan.wake.map_or(time, |known| known.min(time)));
}

#[cfg(test)]
mod tests;
