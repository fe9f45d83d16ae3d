//! Tests of containers' variables.

use super::*;
use serde_json::{Value, json};

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "labels": {"app": "x"}},
        "spec": spec,
        "status": {"podIP": "10.244.1.5", "podIPs": [{"ip": "10.244.1.5"}]},
    }))
    .unwrap()
}

fn service(namespace: &str, name: &str, ip: &str, ports: Value) -> Service {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"clusterIP": ip, "ports": ports},
    }))
    .unwrap()
}

fn node() -> NodeFacts {
    NodeFacts {
        name: "node-1".to_owned(),
        host_ips: vec!["192.168.56.70".parse().unwrap()],
        cpu_milli: 4000,
        memory: 1 << 30,
    }
}

fn references() -> References {
    References {
        services: vec![
            service("default", "kubernetes", "10.96.0.1", json!([{"name": "https", "port": 443}])),
            service("shop", "my-db", "10.96.7.7", json!([{"port": 3306, "protocol": "TCP"}])),
            service("other", "far", "10.96.8.8", json!([{"port": 1}])),
            service("shop", "headless", "None", json!([{"port": 1}])),
        ],
        config_maps: BTreeMap::from([(
            "settings".to_owned(),
            serde_json::from_value(json!({"data": {"COLOR": "red"}})).unwrap(),
        )]),
        secrets: BTreeMap::from([(
            "login".to_owned(),
            serde_json::from_value(json!({"data": {"password": "aHVudGVyMg=="}})).unwrap(),
        )]),
    }
}

fn env(pod: &Pod) -> Result<BTreeMap<String, String>, EnvError> {
    let container = &pod.spec.as_ref().unwrap().containers[0];
    container_env(pod, container, &references(), &node()).map(|list| list.into_iter().collect())
}

#[test]
fn services_of_the_own_namespace_and_kubernetes_are_seen() {
    let env = env(&pod(json!({"containers": [{"name": "c"}]}))).unwrap();
    let expected = [
        ("KUBERNETES_PORT", "tcp://10.96.0.1:443"),
        ("KUBERNETES_PORT_443_TCP", "tcp://10.96.0.1:443"),
        ("KUBERNETES_PORT_443_TCP_ADDR", "10.96.0.1"),
        ("KUBERNETES_PORT_443_TCP_PORT", "443"),
        ("KUBERNETES_PORT_443_TCP_PROTO", "tcp"),
        ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
        ("KUBERNETES_SERVICE_PORT", "443"),
        ("KUBERNETES_SERVICE_PORT_HTTPS", "443"),
        ("MY_DB_PORT", "tcp://10.96.7.7:3306"),
        ("MY_DB_PORT_3306_TCP", "tcp://10.96.7.7:3306"),
        ("MY_DB_PORT_3306_TCP_ADDR", "10.96.7.7"),
        ("MY_DB_PORT_3306_TCP_PORT", "3306"),
        ("MY_DB_PORT_3306_TCP_PROTO", "tcp"),
        ("MY_DB_SERVICE_HOST", "10.96.7.7"),
        ("MY_DB_SERVICE_PORT", "3306"),
    ];
    let expected: BTreeMap<_, _> =
        expected.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    assert_eq!(env, expected);
}

#[test]
fn service_links_can_be_switched_off_but_kubernetes_stays() {
    let env =
        env(&pod(json!({"enableServiceLinks": false, "containers": [{"name": "c"}]}))).unwrap();
    assert!(env.contains_key("KUBERNETES_SERVICE_HOST"));
    assert!(!env.contains_key("MY_DB_SERVICE_HOST"));
}

#[test]
fn values_come_from_fields_resources_maps_and_secrets() {
    let env =
        env(&pod(json!({"serviceAccountName": "robot", "nodeName": "node-1", "containers": [{
            "name": "c",
            "resources": {"limits": {"memory": "64Mi", "cpu": "1500m"}},
            "envFrom": [{"prefix": "CFG_", "configMapRef": {"name": "settings"}}],
            "env": [
                {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
                {"name": "SA", "valueFrom": {"fieldRef": {"fieldPath": "spec.serviceAccountName"}}},
                {"name": "MEM", "valueFrom":
                    {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
                {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}},
                {"name": "NONE", "valueFrom":
                    {"configMapKeyRef": {"name": "absent", "key": "x", "optional": true}}},
                {"name": "URL", "value": "$(NAME):$(MY_DB_SERVICE_PORT) $$(NAME) $(nope)"},
            ],
        }]})))
        .unwrap();
    for (name, value) in [
        ("CFG_COLOR", "red"),
        ("NAME", "web"),
        ("APP", "x"),
        ("IP", "10.244.1.5"),
        ("HOST", "192.168.56.70"),
        ("SA", "robot"),
        ("MEM", "64"),
        ("CPU", "2"),
        ("PW", "hunter2"),
        ("URL", "web:3306 $(NAME) $(nope)"),
    ] {
        assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!env.contains_key("NONE"));
}

#[test]
fn a_missing_object_or_key_is_named_in_kubelets_words() {
    let with = |source: Value| {
        let container = json!({"name": "c", "env": [{"name": "X", "valueFrom": source}]});
        env(&pod(json!({"containers": [container]}))).unwrap_err().to_string()
    };
    assert_eq!(
        with(json!({"configMapKeyRef": {"name": "absent", "key": "k"}})),
        "configmap \"absent\" not found"
    );
    assert_eq!(
        with(json!({"secretKeyRef": {"name": "login", "key": "user"}})),
        "couldn't find key user in Secret shop/login"
    );
}

#[test]
fn the_containers_own_variable_wins_over_a_services() {
    let env = env(&pod(json!({"containers": [
        {"name": "c", "env": [{"name": "MY_DB_SERVICE_HOST", "value": "mine"}]}
    ]})))
    .unwrap();
    assert_eq!(env["MY_DB_SERVICE_HOST"], "mine");
}

#[test]
fn expansion_leaves_alone_what_it_does_not_know() {
    let lookup = |name: &str| (name == "A").then(|| "1".to_owned());
    for (text, expected) in [
        ("$(A)", "1"),
        ("$$(A)", "$(A)"),
        ("$(B)", "$(B)"),
        ("$(A", "$(A"),
        ("a$", "a$"),
        ("$A", "$A"),
        ("$$$(A)", "$1"),
    ] {
        assert_eq!(expand(text, lookup), expected, "{text}");
    }
}
