//! Events in both forms, and their row.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Events, NewEvents, convert};
use crate::columns::Cell;
use crate::strategy::Strategy;

fn event(object: Value) -> Event {
    serde_json::from_value(object).expect("an Event")
}

fn old_style() -> Value {
    json!({
        "metadata": {"name": "web.1", "namespace": "default"},
        "involvedObject": {"kind": "Pod", "name": "web", "namespace": "default",
                           "fieldPath": "spec.containers{web}"},
        "reason": "Pulled", "message": " Container image already present\n", "type": "Normal",
        "source": {"component": "agent", "host": "node-1"},
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:09:00Z",
        "count": 4,
    })
}

fn row(object: Value) -> Vec<String> {
    let now: Timestamp = "2026-01-01T00:10:00Z".parse().expect("a time");
    let text = |cell| match cell {
        Cell::Text(text) => text,
        Cell::Number(number) => number.to_string(),
    };
    Strategy::cells(&Events, &event(object), now).into_iter().map(text).collect()
}

#[test]
fn a_row_shows_what_happened_to_whom() {
    assert_eq!(
        row(old_style()),
        [
            "60s",
            "Normal",
            "Pulled",
            "pod/web",
            "spec.containers{web}",
            "agent, node-1",
            "Container image already present",
            "10m",
            "4",
            "web.1"
        ]
    );
}

#[test]
fn new_events_keep_time_and_count_elsewhere() {
    let mut new = old_style();
    let fields = new.as_object_mut().expect("an object");
    for field in ["firstTimestamp", "lastTimestamp", "count", "source"] {
        fields.remove(field);
    }
    new["eventTime"] = json!("2026-01-01T00:05:00.000000Z");
    new["reportingComponent"] = json!("example.com/agent");
    new["reportingInstance"] = json!("node-1");
    let once = row(new.clone());
    assert_eq!(
        [&once[0], &once[5], &once[7], &once[8]],
        ["5m", "example.com/agent, node-1", "5m", "1"]
    );
    new["series"] = json!({"count": 7, "lastObservedTime": "2026-01-01T00:09:58.000000Z"});
    let often = row(new);
    assert_eq!([&often[0], &often[7], &often[8]], ["2s", "5m", "7"]);
}

#[test]
fn events_are_found_by_what_they_are_about() {
    let fields = Strategy::fields(&Events, &event(old_style()));
    let value = |name: &str| &fields.iter().find(|(n, _)| *n == name).expect(name).1;
    assert_eq!(value("involvedObject.name"), "web");
    assert_eq!(value("source"), "agent");
    let new = convert::from_core(event(old_style()));
    let fields = Strategy::fields(&NewEvents, &new);
    assert!(fields.contains(&("regarding.kind", "Pod".to_owned())), "{fields:?}");
}

#[test]
fn an_event_stands_in_its_objects_namespace() {
    let problems = |object: Value| -> Vec<String> {
        Events.validate(&event(object)).iter().map(ToString::to_string).collect()
    };
    assert_eq!(problems(old_style()), [""; 0]);
    let mut elsewhere = old_style();
    elsewhere["metadata"]["namespace"] = json!("shop");
    assert_eq!(
        problems(elsewhere),
        [r#"involvedObject.namespace: Invalid value: "default": does not match event.namespace"#]
    );
    let mut of_node = old_style();
    of_node["involvedObject"] = json!({"kind": "Node", "name": "node-1"});
    assert_eq!(problems(of_node.clone()), [""; 0]);
    of_node["eventTime"] = json!("2026-01-01T00:05:00.000000Z");
    assert_eq!(
        problems(of_node),
        [
            "reportingController: Required value",
            "reportingController: Invalid value: \"\": name part must be non-empty",
            "reportingController: Invalid value: \"\": name part must consist of alphanumeric \
             characters, '-', '_' or '.', and must start and end with an alphanumeric character \
             (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
             '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            "reportingInstance: Required value",
            "action: Required value",
        ]
    );
}

#[test]
fn new_events_do_not_change() {
    let old = convert::from_core(event(old_style()));
    let mut new = old.clone();
    new.reason = Some("Failed".to_owned());
    assert_eq!(
        NewEvents.validate_update(&new, &old)[0].to_string(),
        r#"reason: Invalid value: "Failed": field is immutable"#
    );
}

proptest! {
    #[test]
    fn conversion_is_lossless(
        reason in proptest::option::of("[A-Z][a-z]{0,5}"),
        count in proptest::option::of(0..9_i32),
        series in proptest::option::of(2..9_i32),
        host in proptest::option::of("[a-z]{1,4}"),
    ) {
        let mut object = old_style();
        object["reason"] = json!(reason);
        object["count"] = json!(count);
        object["source"]["host"] = json!(host);
        if let Some(count) = series {
            object["series"] =
                json!({"count": count, "lastObservedTime": "2026-01-01T00:09:58.000000Z"});
        }
        let stored = serde_json::to_vec(&event(object)).expect("JSON");
        let shown = convert::json_from_core(&stored).expect("the new form");
        prop_assert_eq!(convert::json_to_core(&shown).expect("the old form"), stored);
    }
}
