//! Node ports of Services (upstream: `pkg/registry/core/service/portallocator`, KEP-3668 for the bands).

use std::ops::RangeInclusive;

use store::Snapshot;

use super::{Bands, random};
use crate::key;

/// The pool's name in keys.
pub(crate) const POOL: &str = "nodeports";

/// Why a port that somebody asked for cannot be had; upstream's texts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PortError {
    #[error("provided port is already allocated")]
    Allocated {
        /// Who holds it, for a second sentence that upstream does not have.
        owner: String,
    },
    #[error("provided port is not in the valid range. The range of valid ports is {0}-{1}")]
    NotInRange(u16, u16),
}

impl PortError {
    /// A second sentence about a port that was asked for.
    pub(crate) fn note(&self, asked: i32) -> String {
        match self {
            Self::Allocated { owner } => format!("port {asked} is held by the Service {owner}"),
            Self::NotInRange(first, last) => {
                format!("node ports and health check node ports are those of {first}-{last}")
            }
        }
    }
}

/// A free port that `also_taken` does not hold either.
pub(crate) fn draw(
    range: &RangeInclusive<u16>,
    snapshot: &Snapshot,
    also_taken: &[u16],
) -> Option<u16> {
    let port = |n: u64| range.start().saturating_add(u16::try_from(n).unwrap_or(u16::MAX));
    let taken = |n| also_taken.contains(&port(n)) || owner(snapshot, port(n)).is_some();
    bands(range).draw(taken, random).map(port)
}

/// Checks a port that somebody asks for.
pub(crate) fn check(
    range: &RangeInclusive<u16>,
    snapshot: &Snapshot,
    asked: i32,
) -> Result<u16, PortError> {
    let port = u16::try_from(asked).ok().filter(|p| range.contains(p));
    let port = port.ok_or(PortError::NotInRange(*range.start(), *range.end()))?;
    match owner(snapshot, port) {
        Some(owner) => Err(PortError::Allocated { owner }),
        None => Ok(port),
    }
}

/// Who holds a port: `namespace/name`.
fn owner(snapshot: &Snapshot, port: u16) -> Option<String> {
    let entry = snapshot.get(&key::allocation(POOL, &port.to_string()))?;
    Some(String::from_utf8_lossy(&entry.value).into_owned())
}

fn bands(range: &RangeInclusive<u16>) -> Bands {
    const LEAST: u64 = 16;
    const MOST: u64 = 128;
    let size = u64::try_from(range.len()).unwrap_or(0);
    let reserved = if size <= LEAST { 0 } else { (size / 32).clamp(LEAST, MOST) };
    Bands { size, reserved }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_are_those_of_kep_3668() {
        assert_eq!(bands(&(30000..=32767)), Bands { size: 2768, reserved: 86 });
        assert_eq!(bands(&(30000..=30015)), Bands { size: 16, reserved: 0 });
        assert_eq!(bands(&(1024..=65535)), Bands { size: 64512, reserved: 128 });
    }
}
