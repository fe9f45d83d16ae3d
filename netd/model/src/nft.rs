//! The nftables engine's state: one table, whose rules never change with the Services, and whose
//! maps and sets do.
//!
//! Owns the typed form of both: [`Ruleset`] (rendered to text for `nft`, interpreted by the packet
//! walk) and [`Elements`] (sent as raw netlink). Shape: `services4` maps a frontend to the chain for
//! its *number* of backends, that chain picks a random slot, `endpoints4` maps frontend and slot to
//! a backend. So one endpoint's change is a change of one or two elements, at any number of
//! Services. Deliberately not here: netlink.

pub mod elements;
pub mod plan;
pub mod render;
pub mod repairs;
pub mod rules;
pub mod ruleset;
pub mod walk;

use std::collections::BTreeSet;
use std::net::IpAddr;

pub use elements::{Client, Container, Elements, Item, Key, Value, Verdict};
pub use plan::{Op, apply, diff, plan};
pub use ruleset::{ChainName, Engine, Layout, Picker, Ruleset};

use crate::address::Frontend;
use crate::dataplane::Dataplane;

/// The whole table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Chains and rules.
    pub ruleset: Ruleset,
    /// Chains that pick one of a number of backends; they only ever grow while a table lives.
    pub pickers: BTreeSet<ChainName>,
    /// What is in the maps and sets.
    pub elements: Elements,
}

impl State {
    /// The table that a data plane needs while some addresses of no Service still drain.
    #[must_use]
    pub fn desired(layout: &Layout, plane: &Dataplane, draining: &BTreeSet<IpAddr>) -> Self {
        let elements = elements::desired(layout, plane, draining);
        Self { ruleset: rules::build(layout), pickers: rules::pickers(layout, &elements), elements }
    }

    /// Lets packets through to IPVS, which served before this table took over: the first of a
    /// connection may have come in before and not been translated, and it, and those that repeat
    /// it, would be refused.
    pub fn let_in(&mut self, frontends: impl Iterator<Item = Frontend>, plane: &Dataplane) {
        for frontend in frontends {
            let Some(service) = plane.get(&frontend) else { continue };
            if service.pool.backends().is_empty() {
                continue;
            }
            let owner = elements::comment(&service.owner);
            let value = Value::Verdict(Verdict::Goto(ChainName::Served), owner);
            let item = Item::Frontend(frontend);
            self.elements.0.insert(Key { container: Container::Balanced, item }, value);
        }
    }
}
