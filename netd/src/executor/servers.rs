//! The part of the executor that balances with IPVS: what it is known to hold, and changes that
//! fail for one Service without failing for the others.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Instant;

use netmodel::address::{Backend, Frontend};
use netmodel::dataplane::Dataplane;
use netmodel::ipvs::{self, DEFAULT_SCHEDULER, Op, Programmed, Schedulers, Server};
use netmodel::nft::Layout;
use netmodel::problem::{Cause, Problem};

use super::{Report, VIP_LINK};
use crate::kernel::ipvs::Ipvs;
use crate::kernel::route::Network;
use crate::kernel::{OpError, failed, sysctl};

/// Seconds for which IPVS remembers an idle TCP connection unless it is told otherwise.
pub(super) const IPVS_DEFAULT: u32 = 900;

/// Destinations that no connection is bound to.
pub(super) type Idle = BTreeSet<(Frontend, Backend)>;

#[derive(Debug)]
pub(super) struct Balancer {
    pub(super) kernel: Ipvs,
    /// What IPVS and the link of virtual addresses hold of ours.
    pub(super) have: Programmed,
    /// Which schedulers turned out to be missing, and which is the default.
    pub(super) schedulers: Schedulers,
    /// Virtual servers of others, IPv4 only.
    pub(super) foreign: usize,
    /// The last server that an audit looked at.
    pub(super) audited: Option<Frontend>,
    /// The last draining destination that an audit looked at.
    pub(super) swept: Option<(Frontend, Backend)>,
    /// After a switch to nftables: until when connections that were asked for before are taken.
    pub(super) serves_until: Option<Instant>,
}

impl Balancer {
    pub(super) fn open() -> Result<Self, OpError> {
        Ok(Self {
            kernel: Ipvs::open().map_err(failed("find IPVS in the kernel"))?,
            have: Programmed::default(),
            schedulers: Schedulers::default(),
            foreign: 0,
            audited: None,
            swept: None,
            serves_until: None,
        })
    }

    /// Reads what the kernel holds; returns the retired destinations without connections. What was
    /// `left` there is ours whatever it looks like now: a server at the node's own address that
    /// drains, after the Service that named that address went.
    pub(super) fn observe(
        &mut self,
        network: &mut Network,
        layout: &Layout,
        node_ports: &RangeInclusive<u16>,
        plane: &Dataplane,
        left: &Programmed,
    ) -> Result<Idle, OpError> {
        let addresses = network.addresses(VIP_LINK)?;
        let (mut servers, connections) = self.kernel.servers()?;
        let all = servers.keys().filter(|f| f.addr.is_ipv4()).count();
        servers.retain(|f, _| {
            left.servers.contains_key(f)
                || ipvs::is_ours(f, &addresses, &layout.own, node_ports, plane)
        });
        self.foreign = all - servers.keys().filter(|f| f.addr.is_ipv4()).count();
        self.have = Programmed { servers, addresses };
        self.schedulers.default.clone_from(&layout.schedulers.default);
        // A module that was loaded since is a scheduler that can be had now.
        let is_there = |name: &str| std::path::Path::new("/sys/module").join(name).exists();
        self.schedulers.missing.retain(|name| !is_there(&format!("ip_vs_{name}")));
        Ok(self.have.retired().filter(|place| connections.get(place) == Some(&0)).collect())
    }

    /// Lets IPVS remember an idle connection for as long as the connection tracker does: with its
    /// own quarter of an hour, a long silence would end it.
    pub(super) fn outlast_silence(&mut self, report: &mut Report) -> Result<(), OpError> {
        let wanted = tracker_patience();
        if self.kernel.tcp_timeout()? != wanted {
            self.kernel.set_tcp_timeout(wanted)?;
            report.writes += 1;
        }
        Ok(())
    }

    /// Makes changes of servers and addresses; returns what was refused.
    ///
    /// # Errors
    /// When the kernel can't be asked at all.
    pub(super) fn execute(
        &mut self,
        network: &mut Network,
        ops: &[Op],
        report: &mut Report,
    ) -> Result<Vec<(Option<Frontend>, OpError)>, OpError> {
        let mut refused = Vec::new();
        let mut done = Vec::with_capacity(ops.len());
        for op in ops.iter().filter(|op| matches!(op, Op::Release(_))) {
            address(network, op, &mut done, &mut refused);
        }
        let mut failures = self.kernel.execute(ops)?;
        let without = self.without_scheduler(ops, &failures);
        failures.retain(|(place, _)| ops[*place].frontend().is_none_or(|f| !without.contains(&f)));
        let bad: BTreeSet<usize> = failures.iter().map(|(place, _)| *place).collect();
        let of_server = |op: &Op| op.frontend().is_some_and(|f| !without.contains(&f));
        done.extend(
            ops.iter()
                .enumerate()
                .filter(|(place, op)| of_server(op) && !bad.contains(place))
                .map(|(_, op)| op.clone()),
        );
        refused.extend(failures.into_iter().map(|(place, e)| (ops[place].frontend(), e)));
        self.execute_by_default(ops, &without, &mut done, &mut refused)?;
        for op in ops.iter().filter(|op| matches!(op, Op::Bind(_))) {
            address(network, op, &mut done, &mut refused);
        }
        report.writes += done.len();
        ipvs::apply(&mut self.have, &done);
        Ok(refused)
    }

    /// The frontends whose scheduler the kernel does not have, which is remembered.
    fn without_scheduler(
        &mut self,
        ops: &[Op],
        failures: &[(usize, OpError)],
    ) -> BTreeSet<Frontend> {
        let mut out = BTreeSet::new();
        for (place, error) in failures {
            let missing = error.source.raw_os_error() == Some(libc::ENOENT);
            if let (true, Op::AddServer(f, server) | Op::SetServer(f, server)) =
                (missing, &ops[*place])
                && *server.scheduler != *DEFAULT_SCHEDULER
            {
                self.schedulers.missing.insert(server.scheduler.clone());
                out.insert(*f);
            }
        }
        out
    }

    /// The changes of some frontends once more, with the scheduler that everybody gets.
    fn execute_by_default(
        &mut self,
        ops: &[Op],
        frontends: &BTreeSet<Frontend>,
        done: &mut Vec<Op>,
        refused: &mut Vec<(Option<Frontend>, OpError)>,
    ) -> Result<(), OpError> {
        let scheduler = self.schedulers.choose(None);
        let by_default =
            |server: &Server| Server { scheduler: scheduler.clone(), ..server.clone() };
        let again: Vec<Op> = ops
            .iter()
            .filter(|op| op.frontend().is_some_and(|f| frontends.contains(&f)))
            .map(|op| match op {
                Op::AddServer(f, server) => Op::AddServer(*f, by_default(server)),
                Op::SetServer(f, server) => Op::SetServer(*f, by_default(server)),
                other => other.clone(),
            })
            .collect();
        let failures = self.kernel.execute(&again)?;
        let bad: BTreeSet<usize> = failures.iter().map(|(place, _)| *place).collect();
        refused.extend(failures.into_iter().map(|(place, e)| (again[place].frontend(), e)));
        let good = again.into_iter().enumerate().filter(|(place, _)| !bad.contains(place));
        done.extend(good.map(|(_, op)| op));
        Ok(())
    }

    /// Are connections still taken, although another engine took over?
    pub(super) fn serves_on(&mut self) -> bool {
        self.serves_until = self.serves_until.filter(|end| Instant::now() < *end);
        self.serves_until.is_some()
    }

    /// Leaves IPVS as it is where nobody uses it.
    pub(super) fn close(mut self) -> Result<(), OpError> {
        self.kernel.set_tcp_timeout(IPVS_DEFAULT)
    }

    /// Is nothing of ours left?
    pub(super) fn is_empty(&self) -> bool {
        self.have.servers.is_empty() && self.have.addresses.is_empty()
    }

    /// The Services whose scheduler the kernel does not have.
    pub(super) fn problems(&self, plane: &Dataplane) -> Vec<Problem> {
        if self.schedulers.missing.is_empty() {
            return Vec::new();
        }
        let problem = |service: &netmodel::service::VirtualService| {
            let name = service.scheduler.clone().filter(|s| self.schedulers.missing.contains(s))?;
            let cause = Cause::SchedulerMissing { name, used: self.schedulers.choose(None) };
            Some(Problem { owner: service.owner.clone(), cause })
        };
        plane.iter().filter_map(|(_, service)| problem(service)).collect()
    }
}

/// Seconds for which the connection tracker remembers an idle TCP connection.
pub(super) fn tracker_patience() -> u32 {
    /// What the kernel starts with.
    const DEFAULT: u32 = 432_000;
    let setting = sysctl::get("net.netfilter.nf_conntrack_tcp_timeout_established");
    setting.and_then(|seconds| seconds.parse().ok()).unwrap_or(DEFAULT)
}

/// Binds or releases a virtual address.
fn address(
    network: &mut Network,
    op: &Op,
    done: &mut Vec<Op>,
    refused: &mut Vec<(Option<Frontend>, OpError)>,
) {
    let result = match op {
        Op::Bind(addr) => network.bind(VIP_LINK, *addr),
        Op::Release(addr) => network.release(VIP_LINK, *addr),
        _ => return,
    };
    match result {
        Ok(()) => done.push(op.clone()),
        Err(error) => refused.push((None, error)),
    }
}
