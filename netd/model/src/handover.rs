//! Handing over: how a client outside the cluster, whose packets come to one node, is served by
//! a pod of another node without that first node in between.
//!
//! The address of a load balancer is announced by one node. If that node translated, it alone would
//! remember the connections, and they would end with it. So it only passes packets on, unchanged, to
//! the node whose pod is to answer; that one translates, and answers the client directly. Which
//! node that is, every node computes alike from the client's address and port ([`spread`]): the next
//! to announce the address sends the packets of every connection to the node that knows it.
//!
//! What is handed over bears a mark ([`DSCP`]), so that it is never handed over twice; who receives
//! it takes the mark away and chooses among its own pods. Where endpoints come and go, the choice
//! for a client may change, so the first node remembers what it chose for as long as the connection
//! lives. A node that is not heard on the network any more gets nobody new, long before the cluster
//! takes its endpoints away. It keeps the connections of TCP that are remembered for it, because it
//! may come back, until their clients begin anew. What has no beginning (UDP) goes to another node at
//! once: its client would send to a dead node for ever, and each packet would refresh the memory.
//!
//! It happens before anything else sees the packet, in a table of its own of the family `netdev`,
//! whatever the engine is.
//!
//! Not handed over: fragments, because only the first has ports, and what comes from nodes and pods,
//! which are served where they are. Deliberately not here: who announces an address.

pub mod inspect;
pub mod render;
pub mod spread;
pub mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
pub use spread::{SLOTS, Spread};
pub use state::{Elements, Key, Op, State, Value, apply, desired, desired_of_touched, diff};

use crate::address::{Family, Frontend, Protocol};
use crate::packet::Packet;
use crate::snapshot::Snapshot;

/// What a packet bears between the two nodes, in the field for differentiated services: one of the
/// values that RFC 2474 leaves to local use.
pub const DSCP: u8 = 0x2b;

/// What is summed up with a client's address and port; every node must use the same.
pub const SEED: u32 = 0x6d69_6e69;

/// A node, in so few bits that it fits into a packet's mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u32);

impl NodeId {
    /// The smallest there is: slots are smaller.
    pub const FIRST: u32 = 0x8000_0000;

    /// The same on every node and at all times, because it is made of the name alone.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let hash = spread::hash(name.as_bytes());
        Self(Self::FIRST | u32::try_from(hash >> 33).expect("31 bits"))
    }

    /// As a mark has it.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }

    /// The node of a mark, if it can be one.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        (number >= Self::FIRST).then_some(Self(number))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

/// What shapes the rules, besides Services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The link by which the nodes reach each other, and clients this node.
    pub link: Arc<str>,
    /// This node.
    pub me: NodeId,
    /// Ranges of all pods.
    pub cluster_cidrs: Vec<IpNet>,
    /// Addresses of the other nodes that the link leads to without a router in between: what is
    /// handed over must not be routed.
    pub peers: BTreeMap<(Family, NodeId), IpAddr>,
    /// All addresses of all nodes.
    pub nodes: Vec<IpAddr>,
    /// The other nodes that are not heard.
    pub silent: BTreeSet<NodeId>,
}

impl Layout {
    /// The layout of this node in a snapshot; `on_link` are the link's own networks.
    #[must_use]
    pub fn of(snapshot: &Snapshot, link: &str, on_link: &[IpNet]) -> Self {
        let is_near = |addr: &IpAddr| on_link.iter().any(|net| net.contains(addr));
        let settings = &snapshot.settings;
        let mut peers = BTreeMap::new();
        for (name, node) in &snapshot.nodes {
            for family in Family::ALL {
                let mut addresses = node.addresses.iter().filter(|addr| is_near(addr));
                let address = addresses.find(|addr| Family::of(**addr) == family);
                if let (Some(address), true) = (address, *name != settings.node_name) {
                    peers.entry((family, NodeId::of(name))).or_insert(*address);
                }
            }
        }
        let silent = snapshot
            .silent
            .iter()
            .filter(|name| **name != settings.node_name && snapshot.nodes.contains_key(*name));
        Self {
            link: link.into(),
            me: NodeId::of(&settings.node_name),
            cluster_cidrs: settings.cluster_cidrs.clone(),
            peers,
            nodes: snapshot.nodes.values().flat_map(|n| n.addresses.iter().copied()).collect(),
            silent: silent.map(|name| NodeId::of(name)).collect(),
        }
    }

    /// Is it from inside the cluster?
    fn is_inside(&self, source: IpAddr) -> bool {
        self.nodes.contains(&source) || self.cluster_cidrs.iter().any(|net| net.contains(&source))
    }
}

/// What becomes of a packet that comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// This node deals with it.
    Here,
    /// It is passed on to the node of this address.
    To(IpAddr),
}

/// What else counts of a packet from the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// What was chosen for its connection before.
    pub remembered: Option<NodeId>,
    /// It begins a connection of TCP.
    pub begins: bool,
    /// It was handed over already.
    pub marked: bool,
}

/// The way of a packet from the network. Its dice stand for the client's hash.
#[must_use]
pub fn walk(state: &State, packet: &Packet, arrival: Arrival) -> Way {
    let frontend: Frontend = packet.to;
    let is_spread = state.elements.0.contains_key(&Key::Spread(frontend));
    if arrival.marked || !is_spread || state.layout.is_inside(packet.source) {
        return Way::Here;
    }
    // What goes on belongs to the slot's own node, and only another node remembered that.
    let is_new = arrival.begins || frontend.protocol != Protocol::Tcp;
    // A client that asks again, because nobody answered, is not sent to the same silent node again.
    let is_lost = |node: &NodeId| is_new && state.layout.silent.contains(node);
    let remembered = arrival.remembered.filter(|node| !is_lost(node));
    let slot = packet.random % SLOTS;
    let chosen = remembered.or_else(|| state.elements.node_of(frontend, slot, is_new));
    let address = chosen
        .filter(|node| *node != state.layout.me)
        .and_then(|node| state.layout.peers.get(&(Family::of(frontend.addr), node)));
    address.map_or(Way::Here, |addr| Way::To(*addr))
}

#[cfg(test)]
mod tests;
