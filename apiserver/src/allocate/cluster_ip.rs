//! Cluster IPs of Services (upstream: `pkg/registry/core/service/ipallocator/cidrallocator.go`,
//! KEP-3070 for the bands).

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use store::Snapshot;

use super::{Bands, random};
use crate::key;

/// The pool's name in keys.
pub(crate) const POOL: &str = "clusterips";

/// Why an address that somebody asked for cannot be had; upstream's texts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressError {
    #[error("provided IP is already allocated")]
    Allocated,
    #[error(
        "the provided IP ({address}) is not in the valid range. The range of valid IPs is {range}"
    )]
    NotInRange { address: String, range: Ipv4Net },
}

/// A free address.
pub(crate) fn draw(range: Ipv4Net, snapshot: &Snapshot) -> Option<Ipv4Addr> {
    let taken = |n| owner(snapshot, address(range, n)).is_some();
    bands(range).draw(taken, random).map(|n| address(range, n))
}

/// Checks an address that somebody asks for.
pub(crate) fn check(
    range: Ipv4Net,
    snapshot: &Snapshot,
    asked: &str,
) -> Result<Ipv4Addr, AddressError> {
    let outside = || AddressError::NotInRange { address: asked.to_owned(), range };
    let address: Ipv4Addr = asked.parse().map_err(|_| outside())?;
    let inside =
        range.contains(&address) && address != range.network() && address != range.broadcast();
    if !inside {
        return Err(outside());
    }
    match owner(snapshot, address) {
        Some(_) => Err(AddressError::Allocated),
        None => Ok(address),
    }
}

/// Who holds an address: `namespace/name`.
pub(crate) fn owner(snapshot: &Snapshot, address: Ipv4Addr) -> Option<String> {
    let entry = snapshot.get(&key::allocation(POOL, &address.to_string()))?;
    Some(String::from_utf8_lossy(&entry.value).into_owned())
}

/// The first and the last address of a range are never given out.
fn bands(range: Ipv4Net) -> Bands {
    const LEAST: u64 = 16;
    const MOST: u64 = 256;
    let all = 1u64 << (32 - range.prefix_len());
    let size = all.saturating_sub(2);
    // A range too small for bands has none.
    let reserved = if size <= LEAST { 0 } else { (size / 16).clamp(LEAST, MOST) };
    Bands { size, reserved }
}

/// The `n`th address that can be given out.
fn address(range: Ipv4Net, n: u64) -> Ipv4Addr {
    let offset = u32::try_from(n + 1).unwrap_or(u32::MAX);
    Ipv4Addr::from(u32::from(range.network()).saturating_add(offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_are_those_of_kep_3070() {
        let bands = |range: &str| bands(range.parse().unwrap());
        assert_eq!(bands("10.96.0.0/12"), Bands { size: 1_048_574, reserved: 256 });
        assert_eq!(bands("10.0.0.0/24"), Bands { size: 254, reserved: 16 });
        assert_eq!(bands("10.0.0.0/20"), Bands { size: 4094, reserved: 255 });
        assert_eq!(bands("10.0.0.0/28"), Bands { size: 14, reserved: 0 });
        assert_eq!(bands("10.0.0.0/32"), Bands { size: 0, reserved: 0 });
    }

    #[test]
    fn addresses_start_after_the_network_address() {
        let range: Ipv4Net = "10.96.0.0/12".parse().unwrap();
        assert_eq!(address(range, 0).to_string(), "10.96.0.1");
        assert_eq!(address(range, 1_048_573).to_string(), "10.111.255.254");
    }
}
