//! A cheap look, twice a second, for what the kernel sends no notice of: IPVS and kernel settings.
//!
//! What an audit costs does not grow with the number of Services: the kernel's own count of virtual
//! servers of IPv4 tells of any that went or came; those that were edited, and those of IPv6 that
//! went, are found by looking at as many as a hundredth of the time allows, in turn. What drains is
//! looked at first, and goes when its last connection has ended.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::{Duration, Instant};

use netmodel::address::{Backend, Frontend};
use netmodel::dataplane::Touched;
use netmodel::ipvs;
use netmodel::repair::{Object, Repair, summary};
use netmodel::snapshot::Snapshot;

use super::servers::{Balancer, Idle};
use super::{Changes, Executor, Report};
use crate::kernel::{OpError, monitor, sysctl};

/// Time for looking at virtual servers in one audit, besides those that drain: a hundredth of what
/// passes between two. The kernel has no cheaper way to read them: it sends no notice of a change,
/// and the list of servers has no destinations in it, which must be asked for one by one.
const BUDGET: Duration = Duration::from_millis(5);
/// Virtual servers looked at in any case.
const SHARE: usize = 32;
/// Draining destinations looked at in one audit, in turn.
const DRAINING: usize = 64;

impl Executor {
    /// Looks, cheaply, for what the kernel sends no notice of, and puts back what another hand
    /// changed. To be called twice a second.
    pub fn audit(&mut self, snapshot: &Snapshot) -> Report {
        let mut report = Report::default();
        if self.layout.is_none() {
            // The next look is a full one anyway.
            return report;
        }
        self.audit_settings(&mut report);
        let retires =
            |balancer: &mut Balancer| balancer.serves_until.is_some() && !balancer.serves_on();
        if self.balancer.as_mut().is_some_and(retires) {
            report.add(self.sync(snapshot, Changes::All));
            return report;
        }
        match self.audit_servers() {
            Ok(Audited { intact: false, .. }) => {
                report.add(self.sync(snapshot, Changes::All));
            }
            Ok(Audited { idle, .. }) => self.sweep(snapshot, &idle, &mut report),
            Err(error) => report.failures.push(error),
        }
        report.repaired = summary(std::mem::take(&mut report.repaired));
        report
    }

    fn audit_settings(&self, report: &mut Report) {
        for setting in self.settings.iter().filter(|setting| sysctl::exists(&setting.name)) {
            match sysctl::set(&setting.name, setting.value) {
                Ok(None) => {}
                Ok(Some(was)) => {
                    let what = format!("{} was set to {was}", setting.name);
                    report.writes += 1;
                    report.repaired.push(Repair::new(Object::Setting, what));
                }
                Err(error) => report.failures.push(error),
            }
        }
    }

    fn audit_servers(&mut self) -> Result<Audited, OpError> {
        let Some(balancer) = &mut self.balancer else { return Ok(Audited::nothing()) };
        let ours = balancer.have.servers.keys().filter(|f| f.addr.is_ipv4()).count();
        // A kernel that can't tell is audited by the shares alone.
        let intact = monitor::virtual_servers().is_none_or(|n| n == ours + balancer.foreign);
        if !intact {
            return Ok(Audited { intact, ..Audited::nothing() });
        }
        let intact = balancer.audit_share()?;
        let idle = if intact { balancer.idle()? } else { Idle::new() };
        Ok(Audited { intact, idle })
    }

    /// Removes what has drained.
    fn sweep(&mut self, snapshot: &Snapshot, idle: &Idle, report: &mut Report) {
        let (Some(balancer), false) = (&self.balancer, idle.is_empty()) else { return };
        let layout = self.layout_of(snapshot);
        let ops = ipvs::sweep(&layout, &self.plane, &balancer.have, idle);
        let frontends = idle.iter().map(|(frontend, _)| *frontend).collect();
        let touched = Touched { frontends, ..Touched::default() };
        let lost = self.change(&layout, &touched, &ops, report);
        self.forget(&lost, report);
        self.retire_balancer(report);
    }
}

/// What an audit of virtual servers found.
struct Audited {
    /// Nobody else changed them, as far as was looked.
    intact: bool,
    /// Retired destinations whose last connection has ended.
    idle: Idle,
}

impl Audited {
    fn nothing() -> Self {
        Self { intact: true, idle: Idle::new() }
    }
}

impl Balancer {
    /// Compares the next few servers with what they should be.
    fn audit_share(&mut self) -> Result<bool, OpError> {
        let from = self.audited.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.have.servers.range((from, Bound::Unbounded));
        let start = Instant::now();
        self.audited = None;
        for (place, (frontend, left)) in rest.enumerate() {
            if place >= SHARE && start.elapsed() > BUDGET {
                return Ok(true);
            }
            self.audited = Some(*frontend);
            let Some(mut found) = self.kernel.server(*frontend)? else { return Ok(false) };
            let destinations = self.kernel.destinations(*frontend)?;
            found.destinations = destinations.iter().map(|d| (d.backend, d.weight)).collect();
            if found != *left {
                return Ok(false);
            }
        }
        // The next audit begins anew.
        self.audited = None;
        Ok(true)
    }

    /// Some of the retired destinations that no connection is bound to any more.
    fn idle(&mut self) -> Result<Idle, OpError> {
        let after = |place: &(Frontend, Backend)| self.swept.is_none_or(|last| *place > last);
        let retired: Vec<_> = self.have.retired().filter(after).take(DRAINING).collect();
        self.swept = retired.last().copied().filter(|_| retired.len() == DRAINING);
        let mut found = BTreeMap::new();
        for (frontend, _) in &retired {
            if !found.contains_key(frontend) {
                found.insert(*frontend, self.kernel.destinations(*frontend)?);
            }
        }
        let is_idle = |(frontend, backend): &(Frontend, _)| {
            found[frontend].iter().any(|d| d.backend == *backend && d.connections == 0)
        };
        Ok(retired.into_iter().filter(is_idle).collect())
    }
}
