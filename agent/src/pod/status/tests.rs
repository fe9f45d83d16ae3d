//! Tests of a pod's status: facts in, what kubectl shows out.

use serde_json::json;

use super::*;
use crate::pod::{
    facts::Trouble,
    fixture::{Fixture, at},
    record::Backoff,
};

fn status(fixture: &Fixture) -> PodStatus {
    pod_status(&fixture.facts(), &["192.168.56.70".parse().unwrap()])
}

fn condition_of(status: &PodStatus, kind: &str) -> PodCondition {
    let conditions = status.conditions.clone().unwrap();
    conditions.into_iter().find(|condition| condition.type_ == kind).unwrap()
}

fn holds(status: &PodStatus, kind: &str) -> bool {
    condition_of(status, kind).status == "True"
}

fn state_of(status: &PodStatus, position: usize) -> ContainerState {
    status.container_statuses.clone().unwrap()[position].state.clone().unwrap()
}

fn waiting_reason(status: &PodStatus) -> String {
    state_of(status, 0).waiting.unwrap().reason.unwrap()
}

#[test]
fn a_new_pod_is_pending_and_creating() {
    let status = status(&Fixture::single("Always"));
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    assert_eq!(waiting_reason(&status), "ContainerCreating");
    assert!(!holds(&status, "PodReadyToStartContainers"));
    assert!(holds(&status, "Initialized") && holds(&status, "PodScheduled"));
    let ready = condition_of(&status, "Ready");
    assert_eq!(ready.reason.as_deref(), Some("ContainersNotReady"));
    assert_eq!(ready.message.as_deref(), Some("containers with unready status: [c]"));
    assert_eq!(status.pod_ip, None);
    assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
}

#[test]
fn a_running_pod_is_ready_with_its_address() {
    let status = status(&Fixture::single("Always").with_sandbox().running("c"));
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert!(holds(&status, "Ready") && holds(&status, "ContainersReady"));
    assert_eq!(status.pod_ip.as_deref(), Some("10.244.1.2"));
    assert_eq!(status.host_ip.as_deref(), Some("192.168.56.70"));
    let container = &status.container_statuses.unwrap()[0];
    assert_eq!(container.container_id.as_deref(), Some("containerd://c-0"));
    assert!(container.ready && container.started == Some(true));
}

#[test]
fn a_pod_whose_readiness_fails_runs_but_is_not_ready() {
    let mut fixture = Fixture::single("Always").with_sandbox().running("c");
    fixture.live("c").ready = false;
    let status = status(&fixture);
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert!(!holds(&status, "Ready"));
}

#[test]
fn a_crash_loop_shows_its_pause_and_the_last_end() {
    let mut fixture = Fixture::single("Always").with_sandbox().ended("c", 3, 995);
    fixture.record.containers.get_mut("c").unwrap().backoff =
        Some(Backoff { seconds: 80, updated: at(990) });
    let status = status(&fixture);
    assert_eq!(status.phase.as_deref(), Some("Running"));
    let waiting = state_of(&status, 0).waiting.unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("CrashLoopBackOff"));
    assert_eq!(
        waiting.message.as_deref(),
        Some("back-off 1m20s restarting failed container=c pod=web_default(u1)")
    );
    let last = status.container_statuses.unwrap()[0].last_state.clone().unwrap();
    assert_eq!(last.terminated.unwrap().exit_code, 3);
}

#[test]
fn before_its_first_restart_a_container_shows_its_end() {
    let fixture = Fixture::single("Always").with_sandbox().ended("c", 3, 1000);
    let status = status(&fixture);
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(state_of(&status, 0).terminated.unwrap().exit_code, 3);
}

#[test]
fn a_pod_that_is_going_is_ready_until_its_containers_end() {
    let mut fixture = Fixture::single("Always").with_sandbox().running("c").deleted(30);
    fixture.live("c").stopping = Some(std::time::Duration::from_secs(30));
    let serving = status(&fixture);
    assert!(holds(&serving, "Ready") && serving.container_statuses.unwrap()[0].ready);
    let ended = status(&fixture.ended("c", 0, 1000));
    assert!(!holds(&ended, "Ready") && !ended.container_statuses.unwrap()[0].ready);
}

#[test]
fn a_pod_at_its_end_keeps_the_address_it_had() {
    let mut fixture = Fixture::single("Never").with_sandbox().ended("c", 1, 990);
    fixture.pod.status = Some(status(&fixture));
    fixture.record.sandbox = None;
    let failed = status(&fixture);
    assert_eq!(failed.pod_ip.as_deref(), Some("10.244.1.2"));
    assert_eq!(failed.pod_ips, Some(vec![PodIP { ip: "10.244.1.2".into() }]));
    // One that is to run again will have another one.
    let mut again = Fixture::single("Always").with_sandbox().ended("c", 1, 990);
    again.pod.status = Some(status(&again));
    again.record.sandbox = None;
    assert_eq!(status(&again).pod_ip, None);
}

#[test]
fn a_restarted_container_counts_and_tells_its_last_end() {
    let fixture = Fixture::single("Always").with_sandbox().ended("c", 1, 990).running("c");
    let container = status(&fixture).container_statuses.unwrap().remove(0);
    assert_eq!(container.restart_count, 1);
    assert_eq!(container.last_state.unwrap().terminated.unwrap().exit_code, 1);
}

#[test]
fn ends_decide_the_phase_by_the_restart_policy() {
    for (policy, code, phase) in [
        ("Never", 0, "Succeeded"),
        ("Never", 1, "Failed"),
        ("OnFailure", 0, "Succeeded"),
        ("OnFailure", 1, "Running"),
        ("Always", 0, "Running"),
    ] {
        let fixture = Fixture::single(policy).with_sandbox().ended("c", code, 990);
        assert_eq!(status(&fixture).phase.as_deref(), Some(phase), "{policy} {code}");
    }
    let done = status(&Fixture::single("Never").with_sandbox().ended("c", 0, 990));
    assert_eq!(condition_of(&done, "Ready").reason.as_deref(), Some("PodCompleted"));
    assert_eq!(condition_of(&done, "Initialized").reason.as_deref(), Some("PodCompleted"));
}

#[test]
fn trouble_with_the_image_is_told_where_kubectl_shows_it() {
    let mut fixture = Fixture::single("Always").with_sandbox();
    fixture.live("c").trouble = Some(Trouble {
        reason: "ErrImagePull".into(),
        message: "no such image".into(),
        failures: 1,
        retry_at: at(1010),
    });
    let status = status(&fixture);
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    assert_eq!(waiting_reason(&status), "ErrImagePull");
}

#[test]
fn init_containers_hold_the_main_ones_back() {
    let spec = json!({
        "initContainers": [{"name": "i"}], "containers": [{"name": "c", "image": "x"}],
    });
    let fixture = Fixture::new(spec.clone()).with_sandbox().running("i");
    let initializing = status(&fixture);
    assert_eq!(initializing.phase.as_deref(), Some("Pending"));
    assert_eq!(waiting_reason(&initializing), "PodInitializing");
    let initialized = condition_of(&initializing, "Initialized");
    assert_eq!(initialized.message.as_deref(), Some("containers with incomplete status: [i]"));
    let fixture = Fixture::new(spec).with_sandbox().ended("i", 0, 990).running("c");
    let running = status(&fixture);
    assert_eq!(running.phase.as_deref(), Some("Running"));
    assert!(running.init_container_statuses.unwrap()[0].ready);
}

#[test]
fn times_of_conditions_change_only_with_their_status() {
    let mut fixture = Fixture::single("Always").with_sandbox().running("c");
    let first = status(&fixture);
    fixture.pod.status = Some(first.clone());
    fixture.now = at(2000);
    assert_eq!(status(&fixture), first, "nothing happened, so nothing is to be written");
    fixture.live("c").ready = false;
    let second = status(&fixture);
    assert_eq!(condition_of(&second, "Ready").last_transition_time, Some(Time(at(2000))));
    assert_eq!(condition_of(&second, "Initialized").last_transition_time, Some(Time(at(1000))));
}

#[test]
fn conditions_of_others_are_kept_and_gates_are_heeded() {
    let mut fixture = Fixture::new(json!({
        "containers": [{"name": "c"}], "readinessGates": [{"conditionType": "lb/ready"}],
    }))
    .with_sandbox()
    .running("c");
    let missing = status(&fixture);
    assert_eq!(condition_of(&missing, "Ready").reason.as_deref(), Some("ReadinessGatesNotReady"));
    let theirs = json!({"conditions": [{"type": "lb/ready", "status": "True"}]});
    fixture.pod.status = serde_json::from_value(theirs).unwrap();
    let status = status(&fixture);
    assert!(holds(&status, "Ready") && holds(&status, "lb/ready"));
}

#[test]
fn the_patch_takes_back_an_address_that_is_gone() {
    let patch = status_patch("u1", &status(&Fixture::single("Always"))).unwrap();
    assert_eq!(patch["metadata"]["uid"], "u1");
    assert!(patch["status"]["podIP"].is_null() && patch["status"].get("podIP").is_some());
}
