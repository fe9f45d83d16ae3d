//! The routes of this node: to the pods of other nodes, and to Services.
//!
//! Routes are ours by their protocol number, [`PROTOCOL`]; no other route is ever read as ours or
//! touched.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::address::Family;
use crate::snapshot::Snapshot;

/// The number in `proto` of `ip route` by which our routes are known (`/etc/iproute2/rt_protos`
/// has no name for it).
pub const PROTOCOL: u8 = 119;

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Via {
    /// Another node on a common link.
    Gateway(IpAddr),
    /// The node's own bridge.
    Bridge,
}

/// All our routes, by destination.
pub type Routes = BTreeMap<IpNet, Via>;

/// One change of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteOp {
    /// Add it, or change where it leads.
    Set(IpNet, Via),
    /// Delete it.
    Delete(IpNet),
}

/// The routes that a cluster needs on this node.
///
/// The range of service addresses gets a route to the bridge: nothing is ever sent there, because
/// every packet to it is translated, refused or dropped first, but a packet must have a route to
/// get that far, and a node without a default route would have none.
#[must_use]
pub fn desired_routes(snapshot: &Snapshot) -> Routes {
    let this_node = &snapshot.settings.node_name;
    let mut routes: Routes =
        snapshot.settings.service_cidrs.iter().map(|range| (range.trunc(), Via::Bridge)).collect();
    for (_, node) in snapshot.nodes.iter().filter(|(name, _)| *name != this_node) {
        for range in &node.pod_cidrs {
            let family = Family::of(range.addr());
            let gateway = node.addresses.iter().find(|a| Family::of(**a) == family);
            if let Some(gateway) = gateway {
                routes.entry(range.trunc()).or_insert(Via::Gateway(*gateway));
            }
        }
    }
    routes
}

/// The changes that turn `observed` into `desired`.
#[must_use]
pub fn diff_routes(observed: &Routes, desired: &Routes) -> Vec<RouteOp> {
    let gone = observed.keys().filter(|net| !desired.contains_key(net)).copied();
    let new = desired.iter().filter(|(net, via)| observed.get(net) != Some(via));
    gone.map(RouteOp::Delete).chain(new.map(|(net, via)| RouteOp::Set(*net, via.clone()))).collect()
}
