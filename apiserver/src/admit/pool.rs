//! An AddressPool has addresses that nobody else has: no other pool, no Service or pod range, no node.
//! The other way round, a new range of Services keeps clear of the pools.
//!
//! What joins the cluster later is not held up by a pool: an address that a node has is never given
//! out, and a pool that has one may be changed in everything else.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use resources::address_pool::{AddressPool, AddressRange, range_path};
use resources::field::{FieldErrors, Path};
use resources::{service_cidr, table};
use store::{Check, Op, Snapshot, Txn};

use crate::allocate::balancer::{all_pools, objects};
use crate::api::Ranges;
use crate::key;
use crate::status::ApiError;

/// Something that has addresses, and how a message names it.
struct Owner {
    range: AddressRange,
    name: String,
}

/// Refuses a new pool, or the new addresses of one, that others have.
pub(super) fn check(
    ranges: &Ranges,
    snapshot: &Snapshot,
    pool: &AddressPool,
    old: Option<&AddressPool>,
) -> Result<Txn, ApiError> {
    let addresses = |pool: &AddressPool| pool.spec.as_ref().map(|spec| spec.addresses.clone());
    if old.is_some_and(|old| addresses(old) == addresses(pool)) {
        return Ok(Txn::default());
    }
    let name = pool.metadata.name.as_deref().unwrap_or_default();
    let mut owners = of_pools(snapshot, name)?;
    owners.extend(of_ranges(ranges, snapshot)?);
    owners.extend(of_nodes(snapshot)?);
    let errors = overlaps(pool, &owners);
    if !errors.is_empty() {
        let row =
            table::by_path("minictl.io", "v1", "addresspools").ok_or(ApiError::UnknownPath)?;
        return Err(ApiError::invalid(row, name, errors));
    }
    Ok(one_by_one(snapshot, name))
}

/// Refuses a range of Services, or one more family of it, that pools have addresses of.
pub(super) fn check_services(
    snapshot: &Snapshot,
    cidr: &ServiceCIDR,
    old: Option<&ServiceCIDR>,
) -> Result<Txn, ApiError> {
    let ranges = |cidr: &ServiceCIDR| cidr.spec.as_ref().and_then(|spec| spec.cidrs.clone());
    if old.is_some_and(|old| ranges(old) == ranges(cidr)) {
        return Ok(Txn::default());
    }
    let name = cidr.metadata.name.as_deref().unwrap_or_default();
    let owners = of_pools(snapshot, "")?;
    let path = Path::new("spec").child("cidrs");
    let mut errors = FieldErrors::new();
    for (i, text) in ranges(cidr).iter().flatten().enumerate() {
        errors.extend(overlap(text, &path.index(i), &owners));
    }
    if !errors.is_empty() {
        let row = table::by_path("networking.k8s.io", "v1", "servicecidrs");
        return Err(ApiError::invalid(row.ok_or(ApiError::UnknownPath)?, name, errors));
    }
    Ok(one_by_one(snapshot, name))
}

fn overlaps(pool: &AddressPool, owners: &[Owner]) -> FieldErrors {
    let texts = pool.spec.as_ref().map(|spec| spec.addresses.as_slice()).unwrap_or_default();
    texts.iter().enumerate().flat_map(|(i, text)| overlap(text, &range_path(i), owners)).collect()
}

/// Who else has addresses of the range that is written so; what is no range, validation refuses.
fn overlap(text: &str, path: &Path, owners: &[Owner]) -> FieldErrors {
    let Ok(range) = text.parse::<AddressRange>() else { return FieldErrors::new() };
    let found = owners.iter().filter(|owner| owner.range.overlaps(range));
    found.map(|owner| path.invalid(text, format!("overlaps with {}", owner.name))).collect()
}

fn of_pools(snapshot: &Snapshot, but: &str) -> Result<Vec<Owner>, ApiError> {
    let pools = all_pools(snapshot)?.into_iter();
    let others = pools.filter(|pool| pool.metadata.name.as_deref() != Some(but));
    let owners = others.flat_map(|pool| {
        let name = pool.metadata.name.clone().unwrap_or_default();
        pool.ranges()
            .into_iter()
            .map(move |range| Owner { range, name: format!("{range} of the AddressPool {name:?}") })
    });
    Ok(owners.collect())
}

fn of_ranges(ranges: &Ranges, snapshot: &Snapshot) -> Result<Vec<Owner>, ApiError> {
    let of_pods = ranges
        .cluster_cidrs
        .iter()
        .map(|range| Owner { range: (*range).into(), name: format!("the range of pods {range}") });
    let mut owners: Vec<Owner> = of_pods.collect();
    let row = table::by_path("networking.k8s.io", "v1", "servicecidrs");
    let objects = row.map(|row| objects::<ServiceCIDR>(snapshot, row)).transpose()?;
    for cidr in objects.iter().flatten() {
        let name = cidr.metadata.name.as_deref().unwrap_or_default();
        owners.extend(service_cidr::ranges(cidr).into_iter().map(|range| Owner {
            range: range.into(),
            name: format!("{range} of the ServiceCIDR {name:?}"),
        }));
    }
    Ok(owners)
}

fn of_nodes(snapshot: &Snapshot) -> Result<Vec<Owner>, ApiError> {
    let row = table::by_path("", "v1", "nodes").ok_or(ApiError::UnknownPath)?;
    let mut owners = Vec::new();
    for node in objects::<Node>(snapshot, row)? {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        let addresses = addresses.filter_map(|address| address.address.parse::<IpAddr>().ok());
        owners.extend(addresses.map(|address| Owner {
            range: address.into(),
            name: format!("{address}, an address of the node {name:?}"),
        }));
    }
    Ok(owners)
}

/// Two that are written at the same time would not see each other: the last one to change its
/// addresses is a key, which must be as it was.
fn one_by_one(snapshot: &Snapshot, name: &str) -> Txn {
    let key = key::allocation("addresspools", "last");
    let check = match snapshot.get(&key) {
        Some(entry) => Check::Unchanged(key.clone(), entry.modified),
        None => Check::Absent(key.clone()),
    };
    let put = Op::Put { key, value: name.to_owned().into(), stamp: None };
    Txn { checks: vec![check], ops: vec![put] }
}
