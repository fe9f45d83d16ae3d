//! From the table as it is to the table as it should be, in as few changes as possible.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::dataplane::{Dataplane, Touched};
use crate::nft::State;
use crate::nft::elements::{Elements, Key, Value, desired_of_touched};
use crate::nft::rules::pickers;
use crate::nft::ruleset::{ChainName, Layout};

/// One change of the table. All changes of one plan are made in one transaction, except that
/// chains are added before anything goes to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Write everything anew: the rules are not what they should be.
    Replace,
    /// Add a chain for a number of backends.
    AddChain(ChainName),
    /// Delete an element; its value is what is there.
    Delete(Key, Value),
    /// Add an element.
    Add(Key, Value),
}

/// The changes that turn `observed` into `desired`. `None` means that there is no table.
#[must_use]
pub fn diff(observed: Option<&State>, desired: &State) -> Vec<Op> {
    match observed {
        Some(observed) if observed.ruleset == desired.ruleset => {
            let mut ops: Vec<Op> =
                desired.pickers.difference(&observed.pickers).copied().map(Op::AddChain).collect();
            ops.extend(diff_elements(&observed.elements, &desired.elements));
            ops
        }
        _ => vec![Op::Replace],
    }
}

/// The changes for a part of the plane, given what the table is known to hold.
///
/// Equal to [`diff`] of the whole, provided that `touched` covers what changed.
#[must_use]
pub fn plan(
    layout: &Layout,
    table: &State,
    plane: &Dataplane,
    touched: &Touched,
    draining: &BTreeSet<IpAddr>,
) -> Vec<Op> {
    let observed = table.elements.of_touched(touched);
    let desired = desired_of_touched(layout, plane, touched, draining);
    let needed: BTreeSet<ChainName> = pickers(layout, &desired);
    let mut ops: Vec<Op> = needed.difference(&table.pickers).copied().map(Op::AddChain).collect();
    ops.extend(diff_elements(&observed, &desired));
    ops
}

/// Deletions first: an element can't change its value, only go and come back.
fn diff_elements(observed: &Elements, desired: &Elements) -> Vec<Op> {
    let gone = observed
        .0
        .iter()
        .filter(|(key, value)| desired.0.get(key) != Some(value))
        .map(|(key, value)| Op::Delete(*key, value.clone()));
    let new = desired
        .0
        .iter()
        .filter(|(key, value)| observed.0.get(key) != Some(value))
        .map(|(key, value)| Op::Add(*key, value.clone()));
    gone.chain(new).collect()
}

/// What a table becomes by a plan that the kernel accepted; a plan that replaces the whole table
/// makes it the desired one instead.
pub fn apply(table: &mut State, ops: &[Op]) {
    for op in ops {
        match op {
            Op::Replace => {}
            Op::AddChain(chain) => {
                table.pickers.insert(*chain);
            }
            Op::Delete(key, _) => {
                table.elements.0.remove(key);
            }
            Op::Add(key, value) => {
                table.elements.0.insert(*key, value.clone());
            }
        }
    }
}
