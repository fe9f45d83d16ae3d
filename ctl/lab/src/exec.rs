//! Runs a command on a host of a lab: in its network namespace, everything else being the machine's.

use std::path::Path;
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result, bail};
use netns::Namespace;

use crate::paths;
use crate::spec::LabSpec;
use crate::status;

/// Runs `command` on `host` with this process's own streams, and waits for its end.
///
/// # Errors
/// When lab or host are unknown, or the program is not found.
pub fn run(state: &Path, lab: &str, host: &str, command: &[String]) -> Result<ExitStatus> {
    let spec: LabSpec = status::spec(state, lab)?;
    let host = spec.host_named(host)?;
    let Some((program, args)) = command.split_first() else {
        bail!("no command given: minictl lab exec {lab}/{} -- COMMAND", host.name);
    };
    let namespace = Namespace::open(&paths::namespace(&host.namespace))
        .with_context(|| format!("lab {lab} is not running: minictl lab up {lab}"))?;
    // A child is born into the network namespace of the thread that makes it.
    let mut child = namespace
        .run(|| Command::new(program).args(args).spawn())?
        .with_context(|| format!("run {program}"))?;
    Ok(child.wait()?)
}
