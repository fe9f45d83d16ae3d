//! The kernel: the only place of this crate that opens netlink sockets, writes settings or runs a
//! program, but for the programs that `crate::foreign` reads others' rules with. Holds no policy;
//! what to do comes in as operations of `netmodel`.
//!
//! Everything acts on the network namespace of the calling thread.

pub(crate) mod conntrack;
pub(crate) mod handover;
pub(crate) mod ipvs;
pub(crate) mod monitor;
pub(crate) mod netlink;
pub(crate) mod nft;
pub(crate) mod route;
pub(crate) mod sysctl;

use std::io;

/// A step in the kernel that failed.
#[derive(Debug, thiserror::Error)]
#[error("{op}")]
pub struct OpError {
    /// What was tried.
    pub op: String,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

pub(crate) fn failed(op: impl Into<String>) -> impl FnOnce(io::Error) -> OpError {
    let op = op.into();
    move |source| OpError { op, source }
}

/// Finds IPVS, loading its module if that is possible.
pub(crate) fn find_ipvs() -> Result<(), OpError> {
    if ipvs::Ipvs::open().is_ok() {
        return Ok(());
    }
    // That there is no modprobe, or no module, shows below.
    let _ = std::process::Command::new("modprobe")
        .args(["-q", "ip_vs"])
        .stderr(std::process::Stdio::null())
        .status();
    ipvs::Ipvs::open().map(|_| ()).map_err(failed("find IPVS in the kernel"))
}
