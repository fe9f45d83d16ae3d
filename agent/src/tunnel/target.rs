//! Finding what a call is about: from the names of pod and container to a run on this node.

use std::path::{Path, PathBuf};

use proto::v1::Target;
use tonic::Status;

use crate::{
    config::Config,
    log::{log_path, pod_log_dir},
    pod::{PodRecord, RunState},
    sandbox::PodFolder,
};

/// A pod of this node.
pub(super) struct FoundPod {
    pub(super) record: PodRecord,
    pub(super) folder: PodFolder,
}

/// One run of a container.
pub(super) struct FoundRun {
    /// containerd's id.
    pub(super) id: String,
    pub(super) running: bool,
    /// FIFOs and feed.
    pub(super) io: PathBuf,
    pub(super) log: PathBuf,
}

impl FoundPod {
    /// The pod of a target; by its uid if the caller knows it, else by its names.
    pub(super) async fn find(config: &Config, target: &Target) -> Result<Self, Status> {
        let state_dir = config.state_dir.clone();
        let wanted = target.clone();
        let search = move || search(&state_dir, &wanted);
        let found = tokio::task::spawn_blocking(search).await;
        found.ok().flatten().ok_or_else(|| {
            let Target { namespace, pod, .. } = target;
            Status::not_found(format!("pod {pod}_{namespace} is not on this node"))
        })
    }

    /// The container's current run, or the one before it.
    pub(super) fn run(
        &self,
        config: &Config,
        container: &str,
        previous: bool,
    ) -> Result<FoundRun, Status> {
        let pod = &self.record.name;
        let record = self.record.container(container);
        let run = if previous { record.previous() } else { record.current() };
        let run = run.ok_or_else(|| {
            Status::failed_precondition(if previous {
                format!("previous terminated container {container:?} in pod {pod:?} not found")
            } else {
                format!("container {container:?} in pod {pod:?} is waiting to start")
            })
        })?;
        let logs = pod_log_dir(
            &config.log_dir,
            &self.record.namespace,
            &self.record.name,
            &self.record.uid,
        );
        Ok(FoundRun {
            id: run.id.clone(),
            running: matches!(run.state, RunState::Running { .. }),
            io: self.folder.io(container, run.attempt),
            log: log_path(&logs, container, run.attempt),
        })
    }

    /// The container's current run, which must be alive.
    pub(super) fn live_run(&self, config: &Config, container: &str) -> Result<FoundRun, Status> {
        let run = self.run(config, container, false)?;
        if run.running {
            return Ok(run);
        }
        Err(self.not_running(container))
    }

    /// The answer to who wants a running container of one that has ended.
    pub(super) fn not_running(&self, container: &str) -> Status {
        let pod = &self.record.name;
        let message = format!("container {container:?} in pod {pod:?} is not running");
        Status::failed_precondition(message)
    }
}

fn search(state_dir: &Path, target: &Target) -> Option<FoundPod> {
    let records = PodRecord::load_all(&PodFolder::all(state_dir)).ok()?;
    let same = |record: &PodRecord| {
        record.namespace == target.namespace
            && record.name == target.pod
            && (target.uid.is_empty() || record.uid == target.uid)
    };
    let mut found: Vec<PodRecord> =
        records.into_iter().map(|(_, record)| record).filter(|record| same(record)).collect();
    // A pod may be going while its successor of the same name is coming: the newest is meant.
    found.sort_by_key(|record| record.seen);
    let record = found.pop()?;
    Some(FoundPod { folder: PodFolder::new(state_dir, &record.uid), record })
}
