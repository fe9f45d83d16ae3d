//! Which node serves which clients: a table of slots that all nodes compute alike.
//!
//! A client's hash names a slot, the slot a node. Each node gets its share of the slots, as exactly
//! as there are endpoints on it; which ones, a hash of slot and node decides (rendezvous), so that
//! few slots change hands when a node comes or goes. While a node is silent the others share its
//! slots, and nothing else changes ([`without`]).

use std::collections::{BTreeMap, BTreeSet};
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
    let room = shares(weights.iter().map(|(name, weight)| (&**name, *weight)), total);
    fill(vec![None; SLOTS as usize], room, |name| name.as_bytes().to_vec(), NodeId::of)
}

/// The slots while some nodes are silent: these get nobody new, and the others share what they had,
/// in proportion to what each has. No other slot changes hands, so that little is to be undone when
/// they are heard again. When all are silent everything stays: perhaps nobody hears this node.
#[must_use]
pub fn without(slots: &[NodeId], silent: &BTreeSet<NodeId>) -> Box<[NodeId]> {
    let kept: Vec<Option<NodeId>> =
        slots.iter().map(|node| Some(*node).filter(|node| !silent.contains(node))).collect();
    let mut held: BTreeMap<NodeId, u32> = BTreeMap::new();
    kept.iter().flatten().for_each(|node| *held.entry(*node).or_default() += 1);
    let total: u64 = held.values().map(|count| u64::from(*count)).sum();
    if total == 0 || total == slots.len() as u64 {
        return slots.into();
    }
    let mut room = shares(held.iter().map(|(node, count)| (*node, *count)), total);
    for (node, count) in &held {
        let share = room.get_mut(node).expect("who holds a slot has a share");
        *share = share.saturating_sub(*count);
    }
    fill(kept, room, |node| node.number().to_be_bytes().to_vec(), |node| node)
}

/// Gives each free slot to the node that wants it most of those that have room, which together is
/// enough for all.
fn fill<K: Ord + Copy>(
    mut slots: Vec<Option<NodeId>>,
    mut room: BTreeMap<K, u32>,
    name: impl Fn(K) -> Vec<u8>,
    id: impl Fn(K) -> NodeId,
) -> Box<[NodeId]> {
    let mut bids: Vec<(u64, u32, K)> = Vec::new();
    for node in room.keys() {
        let name = name(*node);
        bids.extend((0..SLOTS).map(|slot| (bid(&name, slot), slot, *node)));
    }
    bids.sort_unstable_by(|a, b| b.cmp(a));
    for (_, slot, node) in bids {
        let left = room.get_mut(&node).expect("who bids has a share");
        let place = &mut slots[slot as usize];
        if place.is_none() && *left > 0 {
            *left -= 1;
            *place = Some(id(node));
        }
    }
    slots.into_iter().map(|node| node.expect("there is room for every slot")).collect()
}

/// How many slots each node gets: its part of all, rounded down, and what is left over to those
/// that lost most by rounding; to none less than one.
fn shares<K: Ord + Copy>(weights: impl Iterator<Item = (K, u32)>, total: u64) -> BTreeMap<K, u32> {
    let all = u64::from(SLOTS);
    let mut shares: BTreeMap<K, u32> = BTreeMap::new();
    let mut lost: Vec<(u64, K)> = Vec::new();
    for (name, weight) in weights.filter(|(_, weight)| *weight > 0) {
        let exact = all * u64::from(weight);
        let share = u32::try_from(exact / total).expect("not more than all slots");
        shares.insert(name, share.max(1));
        lost.push((if share == 0 { 0 } else { exact % total }, name));
    }
    lost.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
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

fn bid(name: &[u8], slot: u32) -> u64 {
    let mut bytes = name.to_vec();
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
