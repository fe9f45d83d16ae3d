//! Requests and limits as cgroup settings, quality of service, OOM scores, devices. Pure, but for
//! the list of the host's devices that a privileged container gets.
//!
//! Upstream: `pkg/kubelet/cm/helpers_linux.go`, `pkg/kubelet/qos/policy.go`,
//! `pkg/apis/core/v1/helper/qos/qos.go`.

use std::{collections::BTreeMap, os::unix::fs::FileTypeExt as _, os::unix::fs::MetadataExt as _};

use k8s_openapi::{
    api::core::v1::{Container, Pod},
    apimachinery::pkg::api::resource::Quantity,
};
use serde_json::{Value, json};

use crate::quantity;

/// The scheduling period of CPU quotas, in microseconds.
const PERIOD: i128 = 100_000;
/// The least quota that the kernel takes, in microseconds.
const LEAST_QUOTA: i128 = 1_000;
/// The least CPU shares that the kernel takes.
const LEAST_SHARES: i128 = 2;

/// What bounds the OOM score of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OomFacts {
    /// The node's memory in bytes.
    pub(crate) memory: i64,
    /// The least score that may be written: lowering it needs a capability that not every machine
    /// gives to root.
    pub(crate) floor: i32,
}

type Resources = BTreeMap<String, Quantity>;

fn requests(container: &Container) -> Option<&Resources> {
    container.resources.as_ref()?.requests.as_ref()
}

fn limits_of(container: &Container) -> Option<&Resources> {
    container.resources.as_ref()?.limits.as_ref()
}

fn cpu_milli(resources: Option<&Resources>) -> Option<i128> {
    resources?.get("cpu").and_then(quantity::milli)
}

fn memory(resources: Option<&Resources>) -> Option<i64> {
    resources?.get("memory").and_then(quantity::units)
}

/// The `linux.resources` of a spec.
pub(super) fn limits(container: &Container, privileged: bool) -> Value {
    let (requests, limits) = (requests(container), limits_of(container));
    // A limit without a request is also the request.
    let request = cpu_milli(requests).or_else(|| cpu_milli(limits)).unwrap_or(0);
    let mut cpu = json!({"shares": clamp((request * 1024 / 1000).max(LEAST_SHARES))});
    if let Some(limit) = cpu_milli(limits).filter(|limit| *limit > 0) {
        cpu["quota"] = clamp((limit * PERIOD / 1000).max(LEAST_QUOTA));
        cpu["period"] = clamp(PERIOD);
    }
    let mut resources = json!({
        "cpu": cpu,
        "devices": [{"allow": privileged, "access": "rwm"}],
    });
    if let Some(limit) = memory(limits).filter(|limit| *limit > 0) {
        // Swap would let a container outgrow its limit.
        resources["memory"] = json!({"limit": limit, "swap": limit});
    }
    resources
}

fn clamp(value: i128) -> Value {
    json!(i64::try_from(value).unwrap_or(i64::MAX))
}

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub(crate) fn qos_class(pod: &Pod) -> &'static str {
    let containers = || {
        pod.spec
            .iter()
            .flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()))
    };
    let counted = |resources: Option<&Resources>| {
        ["cpu", "memory"].into_iter().any(|name| {
            resources.and_then(|r| r.get(name)).and_then(quantity::milli).is_some_and(|v| v > 0)
        })
    };
    if !containers().any(|c| counted(requests(c)) || counted(limits_of(c))) {
        return "BestEffort";
    }
    let fixed = |container: &Container, name: &str| {
        let limit = limits_of(container).and_then(|r| r.get(name)).and_then(quantity::milli);
        let request = requests(container).and_then(|r| r.get(name)).and_then(quantity::milli);
        limit.is_some_and(|limit| limit > 0 && request.unwrap_or(limit) == limit)
    };
    if containers().all(|c| fixed(c, "cpu") && fixed(c, "memory")) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// How readily the kernel kills the container when memory is short.
pub(super) fn oom_score(pod: &Pod, container: &Container, facts: OomFacts) -> Option<i32> {
    let wanted = match qos_class(pod) {
        "Guaranteed" => -997,
        "BestEffort" => 1000,
        _ => {
            let request = memory(requests(container)).or_else(|| memory(limits_of(container)));
            let share = 1000 * i128::from(request.unwrap_or(0)) / i128::from(facts.memory.max(1));
            i32::try_from((1000 - share).clamp(3, 999)).unwrap_or(999)
        }
    };
    Some(wanted.max(facts.floor))
}

/// The host's device nodes, for privileged containers. What cannot be read is left out.
pub(super) fn host_devices() -> Value {
    let mut devices = Vec::new();
    let mut folders = vec![std::path::PathBuf::from("/dev")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (path, Ok(metadata)) = (entry.path(), entry.metadata()) else { continue };
            let kind = metadata.file_type();
            // These have a life of their own in a container.
            let own = ["pts", "shm", "mqueue", "console", "fd"];
            if own.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_char_device() || kind.is_block_device() {
                let device = metadata.rdev();
                devices.push(json!({
                    "path": path,
                    "type": if kind.is_char_device() { "c" } else { "b" },
                    "major": nix::sys::stat::major(device),
                    "minor": nix::sys::stat::minor(device),
                    "fileMode": metadata.mode() & 0o777,
                    "uid": metadata.uid(),
                    "gid": metadata.gid(),
                }));
            }
        }
    }
    Value::Array(devices)
}
