//! Addresses of Services of type LoadBalancer: drawn from AddressPools in the Service's own
//! transaction, and written into its status there.
//!
//! The choice is pure (`balancer/choose.rs`); this gathers what it needs from a snapshot, and turns
//! it into keys (`balancer/ledger.rs`), a status and a condition. A Service that gets no address is
//! stored all the same: its condition says why, and a controller writes it again when that may have
//! changed, which makes the choice anew. A write that changes nothing is no write.
//! Without any pool there is nothing to draw: a controller writes the nodes' own addresses then.
//! Deliberately not here: who announces an address.

mod choose;
mod ledger;

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use resources::address_pool::AddressPool;
use resources::service::balancer::{self as rules, Tenancy};
use resources::table::{self, Resource};
use store::{Snapshot, Txn};

use crate::key;
use crate::status::ApiError;
use crate::stored::{Current, labels};
use crate::verbs::create::now;
use choose::{Before, Field, Pools};

/// Gives a Service its addresses, or takes them. `old` is the Service before a change.
pub(crate) fn settle(
    snapshot: &Snapshot,
    service: &mut Service,
    old: Option<&Service>,
) -> Result<Txn, ApiError> {
    let name = name(service);
    let held = ledger::held(snapshot, &name)?;
    if !rules::is_ours(service) {
        return withdraw(snapshot, service, &name, &held);
    }
    let pools = pools(snapshot, service)?;
    if pools.all.is_empty() && held.is_empty() {
        return Ok(Txn::default());
    }
    let wish = rules::wish(service);
    let asks_anew = old
        .map(rules::wish)
        .is_none_or(|old| (&old.pool, &old.addresses) != (&wish.pool, &wish.addresses));
    let field = InSnapshot { snapshot, service: &name, nodes: node_addresses(snapshot)? };
    let chosen = choose::choose(&wish, Before { held: &held, asks_anew }, &pools, &field);
    let (addresses, condition) = match chosen {
        Ok(addresses) => {
            let origin = pools.origin(&addresses);
            (addresses, (true, rules::FROM_POOL, origin))
        }
        Err(refusal) => (Vec::new(), (false, refusal.reason, refusal.message)),
    };
    let status = service.status.get_or_insert_default();
    status.load_balancer = Some(rules::status(&addresses));
    rules::set_condition(service, Some(condition), Time(now()));
    ledger::assign(snapshot, &name, &addresses, &wish.tenancy)
}

/// What a Service has goes back.
pub(crate) fn release(snapshot: &Snapshot, service: &Service) -> Result<Txn, ApiError> {
    ledger::assign(snapshot, &name(service), &[], &Tenancy::default())
}

/// The status that a write wants says the addresses that the Service has, whatever it said: they are
/// not for others to hand out. A Service that has none of ours is somebody else's.
pub(crate) fn keep_status(snapshot: &Snapshot, new: &mut Service) -> Result<(), ApiError> {
    let held = ledger::held(snapshot, &name(new))?;
    if !held.is_empty() {
        new.status.get_or_insert_default().load_balancer = Some(rules::status(&held));
    }
    Ok(())
}

/// The Service is no longer ours: neither are its address and what was said about it.
fn withdraw(
    snapshot: &Snapshot,
    service: &mut Service,
    name: &str,
    held: &[IpAddr],
) -> Result<Txn, ApiError> {
    // Somebody may have taken the condition away by a write to the status.
    if rules::condition(service).is_some() || !held.is_empty() {
        rules::set_condition(service, None, Time(now()));
        service.status.get_or_insert_default().load_balancer = Some(rules::status(&[]));
    }
    if held.is_empty() {
        return Ok(Txn::default());
    }
    ledger::assign(snapshot, name, &[], &Tenancy::default())
}

fn name(service: &Service) -> String {
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    format!("{namespace}/{}", service.metadata.name.as_deref().unwrap_or_default())
}

/// The neighbourhood of one Service in a snapshot.
struct InSnapshot<'a> {
    snapshot: &'a Snapshot,
    service: &'a str,
    nodes: BTreeSet<IpAddr>,
}

impl Field for InSnapshot<'_> {
    fn others(&self, address: IpAddr) -> Vec<(String, Tenancy)> {
        match ledger::tenants(self.snapshot, address) {
            Ok(tenants) => tenants.but(self.service),
            // An entry that cannot be read is somebody's: nobody else gets the address.
            Err(error) => vec![(error.to_string(), Tenancy::default())],
        }
    }

    fn shared(&self, key: &str) -> Vec<IpAddr> {
        ledger::shared(self.snapshot, key).unwrap_or_default()
    }

    fn is_of_a_node(&self, address: IpAddr) -> bool {
        self.nodes.contains(&address)
    }
}

impl Pools {
    /// Where addresses come from, for the condition: `192.168.56.200 of the AddressPool "default"`.
    fn origin(&self, addresses: &[IpAddr]) -> String {
        let each = addresses.iter().map(|address| {
            match self.all.iter().find(|pool| pool.contains(*address)) {
                Some(pool) => {
                    let name = pool.metadata.name.as_deref().unwrap_or_default();
                    format!("{address} of the AddressPool {name:?}")
                }
                None => format!("{address}, which is in no AddressPool any more"),
            }
        });
        each.collect::<Vec<_>>().join("; ")
    }
}

fn pools(snapshot: &Snapshot, service: &Service) -> Result<Pools, ApiError> {
    let own = service.metadata.labels.clone().unwrap_or_default();
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let around = row("", "namespaces")
        .ok()
        .and_then(|row| snapshot.get(&key::object(row, None, namespace)))
        .map(|entry| labels(&entry.value))
        .unwrap_or_default();
    let around = around.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let all = all_pools(snapshot)?;
    let open = all.iter().filter(|pool| pool.is_for(&own, &around));
    let open = open.filter_map(|pool| pool.metadata.name.clone()).collect();
    Ok(Pools { all, open })
}

/// All pools, by name.
pub(crate) fn all_pools(snapshot: &Snapshot) -> Result<Vec<AddressPool>, ApiError> {
    objects::<AddressPool>(snapshot, row("minictl.io", "addresspools")?)
}

/// The addresses that nodes have themselves.
fn node_addresses(snapshot: &Snapshot) -> Result<BTreeSet<IpAddr>, ApiError> {
    let nodes = objects::<Node>(snapshot, row("", "nodes")?)?;
    let statuses = nodes.iter().filter_map(|node| node.status.as_ref());
    let addresses = statuses.flat_map(|status| status.addresses.iter().flatten());
    Ok(addresses.filter_map(|address| address.address.parse().ok()).collect())
}

/// The objects of a kind.
pub(crate) fn objects<K: Clone + 'static>(
    snapshot: &Snapshot,
    row: &'static Resource,
) -> Result<Vec<K>, ApiError> {
    let mut all = Vec::new();
    for (_, entry) in snapshot.range(&key::all(row)) {
        let current = Current::read(row, entry)?;
        all.extend(current.object.as_any().downcast_ref::<K>().cloned());
    }
    Ok(all)
}

fn row(group: &str, plural: &'static str) -> Result<&'static Resource, ApiError> {
    table::by_path(group, "v1", plural)
        .ok_or_else(|| ApiError::Internal(format!("{plural} are not served")))
}

#[cfg(test)]
mod tests;
