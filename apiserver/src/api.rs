//! What all requests share: the store, the ranges to allocate from, pages of lists, open tunnels.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use ipnet::{IpNet, Ipv4Net};
use store::Store;

use crate::discovery::Discovery;
use crate::stream::tunnel::Tunnels;
use crate::verbs::pages::Pages;

/// The state behind every request.
pub(crate) struct Api {
    pub(crate) store: Store,
    pub(crate) ranges: Ranges,
    /// Where the `kubernetes` Service leads.
    pub(crate) advertise: SocketAddr,
    pub(crate) pages: Pages,
    pub(crate) tunnels: Tunnels,
    pub(crate) discovery: Discovery,
}

/// What Services and Nodes get their addresses and ports from.
#[derive(Clone, Debug)]
pub(crate) struct Ranges {
    pub(crate) service_cidrs: Vec<IpNet>,
    pub(crate) cluster_cidrs: Vec<IpNet>,
    pub(crate) node_prefix: u8,
    pub(crate) node_prefix_v6: u8,
    pub(crate) node_ports: RangeInclusive<u16>,
}

impl Ranges {
    /// The range of IPv4 cluster IPs.
    pub(crate) fn service_v4(&self) -> Ipv4Net {
        first_v4(&self.service_cidrs)
    }

    /// The range of IPv4 pod addresses.
    pub(crate) fn cluster_v4(&self) -> Ipv4Net {
        first_v4(&self.cluster_cidrs)
    }
}

fn first_v4(ranges: &[IpNet]) -> Ipv4Net {
    let v4 = |net: &IpNet| match net {
        IpNet::V4(net) => Some(*net),
        IpNet::V6(_) => None,
    };
    ranges.iter().find_map(v4).unwrap_or_default()
}
