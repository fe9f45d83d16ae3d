//! What the kernel holds, for people: reads everything, changes nothing.

use std::collections::BTreeSet;

use netmodel::dataplane::Dataplane;
use netmodel::inspect::{self, Foreign, Inspection, Setting, VipLink};
use netmodel::ipvs::{self, Programmed};
use netmodel::nft::{self, Layout};
use netmodel::snapshot::Snapshot;

use super::servers::{Balancer, tracker_patience};
use super::{Executor, VIP_LINK};
use crate::kernel::ipvs::Connections;
use crate::kernel::{OpError, sysctl};

/// What an engine has in the kernel, beside what it should have.
pub(super) struct Read {
    pub(super) layout: Layout,
    pub(super) plane: Dataplane,
    desired: nft::State,
    /// None: there is no table, or its rules are others.
    pub(super) table: Option<nft::State>,
    pub(super) have: Programmed,
    connections: Connections,
    server_ops: Vec<ipvs::Op>,
}

impl Executor {
    /// What is programmed, what differs from what should be, and what is not ours. Reads the
    /// kernel, changes nothing.
    ///
    /// # Errors
    /// When the kernel can't be read.
    pub fn inspect(&mut self, snapshot: &Snapshot) -> Result<Inspection, OpError> {
        let mut foreign = Vec::new();
        let read = self.read(snapshot, &mut foreign)?;
        let Read { layout, plane, desired, table, have, connections, server_ops } = read;
        let table_ops = nft::diff(table.as_ref(), &desired);
        let proxy = |what| Foreign { kind: "table", what, whose: Some("kube-proxy") };
        foreign.extend(self.table.kernel.other_proxies()?.into_iter().map(proxy));
        let is_there = self.table.kernel.exists()?;
        let found = inspect::Found {
            table: table.as_ref(),
            table_is_there: is_there,
            servers: &have,
            connections: &connections,
        };
        let mut rows = inspect::rows(&plane, &found);
        let mut differences = inspect::differences(&plane, &found, &table_ops, &server_ops);
        differences.extend(self.inspect_hand_over(snapshot, &plane, &mut rows)?);
        differences.extend(self.inspect_locals(snapshot, &layout)?);
        Ok(Inspection {
            engine: self.engine,
            kernel: sysctl::get("kernel.osrelease").unwrap_or_default(),
            settings: self.read_settings()?,
            vip_link: self.read_vip_link()?,
            rows,
            differences,
            foreign,
            problems: self.problems(),
        })
    }

    /// Reads the table and the virtual servers, and tells what they should be.
    pub(super) fn read(
        &mut self,
        snapshot: &Snapshot,
        foreign: &mut Vec<Foreign>,
    ) -> Result<Read, OpError> {
        let layout = self.layout_of(snapshot);
        let plane = self.plane.anew(snapshot);
        let (have, connections) = self.read_servers(snapshot, foreign)?;
        let serves_on = self.balancer.as_mut().is_some_and(Balancer::serves_on);
        let server_ops = match serves_on {
            true => Vec::new(),
            false => ipvs::plan(&layout, &plane, &have, None),
        };
        let bound = have.addresses.iter().copied();
        let draining: BTreeSet<_> = have.draining_after(&server_ops, bound, &plane);
        let mut desired = nft::State::desired(&layout, &plane, &draining);
        if serves_on {
            desired.let_in(have.taking(), &plane);
        }
        let table = self.table.kernel.observe(&desired)?;
        Ok(Read { layout, plane, desired, table, have, connections, server_ops })
    }

    fn read_servers(
        &mut self,
        snapshot: &Snapshot,
        foreign: &mut Vec<Foreign>,
    ) -> Result<(Programmed, Connections), OpError> {
        let Some(balancer) = &mut self.balancer else {
            return Ok((Programmed::default(), Connections::new()));
        };
        let addresses = self.network.addresses(VIP_LINK)?;
        let (mut servers, connections) = balancer.kernel.servers()?;
        let own = snapshot.this_node().into_iter().flat_map(|n| n.addresses.clone()).collect();
        let node_ports = &snapshot.settings.node_ports;
        servers.retain(|frontend, server| {
            let ours = balancer.have.servers.contains_key(frontend)
                || ipvs::is_ours(frontend, &addresses, &own, node_ports, &self.plane);
            if !ours {
                let what = format!("{frontend} scheduler {}", server.scheduler);
                foreign.push(Foreign { kind: "virtual server", what, whose: None });
            }
            ours
        });
        Ok((Programmed { servers, addresses }, connections))
    }

    fn read_settings(&mut self) -> Result<Vec<Setting>, OpError> {
        let read = |setting: &crate::settings::Setting| Setting {
            name: setting.name.clone(),
            value: sysctl::get(&setting.name),
            wanted: setting.value.to_owned(),
            why: setting.why,
        };
        let mut out: Vec<Setting> = self.settings.iter().map(read).collect();
        if let Some(balancer) = &mut self.balancer {
            out.push(Setting {
                name: "IPVS TCP timeout".to_owned(),
                value: Some(balancer.kernel.tcp_timeout()?.to_string()),
                wanted: tracker_patience().to_string(),
                why: "idle connections are remembered for as long as conntrack does",
            });
        }
        Ok(out)
    }

    fn read_vip_link(&mut self) -> Result<Option<VipLink>, OpError> {
        let Some(kind) = self.network.link_kind(VIP_LINK)? else { return Ok(None) };
        let addresses = self.network.addresses(VIP_LINK)?.into_iter().collect();
        Ok(Some(VipLink { name: VIP_LINK.to_owned(), kind, addresses }))
    }
}
