//! Who has which address of a load balancer, as keys of the store.
//!
//! Two pools of keys, written together: by address, the Services that have it and how they use it;
//! by Service, its addresses. Every write to an address checks that nobody else wrote to it since it
//! was read, so that two Services that share one, or want the same, never overlook each other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use resources::service::balancer::Tenancy;
use serde::{Deserialize, Serialize};
use store::{Check, Op, Snapshot, Txn};

use crate::key;
use crate::status::ApiError;

/// The pool of keys by address.
const BY_ADDRESS: &str = "balancer-addresses";
/// The pool of keys by Service: `NAMESPACE/NAME`.
const BY_SERVICE: &str = "balancer-services";

/// The Services that have an address, by `namespace/name`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Tenants(BTreeMap<String, Tenancy>);

impl Tenants {
    /// All but one.
    pub(super) fn but(&self, service: &str) -> Vec<(String, Tenancy)> {
        let others = self.0.iter().filter(|(name, _)| *name != service);
        others.map(|(name, tenancy)| (name.clone(), tenancy.clone())).collect()
    }

    fn share(&self, key: &str) -> bool {
        self.0.values().any(|tenancy| tenancy.key.as_deref() == Some(key))
    }
}

/// The tenants of an address.
pub(super) fn tenants(snapshot: &Snapshot, address: IpAddr) -> Result<Tenants, ApiError> {
    read(snapshot, &address_key(address)).map(Option::unwrap_or_default)
}

/// The addresses that a Service has.
pub(super) fn held(snapshot: &Snapshot, service: &str) -> Result<Vec<IpAddr>, ApiError> {
    read(snapshot, &key::allocation(BY_SERVICE, service)).map(Option::unwrap_or_default)
}

/// The addresses of Services with a sharing key.
pub(super) fn shared(snapshot: &Snapshot, sharing: &str) -> Result<Vec<IpAddr>, ApiError> {
    let all = key::allocation(BY_ADDRESS, "");
    let mut found = Vec::new();
    for (at, _) in snapshot.range(&all) {
        let tenants: Option<Tenants> = read(snapshot, at)?;
        let address = at.strip_prefix(&*all).and_then(|text| text.parse().ok());
        if let (Some(tenants), Some(address)) = (tenants, address)
            && tenants.share(sharing)
        {
            found.push(address);
        }
    }
    Ok(found)
}

/// Gives a Service these addresses and takes all others from it.
pub(super) fn assign(
    snapshot: &Snapshot,
    service: &str,
    addresses: &[IpAddr],
    tenancy: &Tenancy,
) -> Result<Txn, ApiError> {
    let mut txn = Txn::default();
    let before = held(snapshot, service)?;
    let touched: BTreeSet<IpAddr> = before.iter().chain(addresses).copied().collect();
    for address in touched {
        let old = tenants(snapshot, address)?;
        let mut new = old.clone();
        if addresses.contains(&address) {
            new.0.insert(service.to_owned(), tenancy.clone());
        } else {
            new.0.remove(service);
        }
        if new != old {
            let keep = (!new.0.is_empty()).then_some(&new);
            write(&mut txn, snapshot, address_key(address), keep)?;
        }
    }
    if before != addresses {
        let keep = (!addresses.is_empty()).then_some(addresses);
        write(&mut txn, snapshot, key::allocation(BY_SERVICE, service), keep)?;
    }
    Ok(txn)
}

fn address_key(address: IpAddr) -> String {
    key::allocation(BY_ADDRESS, &address.to_string())
}

fn read<T: for<'de> Deserialize<'de>>(
    snapshot: &Snapshot,
    key: &str,
) -> Result<Option<T>, ApiError> {
    let Some(entry) = snapshot.get(key) else { return Ok(None) };
    let value = serde_json::from_slice(&entry.value);
    value.map(Some).map_err(|error| ApiError::Internal(format!("{key} is malformed: {error}")))
}

/// Writes or removes a key that must be as the snapshot has it.
fn write<T: Serialize + ?Sized>(
    txn: &mut Txn,
    snapshot: &Snapshot,
    key: String,
    value: Option<&T>,
) -> Result<(), ApiError> {
    let check = match snapshot.get(&key) {
        Some(entry) => Check::Unchanged(key.clone(), entry.modified),
        None => Check::Absent(key.clone()),
    };
    txn.checks.push(check);
    txn.ops.push(match value {
        Some(value) => {
            let value = serde_json::to_vec(value);
            let value = value.map_err(|error| ApiError::Internal(format!("{key}: {error}")))?;
            Op::Put { key, value: value.into(), stamp: None }
        }
        None => Op::Delete { key, last: None },
    });
    Ok(())
}
