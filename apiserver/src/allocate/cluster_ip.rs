//! Cluster IPs of Services (upstream: `pkg/registry/core/service/ipallocator/{ipallocator,
//! cidrallocator}.go`, KEP-1880; KEP-3070 for the bands).
//!
//! An address is taken by the IPAddress object of its name, written in the Service's transaction:
//! what can be seen is what is taken, and an object that somebody makes by hand reserves its
//! address. Ranges are the ServiceCIDR objects that are ready.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use resources::families::Family;
use resources::table::{self, Resource};
use resources::{ip_address, service as rules, service_cidr};
use store::{Check, Op, Revision, Snapshot, Txn};

use super::{Bands, random};
use crate::key;
use crate::status::ApiError;
use crate::stored::{Current, Encoded};
use crate::verbs::create::now;

const GROUP: &str = "networking.k8s.io";

/// Why an address that somebody asked for cannot be had; upstream's texts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressError {
    #[error("provided IP is already allocated")]
    Allocated {
        /// Who holds it, for a second sentence that upstream does not have.
        holder: String,
    },
    #[error("the provided network does not match the current range")]
    Mismatched {
        /// The ranges of that family.
        ranges: Vec<IpNet>,
    },
    /// It is in a range, but at an end of it; upstream does not tell this apart.
    #[error("the provided network does not match the current range")]
    End {
        /// The range.
        range: IpNet,
    },
}

impl AddressError {
    /// A second sentence about an address that was asked for.
    pub(crate) fn note(&self, asked: &str) -> String {
        match self {
            Self::Allocated { holder } => format!("IP {asked} is held by {holder}"),
            Self::Mismatched { ranges } if ranges.is_empty() => {
                format!("no ServiceCIDR is ready that has addresses of the family of IP {asked}")
            }
            Self::Mismatched { ranges } => {
                let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
                let ranges = ranges.join(", ");
                format!(
                    "no ServiceCIDR that is ready has IP {asked}; those of its family are: {ranges}"
                )
            }
            Self::End { range } => format!(
                "the first address of {range}, and of IPv4 ranges the last one, go to nobody"
            ),
        }
    }
}

/// A range that addresses may be drawn from, and the object that says so.
struct Range {
    net: IpNet,
    key: String,
    revision: Revision,
}

/// The addresses of the cluster's Services as a snapshot has them.
pub(crate) struct Pool<'a> {
    snapshot: &'a Snapshot,
    ranges: Vec<Range>,
}

/// An address that was free in the snapshot, and what must still hold at the commit.
pub(crate) struct Free {
    pub(crate) address: IpAddr,
    range: Check,
}

impl<'a> Pool<'a> {
    /// Reads the ranges: that of the flags first, then those of users by name.
    pub(crate) fn read(snapshot: &'a Snapshot) -> Result<Self, ApiError> {
        let resource = row("servicecidrs")?;
        let mut objects = Vec::new();
        for (key, entry) in snapshot.range(&key::all(resource)) {
            let current = Current::read(resource, entry)?;
            if let Some(object) = current.object.as_any().downcast_ref::<ServiceCIDR>()
                && service_cidr::is_ready(object)
            {
                let of_users = object.metadata.name.as_deref() != Some(service_cidr::DEFAULT_NAME);
                objects.push((of_users, key.to_string(), object.clone(), current.revision));
            }
        }
        objects.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        let ranges = objects.into_iter().flat_map(|(_, key, object, revision)| {
            let nets = service_cidr::ranges(&object).into_iter();
            nets.map(move |net| Range { net, key: key.clone(), revision })
        });
        Ok(Self { snapshot, ranges: ranges.collect() })
    }

    /// A free address of a family; `None` when everything is taken.
    pub(crate) fn draw(&self, family: Family) -> Option<Free> {
        self.of(family).find_map(|range| {
            let taken = |n| is_taken(self.snapshot, address(range.net, n));
            let n = bands(range.net).draw(taken, random)?;
            Some(range.free(address(range.net, n)))
        })
    }

    /// Checks an address that somebody asks for.
    pub(crate) fn check(&self, asked: IpAddr) -> Result<Free, AddressError> {
        let family = Family::from(asked);
        let around = || self.of(family).filter(|range| range.net.contains(&asked));
        let Some(range) = around().find(|range| usable(range.net, asked)) else {
            return Err(match around().next() {
                Some(range) => AddressError::End { range: range.net },
                None => AddressError::Mismatched {
                    ranges: self.of(family).map(|range| range.net).collect(),
                },
            });
        };
        if is_taken(self.snapshot, asked) {
            return Err(AddressError::Allocated { holder: holder(self.snapshot, asked) });
        }
        Ok(range.free(asked))
    }

    fn of(&self, family: Family) -> impl Iterator<Item = &Range> {
        self.ranges.iter().filter(move |range| Family::from(range.net) == family)
    }
}

impl Range {
    /// A range that was put out of service meanwhile gives nothing.
    fn free(&self, address: IpAddr) -> Free {
        Free { address, range: Check::Unchanged(self.key.clone(), self.revision) }
    }
}

/// Takes an address for a Service: nobody must have it when the transaction commits.
pub(crate) fn take(txn: &mut Txn, free: Free, service: &Service) -> Result<(), ApiError> {
    if !txn.checks.contains(&free.range) {
        txn.checks.push(free.range);
    }
    take_unconditionally(txn, free.address, service)
}

/// Takes an address that is a Service's already, from a time that knew no ranges.
pub(crate) fn take_unconditionally(
    txn: &mut Txn,
    address: IpAddr,
    service: &Service,
) -> Result<(), ApiError> {
    let resource = row("ipaddresses")?;
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let mut object = ip_address::of_service(address, namespace, name);
    object.metadata.uid = Some(uuid::Uuid::new_v4().to_string());
    object.metadata.creation_timestamp = Some(Time(now()));
    let key = key::object(resource, None, &address.to_string());
    txn.checks.push(Check::Absent(key.clone()));
    txn.ops.push(Encoded::of(resource, &mut object)?.put(key));
    Ok(())
}

/// Gives an address of a Service back. An object that belongs to somebody else stays.
pub(crate) fn give_back(
    snapshot: &Snapshot,
    address: &str,
    service: &Service,
) -> Result<Option<Op>, ApiError> {
    let Ok(address) = address.parse::<IpAddr>() else { return Ok(None) };
    let Some((key, mut object)) = object(snapshot, address)? else { return Ok(None) };
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let name = service.metadata.name.as_deref().unwrap_or_default();
    if ip_address::service_of(&object) != Some((namespace, name)) {
        return Ok(None);
    }
    Ok(Some(Encoded::of(row("ipaddresses")?, &mut object)?.delete(key)))
}

/// Whether somebody has an address.
pub(crate) fn is_taken(snapshot: &Snapshot, address: IpAddr) -> bool {
    let key = |row| key::object(row, None, &address.to_string());
    row("ipaddresses").is_ok_and(|row| snapshot.get(&key(row)).is_some())
}

/// Who holds a taken address, as a message says it.
fn holder(snapshot: &Snapshot, address: IpAddr) -> String {
    let Ok(Some((_, object))) = object(snapshot, address) else {
        return format!("the IPAddress {address}");
    };
    match holding_service(snapshot, &object) {
        Some((namespace, name)) => format!("the Service {namespace}/{name}"),
        None => format!("the IPAddress {address} (for {})", ip_address::holder(&object)),
    }
}

/// The Service that an IPAddress stands for, if there is one and it has the address.
pub(crate) fn holding_service<'o>(
    snapshot: &Snapshot,
    object: &'o IPAddress,
) -> Option<(&'o str, &'o str)> {
    let (namespace, name) = ip_address::service_of(object)?;
    let services = table::by_path("", "v1", "services")?;
    let entry = snapshot.get(&key::object(services, Some(namespace), name))?;
    let current = Current::read(services, entry).ok()?;
    let service = current.object.as_any().downcast_ref::<Service>()?;
    let address: IpAddr = object.metadata.name.as_deref()?.parse().ok()?;
    let holds = |held: &str| held.parse() == Ok(address);
    rules::held_cluster_ips(service).into_iter().any(holds).then_some((namespace, name))
}

fn object(snapshot: &Snapshot, address: IpAddr) -> Result<Option<(String, IPAddress)>, ApiError> {
    let resource = row("ipaddresses")?;
    let key = key::object(resource, None, &address.to_string());
    let Some(entry) = snapshot.get(&key) else { return Ok(None) };
    let current = Current::read(resource, entry)?;
    Ok(current.object.as_any().downcast_ref::<IPAddress>().map(|object| (key, object.clone())))
}

fn row(plural: &'static str) -> Result<&'static Resource, ApiError> {
    table::by_path(GROUP, "v1", plural)
        .ok_or_else(|| ApiError::Internal(format!("{plural} are not served")))
}

/// How many addresses of a range are counted at most: more than can ever be taken.
const COUNTED: u32 = 62;

/// How many bits of an address are free in a range.
fn free_bits(range: IpNet) -> u32 {
    u32::from(range.max_prefix_len() - range.prefix_len())
}

/// The first address of a range is never given out, nor the last one of IPv4.
fn bands(range: IpNet) -> Bands {
    const LEAST: u64 = 16;
    const MOST: u64 = 256;
    let all = 1u64 << free_bits(range).min(COUNTED);
    let unusable = if Family::from(range) == Family::V4 { 2 } else { 1 };
    // A range too small for bands has none.
    let reserved = if all <= LEAST { 0 } else { (all / 16).clamp(LEAST, MOST) };
    Bands { size: all.saturating_sub(unusable), reserved }
}

fn usable(range: IpNet, address: IpAddr) -> bool {
    let last = Family::from(range) == Family::V4 && address == range.broadcast();
    address != range.network() && !last
}

/// The `n`th address that can be given out, counted from 0.
pub(crate) fn address(range: IpNet, n: u64) -> IpAddr {
    match range.network() {
        IpAddr::V4(first) => {
            let offset = u32::try_from(n + 1).unwrap_or(u32::MAX);
            Ipv4Addr::from(u32::from(first).saturating_add(offset)).into()
        }
        IpAddr::V6(first) => Ipv6Addr::from(u128::from(first) + u128::from(n + 1)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_are_those_of_kep_3070() {
        let bands = |range: &str| bands(range.parse().unwrap());
        assert_eq!(bands("10.96.0.0/12"), Bands { size: 1_048_574, reserved: 256 });
        assert_eq!(bands("10.0.0.0/24"), Bands { size: 254, reserved: 16 });
        assert_eq!(bands("10.0.0.0/20"), Bands { size: 4094, reserved: 256 });
        assert_eq!(bands("10.0.0.0/28"), Bands { size: 14, reserved: 0 });
        assert_eq!(bands("10.0.0.0/32"), Bands { size: 0, reserved: 0 });
        assert_eq!(bands("fd00:10:96::/112"), Bands { size: 65_535, reserved: 256 });
        assert_eq!(bands("fd00:10:96::/64"), Bands { size: (1 << 62) - 1, reserved: 256 });
    }

    #[test]
    fn addresses_start_after_the_network_address() {
        let nth = |range: &str, n| address(range.parse().unwrap(), n).to_string();
        assert_eq!(nth("10.96.0.0/12", 0), "10.96.0.1");
        assert_eq!(nth("10.96.0.0/12", 1_048_573), "10.111.255.254");
        assert_eq!(nth("fd00:10:96::/112", 0), "fd00:10:96::1");
        assert_eq!(nth("fd00:10:96::/112", 65_534), "fd00:10:96::ffff");
    }

    #[test]
    fn the_ends_of_a_range_are_not_for_services() {
        let usable = |range: &str, a: &str| usable(range.parse().unwrap(), a.parse().unwrap());
        assert!(!usable("10.0.0.0/24", "10.0.0.0"));
        assert!(!usable("10.0.0.0/24", "10.0.0.255"));
        assert!(usable("10.0.0.0/24", "10.0.0.254"));
        assert!(!usable("fd00::/112", "fd00::"));
        assert!(usable("fd00::/112", "fd00::ffff"), "IPv6 has no broadcast");
    }
}
