//! The node's status: pure. Reasons and messages are kubelet's
//! (`pkg/kubelet/nodestatus/setters.go`).

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints,
        NodeSpec, NodeStatus, NodeSystemInfo,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::Time},
};
use kube::core::ObjectMeta;

use super::{Machine, Readiness};
use crate::{
    config::Config,
    image::{ListedImage, architecture},
};

/// Pods per node, as kubelet's default.
const MAX_PODS: u32 = 110;
/// Images that a status lists at most, as kubelet's `nodeStatusMaxImages`.
const MAX_IMAGES: usize = 50;
/// The Kubernetes release whose kubelet this agent stands in for, and our own version.
const VERSION: &str = concat!("v1.36.0+minictl.", env!("CARGO_PKG_VERSION"));

/// What a status is made of.
pub(super) struct StatusInput<'a> {
    pub(super) config: &'a Config,
    pub(super) machine: &'a Machine,
    pub(super) readiness: &'a Readiness,
    pub(super) images: &'a [ListedImage],
    pub(super) previous: Option<&'a NodeStatus>,
    pub(super) now: Timestamp,
}

/// The object that a new node registers with.
pub(super) fn new_node(name: &str) -> Node {
    let labels = [
        ("kubernetes.io/hostname", name),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", architecture()),
    ];
    let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
    Node {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels.collect()),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec::default()),
        status: None,
    }
}

pub(super) fn node_status(input: &StatusInput<'_>) -> NodeStatus {
    let address = |kind: &str, address: String| NodeAddress { type_: kind.to_owned(), address };
    let ips = input.config.node_ips.iter().map(|ip| address("InternalIP", ip.to_string()));
    let addresses = ips.chain([address("Hostname", input.config.node_name.clone())]);
    let capacity = capacity(input.machine);
    NodeStatus {
        addresses: Some(addresses.collect()),
        allocatable: Some(capacity.clone()),
        capacity: Some(capacity),
        conditions: Some(conditions(input)),
        // Nothing listens there: logs and exec go through the tunnel.
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: 10250 }),
        }),
        images: Some(images(input.images)),
        node_info: Some(info(input.machine)),
        ..NodeStatus::default()
    }
}

fn capacity(machine: &Machine) -> BTreeMap<String, Quantity> {
    [
        ("cpu", machine.cpus.to_string()),
        ("memory", format!("{}Ki", machine.memory / 1024)),
        ("pods", MAX_PODS.to_string()),
    ]
    .into_iter()
    .map(|(name, amount)| (name.to_owned(), Quantity(amount)))
    .collect()
}

fn info(machine: &Machine) -> NodeSystemInfo {
    NodeSystemInfo {
        architecture: architecture().to_owned(),
        boot_id: machine.boot_id.clone(),
        container_runtime_version: format!("containerd://{}", machine.containerd),
        kernel_version: machine.kernel.clone(),
        kube_proxy_version: String::new(),
        kubelet_version: VERSION.to_owned(),
        machine_id: machine.machine_id.clone(),
        operating_system: "linux".to_owned(),
        os_image: machine.os_image.clone(),
        system_uuid: machine.machine_id.clone(),
        ..NodeSystemInfo::default()
    }
}

/// Biggest first, one entry per image with all of its names.
fn images(listed: &[ListedImage]) -> Vec<ContainerImage> {
    let mut by_digest: BTreeMap<&str, (i64, Vec<String>)> = BTreeMap::new();
    for image in listed {
        let entry = by_digest.entry(&image.digest).or_insert((image.size, Vec::new()));
        entry.1.push(image.name.clone());
    }
    let mut images: Vec<ContainerImage> = by_digest
        .into_values()
        .map(|(size, names)| ContainerImage { names: Some(names), size_bytes: Some(size) })
        .collect();
    images.sort_by_key(|image| std::cmp::Reverse(image.size_bytes));
    images.truncate(MAX_IMAGES);
    images
}

fn conditions(input: &StatusInput<'_>) -> Vec<NodeCondition> {
    let sufficient = [
        ("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ];
    let mut conditions: Vec<NodeCondition> = sufficient
        .into_iter()
        .map(|(kind, reason, message)| condition(input, kind, "False", reason, message))
        .collect();
    conditions.push(match input.readiness {
        Ok(()) => {
            condition(input, "Ready", "True", "KubeletReady", "kubelet is posting ready status")
        }
        Err(why) => condition(input, "Ready", "False", "KubeletNotReady", why),
    });
    conditions
}

/// A condition keeps the time of its last change while its status stays.
fn condition(
    input: &StatusInput<'_>,
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
) -> NodeCondition {
    let known = input
        .previous
        .and_then(|previous| previous.conditions.as_ref())
        .and_then(|conditions| conditions.iter().find(|known| known.type_ == kind));
    let since = known
        .filter(|known| known.status == status)
        .and_then(|known| known.last_transition_time.clone());
    NodeCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_heartbeat_time: Some(Time(input.now)),
        last_transition_time: Some(since.unwrap_or(Time(input.now))),
    }
}

/// Whether two statuses differ in nothing but the time at which they were made.
pub(super) fn same_but_for_heartbeat(one: &NodeStatus, other: &NodeStatus) -> bool {
    let without_heartbeat = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    without_heartbeat(one) == without_heartbeat(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(ready: Readiness, at: i64, previous: Option<&NodeStatus>) -> NodeStatus {
        let config = crate::config::example();
        node_status(&StatusInput {
            config: &config,
            machine: &Machine { cpus: 2, memory: 4 << 30, ..Machine::default() },
            readiness: &ready,
            images: &[
                ListedImage { name: "a:1".into(), digest: "x".into(), size: 5 },
                ListedImage { name: "a:2".into(), digest: "x".into(), size: 5 },
                ListedImage { name: "b:1".into(), digest: "y".into(), size: 9 },
            ],
            previous,
            now: Timestamp::from_second(at).unwrap(),
        })
    }

    fn ready(status: &NodeStatus) -> NodeCondition {
        let conditions = status.conditions.clone().unwrap();
        conditions.into_iter().find(|condition| condition.type_ == "Ready").unwrap()
    }

    #[test]
    fn a_status_without_news_differs_only_in_its_heartbeat() {
        let first = status(Ok(()), 1, None);
        let second = status(Ok(()), 11, Some(&first));
        assert!(same_but_for_heartbeat(&first, &second));
        assert_eq!(ready(&second).last_transition_time, ready(&first).last_transition_time);
        let third = status(Err("no bridge".to_owned()), 21, Some(&second));
        assert!(!same_but_for_heartbeat(&second, &third));
        assert_eq!(ready(&third).status, "False");
        assert_eq!(ready(&third).last_transition_time.unwrap().0.as_second(), 21);
    }

    #[test]
    fn an_image_is_listed_once_with_all_of_its_names() {
        let images = status(Ok(()), 1, None).images.unwrap();
        let names: Vec<_> = images.iter().map(|image| image.names.clone().unwrap()).collect();
        assert_eq!(names, [vec!["b:1"], vec!["a:1", "a:2"]]);
    }
}
