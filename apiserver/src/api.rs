//! What all requests share: the store, the ranges to allocate from, pages of lists, open tunnels.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use ipnet::Ipv4Net;
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
    pub(crate) service_cidr: Ipv4Net,
    pub(crate) cluster_cidr: Ipv4Net,
    pub(crate) node_prefix: u8,
    pub(crate) node_ports: RangeInclusive<u16>,
}
