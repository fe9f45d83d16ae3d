//! A pod's names and DNS (upstream: `validatePodDNSConfig`, `ValidateHostAliases`,
//! `validatePodHostNetworkDeps`).

use k8s_openapi::api::core::v1::{PodDNSConfig, PodSpec};

use crate::addresses::validate_ip;
use crate::field::{FieldErrors, Path};
use crate::names;

const DNS_POLICIES: &[&str] = &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
/// Limits of the C library's resolver.
const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARACTERS: usize = 2048;

/// With the host's network a port of a container is the same port of the host.
pub(super) fn validate_host_ports(spec: &PodSpec, path: &Path, is_pod: bool) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if spec.host_network != Some(true) {
        return errors;
    }
    for (i, container) in spec.containers.iter().enumerate() {
        for (j, port) in container.ports.iter().flatten().enumerate() {
            let host_port = port.host_port.unwrap_or_default();
            if (is_pod || host_port != 0) && host_port != port.container_port {
                let path = path.child("containers").index(i).child("ports").index(j);
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.push(path.child("hostPort").invalid(host_port, detail));
            }
        }
    }
    errors
}

pub(super) fn validate_dns_policy(spec: &PodSpec, path: &Path) -> FieldErrors {
    let path = path.child("dnsPolicy");
    match spec.dns_policy.as_deref().unwrap_or_default() {
        "" => vec![path.required("")],
        known if DNS_POLICIES.contains(&known) => Vec::new(),
        other => vec![path.not_supported(other, DNS_POLICIES)],
    }
}

pub(super) fn validate_dns_config(spec: &PodSpec, path: &Path) -> FieldErrors {
    let alone = spec.dns_policy.as_deref() == Some("None");
    let Some(config) = &spec.dns_config else {
        let detail = "must provide `dnsConfig` when `dnsPolicy` is None";
        return if alone { vec![path.required(detail)] } else { Vec::new() };
    };
    let servers = config.nameservers.as_deref().unwrap_or_default();
    let servers_path = path.child("nameservers");
    if alone && servers.is_empty() {
        let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        return vec![servers_path.required(detail)];
    }
    let mut errors = FieldErrors::new();
    if servers.len() > MAX_NAMESERVERS {
        let detail = format!("must not have more than {MAX_NAMESERVERS} nameservers");
        errors.push(servers_path.invalid(servers, detail));
    }
    for (i, server) in servers.iter().enumerate() {
        errors.extend(validate_ip(&servers_path.index(i), server));
    }
    errors.extend(searches(config, &path.child("searches")));
    for (i, option) in config.options.iter().flatten().enumerate() {
        if option.name.as_deref().unwrap_or_default().is_empty() {
            errors.push(path.child("options").index(i).required("must not be empty"));
        }
    }
    errors
}

fn searches(config: &PodDNSConfig, path: &Path) -> FieldErrors {
    let searches = config.searches.as_deref().unwrap_or_default();
    let mut errors = FieldErrors::new();
    if searches.len() > MAX_SEARCHES {
        let detail = format!("must not have more than {MAX_SEARCHES} search paths");
        errors.push(path.invalid(searches, detail));
    }
    if searches.join(" ").len() > MAX_SEARCH_CHARACTERS {
        let detail = format!(
            "must not have more than {MAX_SEARCH_CHARACTERS} characters (including spaces) in \
             the search list"
        );
        errors.push(path.invalid(searches, detail));
    }
    for (i, search) in searches.iter().enumerate().filter(|(_, s)| *s != ".") {
        let name = search.strip_suffix('.').unwrap_or(search);
        let problems = names::dns_subdomain_with_underscore(name);
        errors.extend(path.index(i).invalid_for_each(name, problems));
    }
    errors
}

pub(super) fn validate_names(spec: &PodSpec, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (field, name) in [("hostname", &spec.hostname), ("subdomain", &spec.subdomain)] {
        if let Some(name) = name.as_deref().filter(|n| !n.is_empty()) {
            errors.extend(path.child(field).invalid_for_each(name, names::dns_label(name)));
        }
    }
    errors
}

pub(super) fn validate_host_aliases(spec: &PodSpec, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (i, alias) in spec.host_aliases.iter().flatten().enumerate() {
        let path = path.index(i);
        errors.extend(validate_ip(&path.child("ip"), &alias.ip));
        for (j, name) in alias.hostnames.iter().flatten().enumerate() {
            let path = path.child("hostnames").index(j);
            errors.extend(path.invalid_for_each(name, names::dns_subdomain(name)));
        }
    }
    errors
}
