//! Removes what the data plane put into a network namespace.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use netmodel::dataplane::Dataplane;
use netmodel::ipvs;
use netmodel::route::RouteOp;

use super::servers::IPVS_DEFAULT;
use super::{LOCAL_LINK, VIP_LINK};
use crate::kernel::ipvs::Ipvs;
use crate::kernel::nft::Table;
use crate::kernel::route::Network;
use crate::kernel::{self, OpError};

/// Removes all that the data plane ever put into this network namespace, and nothing else.
/// Returns the steps that failed; the others are done all the same.
#[must_use]
pub fn clean_up(bridge: &str, node_ports: &RangeInclusive<u16>) -> Vec<OpError> {
    let mut failures = Vec::new();
    failures.extend(clean_routes(bridge).unwrap_or_else(|error| vec![error]));
    failures.extend(Network::open().and_then(|mut net| net.delete_link(LOCAL_LINK)).err());
    if let Err(error) = clean_servers(node_ports, &mut failures) {
        failures.push(error);
    }
    let tables = Table::open().and_then(|mut table| {
        kernel::handover::delete(table.connection())?;
        table.delete()
    });
    failures.extend(tables.err());
    failures
}

fn clean_routes(bridge: &str) -> Result<Vec<OpError>, OpError> {
    let mut network = Network::open()?;
    let ours = network.routes(bridge)?;
    let deleted =
        ours.into_keys().map(|net| network.change_route(&RouteOp::Delete(net), true, bridge));
    Ok(deleted.filter_map(Result::err).collect())
}

fn clean_servers(
    node_ports: &RangeInclusive<u16>,
    failures: &mut Vec<OpError>,
) -> Result<(), OpError> {
    let mut network = Network::open()?;
    if !network.has_link(VIP_LINK) {
        return Ok(());
    }
    let bound = network.addresses(VIP_LINK)?;
    let own: BTreeSet<_> = network.own_addresses()?;
    if let Ok(mut kernel) = Ipvs::open() {
        let nothing = Dataplane::default();
        let ours: Vec<ipvs::Op> = kernel
            .servers()?
            .0
            .into_keys()
            .filter(|f| ipvs::is_ours(f, &bound, &own, node_ports, &nothing))
            .map(ipvs::Op::DeleteServer)
            .collect();
        failures.extend(kernel.execute(&ours)?.into_iter().map(|(_, error)| error));
        failures.extend(kernel.set_tcp_timeout(IPVS_DEFAULT).err());
    }
    network.delete_link(VIP_LINK)
}
