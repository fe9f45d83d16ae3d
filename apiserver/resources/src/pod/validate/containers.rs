//! Containers and init containers (upstream: `validateContainers`, `validateInitContainers`).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, ContainerPort, PodSpec};

use super::{Surroundings, environment, mounts, probes, resources, security};
use crate::field::{FieldErrors, Path};
use crate::names;
use crate::pod::is_sidecar;
use crate::ports::PROTOCOLS;

const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];
const MESSAGE_POLICIES: &[&str] = &["File", "FallbackToLogsOnError"];

pub(super) fn validate(spec: &PodSpec, around: &Surroundings<'_>, path: &Path) -> FieldErrors {
    let mut errors = regular(&spec.containers, around, &path.child("containers"));
    let inits = spec.init_containers.as_deref().unwrap_or_default();
    let path = path.child("initContainers");
    let mut names: BTreeSet<&str> = spec.containers.iter().map(|c| c.name.as_str()).collect();
    for (i, container) in inits.iter().enumerate() {
        let path = path.index(i);
        errors.extend(any(container, around, &path));
        errors.extend(init_restart_policy(container, &path.child("restartPolicy")));
        if !container.name.is_empty() && !names.insert(&container.name) {
            errors.push(path.child("name").duplicate(&container.name));
        }
        errors.extend(host_port_conflicts(std::slice::from_ref(container), &path));
        errors.extend(if is_sidecar(container) {
            probes::validate(container, around, &path)
        } else {
            no_probes(container, &path)
        });
    }
    errors
}

fn regular(containers: &[Container], around: &Surroundings<'_>, path: &Path) -> FieldErrors {
    if containers.is_empty() {
        return vec![path.required("")];
    }
    let mut errors = FieldErrors::new();
    let mut names = BTreeSet::new();
    for (i, container) in containers.iter().enumerate() {
        let path = path.index(i);
        errors.extend(any(container, around, &path));
        if !names.insert(&container.name) {
            errors.push(path.child("name").duplicate(&container.name));
        }
        errors.extend(probes::validate(container, around, &path));
        if container.restart_policy.is_some() {
            let path = path.child("restartPolicy");
            errors.push(path.forbidden("may not be set for non-init containers"));
        }
    }
    errors.extend(host_port_conflicts(containers, path));
    errors
}

/// What holds for every container.
fn any(container: &Container, around: &Surroundings<'_>, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let name = &container.name;
    if name.is_empty() {
        errors.push(path.child("name").required(""));
    } else {
        errors.extend(path.child("name").invalid_for_each(name, names::dns_label(name)));
    }
    if container.image.as_deref().unwrap_or_default().is_empty() {
        errors.push(path.child("image").required(""));
    }
    let policy = container.termination_message_policy.as_deref();
    errors.extend(one_of(policy, MESSAGE_POLICIES, &path.child("terminationMessagePolicy")));
    let ports = container.ports.as_deref().unwrap_or_default();
    errors.extend(container_ports(ports, &path.child("ports")));
    errors.extend(environment::validate(container, path));
    errors.extend(mounts::validate(container, around, path));
    let policy = container.image_pull_policy.as_deref();
    errors.extend(one_of(policy, PULL_POLICIES, &path.child("imagePullPolicy")));
    errors.extend(resources::validate(container, around, path));
    errors.extend(security::validate_container(container, &path.child("securityContext")));
    errors
}

fn one_of(value: Option<&str>, allowed: &[&str], path: &Path) -> FieldErrors {
    match value.unwrap_or_default() {
        "" => vec![path.required("")],
        known if allowed.contains(&known) => Vec::new(),
        other => vec![path.not_supported(other, allowed)],
    }
}

fn container_ports(ports: &[ContainerPort], path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let mut names = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let path = path.index(i);
        let name = port.name.as_deref().unwrap_or_default();
        let malformed = names::port_name(name);
        if !name.is_empty() && !malformed.is_empty() {
            errors.extend(path.child("name").invalid_for_each(name, malformed));
        } else if !name.is_empty() && !names.insert(name) {
            errors.push(path.child("name").duplicate(name));
        }
        let number = path.child("containerPort");
        match port.container_port {
            0 => errors.push(number.required("")),
            port => errors.extend(number.invalid_for_each(port, names::port_number(port))),
        }
        if let Some(port) = port.host_port.filter(|&p| p != 0) {
            let path = path.child("hostPort");
            errors.extend(path.invalid_for_each(port, names::port_number(port)));
        }
        errors.extend(one_of(port.protocol.as_deref(), PROTOCOLS, &path.child("protocol")));
    }
    errors
}

/// Two containers cannot listen on the same port of the host.
fn host_port_conflicts(containers: &[Container], path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let mut taken = BTreeSet::new();
    for (i, container) in containers.iter().enumerate() {
        for (j, port) in container.ports.iter().flatten().enumerate() {
            let Some(number) = port.host_port.filter(|&p| p != 0) else { continue };
            let protocol = port.protocol.as_deref().unwrap_or_default();
            let address = port.host_ip.as_deref().unwrap_or_default();
            let key = format!("{protocol}/{address}/{number}");
            let path = path.index(i).child("ports").index(j).child("hostPort");
            if taken.contains(&key) {
                errors.push(path.duplicate(&key));
            }
            taken.insert(key);
        }
    }
    errors
}

fn init_restart_policy(container: &Container, path: &Path) -> FieldErrors {
    match container.restart_policy.as_deref() {
        None | Some("Always") => Vec::new(),
        Some(other) => vec![path.not_supported(other, &["Always"])],
    }
}

fn no_probes(container: &Container, path: &Path) -> FieldErrors {
    let set = [
        ("lifecycle", container.lifecycle.is_some()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
    ];
    let detail = "may not be set for init containers without restartPolicy=Always";
    let set = set.into_iter().filter(|(_, set)| *set);
    set.map(|(field, _)| path.child(field).forbidden(detail)).collect()
}
