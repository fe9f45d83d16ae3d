//! From the cluster's objects to a routing table.
//!
//! Input: [`Cluster`]. Output: a [`Table`], the names of Secrets by host, and [`Finding`]s for the
//! authors of Ingresses. Pure. Which Ingresses are ours: those of a class whose controller is
//! [`CONTROLLER`], named by `ingressClassName` or by the older annotation, or by default. Of two
//! Ingresses that claim the same path the older one has it, then the one first in the alphabet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::objects::{
    Backend, CONTROLLER, Cluster, Ingress, ObjectName, PathKind, Port, Rule, Service, ServicePort,
    Slice,
};
use crate::table::{Protocol, Route, Table, Target};

/// What an author of an Ingress should know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The Ingress.
    pub ingress: ObjectName,
    /// A word in CamelCase.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

/// What came of the objects.
#[derive(Debug, Default)]
pub struct Routes {
    /// The table.
    pub table: Table,
    /// The Secret whose certificate a host wants, and the Ingress that says so; a host may begin
    /// with `*.`.
    pub secrets: BTreeMap<Box<str>, (ObjectName, ObjectName)>,
    /// What authors should know.
    pub findings: Vec<Finding>,
}

/// The Ingresses that are ours, the oldest first.
#[must_use]
pub fn ours(cluster: &Cluster) -> Vec<(&ObjectName, &Ingress)> {
    let is_ours = |ingress: &Ingress| match &ingress.class {
        Some(class) => cluster.classes.get(class).is_some_and(|c| *c.controller == *CONTROLLER),
        None => cluster.classes.values().any(|c| c.is_default && *c.controller == *CONTROLLER),
    };
    let all = cluster.ingresses.iter().map(|(name, ingress)| (name, &**ingress));
    let mut ours: Vec<_> = all.filter(|(_, ingress)| is_ours(ingress)).collect();
    // One that has no time yet was made just now.
    ours.sort_by_key(|(name, one)| (one.created.is_none(), one.created, (*name).clone()));
    ours
}

/// The Services that our Ingresses name: no others need to be known.
#[must_use]
pub fn services_in_use(cluster: &Cluster) -> BTreeSet<ObjectName> {
    let mut names = BTreeSet::new();
    for (name, ingress) in ours(cluster) {
        let paths = ingress.rules.iter().flat_map(|rule| &rule.paths);
        for backend in paths.map(|path| &path.backend).chain(&ingress.default_backend) {
            if let Backend::Service(service, _) = backend {
                names.insert(ObjectName::new(&name.namespace, service));
            }
        }
    }
    names
}

/// Makes the table.
#[must_use]
pub fn routes(cluster: &Cluster) -> Routes {
    let mut builder = Builder { cluster, routes: Routes::default() };
    let ours = ours(cluster);
    for (name, ingress) in &ours {
        builder.add(name, ingress);
    }
    // An Ingress without rules is there for nothing but its default backend.
    let with_default = |rules: bool| {
        ours.iter().find(|(_, one)| one.default_backend.is_some() && one.rules.is_empty() != rules)
    };
    if let Some((name, ingress)) = with_default(false).or_else(|| with_default(true)) {
        let backend = ingress.default_backend.as_ref();
        builder.routes.table.default = backend.map(|backend| builder.route(name, ingress, backend));
    }
    builder.routes
}

struct Builder<'a> {
    cluster: &'a Cluster,
    routes: Routes,
}

impl Builder<'_> {
    fn add(&mut self, name: &ObjectName, ingress: &Ingress) {
        for rule in &ingress.rules {
            self.add_rule(name, ingress, rule);
        }
        for tls in &ingress.tls {
            let of_rules = ingress.rules.iter().map(|rule| &rule.host).filter(|h| !h.is_empty());
            let hosts: Vec<&Box<str>> =
                if tls.hosts.is_empty() { of_rules.collect() } else { tls.hosts.iter().collect() };
            let Some(secret) = &tls.secret else { continue };
            let secret = ObjectName::new(&name.namespace, secret);
            for host in hosts {
                let wanted = (secret.clone(), name.clone());
                self.routes.secrets.entry(host.clone()).or_insert(wanted);
            }
        }
        for (name, reason, message) in self.complaints(name, ingress) {
            self.routes.findings.push(Finding { ingress: name, reason, message });
        }
    }

    fn add_rule(&mut self, name: &ObjectName, ingress: &Ingress, rule: &Rule) {
        let default = ingress.default_backend.as_ref();
        let default = default.map(|backend| self.route(name, ingress, backend));
        let paths: Vec<_> = rule
            .paths
            .iter()
            .map(|path| (path, self.route(name, ingress, &path.backend)))
            .collect();
        let host = self.routes.table.host_mut(&rule.host);
        if let (None, Some(default)) = (&host.default, default) {
            host.default = Some(default);
        }
        let mut taken = Vec::new();
        for (path, route) in paths {
            let text = if path.path.is_empty() { "/" } else { &*path.path };
            let older = match path.kind {
                PathKind::Exact => host.add_exact(text, &route),
                PathKind::Prefix => host.add_prefix(text, &route),
            };
            if let Some(older) = older.filter(|older| **older != route) {
                taken.push((text.to_owned(), older.ingress.clone()));
            }
        }
        for (path, owner) in taken {
            let host = if rule.host.is_empty() { "every host" } else { &*rule.host };
            let message = format!("path {path} of {host} belongs to Ingress {owner} already");
            let finding = Finding { ingress: name.clone(), reason: "PathTaken", message };
            self.routes.findings.push(finding);
        }
    }

    fn route(&self, name: &ObjectName, ingress: &Ingress, backend: &Backend) -> Arc<Route> {
        let (service, target) = match backend {
            Backend::Service(service, port) => {
                let service = ObjectName::new(&name.namespace, service);
                let target = target(self.cluster, &service, port);
                (service, target)
            }
            Backend::Resource(what) => {
                let why = format!("backend {what} is not a Service, and nothing else can answer");
                (ObjectName::new(&name.namespace, what), Target::Nobody(why.into()))
            }
        };
        let options = ingress.options.clone();
        Arc::new(Route { ingress: name.clone(), options, service, target })
    }

    /// What stays wrong until somebody edits something; endpoints come and go by themselves.
    fn complaints(
        &self,
        name: &ObjectName,
        ingress: &Ingress,
    ) -> BTreeSet<(ObjectName, &'static str, String)> {
        let paths = ingress.rules.iter().flat_map(|rule| &rule.paths);
        let backends = paths.map(|path| &path.backend).chain(&ingress.default_backend);
        let complaint = |backend: &Backend| match backend {
            Backend::Resource(what) => {
                Some(("BadBackend", format!("backend {what} is not a Service")))
            }
            Backend::Service(service, port) => {
                let service = ObjectName::new(&name.namespace, service);
                match self.cluster.services.get(&service) {
                    None => Some(("ServiceNotFound", no_service(&service))),
                    Some(known) => (known.external_name.is_none()
                        && find_port(known, port).is_none())
                    .then(|| ("PortNotFound", no_port(&service, port))),
                }
            }
        };
        backends.filter_map(complaint).map(|(reason, text)| (name.clone(), reason, text)).collect()
    }
}

fn no_service(name: &ObjectName) -> String {
    format!("Service {name} does not exist")
}

fn no_port(service: &ObjectName, port: &Port) -> String {
    match port {
        Port::Name(name) => format!("Service {service} has no TCP port named \"{name}\""),
        Port::Number(number) => format!("Service {service} has no TCP port {number}"),
    }
}

fn find_port<'a>(service: &'a Service, port: &Port) -> Option<&'a ServicePort> {
    service.ports.iter().find(|one| match port {
        Port::Name(name) => *one.name == **name,
        Port::Number(number) => one.port == *number,
    })
}

/// Who answers for a port of a Service.
fn target(cluster: &Cluster, name: &ObjectName, port: &Port) -> Target {
    let Some(service) = cluster.services.get(name) else {
        return Target::Nobody(no_service(name).into());
    };
    let found = find_port(service, port);
    let protocol = protocol(found.and_then(|port| port.app_protocol.as_deref()));
    if let Some(external) = &service.external_name {
        // Such a Service needs to have no ports; then the Ingress has the only number.
        return match (found, port) {
            (Some(found), _) => Target::External(protocol, external.clone(), found.port),
            (None, Port::Number(number)) => {
                let protocol = if *number == 443 { Protocol::Https } else { protocol };
                Target::External(protocol, external.clone(), *number)
            }
            (None, Port::Name(_)) => Target::Nobody(no_port(name, port).into()),
        };
    }
    let Some(found) = found else { return Target::Nobody(no_port(name, port).into()) };
    let slices = cluster.slices.get(name);
    let endpoints = endpoints(slices.into_iter().flat_map(BTreeMap::values), &found.name);
    if endpoints.is_empty() {
        return Target::Nobody(format!("Service {name} has no ready endpoints").into());
    }
    Target::Endpoints(protocol, endpoints)
}

/// What `appProtocol` stands for (upstream: KEP-3726 for the names with `kubernetes.io/`).
fn protocol(app_protocol: Option<&str>) -> Protocol {
    match app_protocol {
        Some("https" | "kubernetes.io/wss") => Protocol::Https,
        Some("kubernetes.io/h2c" | "grpc" | "h2c") => Protocol::H2c,
        _ => Protocol::Http,
    }
}

/// The ready endpoints; where there is none, those that still serve while they terminate (as
/// upstream's proxy does). A pod with addresses of two families counts once.
fn endpoints<'a>(slices: impl Iterator<Item = &'a Slice> + Clone, port: &str) -> Box<[SocketAddr]> {
    let list = |state: fn(&Slice) -> &[IpAddr], is_v4: bool| -> BTreeSet<SocketAddr> {
        let with_port = slices.clone().filter_map(|slice| {
            let (_, number) = slice.ports.iter().find(|(name, _)| **name == *port)?;
            Some(state(slice).iter().map(|address| SocketAddr::new(*address, *number)))
        });
        with_port.flatten().filter(|address| address.is_ipv4() == is_v4).collect()
    };
    let ready: fn(&Slice) -> &[IpAddr] = |slice| &slice.ready;
    let leaving: fn(&Slice) -> &[IpAddr] = |slice| &slice.leaving;
    [(ready, true), (ready, false), (leaving, true), (leaving, false)]
        .into_iter()
        .map(|(state, is_v4)| list(state, is_v4))
        .find(|addresses| !addresses.is_empty())
        .unwrap_or_default()
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests;
