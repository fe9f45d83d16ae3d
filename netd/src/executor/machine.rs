//! Routes and settings of the node, compared with what they were left as.

use netmodel::nft::Layout;
use netmodel::repair::{Object, Repair};
use netmodel::route::{RouteOp, Routes, Via, desired_routes, diff_routes};
use netmodel::snapshot::Snapshot;

use super::{Executor, LOCAL_LINK, Report, VIP_LINK};
use crate::kernel::sysctl;
use crate::settings;

impl Executor {
    pub(super) fn sync_settings(&mut self, layout: &Layout, report: &mut Report) {
        let found = self.network.bridges().and_then(|bridges| {
            let ours = [LOCAL_LINK, VIP_LINK, &*layout.bridge];
            let alone = bridges.iter().all(|name| ours.contains(&&**name));
            Ok((alone, self.network.links_with(&layout.own)?))
        });
        let (alone, links) = match found {
            Ok(found) => found,
            Err(error) => return report.failures.push(error),
        };
        let wanted = settings::wanted(layout, alone, &links);
        let left = std::mem::replace(&mut self.settings, wanted);
        for setting in &self.settings {
            match sysctl::set(&setting.name, setting.value) {
                Ok(None) => {}
                Ok(Some(was)) => {
                    report.writes += 1;
                    if left.contains(setting) {
                        let what = format!("{} was set to {was}", setting.name);
                        report.repaired.push(Repair::new(Object::Setting, what));
                    }
                }
                Err(error) => report.failures.push(error),
            }
        }
    }

    pub(super) fn sync_routes(&mut self, snapshot: &Snapshot, report: &mut Report) {
        let bridge = &snapshot.settings.bridge;
        let observed = match self.network.routes(bridge) {
            Ok(routes) => routes,
            Err(error) => return report.failures.push(error),
        };
        let mut desired = desired_routes(snapshot);
        let left = std::mem::take(&mut self.routes);
        if !self.network.has_link(bridge) {
            // Whoever makes the bridge is not there yet, or makes it anew: that it comes is noticed.
            let waiting = desired.extract_if(.., |_, via| *via == Via::Bridge);
            self.routes = waiting.filter(|(net, via)| left.get(net) == Some(via)).collect();
        }
        for op in diff_routes(&observed, &desired) {
            match self.network.change_route(&op, already_there(&observed, &op), bridge) {
                Ok(()) => {
                    report.writes += 1;
                    report.repaired.extend(repair(&left, &op));
                }
                Err(error) => report.failures.push(error),
            }
        }
        self.routes.append(&mut desired);
    }
}

fn already_there(observed: &Routes, op: &RouteOp) -> bool {
    match op {
        RouteOp::Set(net, _) | RouteOp::Delete(net) => observed.contains_key(net),
    }
}

/// Was the route as `op` makes it when it was left?
fn repair(left: &Routes, op: &RouteOp) -> Option<Repair> {
    match op {
        RouteOp::Set(net, via) if left.get(net) == Some(via) => {
            Some(Repair::new(Object::Route, format!("{net} was deleted or changed")))
        }
        _ => None,
    }
}
