//! The table that hands packets over to other nodes: read, written, checked.
//!
//! As with the other table, rules are loaded as text by `nft`, but for those that it has no words
//! for, and elements are netlink, one transaction per plan; a comment sums up what the rules should
//! look like. It speaks through the other table's socket, so that changes of both are known as our
//! own by one port.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use netmodel::address::Family;
use netmodel::handover::render::{self, Container, Memory, Special, TABLE};
use netmodel::handover::{Elements, Key, Layout, NodeId, Op, State, Value};

use super::netlink::{Connection, Message, Writer, attribute, text, u32_at};
use super::nft::element::{frontend_bytes, octets, read_address, read_frontend};
use super::nft::message::{Batch, CHUNK, Place, body, named};
use super::nft::rule::{Remembered, flow_memory, quoted_flow};
use super::nft::{FNV_START, fnv1a, run_nft};
use super::{OpError, failed};

const NETDEV: Place = Place { family: 5, table: TABLE, words: "netdev minictl" };
const VERDICT_GOTO: i32 = -4;
/// What the table holds, if it is there and its rules are those of the layout.
pub(crate) fn observe(
    netlink: &mut Connection,
    layout: &Layout,
) -> Result<Option<Elements>, OpError> {
    let seal = NETDEV.seal(netlink)?;
    if seal.is_none() || seal != Some(sum(netlink, layout)?) {
        return Ok(None);
    }
    elements(netlink).map(Some)
}

/// What the table's maps and sets hold.
fn elements(netlink: &mut Connection) -> Result<Elements, OpError> {
    let mut elements = BTreeMap::new();
    for container in Container::ALL {
        for family in Family::ALL {
            NETDEV.elements(netlink, &container.name(family), |element| {
                elements.extend(read_element(container, family, element));
            })?;
        }
    }
    Ok(Elements(elements))
}

/// Is there such a table?
pub(crate) fn exists(netlink: &mut Connection) -> Result<bool, OpError> {
    NETDEV.exists(netlink)
}

/// Gives the table, which is there, other rules and elements. Until then it serves as before, and
/// what is remembered stays.
///
/// # Errors
/// When the kernel refuses, among other things because the table of another version has maps of
/// other kinds.
pub(crate) fn refill(netlink: &mut Connection, state: &State) -> Result<(), OpError> {
    let layout = &state.layout;
    let wanted = render::chain_names(layout);
    let leftover: BTreeSet<String> = NETDEV
        .chains(netlink)?
        .filter(|chain| {
            let name = named(chain, 3).unwrap_or_default();
            let is_elsewhere = name == render::ARRIVING && device(chain) != Some(&layout.link);
            !wanted.contains(name) || is_elsewhere
        })
        .filter_map(|chain| Some(named(&chain, 3)?.to_owned()))
        .collect();
    let mut batch = Batch::new(netlink, NETDEV);
    write_special_chains(&mut batch);
    batch.commit().map_err(failed(format!("write rules of table netdev {TABLE}")))?;
    run_nft(&render::refill(layout, &leftover))?;
    let ops = netmodel::handover::diff(&elements(netlink)?, &state.elements);
    execute(netlink, &ops)?;
    write_seal(netlink, layout)
}

/// Writes the whole table. What was remembered is forgotten.
pub(crate) fn load(netlink: &mut Connection, state: &State) -> Result<(), OpError> {
    run_nft(&render::replace(&state.layout))?;
    let mut batch = Batch::new(netlink, NETDEV);
    write_special_chains(&mut batch);
    let elements: Vec<(&Key, &Value)> = state.elements.0.iter().collect();
    write_elements(&mut batch, true, &elements);
    batch.commit().map_err(failed(format!("fill table netdev {TABLE}")))?;
    write_seal(netlink, &state.layout)
}

fn write_seal(netlink: &mut Connection, layout: &Layout) -> Result<(), OpError> {
    let seal = sum(netlink, layout)?;
    NETDEV.write_seal(netlink, &seal)
}

/// Makes all changes in one transaction.
pub(crate) fn execute(netlink: &mut Connection, ops: &[Op]) -> Result<(), OpError> {
    let gone: Vec<(&Key, &Value)> = ops
        .iter()
        .filter_map(|op| if let Op::Delete(k, v) = op { Some((k, v)) } else { None })
        .collect();
    let new: Vec<(&Key, &Value)> = ops
        .iter()
        .filter_map(|op| if let Op::Add(k, v) = op { Some((k, v)) } else { None })
        .collect();
    let mut batch = Batch::new(netlink, NETDEV);
    write_elements(&mut batch, false, &gone);
    write_elements(&mut batch, true, &new);
    batch.commit().map_err(failed(format!("make {} changes in table netdev {TABLE}", ops.len())))
}

/// Deletes the table. That there is none is no error.
pub(crate) fn delete(netlink: &mut Connection) -> Result<(), OpError> {
    NETDEV.delete(netlink)
}

/// What identifies the rules: those that were meant, and those that the kernel has.
fn sum(netlink: &mut Connection, layout: &Layout) -> Result<String, OpError> {
    let meant = fnv1a(render::body(layout).as_bytes(), FNV_START);
    let mut found = FNV_START;
    for rule in NETDEV.rules(netlink)? {
        found = fnv1a(named(&rule, 2).unwrap_or_default().as_bytes(), found);
        found = fnv1a(attribute(body(&rule), 4).unwrap_or_default(), found);
    }
    Ok(format!("{meant:016x} {found:016x}"))
}

/// The chains that nft has no words for, with just their rules.
fn write_special_chains(batch: &mut Batch<'_>) {
    for family in Family::ALL {
        for special in Special::ALL {
            write_special_chain(batch, special, family);
        }
    }
}

fn write_special_chain(batch: &mut Batch<'_>, special: Special, family: Family) {
    let (chain, flows) = (special.chain(family), Container::Flows.name(family));
    batch.chain(&chain);
    batch.flush(&chain);
    batch.rule(&chain, |w| match special {
        Special::Remember(memory) => {
            let (seconds, refresh) = (memory.seconds(), memory != Memory::Learn);
            flow_memory(w, family, &flows, Remembered::For { seconds, refresh });
        }
        Special::Forget => flow_memory(w, family, &flows, Remembered::Nothing),
        Special::RecallError => quoted_flow(w, family, &flows),
    });
}

fn write_elements(batch: &mut Batch<'_>, is_new: bool, list: &[(&Key, &Value)]) {
    let mut runs: BTreeMap<(Container, Family), Vec<(&Key, &Value)>> = BTreeMap::new();
    for (key, value) in list {
        runs.entry((container(key), key.family())).or_default().push((key, value));
    }
    for ((container, family), run) in runs {
        for chunk in run.chunks(CHUNK) {
            batch.elements(is_new, &container.name(family), |w| {
                for (key, value) in chunk {
                    write_element(w, key, is_new.then_some(*value));
                }
            });
        }
    }
}

fn container(key: &Key) -> Container {
    match key {
        Key::Spread(_) => Container::Spread,
        Key::Slot(..) => Container::Slots,
        Key::StandIn(..) => Container::StandIns,
        Key::Peer(..) => Container::Peers,
        Key::Node(_) => Container::Nodes,
        Key::Silent(..) => Container::Silent,
    }
}

/// A slot as a mark counts it: from one.
fn mark_of(slot: u32) -> [u8; 4] {
    (slot + 1).to_ne_bytes()
}

fn write_element(writer: &mut Writer, key: &Key, value: Option<&Value>) {
    let bytes = match key {
        Key::Spread(frontend) => frontend_bytes(*frontend),
        Key::Slot(frontend, slot) | Key::StandIn(frontend, slot) => {
            [&frontend_bytes(*frontend)[..], &mark_of(*slot)].concat()
        }
        Key::Peer(_, node) | Key::Silent(_, node) => node.number().to_ne_bytes().to_vec(),
        Key::Node(addr) => octets(*addr),
    };
    writer.nest(1, |w| {
        w.nest(1, |w| w.attr(1, &bytes));
        match value {
            None | Some(Value::Present) => {}
            Some(Value::Node(node)) => w.nest(2, |w| w.attr(1, &node.number().to_ne_bytes())),
            Some(Value::Address(addr)) => w.nest(2, |w| w.attr(1, &octets(*addr))),
            Some(how @ (Value::ByFlow | Value::ByClient)) => {
                let chain = render::chain(*how == Value::ByClient, key.family());
                w.nest(2, |w| {
                    w.nest(2, |w| {
                        w.attr(1, &VERDICT_GOTO.to_be_bytes());
                        w.string(2, &chain);
                    });
                });
            }
        }
    });
}

/// Reads an element; none if it is not what its container should hold.
fn read_element(container: Container, family: Family, element: &[u8]) -> Option<(Key, Value)> {
    let key = attribute(attribute(element, 1)?, 1)?;
    let data = || attribute(attribute(element, 2)?, 1);
    let address = |bytes| -> Option<IpAddr> { Some(read_address(family, bytes)?.0) };
    Some(match container {
        Container::Spread => {
            let verdict = attribute(attribute(element, 2)?, 2)?;
            let chain = text(attribute(verdict, 2)?);
            let by_client = chain == render::chain(true, family);
            let how = if by_client { Value::ByClient } else { Value::ByFlow };
            (Key::Spread(read_frontend(family, key)?.0), how)
        }
        Container::Slots | Container::StandIns => {
            let (frontend, mark) = read_frontend(family, key)?;
            let slot = u32_at(mark, 0)?.checked_sub(1)?;
            let key = match container {
                Container::Slots => Key::Slot(frontend, slot),
                _ => Key::StandIn(frontend, slot),
            };
            (key, Value::Node(NodeId::from_number(u32_at(data()?, 0)?)?))
        }
        Container::Peers => {
            let node = NodeId::from_number(u32_at(key, 0)?)?;
            (Key::Peer(family, node), Value::Address(address(data()?)?))
        }
        Container::Nodes => (Key::Node(address(key)?), Value::Present),
        Container::Silent => {
            (Key::Silent(family, NodeId::from_number(u32_at(key, 0)?)?), Value::Present)
        }
        Container::Flows => return None,
    })
}

/// The link that a base chain takes its packets from.
fn device(chain: &Message) -> Option<&str> {
    attribute(attribute(body(chain), 4)?, 3).map(text)
}
