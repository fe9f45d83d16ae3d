//! A pod's status: pure.
//!
//! Input: the facts of a pod. Output: the whole `status`, and the patch that writes it. Reasons and
//! messages are kubelet's. Upstream: `pkg/kubelet/kubelet_pods.go` (`generateAPIPodStatus`,
//! `getPhase`), `pkg/kubelet/status/generate.go`.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        Container, ContainerState, ContainerStateRunning, ContainerStateTerminated,
        ContainerStateWaiting, ContainerStatus, HostIP, PodCondition, PodIP, PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::{Value, json};

use super::{
    backoff,
    facts::{PodFacts, RestartPolicy, is_sidecar},
    record::{Run, RunState},
};
use crate::spec::qos_class;

/// The status of a pod on a node with these addresses.
pub(crate) fn pod_status(facts: &PodFacts<'_>, host_ips: &[IpAddr]) -> PodStatus {
    let main: Vec<ContainerStatus> =
        facts.main_containers().iter().map(|c| container_status(facts, c, false)).collect();
    let init: Vec<ContainerStatus> =
        facts.init_containers().iter().map(|c| container_status(facts, c, true)).collect();
    let phase = phase(facts, &main);
    let conditions = conditions(facts, &main, &init, phase);
    let previous = facts.pod.status.clone().unwrap_or_default();
    let ips = addresses(facts, host_ips).or_else(|| last_addresses(facts, &previous));
    let ips = ips.unwrap_or_default();
    let host_ip = host_ips.first().map(IpAddr::to_string);
    PodStatus {
        phase: Some(phase.to_owned()),
        conditions: Some(conditions),
        container_statuses: Some(main),
        init_container_statuses: (!init.is_empty()).then_some(init),
        host_ip,
        host_ips: Some(host_ips.iter().map(|ip| HostIP { ip: ip.to_string() }).collect()),
        pod_ip: ips.first().map(|ip| ip.ip.clone()),
        pod_ips: (!ips.is_empty()).then_some(ips),
        qos_class: previous.qos_class.or_else(|| Some(qos_class(facts.pod).to_owned())),
        start_time: previous.start_time.or(Some(Time(facts.record.seen))),
        observed_generation: facts.pod.metadata.generation,
        ..PodStatus::default()
    }
}

/// The addresses of a pod whose sandbox stands.
fn addresses(facts: &PodFacts<'_>, host_ips: &[IpAddr]) -> Option<Vec<PodIP>> {
    let host_network = facts.spec().and_then(|spec| spec.host_network) == Some(true);
    let sandbox = facts.record.sandbox.as_ref()?;
    let ips = if host_network { host_ips } else { &sandbox.ips };
    Some(ips.iter().map(|ip| PodIP { ip: ip.to_string() }).collect())
}

/// The addresses that a pod had when it ended: its status keeps them, though another pod may get
/// them by now. A pod that is to run again waits for new ones. Upstream: `pleg/generic.go`
/// (`getPodIPs`).
fn last_addresses(facts: &PodFacts<'_>, previous: &PodStatus) -> Option<Vec<PodIP>> {
    let over = facts.is_finished() || facts.is_terminating();
    previous.pod_ips.clone().filter(|_| over)
}

/// The merge patch that makes the API's status this one. It names the pod's identity, so that it
/// never lands on a new pod of the same name.
pub(crate) fn status_patch(uid: &str, status: &PodStatus) -> Result<Value, serde_json::Error> {
    let mut document = serde_json::to_value(status)?;
    // What a merge patch leaves out, stays: say what is gone.
    for field in ["podIP", "podIPs", "reason", "message"] {
        if document.get(field).is_none() {
            document[field] = Value::Null;
        }
    }
    Ok(json!({"metadata": {"uid": uid}, "status": document}))
}

fn container_status(facts: &PodFacts<'_>, container: &Container, init: bool) -> ContainerStatus {
    let name = &container.name;
    let record = facts.record.container(name);
    let live = facts.live(name);
    let state = container_state(facts, container, init);
    let current = record.current();
    // The state that `lastState` tells: the run before this one, or this one while it waits.
    let last = if state.waiting.is_some() { current } else { record.previous() };
    let running = state.running.is_some();
    let done = record.ended().is_some_and(|ended| ended.code == 0);
    let ready = if init && !is_sidecar(container) {
        done && state.terminated.is_some()
    } else {
        running && live.started && live.ready
    };
    ContainerStatus {
        name: name.clone(),
        state: Some(state),
        last_state: Some(last.and_then(terminated_state).unwrap_or_default()),
        ready,
        started: Some(running && live.started),
        restart_count: current.map_or(0, |run| i32::try_from(run.attempt).unwrap_or(i32::MAX)),
        image: current
            .map_or_else(|| container.image.clone().unwrap_or_default(), |run| run.image.clone()),
        image_id: current.map_or_else(String::new, |run| run.image_id.clone()),
        container_id: current.map(|run| format!("containerd://{}", run.id)),
        ..ContainerStatus::default()
    }
}

fn container_state(facts: &PodFacts<'_>, container: &Container, init: bool) -> ContainerState {
    let record = facts.record.container(&container.name);
    if let Some(Run { state: RunState::Running { since }, .. }) = record.current() {
        return ContainerState {
            running: Some(ContainerStateRunning { started_at: Some(Time(*since)) }),
            ..ContainerState::default()
        };
    }
    let wanted = !facts.is_terminating() && !facts.is_finished();
    if wanted && let Some(trouble) = &facts.live(&container.name).trouble {
        return waiting(&trouble.reason, Some(trouble.message.clone()));
    }
    match record.ended() {
        None if facts.init_containers().is_empty() => waiting("ContainerCreating", None),
        None => waiting("PodInitializing", None),
        Some(ended) => {
            let restarts = wanted
                && if init {
                    is_sidecar(container) || ended.code != 0
                } else {
                    facts.policy().restarts(ended.code)
                };
            let waits = restarts && backoff::restart_at(record.backoff, ended) > facts.now;
            match backoff::crash_loop_seconds(record.backoff, ended) {
                Some(pause) if waits => {
                    let message = crash_loop_message(facts, &container.name, pause);
                    waiting("CrashLoopBackOff", Some(message))
                }
                _ => terminated_state_of(record.current()),
            }
        }
    }
}

/// kubelet's words for the pause before a restart.
pub(crate) fn crash_loop_message(facts: &PodFacts<'_>, container: &str, pause: i64) -> String {
    let pause = match (pause / 60, pause % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    };
    let pod = full_name(facts);
    format!("back-off {pause} restarting failed container={container} pod={pod}")
}

/// `NAME_NAMESPACE(UID)`, as kubelet writes pods in messages.
pub(crate) fn full_name(facts: &PodFacts<'_>) -> String {
    let metadata = &facts.pod.metadata;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    format!("{}_{}({})", text(&metadata.name), text(&metadata.namespace), text(&metadata.uid))
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting { reason: Some(reason.to_owned()), message }),
        ..ContainerState::default()
    }
}

fn terminated_state_of(run: Option<&Run>) -> ContainerState {
    run.and_then(terminated_state).unwrap_or_default()
}

fn terminated_state(run: &Run) -> Option<ContainerState> {
    let RunState::Ended(ended) = &run.state else { return None };
    let terminated = ContainerStateTerminated {
        exit_code: ended.code,
        reason: Some(ended.reason.clone()),
        message: ended.message.clone(),
        started_at: Some(Time(ended.started.unwrap_or(Timestamp::UNIX_EPOCH))),
        finished_at: Some(Time(ended.finished)),
        container_id: Some(format!("containerd://{}", run.id)),
        signal: None,
    };
    Some(ContainerState { terminated: Some(terminated), ..ContainerState::default() })
}

/// Upstream: `getPhase`.
fn phase(facts: &PodFacts<'_>, main: &[ContainerStatus]) -> &'static str {
    let reported = facts.pod.status.as_ref().and_then(|status| status.phase.as_deref());
    match reported {
        // A pod that has ended never comes back.
        Some("Succeeded") => return "Succeeded",
        Some("Failed") => return "Failed",
        _ => {}
    }
    if facts.init_failed() {
        return "Failed";
    }
    if !facts.is_initialized() {
        return "Pending";
    }
    let state = |status: &ContainerStatus| status.state.clone().unwrap_or_default();
    let stopped: Vec<i32> = main
        .iter()
        .filter_map(|status| {
            let last = status.last_state.clone().unwrap_or_default().terminated;
            let now = state(status);
            let terminated = now.terminated.or(last.filter(|_| now.waiting.is_some()));
            terminated.map(|terminated| terminated.exit_code)
        })
        .collect();
    let running = main.iter().filter(|status| state(status).running.is_some()).count();
    if running + stopped.len() < main.len() {
        return "Pending";
    }
    if running > 0 {
        return "Running";
    }
    let failed = stopped.iter().any(|code| *code != 0);
    match facts.policy() {
        // Once everything has ended in a pod that is going, it does not run again.
        _ if facts.is_terminating() => {
            if failed {
                "Failed"
            } else {
                "Succeeded"
            }
        }
        RestartPolicy::Always => "Running",
        RestartPolicy::OnFailure if failed => "Running",
        RestartPolicy::Never if failed => "Failed",
        RestartPolicy::OnFailure | RestartPolicy::Never => "Succeeded",
    }
}

fn conditions(
    facts: &PodFacts<'_>,
    main: &[ContainerStatus],
    init: &[ContainerStatus],
    phase: &str,
) -> Vec<PodCondition> {
    let known = facts.pod.status.as_ref().and_then(|status| status.conditions.clone());
    let known = known.unwrap_or_default();
    let sandbox = Verdict::when(facts.record.sandbox.is_some(), None, None);
    let (containers, ready) = if phase == "Succeeded" || phase == "Failed" {
        let reason = if phase == "Succeeded" { "PodCompleted" } else { "PodFailed" };
        (Verdict::no(reason, None), Verdict::no(reason, None))
    } else {
        let containers = containers_ready(main, init, facts);
        let ready = pod_ready(facts, &known, &containers);
        (containers, ready)
    };
    let ours = [
        ("PodReadyToStartContainers", sandbox),
        ("Initialized", initialized(facts, init, phase)),
        ("Ready", ready),
        ("ContainersReady", containers),
    ];
    let mut conditions: Vec<PodCondition> =
        ours.into_iter().map(|(kind, verdict)| condition(facts, &known, kind, verdict)).collect();
    // Conditions of others stay as they are; being here means having been scheduled.
    let is_ours =
        |kind: &str| conditions.iter().any(|condition: &PodCondition| condition.type_ == kind);
    let others: Vec<PodCondition> = known.iter().filter(|c| !is_ours(&c.type_)).cloned().collect();
    conditions.extend(others);
    if !conditions.iter().any(|condition| condition.type_ == "PodScheduled") {
        let verdict = Verdict::when(true, None, None);
        conditions.push(condition(facts, &known, "PodScheduled", verdict));
    }
    conditions
}

/// Whether a condition holds, and why not.
struct Verdict {
    holds: bool,
    reason: Option<String>,
    message: Option<String>,
}

impl Verdict {
    fn when(holds: bool, reason: Option<&str>, message: Option<String>) -> Self {
        Self { holds, reason: reason.map(str::to_owned).filter(|_| !holds), message }
    }

    fn no(reason: &str, message: Option<String>) -> Self {
        Self { holds: false, reason: Some(reason.to_owned()), message }
    }
}

fn initialized(facts: &PodFacts<'_>, init: &[ContainerStatus], phase: &str) -> Verdict {
    if facts.is_initialized() {
        let reason = (phase == "Succeeded").then(|| "PodCompleted".to_owned());
        return Verdict { holds: true, reason, message: None };
    }
    let incomplete: Vec<&str> = facts
        .init_containers()
        .iter()
        .zip(init)
        .filter(|(container, _)| !facts.init_done(container))
        .map(|(_, status)| status.name.as_str())
        .collect();
    let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
    Verdict::no("ContainersNotInitialized", Some(message))
}

fn containers_ready(
    main: &[ContainerStatus],
    init: &[ContainerStatus],
    facts: &PodFacts<'_>,
) -> Verdict {
    let sidecars =
        facts.init_containers().iter().zip(init).filter(|(c, _)| is_sidecar(c)).map(|(_, s)| s);
    let unready: Vec<&str> =
        sidecars.chain(main).filter(|s| !s.ready).map(|s| s.name.as_str()).collect();
    if unready.is_empty() {
        return Verdict::when(true, None, None);
    }
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    Verdict::no("ContainersNotReady", Some(message))
}

fn pod_ready(facts: &PodFacts<'_>, known: &[PodCondition], containers: &Verdict) -> Verdict {
    if !containers.holds {
        let reason = containers.reason.as_deref().unwrap_or("ContainersNotReady");
        return Verdict::no(reason, containers.message.clone());
    }
    let gates = facts.spec().and_then(|spec| spec.readiness_gates.as_deref()).unwrap_or_default();
    for gate in gates {
        let kind = &gate.condition_type;
        match known.iter().find(|condition| condition.type_ == *kind) {
            Some(condition) if condition.status == "True" => {}
            Some(_) => {
                let message =
                    format!("the status of pod readiness gate {kind:?} is not \"True\", but False");
                return Verdict::no("ReadinessGatesNotReady", Some(message));
            }
            None => {
                let message = format!(
                    "corresponding condition of pod readiness gate {kind:?} does not exist."
                );
                return Verdict::no("ReadinessGatesNotReady", Some(message));
            }
        }
    }
    Verdict::when(true, None, None)
}

fn condition(
    facts: &PodFacts<'_>,
    known: &[PodCondition],
    kind: &str,
    verdict: Verdict,
) -> PodCondition {
    let status = if verdict.holds { "True" } else { "False" };
    let before = known.iter().find(|condition| condition.type_ == kind);
    // The time of the last change stays while the status does.
    let since = before
        .filter(|condition| condition.status == status)
        .and_then(|condition| condition.last_transition_time.clone());
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason,
        message: verdict.message,
        last_transition_time: Some(since.unwrap_or(Time(facts.now))),
        observed_generation: facts.pod.metadata.generation,
        ..PodCondition::default()
    }
}

#[cfg(test)]
mod tests;
