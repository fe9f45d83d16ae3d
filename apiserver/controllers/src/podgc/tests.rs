//! Which pods nobody else removes.

use serde_json::{Value, json};

use super::*;

fn pod(node: Option<&str>, going: bool, phase: &str) -> Pod {
    let mut value = json!({
        "metadata": { "name": "p", "namespace": "shop", "uid": "p" },
        "spec": { "containers": [], "nodeName": node },
        "status": { "phase": phase },
    });
    if going {
        value["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    }
    serde_json::from_value(value).unwrap()
}

fn node(ready: &str, taints: Value) -> Node {
    serde_json::from_value(json!({
        "metadata": { "name": "n" },
        "spec": { "taints": taints },
        "status": { "conditions": [{ "type": "Ready", "status": ready }] },
    }))
    .unwrap()
}

#[test]
fn only_pods_that_are_to_go_and_that_no_node_ends_are_removed() {
    let now = Timestamp::UNIX_EPOCH;
    let out = json!([{ "key": OUT_OF_SERVICE, "effect": "NoExecute" }]);
    let (fine, broken) = (node("True", json!([])), node("Unknown", out.clone()));
    let revived = node("True", out);
    let cases = [
        ("never bound", pod(None, true, "Pending"), None, true),
        ("never bound, wanted", pod(None, false, "Pending"), None, false),
        ("bound", pod(Some("n"), true, "Running"), Some(&fine), false),
        ("on a node out of service", pod(Some("n"), true, "Running"), Some(&broken), true),
        ("there, but wanted", pod(Some("n"), false, "Running"), Some(&broken), false),
        ("there, and the node is back", pod(Some("n"), true, "Running"), Some(&revived), false),
        ("on a node that is gone", pod(Some("n"), true, "Running"), None, false),
    ];
    for (what, pod, node, removed) in cases {
        let plan = plan_pod(&pod, node, now);
        let removes =
            plan.writes.iter().any(|write| matches!(write, Write::Delete { grace: Some(0), .. }));
        assert_eq!(removes, removed, "{what}");
    }
}

#[test]
fn a_pod_that_runs_is_marked_failed_first_and_one_that_ended_is_not() {
    let now = Timestamp::UNIX_EPOCH;
    let running = fail_and_remove(&pod(Some("n"), false, "Running"), Some("why"), now);
    let [Write::Patch { body, .. }, Write::Delete { .. }] = running.as_slice() else {
        panic!("{running:?}")
    };
    assert_eq!(body["status"]["phase"], "Failed");
    assert_eq!(body["status"]["conditions"][0]["message"], "why");
    let ended = fail_and_remove(&pod(Some("n"), false, "Succeeded"), Some("why"), now);
    assert_eq!(ended.len(), 1);
}
