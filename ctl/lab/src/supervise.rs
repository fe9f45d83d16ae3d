//! Keeps the processes of a cluster running.
//!
//! The supervisor is a process of its own, in its own session, that outlives the command which
//! started it. It holds `lock` as long as it lives; its standard input is the API's loopback
//! listener, handed on to every start of the control plane, so that the port survives restarts.
//! A process that ends is started again after a pause that doubles; SIGTERM stops them all, stage by
//! stage.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use netns::Namespace;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::paths::Paths;
use crate::plan::{Process, Processes, Stage};

/// The first pause before a process is started again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A process that ran this long is taken to be sound: its next pause is the first one again.
const SOUND: Duration = Duration::from_secs(10);
/// How long a process may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

/// Supervises until `stop`; call [`detach`] first. Ends at once if another supervisor has the lock.
///
/// # Errors
/// When the lock or the plan cannot be had. Processes that fail are not errors: they are started
/// again.
pub async fn run(paths: &Paths, stop: CancellationToken) -> Result<()> {
    let _lock = take_lock(&paths.lock())?;
    let plan = std::fs::read(paths.processes()).context("read the plan of processes")?;
    let plan: Processes = serde_json::from_slice(&plan).context("read the plan of processes")?;
    let listener = inherited_listener()?;
    let mut kept: BTreeMap<Stage, (CancellationToken, JoinSet<()>)> = BTreeMap::new();
    for process in plan.all {
        let listener = process.takes_listener.then(|| listener.try_clone()).transpose()?;
        let (stop, tasks) = kept.entry(process.stage).or_default();
        tasks.spawn(keep_running(paths.clone(), process, listener, stop.clone()));
    }
    stop.cancelled().await;
    for (stop, mut tasks) in kept.into_values().rev() {
        stop.cancel();
        while let Some(ended) = tasks.join_next().await {
            ended.context("a supervising task panicked")?;
        }
    }
    Ok(())
}

/// Leaves the terminal's session, so that closing the terminal does not end the cluster.
///
/// # Errors
/// When the process leads a group already.
pub fn detach() -> Result<()> {
    nix::unistd::setsid().context("leave the session")?;
    Ok(())
}

/// The supervisor's pid, if one is running.
#[must_use]
pub fn running(paths: &Paths) -> Option<Pid> {
    let mut file = File::open(paths.lock()).ok()?;
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        // Nobody holds it: the supervisor that wrote the pid is gone.
        Ok(_) => None,
        Err((_, Errno::EWOULDBLOCK)) => text.trim().parse().ok().map(Pid::from_raw),
        Err(_) => None,
    }
}

fn take_lock(path: &Path) -> Result<Flock<File>> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
        .with_context(|| format!("open {}", path.display()))?;
    let mut lock =
        Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| errno)
            .with_context(|| format!("lock {}: a supervisor is running already", path.display()))?;
    lock.set_len(0)?;
    lock.rewind()?;
    write!(lock, "{}", std::process::id())?;
    Ok(lock)
}

fn inherited_listener() -> Result<TcpListener> {
    let stdin = std::io::stdin();
    let fd = stdin.as_fd().try_clone_to_owned().context("take over the listener")?;
    Ok(TcpListener::from(fd))
}

async fn keep_running(
    paths: Paths,
    process: Process,
    listener: Option<TcpListener>,
    stop: CancellationToken,
) {
    let mut pause = FIRST_PAUSE;
    while !stop.is_cancelled() {
        let started = Instant::now();
        match start(&process, listener.as_ref()) {
            Ok(mut child) => {
                record(&paths, &process.name, child.id());
                // Cancel-safe: `wait` can be called again after it was dropped.
                tokio::select! {
                    status = child.wait() => {
                        let how = status.map_or_else(|e| e.to_string(), |status| status.to_string());
                        tracing::warn!(process = process.name, "ended: {how}");
                    }
                    () = stop.cancelled() => {
                        end(&mut child, &process.name).await;
                        return;
                    }
                }
            }
            Err(error) => tracing::error!(process = process.name, "not started: {error:#}"),
        }
        if started.elapsed() >= SOUND {
            pause = FIRST_PAUSE;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            () = stop.cancelled() => return,
        }
    }
}

fn start(process: &Process, listener: Option<&TcpListener>) -> Result<Child> {
    if let Some(folder) = process.log.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let log = OpenOptions::new().create(true).append(true).open(&process.log)?;
    let stdin = match listener {
        Some(listener) => Stdio::from(OwnedFd::from(listener.try_clone()?)),
        None => Stdio::null(),
    };
    let mut command = Command::new(&process.program);
    command.args(&process.args).stdin(stdin).stdout(log.try_clone()?).stderr(log);
    match &process.namespace {
        None => command.spawn().with_context(|| format!("run {}", process.program.display())),
        Some(path) => {
            let runtime = tokio::runtime::Handle::current();
            // A child is born into the network namespace of the thread that makes it.
            Namespace::open(path)?
                .run(|| {
                    let _inside = runtime.enter();
                    command.spawn()
                })?
                .with_context(|| format!("run {}", process.program.display()))
        }
    }
}

async fn end(child: &mut Child, name: &str) {
    let Some(id) = child.id() else { return };
    let pid = Pid::from_raw(i32::try_from(id).unwrap_or(i32::MAX));
    // It may have ended by itself just now.
    let _ = kill(pid, Signal::SIGTERM);
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        tracing::warn!(process = name, "did not end within {GRACE:?} of SIGTERM: killed");
        if let Err(error) = child.kill().await {
            tracing::error!(process = name, "not killed: {error}");
        }
    }
}

/// The file that tells the pid of a process, for `status` and for `down` after a crash.
#[must_use]
pub fn pid_file(paths: &Paths, process: &str) -> PathBuf {
    paths.dir().join("pids").join(process)
}

fn record(paths: &Paths, process: &str, pid: Option<u32>) {
    let Some(pid) = pid else { return };
    let file = pid_file(paths, process);
    let written = file
        .parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| std::fs::write(&file, pid.to_string()));
    if let Err(error) = written {
        tracing::warn!(process, "pid not recorded: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(dir: &Path, script: &str) -> Process {
        Process {
            name: "sh".to_owned(),
            stage: Stage::Node,
            program: "/bin/sh".into(),
            args: vec!["-c".to_owned(), script.to_owned()],
            namespace: None,
            takes_listener: false,
            log: dir.join("log/sh.log"),
        }
    }

    async fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
        let limit = Instant::now() + Duration::from_secs(10);
        while !done() {
            assert!(Instant::now() < limit, "{what} did not happen");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_process_that_ends_is_started_again_and_ends_with_the_supervisor() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::machine(dir.path());
        let count = dir.path().join("count");
        let script = format!(
            "echo x >> {0}; [ $(wc -l < {0}) -lt 2 ] && exit 1; exec sleep 1000",
            count.display()
        );
        let stop = CancellationToken::new();
        let task = tokio::spawn(keep_running(
            paths.clone(),
            process(dir.path(), &script),
            None,
            stop.clone(),
        ));
        let starts = || std::fs::read_to_string(&count).map_or(0, |text| text.lines().count());
        wait_for("a second start", || starts() == 2).await;
        let pid = std::fs::read_to_string(pid_file(&paths, "sh")).unwrap();
        assert!(Path::new("/proc").join(&pid).exists());
        stop.cancel();
        task.await.unwrap();
        assert!(!Path::new("/proc").join(&pid).exists());
    }

    #[test]
    fn a_lock_without_a_holder_means_no_supervisor() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::machine(dir.path());
        std::fs::create_dir_all(paths.dir()).unwrap();
        assert_eq!(running(&paths), None);
        let lock = take_lock(&paths.lock()).unwrap();
        assert_eq!(running(&paths), Some(Pid::this()));
        assert!(take_lock(&paths.lock()).is_err());
        drop(lock);
        assert_eq!(running(&paths), None);
    }
}
