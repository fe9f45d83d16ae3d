//! Kernel settings of this network namespace.

use std::path::PathBuf;

use super::{OpError, failed};

/// Sets `net.ipv4.ip_forward` and the like, unless it has the value already. Tells what it was
/// before, if that was something else.
pub(crate) fn set(name: &str, value: &str) -> Result<Option<String>, OpError> {
    let was = get(name);
    if was.as_deref() == Some(value) {
        return Ok(None);
    }
    std::fs::write(path(name), value).map_err(failed(format!("set {name} to {value}")))?;
    Ok(Some(was.unwrap_or_default()))
}

/// The value of a setting; `None` where there is none.
pub(crate) fn get(name: &str) -> Option<String> {
    Some(std::fs::read_to_string(path(name)).ok()?.trim().to_owned())
}

/// Is there such a setting here?
pub(crate) fn exists(name: &str) -> bool {
    path(name).exists()
}

/// Is this Linux of that version, or a later one?
pub(crate) fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string(path("kernel.osrelease")).unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse().ok());
    (numbers.next().unwrap_or(0_u32), numbers.next().unwrap_or(0)) >= (major, minor)
}

/// As `sysctl` writes names: dots part them, and what is a dot in a link's name is a slash.
fn path(name: &str) -> PathBuf {
    let swapped = name.chars().map(|c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    });
    PathBuf::from("/proc/sys").join(swapped.collect::<String>())
}
