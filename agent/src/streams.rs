//! Processes in containers and the streams to them: FIFOs, exec, attach.
//!
//! Inputs: a container's id and what to run. Outputs: the process's output and exit code.
//! Invariants: the reading end of a FIFO is open before the process is made, so nothing it writes
//! is lost; every FIFO is removed when its process is over. Deliberately not here: gRPC.

pub(crate) mod attach;
pub(crate) mod exec;
mod fifo;

pub(crate) use fifo::{make_fifo, release_readers};
