//! Removes a cluster and everything of it: processes, mounts, namespaces, links, cgroups, files.
//!
//! Works from what is found in the kernel and in the state folder, so also after a crash or a kill
//! of any of its processes. Goes on after a failure and answers all of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use crate::paths::Paths;
use crate::spec::LabSpec;
use crate::{network, status, supervise};

/// How long the supervisor may take to stop its processes.
const SUPERVISOR_GRACE: Duration = Duration::from_secs(20);
/// How long a killed process may take to vanish.
const KILL_GRACE: Duration = Duration::from_secs(5);
/// Where every containerd of a machine has the sockets of its shims, and runc its state.
const CONTAINERD_RUN: &str = "/run/containerd";
/// The programs that a cluster's processes are: nothing else is ever killed.
const OUR_PROGRAMS: &[&str] =
    &["containerd", "containerd-shim-runc-v2", "containerd-shim", "runc", "minictl"];

/// Removes a lab.
///
/// # Errors
/// When there is no such lab, or with everything that could not be removed.
pub async fn lab(state: &Path, name: &str) -> Result<()> {
    let spec = status::spec(state, name)?;
    let paths = Paths::lab(state, name);
    let mut failed = stop_processes(&paths, &format!("minictl/{name}")).await;
    failed.extend(network::remove(&spec).await);
    failed.extend(remove_files(&paths));
    // Stays as long as another lab is in it.
    let _ = std::fs::remove_dir(state.join("labs"));
    let _ = std::fs::remove_dir(state);
    finish(failed)
}

/// Removes what a lab left behind that never came up; there may be nothing.
///
/// # Errors
/// Everything that could not be removed.
pub async fn leftovers(state: &Path, spec: &LabSpec) -> Result<()> {
    let paths = Paths::lab(state, &spec.name);
    let mut failed = stop_processes(&paths, &format!("minictl/{}", spec.name)).await;
    failed.extend(network::remove(spec).await);
    failed.extend(remove_files(&paths));
    finish(failed)
}

/// Stops the processes and containers of the machine's own cluster. What they left in a containerd
/// that is not ours and in the kernel is removed by whoever made it, between this and
/// [`machine_files`].
///
/// # Errors
/// Everything that could not be stopped.
pub async fn machine_processes(state: &Path) -> Result<()> {
    finish(stop_processes(&Paths::machine(state), "minictl/machine").await)
}

/// Removes the files of the machine's own cluster.
///
/// # Errors
/// When they cannot be removed.
pub fn machine_files(state: &Path) -> Result<()> {
    let removed = finish(remove_files(&Paths::machine(state)).into_iter().collect());
    // Stays if there are labs.
    let _ = std::fs::remove_dir(state);
    removed
}

/// Stops everything of a cluster and unmounts it; `cgroup` is relative to the hierarchies' roots.
pub(crate) async fn stop_processes(paths: &Paths, cgroup: &str) -> Vec<anyhow::Error> {
    let mut failed = Vec::new();
    let outside = left_outside(&bundles(paths));
    failed.extend(stop_supervisor(paths).await.err());
    // Containers first, so that their shims see them end; then whatever of ours is left.
    failed.extend(kill_all("containers", || cgroup_members(cgroup)).await.err());
    failed.extend(kill_all("processes", || our_processes(paths.dir())).await.err());
    failed.extend(unmount_below(paths.dir()));
    failed.extend(remove_cgroups(cgroup));
    failed.extend(outside.iter().filter_map(|path| remove(path)));
    for path in &outside {
        // These folders stay as long as another containerd has something in them.
        for folder in path.ancestors().skip(1).take_while(|f| f.starts_with(CONTAINERD_RUN)) {
            let _ = std::fs::remove_dir(folder);
        }
    }
    failed
}

/// Removes a file or a folder with all that is in it; an absent one is no failure.
fn remove(path: &Path) -> Option<anyhow::Error> {
    let removed = match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    let error = removed.err().filter(|error| error.kind() != std::io::ErrorKind::NotFound)?;
    Some(anyhow!(error).context(format!("remove {}", path.display())))
}

fn remove_files(paths: &Paths) -> Option<anyhow::Error> {
    match std::fs::remove_dir_all(paths.dir()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Some(anyhow!(error).context(format!("remove {}", paths.dir().display())))
        }
        _ => None,
    }
}

pub(crate) fn finish(failed: Vec<anyhow::Error>) -> Result<()> {
    if failed.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = failed.iter().map(|error| format!("{error:#}")).collect();
    Err(anyhow!("not everything could be removed:\n  {}", lines.join("\n  ")))
}

async fn stop_supervisor(paths: &Paths) -> Result<()> {
    let Some(pid) = supervise::running(paths) else { return Ok(()) };
    kill(pid, Signal::SIGTERM).context("stop the supervisor")?;
    let limit = Instant::now() + SUPERVISOR_GRACE;
    while supervise::running(paths).is_some() {
        if Instant::now() > limit {
            kill(pid, Signal::SIGKILL).context("kill the supervisor")?;
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Kills what `find` finds until it finds nothing.
async fn kill_all(what: &str, find: impl Fn() -> Vec<Pid>) -> Result<()> {
    let limit = Instant::now() + KILL_GRACE;
    loop {
        let found = find();
        if found.is_empty() {
            return Ok(());
        }
        if Instant::now() > limit {
            return Err(anyhow!("{what} {found:?} do not end"));
        }
        for pid in found {
            match kill(pid, Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => return Err(anyhow!(errno).context(format!("kill {pid}"))),
            }
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// The hierarchies of cgroup v1, or the one of v2.
fn cgroup_roots() -> Vec<PathBuf> {
    let base = Path::new("/sys/fs/cgroup");
    if base.join("cgroup.controllers").exists() {
        return vec![base.to_owned()];
    }
    std::fs::read_dir(base)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir())
        .collect()
}

/// A folder and all below it, deepest first.
fn deepest_first(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok())
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .flat_map(|entry| deepest_first(&entry.path()))
        .collect();
    if folder.is_dir() {
        found.push(folder.to_owned());
    }
    found
}

fn cgroup_members(cgroup: &str) -> Vec<Pid> {
    let mut pids: Vec<Pid> = cgroup_roots()
        .iter()
        .flat_map(|root| deepest_first(&root.join(cgroup)))
        .filter_map(|folder| std::fs::read_to_string(folder.join("cgroup.procs")).ok())
        .flat_map(|text| parse_pids(&text))
        .collect();
    pids.sort();
    pids.dedup();
    pids
}

fn parse_pids(text: &str) -> Vec<Pid> {
    text.lines().filter_map(|line| line.parse().ok()).map(Pid::from_raw).collect()
}

fn remove_cgroups(cgroup: &str) -> Vec<anyhow::Error> {
    let mut failed = Vec::new();
    for root in cgroup_roots() {
        for folder in deepest_first(&root.join(cgroup)) {
            if let Err(error) = std::fs::remove_dir(&folder) {
                failed.push(anyhow!(error).context(format!("remove {}", folder.display())));
            }
        }
        // Shared by all clusters: stays as long as one has cgroups in it.
        let _ = std::fs::remove_dir(root.join("minictl"));
    }
    failed
}

/// Processes whose program is one of ours and whose arguments name the cluster's folder.
fn our_processes(dir: &Path) -> Vec<Pid> {
    let own = Pid::this();
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .map(Pid::from_raw)
        .filter(|pid| *pid != own)
        .filter(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|command| belongs(&String::from_utf8_lossy(&command), dir))
        })
        .collect()
}

fn belongs(command: &str, dir: &Path) -> bool {
    let dir = dir.display().to_string();
    let below = format!("{dir}/");
    let mut words = command.split('\0');
    let program = words.next().and_then(|word| Path::new(word).file_name()?.to_str());
    program.is_some_and(|name| OUR_PROGRAMS.contains(&name))
        && words.any(|word| word == dir || word.contains(&below))
}

/// The bundles of the cluster's containers: `…/NAMESPACE/ID`, each with the address of its shim.
fn bundles(paths: &Paths) -> Vec<PathBuf> {
    let tasks = paths.containerd().join("state/io.containerd.runtime.v2.task");
    let below = |folder: PathBuf| {
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
    };
    below(tasks).flat_map(below).collect()
}

/// What bundles have outside of the cluster's folder, whatever containerd is told: the socket of the
/// shim, because the path of a socket may not be long, and the state of runc.
fn left_outside(bundles: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for bundle in bundles {
        let mut names = bundle.iter().rev();
        if let (Some(id), Some(namespace)) = (names.next(), names.next()) {
            found.push(Path::new(CONTAINERD_RUN).join("runc").join(namespace).join(id));
        }
        if let Ok(address) = std::fs::read_to_string(bundle.join("address")) {
            found.extend(address.trim().strip_prefix("unix://").map(PathBuf::from));
        }
    }
    found.sort();
    found.dedup();
    found
}

fn unmount_below(dir: &Path) -> Vec<anyhow::Error> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut failed = Vec::new();
    // Later mounts may stand on earlier ones.
    for target in mounts_below(&table, dir).into_iter().rev() {
        match umount2(&target, MntFlags::MNT_DETACH) {
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(errno) => {
                failed.push(anyhow!(errno).context(format!("unmount {}", target.display())));
            }
        }
    }
    failed
}

/// The mount points below a folder, in the order of the table (`proc_pid_mountinfo(5)`, field 5).
fn mounts_below(table: &str, dir: &Path) -> Vec<PathBuf> {
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|field| PathBuf::from(field.replace("\\040", " ")))
        .filter(|path| path.starts_with(dir))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{self, Process};
    use crate::spec::{Dataplane, IpFamily, LoadBalancer, Wished};

    #[test]
    fn only_programs_of_ours_that_name_the_folder_belong_to_it() {
        let folder = Path::new("/state/labs/a");
        let shim =
            "/usr/bin/containerd-shim-runc-v2\0-address\0/state/labs/a/containerd/containerd.sock";
        assert!(belongs(shim, folder));
        assert!(!belongs("vi\0/state/labs/a/lab.json", folder));
        assert!(!belongs("containerd\0--config\0/state/labs/ab/containerd/config.toml", folder));
        assert!(!belongs("", folder));
    }

    /// Whatever becomes of its supervisor, which is one of them itself.
    #[test]
    fn every_process_of_a_lab_is_found_by_its_command() {
        let spec = LabSpec {
            name: "lab".to_owned(),
            nodes: 2,
            network: Wished::default().network(IpFamily::Dual).unwrap(),
            ranges: Wished::default().ranges(IpFamily::Dual).unwrap(),
            dataplane: Dataplane::Nftables,
            uplink: false,
            load_balancer: LoadBalancer::Pool,
        };
        let [paths, other] = ["lab", "la"].map(|name| Paths::lab(Path::new("/state"), name));
        let plan = plan::lab(&spec, &paths, Path::new("/bin/minictl"));
        let supervisor = "/bin/minictl\0supervise\0/state/labs/lab".to_owned();
        let command = |process: &Process| {
            format!("{}\0{}", process.program.display(), process.args.join("\0"))
        };
        for command in plan.all.iter().map(command).chain([supervisor]) {
            assert!(belongs(&command, paths.dir()), "{command}");
            assert!(!belongs(&command, other.dir()), "{command}");
        }
    }

    #[test]
    fn what_a_container_has_outside_of_its_clusters_folder_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::machine(dir.path());
        let bundle = paths.containerd().join("state/io.containerd.runtime.v2.task/node-1/abc");
        std::fs::create_dir_all(&bundle).unwrap();
        std::fs::write(bundle.join("address"), "unix:///run/containerd/s/0123\n").unwrap();
        assert_eq!(
            left_outside(&bundles(&paths)),
            [Path::new("/run/containerd/runc/node-1/abc"), Path::new("/run/containerd/s/0123")]
        );
    }

    #[test]
    fn mounts_are_found_by_their_folder() {
        let table = "36 35 98:0 / /state/labs/a/x rw - ext4 /dev/root rw\n\
                     37 36 98:0 / /state/labs/a/x/y rw - overlay overlay rw\n\
                     38 35 98:0 / /state/labs/ab rw - ext4 /dev/root rw\n";
        let found = mounts_below(table, Path::new("/state/labs/a"));
        assert_eq!(found, [Path::new("/state/labs/a/x"), Path::new("/state/labs/a/x/y")]);
    }
}
