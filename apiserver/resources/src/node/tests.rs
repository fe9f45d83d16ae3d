//! Nodes: taints, ranges, and the row that shows the machine.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use super::Nodes;
use crate::columns::Cell;
use crate::strategy::Strategy;

fn node(object: Value) -> Node {
    let mut node = serde_json::from_value(object).expect("a Node");
    Strategy::default(&Nodes, &mut node);
    node
}

fn problems(object: Value) -> Vec<String> {
    Nodes.validate(&node(object)).iter().map(ToString::to_string).collect()
}

fn row(object: Value) -> Vec<String> {
    let cells = Nodes.cells(&node(object), Timestamp::UNIX_EPOCH);
    let text = |cell| match cell {
        Cell::Text(text) => text,
        Cell::Number(number) => number.to_string(),
    };
    cells.into_iter().map(text).collect()
}

#[test]
fn a_row_shows_the_machine() {
    let object = json!({
        "metadata": {"name": "node-1", "labels": {
            "node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "edge"}},
        "spec": {"unschedulable": true},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "192.168.56.70"}],
            "nodeInfo": {"architecture": "", "bootID": "", "containerRuntimeVersion": "containerd://1.6",
                         "kernelVersion": "6.1", "kubeProxyVersion": "", "kubeletVersion": "v0.1.0",
                         "machineID": "", "operatingSystem": "linux", "osImage": "Debian", "systemUUID": ""},
        },
    });
    assert_eq!(
        row(object),
        [
            "node-1",
            "Ready,SchedulingDisabled",
            "control-plane,edge",
            "<unknown>",
            "v0.1.0",
            "192.168.56.70",
            "<none>",
            "Debian",
            "6.1",
            "containerd://1.6"
        ]
    );
}

#[test]
fn a_node_that_has_not_reported_is_unknown() {
    let row = row(json!({"metadata": {"name": "node-1"}}));
    assert_eq!(row[1..3], ["Unknown", "<none>"]);
    assert_eq!(row[5..], ["<none>", "<none>", "<unknown>", "<unknown>", "<unknown>"]);
    let not_ready = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
    assert_eq!(Nodes.cells(&node(not_ready), Timestamp::UNIX_EPOCH)[1], "NotReady".into());
}

#[test]
fn defaults_link_old_and_new_fields() {
    let node = node(json!({
        "spec": {"podCIDR": "10.244.1.0/24", "unschedulable": false},
        "status": {"capacity": {"cpu": "2000m", "memory": "2048Mi"}},
    }));
    let json = serde_json::to_value(&node).expect("JSON");
    assert_eq!(json["spec"], json!({"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]}));
    assert_eq!(json["status"]["allocatable"], json!({"cpu": "2", "memory": "2Gi"}));
    assert_eq!(Nodes.fields(&node), [("spec.unschedulable", "false".to_owned())]);
}

#[test]
fn bad_nodes_are_refused() {
    assert_eq!(
        problems(json!({"spec": {"taints": [
            {"key": "a", "effect": "NoSchedule"}, {"key": "a", "effect": "NoSchedule"},
            {"key": "b", "effect": "Never"}, {"key": "c", "effect": ""}]}})),
        [
            r#"metadata.taints[1]: Duplicate value: {"Key":"a","Value":"","Effect":"NoSchedule","TimeAdded":null}: taints must be unique by key and effect pair"#,
            r#"metadata.taints[2].effect: Unsupported value: "Never": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute""#,
            "metadata.taints[3].effect: Required value",
        ]
    );
    assert_eq!(
        problems(json!({"spec": {"podCIDR": "10.244.1.1/24"}})),
        [
            r#"spec.podCIDRs[0]: Invalid value: "10.244.1.1/24": must not have bits set beyond the prefix length"#
        ]
    );
    assert_eq!(
        problems(json!({"status": {"capacity": {"pods": "1.5"}, "allocatable": {}}})),
        [r#"status.capacity.pods: Invalid value: "1500m": must be an integer"#]
    );
}

#[test]
fn a_range_once_given_stays() {
    let old = node(json!({"spec": {"podCIDR": "10.244.1.0/24"}}));
    let new = node(json!({"spec": {"podCIDR": "10.244.2.0/24"}}));
    assert_eq!(
        Nodes.validate_update(&new, &old)[0].to_string(),
        "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid"
    );
    assert_eq!(Nodes.validate_update(&new, &node(json!({}))), []);
}
