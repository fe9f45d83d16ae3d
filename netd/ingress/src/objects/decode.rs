//! Kubernetes' objects become lean ones.
//!
//! Tolerant on purpose, as all of netd: what can't be understood is left out, because the API
//! server has told its author already.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use netmodel::address::Protocol;
use netmodel::snapshot::{Endpoint, EndpointSlice};

use super::{
    Backend, Ingress, IngressClass, Options, Path, PathKind, Port, Rule, Service, ServicePort,
    Slice, Tls, TlsSecret,
};

/// The annotation that named a class before there was a field for it.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
/// The annotation that makes a class the default one.
const DEFAULT_CLASS_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";
const REDIRECT_ANNOTATION: &str = "minictl.io/ssl-redirect";
const UPSTREAM_HOST_ANNOTATION: &str = "minictl.io/upstream-host";
const TIMEOUT_ANNOTATION: &str = "minictl.io/response-timeout";

/// The type of Secrets with certificates.
pub const TLS_SECRET_TYPE: &str = "kubernetes.io/tls";

/// An Ingress.
#[must_use]
pub fn ingress(object: &networking::Ingress) -> Ingress {
    let metadata = &object.metadata;
    let spec = object.spec.as_ref();
    let class = spec
        .and_then(|spec| spec.ingress_class_name.as_deref())
        .or_else(|| annotation(metadata, CLASS_ANNOTATION));
    Ingress {
        uid: metadata.uid.as_deref().unwrap_or_default().into(),
        created: metadata.creation_timestamp.as_ref().map(|time| time.0),
        class: class.map(Arc::from),
        default_backend: spec.and_then(|s| s.default_backend.as_ref()).and_then(backend),
        rules: spec.iter().flat_map(|s| s.rules.iter().flatten()).map(rule).collect(),
        tls: spec.iter().flat_map(|s| s.tls.iter().flatten()).map(tls).collect(),
        options: options(metadata),
    }
}

fn options(metadata: &ObjectMeta) -> Options {
    let seconds = annotation(metadata, TIMEOUT_ANNOTATION)
        .and_then(|text| text.trim_end_matches('s').parse().ok());
    Options {
        ssl_redirect: annotation(metadata, REDIRECT_ANNOTATION) == Some("true"),
        upstream_host: annotation(metadata, UPSTREAM_HOST_ANNOTATION)
            .filter(|host| !host.is_empty() && host.parse::<http::uri::Authority>().is_ok())
            .map(Arc::from),
        response_timeout: seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs),
    }
}

fn rule(object: &networking::IngressRule) -> Rule {
    let paths = object.http.iter().flat_map(|http| &http.paths);
    Rule {
        host: object.host.as_deref().unwrap_or_default().to_ascii_lowercase().into(),
        paths: paths
            .filter_map(|one| {
                Some(Path {
                    path: one.path.as_deref().unwrap_or_default().into(),
                    kind: match one.path_type.as_str() {
                        "Exact" => PathKind::Exact,
                        _ => PathKind::Prefix,
                    },
                    backend: backend(&one.backend)?,
                })
            })
            .collect(),
    }
}

fn backend(object: &networking::IngressBackend) -> Option<Backend> {
    if let Some(resource) = &object.resource {
        return Some(Backend::Resource(format!("{} {}", resource.kind, resource.name).into()));
    }
    let service = object.service.as_ref()?;
    let port = service.port.as_ref()?;
    let port = match (&port.name, port.number) {
        (Some(name), _) if !name.is_empty() => Port::Name(name.as_str().into()),
        (_, number) => Port::Number(u16::try_from(number?).ok()?),
    };
    Some(Backend::Service(service.name.as_str().into(), port))
}

fn tls(object: &networking::IngressTLS) -> Tls {
    let hosts = object.hosts.iter().flatten();
    Tls {
        hosts: hosts.map(|host| host.to_ascii_lowercase().into()).collect(),
        secret: object.secret_name.as_deref().filter(|name| !name.is_empty()).map(Box::from),
    }
}

/// An `IngressClass`.
#[must_use]
pub fn class(object: &networking::IngressClass) -> IngressClass {
    let controller = object.spec.as_ref().and_then(|spec| spec.controller.as_deref());
    IngressClass {
        controller: controller.unwrap_or_default().into(),
        is_default: annotation(&object.metadata, DEFAULT_CLASS_ANNOTATION) == Some("true"),
    }
}

/// A Service.
#[must_use]
pub fn service(object: &core::Service) -> Service {
    let Some(spec) = &object.spec else { return Service::default() };
    let is_external = spec.type_.as_deref() == Some("ExternalName");
    let is_tcp = |port: &&core::ServicePort| {
        port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP")
    };
    let ports = spec.ports.iter().flatten().filter(is_tcp).filter_map(|port| {
        Some(ServicePort {
            name: port.name.as_deref().map(Arc::from).unwrap_or_default(),
            port: u16::try_from(port.port).ok()?,
            app_protocol: port.app_protocol.as_deref().map(Arc::from),
        })
    });
    let mut ports: Vec<ServicePort> = ports.collect();
    // There are many Services, and few that an Ingress names.
    ports.shrink_to_fit();
    Service {
        external_name: spec.external_name.as_deref().filter(|_| is_external).map(Arc::from),
        ports,
    }
}

/// A slice.
#[must_use]
pub fn slice(slice: &EndpointSlice) -> Slice {
    let ports = slice.ports.iter().filter(|port| port.protocol == Protocol::Tcp);
    let ports = ports.map(|port| (port.name.clone(), port.port));
    // All addresses of an endpoint are the same pod (upstream: only the first is used).
    let first = |wanted: fn(&Endpoint) -> bool| {
        let endpoints = slice.endpoints.iter().filter(move |endpoint| wanted(endpoint));
        endpoints.filter_map(|endpoint| endpoint.addresses.first().copied()).collect()
    };
    Slice {
        ports: ports.collect(),
        ready: first(|endpoint| endpoint.ready),
        leaving: first(|one| !one.ready && one.serving && one.terminating),
    }
}

/// A Secret with a certificate; `None` if it is of another type.
#[must_use]
pub fn secret(object: &core::Secret) -> Option<TlsSecret> {
    if object.type_.as_deref() != Some(TLS_SECRET_TYPE) {
        return None;
    }
    let empty = BTreeMap::new();
    let data = object.data.as_ref().unwrap_or(&empty);
    let part = |name: &str| data.get(name).map(|bytes| bytes.0.clone()).unwrap_or_default();
    Some(TlsSecret { chain: part("tls.crt"), key: part("tls.key") })
}

fn annotation<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(name).map(String::as_str)
}
