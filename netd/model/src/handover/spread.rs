//! Which node serves which clients: a table of slots that all nodes compute alike.
//!
//! A client's hash names a slot, the slot a node. Each node gets its share of the slots, as exactly
//! as there are endpoints on it; which ones, a hash of slot and node decides (rendezvous), so that
//! few slots change hands when a node comes or goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::NodeId;

/// Slots of a table: more than nodes, or some would get none.
pub const SLOTS: u32 = 64;

/// How many endpoints each node has, by the node's name.
pub type Weights = BTreeMap<Arc<str>, u32>;

/// How the clients of a frontend are spread over the nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// By slot; empty when nothing new is handed over, and only what was chosen before still holds.
    pub nodes: Box<[NodeId]>,
    /// All connections of a client go to one node.
    pub by_client: bool,
}

/// The node of each slot; none when there are no endpoints, or more nodes than slots.
#[must_use]
pub fn slots(weights: &Weights) -> Box<[NodeId]> {
    let total: u64 = weights.values().map(|weight| u64::from(*weight)).sum();
    if total == 0 || weights.len() > SLOTS as usize {
        return Box::default();
    }
    let mut room = shares(weights, total);
    // The nodes that want a slot most come first, each until it has its share.
    let mut bids: Vec<(u64, u32, &str)> = weights
        .keys()
        .flat_map(|name| (0..SLOTS).map(move |slot| (bid(name, slot), slot, &**name)))
        .collect();
    bids.sort_unstable_by(|a, b| b.cmp(a));
    let mut slots: Vec<Option<NodeId>> = vec![None; SLOTS as usize];
    for (_, slot, name) in bids {
        let left = room.get_mut(name).expect("who bids has a share");
        let place = &mut slots[slot as usize];
        if place.is_none() && *left > 0 {
            *left -= 1;
            *place = Some(NodeId::of(name));
        }
    }
    slots.into_iter().map(|node| node.expect("the shares are as many as the slots")).collect()
}

/// How many slots each node gets: its part of all, rounded down, and what is left over to those
/// that lost most by rounding; to none less than one.
fn shares(weights: &Weights, total: u64) -> BTreeMap<&str, u32> {
    let all = u64::from(SLOTS);
    let mut shares: BTreeMap<&str, u32> = BTreeMap::new();
    let mut lost: Vec<(u64, &str)> = Vec::new();
    for (name, weight) in weights.iter().filter(|(_, weight)| **weight > 0) {
        let exact = all * u64::from(*weight);
        let share = u32::try_from(exact / total).expect("not more than all slots");
        shares.insert(name, share.max(1));
        lost.push((if share == 0 { 0 } else { exact % total }, name));
    }
    lost.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
    let mut given: u32 = shares.values().sum();
    for (_, name) in &lost {
        if given < SLOTS {
            *shares.get_mut(name).expect("it has a share") += 1;
            given += 1;
        }
    }
    // Those that were lifted to one took it from the largest.
    while given > SLOTS {
        let largest = shares.values_mut().max().expect("somebody has more than one");
        *largest -= 1;
        given -= 1;
    }
    shares
}

fn bid(name: &str, slot: u32) -> u64 {
    let mut bytes = name.as_bytes().to_vec();
    bytes.extend_from_slice(&slot.to_be_bytes());
    hash(&bytes)
}

/// FNV-1a with its bits mixed: the same on all machines, and not against anybody's malice.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let sum = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    let mixed = (sum ^ (sum >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ (mixed >> 33)
}
