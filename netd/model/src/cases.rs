//! Packet walks as data: clusters, packets, and what must become of each. One table, read by the
//! walks of both engines here and by tests that send real packets elsewhere.
//!
//! Only with the feature `testing`. Every row holds for both engines.

mod local;
mod policies;
mod special;
mod usual;
pub mod world;

use crate::address::Protocol;
use crate::packet::{From, Outcome, Packet};
use crate::snapshot::Snapshot;

/// Addresses that the rows use.
pub mod at {
    /// A pod of this node.
    pub const POD: &str = "10.244.1.5";
    /// Another pod of this node.
    pub const NEAR_POD: &str = "10.244.1.6";
    /// A pod of another node.
    pub const FAR_POD: &str = "10.244.2.5";
    /// This node.
    pub const NODE: &str = "192.168.56.70";
    /// Another node.
    pub const OTHER_NODE: &str = "192.168.56.71";
    /// A client outside the cluster.
    pub const CLIENT: &str = "192.168.56.10";
    /// The same in IPv6.
    pub const POD6: &str = "fd44:1::5";
    /// The same in IPv6.
    pub const NEAR_POD6: &str = "fd44:1::6";
    /// The same in IPv6.
    pub const FAR_POD6: &str = "fd44:2::5";
    /// The same in IPv6.
    pub const NODE6: &str = "fd56::70";
    /// The same in IPv6.
    pub const CLIENT6: &str = "fd56::10";
}

/// One cluster, and packets sent in it.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it shows, as a sentence.
    pub name: &'static str,
    /// The cluster, as `node-1` sees it.
    pub snapshot: Snapshot,
    /// The packets.
    pub rows: Vec<Row>,
}

/// One packet.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The packet.
    pub packet: Packet,
    /// What must become of it.
    pub outcome: Outcome,
}

#[cfg(test)]
pub(crate) use usual::usual;

/// All cases.
#[must_use]
pub fn all() -> Vec<Case> {
    [usual::cases(), policies::cases(), special::cases(), local::cases()].concat()
}

/// A case of TCP packets that all draw the first backend.
fn case(name: &'static str, snapshot: Snapshot, rows: &[(From, &str, &str, Outcome)]) -> Case {
    case_drawing(0, name, snapshot, rows)
}

/// A case of TCP packets that draw the same number.
fn case_drawing(
    random: u32,
    name: &'static str,
    snapshot: Snapshot,
    rows: &[(From, &str, &str, Outcome)],
) -> Case {
    let row = |(from, source, to, outcome): &(From, &str, &str, Outcome)| Row {
        packet: world::packet(*from, source, to, random),
        outcome: *outcome,
    };
    Case { name, snapshot, rows: rows.iter().map(row).collect() }
}

impl Case {
    /// The same packets of another protocol.
    fn by(mut self, protocol: Protocol) -> Self {
        self.rows.iter_mut().for_each(|row| row.packet.to.protocol = protocol);
        self
    }
}
