//! What becomes of objects, by situation.

use super::*;
use resources::table;
use serde_json::{Value, json};

const NOW: i64 = 1_000;

fn decided(plural: &str, kind: &str, mut object: Value, options: Value) -> (Decision, Value) {
    let resource = table::by_path("", "v1", plural).unwrap();
    object["apiVersion"] = "v1".into();
    object["kind"] = kind.into();
    let mut object = resource.strategy.decode(object.to_string().as_bytes()).unwrap();
    let options: DeleteOptions = serde_json::from_value(options).unwrap();
    let now = Timestamp::from_second(NOW).unwrap();
    let decision = decide(resource, object.as_mut(), &options, now);
    (decision, serde_json::from_slice(&object.to_json()).unwrap())
}

fn pod(metadata: Value) -> Value {
    json!({
        "metadata": metadata,
        "spec": { "nodeName": "n", "terminationGracePeriodSeconds": 30, "containers": [] },
    })
}

#[test]
fn plain_objects_go_and_those_with_finalizers_are_marked() {
    let plain = json!({ "metadata": { "name": "a" } });
    assert_eq!(decided("configmaps", "ConfigMap", plain, json!({})).0, Decision::Remove);
    let held = json!({ "metadata": { "name": "a", "finalizers": ["x.io/y"] } });
    let (decision, object) = decided("configmaps", "ConfigMap", held, json!({}));
    assert_eq!(decision, Decision::Mark);
    assert_eq!(object["metadata"]["deletionGracePeriodSeconds"], 0);
}

#[test]
fn the_propagation_policy_sets_one_finalizer_and_clears_the_other() {
    let object = json!({ "metadata": { "name": "a", "finalizers": ["orphan", "x.io/y"] } });
    let finalizers = |options: Value| {
        decided("configmaps", "ConfigMap", object.clone(), options).1["metadata"]["finalizers"]
            .clone()
    };
    assert_eq!(
        finalizers(json!({ "propagationPolicy": "Foreground" })),
        json!(["x.io/y", "foregroundDeletion"])
    );
    assert_eq!(finalizers(json!({ "propagationPolicy": "Background" })), json!(["x.io/y"]));
    assert_eq!(finalizers(json!({ "orphanDependents": true })), json!(["x.io/y", "orphan"]));
    assert_eq!(finalizers(json!({})), json!(["x.io/y", "orphan"]));
}

#[test]
fn a_pod_on_a_node_gets_its_grace_period() {
    let (decision, object) =
        decided("pods", "Pod", pod(json!({ "name": "a", "generation": 1 })), json!({}));
    assert_eq!(decision, Decision::Mark);
    assert_eq!(object["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(object["metadata"]["deletionTimestamp"], "1970-01-01T00:17:10Z");
    assert_eq!(object["metadata"]["generation"], 2);
    let (decision, _) =
        decided("pods", "Pod", pod(json!({ "name": "a" })), json!({ "gracePeriodSeconds": 0 }));
    assert_eq!(decision, Decision::Remove);
}

#[test]
fn a_pod_on_its_way_is_only_hurried() {
    let going = pod(json!({
        "name": "a", "deletionTimestamp": "1970-01-01T00:17:10Z", "deletionGracePeriodSeconds": 30,
    }));
    let again = |options: Value| decided("pods", "Pod", going.clone(), options);
    assert_eq!(again(json!({})).0, Decision::Keep);
    assert_eq!(again(json!({ "gracePeriodSeconds": 60 })).0, Decision::Keep);
    let (decision, object) = again(json!({ "gracePeriodSeconds": 10 }));
    assert_eq!(decision, Decision::Mark);
    assert_eq!(object["metadata"]["deletionTimestamp"], "1970-01-01T00:16:50Z");
    assert_eq!(again(json!({ "gracePeriodSeconds": 0 })).0, Decision::Remove);
}

#[test]
fn a_namespace_waits_for_its_controller() {
    let object = json!({ "metadata": { "name": "n" }, "spec": { "finalizers": ["kubernetes"] } });
    let (decision, marked) = decided("namespaces", "Namespace", object, json!({}));
    assert_eq!((decision, &marked["status"]["phase"]), (Decision::Mark, &json!("Terminating")));
    let empty = json!({ "metadata": { "name": "n" }, "spec": {} });
    assert_eq!(decided("namespaces", "Namespace", empty, json!({})).0, Decision::Remove);
}
