//! ReplicaSets: defaults, rows, and what is refused.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use serde_json::{Value, json};

use super::ReplicaSets;
use crate::columns::Cell;
use crate::strategy::Strategy;

fn created(spec: Value) -> ReplicaSet {
    let object = json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec});
    let mut set = serde_json::from_value(object).expect("a ReplicaSet");
    Strategy::default(&ReplicaSets, &mut set);
    ReplicaSets.prepare_create(&mut set);
    set
}

fn good() -> Value {
    json!({
        "replicas": 3,
        "selector": {"matchLabels": {"tier": "http-go"}},
        "template": {
            "metadata": {"labels": {"tier": "http-go"}},
            "spec": {"containers": [{"name": "http-go", "image": "dalgudcks/http-go"}]},
        },
    })
}

#[test]
fn a_replica_set_is_checked_like_a_deployment() {
    assert_eq!(ReplicaSets.validate(&created(good())), []);
    let problems = ReplicaSets.validate(&created(json!({})));
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "spec.selector: Required value",
            "spec.template.metadata.labels: Invalid value: null: `selector` does not match \
             template `labels`",
            "spec.template.spec.containers: Required value",
        ]
    );
    assert_eq!(created(json!({})).spec.expect("a spec").replicas, Some(1));
}

#[test]
fn the_selector_cannot_change_and_replicas_can() {
    let old = created(good());
    let mut new = old.clone();
    ReplicaSets.set_replicas(&mut new, 1);
    ReplicaSets.prepare_update(&mut new, &old);
    assert_eq!(new.metadata.generation, Some(2));
    assert_eq!(ReplicaSets.validate_update(&new, &old), []);
    new.spec.as_mut().expect("a spec").selector.match_labels = None;
    assert_eq!(ReplicaSets.validate_update(&new, &old)[0].path, "spec.selector");
}

#[test]
fn rows_are_kubectls() {
    let mut set = created(good());
    let status = json!({"replicas": 2, "readyReplicas": 1});
    set.status = serde_json::from_value(status).expect("a status");
    let cells = ReplicaSets.cells(&set, Timestamp::UNIX_EPOCH);
    assert_eq!(cells[1..4], [Cell::Number(3), Cell::Number(2), Cell::Number(1)]);
    assert_eq!(cells[7], Cell::Text("tier=http-go".to_owned()));
    assert_eq!(ReplicaSets.fields(&set), [("status.replicas", "2".to_owned())]);
}
