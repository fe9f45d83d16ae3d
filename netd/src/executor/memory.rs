//! What the kernel remembers of clients, and must forget when what they were given is gone.

use std::collections::BTreeSet;

use netmodel::address::{Family, Frontend, Protocol};
use netmodel::conntrack::{is_stale, is_stale_affinity};
use netmodel::ipvs;
use netmodel::nft::{self, Container, Item, Key};

use super::{Executor, Report};

/// Where a plan takes something away or begins to serve, so that what is remembered of clients may
/// be stale.
#[derive(Debug, Default)]
pub(super) struct Lost {
    /// UDP frontends.
    pub(super) udp: BTreeSet<Frontend>,
    /// Any frontend whose clients keep their backends.
    pub(super) sticky: bool,
}

impl Lost {
    pub(super) fn by(table: &[nft::Op], servers: &[ipvs::Op], before: &nft::Elements) -> Self {
        let from_table = table.iter().filter_map(|op| match op {
            nft::Op::Delete(key, _) => match key.item {
                Item::Frontend(f) | Item::Slot(f, _) | Item::Pair(f, _) => Some(f),
                Item::Clients(..) | Item::Client(..) | Item::Address(_) => None,
            },
            // Who sent there before anybody served would be led past the Service for as long as it
            // goes on sending: to the node itself, or to whoever has the address outside.
            nft::Op::Add(
                Key {
                    container: Container::Services | Container::Balanced,
                    item: Item::Frontend(f),
                },
                _,
            ) => Some(*f),
            _ => None,
        });
        let from_servers = servers.iter().filter_map(|op| match op {
            ipvs::Op::DeleteServer(f) | ipvs::Op::DeleteDestination(f, _) => Some(*f),
            ipvs::Op::SetDestination(f, _, 0) => Some(*f),
            _ => None,
        });
        let all: BTreeSet<Frontend> = from_table.chain(from_servers).collect();
        Self {
            sticky: all.iter().any(|f| before.is_sticky(*f)),
            udp: all.into_iter().filter(|f| f.protocol == Protocol::Udp).collect(),
        }
    }
}

impl Executor {
    /// Forgets what is stale. Until an affinity is forgotten, the table itself drops what it leads
    /// to.
    pub(super) fn forget(&mut self, lost: &Lost, report: &mut Report) {
        if !lost.udp.is_empty() {
            self.forget_flows(&lost.udp, report);
        }
        if lost.sticky {
            self.forget_affinities(report);
        }
    }

    fn forget_flows(&mut self, frontends: &BTreeSet<Frontend>, report: &mut Report) {
        for family in Family::ALL {
            if !frontends.iter().any(|f| Family::of(f.addr) == family) {
                continue;
            }
            let remembered = match self.tracker.udp_flows(family) {
                Ok(flows) => flows,
                Err(error) => return report.failures.push(error),
            };
            for one in remembered.iter().filter(|r| is_stale(&r.flow, &self.plane, frontends)) {
                match self.tracker.forget(one) {
                    Ok(()) => report.forgotten += 1,
                    Err(error) => report.failures.push(error),
                }
            }
        }
    }

    fn forget_affinities(&mut self, report: &mut Report) {
        let clients = match self.table.kernel.clients() {
            Ok(clients) => clients,
            Err(error) => return report.failures.push(error),
        };
        for client in &clients {
            if is_stale_affinity(&client.frontend, &client.backend, &self.plane) {
                match self.table.kernel.forget(client) {
                    Ok(()) => report.forgotten += 1,
                    Err(error) => report.failures.push(error),
                }
            }
        }
    }
}
