//! The agent on a real containerd: pods run, report, restart, stop, and leave nothing.
//!
//! Needs root, containerd, runc and busybox-static. Every test has its own containerd and network
//! namespace; nothing of the machine's own is touched.

#![expect(clippy::print_stderr, reason = "measurements, and containerd's words on failure")]
#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod api;
mod bed;
mod life;
mod streams;
