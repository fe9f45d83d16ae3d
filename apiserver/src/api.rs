//! What all requests share: the store, the ranges to allocate from, pages of lists, open tunnels.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use resources::families::Family;
use store::Store;

use crate::discovery::Discovery;
use crate::stream::tunnel::Tunnels;
use crate::verbs::pages::Pages;

/// The state behind every request.
pub(crate) struct Api {
    pub(crate) store: Store,
    pub(crate) ranges: Ranges,
    pub(crate) features: Features,
    /// Where the `kubernetes` Service leads.
    pub(crate) advertise: SocketAddr,
    pub(crate) pages: Pages,
    pub(crate) tunnels: Tunnels,
    pub(crate) discovery: Discovery,
}

/// What a cluster can go without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Whether Services of type LoadBalancer get addresses of AddressPools.
    pub load_balancer: bool,
    /// Whether there is a Service for cluster DNS.
    pub dns: bool,
    /// Whether there is a Service, and a class, for Ingress.
    pub ingress: bool,
}

impl Default for Features {
    fn default() -> Self {
        Self { load_balancer: true, dns: true, ingress: true }
    }
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
    /// The families of the cluster's Services: the first is the one of a Service that does not ask.
    pub(crate) fn families(&self) -> Vec<Family> {
        self.service_cidrs.iter().map(|range| Family::from(*range)).collect()
    }
}
