//! The table that hands packets over to other nodes, kept equal to the plane.

use std::collections::BTreeSet;

use netmodel::dataplane::{Dataplane, Touched};
use netmodel::handover::inspect::{self, element};
use netmodel::handover::{self, Elements, Layout, Op, State, apply, desired_of_touched, diff};
use netmodel::inspect::{Difference, Row};
use netmodel::repair::{Object, Repair};
use netmodel::snapshot::Snapshot;

use super::{Executor, Report};
use crate::kernel::netlink::Connection;
use crate::kernel::route::Network;
use crate::kernel::{self, OpError};

impl Executor {
    /// Compares the whole table with the kernel. It is there only while there is something to hand
    /// over, and a link to do it by.
    pub(super) fn sync_hand_over(&mut self, snapshot: &Snapshot, report: &mut Report) {
        let left = self.hand_over.take();
        let desired = wanted(&mut self.network, snapshot, &self.plane);
        let done = desired.and_then(|desired| self.write_hand_over(desired, left, report));
        report.failures.extend(done.err());
    }

    /// The same after a change of some frontends.
    pub(super) fn sync_hand_over_of(
        &mut self,
        snapshot: &Snapshot,
        touched: &Touched,
        report: &mut Report,
    ) {
        let silent = self.hand_over.as_ref().map(|state| &state.layout.silent);
        let wanted = desired_of_touched(&self.plane, touched, silent.unwrap_or(&BTreeSet::new()));
        let Some(state) = &mut self.hand_over else {
            if wanted != Elements::default() {
                self.sync_hand_over(snapshot, report);
            }
            return;
        };
        let ops = diff(&state.elements.of_touched(touched), &wanted);
        if ops.is_empty() {
            return;
        }
        match kernel::handover::execute(self.table.kernel.connection(), &ops) {
            Ok(()) => {
                report.writes += ops.len();
                apply(&mut state.elements, &ops);
                if state.elements.is_idle() {
                    self.sync_hand_over(snapshot, report);
                }
            }
            // Somebody else changed it: the whole is compared.
            Err(_) => self.sync_hand_over(snapshot, report),
        }
    }

    /// The same when other nodes fell silent, or spoke: what the kernel has is taken for granted,
    /// because every moment counts.
    pub(super) fn sync_silence(&mut self, snapshot: &Snapshot, report: &mut Report) {
        let desired = match wanted(&mut self.network, snapshot, &self.plane) {
            Ok(desired) => desired,
            Err(error) => return report.failures.push(error),
        };
        let (Some(state), Some(desired)) = (&mut self.hand_over, desired) else {
            return self.sync_hand_over(snapshot, report);
        };
        let silent = desired.layout.silent.clone();
        if desired.layout != (Layout { silent, ..state.layout.clone() }) {
            return self.sync_hand_over(snapshot, report);
        }
        let ops = diff(&state.elements, &desired.elements);
        match kernel::handover::execute(self.table.kernel.connection(), &ops) {
            Ok(()) => {
                report.writes += ops.len();
                *state = desired;
            }
            Err(_) => self.sync_hand_over(snapshot, report),
        }
    }

    /// Adds to `rows` how clients are handed over, and returns what is not as it should be.
    pub(super) fn inspect_hand_over(
        &mut self,
        snapshot: &Snapshot,
        plane: &Dataplane,
        rows: &mut [Row],
    ) -> Result<Vec<Difference>, OpError> {
        let desired = wanted(&mut self.network, snapshot, plane)?;
        let netlink = self.table.kernel.connection();
        let observed = match &desired {
            Some(desired) => kernel::handover::observe(netlink, &desired.layout)?,
            None => kernel::handover::exists(netlink)?.then(Elements::default),
        };
        let names = inspect::names(snapshot);
        for row in rows {
            let line = observed.as_ref().and_then(|all| inspect::line(all, row.frontend, &names));
            row.objects.extend(line);
        }
        Ok(inspect::differences(observed.as_ref(), desired.as_ref()))
    }

    fn write_hand_over(
        &mut self,
        desired: Option<State>,
        left: Option<State>,
        report: &mut Report,
    ) -> Result<(), OpError> {
        let netlink = self.table.kernel.connection();
        let Some(desired) = desired else {
            if kernel::handover::exists(netlink)? {
                kernel::handover::delete(netlink)?;
                report.writes += 1;
            }
            return Ok(());
        };
        // What differs although nothing was to change is another hand's doing.
        let was_so = left.as_ref() == Some(&desired);
        let observed = kernel::handover::observe(netlink, &desired.layout)?;
        let ops = match &observed {
            Some(observed) => diff(observed, &desired.elements),
            None => Vec::new(),
        };
        if observed.is_some() {
            kernel::handover::execute(netlink, &ops)?;
            report.writes += ops.len();
        } else {
            write_anew(netlink, &desired)?;
            report.writes += 1;
        }
        if was_so && observed.is_none() {
            let what = "netdev minictl was deleted or its rules edited";
            report.repaired.push(Repair::new(Object::Table, what));
        } else if was_so {
            report.repaired.extend(ops.iter().map(repair));
        }
        self.hand_over = Some(desired);
        Ok(())
    }
}

/// Writes other rules and elements into the table that is there, where that can be, so that what is
/// remembered of connections stays.
fn write_anew(netlink: &mut Connection, desired: &State) -> Result<(), OpError> {
    if !kernel::handover::exists(netlink)? {
        return kernel::handover::load(netlink, desired);
    }
    kernel::handover::refill(netlink, desired).or_else(|error| {
        let error = crate::error_chain(&error);
        tracing::warn!(error, "the table that hands over can't be filled anew, and is replaced");
        kernel::handover::load(netlink, desired)
    })
}

/// The table that a plane needs, where there is a link to hand over by.
fn wanted(
    network: &mut Network,
    snapshot: &Snapshot,
    plane: &Dataplane,
) -> Result<Option<State>, OpError> {
    if !plane.iter().any(|(_, service)| service.spread.is_some()) {
        return Ok(None);
    }
    let own = snapshot.this_node().into_iter().flat_map(|n| n.addresses.iter().copied());
    let links = network.links_with(&own.collect())?;
    let Some(link) = links.first() else { return Ok(None) };
    let layout = Layout::of(snapshot, link, &network.networks_of(link)?);
    Ok(handover::desired(layout, plane))
}

fn repair(op: &Op) -> Repair {
    let (key, how) = match op {
        Op::Delete(key, _) => (key, "added or changed"),
        Op::Add(key, _) => (key, "deleted"),
    };
    Repair::new(Object::Element, format!("{} was {how}", element(key)))
}
