//! What clusters there are on this machine and how they do, read from their folders and `/proc`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::paths::Paths;
use crate::plan::Processes;
use crate::spec::LabSpec;
use crate::supervise;

/// The name of a lab that is given none.
pub const DEFAULT_LAB: &str = "lab";

/// A process of a cluster as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProcessStatus {
    /// Its name.
    pub name: String,
    /// Its pid, if it runs.
    pub pid: Option<u32>,
    /// Resident memory in KiB.
    pub memory_kib: Option<u64>,
}

/// The names of all labs that have a folder, sorted.
#[must_use]
pub fn labs(state: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(state.join("labs"))
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// The lab that is meant when none is named: the one named `lab`, or the only one there is.
///
/// # Errors
/// When there is none, or several; the message names them.
pub fn only_lab(state: &Path) -> Result<String> {
    let labs = labs(state);
    match labs.as_slice() {
        [only] => Ok(only.clone()),
        several if several.iter().any(|name| name == DEFAULT_LAB) => Ok(DEFAULT_LAB.to_owned()),
        [] => bail!("there is no lab: start one with \"minictl lab up\""),
        several => bail!("there are several labs, name one of them: {}", several.join(", ")),
    }
}

/// What a lab was asked to be.
///
/// # Errors
/// When there is no such lab; the message names those there are.
pub fn spec(state: &Path, name: &str) -> Result<LabSpec> {
    let paths = Paths::lab(state, name);
    let Ok(bytes) = std::fs::read(paths.spec()) else {
        let labs = labs(state);
        if labs.is_empty() {
            bail!("there is no lab {name}: start it with \"minictl lab up {name}\"");
        }
        bail!("there is no lab {name}; there is: {}", labs.join(", "));
    };
    serde_json::from_slice(&bytes).with_context(|| format!("read {}", paths.spec().display()))
}

/// Whether a cluster's supervisor runs.
#[must_use]
pub fn is_up(paths: &Paths) -> bool {
    supervise::running(paths).is_some()
}

/// The kubeconfig to use when nothing else is said: the running lab's (the one named `lab` if there
/// are several), else that of the machine's own cluster.
#[must_use]
pub fn default_kubeconfig(state: &Path) -> Option<PathBuf> {
    let mut running: Vec<(String, Paths)> = labs(state)
        .into_iter()
        .map(|name| (name.clone(), Paths::lab(state, &name)))
        .filter(|(_, paths)| is_up(paths))
        .collect();
    running.sort_by_key(|(name, _)| name != DEFAULT_LAB);
    let machine = Paths::machine(state);
    running
        .into_iter()
        .map(|(_, paths)| paths)
        .chain(is_up(&machine).then_some(machine))
        .map(|paths| paths.kubeconfig())
        .next()
}

/// The processes of a cluster.
#[must_use]
pub fn processes(paths: &Paths) -> Vec<ProcessStatus> {
    let plan: Processes = std::fs::read(paths.processes())
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    plan.all
        .into_iter()
        .map(|process| {
            let pid = live_pid(paths, &process.name, &process.program);
            let memory_kib = pid.and_then(resident_kib);
            ProcessStatus { name: process.name, pid, memory_kib }
        })
        .collect()
}

/// The pid of a process if it still runs that program: a pid alone may have been given again.
pub(crate) fn live_pid(paths: &Paths, name: &str, program: &Path) -> Option<u32> {
    let pid: u32 =
        std::fs::read_to_string(supervise::pid_file(paths, name)).ok()?.trim().parse().ok()?;
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let first = command.split(|byte| *byte == 0).next()?;
    let runs = Path::new(std::str::from_utf8(first).ok()?).file_name()?;
    (Some(runs) == program.file_name()).then_some(pid)
}

fn resident_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?
        .trim()
        .trim_end_matches("kB")
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_labs_there_is_no_kubeconfig_and_a_hint() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(default_kubeconfig(dir.path()), None);
        let error = spec(dir.path(), "lab").unwrap_err();
        assert_eq!(error.to_string(), "there is no lab lab: start it with \"minictl lab up lab\"");
    }

    #[test]
    fn a_lab_need_not_be_named_where_there_is_no_doubt() {
        let dir = tempfile::tempdir().unwrap();
        let make =
            |name: &str| std::fs::create_dir_all(dir.path().join("labs").join(name)).unwrap();
        let only = || only_lab(dir.path()).map_err(|error| error.to_string());
        assert!(only().unwrap_err().starts_with("there is no lab:"));
        make("b");
        assert_eq!(only(), Ok("b".to_owned()));
        make("a");
        assert_eq!(only(), Err("there are several labs, name one of them: a, b".to_owned()));
        make("lab");
        assert_eq!(only(), Ok("lab".to_owned()));
    }

    #[test]
    fn this_process_has_memory() {
        assert!(resident_kib(std::process::id()).unwrap() > 0);
    }
}
