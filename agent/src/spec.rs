//! The OCI runtime spec of a container: pure.
//!
//! Inputs: the container and its pod, what the image says, the variables, the mounts and the
//! pinned namespaces. Output: the spec for runc, or why the pod must not run. Upstream: kubelet's
//! `kuberuntime_container.go` together with containerd's CRI plugin (`container_create_linux.go`).
//! Deliberately not here: where anything lies on disk, users' names (`spec/user.rs` reads those).

mod mounts;
mod resources;
pub(crate) mod user;

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, SecurityContext};
use oci_spec::{
    image::Config as ImageConfig,
    runtime::{Process, Spec},
};
use serde_json::{Value, json};

pub(crate) use mounts::BindMount;
pub(crate) use resources::{OomFacts, qos_class};

use crate::env::expand;
use user::UserIds;

/// Capabilities of a container that asks for nothing; containerd's default set.
#[rustfmt::skip]
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD",
    "NET_BIND_SERVICE", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
];

/// Every capability of the kernel, in the order of `linux/capability.h`.
#[rustfmt::skip]
const ALL_CAPABILITIES: [&str; 41] = [
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID",
    "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW",
    "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT",
    "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD",
    "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
    "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
];

/// Parts of `/proc` and `/sys` that a container cannot see.
#[rustfmt::skip]
const MASKED_PATHS: [&str; 11] = [
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Parts of `/proc` that a container can only read.
const READ_ONLY_PATHS: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The variable `PATH` of an image that sets none, as containerd's.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a container has no spec. The texts are kubelet's where it has one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpecError {
    /// Neither the pod nor the image says what to run.
    #[error("no command specified")]
    NoCommand,
    /// `runAsNonRoot` forbids what the image or the pod asks for.
    #[error("container has runAsNonRoot and image will run as root")]
    Root,
    /// The image's user is not in its `/etc/passwd`.
    #[error("no users found for {user:?} in the image")]
    UnknownUser {
        /// The user.
        user: String,
    },
    /// The document is no spec; a capability that runc does not know, for example.
    #[error("build the OCI spec")]
    Build(#[source] serde_json::Error),
}

/// Where a pod's namespaces are pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamespacePaths {
    /// Network; the node's own for `hostNetwork`.
    pub(crate) net: PathBuf,
    /// IPC.
    pub(crate) ipc: PathBuf,
    /// Host name.
    pub(crate) uts: PathBuf,
}

/// Everything a spec is made of.
#[derive(Debug)]
pub(crate) struct SpecInput<'a> {
    /// The pod.
    pub(crate) pod: &'a Pod,
    /// Its container.
    pub(crate) container: &'a Container,
    /// What the image says about running it.
    pub(crate) image: &'a ImageConfig,
    /// The container's variables, without the image's.
    pub(crate) env: Vec<(String, String)>,
    /// Who it runs as.
    pub(crate) user: UserIds,
    /// The host name in the pod.
    pub(crate) hostname: &'a str,
    /// Volumes and files, in the order in which they are mounted.
    pub(crate) mounts: Vec<BindMount>,
    /// The pinned namespaces.
    pub(crate) namespaces: &'a NamespacePaths,
    /// The container's cgroup, absolute.
    pub(crate) cgroup: &'a Path,
    /// What bounds the container's OOM score.
    pub(crate) oom: OomFacts,
    /// Whether the machine has cgroups of version 2.
    pub(crate) cgroup2: bool,
}

/// Builds the spec.
///
/// # Errors
/// No command, a forbidden user, or a document that is no OCI spec.
pub(crate) fn container_spec(input: SpecInput<'_>) -> Result<Spec, SpecError> {
    let security = input.container.security_context.clone().unwrap_or_default();
    let privileged = security.privileged == Some(true);
    let pod_uid = input.pod.metadata.uid.as_deref().unwrap_or_default();
    let mut linux = json!({
        "cgroupsPath": input.cgroup,
        "namespaces": namespaces(&input, privileged),
        "resources": resources::limits(input.container, privileged),
    });
    if !privileged && security.proc_mount.as_deref() != Some("Unmasked") {
        linux["maskedPaths"] = json!(MASKED_PATHS);
        linux["readonlyPaths"] = json!(READ_ONLY_PATHS);
    }
    if privileged {
        linux["devices"] = resources::host_devices();
    }
    let document = json!({
        "ociVersion": "1.0.2-dev",
        "process": process(&input, &security)?,
        "root": {"path": "rootfs", "readonly": security.read_only_root_filesystem == Some(true)},
        "mounts": mounts::mounts(&input.mounts, privileged),
        "linux": linux,
        // All containers of a pod share one shim process.
        "annotations": {"io.containerd.runc.v2.group": pod_uid},
    });
    serde_json::from_value(document).map_err(SpecError::Build)
}

fn process(input: &SpecInput<'_>, security: &SecurityContext) -> Result<Value, SpecError> {
    let container = input.container;
    let terminal = container.tty == Some(true);
    let env = environment(input, terminal);
    let args = command_line(container, input.image, &input.env)?;
    let cwd = container
        .working_dir
        .as_deref()
        .or(input.image.working_dir().as_deref())
        .filter(|path| !path.is_empty())
        .unwrap_or("/");
    let capabilities = capabilities(security);
    // A process of another user has capabilities only by what it executes (capabilities(7)).
    let effective = if input.user.uid == 0 { capabilities.clone() } else { Vec::new() };
    let mut process = json!({
        "terminal": terminal,
        "user": {
            "uid": input.user.uid,
            "gid": input.user.gid,
            "additionalGids": input.user.additional_gids,
        },
        "args": args,
        "env": env,
        "cwd": cwd,
        "noNewPrivileges": security.allow_privilege_escalation == Some(false),
        "capabilities": {
            "bounding": capabilities,
            "effective": effective,
            "permitted": effective,
        },
    });
    if let Some(score) = resources::oom_score(input.pod, container, input.oom) {
        process["oomScoreAdj"] = json!(score);
    }
    Ok(process)
}

/// The process of `exec`: the container's own, with another command line and terminal.
pub(crate) fn exec_process(spec: &Spec, command: &[String], terminal: bool) -> Process {
    let mut process = spec.process().clone().unwrap_or_default();
    process.set_args(Some(command.to_vec()));
    process.set_terminal(Some(terminal));
    if terminal
        && let Some(env) = process.env_mut()
        && !env.iter().any(|variable| variable.starts_with("TERM="))
    {
        env.push("TERM=xterm".to_owned());
    }
    process
}

/// The image's variables with the container's above them.
fn environment(input: &SpecInput<'_>, terminal: bool) -> Vec<String> {
    let mut env: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| match env.iter_mut().find(|(known, _)| known == name) {
        Some((_, known)) => value.clone_into(known),
        None => env.push((name.to_owned(), value.to_owned())),
    };
    set("PATH", DEFAULT_PATH);
    set("HOSTNAME", input.hostname);
    if terminal {
        set("TERM", "xterm");
    }
    for variable in input.image.env().iter().flatten() {
        if let Some((name, value)) = variable.split_once('=') {
            set(name, value);
        }
    }
    for (name, value) in &input.env {
        set(name, value);
    }
    env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// `command` replaces the image's entry point, and then its arguments too; `args` replaces these.
fn command_line(
    container: &Container,
    image: &ImageConfig,
    env: &[(String, String)],
) -> Result<Vec<String>, SpecError> {
    let lookup =
        |name: &str| env.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let expanded = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter().flatten().map(|text| expand(text, lookup)).collect()
    };
    let command = expanded(&container.command);
    let args = expanded(&container.args);
    let line = if command.is_empty() {
        let mut line = image.entrypoint().clone().unwrap_or_default();
        if args.is_empty() {
            line.extend(image.cmd().iter().flatten().cloned());
        } else {
            line.extend(args);
        }
        line
    } else {
        command.into_iter().chain(args).collect()
    };
    if line.is_empty() { Err(SpecError::NoCommand) } else { Ok(line) }
}

fn capabilities(security: &SecurityContext) -> Vec<String> {
    let with_prefix = |name: &str| format!("CAP_{}", name.trim_start_matches("CAP_"));
    if security.privileged == Some(true) {
        return ALL_CAPABILITIES.iter().map(|name| with_prefix(name)).collect();
    }
    let wanted = security.capabilities.clone().unwrap_or_default();
    let upper = |list: Option<Vec<String>>| -> Vec<String> {
        list.into_iter().flatten().map(|name| name.to_ascii_uppercase()).collect()
    };
    let (add, drop) = (upper(wanted.add), upper(wanted.drop));
    let is_all = |list: &[String]| list.iter().any(|name| name == "ALL");
    let mut names: Vec<String> = if is_all(&add) {
        ALL_CAPABILITIES.iter().map(|name| with_prefix(name)).collect()
    } else if is_all(&drop) {
        Vec::new()
    } else {
        DEFAULT_CAPABILITIES.iter().map(|name| with_prefix(name)).collect()
    };
    let dropped: Vec<String> = drop.iter().map(|name| with_prefix(name)).collect();
    names.retain(|name| !dropped.contains(name));
    for name in add.iter().filter(|name| *name != "ALL").map(|name| with_prefix(name)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// What a container does not share with the machine. Its own cgroup is the root of all that it sees
/// of them, where cgroups have version 2 (containerd: `internal/cri/server/container_create.go`).
fn namespaces(input: &SpecInput<'_>, privileged: bool) -> Value {
    let (spec, paths) = (input.pod.spec.as_ref(), input.namespaces);
    let mut list = vec![
        json!({"type": "mount"}),
        json!({"type": "network", "path": paths.net}),
        json!({"type": "uts", "path": paths.uts}),
    ];
    if spec.and_then(|spec| spec.host_ipc) != Some(true) {
        list.push(json!({"type": "ipc", "path": paths.ipc}));
    }
    if spec.and_then(|spec| spec.host_pid) != Some(true) {
        list.push(json!({"type": "pid"}));
    }
    if input.cgroup2 && !privileged {
        list.push(json!({"type": "cgroup"}));
    }
    Value::Array(list)
}

#[cfg(test)]
mod tests;
