//! The routing table: from host and path to those who answer.
//!
//! Input of a look-up: a host in lower case without its port, and a path as it came. Output: the
//! route, or what is missing. Rules (upstream: "Ingress", concepts/services-networking, and
//! `IngressRule.host`: "matched against the host before the `IngressRuleValue`"): first the host is
//! found, the exact one before the wildcard, which stands for one label, and that before rules
//! without a host; then a path among the rules of that host alone, the longest, and `Exact` before
//! `Prefix`; a host's other paths are the default backend's. So does ingress-nginx, where each host
//! is a server block. A look-up allocates nothing unless the path has percent signs, and costs no
//! more with more rules. Deliberately not here: how a table is made ([`crate::routes`]).

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::objects::{ObjectName, Options};

/// All routes.
#[derive(Debug, Default)]
pub struct Table {
    /// Rules for one host.
    pub(crate) hosts: HashMap<Box<str>, Host>,
    /// Rules for `*.` and this.
    pub(crate) wildcards: HashMap<Box<str>, Host>,
    /// Rules for all hosts.
    pub(crate) any: Host,
    /// Who answers what no rule is for.
    pub(crate) default: Option<Arc<Route>>,
}

/// The rules of a host.
#[derive(Debug, Default)]
pub(crate) struct Host {
    exact: HashMap<Box<str>, Arc<Route>>,
    /// By path without the slash at its end.
    prefixes: HashMap<Box<str>, Arc<Route>>,
    /// The length of the longest prefix: no longer part of a path needs to be looked up.
    longest: usize,
    /// Who answers the host's other paths.
    pub(crate) default: Option<Arc<Route>>,
}

/// Where requests of a rule go.
#[derive(Debug, PartialEq, Eq)]
pub struct Route {
    /// The Ingress whose rule it is.
    pub ingress: ObjectName,
    /// What its annotations ask for.
    pub options: Options,
    /// The Service.
    pub service: ObjectName,
    /// Who answers for the Service.
    pub target: Target,
}

/// Who answers for a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// These endpoints, at least one.
    Endpoints(Protocol, Box<[SocketAddr]>),
    /// A name outside the cluster (`ExternalName`) and a port.
    External(Protocol, Arc<str>, u16),
    /// Nobody, and why.
    Nobody(Box<str>),
}

/// What a backend speaks (`appProtocol` of the Service's port).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/1.1 in TLS, whose certificate is not checked.
    Https,
    /// HTTP/2 without TLS, by prior knowledge: gRPC's way.
    H2c,
}

/// What a look-up found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// Who answers.
    Route(&'a Arc<Route>),
    /// The host has rules, but none for this path.
    NoPath,
    /// No rule names this host, and of those without a host none is for this path.
    NoPathWithoutHost,
    /// There is no rule for this host.
    NoHost,
}

impl Host {
    /// Adds a rule; the older one, which is there already, stays, and is returned.
    pub(crate) fn add_exact(&mut self, path: &str, route: &Arc<Route>) -> Option<&Arc<Route>> {
        match self.exact.entry(decoded(path).into()) {
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(route.clone());
                None
            }
            std::collections::hash_map::Entry::Occupied(taken) => Some(taken.into_mut()),
        }
    }

    /// Adds a rule; the older one, which is there already, stays, and is returned.
    pub(crate) fn add_prefix(&mut self, path: &str, route: &Arc<Route>) -> Option<&Arc<Route>> {
        let path = decoded(path);
        let path = path.strip_suffix('/').unwrap_or(&path);
        self.longest = self.longest.max(path.len());
        match self.prefixes.entry(path.into()) {
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(route.clone());
                None
            }
            std::collections::hash_map::Entry::Occupied(taken) => Some(taken.into_mut()),
        }
    }

    /// Is there no rule at all?
    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefixes.is_empty()
    }

    fn find(&self, path: &str) -> Option<&Arc<Route>> {
        if let Some(route) = self.exact.get(path) {
            return Some(route);
        }
        if self.prefixes.is_empty() {
            return None;
        }
        // From the longest part of the path that ends where an element does, to the root.
        let mut part = match path.as_bytes().get(self.longest) {
            None => path,
            Some(b'/') => &path[..self.longest],
            Some(_) => parent(up_to(path, self.longest)),
        };
        loop {
            if let Some(route) = self.prefixes.get(part) {
                return Some(route);
            }
            if part.is_empty() {
                return None;
            }
            part = parent(part);
        }
    }
}

/// At most so many bytes of a text.
fn up_to(text: &str, mut end: usize) -> &str {
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A path without its last element.
fn parent(path: &str) -> &str {
    path.rfind('/').map_or("", |slash| &path[..slash])
}

impl Table {
    /// Who answers for this host and path?
    #[must_use]
    pub fn find(&self, host: &str, path: &str) -> Found<'_> {
        let of_host = self.hosts.get(host).or_else(|| {
            let (_, rest) = host.split_once('.')?;
            self.wildcards.get(rest)
        });
        let rules = of_host.unwrap_or(&self.any);
        let route = rules.find(&decoded(path)).or(rules.default.as_ref());
        match route.or(self.default.as_ref()) {
            Some(route) => Found::Route(route),
            None if of_host.is_some() => Found::NoPath,
            None if !self.any.is_empty() => Found::NoPathWithoutHost,
            None => Found::NoHost,
        }
    }

    /// Are there no routes at all?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
            && self.wildcards.is_empty()
            && self.any.is_empty()
            && self.default.is_none()
    }

    /// The rules for a host as an Ingress writes it.
    pub(crate) fn host_mut(&mut self, host: &str) -> &mut Host {
        match host.strip_prefix("*.") {
            _ if host.is_empty() => &mut self.any,
            Some(rest) => self.wildcards.entry(rest.into()).or_default(),
            None => self.hosts.entry(host.into()).or_default(),
        }
    }
}

/// A path without percent signs, so that `/%7Ea` is `/~a`. A slash or percent sign that was
/// written as `%2F` or `%25` is a part of its element and stays as it is.
pub(crate) fn decoded(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let bytes = path.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digit = |n: usize| bytes.get(at + n).and_then(|b| char::from(*b).to_digit(16));
        match (bytes[at], digit(1), digit(2)) {
            (b'%', Some(high), Some(low)) => {
                let byte =
                    u8::try_from(high * 16 + low).expect("two hexadecimal digits are a byte");
                if matches!(byte, b'/' | b'%') {
                    out.extend(bytes[at..at + 3].iter().map(u8::to_ascii_uppercase));
                } else {
                    out.push(byte);
                }
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).map_or(Cow::Borrowed(path), Cow::Owned)
}
