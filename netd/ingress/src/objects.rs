//! What the cluster says about Ingress, cut down to what routing reads.
//!
//! Owns lean copies of Ingress, `IngressClass`, Service, `EndpointSlice` and TLS Secret. Deliberately not here: decoding ([`decode`]) and any decision ([`crate::routes`]).

pub mod decode;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use netmodel::snapshot::ServiceName;

/// Namespace and name of an object.
pub type ObjectName = ServiceName;

/// The controller that an `IngressClass` must name to be ours.
pub const CONTROLLER: &str = "minictl.io/ingress";

/// Everything that routing depends on, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// All Ingresses, of other classes, too.
    pub ingresses: BTreeMap<ObjectName, Arc<Ingress>>,
    /// All classes by name.
    pub classes: BTreeMap<Arc<str>, IngressClass>,
    /// Services; those that no Ingress names may be left out.
    pub services: BTreeMap<ObjectName, Arc<Service>>,
    /// Their slices, by Service and slice name.
    pub slices: BTreeMap<ObjectName, BTreeMap<Arc<str>, Slice>>,
    /// Secrets of type `kubernetes.io/tls`.
    pub secrets: BTreeMap<ObjectName, Arc<TlsSecret>>,
}

/// An Ingress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ingress {
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.creationTimestamp`: of two that claim the same path the older one has it.
    pub created: Option<Timestamp>,
    /// `spec.ingressClassName`, else the annotation `kubernetes.io/ingress.class`.
    pub class: Option<Arc<str>>,
    /// `spec.defaultBackend`.
    pub default_backend: Option<Backend>,
    /// `spec.rules`.
    pub rules: Vec<Rule>,
    /// `spec.tls`.
    pub tls: Vec<Tls>,
    /// What annotations ask for.
    pub options: Options,
}

/// What annotations of an Ingress ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `minictl.io/ssl-redirect: "true"`: plain HTTP is sent on to HTTPS.
    pub ssl_redirect: bool,
    /// `minictl.io/upstream-host`: the Host that backends get to see.
    pub upstream_host: Option<Arc<str>>,
    /// `minictl.io/response-timeout`, in seconds: how long a backend may take to begin its answer.
    pub response_timeout: Option<Duration>,
}

/// A rule: the paths of a host, or of all hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// A host name, perhaps with `*` for its first label; empty for all hosts.
    pub host: Box<str>,
    /// Its paths. A rule without any is for the default backend.
    pub paths: Vec<Path>,
}

/// A path and who answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// The path; empty means `/`.
    pub path: Box<str>,
    /// How it is compared.
    pub kind: PathKind,
    /// Who answers.
    pub backend: Backend,
}

/// How a path is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathKind {
    /// Character by character.
    Exact,
    /// Element by element, where `/` separates elements. `ImplementationSpecific` is the same here.
    Prefix,
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// A port of a Service in the Ingress' namespace.
    Service(Box<str>, Port),
    /// An object of another kind, which this controller can't serve; its kind and name.
    Resource(Box<str>),
}

/// A port of a Service as an Ingress names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Port {
    /// By its name.
    Name(Box<str>),
    /// By its number.
    Number(u16),
}

/// Hosts and the Secret with their certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The hosts; the hosts of the Ingress' rules if there are none.
    pub hosts: Vec<Box<str>>,
    /// The Secret, in the Ingress' namespace; the fallback certificate serves if there is none.
    pub secret: Option<Box<str>>,
}

/// An `IngressClass`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressClass {
    /// Who serves it.
    pub controller: Box<str>,
    /// Ingresses that name no class are of this one.
    pub is_default: bool,
}

/// A Service, as far as requests are sent on to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// `spec.externalName` while the type is `ExternalName`.
    pub external_name: Option<Arc<str>>,
    /// Its TCP ports.
    pub ports: Vec<ServicePort>,
}

/// A TCP port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; empty when the Service has a single unnamed port.
    pub name: Arc<str>,
    /// Its number.
    pub port: u16,
    /// `appProtocol`.
    pub app_protocol: Option<Arc<str>>,
}

/// An `EndpointSlice`: addresses and TCP ports, and nothing else, because there are many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// Ports that all its endpoints offer, by the name of the Service's port.
    pub ports: Box<[(Arc<str>, u16)]>,
    /// Endpoints that take requests.
    pub ready: Box<[IpAddr]>,
    /// Endpoints that still serve while they terminate.
    pub leaving: Box<[IpAddr]>,
}

/// A Secret of type `kubernetes.io/tls`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TlsSecret {
    /// `tls.crt`: the chain in PEM.
    pub chain: Vec<u8>,
    /// `tls.key`: the private key in PEM.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for TlsSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsSecret") // Never its content: it would end up in a log.
    }
}
