//! Bodies with fields that are unknown, stand twice, or hold the wrong type.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{check, mismatch};
use crate::decode::{self, Body};

fn problems(api_version: &str, kind: &str, value: Value) -> Vec<String> {
    check(api_version, kind, &Body { value, duplicates: vec![] })
}

#[test]
fn a_right_body_has_no_problems() {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "a", "labels": {"any": "thing"}, "creationTimestamp": null,
                     "managedFields": [{"fieldsV1": {"f:spec": {"f:x": {}}}}]},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": 1}}}],
                 "volumes": [{"name": "v", "emptyDir": {}}], "nodeSelector": {"a": "b"}},
        "status": {},
    });
    assert_eq!(problems("v1", "Pod", pod.clone()), [""; 0]);
    assert_eq!(mismatch("v1", "Pod", &pod), None);
}

#[test]
fn unknown_fields_with_their_paths() {
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "bogus": 1,
        "metadata": {"Name": "a"},
        "spec": {"replica": 1, "template": {"spec": {"containers": [
            {"name": "a"}, {"name": "b", "imagePullPolcy": "Always", "ports": [{"port": 1}]}
        ]}}},
    });
    assert_eq!(
        problems("apps/v1", "Deployment", deployment),
        [
            r#"unknown field "bogus""#,
            r#"unknown field "metadata.Name""#,
            r#"unknown field "spec.replica""#,
            r#"unknown field "spec.template.spec.containers[1].imagePullPolcy""#,
            r#"unknown field "spec.template.spec.containers[1].ports[0].port""#,
        ]
    );
}

#[test]
fn duplicate_fields_follow_unknown_ones() {
    let text = br#"{"kind":"ConfigMap","data":{"a":"1","a":"2"},"dat":{},"kind":"ConfigMap"}"#;
    let body = decode::body("application/json", text).unwrap();
    assert_eq!(
        check("v1", "ConfigMap", &body),
        [r#"unknown field "dat""#, r#"duplicate field "data.a""#, r#"duplicate field "kind""#]
    );
}

#[test]
fn no_more_than_a_hundred_problems() {
    let many: serde_json::Map<_, _> = (0..300).map(|i| (format!("x{i}"), json!(1))).collect();
    assert_eq!(problems("v1", "Pod", Value::Object(many)).len(), 100);
}

#[test]
fn kinds_that_are_not_known_have_no_unknown_fields() {
    assert_eq!(problems("example.com/v1", "Foo", json!({"a": 1})), [""; 0]);
    assert_eq!(mismatch("example.com/v1", "Foo", &json!([])), None);
}

#[test]
fn values_of_the_wrong_type_in_upstream_words() {
    for (api_version, kind, value, text) in [
        (
            "apps/v1",
            "Deployment",
            json!({"spec": {"replicas": "three"}}),
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "apps/v1",
            "Deployment",
            json!({"spec": {"replicas": 1.5}}),
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "apps/v1",
            "Deployment",
            json!({"spec": {"replicas": 5_000_000_000_i64}}),
            "json: cannot unmarshal number 5000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "v1",
            "Pod",
            json!({"spec": {"containers": [{}, {"env": [{"name": "A", "value": 1}]}]}}),
            "json: cannot unmarshal number into Go struct field EnvVar.spec.containers.env.value of type string",
        ),
        (
            "v1",
            "Pod",
            json!({"spec": {"containers": {}}}),
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            "v1",
            "Pod",
            json!({"spec": []}),
            "json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec",
        ),
        (
            "v1",
            "Pod",
            json!({"spec": {"hostNetwork": "yes"}}),
            "json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool",
        ),
        (
            "v1",
            "Pod",
            json!({"metadata": {"labels": {"a": true}}}),
            "json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            "v1",
            "Pod",
            json!({"metadata": {"labels": "a=b"}}),
            "json: cannot unmarshal string into Go struct field ObjectMeta.metadata.labels of type map[string]string",
        ),
        ("v1", "Secret", json!({"data": {"a": "YQ="}}), "illegal base64 data at input byte 3"),
        ("v1", "Secret", json!({"data": {"a": "Y!=="}}), "illegal base64 data at input byte 1"),
        ("v1", "Pod", json!([]), "json: cannot unmarshal array into Go value of type v1.Pod"),
    ] {
        assert_eq!(mismatch(api_version, kind, &value).as_deref(), Some(text));
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z]{0,3}".prop_map(Value::from),
    ];
    let name = "spec|metadata|containers|labels|replicas|template|ports|name|env|x";
    leaf.prop_recursive(6, 60, 5, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(name, inner, 0..5)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

/// An object with right and wrong names, all of whose values are texts.
fn texts(names: &'static str) -> impl Strategy<Value = Value> {
    proptest::collection::btree_map(names, "[a-z]{0,3}", 0..5).prop_map(|map| json!(map))
}

proptest! {
    /// What serde ignores in a typed decode is what the table does not know.
    #[test]
    fn agrees_with_the_typed_decode(
        metadata in texts("name|namespace|nam|Name|uid"),
        labels in texts("[a-c]"),
        containers in proptest::collection::vec(texts("name|image|imag|workingDir|command1"), 0..3),
        template in texts("extra|spek"),
        status in any_json(),
    ) {
        let mut value = json!({"metadata": metadata, "spec": {"template": template}});
        value["metadata"]["labels"] = labels;
        value["spec"]["template"]["spec"] = json!({"containers": containers});
        value["spec"]["template"]["status"] = status;
        let mut ignored = 0;
        let typed: Result<k8s_openapi::api::apps::v1::Deployment, _> =
            serde_ignored::deserialize(&value, |_| ignored += 1);
        prop_assert!(typed.is_ok(), "{typed:?}");
        prop_assert_eq!(mismatch("apps/v1", "Deployment", &value), None);
        prop_assert_eq!(problems("apps/v1", "Deployment", value).len(), ignored);
    }

    /// What the table finds of the wrong type, serde does not decode either.
    #[test]
    fn refuses_only_what_the_typed_decode_refuses(value in any_json()) {
        if mismatch("apps/v1", "Deployment", &value).is_some() {
            let typed = serde_json::from_value::<k8s_openapi::api::apps::v1::Deployment>(value);
            prop_assert!(typed.is_err());
        }
    }
}
