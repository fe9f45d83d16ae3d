//! A pod's status: what a new pod has, and what an agent may report.
//!
//! Upstream: `PrepareForCreate` and `podStatusStrategy` of `pkg/registry/core/pod/strategy.go`,
//! `ValidatePodStatusUpdate` of `pkg/apis/core/validation/validation.go`.

use k8s_openapi::api::core::v1::{
    ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodSpec, PodStatus,
};
use serde::Serialize;

use super::{is_sidecar, qos_class};
use crate::addresses::{is_ipv6, validate_ip};
use crate::field::{FieldErrors, Path};
use crate::names;

/// Conditions whose names are not qualified.
const SYSTEM_CONDITIONS: [&str; 3] = ["PodScheduled", "Ready", "Initialized"];

/// The status of a pod that nobody has seen yet.
pub(super) fn of_new(pod: &Pod) -> PodStatus {
    let default = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&default);
    let gated = spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty());
    let gate = PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "False".to_owned(),
        reason: Some("SchedulingGated".to_owned()),
        message: Some("Scheduling is blocked due to non-empty scheduling gates".to_owned()),
        ..PodCondition::default()
    };
    PodStatus {
        phase: Some("Pending".to_owned()),
        qos_class: Some(qos_class(spec).to_owned()),
        conditions: gated.then(|| vec![gate]),
        ..PodStatus::default()
    }
}

/// Brings the linked fields of a reported status together: old and new clients know one of
/// `podIP` and `podIPs`, and nobody changes the quality of service.
pub(super) fn settle(new: &mut Pod, old: &Pod) {
    let status = new.status.get_or_insert_default();
    if status.qos_class.is_none() {
        status.qos_class = old.status.as_ref().and_then(|s| s.qos_class.clone());
    }
    match (&status.pod_ip, status.pod_ips.as_deref().unwrap_or_default()) {
        (Some(ip), []) if !ip.is_empty() => status.pod_ips = Some(vec![PodIP { ip: ip.clone() }]),
        (_, [first, ..]) => status.pod_ip = Some(first.ip.clone()),
        _ => {}
    }
    match (&status.host_ip, status.host_ips.as_deref().unwrap_or_default()) {
        (Some(ip), []) if !ip.is_empty() => status.host_ips = Some(vec![HostIP { ip: ip.clone() }]),
        (None, [first, ..]) => status.host_ip = Some(first.ip.clone()),
        _ => {}
    }
}

/// Problems of a reported status.
pub(super) fn validate(new: &Pod, old: &Pod) -> FieldErrors {
    let no_status = PodStatus::default();
    let status = new.status.as_ref().unwrap_or(&no_status);
    let before = old.status.as_ref().unwrap_or(&no_status);
    let path = Path::new("status");
    let mut errors = conditions(status);
    errors.extend(path.child("qosClass").immutable(&status.qos_class, &before.qos_class));
    let no_spec = PodSpec::default();
    let spec = old.spec.as_ref().unwrap_or(&no_spec);
    let policy = spec.restart_policy.as_deref().unwrap_or_default();
    let lists = (&status.container_statuses, &before.container_statuses);
    errors.extend(no_resurrection(lists, policy, &[], &path.child("containerStatuses")));
    let sidecars = spec.init_containers.iter().flatten().filter(|c| is_sidecar(c));
    let sidecars: Vec<&str> = sidecars.map(|c| c.name.as_str()).collect();
    let lists = (&status.init_container_statuses, &before.init_container_statuses);
    errors.extend(no_resurrection(lists, policy, &sidecars, &path.child("initContainerStatuses")));
    let pod_ips: Vec<&str> = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str()).collect();
    errors.extend(addresses(&pod_ips, &status.pod_ips, &path.child("podIPs")));
    let host_ips: Vec<&str> = status.host_ips.iter().flatten().map(|ip| ip.ip.as_str()).collect();
    errors.extend(addresses(&host_ips, &status.host_ips, &path.child("hostIPs")));
    errors
}

/// At most one address of each family.
fn addresses(addresses: &[&str], shown: impl Serialize, path: &Path) -> FieldErrors {
    let each = addresses.iter().enumerate();
    let mut errors: FieldErrors =
        each.flat_map(|(i, ip)| validate_ip(&path.index(i), ip)).collect();
    let of_ipv6 = addresses.iter().filter(|ip| is_ipv6(ip)).count();
    if errors.is_empty() && addresses.len() > 1 && (addresses.len() > 2 || of_ipv6 != 1) {
        errors.push(path.invalid(shown, "may specify no more than one IP for each IP family"));
    }
    errors
}

fn conditions(status: &PodStatus) -> FieldErrors {
    // Upstream reports conditions below metadata.
    let path = Path::new("metadata").child("conditions");
    let mut errors = FieldErrors::new();
    for (i, condition) in status.conditions.iter().flatten().enumerate() {
        if !SYSTEM_CONDITIONS.contains(&condition.type_.as_str()) {
            let kind = &condition.type_;
            let path = path.index(i).child("Type");
            errors.extend(path.invalid_for_each(kind, names::qualified_name(kind)));
        }
    }
    errors
}

type Statuses = Option<Vec<ContainerStatus>>;

/// A container that has ended for good stays so.
fn no_resurrection(
    (new, old): (&Statuses, &Statuses),
    restart_policy: &str,
    exempt: &[&str],
    path: &Path,
) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if restart_policy == "Always" {
        return errors;
    }
    let end = |s: &ContainerStatus| s.state.as_ref().and_then(|s| s.terminated.clone());
    for (i, before) in old.iter().flatten().enumerate() {
        let Some(ended) = end(before) else { continue };
        let may_restart = ended.exit_code != 0 && restart_policy == "OnFailure";
        if may_restart || exempt.contains(&before.name.as_str()) {
            continue;
        }
        let now = new.iter().flatten().find(|s| s.name == before.name);
        if now.is_some_and(|now| end(now).is_none()) {
            let detail = "may not be transitioned to non-terminated state";
            errors.push(path.index(i).child("state").forbidden(detail));
        }
    }
    errors
}
