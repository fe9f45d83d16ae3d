//! How containers ended, from containerd, cgroups and files.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::{
    record::{Ended, Run, RunState},
    worker::News,
};
use crate::{
    runtime::{Containerd, Exit, TaskState},
    sandbox::PodFolder,
};

/// Time between two tries while containerd is away.
const RETRY: Duration = Duration::from_millis(500);
/// The longest termination message, as the API's.
const LONGEST_MESSAGE: u64 = 4096;

/// Waits for the end of a run and tells the worker; goes on over restarts of containerd.
pub(super) async fn watch_run(
    containerd: Containerd,
    container: String,
    id: String,
    news: mpsc::Sender<News>,
) {
    let exit = loop {
        match containerd.wait(&id, "").await {
            Ok(exit) => break Some(exit),
            Err(error) if error.is_not_found() => break None,
            Err(error) => {
                tracing::debug!(id, error = crate::error_chain(&error), "wait again");
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    // A worker that has ended needs no news.
    let _ = news.send(News::Exited { container, id, exit }).await;
}

/// What containerd says of a run that the record calls alive.
pub(super) async fn look_again(containerd: &Containerd, id: &str) -> TaskState {
    loop {
        match containerd.task_state(id).await {
            Ok(state) => return state,
            Err(error) => {
                tracing::warn!(id, error = crate::error_chain(&error), "look again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// The end of a run; `None` for an exit code that nobody knows any more.
pub(super) fn ended(
    run: &Run,
    exit: Option<Exit>,
    folder: &PodFolder,
    container: &str,
    cgroup: &Path,
) -> Ended {
    let started = match run.state {
        RunState::Running { since } => Some(since),
        RunState::Ended(_) => None,
    };
    let Some(exit) = exit else {
        return Ended {
            started,
            finished: Timestamp::now(),
            code: 137,
            reason: "ContainerStatusUnknown".to_owned(),
            message: Some(
                "The container could not be located when the pod was terminated".to_owned(),
            ),
        };
    };
    let reason = match exit.code {
        0 => "Completed",
        _ if was_oom_killed(cgroup) => "OOMKilled",
        _ => "Error",
    };
    Ended {
        started,
        finished: exit.at,
        code: exit.code,
        reason: reason.to_owned(),
        message: termination_message(&folder.termination_log(container, run.attempt)),
    }
}

fn termination_message(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(LONGEST_MESSAGE).read_to_end(&mut bytes).ok()?;
    (!bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether the kernel killed something in a cgroup for want of memory. The cgroup of a dead task
/// stays until the task is deleted, so this is no race.
fn was_oom_killed(cgroup: &Path) -> bool {
    let relative = cgroup.strip_prefix("/").unwrap_or(cgroup);
    let root = Path::new("/sys/fs/cgroup");
    let files = [
        root.join(relative).join("memory.events"),
        root.join("memory").join(relative).join("memory.oom_control"),
    ];
    files.iter().any(|file| oom_kills(&fs::read_to_string(file).unwrap_or_default()) > 0)
}

fn oom_kills(text: &str) -> u64 {
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// The cgroup of a pod, absolute in each hierarchy.
pub(super) fn pod_cgroup(parent: &str, uid: &str) -> PathBuf {
    Path::new("/").join(parent.trim_start_matches('/')).join(format!("pod{uid}"))
}

/// A cgroup's folder in every hierarchy of the machine: one per controller (v1), one for all (v2).
fn in_every_hierarchy(cgroup: &Path) -> Vec<PathBuf> {
    let relative = cgroup.strip_prefix("/").unwrap_or(cgroup);
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let places = hierarchies.chain([root.to_owned()]).map(|hierarchy| hierarchy.join(relative));
    places.filter(|place| place.is_dir()).collect()
}

/// Removes a cgroup without processes.
pub(crate) fn remove_cgroup(cgroup: &Path) {
    for place in in_every_hierarchy(cgroup) {
        remove_tree(&place);
    }
}

/// Kills every process in a cgroup and below, and waits until they are gone, at most for `limit`.
pub(crate) async fn kill_cgroup(cgroup: &Path, limit: Duration) {
    let places = in_every_hierarchy(cgroup);
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        let mut processes: Vec<i32> = places.iter().flat_map(|place| processes(place)).collect();
        processes.sort_unstable();
        processes.dedup();
        if processes.is_empty() || tokio::time::Instant::now() >= deadline {
            return;
        }
        for process in processes {
            let process = nix::unistd::Pid::from_raw(process);
            // It may have ended meanwhile.
            let _ = nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGKILL);
        }
        // The kernel tells nobody when a cgroup of version 1 becomes empty.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn processes(cgroup: &Path) -> Vec<i32> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let mut list: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list.extend(processes(&entry.path()));
        }
    }
    list
}

/// Folders only: a cgroup's files go with it.
fn remove_tree(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    match fs::remove_dir(cgroup) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::debug!(cgroup = %cgroup.display(), %error, "a cgroup stays");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_for_want_of_memory_are_counted_in_both_hierarchies() {
        assert_eq!(oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"), 2);
        assert_eq!(oom_kills("low 0\nhigh 0\nmax 5\noom 1\noom_kill 1\n"), 1);
        assert_eq!(oom_kills(""), 0);
    }

    #[test]
    fn an_unknown_end_says_so() {
        let run = Run {
            id: "x".into(),
            attempt: 0,
            image: String::new(),
            image_id: String::new(),
            state: RunState::Running { since: Timestamp::UNIX_EPOCH },
        };
        let folder = PodFolder::new(Path::new("/none"), "u");
        let ended = ended(&run, None, &folder, "c", Path::new("/none"));
        assert_eq!((ended.code, ended.reason.as_str()), (137, "ContainerStatusUnknown"));
    }
}
