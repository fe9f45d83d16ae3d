//! Nodes, with the pods on them and what these have asked for.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Node, NodeStatus, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

pub(super) use k8s_openapi::api::coordination::v1::Lease;

use super::Surroundings;
use super::metadata::{date, date_or_zero, events, labels_and_annotations, taints};
use super::quantity::Quantity;
use super::text::Text;
use crate::duration::age;

type Resources = Option<BTreeMap<String, ApiQuantity>>;

/// Describes a node. The lease is an error's text if it could not be had.
pub(super) fn describe(
    out: &mut Text,
    node: &Node,
    pods: &[Pod],
    lease: Result<Lease, String>,
    around: &Surroundings,
) {
    out.pair(0, "Name", node.metadata.name.as_deref().unwrap_or(""));
    let roles = roles(node);
    out.pair(0, "Roles", if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") });
    labels_and_annotations(out, &node.metadata);
    let created = node.metadata.creation_timestamp.as_ref().map(|t| t.0);
    out.pair(0, "CreationTimestamp", date_or_zero(created));
    let spec = node.spec.clone().unwrap_or_default();
    taints(out, spec.taints.as_ref());
    out.pair(0, "Unschedulable", spec.unschedulable.unwrap_or(false));
    match lease {
        Ok(lease) => describe_lease(out, &lease),
        Err(why) => out.line(0, format_args!("Lease:\tFailed to get lease: {why}")),
    }
    let status = node.status.clone().unwrap_or_default();
    conditions(out, &status);
    out.line(0, "Addresses:");
    for address in status.addresses.iter().flatten() {
        out.pair(1, &address.type_, &address.address);
    }
    for (title, list) in [("Capacity", &status.capacity), ("Allocatable", &status.allocatable)] {
        let Some(list) = list.as_ref().filter(|l| !l.is_empty()) else { continue };
        out.line(0, format_args!("{title}:"));
        list.iter().for_each(|(name, quantity)| out.pair(1, name, &quantity.0));
    }
    system(out, &status);
    if let Some(cidr) = spec.pod_cidr.filter(|c| !c.is_empty()) {
        out.pair(0, "PodCIDR", cidr);
    }
    if let Some(cidrs) = spec.pod_cidrs.filter(|c| !c.is_empty()) {
        out.pair(0, "PodCIDRs", cidrs.join(","));
    }
    if let Some(id) = spec.provider_id.filter(|i| !i.is_empty()) {
        out.pair(0, "ProviderID", id);
    }
    usage(out, &status, pods, around);
    events(out, around);
}

/// The roles that labels `node-role.kubernetes.io/…` give.
fn roles(node: &Node) -> Vec<String> {
    let labels = node.metadata.labels.iter().flatten();
    let mut roles: Vec<String> = labels
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role.to_owned()),
            None if key == "kubernetes.io/role" => Some(value.clone()),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort();
    roles.dedup();
    roles
}

fn describe_lease(out: &mut Text, lease: &Lease) {
    let spec = lease.spec.clone().unwrap_or_default();
    let unset = || "<unset>".to_owned();
    out.line(0, "Lease:");
    out.pair(1, "HolderIdentity", spec.holder_identity.unwrap_or_else(unset));
    out.pair(1, "AcquireTime", spec.acquire_time.map_or_else(unset, |t| date(t.0)));
    out.pair(1, "RenewTime", spec.renew_time.map_or_else(unset, |t| date(t.0)));
}

fn conditions(out: &mut Text, status: &NodeStatus) {
    let Some(list) = status.conditions.as_ref().filter(|c| !c.is_empty()) else { return };
    out.line(0, "Conditions:");
    out.line(1, "Type\tStatus\tLastHeartbeatTime\tLastTransitionTime\tReason\tMessage");
    out.line(1, "----\t------\t-----------------\t------------------\t------\t-------");
    for c in list {
        let time = |t: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
            date_or_zero(t.as_ref().map(|t| t.0))
        };
        out.line(
            1,
            format_args!(
                "{} \t{} \t{} \t{} \t{} \t{}",
                c.type_,
                c.status,
                time(&c.last_heartbeat_time),
                time(&c.last_transition_time),
                c.reason.as_deref().unwrap_or(""),
                c.message.as_deref().unwrap_or("")
            ),
        );
    }
}

fn system(out: &mut Text, status: &NodeStatus) {
    let info = status.node_info.clone().unwrap_or_default();
    out.line(0, "System Info:");
    let lines = [
        ("Machine ID", info.machine_id),
        ("System UUID", info.system_uuid),
        ("Boot ID", info.boot_id),
        ("Kernel Version", info.kernel_version),
        ("OS Image", info.os_image),
        ("Operating System", info.operating_system),
        ("Architecture", info.architecture),
        ("Container Runtime Version", info.container_runtime_version),
        ("Kubelet Version", info.kubelet_version),
    ];
    lines.into_iter().for_each(|(title, value)| out.pair(1, title, value));
}

/// Whether requests or limits are meant.
#[derive(Clone, Copy)]
enum Claim {
    Requests,
    Limits,
}

/// What a pod claims of a resource: its containers together, or a larger init container.
fn claimed(pod: &Pod, resource: &str, claim: Claim) -> Quantity {
    let of = |container: &Container| {
        let resources = container.resources.as_ref();
        let list = resources.and_then(|r| match claim {
            Claim::Requests => r.requests.as_ref(),
            Claim::Limits => r.limits.as_ref(),
        });
        list.and_then(|l| l.get(resource)).map_or_else(Quantity::default, |q| Quantity::parse(&q.0))
    };
    let Some(spec) = &pod.spec else { return Quantity::default() };
    let together = spec.containers.iter().map(of).fold(Quantity::default(), Quantity::add);
    spec.init_containers.iter().flatten().map(of).fold(together, Quantity::max)
}

fn usage(out: &mut Text, status: &NodeStatus, pods: &[Pod], around: &Surroundings) {
    out.pair(0, "Non-terminated Pods", format_args!("({} in total)", pods.len()));
    out.line(1, "Namespace\tName\t\tCPU Requests\tCPU Limits\tMemory Requests\tMemory Limits\tAge");
    out.line(1, "---------\t----\t\t------------\t----------\t---------------\t-------------\t---");
    let available = match &status.allocatable {
        Some(list) if !list.is_empty() => status.allocatable.clone(),
        _ => status.capacity.clone(),
    };
    let share = |claimed: Quantity, resource: &str| {
        format!("{claimed} ({}%)", claimed.percent_of(get(&available, resource)))
    };
    for pod in pods {
        let created = pod.metadata.creation_timestamp.as_ref();
        let age = created.map_or("<unknown>".to_owned(), |t| age(t.0, around.now));
        let cell = |resource, claim| share(claimed(pod, resource, claim), resource);
        out.line(
            1,
            format_args!(
                "{}\t{}\t\t{}\t{}\t{}\t{}\t{age}",
                pod.metadata.namespace.as_deref().unwrap_or(""),
                pod.metadata.name.as_deref().unwrap_or(""),
                cell("cpu", Claim::Requests),
                cell("cpu", Claim::Limits),
                cell("memory", Claim::Requests),
                cell("memory", Claim::Limits)
            ),
        );
    }
    out.line(0, "Allocated resources:");
    out.line(1, "(Total limits may be over 100 percent, i.e., overcommitted.)");
    out.line(1, "Resource\tRequests\tLimits");
    out.line(1, "--------\t--------\t------");
    for resource in ["cpu", "memory", "ephemeral-storage"] {
        let total = |claim| {
            let all = pods.iter().map(|pod| claimed(pod, resource, claim));
            share(all.fold(Quantity::default(), Quantity::add), resource)
        };
        let (requests, limits) = (total(Claim::Requests), total(Claim::Limits));
        out.line(1, format_args!("{resource}\t{requests}\t{limits}"));
    }
}

fn get(resources: &Resources, name: &str) -> Quantity {
    let found = resources.as_ref().and_then(|r| r.get(name));
    found.map_or_else(Quantity::default, |q| Quantity::parse(&q.0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_with_one_pod() {
        let node: Node = serde_json::from_value(json!({"metadata": {"name": "node-1",
                "labels": {"node-role.kubernetes.io/control-plane": ""}},
            "spec": {"podCIDR": "10.244.1.0/24", "taints": [
                {"key": "b", "effect": "NoSchedule"}, {"key": "a", "value": "v", "effect": "NoExecute"}]},
            "status": {"capacity": {"cpu": "2", "memory": "4Gi"},
                "addresses": [{"type": "InternalIP", "address": "192.168.56.70"}]}}))
        .unwrap();
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "d",
                "creationTimestamp": "2024-01-01T00:00:00Z"},
            "spec": {"containers": [
                {"name": "a", "resources": {"requests": {"cpu": "100m", "memory": "1Gi"}}},
                {"name": "b", "resources": {"requests": {"cpu": "150m"}}}]}}))
        .unwrap();
        let around = Surroundings { events: None, now: "2024-01-01T01:00:00Z".parse().unwrap() };
        let mut out = Text::default();
        describe(&mut out, &node, &[pod], Err("gone".into()), &around);
        let text = out.render();
        for part in [
            "Roles:              control-plane\n",
            "Taints:             a=v:NoExecute\n                    b:NoSchedule\n",
            "Lease:              Failed to get lease: gone\n",
            "Addresses:\n  InternalIP:  192.168.56.70\n",
            "Capacity:\n  cpu:     2\n  memory:  4Gi\n",
            "  d                           p       250m (12%)    0 (0%)      1Gi (25%)        0 (0%)         60m\n",
            "  cpu                250m (12%)  0 (0%)\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }
}
