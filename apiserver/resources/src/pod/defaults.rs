//! What a pod gets that does not say otherwise.
//!
//! Upstream: `SetDefaults_*` of `pkg/apis/core/v1/defaults.go`. Two levels: what every pod spec
//! gets, be it a template ([`spec`]), and what only a Pod itself gets ([`pod`]).
//! Invariant: applying the defaults twice changes nothing.

mod volumes;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, EnvVar, HTTPGetAction, Lifecycle, Pod, PodSpec, PodTemplateSpec, Probe,
    ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use crate::omit;
use crate::quantity::Quantity;

/// Defaults of a Pod.
pub(super) fn pod(pod: &mut Pod) {
    let pod_spec = pod.spec.get_or_insert_default();
    spec(pod_spec);
    let host_network = pod_spec.host_network == Some(true);
    for container in all_containers(pod_spec) {
        if let Some(resources) = &mut container.resources {
            request_what_is_limited(resources);
        }
        for port in container.ports.iter_mut().flatten().filter(|_| host_network) {
            port.host_port.get_or_insert(port.container_port);
        }
    }
    pod_spec.enable_service_links.get_or_insert(true);
}

/// Defaults of a pod template.
pub(crate) fn template(template: &mut PodTemplateSpec) {
    template.metadata.get_or_insert_default();
    spec(template.spec.get_or_insert_default());
}

fn spec(spec: &mut PodSpec) {
    set_if_empty(&mut spec.dns_policy, "ClusterFirst");
    set_if_empty(&mut spec.restart_policy, "Always");
    set_if_empty(&mut spec.scheduler_name, "default-scheduler");
    spec.security_context.get_or_insert_default();
    spec.termination_grace_period_seconds.get_or_insert(30);
    service_account(spec);
    omit::noes([&mut spec.host_network, &mut spec.host_pid, &mut spec.host_ipc]);
    omit::empty_texts([
        &mut spec.node_name,
        &mut spec.hostname,
        &mut spec.subdomain,
        &mut spec.priority_class_name,
    ]);
    volumes::apply(spec);
    for container in all_containers(spec) {
        default_container(container);
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are kept alike.
fn service_account(spec: &mut PodSpec) {
    omit::empty_texts([&mut spec.service_account_name, &mut spec.service_account]);
    let name = spec.service_account_name.take().or_else(|| spec.service_account.take());
    spec.service_account.clone_from(&name);
    spec.service_account_name = name;
}

fn all_containers(spec: &mut PodSpec) -> impl Iterator<Item = &mut Container> {
    spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten())
}

fn default_container(container: &mut Container) {
    let image = container.image.as_deref().unwrap_or_default();
    set_if_empty(&mut container.image_pull_policy, pull_policy(image));
    set_if_empty(&mut container.termination_message_path, "/dev/termination-log");
    set_if_empty(&mut container.termination_message_policy, "File");
    for port in container.ports.iter_mut().flatten() {
        set_if_empty(&mut port.protocol, "TCP");
        omit::zeros([&mut port.host_port]);
        omit::empty_texts([&mut port.name, &mut port.host_ip]);
    }
    omit::empty_texts([&mut container.working_dir]);
    omit::noes([&mut container.stdin, &mut container.stdin_once, &mut container.tty]);
    container.env.iter_mut().flatten().for_each(default_variable);
    for mount in container.volume_mounts.iter_mut().flatten() {
        omit::noes([&mut mount.read_only]);
        omit::empty_texts([&mut mount.sub_path, &mut mount.sub_path_expr]);
    }
    let resources = container.resources.get_or_insert_default();
    round(&mut resources.requests);
    round(&mut resources.limits);
    let probes = [
        &mut container.liveness_probe,
        &mut container.readiness_probe,
        &mut container.startup_probe,
    ];
    probes.into_iter().flatten().for_each(default_probe);
    container.lifecycle.iter_mut().for_each(default_lifecycle);
}

/// The tag `latest`, also when it is not written, means: look for a newer one.
fn pull_policy(image: &str) -> &'static str {
    let name = image.rsplit('/').next().unwrap_or_default();
    match (name.contains('@'), name.rsplit_once(':')) {
        (true, _) => "IfNotPresent",
        (false, Some((_, tag))) if tag != "latest" => "IfNotPresent",
        _ => "Always",
    }
}

fn default_variable(variable: &mut EnvVar) {
    if let Some(field) = variable.value_from.as_mut().and_then(|v| v.field_ref.as_mut()) {
        set_if_empty(&mut field.api_version, "v1");
    }
    if let Some(resource) = variable.value_from.as_mut().and_then(|v| v.resource_field_ref.as_mut())
    {
        resource.divisor.get_or_insert_with(|| Text("0".to_owned()));
    }
}

fn default_probe(probe: &mut Probe) {
    let unset = |field: Option<i32>| field.unwrap_or_default() == 0;
    for (field, value) in [
        (&mut probe.timeout_seconds, 1),
        (&mut probe.period_seconds, 10),
        (&mut probe.success_threshold, 1),
        (&mut probe.failure_threshold, 3),
    ] {
        if unset(*field) {
            *field = Some(value);
        }
    }
    omit::zeros([&mut probe.initial_delay_seconds]);
    probe.http_get.iter_mut().for_each(default_http_get);
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn default_lifecycle(lifecycle: &mut Lifecycle) {
    for handler in [&mut lifecycle.post_start, &mut lifecycle.pre_stop].into_iter().flatten() {
        handler.http_get.iter_mut().for_each(default_http_get);
    }
}

fn default_http_get(action: &mut HTTPGetAction) {
    set_if_empty(&mut action.path, "/");
    set_if_empty(&mut action.scheme, "HTTP");
}

/// Amounts are kept in thousandths and in their canonical text; what cannot be read is left for
/// validation to complain about.
pub(crate) fn round(list: &mut Option<BTreeMap<String, Text>>) {
    for text in list.iter_mut().flat_map(BTreeMap::values_mut) {
        if let Ok(quantity) = Quantity::parse(&text.0) {
            text.0 = quantity.canonical();
        }
    }
}

fn request_what_is_limited(resources: &mut ResourceRequirements) {
    for (name, limit) in resources.limits.iter().flatten() {
        let requests = resources.requests.get_or_insert_default();
        requests.entry(name.clone()).or_insert_with(|| limit.clone());
    }
}

pub(super) fn set_if_empty(field: &mut Option<String>, value: &str) {
    if field.as_deref().unwrap_or_default().is_empty() {
        *field = Some(value.to_owned());
    }
}
