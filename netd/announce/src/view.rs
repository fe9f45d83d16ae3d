//! How things stand, for those who ask: `minictl lb check`, metrics, tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
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
    /// How often this node has taken an address, since it started.
    pub taken: u64,
    /// How often a stranger's claim was told of.
    pub conflicts: u64,
}

impl View {
    /// The node that answers for an address, as `node`, whose view this is, sees it.
    #[must_use]
    pub fn elected(&self, address: IpAddr, node: &str) -> Option<String> {
        match &self.addresses.get(&address)?.standing {
            Standing::Announces => Some(node.to_owned()),
            Standing::Waits { elected } => Some(elected.clone()),
            Standing::Listens | Standing::Declines(_) => None,
        }
    }
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
    /// The same in Prometheus' text format.
    #[must_use]
    pub fn metrics(&self) -> String {
        let mut page = String::new();
        let mut line = |line: std::fmt::Arguments<'_>| {
            writeln!(page, "{line}").expect("a String takes everything");
        };
        line(format_args!(
            "# HELP minictl_announced LoadBalancer addresses: does this node announce it"
        ));
        line(format_args!("# TYPE minictl_announced gauge"));
        for (address, view) in &self.addresses {
            let announces = u8::from(view.standing == Standing::Announces);
            line(format_args!("minictl_announced{{address=\"{address}\"}} {announces}"));
        }
        for (name, help, number) in [
            ("takeovers", "LoadBalancer addresses that this node took over", self.taken),
            ("conflicts", "Claims of strangers to LoadBalancer addresses", self.conflicts),
        ] {
            line(format_args!("# HELP minictl_announce_{name}_total {help}"));
            line(format_args!("# TYPE minictl_announce_{name}_total counter"));
            line(format_args!("minictl_announce_{name}_total {number}"));
        }
        page
    }

    /// The addresses that this node announces.
    pub fn announced(&self) -> impl Iterator<Item = IpAddr> {
        let announces = |view: &AddressView| view.standing == Standing::Announces;
        self.addresses.iter().filter(move |(_, v)| announces(v)).map(|(address, _)| *address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_a_line_of_metrics() {
        let address = |standing| AddressView {
            services: BTreeSet::new(),
            link: None,
            standing,
            candidates: BTreeMap::new(),
        };
        let addresses = BTreeMap::from([
            (IpAddr::from([192, 168, 56, 200]), address(Standing::Announces)),
            (IpAddr::from([192, 168, 56, 201]), address(Standing::Listens)),
        ]);
        let page = View { addresses, taken: 3, ..View::default() }.metrics();
        for line in [
            "minictl_announced{address=\"192.168.56.200\"} 1",
            "minictl_announced{address=\"192.168.56.201\"} 0",
            "minictl_announce_takeovers_total 3",
            "minictl_announce_conflicts_total 0",
        ] {
            assert!(page.lines().any(|have| have == line), "{line} is missing in\n{page}");
        }
    }
}
