//! How things stand, for those who ask: `minictl lb check`, metrics, tests.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use netmodel::snapshot::ServiceName;

use crate::frame::Mac;
use crate::frame::beat::Grade;
use crate::link::Lan;
use crate::offer::Declined;

/// What an announcer does at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The links that nodes have in common.
    pub links: Vec<LinkView>,
    /// All LoadBalancer addresses.
    pub addresses: BTreeMap<IpAddr, AddressView>,
}

/// A link, and who is heard on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkView {
    /// The link.
    pub lan: Lan,
    /// The other nodes that live, with theirs.
    pub peers: BTreeMap<String, Mac>,
}

/// An address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressView {
    /// The Services that have it.
    pub services: BTreeSet<ServiceName>,
    /// The link that has it.
    pub link: Option<String>,
    /// What this node does for it.
    pub standing: Standing,
    /// All nodes that would serve it, this one included, and how well.
    pub candidates: BTreeMap<String, Grade>,
}

/// What a node does for an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It announces it.
    Announces,
    /// It has just begun to listen, and claims nothing yet.
    Listens,
    /// It would, but that node is elected.
    Waits {
        /// The elected one.
        elected: String,
    },
    /// It would not.
    Declines(Declined),
}

impl View {
    /// The addresses that this node announces.
    pub fn announced(&self) -> impl Iterator<Item = IpAddr> {
        let announces = |view: &AddressView| view.standing == Standing::Announces;
        self.addresses.iter().filter(move |(_, v)| announces(v)).map(|(address, _)| *address)
    }
}
