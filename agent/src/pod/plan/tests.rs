//! Tests of the plan: facts in, steps out.

use serde_json::json;

use super::*;
use crate::pod::{
    facts::{Trouble, Unhealthy},
    fixture::{Fixture, at},
    record::Backoff,
};

fn start(container: &str) -> Step {
    Step::Start { container: container.to_owned() }
}

fn steps(fixture: &Fixture) -> Vec<Step> {
    plan(&fixture.facts()).steps
}

fn with_init() -> Fixture {
    Fixture::new(json!({
        "restartPolicy": "Always",
        "initContainers": [{"name": "i1"}, {"name": "side", "restartPolicy": "Always"}, {"name": "i2"}],
        "containers": [{"name": "a"}, {"name": "b"}],
    }))
    .with_sandbox()
}

#[test]
fn a_new_pod_gets_its_sandbox_then_its_containers() {
    assert_eq!(steps(&Fixture::single("Always")), [Step::CreateSandbox, start("c")]);
}

#[test]
fn a_running_pod_needs_nothing() {
    let fixture = Fixture::single("Always").with_sandbox().running("c");
    assert_eq!(plan(&fixture.facts()), Plan::default());
}

#[test]
fn a_failed_sandbox_is_tried_again_later() {
    let mut fixture = Fixture::single("Always");
    fixture.sandbox_trouble = Some(Trouble {
        reason: "FailedCreatePodSandBox".into(),
        message: String::new(),
        failures: 1,
        retry_at: at(1010),
    });
    assert_eq!(plan(&fixture.facts()), Plan { steps: vec![], wake: Some(at(1010)) });
    fixture.now = at(1010);
    assert_eq!(steps(&fixture), [Step::CreateSandbox, start("c")]);
}

#[test]
fn init_containers_run_one_after_the_other_and_sidecars_stay() {
    assert_eq!(steps(&with_init()), [start("i1")]);
    assert_eq!(steps(&with_init().running("i1")), []);
    let first_done = || with_init().ended("i1", 0, 990);
    assert_eq!(steps(&first_done()), [start("side")]);
    assert_eq!(steps(&first_done().running("side")), [start("i2")]);
    let all_done = || first_done().running("side").ended("i2", 0, 995);
    assert_eq!(steps(&all_done()), [start("a"), start("b")]);
    assert_eq!(steps(&all_done().running("a").running("b")), []);
    // A sidecar that dies comes back without the init containers running again.
    let dead = all_done().running("a").running("b").ended("side", 1, 999);
    assert_eq!(steps(&dead), [start("side")]);
}

#[test]
fn a_sidecar_whose_startup_probe_has_not_succeeded_holds_the_others_up() {
    let mut fixture = with_init().ended("i1", 0, 990).running("side");
    fixture.live("side").started = false;
    assert_eq!(steps(&fixture), []);
}

#[test]
fn a_failed_init_container_runs_again_unless_the_policy_is_never() {
    let fixture = with_init().ended("i1", 1, 990);
    assert_eq!(steps(&fixture), [start("i1")]);
    let mut never = with_init().ended("i1", 1, 990);
    never.pod.spec.as_mut().unwrap().restart_policy = Some("Never".into());
    assert_eq!(steps(&never), [Step::TearDown]);
}

#[test]
fn the_restart_policy_decides_what_runs_again() {
    for (policy, code, restarts) in [
        ("Always", 0, true),
        ("Always", 1, true),
        ("OnFailure", 0, false),
        ("OnFailure", 1, true),
        ("Never", 1, false),
    ] {
        let fixture = Fixture::single(policy).with_sandbox().ended("c", code, 990);
        let expected = if restarts { start("c") } else { Step::TearDown };
        assert_eq!(steps(&fixture), [expected], "{policy} {code}");
    }
}

#[test]
fn the_first_restart_leaves_a_moment_for_a_deletion() {
    let just_ended = Fixture::single("Always").with_sandbox().ended("c", 0, 1000);
    assert_eq!(plan(&just_ended.facts()), Plan { steps: vec![], wake: Some(at(1001)) });
    let deleted = just_ended.deleted(30);
    assert_eq!(steps(&deleted), [Step::TearDown, Step::Finish]);
}

#[test]
fn a_crash_loop_waits_for_its_pause() {
    let mut fixture = Fixture::single("Always").with_sandbox().ended("c", 1, 995);
    fixture.record.containers.get_mut("c").unwrap().backoff =
        Some(Backoff { seconds: 20, updated: at(990) });
    assert_eq!(plan(&fixture.facts()), Plan { steps: vec![], wake: Some(at(1015)) });
    fixture.now = at(1015);
    assert_eq!(steps(&fixture), [start("c")]);
}

#[test]
fn a_missing_image_is_looked_for_again_at_its_time() {
    let mut fixture = Fixture::single("Always").with_sandbox();
    fixture.live("c").trouble = Some(Trouble {
        reason: "ErrImagePull".into(),
        message: String::new(),
        failures: 1,
        retry_at: at(1010),
    });
    assert_eq!(plan(&fixture.facts()), Plan { steps: vec![], wake: Some(at(1010)) });
}

#[test]
fn deletion_stops_then_tears_down_then_tells_the_api() {
    let running = Fixture::single("Always").with_sandbox().running("c").deleted(30);
    let stop_in = |seconds| Step::Stop {
        container: "c".into(),
        grace: Duration::from_secs(seconds),
        message: "Stopping container c".into(),
    };
    assert_eq!(steps(&running), [stop_in(30)]);
    let mut stopping = Fixture::single("Always").with_sandbox().running("c").deleted(30);
    stopping.live("c").stopping = Some(Duration::from_secs(30));
    assert_eq!(steps(&stopping), []);
    // A forced deletion overrules the longer grace.
    stopping.pod.metadata.deletion_grace_period_seconds = Some(0);
    assert_eq!(steps(&stopping), [stop_in(1)]);
    let dead = Fixture::single("Always").with_sandbox().ended("c", 137, 999).deleted(30);
    assert_eq!(steps(&dead), [Step::TearDown, Step::Finish]);
    let mut clean = Fixture::single("Always").deleted(30);
    assert_eq!(steps(&clean), [Step::Finish]);
    clean.gone = true;
    assert_eq!(steps(&clean), [Step::Forget]);
}

#[test]
fn sidecars_end_after_the_main_containers() {
    let stopped = |fixture: &Fixture| -> Vec<String> {
        let named = |step| match step {
            Step::Stop { container, .. } => Some(container),
            _ => None,
        };
        steps(fixture).into_iter().filter_map(named).collect()
    };
    let running = with_init().ended("i1", 0, 990).running("side").ended("i2", 0, 991);
    let running = running.running("a").running("b").deleted(30);
    assert_eq!(stopped(&running), ["a", "b"]);
    let last = with_init().running("side").ended("a", 0, 999).deleted(30);
    assert_eq!(stopped(&last), ["side"]);
}

#[test]
fn an_unhealthy_container_is_stopped_once() {
    let mut fixture = Fixture::single("Always").with_sandbox().running("c");
    fixture.live("c").unhealthy = Some(Unhealthy {
        message: "Container c failed liveness probe, will be restarted".into(),
        grace: Some(Duration::from_secs(5)),
    });
    assert!(matches!(&steps(&fixture)[..], [Step::Stop { grace, .. }] if grace.as_secs() == 5));
    fixture.live("c").stopping = Some(Duration::from_secs(5));
    assert_eq!(steps(&fixture), []);
}

#[test]
fn a_pod_that_the_api_calls_finished_is_left_alone() {
    let mut fixture = Fixture::single("Always");
    fixture.pod.status = serde_json::from_value(json!({"phase": "Failed"})).unwrap();
    assert_eq!(steps(&fixture), []);
}

proptest::proptest! {
    /// Whatever a pod's containers did, following the plan with containers that succeed leads to
    /// an empty plan.
    #[test]
    fn following_the_plan_converges(
        policy in proptest::sample::select(vec!["Always", "OnFailure", "Never"]),
        codes in proptest::collection::vec(0..3_i32, 0..3),
        deleted: bool,
    ) {
        let mut fixture = Fixture::single(policy).with_sandbox();
        for (second, code) in (900..).zip(codes) {
            fixture = fixture.ended("c", code, second);
        }
        if deleted {
            fixture = fixture.running("c").deleted(1);
        }
        let mut finished = false;
        for _ in 0..12 {
            let plan = plan(&fixture.facts());
            if plan.steps.is_empty() || finished {
                finished = true;
                break;
            }
            for step in plan.steps {
                match step {
                    Step::CreateSandbox => fixture = fixture.with_sandbox(),
                    Step::Start { container } => fixture = fixture.running(&container),
                    Step::Stop { container, .. } => fixture = fixture.ended(&container, 137, 1001),
                    Step::TearDown => {
                        fixture.record.sandbox = None;
                        if deleted {
                            fixture.record.containers.clear();
                        }
                    }
                    Step::Finish | Step::Forget => finished = true,
                }
            }
        }
        proptest::prop_assert!(finished);
    }
}

fn draining() -> Fixture {
    let mut fixture = Fixture::single("Always").with_sandbox().running("c").deleted(30);
    let takes = Duration::from_millis(500);
    fixture.drain = Some(crate::pod::drain::Drain { until: at(1001), takes });
    fixture
}

#[test]
fn a_pod_that_drains_is_stopped_at_the_end_of_it_with_the_rest_of_its_grace() {
    let mut fixture = draining();
    assert_eq!(plan(&fixture.facts()), Plan { steps: vec![], wake: Some(at(1001)) });
    fixture.now = at(1001);
    let Step::Stop { grace, .. } = &steps(&fixture)[0] else { panic!("no stop") };
    assert_eq!(*grace, Duration::from_millis(29_500));
}

#[test]
fn whoever_loses_patience_ends_a_drain() {
    let forced = draining().deleted(0);
    assert_eq!(steps(&forced).len(), 1, "{:?}", steps(&forced));
    let mut gone = draining();
    gone.gone = true;
    assert_eq!(steps(&gone).len(), 1);
    let ended = Fixture::single("Never").with_sandbox().ended("c", 0, 990).deleted(30);
    let mut nothing_runs = ended;
    nothing_runs.drain = draining().drain;
    assert_eq!(steps(&nothing_runs), [Step::TearDown, Step::Finish]);
}
