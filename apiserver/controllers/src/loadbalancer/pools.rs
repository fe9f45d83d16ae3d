//! Pools as Services see them: how much is taken, who lacks an address, who was left behind.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use resources::address_pool::AddressPool;
use resources::families::Family;
use resources::service::balancer;

use super::COMPONENT;
use crate::cache::Key;
use crate::event::{Occurrence, Severity};
use crate::view::View;
use crate::write::{Plan, Write};

/// Whether the server has not said anything about pools to the Service yet, because there were none.
pub(super) fn is_undecided(service: &Service) -> bool {
    balancer::condition(service).is_none_or(|c| c.reason == balancer::NODE_ADDRESSES)
}

/// Whether the Service would have more addresses than it has.
pub(super) fn lacks_addresses(service: &Service) -> bool {
    balancer::served_at(service).len() < balancer::wish(service).families.len()
}

/// Whether the Service might get one of these addresses, which nobody has now: of a family that it has
/// none of, and, where it names one, just that.
pub(super) fn could_use(service: &Service, free: &[IpAddr]) -> bool {
    let (wish, has) = (balancer::wish(service), balancer::served_at(service));
    let of = |family: Family| move |address: &&IpAddr| Family::from(**address) == family;
    let mut lacking = wish.families.iter().filter(|family| !has.iter().any(|a| of(**family)(&a)));
    lacking.any(|family| match wish.addresses.iter().find(of(*family)) {
        Some(named) => free.contains(named),
        None => free.iter().any(|address| of(*family)(&address)),
    })
}

/// The status of a pool by what Services have of it.
pub(super) fn count(view: &View, name: &str) -> Plan {
    let Some(pool) = view.address_pools.get(&Key::new("", name)) else { return Plan::default() };
    let taken: BTreeSet<IpAddr> = of_pools(view).flat_map(|(_, addresses)| addresses).collect();
    let status = pool.counted(taken.iter().filter(|address| pool.contains(**address)).count());
    if pool.status.as_ref() == Some(&status) {
        return Plan::default();
    }
    let wanted = AddressPool { status: Some(status), ..(*pool).clone() };
    Plan::of(vec![Write::update_status(wanted)])
}

/// Services that keep an address which was `old`'s and is in no pool any more.
pub(super) fn left_outside(view: &View, old: &AddressPool) -> Vec<Occurrence> {
    let pools = view.address_pools.all();
    let is_outside = |address: &IpAddr| {
        old.contains(*address) && !pools.iter().any(|pool| pool.contains(*address))
    };
    let left = of_pools(view).filter_map(|(service, addresses)| {
        let outside: Vec<String> =
            addresses.iter().filter(|a| is_outside(a)).map(ToString::to_string).collect();
        let text = format!(
            "{} is in no AddressPool any more; the Service keeps it until it asks for another or is \
             made anew",
            outside.join(", ")
        );
        let tell = || Occurrence::new(COMPONENT, &service, Severity::Warning, "OutsidePools", text);
        (!outside.is_empty()).then(tell)
    });
    left.collect()
}

/// The Services that have addresses of pools, and these.
fn of_pools(view: &View) -> impl Iterator<Item = (Service, Vec<IpAddr>)> {
    let services = view.services.all().into_iter();
    let of_pools = services.filter(|service| balancer::is_from_pool(service));
    of_pools.map(|service| ((*service).clone(), balancer::served_at(&service)))
}
