//! What the table holds: the elements of its maps and sets, desired and compared.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::spread::without;
use super::{Layout, NodeId, SLOTS, Spread};
use crate::address::{Family, Frontend};
use crate::dataplane::{Dataplane, Touched};

/// An element's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A frontend whose clients are spread.
    Spread(Frontend),
    /// One slot of it.
    Slot(Frontend, u32),
    /// Another node.
    Peer(Family, NodeId),
    /// An address of a node: what comes from there is not handed over.
    Node(IpAddr),
    /// A slot whose node is not heard: another stands in for it with whoever is new.
    StandIn(Frontend, u32),
    /// A node that is not heard: whoever begins a connection, or sends a datagram, is not sent
    /// there, even if it was before.
    Silent(Family, NodeId),
}

/// An element's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Each connection has a slot.
    ByFlow,
    /// Each client has one.
    ByClient,
    /// This node serves.
    Node(NodeId),
    /// Where it is.
    Address(IpAddr),
    /// A set's element has none.
    Present,
}

impl Key {
    /// The family of the map or set it is in.
    #[must_use]
    pub fn family(&self) -> Family {
        match self {
            Self::Spread(frontend) | Self::Slot(frontend, _) | Self::StandIn(frontend, _) => {
                Family::of(frontend.addr)
            }
            Self::Peer(family, _) | Self::Silent(family, _) => *family,
            Self::Node(addr) => Family::of(*addr),
        }
    }
}

/// The contents of all maps and sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elements(pub BTreeMap<Key, Value>);

impl Elements {
    /// The elements that a change of the plane may touch.
    #[must_use]
    pub fn of_touched(&self, touched: &Touched) -> Self {
        let of_frontend = |frontend: &Frontend| {
            let slots = Key::Slot(*frontend, 0)..Key::Slot(*frontend, SLOTS);
            let stand_ins = Key::StandIn(*frontend, 0)..Key::StandIn(*frontend, SLOTS);
            let spread = Key::Spread(*frontend);
            let ranges = self.0.range(slots).chain(self.0.range(stand_ins));
            self.0.range(spread..=spread).chain(ranges)
        };
        Self(touched.frontends.iter().flat_map(of_frontend).map(|(k, v)| (*k, *v)).collect())
    }

    /// The nodes that are not heard.
    pub(super) fn silent(&self, family: Family) -> impl Iterator<Item = &NodeId> {
        self.0.keys().filter_map(move |key| match key {
            Key::Silent(of, node) if *of == family => Some(node),
            _ => None,
        })
    }

    /// Is nothing ever handed over?
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.0.keys().any(|key| matches!(key, Key::Spread(_)))
    }

    fn add(&mut self, frontend: Frontend, spread: &Spread, silent: &BTreeSet<NodeId>) {
        let how = if spread.by_client { Value::ByClient } else { Value::ByFlow };
        self.0.insert(Key::Spread(frontend), how);
        let meanwhile = without(&spread.nodes, silent);
        for (slot, (node, stand_in)) in (0..).zip(spread.nodes.iter().zip(&meanwhile)) {
            self.0.insert(Key::Slot(frontend, slot), Value::Node(*node));
            if stand_in != node {
                self.0.insert(Key::StandIn(frontend, slot), Value::Node(*stand_in));
            }
        }
    }

    /// The node to which a slot's clients go; while that is not heard, those who are new go to
    /// another.
    pub(super) fn node_of(&self, frontend: Frontend, slot: u32, is_new: bool) -> Option<NodeId> {
        let stand_in = self.0.get(&Key::StandIn(frontend, slot)).filter(|_| is_new);
        match stand_in.or_else(|| self.0.get(&Key::Slot(frontend, slot))) {
            Some(Value::Node(node)) => Some(*node),
            _ => None,
        }
    }
}

/// The whole table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// What shapes the rules, and the elements that don't depend on Services.
    pub layout: Layout,
    /// What is in the maps and sets.
    pub elements: Elements,
}

/// The table that a data plane needs; none when it has no load balancer's address.
#[must_use]
pub fn desired(layout: Layout, plane: &Dataplane) -> Option<State> {
    let mut elements = Elements::default();
    for (frontend, service) in plane.iter() {
        if let Some(spread) = &service.spread {
            elements.add(*frontend, spread, &layout.silent);
        }
    }
    if elements.is_idle() {
        return None;
    }
    let peers = layout.peers.iter();
    elements.0.extend(peers.map(|(at, addr)| (Key::Peer(at.0, at.1), Value::Address(*addr))));
    elements.0.extend(layout.nodes.iter().map(|addr| (Key::Node(*addr), Value::Present)));
    for family in Family::ALL {
        let silent = layout.silent.iter().map(|node| (Key::Silent(family, *node), Value::Present));
        elements.0.extend(silent);
    }
    Some(State { layout, elements })
}

/// The elements that a data plane needs in the places that a change may touch, while some nodes are
/// silent.
#[must_use]
pub fn desired_of_touched(
    plane: &Dataplane,
    touched: &Touched,
    silent: &BTreeSet<NodeId>,
) -> Elements {
    let mut elements = Elements::default();
    for frontend in &touched.frontends {
        if let Some(spread) = plane.get(frontend).and_then(|service| service.spread.as_ref()) {
            elements.add(*frontend, spread, silent);
        }
    }
    elements
}

/// One change of the table; those of one plan are made in one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Delete an element; its value is what is there.
    Delete(Key, Value),
    /// Add an element.
    Add(Key, Value),
}

/// The changes that turn `observed` into `desired`. Deletions first: an element can't change its
/// value, only go and come back.
#[must_use]
pub fn diff(observed: &Elements, desired: &Elements) -> Vec<Op> {
    let gone = observed.0.iter().filter(|(key, value)| desired.0.get(key) != Some(value));
    let new = desired.0.iter().filter(|(key, value)| observed.0.get(key) != Some(value));
    gone.map(|(k, v)| Op::Delete(*k, *v)).chain(new.map(|(k, v)| Op::Add(*k, *v))).collect()
}

/// What the elements become by changes that the kernel accepted.
pub fn apply(elements: &mut Elements, ops: &[Op]) {
    for op in ops {
        match op {
            Op::Delete(key, _) => elements.0.remove(key),
            Op::Add(key, value) => elements.0.insert(*key, *value),
        };
    }
}
