//! Keeps this node's kernel equal to a snapshot of the cluster.
//!
//! Blocking and free of Kubernetes: takes snapshots, asks `netmodel` for plans, and has
//! [`crate::kernel`] make the changes. Guarantees: a change of some Services costs no more than
//! those Services; a full look compares with what the kernel really has; nothing is written when
//! nothing differs; a step that failed for one Service fails for no other, and any other failure
//! makes the next look a full one.

mod audit;
mod cleanup;
mod handover;
mod inspect;
mod locals;
mod machine;
mod memory;
mod servers;
mod table;
mod trace;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use netmodel::address::{Frontend, Protocol};
use netmodel::dataplane::{Dataplane, Touched};
use netmodel::ipvs;
use netmodel::nft::{self, Engine, Layout};
use netmodel::problem::{Cause, Problem};
use netmodel::repair::{Repair, summary};
use netmodel::route::Routes;
use netmodel::snapshot::{ServiceName, Snapshot};

use self::memory::Lost;
use self::servers::Balancer;
use self::table::TableSide;
use crate::kernel::conntrack::Tracker;
use crate::kernel::route::Network;
use crate::kernel::{OpError, sysctl};
use crate::settings::Setting;

pub use cleanup::clean_up;

/// The link that holds virtual addresses in IPVS mode.
pub const VIP_LINK: &str = "mini-ipvs0";

/// The link that holds the addresses of Services that a process of each node answers.
pub(crate) const LOCAL_LINK: &str = "mini-local0";

/// How long IPVS goes on taking connections after nftables took over. Those that it was asked for
/// before are its own for ever, also when nobody has answered yet and the client asks again: TCP
/// does after one second, and after three.
const ASKED_AGAIN: Duration = Duration::from_secs(4);

/// What changed since the last call.
#[derive(Clone, Copy, Debug)]
pub enum Changes<'a> {
    /// Unknown: compare everything with the kernel.
    All,
    /// These Services or their endpoints, and nothing else.
    Services(&'a BTreeSet<ServiceName>),
    /// Nothing in the cluster, but perhaps routes, addresses or settings of this node.
    Network,
    /// Which other nodes are silent, and nothing else.
    Silence,
}

/// What one look did.
#[derive(Debug, Default)]
pub struct Report {
    /// Changes made in the kernel.
    pub writes: usize,
    /// Stale connections forgotten.
    pub forgotten: usize,
    /// What another hand had changed and was put back.
    pub repaired: Vec<Repair>,
    /// Steps that failed. Those that concern one Service are among [`Executor::problems`], too.
    pub failures: Vec<OpError>,
    /// The kernel could not be brought to the Services as a whole. Any other failure concerns one
    /// of them, or the node's own routes and settings, and keeps nobody else waiting.
    pub stuck: bool,
}

impl Report {
    /// Adds what another look did.
    pub(crate) fn add(&mut self, other: Self) {
        self.writes += other.writes;
        self.forgotten += other.forgotten;
        self.repaired.extend(other.repaired);
        self.failures.extend(other.failures);
        self.stuck |= other.stuck;
    }
}

/// The kernel's side of the data plane.
#[derive(Debug)]
pub struct Executor {
    engine: Engine,
    plane: Dataplane,
    /// The layout that the kernel is known to have; none when it must be looked at.
    layout: Option<Layout>,
    table: TableSide,
    /// There with IPVS, and after it while its connections drain.
    balancer: Option<Balancer>,
    network: Network,
    tracker: Tracker,
    /// What is bound to [`LOCAL_LINK`].
    locals: BTreeSet<IpAddr>,
    /// The table that hands over, as it was left, while there is one.
    hand_over: Option<netmodel::handover::State>,
    /// The routes and settings as they were left.
    routes: Routes,
    settings: Vec<Setting>,
    /// What the kernel refused, by frontend.
    refused: BTreeMap<Frontend, Cause>,
}

impl Executor {
    /// Opens all sockets in the calling thread's network namespace.
    ///
    /// # Errors
    /// When a socket can't be opened, or `engine` is IPVS and the kernel has none.
    pub fn open(engine: Engine) -> Result<Self, OpError> {
        let balancer = match engine {
            Engine::Nftables => None,
            Engine::Ipvs => Some(Balancer::open()?),
        };
        Ok(Self {
            engine,
            plane: Dataplane::lacking(missing_protocols()),
            layout: None,
            table: TableSide::open()?,
            balancer,
            network: Network::open()?,
            tracker: Tracker::open()?,
            locals: BTreeSet::new(),
            hand_over: None,
            routes: Routes::new(),
            settings: Vec::new(),
            refused: BTreeMap::new(),
        })
    }

    /// The engine that translates addresses.
    #[must_use]
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// The data plane as last programmed.
    #[must_use]
    pub fn plane(&self) -> &Dataplane {
        &self.plane
    }

    /// Lets another engine translate from the next [`Executor::sync`] on, without dropping
    /// established connections. The engine in use stays when the kernel has not the wanted one.
    ///
    /// # Errors
    /// When `engine` is IPVS and the kernel has none.
    pub fn switch(&mut self, engine: Engine) -> Result<(), OpError> {
        if engine == self.engine {
            return Ok(());
        }
        if engine == Engine::Ipvs && self.balancer.is_none() {
            self.balancer = Some(Balancer::open()?);
        }
        self.engine = engine;
        self.layout = None;
        if let Some(balancer) = &mut self.balancer {
            balancer.serves_until = retirement(engine);
        }
        Ok(())
    }

    /// What can't be honoured of the Services as last seen, by Service.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut out = self.plane.problems();
        if self.engine == Engine::Nftables {
            out.retain(|problem| !matches!(problem.cause, Cause::UnknownScheduler { .. }));
        } else if let Some(balancer) = &self.balancer {
            out.extend(balancer.problems(&self.plane));
        }
        for (frontend, cause) in &self.refused {
            if let Some(service) = self.plane.get(frontend) {
                out.push(Problem { owner: service.owner.clone(), cause: cause.clone() });
            }
        }
        out.sort_unstable();
        out.dedup();
        out
    }

    /// The netlink port by which notifications of own changes to the table are known.
    pub(crate) fn table_port(&self) -> u32 {
        self.table.kernel.port()
    }

    /// Brings the kernel to the snapshot.
    pub fn sync(&mut self, snapshot: &Snapshot, changes: Changes<'_>) -> Report {
        let layout = self.layout_of(snapshot);
        let mut report = Report::default();
        let unchanged = self.layout.as_ref() == Some(&layout) && self.table.known.is_some();
        let lost = match changes {
            Changes::Services(names) if unchanged => {
                self.sync_services(snapshot, names, &layout, &mut report)
            }
            Changes::Silence if unchanged => {
                self.sync_silence(snapshot, &mut report);
                Lost::default()
            }
            Changes::Network if unchanged && self.addresses_are_whole() => {
                self.sync_settings(&layout, &mut report);
                self.bind_locals(snapshot, &layout, &mut report);
                self.sync_hand_over(snapshot, &mut report);
                self.sync_routes(snapshot, &mut report);
                Lost::default()
            }
            _ => self.sync_all(snapshot, layout, unchanged, &mut report),
        };
        self.forget(&lost, &mut report);
        report.repaired = summary(std::mem::take(&mut report.repaired));
        report
    }

    fn layout_of(&self, snapshot: &Snapshot) -> Layout {
        let mut layout = Layout::of(snapshot, self.engine);
        if let Some(balancer) = &self.balancer {
            layout.schedulers.missing.clone_from(&balancer.schedulers.missing);
        }
        layout
    }

    fn sync_services(
        &mut self,
        snapshot: &Snapshot,
        names: &BTreeSet<ServiceName>,
        layout: &Layout,
        report: &mut Report,
    ) -> Lost {
        let touched = self.plane.refresh(snapshot, names);
        let ops = match &self.balancer {
            None => Vec::new(),
            Some(balancer) => ipvs::plan(layout, &self.plane, &balancer.have, Some(&touched)),
        };
        let concerns_locals = self.concerns_locals(&touched.frontends);
        if concerns_locals {
            self.release_locals(snapshot, layout, report);
        }
        let lost = self.change(layout, &touched, &ops, report);
        if concerns_locals && !report.stuck {
            self.bind_locals(snapshot, layout, report);
        }
        self.sync_hand_over_of(snapshot, &touched, report);
        lost
    }

    /// Makes changes of servers and addresses, and those of the table that go with them and with a
    /// change of the plane.
    fn change(
        &mut self,
        layout: &Layout,
        touched: &Touched,
        server_ops: &[ipvs::Op],
        report: &mut Report,
    ) -> Lost {
        let Some(known) = &self.table.known else { return Lost::default() };
        let addresses: BTreeSet<IpAddr> = touched.frontends.iter().map(|f| f.addr).collect();
        let draining = self.balancer.as_ref().map_or_else(BTreeSet::new, |balancer| {
            balancer.have.draining_after(server_ops, addresses, &self.plane)
        });
        let table_ops = nft::plan(layout, known, &self.plane, touched, &draining);
        let lost = Lost::by(&table_ops, server_ops, &known.elements);
        self.refused.retain(|frontend, _| !touched.frontends.contains(frontend));
        let (before, after) = match self.balancer {
            None => (table_ops, Vec::new()),
            Some(_) => ipvs::phases(table_ops),
        };
        self.write_table(&before, report);
        self.write_servers(server_ops, report);
        self.write_table(&after, report);
        lost
    }

    fn sync_all(
        &mut self,
        snapshot: &Snapshot,
        layout: Layout,
        unchanged: bool,
        report: &mut Report,
    ) -> Lost {
        let is_udp = |f: &Frontend| f.protocol == Protocol::Udp;
        let mut udp: BTreeSet<Frontend> =
            self.plane.iter().map(|(f, _)| *f).filter(is_udp).collect();
        // A module that was missing may have been loaded since.
        self.plane = Dataplane::lacking(missing_protocols()).anew(snapshot);
        udp.extend(self.plane.iter().map(|(f, _)| *f).filter(is_udp));
        self.refused.clear();
        self.sync_settings(&layout, report);
        self.release_locals(snapshot, &layout, report);
        // Before the changes: one that fails as a whole takes it back.
        self.layout = Some(layout.clone());
        if let Err(error) = self.sync_kernel(snapshot, &layout, unchanged, report) {
            self.table.known = None;
            report.stuck = true;
            report.failures.push(error);
        }
        // Where the table does not close their other ports, addresses are not bound.
        if !report.stuck {
            self.bind_locals(snapshot, &layout, report);
        }
        self.sync_hand_over(snapshot, report);
        self.sync_routes(snapshot, report);
        // What was lost while nobody looked is not known: look at everything.
        Lost { udp, sticky: true }
    }

    fn addresses_are_whole(&mut self) -> bool {
        let Some(balancer) = &self.balancer else { return true };
        self.network.addresses(VIP_LINK).is_ok_and(|bound| bound == balancer.have.addresses)
    }

    /// Compares everything with the kernel. `unchanged` when what differs from what was left is
    /// another hand's doing.
    fn sync_kernel(
        &mut self,
        snapshot: &Snapshot,
        layout: &Layout,
        unchanged: bool,
        report: &mut Report,
    ) -> Result<(), OpError> {
        let server_ops = self.plan_servers(snapshot, layout, unchanged, report)?;
        let draining = self.balancer.as_ref().map_or_else(BTreeSet::new, |balancer| {
            let bound = balancer.have.addresses.iter().copied();
            balancer.have.draining_after(&server_ops, bound, &self.plane)
        });
        let mut desired = nft::State::desired(layout, &self.plane, &draining);
        if let Some(balancer) = self.balancer.as_ref().filter(|b| b.serves_until.is_some()) {
            desired.let_in(balancer.have.taking(), &self.plane);
        }
        // What is to be changed anyway; what was left is not needed beside what is found.
        let left = self.table.known.take().filter(|_| unchanged);
        let own = left.map(|left| nft::diff(Some(&left), &desired));
        self.table.known = self.table.kernel.observe(&desired)?;
        let table_ops = nft::diff(self.table.known.as_ref(), &desired);
        if let Some(own) = own {
            report.repaired.extend(nft::repairs::repairs(&own, &table_ops, &self.plane));
        }
        match &self.table.known {
            Some(_) => {
                drop(desired);
                let (before, after) = ipvs::phases(table_ops);
                self.write_table(&before, report);
                self.write_servers(&server_ops, report);
                self.write_table(&after, report);
            }
            None => self.replace_table(layout, desired, &draining, &server_ops, report)?,
        }
        self.retire_balancer(report);
        Ok(())
    }

    fn plan_servers(
        &mut self,
        snapshot: &Snapshot,
        layout: &Layout,
        unchanged: bool,
        report: &mut Report,
    ) -> Result<Vec<ipvs::Op>, OpError> {
        if self.balancer.is_none() && self.network.has_link(VIP_LINK) {
            // What IPVS left when it was the engine. Without IPVS in the kernel, the link is all.
            match Balancer::open() {
                Ok(balancer) => {
                    let serves_until = retirement(self.engine);
                    self.balancer = Some(Balancer { serves_until, ..balancer });
                }
                Err(_) => self.network.delete_link(VIP_LINK)?,
            }
        }
        let Some(balancer) = &mut self.balancer else { return Ok(Vec::new()) };
        if layout.engine == Engine::Ipvs {
            self.network.ensure_address_link(VIP_LINK)?;
            let failure = balancer.outlast_silence(report).err();
            report.failures.extend(failure);
        }
        let left = std::mem::take(&mut balancer.have);
        let node_ports = &snapshot.settings.node_ports;
        let idle = balancer.observe(&mut self.network, layout, node_ports, &self.plane, &left)?;
        if unchanged {
            let repairs = ipvs::repairs::repairs(&left, &balancer.have, &self.plane);
            report.repaired.extend(repairs);
        }
        let mut ops = match balancer.serves_on() {
            true => Vec::new(),
            false => ipvs::plan(layout, &self.plane, &balancer.have, None),
        };
        ops.extend(ipvs::sweep(layout, &self.plane, &balancer.have, &idle));
        Ok(ops)
    }

    /// Writes the table anew. Where the other engine's table serves, it does so until this one is
    /// complete: before IPVS takes over, its servers and addresses are there, and the old table
    /// closes those addresses' other ports.
    fn replace_table(
        &mut self,
        layout: &Layout,
        desired: nft::State,
        draining: &BTreeSet<IpAddr>,
        server_ops: &[ipvs::Op],
        report: &mut Report,
    ) -> Result<(), OpError> {
        let plane = &self.plane;
        if layout.engine == Engine::Ipvs {
            let other = Layout { engine: Engine::Nftables, ..layout.clone() };
            let serving = nft::State::desired(&other, plane, draining);
            self.table.known = self.table.kernel.observe(&serving)?;
            if let Some(known) = &self.table.known {
                let ops = nft::diff(Some(known), &serving);
                self.write_table(&ops, report);
                self.write_servers(server_ops, report);
            }
        }
        let is_served = self.table.known.is_some();
        let refused = self.table.replace(desired, report)?;
        self.note_refused(refused, report);
        // From now on, nobody new is sent there.
        if let Some(balancer) = self.balancer.as_mut().filter(|b| b.serves_until.is_some()) {
            balancer.serves_until = retirement(layout.engine);
        }
        if !is_served {
            self.write_servers(server_ops, report);
        }
        Ok(())
    }

    /// After a switch to nftables: IPVS is done with when its last connection has ended.
    fn retire_balancer(&mut self, report: &mut Report) {
        let done = self.engine == Engine::Nftables
            && self.balancer.as_ref().is_some_and(Balancer::is_empty);
        if done {
            let timeout = self.balancer.take().map(Balancer::close);
            report.failures.extend(timeout.and_then(Result::err));
            report.failures.extend(self.network.delete_link(VIP_LINK).err());
        }
    }

    fn write_table(&mut self, ops: &[nft::Op], report: &mut Report) {
        match self.table.execute(ops, report) {
            Ok(refused) => self.note_refused(refused, report),
            Err(error) => {
                report.stuck = true;
                report.failures.push(error);
            }
        }
    }

    fn write_servers(&mut self, ops: &[ipvs::Op], report: &mut Report) {
        let Some(balancer) = self.balancer.as_mut().filter(|_| !ops.is_empty()) else { return };
        match balancer.execute(&mut self.network, ops, report) {
            Ok(refused) => {
                for (frontend, error) in refused {
                    self.refused.extend(frontend.map(|f| (f, cause(&error))));
                    report.failures.push(error);
                }
            }
            Err(error) => {
                self.layout = None;
                report.stuck = true;
                report.failures.push(error);
            }
        }
    }
}

/// When IPVS is to stop taking connections, if `engine` takes its place now.
fn retirement(engine: Engine) -> Option<Instant> {
    (engine == Engine::Nftables).then(|| Instant::now() + ASKED_AGAIN)
}

fn cause(error: &OpError) -> Cause {
    Cause::Kernel { step: error.op.clone(), error: error.source.to_string() }
}

/// Protocols whose connections this kernel does not follow.
fn missing_protocols() -> BTreeSet<Protocol> {
    let sctp = "net.netfilter.nf_conntrack_sctp_timeout_established";
    // Where conntrack is not loaded yet, nothing can be told: then the protocol counts as there.
    let tcp = "net.netfilter.nf_conntrack_tcp_timeout_established";
    let lacks_sctp = sysctl::exists(tcp) && !sysctl::exists(sctp);
    lacks_sctp.then_some(Protocol::Sctp).into_iter().collect()
}
