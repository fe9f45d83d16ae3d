//! What the kernel holds, told in the words of the API: for people, and for programs that show it
//! to people.
//!
//! Pure: takes what was observed and what is desired, gives rows. Three questions are answered:
//! what is programmed and because of which Service port ([`Row`]), what differs from what should
//! be ([`Difference`]), and what is somebody else's ([`Foreign`]).

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::address::{Backend, Frontend};
use crate::dataplane::Dataplane;
use crate::ipvs::{self, Programmed, Server};
use crate::nft::render::{TABLE, element};
use crate::nft::{self, Container, Engine, Item, Key, Value};
use crate::problem::Problem;
use crate::service::{Kind, Owner, Pool, VirtualService};

/// All that is known of a node's data plane at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// What translates new connections.
    pub engine: Engine,
    /// The kernel's release, as `uname -r` tells it.
    pub kernel: String,
    /// The kernel settings that the data plane needs.
    pub settings: Vec<Setting>,
    /// The link of virtual addresses, where there is one.
    pub vip_link: Option<VipLink>,
    /// What is programmed, by frontend.
    pub rows: Vec<Row>,
    /// What is not as it should be.
    pub differences: Vec<Difference>,
    /// What is not ours.
    pub foreign: Vec<Foreign>,
    /// What can't be honoured.
    pub problems: Vec<Problem>,
}

/// A kernel setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name, as `sysctl` has it.
    pub name: String,
    /// Its value; `None` where it can't be read.
    pub value: Option<String>,
    /// What it should be.
    pub wanted: String,
    /// Why.
    pub why: &'static str,
}

/// The link that holds virtual addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipLink {
    /// Its name.
    pub name: String,
    /// `dummy`, or what stands in for one where the kernel has none.
    pub kind: String,
    /// What is bound to it.
    pub addresses: Vec<IpAddr>,
}

/// One frontend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where clients connect to.
    pub frontend: Frontend,
    /// Why it exists.
    pub kind: Kind,
    /// The Service port it belongs to.
    pub owner: Owner,
    /// `metadata.resourceVersion` of the Service; nothing in a snapshot depends on it, so whoever
    /// read the Service fills it in.
    pub resource_version: Option<Arc<str>>,
    /// Who answers.
    pub answer: Answer,
    /// Who answers clients outside the cluster, where that differs.
    pub outside: Option<Answer>,
    /// Seconds for which a client keeps its backend.
    pub affinity_seconds: Option<u32>,
    /// The only clients admitted; empty admits all.
    pub source_ranges: Vec<IpNet>,
    /// The IPVS scheduler, where IPVS balances.
    pub scheduler: Option<Arc<str>>,
    /// The objects in the kernel, in words.
    pub objects: Vec<String>,
}

/// Who answers at a frontend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// These backends.
    Backends(Vec<Member>),
    /// Nobody: refused at once.
    Refused,
    /// Nobody: dropped.
    Dropped,
    /// A process of the node.
    Node,
}

/// One backend of a frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where.
    pub backend: Backend,
    /// Its share of new connections; 0 takes none and keeps the old.
    pub weight: u32,
    /// Connections bound to it, where the engine counts them.
    pub connections: Option<u32>,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What, in the kernel's words.
    pub what: String,
    /// How it differs.
    pub how: How,
    /// The Service port it belongs to, where it belongs to one.
    pub owner: Option<Owner>,
}

/// How something differs from what should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// Not there.
    Missing,
    /// There, and should not be.
    Extra,
    /// There, and something else.
    Different {
        /// What should be.
        wanted: String,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.how {
            How::Missing => write!(f, "missing: {}", self.what),
            How::Extra => write!(f, "extra: {}", self.what),
            How::Different { wanted } => write!(f, "different: {}, wanted: {wanted}", self.what),
        }
    }
}

/// Something in the kernel that translates Services, too, and is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// What sort of thing: `table`, `virtual server`.
    pub kind: &'static str,
    /// Which.
    pub what: String,
    /// Whose, where that can be told.
    pub whose: Option<&'static str>,
}

/// What the kernel was found to hold.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The table, if its rules are those that should be.
    pub table: Option<&'a nft::State>,
    /// Is there a table of our name, whatever its rules?
    pub table_is_there: bool,
    /// Virtual servers and addresses.
    pub servers: &'a Programmed,
    /// Connections bound to destinations of virtual servers.
    pub connections: &'a BTreeMap<(Frontend, Backend), u32>,
}

/// What is programmed, by frontend.
#[must_use]
pub fn rows(plane: &Dataplane, found: &Found<'_>) -> Vec<Row> {
    plane.iter().map(|(frontend, service)| row(*frontend, service, found)).collect()
}

fn row(frontend: Frontend, service: &VirtualService, found: &Found<'_>) -> Row {
    let server = found.servers.servers.get(&frontend);
    Row {
        frontend,
        kind: service.kind,
        owner: service.owner.clone(),
        resource_version: None,
        answer: answer(&service.pool, frontend, server, found),
        outside: service.outside.as_ref().map(|pool| answer(pool, frontend, None, found)),
        affinity_seconds: service.affinity_seconds,
        source_ranges: service.source_ranges.clone(),
        scheduler: server.map(|server| server.scheduler.clone()),
        objects: objects(frontend, server, found),
    }
}

/// The backends that should answer, and those that only finish what they began.
fn answer(pool: &Pool, frontend: Frontend, server: Option<&Server>, found: &Found<'_>) -> Answer {
    let connections = |backend: &Backend| found.connections.get(&(frontend, *backend)).copied();
    let mut members: Vec<Member> = pool
        .backends()
        .iter()
        .map(|backend| Member {
            backend: *backend,
            weight: server.and_then(|s| s.destinations.get(backend)).copied().unwrap_or(1),
            connections: connections(backend),
        })
        .collect();
    let retired = server
        .into_iter()
        .flat_map(|s| &s.destinations)
        .filter(|(b, weight)| **weight == 0 && !pool.backends().contains(b));
    members.extend(retired.map(|(backend, weight)| Member {
        backend: *backend,
        weight: *weight,
        connections: connections(backend),
    }));
    match pool {
        Pool::Backends(_) => Answer::Backends(members),
        Pool::Refuse => Answer::Refused,
        Pool::Drop => Answer::Dropped,
        Pool::Node(_) => Answer::Node,
    }
}

/// What the kernel really holds for a frontend.
fn objects(frontend: Frontend, server: Option<&Server>, found: &Found<'_>) -> Vec<String> {
    let mut out = Vec::new();
    if let Some(server) = server {
        let destinations = server.destinations.iter();
        let words: Vec<String> = destinations.map(|(b, w)| format!("{b} weight {w}")).collect();
        let persistence = server.persistence_seconds.map(|s| format!(" persistent {s}s"));
        let (scheduler, persistence) = (&server.scheduler, persistence.unwrap_or_default());
        let words = words.join(", ");
        out.push(format!("ipvs {frontend} scheduler {scheduler}{persistence}: {words}"));
    }
    if found.servers.addresses.contains(&frontend.addr) {
        out.push(format!("address {}", frontend.addr));
    }
    if let Some(table) = found.table {
        out.extend(table.elements.of_frontend(frontend).map(|(key, value)| in_map(key, value)));
        let vip = Key { container: Container::Vips, item: Item::Address(frontend.addr) };
        let vip = table.elements.0.get_key_value(&vip);
        out.extend(vip.map(|(key, value)| in_map(key, value)));
    }
    out
}

fn in_map(key: &Key, value: &Value) -> String {
    format!("{} {{ {} }}", key.container.name(key.item.family()), element(key, value))
}

/// What is not as it should be, in the words of the changes that would mend it.
#[must_use]
pub fn differences(
    plane: &Dataplane,
    found: &Found<'_>,
    table_ops: &[nft::Op],
    server_ops: &[ipvs::Op],
) -> Vec<Difference> {
    let mut out: Vec<Difference> = table_differences(plane, found, table_ops);
    let servers = server_ops.iter().map(|op| {
        let (what, how) = server_difference(op, found.servers);
        let owner = op.frontend().and_then(|f| plane.get(&f)).map(|s| s.owner.clone());
        Difference { what, how, owner }
    });
    out.extend(servers);
    out
}

fn table_differences(plane: &Dataplane, found: &Found<'_>, ops: &[nft::Op]) -> Vec<Difference> {
    let added: BTreeMap<Key, &Value> = ops
        .iter()
        .filter_map(|op| if let nft::Op::Add(key, value) = op { Some((*key, value)) } else { None })
        .collect();
    let mut out = Vec::new();
    for op in ops {
        let (what, how, owner) = match op {
            nft::Op::Replace if found.table_is_there => {
                let wanted = "the rules of this version and engine".to_owned();
                (format!("rules of table inet {TABLE}"), How::Different { wanted }, None)
            }
            nft::Op::Replace => (format!("table inet {TABLE}"), How::Missing, None),
            nft::Op::AddChain(chain) => (format!("chain {chain}"), How::Missing, None),
            nft::Op::Delete(key, value) => {
                let how = match added.get(key) {
                    Some(wanted) => How::Different { wanted: element(key, wanted) },
                    None => How::Extra,
                };
                (in_map(key, value), how, nft::repairs::owner(key, plane))
            }
            // Told as a difference already.
            nft::Op::Add(key, _)
                if found.table.is_some_and(|table| table.elements.0.contains_key(key)) =>
            {
                continue;
            }
            nft::Op::Add(key, value) => {
                (in_map(key, value), How::Missing, nft::repairs::owner(key, plane))
            }
        };
        out.push(Difference { what, how, owner });
    }
    out
}

fn server_difference(op: &ipvs::Op, found: &Programmed) -> (String, How) {
    let scheduler = |frontend: &Frontend| {
        found.servers.get(frontend).map(|s| s.scheduler.to_string()).unwrap_or_default()
    };
    match op {
        ipvs::Op::Bind(addr) => (format!("address {addr}"), How::Missing),
        ipvs::Op::Release(addr) => (format!("address {addr}"), How::Extra),
        ipvs::Op::AddServer(f, _) => (format!("ipvs {f}"), How::Missing),
        ipvs::Op::DeleteServer(f) => (format!("ipvs {f}"), How::Extra),
        ipvs::Op::SetServer(f, want) => {
            let wanted = format!("scheduler {}", want.scheduler);
            (format!("ipvs {f} scheduler {}", scheduler(f)), How::Different { wanted })
        }
        ipvs::Op::AddDestination(f, backend, _) => (format!("ipvs {f}: {backend}"), How::Missing),
        ipvs::Op::DeleteDestination(f, backend) | ipvs::Op::SetDestination(f, backend, 0) => {
            (format!("ipvs {f}: {backend}"), How::Extra)
        }
        ipvs::Op::SetDestination(f, backend, weight) => {
            let wanted = format!("weight {weight}");
            (format!("ipvs {f}: {backend}"), How::Different { wanted })
        }
    }
}
