//! What the agent remembers of a pod: its address and its containers' runs.
//!
//! A record is one JSON file per pod, written whenever it changes, so that a restarted agent knows
//! what it did; containerd says whether it still holds. Invariants: a container has at most two
//! runs in its record, the previous one and the current one, oldest first; a run is recorded only
//! once its first process was started or had failed to start.

use std::{
    collections::BTreeMap,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The name of a record in its pod's folder.
const FILE: &str = "record.json";

/// A pod as the agent knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PodRecord {
    /// Namespace.
    pub(crate) namespace: String,
    /// Name.
    pub(crate) name: String,
    /// Identity: a new pod of the same name has another one.
    pub(crate) uid: String,
    /// When the agent first saw it.
    pub(crate) seen: Timestamp,
    /// Its sandbox, if one stands.
    pub(crate) sandbox: Option<SandboxRecord>,
    /// Its containers by name, init containers too.
    pub(crate) containers: BTreeMap<String, ContainerRecord>,
}

/// A pod's namespaces and addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    /// Its own addresses, one of each family; none on the node's network.
    pub(crate) ips: Vec<IpAddr>,
}

/// One container's runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    /// The previous and the current run.
    pub(crate) runs: Vec<Run>,
    /// What the next restart has to wait for.
    pub(crate) backoff: Option<Backoff>,
}

/// One run of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// containerd's id.
    pub(crate) id: String,
    /// 0 for the first run, then counting.
    pub(crate) attempt: u32,
    /// Full name of the image.
    pub(crate) image: String,
    /// The image by digest.
    pub(crate) image_id: String,
    /// How it is.
    pub(crate) state: RunState,
}

/// The state of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RunState {
    /// Alive.
    Running {
        /// Since when.
        since: Timestamp,
    },
    /// Over.
    Ended(Ended),
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// When it had started; `None` if it never did.
    pub(crate) started: Option<Timestamp>,
    /// When it ended.
    pub(crate) finished: Timestamp,
    /// Exit code; 128 + N after signal N.
    pub(crate) code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, `ContainerStatusUnknown`.
    pub(crate) reason: String,
    /// More about it.
    pub(crate) message: Option<String>,
}

/// The growing pause between restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Backoff {
    /// Seconds from the end of a run to the next start.
    pub(crate) seconds: i64,
    /// When it last grew.
    pub(crate) updated: Timestamp,
}

impl ContainerRecord {
    /// The current run.
    pub(crate) fn current(&self) -> Option<&Run> {
        self.runs.last()
    }

    /// The run before the current one.
    pub(crate) fn previous(&self) -> Option<&Run> {
        self.runs.iter().rev().nth(1)
    }

    /// How the current run ended, if it did.
    pub(crate) fn ended(&self) -> Option<&Ended> {
        match &self.current()?.state {
            RunState::Ended(ended) => Some(ended),
            RunState::Running { .. } => None,
        }
    }

    /// Whether a run is alive.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.current().map(|run| &run.state), Some(RunState::Running { .. }))
    }

    /// The number of the next run.
    pub(crate) fn next_attempt(&self) -> u32 {
        self.current().map_or(0, |run| run.attempt + 1)
    }

    /// Adds a run; answers the runs that no longer count.
    pub(crate) fn push(&mut self, run: Run) -> Vec<Run> {
        self.runs.push(run);
        let surplus = self.runs.len().saturating_sub(2);
        self.runs.drain(..surplus).collect()
    }
}

impl PodRecord {
    /// The container's record; an empty one if it never ran.
    pub(crate) fn container(&self, name: &str) -> &ContainerRecord {
        static NONE: ContainerRecord = ContainerRecord { runs: Vec::new(), backoff: None };
        self.containers.get(name).unwrap_or(&NONE)
    }

    /// Whether any container is alive.
    pub(crate) fn any_running(&self) -> bool {
        self.containers.values().any(ContainerRecord::is_running)
    }

    /// Writes the record into the pod's folder.
    pub(crate) fn save(&self, folder: &Path) -> io::Result<()> {
        let bytes = serde_json::to_vec(self)?;
        let draft = folder.join("record.json.new");
        fs::write(&draft, bytes)?;
        fs::rename(draft, folder.join(FILE))
    }

    /// All records under the folder of pods; what is none is left out.
    pub(crate) fn load_all(pods: &Path) -> io::Result<Vec<(PathBuf, Self)>> {
        let mut records = Vec::new();
        for entry in fs::read_dir(pods)? {
            let folder = entry?.path();
            let Ok(bytes) = fs::read(folder.join(FILE)) else { continue };
            match serde_json::from_slice(&bytes) {
                Ok(record) => records.push((folder, record)),
                Err(error) => {
                    tracing::warn!(folder = %folder.display(), %error, "an unreadable pod record");
                }
            }
        }
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(attempt: u32) -> Run {
        Run {
            id: attempt.to_string(),
            attempt,
            image: String::new(),
            image_id: String::new(),
            state: RunState::Running { since: Timestamp::UNIX_EPOCH },
        }
    }

    #[test]
    fn the_previous_and_the_current_run_are_kept() {
        let mut record = ContainerRecord::default();
        assert_eq!(record.next_attempt(), 0);
        assert!(record.push(run(0)).is_empty());
        assert!(record.push(run(1)).is_empty());
        assert_eq!(record.push(run(2)), [run(0)]);
        assert_eq!((record.previous(), record.current()), (Some(&run(1)), Some(&run(2))));
    }

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let pods = tempfile::tempdir().unwrap();
        let folder = pods.path().join("u1");
        fs::create_dir(&folder).unwrap();
        let mut record = PodRecord { uid: "u1".to_owned(), ..PodRecord::default() };
        record.sandbox = Some(SandboxRecord { ips: vec!["10.244.1.2".parse().unwrap()] });
        record.containers.entry("c".to_owned()).or_default().push(run(0));
        record.save(&folder).unwrap();
        fs::create_dir(pods.path().join("junk")).unwrap();
        assert_eq!(PodRecord::load_all(pods.path()).unwrap(), [(folder, record)]);
    }
}
