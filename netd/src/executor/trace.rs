//! A packet's way through the engine's tables as the kernel holds them right now, and through the
//! table that hands over as it was left there; no packet is sent.

use netmodel::inspect::Foreign;
use netmodel::ipvs;
use netmodel::nft::Engine;
use netmodel::nft::walk::Place;
use netmodel::packet::Packet;
use netmodel::snapshot::Snapshot;
use netmodel::trace::{Node, Tables, Trace, trace};

use super::{Executor, LOCAL_LINK, VIP_LINK};
use crate::kernel::OpError;

impl Executor {
    /// What becomes of the first packet of a connection; nothing is told where the kernel's table
    /// is missing or has other rules than it should, which is mended at once. `handed_over` says
    /// that another node passed the packet on to this one.
    ///
    /// # Errors
    /// When the kernel can't be read.
    pub fn trace(
        &mut self,
        snapshot: &Snapshot,
        packet: Packet,
        handed_over: bool,
    ) -> Result<Option<Trace>, OpError> {
        let mut others: Vec<Foreign> = Vec::new();
        let read = self.read(snapshot, &mut others)?;
        let Some(table) = read.table else { return Ok(None) };
        let tables = match self.engine {
            Engine::Nftables => Tables::Nftables(table),
            Engine::Ipvs => Tables::Ipvs(ipvs::State {
                servers: read.have.servers,
                addresses: read.have.addresses,
                table,
            }),
        };
        let own = self.network.addresses_but_on(&[VIP_LINK, LOCAL_LINK])?;
        let bridge = read.layout.bridge.clone();
        let node = Node {
            tables: &tables,
            plane: &read.plane,
            layout: &read.layout,
            place: &Place { bridge, own_addresses: own.into_iter().collect() },
            hand_over: self.hand_over.as_ref(),
        };
        Ok(Some(trace(&node, packet, handed_over)))
    }
}
