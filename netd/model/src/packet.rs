//! A packet's way through this node, in words: what is asked of the walks of both engines, and
//! what they answer.

use std::fmt;
use std::net::IpAddr;

use crate::address::{Backend, Frontend};

/// Where a packet comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// A pod on this node's bridge.
    Pod,
    /// A process of this node.
    Node,
    /// Another link: another node or its pods, or a client outside the cluster.
    Network,
}

/// The first packet of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Where it comes from.
    pub from: From,
    /// Its source address.
    pub source: IpAddr,
    /// Its destination.
    pub to: Frontend,
    /// The dice: selects among the backends, so that a walk has one answer.
    pub random: u32,
    /// The backend that the client had when it was here before, where clients keep theirs.
    pub remembers: Option<Backend>,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It goes on to `to`; `translated` when that is not where it was sent.
    Delivered {
        /// Where it goes.
        to: Backend,
        /// Was the destination rewritten?
        translated: bool,
        /// Was the source rewritten to this node's?
        masqueraded: bool,
    },
    /// Its sender is told at once that nobody is there.
    Refused,
    /// It vanishes.
    Dropped,
}

/// One thing that happened on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where: a hook and chain, or a part of the kernel.
    pub place: String,
    /// What: a rule and its effect.
    pub what: String,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// The way and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// In order.
    pub steps: Vec<Step>,
    /// The end.
    pub outcome: Outcome,
}
