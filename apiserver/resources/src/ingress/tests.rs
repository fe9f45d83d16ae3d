//! Upstream's explanations for what is wrong with an Ingress, and kubectl's columns.

use serde_json::{Value, json};

use super::*;

fn ingress(value: Value) -> Ingress {
    let mut ingress = serde_json::from_value(value).expect("an Ingress");
    Strategy::default(&Ingresses, &mut ingress);
    ingress
}

fn problems(spec: Value) -> Vec<String> {
    let ingress = ingress(json!({ "metadata": { "name": "a" }, "spec": spec }));
    Ingresses.validate(&ingress).iter().map(ToString::to_string).collect()
}

fn web() -> Value {
    json!({ "service": { "name": "web", "port": { "number": 80 } } })
}

/// The problems of one path, without where it stands.
fn of_path(path: Value) -> Vec<String> {
    let rule = json!({ "host": "a.com", "http": { "paths": [path] } });
    let place = "spec.rules[0].http.paths[0].";
    let all = problems(json!({ "rules": [rule] }));
    all.iter().map(|p| p.strip_prefix(place).expect("of the path").to_owned()).collect()
}

fn of_backend(backend: Value) -> Vec<String> {
    problems(json!({ "defaultBackend": backend }))
}

#[test]
fn something_is_to_be_served() {
    assert_eq!(
        problems(json!({})),
        ["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"]
    );
    assert_eq!(problems(json!({ "defaultBackend": web() })), [""; 0]);
    assert_eq!(problems(json!({ "rules": [{ "host": "a.com" }] })), [""; 0]);
    assert_eq!(
        problems(json!({ "rules": [{ "http": { "paths": [] } }] })),
        ["spec.rules[0].http.paths: Required value"]
    );
}

#[test]
fn paths_of_each_type() {
    let path = |kind: Value, path: &str| {
        of_path(json!({ "pathType": kind, "path": path, "backend": web() }))
    };
    for good in ["/", "/a/b", "/a/"] {
        assert_eq!(path(json!("Prefix"), good), [""; 0], "{good}");
        assert_eq!(path(json!("Exact"), good), [""; 0], "{good}");
    }
    assert_eq!(path(json!("ImplementationSpecific"), ""), [""; 0]);
    assert_eq!(path(json!("ImplementationSpecific"), "//a(.*)")[..0], [""; 0]);
    assert_eq!(
        of_path(json!({ "path": "/", "backend": web() })),
        ["pathType: Required value: pathType must be specified"]
    );
    assert_eq!(
        path(json!("prefix"), "/"),
        [
            r#"pathType: Unsupported value: "prefix": supported values: "Exact", "ImplementationSpecific", "Prefix""#
        ]
    );
    let absolute = r#"path: Invalid value: "": must be an absolute path"#;
    assert_eq!(path(json!("Prefix"), ""), [absolute]);
    assert_eq!(
        path(json!("Exact"), "/a//b/.."),
        [
            r#"path: Invalid value: "/a//b/..": must not contain '//'"#,
            r#"path: Invalid value: "/a//b/..": cannot end with '/..'"#,
        ]
    );
    for bad in ["/a/./b", "/a/../b", "/a%2fb", "/a%2Fb", "/a/."] {
        assert_eq!(path(json!("Prefix"), bad).len(), 1, "{bad}");
    }
    assert_eq!(
        path(json!("ImplementationSpecific"), "a"),
        [r#"path: Invalid value: "a": must be an absolute path"#]
    );
}

#[test]
fn backends_are_a_service_or_a_resource() {
    let service = |port: Value| of_backend(json!({ "service": { "name": "web", "port": port } }));
    assert_eq!(service(json!({ "name": "http" })), [""; 0]);
    assert_eq!(
        service(json!({})),
        ["spec.defaultBackend: Required value: port name or number is required"]
    );
    assert_eq!(
        service(json!({ "name": "http", "number": 80 })),
        [r#"spec.defaultBackend: Invalid value: "": cannot set both port name & port number"#]
    );
    assert_eq!(
        service(json!({ "number": 70000 })),
        [
            "spec.defaultBackend.service.port.number: Invalid value: 70000: must be between 1 and 65535, inclusive"
        ]
    );
    assert_eq!(
        of_backend(json!({})),
        [r#"spec.defaultBackend: Invalid value: "": resource or service backend is required"#]
    );
    let resource = json!({ "kind": "Bucket", "name": "b" });
    assert_eq!(of_backend(json!({ "resource": resource })), [""; 0]);
    let mut both = web();
    both["resource"] = resource;
    assert_eq!(
        of_backend(both),
        [
            r#"spec.defaultBackend: Invalid value: "": cannot set both resource and service backends"#
        ]
    );
    assert_eq!(
        of_backend(json!({ "service": { "name": "", "port": { "number": 80 } } })),
        ["spec.defaultBackend.service.name: Required value"]
    );
}

#[test]
fn hosts_are_names() {
    let host = |host: &str| problems(json!({ "rules": [{ "host": host }] }));
    for good in ["a.com", "*.a.com", "localhost"] {
        assert_eq!(host(good), [""; 0], "{good}");
    }
    let text = host("10.0.0.1");
    assert_eq!(
        text,
        [r#"spec.rules[0].host: Invalid value: "10.0.0.1": must be a DNS name, not an IP address"#]
    );
    assert_eq!(host("A.com").len(), 1);
    assert_eq!(
        host("*.*.com"),
        [concat!(
            r#"spec.rules[0].host: Invalid value: "*.*.com": a wildcard DNS-1123 subdomain must "#,
            "start with '*.', followed by a valid DNS subdomain, which must consist of lower case ",
            "alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. ",
            r"'*.example.com', regex used for validation is '\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?",
            r"(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        )]
    );
    for bad in ["*", "f*.a.com", "a.*.com"] {
        assert_eq!(host(bad).len(), 1, "{bad}");
    }
    let tls = |tls: Value| problems(json!({ "defaultBackend": web(), "tls": [tls] })).len();
    assert_eq!(tls(json!({ "hosts": ["a.com", "*.a.com"], "secretName": "s" })), 0);
    assert_eq!(tls(json!({ "hosts": ["A", "*"], "secretName": "S" })), 3);
    assert_eq!(tls(json!({})), 0);
}

#[test]
fn the_class_stands_in_the_field_or_in_the_annotation() {
    let with = |annotation: Option<&str>, class: Option<&str>| {
        let annotations = annotation.map(|a| json!({ CLASS_ANNOTATION: a }));
        ingress(json!({
            "metadata": { "name": "a", "annotations": annotations },
            "spec": { "ingressClassName": class, "defaultBackend": web() },
        }))
    };
    let warnings = |annotation, class| Ingresses.warnings(&with(annotation, class));
    assert_eq!(
        warnings(Some("nginx"), None),
        [
            r#"annotation "kubernetes.io/ingress.class" is deprecated, please use 'spec.ingressClassName' instead"#
        ]
    );
    assert_eq!(warnings(Some("nginx"), Some("nginx")), [""; 0]);
    assert_eq!(warnings(None, None), [""; 0]);
    let errors = Ingresses.validate_create(&with(Some("a"), Some("b")));
    assert_eq!(
        errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            r#"annotations.kubernetes.io/ingress.class: Invalid value: "a": must match `ingressClassName` when both are specified"#
        ]
    );
    assert_eq!(Ingresses.validate_create(&with(Some("a"), Some("a"))), []);
    assert_eq!(Ingresses.validate(&with(None, Some("Bad Name"))).len(), 1);
}

#[test]
fn a_status_has_addresses_and_names() {
    let status = |entry: Value| {
        let object =
            json!({ "metadata": {}, "status": { "loadBalancer": { "ingress": [entry] } } });
        let ingress = ingress(object);
        let errors = Ingresses.validate_status_update(&ingress, &ingress);
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(status(json!({ "ip": "10.0.0.1", "hostname": "a.com" })), [""; 0]);
    assert_eq!(status(json!({ "ip": "10.0.0" })).len(), 1);
    assert_eq!(
        status(json!({ "hostname": "10.0.0.1" })),
        [
            r#"status.loadBalancer.ingress[0].hostname: Invalid value: "10.0.0.1": must be a DNS name, not an IP address"#
        ]
    );
}

#[test]
fn only_a_change_of_the_spec_is_a_generation() {
    let old = {
        let mut old = ingress(json!({ "metadata": {}, "spec": { "defaultBackend": web() } }));
        Ingresses.prepare_create(&mut old);
        old
    };
    let mut new = old.clone();
    new.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
    Ingresses.prepare_update(&mut new, &old);
    assert_eq!(new.metadata.generation, Some(1));
    new.spec.get_or_insert_default().ingress_class_name = Some("x".to_owned());
    Ingresses.prepare_update(&mut new, &old);
    assert_eq!(new.metadata.generation, Some(2));
}

#[test]
fn a_row_is_kubectls() {
    let now: Timestamp = "2026-01-01T00:01:00Z".parse().expect("a time");
    let row = |spec: Value, status: Value| -> Vec<String> {
        let object = json!({
            "metadata": { "name": "web", "creationTimestamp": "2026-01-01T00:00:00Z" },
            "spec": spec, "status": status,
        });
        let cells = Ingresses.cells(&ingress(object), now);
        let text = |cell| match cell {
            Cell::Text(text) => text,
            Cell::Number(number) => number.to_string(),
        };
        cells.into_iter().map(text).collect()
    };
    let hosts = |hosts: &[&str]| {
        let rules: Vec<Value> = hosts.iter().map(|h| json!({ "host": h })).collect();
        row(json!({ "rules": rules }), json!(null))[2].clone()
    };
    assert_eq!(row(json!({}), json!(null)), ["web", "<none>", "*", "", "80", "60s"]);
    let balancer = json!({ "loadBalancer": { "ingress": [
        { "ip": "192.168.56.201" }, { "hostname": "lb.test" }, { "ip": "192.168.56.201" },
    ] } });
    assert_eq!(
        row(json!({ "ingressClassName": "minictl", "tls": [{}] }), balancer),
        ["web", "minictl", "*", "192.168.56.201,lb.test", "80, 443", "60s"]
    );
    assert_eq!(hosts(&["a", "b", "c"]), "a,b,c");
    assert_eq!(hosts(&["a", "b", "c", "d", "e"]), "a,b,c + 2 more...");
    assert_eq!(hosts(&["a", "", "b"]), "a,b");
    assert_eq!(hosts(&[""]), "*");
}
