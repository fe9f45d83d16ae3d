//! ConfigMaps: keys, size, and what immutable means.

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

use super::{ConfigMaps, MAX_SIZE};
use crate::strategy::Strategy;

fn map(object: Value) -> ConfigMap {
    serde_json::from_value(object).expect("a ConfigMap")
}

fn problems(object: Value) -> Vec<String> {
    ConfigMaps.validate(&map(object)).iter().map(ToString::to_string).collect()
}

#[test]
fn keys_are_file_names() {
    assert_eq!(problems(json!({"data": {"nginx.conf": "x", "KEY_1": ""}})), [""; 0]);
    let found = problems(json!({"data": {"a/b": "x"}}));
    assert!(found[0].starts_with(
        r#"data[a/b]: Invalid value: "a/b": a valid config key must consist of alphanumeric"#
    ));
    assert_eq!(
        problems(json!({"data": {"a": "x"}, "binaryData": {"a": "eA=="}})),
        [r#"data[a]: Invalid value: "a": duplicate of key present in binaryData"#]
    );
}

#[test]
fn a_map_has_a_size_limit() {
    assert_eq!(problems(json!({"data": {"a": "x".repeat(MAX_SIZE)}})), [""; 0]);
    assert_eq!(
        problems(json!({"data": {"a": "x".repeat(MAX_SIZE + 1)}})),
        [": Too long: may not be more than 1048576 bytes"]
    );
}

#[test]
fn immutable_maps_stay() {
    let old = map(json!({"immutable": true, "data": {"a": "1"}}));
    assert_eq!(ConfigMaps.validate_update(&old, &old), []);
    let new = map(json!({"data": {"a": "2"}}));
    let found: Vec<String> =
        ConfigMaps.validate_update(&new, &old).iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "immutable: Forbidden: field is immutable when `immutable` is set",
            "data: Forbidden: field is immutable when `immutable` is set",
        ]
    );
    assert_eq!(ConfigMaps.validate_update(&old, &new), [], "it may become immutable");
}
