//! What the machine is and has, read once at the start.

use std::fs;
use std::path::Path;

use crate::spec::OomFacts;

/// `CAP_SYS_RESOURCE` in a capability mask (`linux/capability.h`).
const CAP_SYS_RESOURCE: u64 = 1 << 24;

/// The machine under the node. Nodes of a lab share it, so each of them reports all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Processors.
    pub(crate) cpus: i64,
    /// Memory in bytes.
    pub(crate) memory: i64,
    /// `uname -r`.
    pub(crate) kernel: String,
    /// The distribution's own name.
    pub(crate) os_image: String,
    /// `/etc/machine-id`.
    pub(crate) machine_id: String,
    /// Changes with each boot.
    pub(crate) boot_id: String,
    /// containerd's version.
    pub(crate) containerd: String,
    /// Whether lowering an OOM score is allowed, else the least score that can be written.
    pub(crate) oom_floor: i32,
    /// Whether cgroups are those of version 2.
    pub(crate) cgroup2: bool,
}

impl Machine {
    /// Reads what `/proc` and `/etc` say; what cannot be read stays empty.
    pub(crate) fn read(containerd: String) -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        Self {
            cpus: std::thread::available_parallelism()
                .map_or(1, |count| i64::try_from(count.get()).unwrap_or(1)),
            memory: memory(&text("/proc/meminfo")),
            kernel: text("/proc/sys/kernel/osrelease"),
            os_image: pretty_name(&text("/etc/os-release")),
            machine_id: text("/etc/machine-id"),
            boot_id: text("/proc/sys/kernel/random/boot_id"),
            containerd,
            oom_floor: oom_floor(&text("/proc/self/status"), &text("/proc/self/oom_score_adj")),
            cgroup2: Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
        }
    }

    /// What bounds containers' OOM scores here.
    pub(crate) fn oom(&self) -> OomFacts {
        OomFacts { memory: self.memory, floor: self.oom_floor }
    }
}

fn memory(meminfo: &str) -> i64 {
    let kib = meminfo.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<i64>().ok()
    });
    kib.unwrap_or(0) * 1024
}

fn pretty_name(os_release: &str) -> String {
    let line = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    line.unwrap_or("Linux").trim_matches('"').to_owned()
}

/// containerd's shims run one above containerd's own score, and containers start from there.
fn oom_floor(status: &str, own: &str) -> i32 {
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    if mask & CAP_SYS_RESOURCE != 0 {
        return -1000;
    }
    (own.parse::<i32>().unwrap_or(0) + 1).min(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_bounded_only_where_lowering_them_is_forbidden() {
        assert_eq!(oom_floor("CapEff:\t000001ffffffffff", "0"), -1000);
        assert_eq!(oom_floor("CapEff:\t000001fffeffffff", "0"), 1);
        assert_eq!(oom_floor("CapEff:\t0000000000000000", "500"), 501);
    }

    #[test]
    fn files_of_proc_and_etc_are_understood() {
        assert_eq!(memory("MemFree: 3 kB\nMemTotal:       2048 kB\n"), 2 << 20);
        assert_eq!(pretty_name("A=b\nPRETTY_NAME=\"Debian 12\"\n"), "Debian 12");
    }
}
