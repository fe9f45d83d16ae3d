//! The table told to people: who serves whose clients, and what is not as it should be.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::render::{Container, TABLE};
use super::{Elements, Key, NodeId, Op, SLOTS, State, Value, diff};
use crate::address::{Family, Frontend};
use crate::inspect::{Difference, How};
use crate::snapshot::Snapshot;

/// The nodes' names.
#[must_use]
pub fn names(snapshot: &Snapshot) -> BTreeMap<NodeId, Arc<str>> {
    snapshot.nodes.keys().map(|name| (NodeId::of(name), name.clone())).collect()
}

/// How a frontend's clients are spread, as a line; none where they are not.
#[must_use]
pub fn line(
    elements: &Elements,
    frontend: Frontend,
    names: &BTreeMap<NodeId, Arc<str>>,
) -> Option<String> {
    let how = match elements.0.get(&Key::Spread(frontend))? {
        Value::ByClient => "client",
        _ => "connection",
    };
    let mut shares: BTreeMap<&str, u32> = BTreeMap::new();
    for node in (0..SLOTS).filter_map(|slot| elements.node_of(frontend, slot, true)) {
        *shares.entry(names.get(&node).map_or("unknown", |name| name)).or_default() += 1;
    }
    let shares: Vec<String> = shares.iter().map(|(name, n)| format!("{name} {n}")).collect();
    if shares.is_empty() {
        return Some("handed over: nobody new".to_owned());
    }
    let mut line = format!("handed over by {how}, of {SLOTS} slots: {}", shares.join(", "));
    let name = |node: &NodeId| names.get(node).map_or("unknown", |name| name);
    let silent: Vec<&str> = elements.silent(Family::of(frontend.addr)).map(name).collect();
    if !silent.is_empty() {
        line.push_str(&format!("; not heard: {}", silent.join(", ")));
    }
    Some(line)
}

/// What is not as it should be; `observed` is none when there is no table with the right rules.
#[must_use]
pub fn differences(observed: Option<&Elements>, desired: Option<&State>) -> Vec<Difference> {
    let whole = |how| vec![Difference { what: format!("table netdev {TABLE}"), how, owner: None }];
    match (observed, desired) {
        (None, None) => Vec::new(),
        (Some(_), None) => whole(How::Extra),
        (None, Some(_)) => whole(How::Missing),
        (Some(observed), Some(desired)) => {
            diff(observed, &desired.elements).iter().map(difference).collect()
        }
    }
}

fn difference(op: &Op) -> Difference {
    let (key, how) = match op {
        Op::Delete(key, _) => (key, How::Extra),
        Op::Add(key, _) => (key, How::Missing),
    };
    Difference { what: element(key), how, owner: None }
}

/// An element in words.
#[must_use]
pub fn element(key: &Key) -> String {
    let (container, what) = match key {
        Key::Spread(frontend) => (Container::Spread, frontend.to_string()),
        Key::Slot(frontend, slot) => (Container::Slots, format!("{frontend} . {}", slot + 1)),
        Key::StandIn(frontend, slot) => (Container::StandIns, format!("{frontend} . {}", slot + 1)),
        Key::Peer(_, node) => (Container::Peers, node.to_string()),
        Key::Node(addr) => (Container::Nodes, addr.to_string()),
        Key::Silent(_, node) => (Container::Silent, node.to_string()),
    };
    format!("netdev {} {{ {what} }}", container.name(key.family()))
}
