//! Whether an Ingress is well formed, with upstream's explanations.
//!
//! Upstream: `ValidateIngressCreate`, `ValidateIngressStatusUpdate` of
//! `pkg/apis/networking/validation/validation.go`. A backend's Service has an RFC 1123 name, as
//! with upstream's gate RelaxedServiceNameValidation (on since 1.36): here Services are named so.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::TypedLocalObjectReference;
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, Ingress, IngressBackend, IngressRule, IngressServiceBackend, IngressSpec,
    IngressTLS,
};

use super::{CLASS_ANNOTATION, class, class_annotation};
use crate::addresses::validate_ip;
use crate::field::{FieldErrors, Path};
use crate::names;

const NOT_AN_IP: &str = "must be a DNS name, not an IP address";
const BAD_SEQUENCES: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const BAD_ENDS: [&str; 2] = ["/..", "/."];
const PATH_TYPES: [&str; 3] = ["Exact", "ImplementationSpecific", "Prefix"];

pub(super) fn ingress(ingress: &Ingress) -> FieldErrors {
    spec(&ingress.spec.clone().unwrap_or_default(), &Path::new("spec"))
}

/// A new Ingress that names its class in both ways names the same one.
pub(super) fn two_classes(ingress: &Ingress) -> FieldErrors {
    let (Some(annotated), Some(named)) = (class_annotation(ingress), class(ingress)) else {
        return Vec::new();
    };
    if annotated == named {
        return Vec::new();
    }
    let path = Path::new("annotations").child(CLASS_ANNOTATION);
    vec![path.invalid(annotated, "must match `ingressClassName` when both are specified")]
}

pub(super) fn status(ingress: &Ingress) -> FieldErrors {
    let path = Path::new("status.loadBalancer.ingress");
    let balancer = ingress.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    let entries = balancer.into_iter().flat_map(|b| b.ingress.iter().flatten());
    let mut errors = FieldErrors::new();
    for (i, entry) in entries.enumerate() {
        let path = path.index(i);
        if let Some(ip) = entry.ip.as_deref().filter(|ip| !ip.is_empty()) {
            errors.extend(validate_ip(&path.child("ip"), ip));
        }
        if let Some(name) = entry.hostname.as_deref().filter(|name| !name.is_empty()) {
            let path = path.child("hostname");
            errors.extend(path.invalid_for_each(name, names::dns_subdomain(name)));
            if name.parse::<IpAddr>().is_ok() {
                errors.push(path.invalid(name, NOT_AN_IP));
            }
        }
    }
    errors
}

fn spec(spec: &IngressSpec, path: &Path) -> FieldErrors {
    let rules = spec.rules.as_deref().unwrap_or_default();
    let mut errors = FieldErrors::new();
    if rules.is_empty() && spec.default_backend.is_none() {
        let detail = "either `defaultBackend` or `rules` must be specified";
        errors.push(path.invalid(&spec.rules, detail));
    }
    if let Some(default) = &spec.default_backend {
        errors.extend(backend(default, &path.child("defaultBackend")));
    }
    for (i, one) in rules.iter().enumerate() {
        errors.extend(rule(one, &path.child("rules").index(i)));
    }
    for (i, one) in spec.tls.iter().flatten().enumerate() {
        errors.extend(tls(one, &path.child("tls").index(i)));
    }
    if let Some(class) = &spec.ingress_class_name {
        let path = path.child("ingressClassName");
        errors.extend(path.invalid_for_each(class, names::dns_subdomain(class)));
    }
    errors
}

fn tls(tls: &IngressTLS, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (i, name) in tls.hosts.iter().flatten().enumerate() {
        errors.extend(path.child("hosts").index(i).invalid_for_each(name, host_name(name)));
    }
    if let Some(secret) = tls.secret_name.as_deref().filter(|name| !name.is_empty()) {
        let path = path.child("secretName");
        errors.extend(path.invalid_for_each(secret, names::dns_subdomain(secret)));
    }
    errors
}

fn host_name(host: &str) -> names::Problems {
    if host.contains('*') { names::wildcard_subdomain(host) } else { names::dns_subdomain(host) }
}

fn rule(rule: &IngressRule, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if let Some(host) = rule.host.as_deref().filter(|host| !host.is_empty()) {
        let path = path.child("host");
        if host.parse::<IpAddr>().is_ok() {
            errors.push(path.invalid(host, NOT_AN_IP));
        }
        errors.extend(path.invalid_for_each(host, host_name(host)));
    }
    if let Some(http) = &rule.http {
        let path = path.child("http.paths");
        if http.paths.is_empty() {
            errors.push(path.required(""));
        }
        let each = http.paths.iter().enumerate();
        errors.extend(each.flat_map(|(i, one)| http_path(one, &path.index(i))));
    }
    errors
}

fn http_path(http: &HTTPIngressPath, path: &Path) -> FieldErrors {
    let text = http.path.as_deref().unwrap_or_default();
    let at = path.child("path");
    let mut errors = FieldErrors::new();
    match http.path_type.as_str() {
        "" => return vec![path.child("pathType").required("pathType must be specified")],
        "Exact" | "Prefix" => {
            if !text.starts_with('/') {
                errors.push(at.invalid(text, "must be an absolute path"));
            }
            let within = BAD_SEQUENCES.iter().filter(|bad| text.contains(**bad));
            errors.extend(within.map(|bad| at.invalid(text, format!("must not contain '{bad}'"))));
            let ends = BAD_ENDS.iter().filter(|bad| text.ends_with(**bad));
            errors.extend(ends.map(|bad| at.invalid(text, format!("cannot end with '{bad}'"))));
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !text.starts_with('/') {
                errors.push(at.invalid(text, "must be an absolute path"));
            }
        }
        other => errors.push(path.child("pathType").not_supported(other, &PATH_TYPES)),
    }
    errors.extend(backend(&http.backend, &path.child("backend")));
    errors
}

fn backend(backend: &IngressBackend, path: &Path) -> FieldErrors {
    match (&backend.resource, &backend.service) {
        (Some(_), Some(_)) => {
            vec![path.invalid("", "cannot set both resource and service backends")]
        }
        (Some(resource), None) => resource_backend(resource, &path.child("resource")),
        (None, Some(service)) => service_backend(service, path),
        (None, None) => vec![path.invalid("", "resource or service backend is required")],
    }
}

fn service_backend(service: &IngressServiceBackend, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let at = path.child("service");
    if service.name.is_empty() {
        errors.push(at.child("name").required(""));
    } else {
        let problems = names::dns_label(&service.name);
        errors.extend(at.child("name").invalid_for_each(&service.name, problems));
    }
    let port = service.port.clone().unwrap_or_default();
    let name = port.name.as_deref().filter(|name| !name.is_empty());
    match (name, port.number.filter(|number| *number != 0)) {
        (Some(_), Some(_)) => {
            errors.push(path.invalid("", "cannot set both port name & port number"));
        }
        (Some(name), None) => {
            errors.extend(at.child("port.name").invalid_for_each(name, names::port_name(name)));
        }
        (None, Some(number)) => {
            let problems = names::port_number(number);
            errors.extend(at.child("port.number").invalid_for_each(number, problems));
        }
        (None, None) => errors.push(path.required("port name or number is required")),
    }
    errors
}

fn resource_backend(resource: &TypedLocalObjectReference, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if let Some(group) = &resource.api_group {
        errors.extend(path.child("apiGroup").invalid_for_each(group, names::dns_subdomain(group)));
    }
    for (field, value) in [("kind", &resource.kind), ("name", &resource.name)] {
        let path = path.child(field);
        if value.is_empty() {
            errors.push(path.required(""));
        } else {
            errors.extend(path.invalid_for_each(value, names::path_segment(value)));
        }
    }
    errors
}
