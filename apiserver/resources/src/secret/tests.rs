//! Secrets: what `stringData` becomes, and what each type requires.

use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

use super::Secrets;
use crate::strategy::Strategy;

fn secret(object: Value) -> Secret {
    let mut secret = serde_json::from_value(object).expect("a Secret");
    Strategy::default(&Secrets, &mut secret);
    secret
}

fn problems(object: Value) -> Vec<String> {
    Secrets.validate(&secret(object)).iter().map(ToString::to_string).collect()
}

#[test]
fn string_data_becomes_data() {
    let secret = secret(json!({"data": {"a": "eA==", "b": "eA=="}, "stringData": {"b": "secret"}}));
    let json = serde_json::to_value(&secret).expect("JSON");
    assert_eq!(json["data"], json!({"a": "eA==", "b": "c2VjcmV0"}));
    assert_eq!(json.get("stringData"), None);
    assert_eq!(json["type"], "Opaque");
    assert_eq!(Secrets.fields(&secret), [("type", "Opaque".to_owned())]);
}

#[test]
fn types_require_their_keys() {
    for (object, expected) in [
        (json!({"type": "Opaque"}), vec![]),
        (json!({"type": "example.com/own"}), vec![]),
        (
            json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}}),
            vec!["data[tls.key]: Required value"],
        ),
        (
            json!({"type": "kubernetes.io/basic-auth"}),
            vec!["data[username]: Required value", "data[password]: Required value"],
        ),
        (json!({"type": "kubernetes.io/basic-auth", "data": {"username": "eA=="}}), vec![]),
        (
            json!({"type": "kubernetes.io/ssh-auth", "data": {"ssh-privatekey": ""}}),
            vec!["data[ssh-privatekey]: Required value"],
        ),
        (
            json!({"type": "kubernetes.io/dockerconfigjson"}),
            vec!["data[.dockerconfigjson]: Required value"],
        ),
        (
            json!({"type": "kubernetes.io/service-account-token"}),
            vec!["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
        ),
    ] {
        assert_eq!(problems(object.clone()), expected, "{object}");
    }
    let broken = problems(
        json!({"type": "kubernetes.io/dockercfg", "stringData": {".dockercfg": "password"}}),
    );
    assert!(
        broken[0].starts_with("data[.dockercfg]: Invalid value: \"<secret contents redacted>\"")
    );
    assert!(!broken[0].contains("password"), "{broken:?}");
}

#[test]
fn the_type_and_immutable_data_stay() {
    let old = secret(json!({"immutable": true, "data": {"a": "eA=="}}));
    let new = secret(json!({"type": "kubernetes.io/tls", "immutable": true}));
    let found: Vec<String> =
        Secrets.validate_update(&new, &old).iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            r#"type: Invalid value: "kubernetes.io/tls": field is immutable"#,
            "data: Forbidden: field is immutable when `immutable` is set",
        ]
    );
}
