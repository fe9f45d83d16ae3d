//! Ingresses, with the endpoints behind each path, and their classes.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{
    Ingress, IngressBackend, IngressClass, IngressServiceBackend, IngressTLS,
};

use super::Surroundings;
use super::metadata::{annotations, events, labels, labels_and_annotations};
use super::service::endpoints_of;
use super::text::Text;

/// A Service that an Ingress leads to: the object, or why it is not shown, and its endpoints.
pub(super) struct Target {
    pub(super) name: String,
    pub(super) service: Result<Service, String>,
    pub(super) slices: Vec<EndpointSlice>,
}

/// The names of the Services that an Ingress leads to, each once.
pub(super) fn services(ingress: &Ingress) -> Vec<String> {
    let spec = ingress.spec.as_ref();
    let rules = spec.into_iter().flat_map(|spec| spec.rules.iter().flatten());
    let paths = rules.flat_map(|rule| rule.http.iter().flat_map(|http| &http.paths));
    let default = spec.and_then(|spec| spec.default_backend.as_ref());
    let backends = paths.map(|path| &path.backend).chain(default);
    let mut names: Vec<String> =
        backends.filter_map(|backend| Some(backend.service.as_ref()?.name.clone())).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Describes an Ingress.
pub(super) fn describe(
    out: &mut Text,
    ingress: &Ingress,
    targets: &[Target],
    around: &Surroundings,
) {
    let metadata = &ingress.metadata;
    let spec = ingress.spec.clone().unwrap_or_default();
    out.pair(0, "Name", metadata.name.as_deref().unwrap_or(""));
    labels(out, "Labels", metadata.labels.as_ref());
    out.pair(0, "Namespace", metadata.namespace.as_deref().unwrap_or(""));
    out.pair(0, "Address", addresses(ingress));
    out.pair(0, "Ingress Class", spec.ingress_class_name.as_deref().unwrap_or("<none>"));
    let default = spec.default_backend.as_ref();
    let default = default.map_or_else(|| "<default>".to_owned(), |b| backend(b, targets));
    out.pair(0, "Default backend", &default);
    tls(out, spec.tls.as_deref().unwrap_or_default());
    out.line(0, "Rules:");
    out.line(1, "Host\tPath\tBackends");
    out.line(1, "----\t----\t--------");
    let mut none = true;
    for rule in spec.rules.iter().flatten() {
        let Some(http) = &rule.http else { continue };
        none = false;
        let host = rule.host.as_deref().filter(|host| !host.is_empty()).unwrap_or("*");
        out.line(1, format_args!("{host}\t"));
        for path in &http.paths {
            let text = path.path.as_deref().unwrap_or("");
            out.line(2, format_args!("\t{text} \t{}", backend(&path.backend, targets)));
        }
    }
    if none {
        out.line(1, format_args!("*\t*\t{default}"));
    }
    annotations(out, "Annotations", metadata.annotations.as_ref());
    events(out, around);
}

/// Describes an IngressClass.
pub(super) fn class(out: &mut Text, class: &IngressClass, around: &Surroundings) {
    out.pair(0, "Name", class.metadata.name.as_deref().unwrap_or(""));
    labels_and_annotations(out, &class.metadata);
    let spec = class.spec.clone().unwrap_or_default();
    out.pair(0, "Controller", spec.controller.as_deref().unwrap_or(""));
    if let Some(parameters) = &spec.parameters {
        out.line(0, "Parameters:");
        if let Some(group) = &parameters.api_group {
            out.pair(1, "APIGroup", group);
        }
        out.pair(1, "Kind", &parameters.kind);
        out.pair(1, "Name", &parameters.name);
    }
    events(out, around);
}

fn addresses(ingress: &Ingress) -> String {
    let balancer = ingress.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    let entries = balancer.into_iter().flat_map(|b| b.ingress.iter().flatten());
    let named = entries.filter_map(|entry| {
        entry.ip.as_deref().filter(|ip| !ip.is_empty()).or(entry.hostname.as_deref())
    });
    let mut all: Vec<&str> = named.collect();
    all.sort_unstable();
    all.dedup();
    all.join(",")
}

fn tls(out: &mut Text, tls: &[IngressTLS]) {
    if tls.is_empty() {
        return;
    }
    out.line(0, "TLS:");
    for entry in tls {
        let hosts = entry.hosts.as_deref().unwrap_or_default().join(",");
        match entry.secret_name.as_deref().filter(|name| !name.is_empty()) {
            Some(secret) => out.line(1, format_args!("{secret} terminates {hosts}")),
            None => out.line(1, format_args!("SNI routes {hosts}")),
        }
    }
}

/// `web:80 (10.244.0.2:8080)`.
fn backend(backend: &IngressBackend, targets: &[Target]) -> String {
    if let Some(service) = &backend.service {
        return service_backend(service, targets);
    }
    let Some(resource) = &backend.resource else { return String::new() };
    let group = resource.api_group.as_deref().unwrap_or("<none>");
    format!("APIGroup: {group}, Kind: {}, Name: {}", resource.kind, resource.name)
}

fn service_backend(backend: &IngressServiceBackend, targets: &[Target]) -> String {
    let port = backend.port.clone().unwrap_or_default();
    let number = port.number.filter(|number| *number != 0);
    let shown = number.map_or_else(|| port.name.clone().unwrap_or_default(), |n| n.to_string());
    let text = format!("{}:{shown}", backend.name);
    let Some(target) = targets.iter().find(|target| target.name == backend.name) else {
        return text;
    };
    match &target.service {
        Err(error) => format!("{text} (<error: {error}>)"),
        Ok(service) => {
            let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
            let named = |name: &Option<String>| name.as_ref().is_some_and(|n| !n.is_empty());
            let mut meant = ports.filter(|p| match number {
                Some(number) => p.port == number,
                None => named(&port.name) && p.name == port.name,
            });
            let name = meant.next().and_then(|p| p.name.clone()).unwrap_or_default();
            format!("{text} ({})", endpoints_of(&target.slices, &name))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn target(name: &str, address: &str) -> Target {
        let slice = json!({
            "addressType": "IPv4", "metadata": {},
            "endpoints": [{ "addresses": [address] }], "ports": [{ "name": "http", "port": 8080 }],
        });
        let service = json!({
            "metadata": { "name": name }, "spec": { "ports": [{ "name": "http", "port": 80 }] },
        });
        Target {
            name: name.to_owned(),
            service: Ok(serde_json::from_value(service).unwrap()),
            slices: vec![serde_json::from_value(slice).unwrap()],
        }
    }

    fn described(spec: Value, targets: &[Target]) -> String {
        let ingress: Ingress = serde_json::from_value(json!({
            "metadata": { "name": "web", "namespace": "default" }, "spec": spec,
            "status": { "loadBalancer": { "ingress": [{ "ip": "192.168.56.200" }] } },
        }))
        .unwrap();
        let now = "2024-01-01T00:00:00Z".parse().unwrap();
        let mut out = Text::default();
        describe(&mut out, &ingress, targets, &Surroundings { events: Some(vec![]), now });
        out.render()
    }

    fn backend(name: &str, port: Value) -> Value {
        json!({ "service": { "name": name, "port": port } })
    }

    #[test]
    fn each_path_with_its_endpoints() {
        let missing = Target {
            name: "gone".to_owned(),
            service: Err(r#"services "gone" not found"#.to_owned()),
            slices: Vec::new(),
        };
        let text = described(
            json!({
                "ingressClassName": "minictl",
                "tls": [{ "hosts": ["a.com", "b.com"], "secretName": "cert" }, { "hosts": ["c.com"] }],
                "rules": [
                    { "host": "a.com", "http": { "paths": [
                        { "path": "/", "pathType": "Prefix", "backend": backend("web", json!({ "number": 80 })) },
                        { "path": "/old", "pathType": "Exact", "backend": backend("gone", json!({ "name": "http" })) },
                    ] } },
                    { "http": { "paths": [
                        { "pathType": "Prefix", "backend": { "resource": { "kind": "Bucket", "name": "b" } } },
                    ] } },
                ],
            }),
            &[target("web", "10.244.0.2"), missing],
        );
        let expected = "\
Name:             web
Labels:           <none>
Namespace:        default
Address:          192.168.56.200
Ingress Class:    minictl
Default backend:  <default>
TLS:
  cert terminates a.com,b.com
  SNI routes c.com
Rules:
  Host        Path  Backends
  ----        ----  --------
  a.com       \n              /      web:80 (10.244.0.2:8080)
              /old   gone:http (<error: services \"gone\" not found>)
  *           \n                 APIGroup: <none>, Kind: Bucket, Name: b
Annotations:  <none>
Events:       <none>
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_default_backend_alone() {
        let spec = json!({ "defaultBackend": backend("web", json!({ "name": "http" })) });
        let text = described(spec, &[target("web", "10.244.0.2")]);
        assert!(text.contains("Default backend:  web:http (10.244.0.2:8080)\n"), "{text}");
        assert!(text.contains("  *           *     web:http (10.244.0.2:8080)\n"), "{text}");
    }

    #[test]
    fn the_services_to_ask_for() {
        let ingress: Ingress = serde_json::from_value(json!({ "metadata": {}, "spec": {
            "defaultBackend": backend("b", json!({})),
            "rules": [{ "http": { "paths": [
                { "pathType": "Prefix", "backend": backend("a", json!({})) },
                { "pathType": "Prefix", "backend": backend("b", json!({})) },
            ] } }],
        } }))
        .unwrap();
        assert_eq!(services(&ingress), ["a", "b"]);
    }
}
