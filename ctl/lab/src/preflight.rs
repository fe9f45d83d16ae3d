//! What must hold before a cluster is started; each problem is one sentence with its fix.

use std::path::{Path, PathBuf};

use ipnet::IpNet;
use netns::Links;

use crate::spec::{LabSpec, clashes};

/// Why a cluster cannot be started here.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// Not root.
    #[error("minictl needs root for network namespaces and containers: run it with sudo")]
    NotRoot,
    /// A program is missing.
    #[error("{program} is not installed: apt-get install -y {package}")]
    Missing {
        /// The program.
        program: &'static str,
        /// Debian's package.
        package: &'static str,
    },
    /// An address range is in use on this machine.
    #[error(
        "{wanted} clashes with {present}, which this machine uses already: choose another range with {flag}"
    )]
    Clash {
        /// What the cluster wants.
        wanted: IpNet,
        /// What is there.
        present: IpNet,
        /// The flag that changes it.
        flag: &'static str,
    },
    /// A range of IPv6 on a machine that has none.
    #[error("this machine's kernel has no IPv6: use --ip-family ipv4")]
    NoIpv6,
    /// The machine's network could not be read.
    #[error("read this machine's network")]
    Network(#[from] netns::LinkError),
}

/// The programs that a cluster starts or calls, with the Debian packages that have them.
const PROGRAMS: &[(&str, &str)] =
    &[("containerd", "containerd"), ("runc", "runc"), ("nft", "nftables")];

/// Checks root and programs.
///
/// # Errors
/// The first thing that is missing.
pub fn check_machine() -> Result<(), PreflightError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(PreflightError::NotRoot);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    for (program, package) in PROGRAMS {
        if find(program, &path).is_none() {
            return Err(PreflightError::Missing { program, package });
        }
    }
    Ok(())
}

/// Checks that this machine has the families of the lab's network, and that it is free.
///
/// # Errors
/// What it clashes with.
pub async fn check_network(spec: &LabSpec) -> Result<(), PreflightError> {
    let has_ipv6 = Path::new("/proc/sys/net/ipv6").exists();
    if !has_ipv6 && spec.network.iter().any(|network| network.addr().is_ipv6()) {
        return Err(PreflightError::NoIpv6);
    }
    let present = Links::here()?.destinations().await?;
    match clashes(&spec.network, &present).first() {
        Some(&(wanted, present)) => {
            Err(PreflightError::Clash { wanted, present, flag: "--network" })
        }
        None => Ok(()),
    }
}

/// A program's file, looked up in `path` and in the folders of administrators' programs.
fn find(program: &str, path: &std::ffi::OsStr) -> Option<PathBuf> {
    std::env::split_paths(path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| is_file(file))
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_not_found() {
        assert_eq!(find("no-such-program", std::ffi::OsStr::new("/usr/bin")), None);
        assert!(find("sh", std::ffi::OsStr::new("/usr/bin:/bin")).is_some());
    }

    #[test]
    fn each_problem_names_its_fix() {
        let missing = PreflightError::Missing { program: "runc", package: "runc" };
        assert_eq!(missing.to_string(), "runc is not installed: apt-get install -y runc");
    }
}
