//! Mounts of a container: the standard ones, then the pod's.

use std::path::PathBuf;

use serde_json::{Value, json};

/// A file or folder of the node that appears in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BindMount {
    /// Where it lies on the node.
    pub(crate) source: PathBuf,
    /// Where it appears.
    pub(crate) target: PathBuf,
    /// Whether the container can only read it.
    pub(crate) read_only: bool,
    /// How mounts made later travel: `rprivate`, `rslave` or `rshared`.
    pub(crate) propagation: &'static str,
}

/// All mounts in order. A container's own mount replaces a standard one of the same place.
pub(super) fn mounts(binds: &[BindMount], privileged: bool) -> Value {
    let mut list: Vec<Value> = standard(privileged)
        .into_iter()
        .filter(|mount| !binds.iter().any(|bind| json!(bind.target) == mount["destination"]))
        .collect();
    let mut binds: Vec<&BindMount> = binds.iter().collect();
    // A mount inside another one has to come after it.
    binds.sort_by_key(|bind| bind.target.components().count());
    list.extend(binds.into_iter().map(|bind| {
        json!({
            "destination": bind.target,
            "type": "bind",
            "source": bind.source,
            "options": ["rbind", bind.propagation, if bind.read_only { "ro" } else { "rw" }],
        })
    }));
    Value::Array(list)
}

fn standard(privileged: bool) -> Vec<Value> {
    let sys = if privileged { "rw" } else { "ro" };
    vec![
        json!({
            "destination": "/proc", "type": "proc", "source": "proc",
            "options": ["nosuid", "noexec", "nodev"],
        }),
        json!({
            "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        }),
        json!({
            "destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        }),
        json!({
            "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
            "options": ["nosuid", "noexec", "nodev"],
        }),
        json!({
            "destination": "/sys", "type": "sysfs", "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", sys],
        }),
        json!({
            "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", sys],
        }),
    ]
}
