//! What silence, taints and time do to nodes and their pods.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::write::Write;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn node(ready: Option<&str>, change: impl FnOnce(&mut Value)) -> Node {
    let mut node = json!({
        "metadata": { "name": "n", "uid": "n" },
        "spec": {},
        "status": { "conditions": [] },
    });
    if let Some(ready) = ready {
        node["status"]["conditions"] = json!([
            { "type": "Ready", "status": ready, "lastHeartbeatTime": "2026-01-01T00:00:00Z" },
        ]);
    }
    change(&mut node);
    serde_json::from_value(node).unwrap()
}

fn taints(node: &Node, cut_off: bool) -> Option<Vec<String>> {
    let Write::Patch { body, .. } = plan::taints(node, cut_off, at(7))? else { panic!() };
    let taints = body["spec"]["taints"].as_array().unwrap();
    let text = |taint: &Value| {
        format!("{}:{}", taint["key"].as_str().unwrap(), taint["effect"].as_str().unwrap())
    };
    Some(taints.iter().map(text).collect())
}

#[test]
fn conditions_become_taints_and_go_with_them() {
    let not_ready = "node.kubernetes.io/not-ready";
    let unreachable = "node.kubernetes.io/unreachable";
    let both = |key: &str| Some(vec![format!("{key}:NoSchedule"), format!("{key}:NoExecute")]);
    assert_eq!(taints(&node(Some("True"), |_| {}), false), None);
    assert_eq!(taints(&node(Some("False"), |_| {}), false), both(not_ready));
    assert_eq!(taints(&node(Some("Unknown"), |_| {}), false), both(unreachable));
    let alone = Some(vec![format!("{unreachable}:NoSchedule")]);
    assert_eq!(taints(&node(Some("Unknown"), |_| {}), true), alone, "when all nodes are silent");
    let recovered = node(Some("True"), |n| {
        n["spec"]["taints"] = json!([
            { "key": unreachable, "effect": "NoSchedule" },
            { "key": unreachable, "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z" },
            { "key": "mine", "effect": "NoSchedule" },
        ]);
    });
    assert_eq!(taints(&recovered, false), Some(vec!["mine:NoSchedule".to_owned()]));
    let cordoned = node(Some("True"), |n| n["spec"]["unschedulable"] = true.into());
    let word = Some(vec!["node.kubernetes.io/unschedulable:NoSchedule".to_owned()]);
    assert_eq!(taints(&cordoned, false), word);
}

#[test]
fn a_new_node_keeps_the_taint_it_was_made_with_until_it_speaks() {
    let made = |ready: Option<&str>| {
        node(ready, |n| {
            let taint = json!({ "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" });
            n["spec"]["taints"] = json!([taint]);
        })
    };
    assert_eq!(taints(&made(None), false), None);
    assert_eq!(taints(&made(Some("True")), false), Some(vec![]));
}

#[test]
fn a_taint_put_by_hand_gets_the_time_from_which_evictions_count() {
    let by_hand = node(Some("True"), |n| {
        n["spec"]["taints"] = json!([{ "key": "k", "effect": "NoExecute" }]);
    });
    let Some(Write::Patch { body, .. }) = plan::taints(&by_hand, false, at(0)) else { panic!() };
    assert_eq!(body["spec"]["taints"][0]["timeAdded"], "1970-01-01T00:00:00Z");
}

#[test]
fn silence_makes_conditions_unknown_once() {
    let silent = node(Some("True"), |_| {});
    let Some(Write::Patch { body, .. }) = plan::unknown(&silent, at(9)) else { panic!() };
    let reasons: Vec<&str> = body["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|condition| condition["reason"].as_str().unwrap())
        .collect();
    assert_eq!(reasons[0], "NodeStatusUnknown", "Ready was known once");
    assert_eq!(reasons[1..], ["NodeStatusNeverUpdated"; 3]);
    let told = node(None, |n| n["status"]["conditions"] = body["status"]["conditions"].clone());
    assert_eq!(plan::unknown(&told, at(10)), None);
}

fn pod(tolerations: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": { "name": "p", "namespace": "shop", "uid": "p" },
        "spec": { "nodeName": "n", "containers": [], "tolerations": tolerations },
    }))
    .unwrap()
}

/// What becomes of the pod 100 s after a taint of this key came: removed, or looked at after so
/// many seconds, or left alone.
fn fate(key: &str, tolerations: Value) -> Result<&'static str, u64> {
    let tainted = node(Some("Unknown"), |n| {
        n["spec"]["taints"] = json!([
            { "key": key, "effect": "NoExecute", "timeAdded": "1970-01-01T00:00:00Z" },
        ]);
    });
    let plan = evict::plan(&pod(tolerations), &tainted, at(100));
    match (plan.writes.iter().any(|w| matches!(w, Write::Delete { .. })), plan.recheck) {
        (true, None) => Ok("removed"),
        (false, None) => Ok("left"),
        (false, Some(wait)) => Err(wait.as_secs()),
        (true, Some(_)) => panic!("both removed and looked at again"),
    }
}

#[test]
fn pods_leave_when_their_toleration_ends() {
    let unreachable = "node.kubernetes.io/unreachable";
    let tolerate = |seconds: Option<i64>| json!([{ "key": unreachable, "operator": "Exists", "tolerationSeconds": seconds }]);
    assert_eq!(fate(unreachable, tolerate(Some(300))), Err(200));
    assert_eq!(fate(unreachable, tolerate(Some(60))), Ok("removed"));
    assert_eq!(fate(unreachable, tolerate(None)), Ok("left"));
    assert_eq!(fate(unreachable, json!([])), Err(200), "five minutes unless said otherwise");
    assert_eq!(fate("other", json!([])), Ok("removed"));
    assert_eq!(fate("other", json!([{ "operator": "Exists" }])), Ok("left"));
}

#[test]
fn pods_of_a_node_that_is_not_ready_are_not_ready() {
    let ready: Pod = {
        let mut value = serde_json::to_value(pod(json!([]))).unwrap();
        value["status"] = json!({ "conditions": [{ "type": "Ready", "status": "True" }] });
        serde_json::from_value(value).unwrap()
    };
    let pods = [Arc::new(ready), Arc::new(pod(json!([])))];
    let writes = plan::pods_not_ready(&node(Some("Unknown"), |_| {}), &pods, at(1));
    let patches = writes.iter().filter(|write| matches!(write, Write::Patch { .. })).count();
    assert_eq!(patches, 1, "only the one that was ready: {writes:?}");
    let events: Vec<String> = writes
        .iter()
        .filter_map(|write| match write {
            Write::Event(occurrence) => Some(occurrence.message.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(events, ["Node n status is now: NodeNotReady", "Node is not ready"]);
    assert!(plan::pods_not_ready(&node(Some("True"), |_| {}), &pods, at(1)).is_empty());
}
