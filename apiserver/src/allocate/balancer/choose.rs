//! Which addresses a Service of type LoadBalancer gets: pure.
//!
//! Inputs: its wish, what it has, the pools, and who else has which address. Output: its addresses in
//! the order of its families, or why it gets none.
//! Invariants: what it has stays while it asks for the same and gets along with the others there; a
//! pool gives its lowest free address, so that one knows what comes next.

use std::collections::BTreeSet;
use std::net::IpAddr;

use resources::address_pool::{AddressPool, AddressRange};
use resources::families::Family;
use resources::service::balancer::{SHARING, Tenancy, Wish};

/// What the choice is made from.
pub(super) trait Field {
    /// Who else has the address, by `namespace/name`, and how it is used.
    fn others(&self, address: IpAddr) -> Vec<(String, Tenancy)>;
    /// The addresses that Services with this sharing key have.
    fn shared(&self, key: &str) -> Vec<IpAddr>;
    /// Whether a node has the address itself.
    fn is_of_a_node(&self, address: IpAddr) -> bool;
}

/// The pools, and which of them are for the Service.
pub(super) struct Pools {
    /// All of them, by name.
    pub(super) all: Vec<AddressPool>,
    /// The names of those whose selectors select the Service.
    pub(super) open: BTreeSet<String>,
}

/// Why a Service has no address: a word and a sentence, as its condition says them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

fn refuse<T>(reason: &'static str, message: String) -> Result<T, Refusal> {
    Err(Refusal { reason, message })
}

/// What a Service had before the write.
#[derive(Clone, Copy)]
pub(super) struct Before<'a> {
    /// Its addresses.
    pub(super) held: &'a [IpAddr],
    /// Whether it names another pool or other addresses than before.
    pub(super) asks_anew: bool,
}

/// Chooses.
pub(super) fn choose(
    wish: &Wish,
    before: Before<'_>,
    pools: &Pools,
    field: &impl Field,
) -> Result<Vec<IpAddr>, Refusal> {
    let choice = Choice { wish, before, pools, field };
    let mut chosen = Vec::new();
    let mut refused = None;
    for family in &wish.families {
        match choice.of(*family) {
            Ok(address) => chosen.push(address),
            // What is asked for by its name is not made up for by the other family.
            Err(refusal) if wish.all_families || choice.named(*family).is_some() => {
                return Err(refusal);
            }
            Err(refusal) => refused = refused.or(Some(refusal)),
        }
    }
    match refused {
        Some(refusal) if chosen.is_empty() => Err(refusal),
        _ => Ok(chosen),
    }
}

struct Choice<'a, F> {
    wish: &'a Wish,
    before: Before<'a>,
    pools: &'a Pools,
    field: &'a F,
}

impl<F: Field> Choice<'_, F> {
    fn named(&self, family: Family) -> Option<IpAddr> {
        self.wish.addresses.iter().copied().find(|address| Family::from(*address) == family)
    }

    fn of(&self, family: Family) -> Result<IpAddr, Refusal> {
        let named = self.named(family);
        let held = self.before.held.iter().copied().find(|a| Family::from(*a) == family);
        if let Some(held) = held.filter(|held| self.may_stay(*held, named)) {
            return Ok(held);
        }
        match named {
            Some(address) => self.take_named(address),
            None => self.draw(family),
        }
    }

    /// Whether an address that the Service has is still what it asks for. That its pool has gone,
    /// or has become smaller, is no reason to cut its clients off.
    fn may_stay(&self, held: IpAddr, named: Option<IpAddr>) -> bool {
        let wanted = match (named, &self.wish.pool) {
            _ if !self.before.asks_anew => true,
            (Some(named), _) => named == held,
            (None, Some(pool)) => self.pool(pool).is_some_and(|pool| pool.contains(held)),
            (None, None) => true,
        };
        wanted && self.objection(held).is_none()
    }

    fn take_named(&self, address: IpAddr) -> Result<IpAddr, Refusal> {
        let pool = self.pools.all.iter().find(|pool| pool.contains(address));
        let Some(pool) = pool else {
            let message = format!("{address} is in no AddressPool; {}", self.inventory());
            return refuse("AddressNotInPool", message);
        };
        let name = name_of(pool);
        if self.wish.pool.as_deref().is_some_and(|wanted| wanted != name) {
            let message = format!("{address} is in the AddressPool {name:?}, not in the one named");
            return refuse("AddressNotInPool", message);
        }
        if !self.is_open(pool) {
            return refuse("PoolNotAllowed", not_selected(name));
        }
        match self.objection(address) {
            None => Ok(address),
            Some(objection) => refuse("AddressInUse", format!("{address} is {objection}")),
        }
    }

    fn draw(&self, family: Family) -> Result<IpAddr, Refusal> {
        let candidates = self.candidates(family)?;
        if let Some(address) = self.shared_address(family, &candidates) {
            return Ok(address);
        }
        let ranges = candidates.iter().flat_map(|pool| pool.ranges());
        let mut addresses =
            ranges.filter(|range| range.family() == family).flat_map(AddressRange::addresses);
        let free = addresses.find(|address| self.is_free(*address));
        free.map_or_else(|| refuse("PoolExhausted", exhausted(family, &candidates)), Ok)
    }

    /// An address at which others with the same key leave room.
    fn shared_address(&self, family: Family, candidates: &[&AddressPool]) -> Option<IpAddr> {
        let key = self.wish.tenancy.key.as_ref()?;
        let mut shared: Vec<IpAddr> = self.field.shared(key);
        shared.sort_unstable();
        shared.into_iter().find(|address| {
            Family::from(*address) == family
                && candidates.iter().any(|pool| pool.contains(*address))
                && self.objection(*address).is_none()
        })
    }

    fn is_free(&self, address: IpAddr) -> bool {
        self.field.others(address).is_empty() && !self.field.is_of_a_node(address)
    }

    /// Why the Service cannot have the address.
    fn objection(&self, address: IpAddr) -> Option<String> {
        if self.field.is_of_a_node(address) {
            return Some("the address of a node".to_owned());
        }
        let others = self.field.others(address);
        others.iter().find_map(|(name, other)| self.wish.tenancy.objection(other, name))
    }

    /// The pools to draw from: those with a selector first, as they were made for somebody.
    fn candidates(&self, family: Family) -> Result<Vec<&AddressPool>, Refusal> {
        if let Some(name) = &self.wish.pool {
            return match self.pool(name) {
                None => refuse("PoolNotFound", format!("there is no AddressPool {name:?}")),
                Some(pool) if !self.is_open(pool) => refuse("PoolNotAllowed", not_selected(name)),
                Some(pool) if !pool.has(family) => {
                    refuse("NoPool", format!("the AddressPool {name:?} has no {family} addresses"))
                }
                Some(pool) => Ok(vec![pool]),
            };
        }
        let has_selector = |pool: &AddressPool| {
            let spec = pool.spec.as_ref();
            spec.is_some_and(|s| s.service_selector.is_some() || s.namespace_selector.is_some())
        };
        let mut pools: Vec<&AddressPool> = self
            .pools
            .all
            .iter()
            .filter(|pool| pool.assigns_by_itself() && self.is_open(pool) && pool.has(family))
            .collect();
        pools.sort_by_key(|pool| (!has_selector(pool), name_of(pool)));
        if pools.is_empty() {
            let message = format!(
                "no AddressPool gives {family} addresses to this Service by itself; {}",
                self.inventory()
            );
            return refuse("NoPool", message);
        }
        Ok(pools)
    }

    fn pool(&self, name: &str) -> Option<&AddressPool> {
        self.pools.all.iter().find(|pool| name_of(pool) == name)
    }

    fn is_open(&self, pool: &AddressPool) -> bool {
        self.pools.open.contains(name_of(pool))
    }

    /// What pools there are, for messages.
    fn inventory(&self) -> String {
        if self.pools.all.is_empty() {
            return "there is none".to_owned();
        }
        let each = self.pools.all.iter().map(|pool| {
            let addresses = pool.spec.as_ref().map(|s| s.addresses.join(", ")).unwrap_or_default();
            let note = match (self.is_open(pool), pool.assigns_by_itself()) {
                (false, _) => "; not for this Service",
                (true, false) => "; only by its name",
                (true, true) => "",
            };
            format!("{:?} ({addresses}{note})", name_of(pool))
        });
        format!("there are {}", each.collect::<Vec<_>>().join(", "))
    }
}

fn name_of(pool: &AddressPool) -> &str {
    pool.metadata.name.as_deref().unwrap_or_default()
}

fn not_selected(pool: &str) -> String {
    format!("the AddressPool {pool:?} is not for this Service: see the pool's selectors")
}

fn exhausted(family: Family, pools: &[&AddressPool]) -> String {
    let names: Vec<String> = pools.iter().map(|pool| format!("{:?}", name_of(pool))).collect();
    let (word, names) =
        (if names.len() == 1 { "AddressPool" } else { "AddressPools" }, names.join(", "));
    format!(
        "no {family} address is free in the {word} {names}; delete a Service, make a pool larger, \
         or share an address by the annotation {SHARING}"
    )
}

#[cfg(test)]
mod tests;
