//! What the maps and sets of the table hold, and how a data plane becomes that.
//!
//! One ordered map holds the elements of all containers, so that the difference of two states is
//! one merge of two sorted lists, and all elements of a frontend are a few short ranges.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::address::{Backend, Family, Frontend};
use crate::dataplane::{Dataplane, Touched};
use crate::nft::ruleset::{ChainName, Layout, Picker};
use crate::service::{Owner, Pool, VirtualService};
use crate::snapshot::ByNode;

/// A map or set; in the kernel it exists once per family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Container {
    /// Frontend → chain that serves it.
    Services,
    /// Frontend and slot → backend.
    Endpoints,
    /// Frontend → chain for clients outside the cluster, where that differs.
    Outside,
    /// Frontend and slot → backend for clients outside the cluster.
    OutsideEndpoints,
    /// Frontend → let in: IPVS serves there. A map of its own, because the kernel wants whatever a
    /// map leads to to be fit for every chain that looks it up, and only some may translate.
    Balanced,
    /// Frontend → refuse or drop.
    Unserved,
    /// Frontend → let in: a process of this node answers there.
    Local,
    /// Those of them whose connections are not tracked.
    Untracked,
    /// Frontends that admit only some clients.
    Restricted,
    /// Frontend and range of clients it admits.
    Admitted,
    /// Frontend → chain that remembers its clients.
    Sticky,
    /// Frontend and backend that its clients may keep.
    Kept,
    /// Virtual addresses.
    Vips,
    /// Addresses of no Service any more, still this node's own because IPVS needs them for
    /// connections that have not ended.
    Draining,
    /// Backends of this node, as source and destination: a backend that called itself.
    Hairpin,
    /// Addresses of all nodes.
    Nodes,
    /// Client and frontend → the backend that the client keeps. The rules fill it, not us.
    Affinity,
}

impl Container {
    /// All whose contents are ours to decide.
    pub const ALL: [Self; 16] = [
        Self::Services,
        Self::Endpoints,
        Self::Outside,
        Self::OutsideEndpoints,
        Self::Balanced,
        Self::Unserved,
        Self::Local,
        Self::Untracked,
        Self::Restricted,
        Self::Admitted,
        Self::Sticky,
        Self::Kept,
        Self::Vips,
        Self::Draining,
        Self::Hairpin,
        Self::Nodes,
    ];

    /// Its name in the kernel.
    #[must_use]
    pub fn name(self, family: Family) -> String {
        let stem = match self {
            Self::Services => "services",
            Self::Balanced => "balanced",
            Self::Endpoints => "endpoints",
            Self::Outside => "outside",
            Self::OutsideEndpoints => "outside-endpoints",
            Self::Unserved => "unserved",
            Self::Local => "local",
            Self::Untracked => "untracked",
            Self::Restricted => "restricted",
            Self::Admitted => "admitted",
            Self::Sticky => "sticky",
            Self::Kept => "kept",
            Self::Vips => "vips",
            Self::Draining => "draining",
            Self::Hairpin => "hairpin",
            Self::Nodes => "nodes",
            Self::Affinity => "affinity",
        };
        format!("{stem}{}", family.digit())
    }
}

/// What an element says, apart from its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Item {
    /// A frontend.
    Frontend(Frontend),
    /// One backend of a frontend.
    Slot(Frontend, u32),
    /// A frontend and one of its backends.
    Pair(Frontend, Backend),
    /// A range of clients of a frontend.
    Clients(Frontend, IpNet),
    /// One client of a frontend.
    Client(IpAddr, Frontend),
    /// An address (in [`Container::Hairpin`]: twice).
    Address(IpAddr),
}

impl Item {
    /// The family of its addresses.
    #[must_use]
    pub fn family(&self) -> Family {
        match self {
            Self::Frontend(f)
            | Self::Slot(f, _)
            | Self::Pair(f, _)
            | Self::Clients(f, _)
            | Self::Client(_, f) => Family::of(f.addr),
            Self::Address(addr) => Family::of(*addr),
        }
    }
}

/// An element's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The map or set it is in.
    pub container: Container,
    /// What it says.
    pub item: Item,
}

/// What a verdict map says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Go on in this chain.
    Goto(ChainName),
    /// Discard the packet.
    Drop,
    /// Let it through.
    Accept,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Goto(chain) => write!(f, "goto {chain}"),
            Self::Drop => f.write_str("drop"),
            Self::Accept => f.write_str("accept"),
        }
    }
}

/// An element's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A set's element has none.
    Present,
    /// A verdict, with the Service port that caused it as the element's comment.
    Verdict(Verdict, Arc<str>),
    /// Where the connection goes.
    Backend(Backend),
}

/// A client that keeps its backend: an element of [`Container::Affinity`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its address.
    pub addr: IpAddr,
    /// What it called.
    pub frontend: Frontend,
    /// What it keeps.
    pub backend: Backend,
}

/// The contents of all maps and sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elements(pub BTreeMap<Key, Value>);

impl Elements {
    /// The value at a place.
    #[must_use]
    pub fn get(&self, container: Container, item: Item) -> Option<&Value> {
        self.0.get(&Key { container, item })
    }

    /// Is there an element?
    #[must_use]
    pub fn contains(&self, container: Container, item: Item) -> bool {
        self.get(container, item).is_some()
    }

    /// Do clients of this frontend keep their backends?
    #[must_use]
    pub fn is_sticky(&self, frontend: Frontend) -> bool {
        self.contains(Container::Sticky, Item::Frontend(frontend))
    }

    /// Does a process of this node answer at the address?
    #[must_use]
    pub fn is_local(&self, addr: IpAddr) -> bool {
        let all = Frontend::all_of(addr);
        let key = |frontend| Key { container: Container::Local, item: Item::Frontend(frontend) };
        self.0.range(key(*all.start())..=key(*all.end())).next().is_some()
    }

    /// Does a range of admitted clients of the frontend contain the address?
    #[must_use]
    pub fn admits(&self, frontend: Frontend, client: IpAddr) -> bool {
        self.of_frontend(frontend).any(|(key, _)| match key.item {
            Item::Clients(_, range) => range.contains(&client),
            _ => false,
        })
    }

    /// The elements that name a frontend.
    pub fn of_frontend(&self, frontend: Frontend) -> impl Iterator<Item = (&Key, &Value)> {
        const WITH_FRONTEND: [(Container, Bounds); 12] = [
            (Container::Services, whole),
            (Container::Balanced, whole),
            (Container::Endpoints, slots),
            (Container::Outside, whole),
            (Container::OutsideEndpoints, slots),
            (Container::Unserved, whole),
            (Container::Local, whole),
            (Container::Untracked, whole),
            (Container::Restricted, whole),
            (Container::Admitted, clients),
            (Container::Sticky, whole),
            (Container::Kept, pairs),
        ];
        WITH_FRONTEND.into_iter().flat_map(move |(container, bounds)| {
            let (from, to) = bounds(frontend);
            self.0.range(Key { container, item: from }..=Key { container, item: to })
        })
    }

    /// The elements that a change of the plane may touch.
    #[must_use]
    pub fn of_touched(&self, touched: &Touched) -> Self {
        let mut out = Self::default();
        for frontend in &touched.frontends {
            out.0.extend(self.of_frontend(*frontend).map(|(k, v)| (*k, v.clone())));
        }
        for key in touched_addresses(touched) {
            if let Some(value) = self.0.get(&key) {
                out.0.insert(key, value.clone());
            }
        }
        out
    }

    fn insert(&mut self, container: Container, item: Item, value: Value) {
        self.0.insert(Key { container, item }, value);
    }
}

/// The first and the last item that names a frontend.
type Bounds = fn(Frontend) -> (Item, Item);

fn whole(frontend: Frontend) -> (Item, Item) {
    (Item::Frontend(frontend), Item::Frontend(frontend))
}

fn slots(frontend: Frontend) -> (Item, Item) {
    (Item::Slot(frontend, 0), Item::Slot(frontend, u32::MAX))
}

fn pairs(frontend: Frontend) -> (Item, Item) {
    let first = Backend { addr: IpAddr::from([0; 4]), port: 0 };
    let last = Backend { addr: IpAddr::from([0xff; 16]), port: u16::MAX };
    (Item::Pair(frontend, first), Item::Pair(frontend, last))
}

fn clients(frontend: Frontend) -> (Item, Item) {
    use ipnet::{Ipv4Net, Ipv6Net};
    use std::net::{Ipv4Addr, Ipv6Addr};
    let first = Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0);
    let last = Ipv6Net::new_assert(Ipv6Addr::from_bits(u128::MAX), 128);
    (Item::Clients(frontend, first.into()), Item::Clients(frontend, last.into()))
}

fn touched_addresses(touched: &Touched) -> impl Iterator<Item = Key> {
    let vips = touched.frontends.iter().flat_map(|f| {
        let item = Item::Address(f.addr);
        [Container::Vips, Container::Draining].map(|container| Key { container, item })
    });
    let hairpins = touched
        .local_backends
        .iter()
        .map(|addr| Key { container: Container::Hairpin, item: Item::Address(*addr) });
    vips.chain(hairpins)
}

/// All elements that a data plane needs; `draining` as [`crate::ipvs::Programmed::draining`] says.
#[must_use]
pub fn desired(layout: &Layout, plane: &Dataplane, draining: &BTreeSet<IpAddr>) -> Elements {
    let mut out = Elements::default();
    for (frontend, service) in plane.iter() {
        add_frontend(&mut out, layout, *frontend, service);
        if layout.is_virtual(frontend.addr) {
            out.insert(Container::Vips, Item::Address(frontend.addr), Value::Present);
        }
    }
    for addr in draining {
        out.insert(Container::Draining, Item::Address(*addr), Value::Present);
    }
    for addr in plane.local_backends() {
        out.insert(Container::Hairpin, Item::Address(addr), Value::Present);
    }
    for addr in &layout.nodes {
        out.insert(Container::Nodes, Item::Address(*addr), Value::Present);
    }
    out
}

/// The elements that a data plane needs in the places that a change may touch.
#[must_use]
pub fn desired_of_touched(
    layout: &Layout,
    plane: &Dataplane,
    touched: &Touched,
    draining: &BTreeSet<IpAddr>,
) -> Elements {
    let mut out = Elements::default();
    for frontend in &touched.frontends {
        if let Some(service) = plane.get(frontend) {
            add_frontend(&mut out, layout, *frontend, service);
        }
        if layout.is_virtual(frontend.addr) && plane.is_claimed(frontend.addr) {
            out.insert(Container::Vips, Item::Address(frontend.addr), Value::Present);
        }
        if draining.contains(&frontend.addr) {
            out.insert(Container::Draining, Item::Address(frontend.addr), Value::Present);
        }
    }
    for addr in &touched.local_backends {
        if plane.is_local_backend(*addr) {
            out.insert(Container::Hairpin, Item::Address(*addr), Value::Present);
        }
    }
    out
}

/// As many bytes of a comment nft takes.
const LONGEST_COMMENT: usize = 127;

/// The Service port as the comment of its elements: cut where a comment must end, so that what is
/// read back equals what was meant.
pub(crate) fn comment(owner: &Owner) -> Arc<str> {
    let mut text = owner.to_string();
    // Names are ASCII.
    text.truncate(text.floor_char_boundary(LONGEST_COMMENT));
    text.into()
}

fn add_frontend(out: &mut Elements, layout: &Layout, frontend: Frontend, service: &VirtualService) {
    let owner = comment(&service.owner);
    let family = Family::of(frontend.addr);
    let place = Item::Frontend(frontend);
    match (&service.pool, layout.translates(frontend.addr)) {
        (Pool::Backends(list), true) => {
            let verdict = pick(service, frontend, list, false);
            out.insert(Container::Services, place, Value::Verdict(verdict, owner.clone()));
            add_slots(out, Container::Endpoints, frontend, list);
        }
        (Pool::Backends(_), false) => {
            let verdict = Verdict::Goto(ChainName::Served);
            out.insert(Container::Balanced, place, Value::Verdict(verdict, owner.clone()));
        }
        (Pool::Refuse | Pool::Drop, _) => {
            let verdict = unserved(&service.pool);
            out.insert(Container::Unserved, place, Value::Verdict(verdict, owner.clone()));
        }
        (Pool::Node(by_node), _) => add_local(out, layout, frontend, *by_node, &owner),
    }
    match &service.outside {
        Some(Pool::Backends(list)) => {
            let verdict = pick(service, frontend, list, true);
            out.insert(Container::Outside, place, Value::Verdict(verdict, owner.clone()));
            add_slots(out, Container::OutsideEndpoints, frontend, list);
        }
        // Nobody answers clients from outside. The rule that reads this map translates addresses
        // and can't refuse: `Drop` is the only thing it can say, and what Local asks for.
        Some(Pool::Refuse | Pool::Drop | Pool::Node(_)) => {
            out.insert(Container::Outside, place, Value::Verdict(Verdict::Drop, owner.clone()));
        }
        None => {}
    }
    // IPVS remembers its own clients.
    let by_table = layout.translates(frontend.addr) || service.outside.is_some();
    if let Some(seconds) = service.affinity_seconds.filter(|_| by_table) {
        let verdict = Verdict::Goto(ChainName::Remember(seconds));
        out.insert(Container::Sticky, place, Value::Verdict(verdict, owner.clone()));
        let pools = [Some(&service.pool), service.outside.as_ref()];
        for backend in pools.into_iter().flatten().flat_map(Pool::backends) {
            out.insert(Container::Kept, Item::Pair(frontend, *backend), Value::Present);
        }
    }
    if !service.source_ranges.is_empty() {
        out.insert(Container::Restricted, place, Value::Present);
    }
    let mut admitted = service.source_ranges.clone();
    if let (Pool::Node(_), false) = (&service.pool, admitted.is_empty()) {
        // A node that calls an address of its own speaks from it, and comes in by a link.
        admitted.push(frontend.addr.into());
    }
    for range in IpNet::aggregate(&admitted) {
        if (Family::V4 == family) == matches!(range, IpNet::V4(_)) {
            let item = Item::Clients(frontend, range);
            out.insert(Container::Admitted, item, Value::Present);
        }
    }
}

/// What a process of each node answers; not at another node's address, which is that node's.
fn add_local(
    out: &mut Elements,
    layout: &Layout,
    frontend: Frontend,
    by_node: ByNode,
    owner: &Arc<str>,
) {
    if !layout.is_virtual(frontend.addr) && !layout.own.contains(&frontend.addr) {
        return;
    }
    let place = Item::Frontend(frontend);
    out.insert(Container::Local, place, Value::Verdict(Verdict::Accept, owner.clone()));
    if by_node.untracked {
        out.insert(Container::Untracked, place, Value::Present);
    }
}

fn unserved(pool: &Pool) -> Verdict {
    if *pool == Pool::Drop { Verdict::Drop } else { Verdict::Goto(ChainName::Refuse) }
}

fn add_slots(out: &mut Elements, container: Container, frontend: Frontend, list: &[Backend]) {
    for (slot, backend) in (0..).zip(list) {
        out.insert(container, Item::Slot(frontend, slot), Value::Backend(*backend));
    }
}

fn pick(service: &VirtualService, frontend: Frontend, list: &[Backend], outside: bool) -> Verdict {
    Verdict::Goto(ChainName::Pick(Picker {
        family: Family::of(frontend.addr),
        outside,
        count: u32::try_from(list.len()).expect("fewer backends than addresses"),
        sticky: service.affinity_seconds.is_some(),
    }))
}
