//! The addresses of Services that a process of this node answers, on a link of their own.
//!
//! Whoever listens there needs the address to be the node's own. An address that the node has on
//! another link is its own anyway, and left alone. Invariant: an address is bound only while the
//! table closes those of its ports that are not the Service's: it is released before the table
//! changes, and bound after.

use std::collections::BTreeSet;
use std::net::IpAddr;

use netmodel::address::Frontend;
use netmodel::inspect::{Difference, How};
use netmodel::nft::Layout;
use netmodel::repair::{Object, Repair};
use netmodel::service::Pool;
use netmodel::snapshot::Snapshot;

use super::{Executor, LOCAL_LINK, Report, VIP_LINK};
use crate::kernel::OpError;

impl Executor {
    /// Does a change of these frontends concern what is bound, or is to be?
    pub(super) fn concerns_locals(&self, frontends: &BTreeSet<Frontend>) -> bool {
        let by_node = |frontend: &Frontend| {
            self.plane.get(frontend).is_some_and(|s| matches!(s.pool, Pool::Node(_)))
        };
        frontends.iter().any(|f| self.locals.contains(&f.addr) || by_node(f))
    }

    /// Releases what is not to be bound any more; the link, too, when nothing is left.
    pub(super) fn release_locals(
        &mut self,
        snapshot: &Snapshot,
        layout: &Layout,
        report: &mut Report,
    ) {
        let released = self.wanted_locals(snapshot, layout).and_then(|wanted| {
            if !self.network.has_link(LOCAL_LINK) {
                return Ok(0);
            }
            let bound = self.network.addresses(LOCAL_LINK)?;
            let gone: Vec<IpAddr> = bound.difference(&wanted).copied().collect();
            for addr in &gone {
                self.network.release(LOCAL_LINK, *addr)?;
                self.locals.remove(addr);
            }
            if wanted.is_empty() {
                self.network.delete_link(LOCAL_LINK)?;
            }
            Ok(gone.len())
        });
        match released {
            Ok(writes) => report.writes += writes,
            Err(error) => report.failures.push(error),
        }
    }

    /// Binds what is to be bound, and puts back what another hand released.
    pub(super) fn bind_locals(
        &mut self,
        snapshot: &Snapshot,
        layout: &Layout,
        report: &mut Report,
    ) {
        let bound = self.wanted_locals(snapshot, layout).and_then(|wanted| {
            if wanted.is_empty() {
                return Ok(Vec::new());
            }
            self.network.ensure_address_link(LOCAL_LINK)?;
            let bound = self.network.addresses(LOCAL_LINK)?;
            let new: Vec<IpAddr> = wanted.difference(&bound).copied().collect();
            for addr in &new {
                self.network.bind(LOCAL_LINK, *addr)?;
            }
            let back = new.iter().filter(|addr| self.locals.contains(*addr));
            let repair = |addr| {
                Repair::new(Object::Address, format!("{addr} was deleted from {LOCAL_LINK}"))
            };
            report.repaired.extend(back.map(repair));
            self.locals = wanted;
            Ok(new)
        });
        match bound {
            Ok(new) => report.writes += new.len(),
            Err(error) => report.failures.push(error),
        }
    }

    /// What is not as it should be.
    pub(super) fn inspect_locals(
        &mut self,
        snapshot: &Snapshot,
        layout: &Layout,
    ) -> Result<Vec<Difference>, OpError> {
        let wanted = self.wanted_locals(snapshot, layout)?;
        let bound = self.network.addresses(LOCAL_LINK)?;
        let difference = |addr: &IpAddr, how| Difference {
            what: format!("address {addr} on {LOCAL_LINK}"),
            how,
            owner: None,
        };
        let missing = wanted.difference(&bound).map(|addr| difference(addr, How::Missing));
        let extra = bound.difference(&wanted).map(|addr| difference(addr, How::Extra));
        Ok(missing.chain(extra).collect())
    }

    fn wanted_locals(
        &mut self,
        snapshot: &Snapshot,
        layout: &Layout,
    ) -> Result<BTreeSet<IpAddr>, OpError> {
        let all = snapshot.locals().flat_map(|(_, service)| service.local_addresses());
        let mut wanted: BTreeSet<IpAddr> = all.filter(|addr| layout.is_virtual(*addr)).collect();
        if !wanted.is_empty() {
            let elsewhere = self.network.addresses_but_on(&[LOCAL_LINK, VIP_LINK])?;
            wanted.retain(|addr| !elsewhere.contains(addr));
        }
        Ok(wanted)
    }
}
