//! Keeps this node's kernel equal to a snapshot of the cluster.
//!
//! Blocking and free of Kubernetes: takes snapshots, asks `netmodel` for plans, and has
//! [`crate::kernel`] make the changes. Guarantees: a change of some Services costs no more than
//! those Services; a full look compares with what the kernel really has; nothing is written when
//! nothing differs; a failed step is reported, and makes the next look a full one.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use netmodel::address::{Family, Frontend, Protocol};
use netmodel::conntrack::{is_stale, is_stale_affinity};
use netmodel::dataplane::Dataplane;
use netmodel::inspect::Inspection;
use netmodel::ipvs::{self, Servers};
use netmodel::nft::{self, Engine, Item, Layout};
use netmodel::problem::Problem;
use netmodel::repair::Repair;
use netmodel::route::{RouteOp, Routes, desired_routes, diff_routes};
use netmodel::snapshot::{ServiceName, Snapshot};

use crate::kernel::conntrack::Tracker;
use crate::kernel::nft::Table;
use crate::kernel::route::Network;
use crate::kernel::{OpError, failed, ipvs as ipvs_kernel, sysctl};
use crate::settings;

/// The link that holds virtual addresses in IPVS mode.
pub const VIP_LINK: &str = "mini-ipvs0";

/// What changed since the last call.
#[derive(Clone, Copy, Debug)]
pub enum Changes<'a> {
    /// Unknown: compare everything with the kernel.
    All,
    /// These Services or their endpoints, and nothing else.
    Services(&'a BTreeSet<ServiceName>),
    /// Nothing in the cluster, but perhaps routes, addresses or settings of this node.
    Network,
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
    /// Steps that failed.
    pub failures: Vec<OpError>,
}

impl Report {
    /// Adds what another look did.
    pub(crate) fn add(&mut self, other: Self) {
        self.writes += other.writes;
        self.forgotten += other.forgotten;
        self.repaired.extend(other.repaired);
        self.failures.extend(other.failures);
    }
}

/// The kernel's side of the data plane.
#[derive(Debug)]
pub struct Executor {
    engine: Engine,
    plane: Dataplane,
    /// The layout that the table is known to have; none when the kernel must be looked at.
    layout: Option<Layout>,
    table: TableSide,
    ipvs: Option<IpvsSide>,
    network: Network,
    tracker: Tracker,
}

#[derive(Debug)]
struct TableSide {
    kernel: Table,
    known: Option<nft::State>,
}

#[derive(Debug)]
struct IpvsSide {
    kernel: ipvs_kernel::Ipvs,
    servers: Servers,
    addresses: BTreeSet<IpAddr>,
    /// Destinations without connections, as of the last full look.
    idle: ipvs_kernel::Idle,
}

impl Executor {
    /// Opens all sockets in the calling thread's network namespace.
    ///
    /// # Errors
    /// When a socket can't be opened, or `engine` is IPVS and the kernel has none.
    pub fn open(engine: Engine) -> Result<Self, OpError> {
        let ipvs = IpvsSide::open(engine)?;
        Ok(Self {
            engine,
            plane: Dataplane::default(),
            layout: None,
            table: TableSide { kernel: Table::open()?, known: None },
            ipvs,
            network: Network::open()?,
            tracker: Tracker::open()?,
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
        let ipvs = IpvsSide::open(engine)?;
        self.engine = engine;
        self.ipvs = ipvs;
        self.layout = None;
        Ok(())
    }

    /// Looks, cheaply, for what the kernel sends no notice of (IPVS, settings of links), and puts
    /// back what another hand changed. To be called twice a second.
    pub fn audit(&mut self, snapshot: &Snapshot) -> Report {
        let Some(layout) = self.layout.clone() else { return Report::default() };
        let mut report = Report::default();
        self.settings(&layout, &mut report);
        let _ = snapshot;
        report
    }

    /// What is programmed, what differs from what should be, and what is not ours. Reads the
    /// kernel, changes nothing.
    ///
    /// # Errors
    /// When the kernel can't be read.
    pub fn inspect(&mut self, snapshot: &Snapshot) -> Result<Inspection, OpError> {
        let _ = snapshot;
        Ok(Inspection {
            engine: self.engine,
            kernel: sysctl::get("kernel.osrelease").unwrap_or_default(),
            settings: Vec::new(),
            vip_link: None,
            rows: Vec::new(),
            differences: Vec::new(),
            foreign: Vec::new(),
            problems: self.problems(),
        })
    }

    /// What can't be honoured of the Services as last seen.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        self.plane.problems()
    }

    /// The netlink port by which notifications of own changes to the table are known.
    pub(crate) fn table_port(&self) -> u32 {
        self.table.kernel.port()
    }

    /// Brings the kernel to the snapshot.
    pub fn sync(&mut self, snapshot: &Snapshot, changes: Changes<'_>) -> Report {
        let layout = Layout::of(snapshot, self.engine);
        let mut report = Report::default();
        let lost = match changes {
            Changes::Services(names) if self.layout.as_ref() == Some(&layout) => {
                self.sync_services(snapshot, names, &layout, &mut report)
            }
            Changes::Network
                if self.layout.as_ref() == Some(&layout) && self.addresses_are_whole() =>
            {
                self.settings(&layout, &mut report);
                self.sync_routes(snapshot, &mut report);
                Lost::default()
            }
            _ => self.sync_all(snapshot, layout, &mut report),
        };
        if !lost.udp.is_empty() {
            self.forget_flows(&lost.udp, &mut report);
        }
        if lost.sticky {
            self.forget_affinities(&mut report);
        }
        if !report.failures.is_empty() {
            self.layout = None;
        }
        report
    }

    fn sync_services(
        &mut self,
        snapshot: &Snapshot,
        names: &BTreeSet<ServiceName>,
        layout: &Layout,
        report: &mut Report,
    ) -> Lost {
        let touched = self.plane.refresh(snapshot, names);
        let Some(known) = &self.table.known else { return Lost::default() };
        let table_ops = nft::plan(layout, known, &self.plane, &touched);
        let server_ops = match &self.ipvs {
            None => Vec::new(),
            Some(side) => {
                let have = ipvs::observed_of_touched(&side.servers, &side.addresses, &touched);
                let want = ipvs::desired_of_touched(layout, &self.plane, &touched);
                ipvs::diff((&have.0, &have.1), (&want.0, &want.1))
            }
        };
        let lost = Lost::by(&table_ops, &server_ops, &known.elements);
        self.execute(table_ops, &server_ops, None, report);
        lost
    }

    fn sync_all(&mut self, snapshot: &Snapshot, layout: Layout, report: &mut Report) -> Lost {
        let is_udp = |f: &Frontend| f.protocol == Protocol::Udp;
        let mut udp: BTreeSet<Frontend> =
            self.plane.iter().map(|(f, _)| *f).filter(is_udp).collect();
        self.plane = Dataplane::of(snapshot);
        udp.extend(self.plane.iter().map(|(f, _)| *f).filter(is_udp));
        self.settings(&layout, report);
        if let Err(error) = self.sync_kernel(snapshot, &layout, report) {
            report.failures.push(error);
        }
        self.sync_routes(snapshot, report);
        self.layout = Some(layout);
        // What was lost while nobody looked is not known: look at everything.
        Lost { udp, sticky: true }
    }

    fn addresses_are_whole(&mut self) -> bool {
        let Some(side) = &self.ipvs else { return true };
        self.network.addresses(VIP_LINK).is_ok_and(|bound| bound == side.addresses)
    }

    fn settings(&mut self, layout: &Layout, report: &mut Report) {
        let alone = match self.network.bridges() {
            Ok(bridges) => bridges.iter().all(|name| **name == *layout.bridge),
            Err(error) => return report.failures.push(error),
        };
        for (name, value) in settings::wanted(layout, alone) {
            match sysctl::set(&name, value) {
                Ok(changed) => report.writes += usize::from(changed),
                Err(error) => report.failures.push(error),
            }
        }
    }

    fn sync_kernel(
        &mut self,
        snapshot: &Snapshot,
        layout: &Layout,
        report: &mut Report,
    ) -> Result<(), OpError> {
        let node_ports = &snapshot.settings.node_ports;
        let (desired, want) = match &mut self.ipvs {
            None => {
                // What IPVS left behind when it was the engine.
                if self.network.has_link(VIP_LINK) {
                    clean_servers(node_ports, &mut report.failures)?;
                }
                (nft::State::desired(layout, &self.plane), None)
            }
            Some(side) => {
                let state = ipvs::State::desired(layout, &self.plane);
                self.network.ensure_address_link(VIP_LINK)?;
                side.addresses = self.network.addresses(VIP_LINK)?;
                (side.servers, side.idle) = side.kernel.servers()?;
                let (addresses, plane) = (&side.addresses, &self.plane);
                side.servers.retain(|f, _| ipvs::is_ours(f, addresses, node_ports, plane));
                (state.table, Some((state.servers, state.addresses)))
            }
        };
        self.table.known = self.table.kernel.observe(&desired)?;
        let table_ops = nft::diff(self.table.known.as_ref(), &desired);
        let server_ops = match (&self.ipvs, &want) {
            (Some(side), Some((servers, addresses))) => {
                let mut ops = ipvs::diff((&side.servers, &side.addresses), (servers, addresses));
                ops.extend(ipvs::sweep(&side.servers, &side.idle, servers));
                ops
            }
            _ => Vec::new(),
        };
        self.execute(table_ops, &server_ops, Some(&desired), report);
        Ok(())
    }

    fn execute(
        &mut self,
        table_ops: Vec<nft::Op>,
        server_ops: &[ipvs::Op],
        desired: Option<&nft::State>,
        report: &mut Report,
    ) {
        let Some(side) = &mut self.ipvs else {
            return self.table.execute(&table_ops, desired, report);
        };
        let (before, after) = ipvs::phases(table_ops);
        self.table.execute(&before, desired, report);
        side.execute(&mut self.network, server_ops, report);
        self.table.execute(&after, desired, report);
    }

    fn sync_routes(&mut self, snapshot: &Snapshot, report: &mut Report) {
        let bridge = &snapshot.settings.bridge;
        let observed = match self.network.routes(bridge) {
            Ok(routes) => routes,
            Err(error) => return report.failures.push(error),
        };
        for op in diff_routes(&observed, &desired_routes(snapshot)) {
            match self.network.change_route(&op, already_there(&observed, &op), bridge) {
                Ok(()) => report.writes += 1,
                Err(error) => report.failures.push(error),
            }
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
}

impl Executor {
    fn forget_affinities(&mut self, report: &mut Report) {
        let remembered = match self.table.kernel.affinities() {
            Ok(remembered) => remembered,
            Err(error) => return report.failures.push(error),
        };
        for one in &remembered {
            let (Item::Client(_, frontend), nft::Value::Backend(backend)) = (one.0.item, &one.1)
            else {
                continue;
            };
            if is_stale_affinity(&frontend, backend, &self.plane) {
                match self.table.kernel.forget(one) {
                    Ok(()) => report.forgotten += 1,
                    Err(error) => report.failures.push(error),
                }
            }
        }
    }
}

impl TableSide {
    fn execute(&mut self, ops: &[nft::Op], desired: Option<&nft::State>, report: &mut Report) {
        if ops.is_empty() {
            return;
        }
        let replaces = ops.contains(&nft::Op::Replace);
        let result = match desired {
            Some(desired) if replaces => self.kernel.replace(desired),
            _ => self.kernel.execute(ops),
        };
        match (result, desired) {
            (Err(error), _) => {
                self.known = None;
                report.failures.push(error);
            }
            (Ok(()), Some(desired)) if replaces => {
                self.known = Some(desired.clone());
                report.writes += 1;
            }
            (Ok(()), _) => {
                if let Some(known) = &mut self.known {
                    nft::apply(known, ops);
                }
                report.writes += ops.len();
            }
        }
    }
}

impl IpvsSide {
    fn open(engine: Engine) -> Result<Option<Self>, OpError> {
        Ok(match engine {
            Engine::Nftables => None,
            Engine::Ipvs => Some(Self {
                kernel: ipvs_kernel::Ipvs::open().map_err(failed("find IPVS in the kernel"))?,
                servers: Servers::new(),
                addresses: BTreeSet::new(),
                idle: ipvs_kernel::Idle::new(),
            }),
        })
    }

    fn execute(&mut self, network: &mut Network, ops: &[ipvs::Op], report: &mut Report) {
        let failures_before = report.failures.len();
        for op in ops {
            if let ipvs::Op::Release(addr) = op {
                report.failures.extend(network.release(VIP_LINK, *addr).err());
            }
        }
        report.failures.extend(self.kernel.execute(ops));
        for op in ops {
            if let ipvs::Op::Bind(addr) = op {
                report.failures.extend(network.bind(VIP_LINK, *addr).err());
            }
        }
        // After a failure the next look reads everything anew, so a wrong guess here is harmless.
        ipvs::apply(&mut self.servers, &mut self.addresses, ops);
        report.writes += ops.len() - (report.failures.len() - failures_before).min(ops.len());
    }
}

fn already_there(observed: &Routes, op: &RouteOp) -> bool {
    match op {
        RouteOp::Set(net, _) | RouteOp::Delete(net) => observed.contains_key(net),
    }
}

/// Where a plan takes something away, so that what clients were given before may be stale.
#[derive(Debug, Default)]
struct Lost {
    /// UDP frontends.
    udp: BTreeSet<Frontend>,
    /// Any frontend whose clients keep their backends.
    sticky: bool,
}

impl Lost {
    fn by(table_ops: &[nft::Op], server_ops: &[ipvs::Op], before: &nft::Elements) -> Self {
        let from_table = table_ops.iter().filter_map(|op| match op {
            nft::Op::Delete(key, _) => match key.item {
                Item::Frontend(f) | Item::Slot(f, _) => Some(f),
                Item::Clients(..) | Item::Client(..) | Item::Address(_) => None,
            },
            _ => None,
        });
        let from_servers = server_ops.iter().filter_map(|op| match op {
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

/// Removes all that the data plane ever put into this network namespace, and nothing else.
/// Returns the steps that failed; the others are done all the same.
#[must_use]
pub fn clean_up(bridge: &str, node_ports: &RangeInclusive<u16>) -> Vec<OpError> {
    let mut failures = Vec::new();
    failures.extend(clean_routes(bridge).unwrap_or_else(|error| vec![error]));
    if let Err(error) = clean_servers(node_ports, &mut failures) {
        failures.push(error);
    }
    failures.extend(Table::open().and_then(|mut table| table.delete()).err());
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
    if let Ok(mut kernel) = ipvs_kernel::Ipvs::open() {
        let nothing = Dataplane::default();
        let ours: Vec<ipvs::Op> = kernel
            .servers()?
            .0
            .into_keys()
            .filter(|f| ipvs::is_ours(f, &bound, node_ports, &nothing))
            .map(ipvs::Op::DeleteServer)
            .collect();
        failures.extend(kernel.execute(&ours));
    }
    network.delete_link(VIP_LINK)
}
