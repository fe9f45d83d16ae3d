//! Paths of the kinds that clients really send.

use super::*;
use proptest::prelude::*;

/// The route in short.
fn brief(method: &str, path: &str, watch: bool) -> String {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    match route(&method, path, watch) {
        Ok(Route::Object { verb, target }) => {
            let part = target.subresource.map(|s| format!("/{}", segment(s))).unwrap_or_default();
            format!(
                "{} {}{part} ns={} name={}",
                verb.as_str(),
                target.resource.qualified(),
                target.namespace.unwrap_or_else(|| "-".into()),
                target.name.unwrap_or_else(|| "-".into()),
            )
        }
        Ok(other) => format!("{other:?}"),
        Err(error) => error.code().as_u16().to_string(),
    }
}

#[test]
fn objects_and_collections() {
    let cases = [
        ("GET", "/api/v1/pods", "list pods ns=- name=-"),
        ("GET", "/api/v1/namespaces/d/pods", "list pods ns=d name=-"),
        ("GET", "/api/v1/namespaces/d/pods/a", "get pods ns=d name=a"),
        ("POST", "/api/v1/namespaces/d/pods", "create pods ns=d name=-"),
        ("POST", "/api/v1/pods", "405"),
        ("PUT", "/api/v1/namespaces/d/pods/a", "update pods ns=d name=a"),
        ("PATCH", "/api/v1/namespaces/d/pods/a", "patch pods ns=d name=a"),
        ("DELETE", "/api/v1/namespaces/d/pods/a", "delete pods ns=d name=a"),
        ("DELETE", "/api/v1/namespaces/d/pods", "deletecollection pods ns=d name=-"),
        ("DELETE", "/api/v1/pods", "405"),
        ("GET", "/api/v1/namespaces", "list namespaces ns=- name=-"),
        ("GET", "/api/v1/namespaces/d", "get namespaces ns=- name=d"),
        ("PUT", "/api/v1/namespaces/d/finalize", "update namespaces/finalize ns=- name=d"),
        ("PUT", "/api/v1/nodes/n/status", "update nodes/status ns=- name=n"),
        (
            "GET",
            "/apis/apps/v1/namespaces/d/deployments/w/scale",
            "get deployments.apps/scale ns=d name=w",
        ),
        ("POST", "/api/v1/namespaces/d/pods/a/binding", "create pods/binding ns=d name=a"),
        ("GET", "/api/v1/namespaces/d/pods/a/log", "get pods/log ns=d name=a"),
        ("GET", "/api/v1/namespaces/d/pods/a/exec", "create pods/exec ns=d name=a"),
        ("GET", "/api/v1/watch/namespaces/d/pods", "watch pods ns=d name=-"),
        ("GET", "/api/v1/namespaces/d/pods/a/nothing", "404"),
        ("GET", "/api/v1/namespaces/d/nodes/n", "404"),
        ("GET", "/api/v1/pods/a", "404"),
        ("GET", "/api/v1/bogus", "404"),
        ("GET", "/apis/apps/v1/pods", "404"),
        ("POST", "/api/v1/namespaces/d/pods/a/status", "405"),
        ("GET", "/api/v1/namespaces/a%2Fb/pods", "404"),
        ("GET", "/api/v1/namespaces/d/pods/%61", "get pods ns=d name=a"),
    ];
    for (method, path, expected) in cases {
        assert_eq!(brief(method, path, false), expected, "{method} {path}");
    }
    assert_eq!(brief("GET", "/api/v1/pods", true), "watch pods ns=- name=-");
}

#[test]
fn what_is_no_object() {
    let cases = [
        ("/healthz", "Health"),
        ("/readyz/ping", "Health"),
        ("/version", "Version"),
        ("/api", "CoreVersions"),
        ("/apis/", "Groups"),
        ("/apis/apps", "Group(\"apps\")"),
        ("/api/v1", "Resources { group: \"\", version: \"v1\" }"),
        ("/openapi/v3/apis/apps/v1", "OpenApiDocument { group: \"apps\", version: \"v1\" }"),
        ("/minictl.io/v1/nodes/n1/tunnel", "Tunnel(\"n1\")"),
        ("/minictl.io/v1/nodes/n1/dataplane/diff", "Dataplane { node: \"n1\", question: Diff }"),
        ("/minictl.io/v1/nodes/n1/dataplane/flush", "404"),
        ("/minictl.io/v1/nodes/n1/dns/trace", "Dns { node: \"n1\", question: Trace }"),
        ("/minictl.io/v1/nodes/n1/dns/flush", "404"),
        ("/minictl.io/v1/nodes/n1/lb/check", "LoadBalancer { node: \"n1\" }"),
        ("/minictl.io/v1/nodes/n1/lb/announce", "404"),
        ("/", "404"),
    ];
    for (path, expected) in cases {
        assert_eq!(brief("GET", path, false), expected, "{path}");
    }
}

proptest! {
    #[test]
    fn no_path_panics_or_smuggles_a_slash_into_a_name(path in "(/|api|apis|v1|namespaces|pods|%2[fF]|[a-z%]{0,4}){0,12}") {
        if let Ok(Route::Object { target, .. }) = route(&Method::GET, &path, false) {
            let slashed = |t: &Option<String>| t.as_ref().is_some_and(|t| t.contains('/'));
            prop_assert!(!slashed(&target.name) && !slashed(&target.namespace));
        }
    }
}
