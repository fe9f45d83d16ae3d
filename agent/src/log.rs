//! Container logs: CRI's line format, the helper process that writes it, and the reader.
//!
//! Flow: a container's output goes through a pipe into a helper process (`pod-log`, one per running
//! container, started by containerd's shim), which stamps lines into `CONTAINER/N.log` and hands
//! live bytes to whoever is connected to its socket. So logs and attach outlive the agent.
//! Deliberately not here: which pod a log belongs to, gRPC.

mod feed;
mod format;
mod reader;
mod writer;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub(crate) use feed::{Chunk, Feed};
pub(crate) use reader::{ReadOptions, read_log};
pub use writer::pod_log;

/// The standard streams that a container writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output; with a terminal, everything.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What the helper process has to know; a JSON file whose path is the helper's only argument,
/// because containerd passes the arguments of a log helper in no particular order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HelperConfig {
    /// The log file to append to.
    pub(crate) log: PathBuf,
    /// The folder with the container's FIFOs; the helper makes its socket there.
    pub(crate) io: PathBuf,
    /// Whether the streams are the FIFOs of `io` instead of inherited descriptors: needed where
    /// there is a standard input but no terminal.
    pub(crate) fifos: bool,
    /// Whether the helper keeps the FIFO of the standard input open, so that it does not end when
    /// a client goes.
    pub(crate) hold_stdin: bool,
}

/// The folder of a pod's logs, as kubelet lays them out.
pub(crate) fn pod_log_dir(log_dir: &Path, namespace: &str, pod: &str, uid: &str) -> PathBuf {
    log_dir.join(format!("{namespace}_{pod}_{uid}"))
}

/// The log of one run of a container.
pub(crate) fn log_path(pod_logs: &Path, container: &str, attempt: u32) -> PathBuf {
    pod_logs.join(container).join(format!("{attempt}.log"))
}
