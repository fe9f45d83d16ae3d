//! Rows of pods in every state that kubectl has a word for.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::{COLUMNS, cells};
use crate::columns::Cell;

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().expect("a time")
}

fn row(metadata: Value, spec: Value, status: Value) -> Vec<String> {
    let mut object = json!({"metadata": metadata, "spec": spec, "status": status});
    object["metadata"]["name"] = json!("web");
    object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    let pod: Pod = serde_json::from_value(object).expect("a Pod");
    let text = |cell| match cell {
        Cell::Text(text) => text,
        Cell::Number(number) => number.to_string(),
    };
    cells(&pod, now()).into_iter().map(text).collect()
}

fn container(state: Value, ready: bool, restarts: i32) -> Value {
    json!({"name": "c", "image": "", "imageID": "", "state": state, "ready": ready,
           "restartCount": restarts})
}

fn one() -> Value {
    json!({"containers": [{"name": "c"}]})
}

/// READY, STATUS and RESTARTS.
fn short(metadata: Value, spec: Value, status: Value) -> [String; 3] {
    let row = row(metadata, spec, status);
    [row[1].clone(), row[2].clone(), row[3].clone()]
}

#[test]
fn a_running_pod_shows_where_it_is() {
    let spec = json!({"containers": [{"name": "c"}], "nodeName": "node-1"});
    let status = json!({
        "phase": "Running", "podIP": "10.244.0.5", "podIPs": [{"ip": "10.244.0.5"}],
        "containerStatuses": [container(json!({"running": {}}), true, 0)],
    });
    let row = row(json!({}), spec, status);
    assert_eq!(
        row,
        ["web", "1/1", "Running", "0", "10m", "10.244.0.5", "node-1", "<none>", "<none>"]
    );
    assert_eq!(row.len(), COLUMNS.len());
}

#[test]
fn a_new_pod_is_pending() {
    let expected = ["0/1", "Pending", "0"];
    assert_eq!(short(json!({}), one(), json!({"phase": "Pending"})), expected);
    let gated = json!({"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]});
    assert_eq!(short(json!({}), one(), gated)[1], "SchedulingGated");
}

#[test]
fn a_container_says_what_keeps_it() {
    for (state, expected) in [
        (json!({"waiting": {"reason": "ContainerCreating"}}), "ContainerCreating"),
        (json!({"waiting": {"reason": "ErrImagePull"}}), "ErrImagePull"),
        (json!({"waiting": {}}), "Running"),
        (json!({"terminated": {"exitCode": 0, "reason": "Completed"}}), "Completed"),
        (json!({"terminated": {"exitCode": 1, "reason": "Error"}}), "Error"),
        (json!({"terminated": {"exitCode": 3}}), "ExitCode:3"),
        (json!({"terminated": {"exitCode": 137, "signal": 9}}), "Signal:9"),
    ] {
        let status = json!({"phase": "Running",
                            "containerStatuses": [container(state.clone(), false, 0)]});
        assert_eq!(short(json!({}), one(), status)[1], expected, "{state}");
    }
}

#[test]
fn restarts_show_when_the_last_one_was() {
    let mut crashed = container(json!({"waiting": {"reason": "CrashLoopBackOff"}}), false, 3);
    crashed["lastState"] =
        json!({"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:09:55Z"}});
    let status = json!({"phase": "Running", "containerStatuses": [crashed]});
    assert_eq!(short(json!({}), one(), status), ["0/1", "CrashLoopBackOff", "3 (5s ago)"]);
}

#[test]
fn the_first_container_with_a_reason_speaks_for_the_pod() {
    let spec = json!({"containers": [{"name": "a"}, {"name": "b"}]});
    let status = |conditions: Value| {
        json!({"phase": "Running", "conditions": conditions, "containerStatuses": [
            container(json!({"terminated": {"exitCode": 0, "reason": "Completed"}}), false, 0),
            container(json!({"running": {}}), true, 0),
        ]})
    };
    let ready = json!([{"type": "Ready", "status": "True"}]);
    assert_eq!(short(json!({}), spec.clone(), status(ready)), ["1/2", "Running", "0"]);
    assert_eq!(short(json!({}), spec, status(json!([]))), ["1/2", "NotReady", "0"]);
}

#[test]
fn init_containers_are_counted_until_they_are_through() {
    let spec =
        json!({"containers": [{"name": "c"}], "initContainers": [{"name": "a"}, {"name": "b"}]});
    let init = |first: Value, second: Value| {
        json!({"phase": "Pending", "initContainerStatuses": [
            {"name": "a", "image": "", "imageID": "", "ready": false, "restartCount": 1, "state": first},
            {"name": "b", "image": "", "imageID": "", "ready": false, "restartCount": 1, "state": second},
        ]})
    };
    let done = json!({"terminated": {"exitCode": 0}});
    let running = json!({"running": {}});
    let waiting = json!({"waiting": {"reason": "PodInitializing"}});
    for (first, second, expected, restarts) in [
        (&running, &waiting, "Init:0/2", "1"),
        (&done, &running, "Init:1/2", "2"),
        (&json!({"terminated": {"exitCode": 2}}), &waiting, "Init:ExitCode:2", "1"),
        (&json!({"terminated": {"exitCode": 2, "reason": "Error"}}), &waiting, "Init:Error", "1"),
        (&json!({"terminated": {"exitCode": 0, "signal": 9}}), &done, "Pending", "0"),
        (
            &json!({"waiting": {"reason": "CrashLoopBackOff"}}),
            &waiting,
            "Init:CrashLoopBackOff",
            "1",
        ),
        (&done, &done, "Pending", "0"),
    ] {
        let found = short(json!({}), spec.clone(), init(first.clone(), second.clone()));
        assert_eq!(found[1..], [expected, restarts], "{first} {second}");
    }
}

#[test]
fn a_sidecar_counts_like_a_container() {
    let spec = json!({"containers": [{"name": "c"}],
                      "initContainers": [{"name": "s", "restartPolicy": "Always"}]});
    let status = json!({
        "phase": "Running",
        "initContainerStatuses": [{"name": "s", "image": "", "imageID": "", "ready": true,
            "started": true, "restartCount": 2, "state": {"running": {}}}],
        "containerStatuses": [container(json!({"running": {}}), true, 0)],
    });
    assert_eq!(short(json!({}), spec, status), ["2/2", "Running", "2"]);
}

#[test]
fn a_deletion_hides_every_other_reason() {
    let leaving = json!({"deletionTimestamp": "2026-01-01T00:09:00Z"});
    let running = json!({"phase": "Running",
                         "containerStatuses": [container(json!({"running": {}}), true, 0)]});
    assert_eq!(short(leaving.clone(), one(), running)[1], "Terminating");
    let lost = json!({"phase": "Running", "reason": "NodeLost"});
    assert_eq!(short(leaving.clone(), one(), lost)[1], "Unknown");
    let finished = json!({"phase": "Succeeded"});
    assert_eq!(short(leaving, one(), finished)[1], "Succeeded");
}

#[test]
fn readiness_gates_are_counted() {
    let spec = json!({"containers": [{"name": "c"}],
                      "readinessGates": [{"conditionType": "a/b"}, {"conditionType": "c/d"}]});
    let status = json!({"phase": "Running", "conditions": [
        {"type": "a/b", "status": "True"}, {"type": "c/d", "status": "False"}]});
    assert_eq!(row(json!({}), spec, status)[8], "1/2");
}
