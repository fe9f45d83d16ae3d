//! Our nftables table: read, written, checked.
//!
//! Rules are loaded as text by `nft` (once); everything that changes with Services is raw netlink,
//! one transaction per plan. The rules' own bytes, as the kernel gives them back, are summed up in
//! the comment of an empty chain, so that a restart can tell an intact table from one that somebody
//! has edited, without writing anything.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;

use ipnet::IpNet;
use netmodel::address::{Backend, Family, Frontend, Protocol as Transport};
use netmodel::nft::render::{self, TABLE};
use netmodel::nft::ruleset::chain_rules;
use netmodel::nft::{ChainName, Container, Elements, Item, Key, Op, State, Value, Verdict};

use super::netlink::{
    ACK, CREATE, Connection, DUMP, Message, Protocol, Writer, attribute, attributes, text,
};
use super::{OpError, failed};

const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const GET_CHAIN: u16 = SUBSYSTEM | 4;
const GET_RULE: u16 = SUBSYSTEM | 7;
const NEW_ELEMENT: u16 = SUBSYSTEM | 12;
const GET_ELEMENT: u16 = SUBSYSTEM | 13;
const DELETE_ELEMENT: u16 = SUBSYSTEM | 14;

const FAMILY_INET: u8 = 1;
const VERDICT_DROP: i32 = 0;
const VERDICT_GOTO: i32 = -4;

/// Elements in one message: its length must fit 16 bits.
const CHUNK: usize = 300;

/// The chain whose comment says what the rules should look like.
const SEAL: &str = "seal";

/// A connection to our table.
#[derive(Debug)]
pub(crate) struct Table {
    netlink: Connection,
}

impl Table {
    pub(crate) fn open() -> Result<Self, OpError> {
        let netlink =
            Connection::open(Protocol::Netfilter).map_err(failed("open a netfilter socket"))?;
        Ok(Self { netlink })
    }

    /// The port by which notifications of our own changes are known.
    pub(crate) fn port(&self) -> u32 {
        self.netlink.port()
    }

    /// The table as it is, if it is there and its rules are what `desired` asks for.
    pub(crate) fn observe(&mut self, desired: &State) -> Result<Option<State>, OpError> {
        let seal = self.chain_comment(SEAL)?;
        if seal.is_none() || seal != Some(self.seal(desired)?) {
            return Ok(None);
        }
        let mut pickers = self.chains()?;
        pickers.retain(|chain, count| *count == chain_rules(*chain).len());
        let mut elements = BTreeMap::new();
        for container in Container::ALL {
            for family in Family::ALL {
                self.read_elements(container, family, &mut elements)?;
            }
        }
        Ok(Some(State {
            ruleset: desired.ruleset.clone(),
            pickers: pickers.into_keys().collect(),
            elements: Elements(elements),
        }))
    }

    /// Is there a table of our name at all?
    pub(crate) fn exists(&mut self) -> Result<bool, OpError> {
        Ok(self.dump_chains()?.next().is_some())
    }

    /// Writes the whole table. What it replaces serves until the moment the new one does.
    pub(crate) fn replace(&mut self, desired: &State) -> Result<(), OpError> {
        if self.exists()? {
            run_nft(&render::replace(desired))?;
        } else {
            // Nothing serves yet: rules first, and the elements the fast way.
            let empty = State { elements: Elements::default(), ..desired.clone() };
            run_nft(&render::replace(&empty))?;
            let ops: Vec<Op> =
                desired.elements.0.iter().map(|(k, v)| Op::Add(*k, v.clone())).collect();
            self.execute(&ops)?;
        }
        let seal = self.seal(desired)?;
        self.write_seal(&seal)
    }

    /// Makes all changes of a plan but [`Op::Replace`], in one transaction.
    pub(crate) fn execute(&mut self, ops: &[Op]) -> Result<(), OpError> {
        let chains: BTreeSet<ChainName> = ops
            .iter()
            .filter_map(|op| if let Op::AddChain(chain) = op { Some(*chain) } else { None })
            .collect();
        if !chains.is_empty() {
            run_nft(&render::add_chains(&chains))?;
        }
        let first = self.netlink.next_sequence();
        let mut batch = Writer::default();
        batch.message(BATCH_BEGIN, 0, first, |w| header(w, 0, SUBSYSTEM >> 8));
        let mut acknowledgements = 0;
        for (kind, container, family, elements) in runs(ops) {
            for chunk in elements.chunks(CHUNK) {
                let sequence = self.netlink.next_sequence();
                let create = if kind == NEW_ELEMENT { CREATE } else { 0 };
                batch.message(kind, ACK | create, sequence, |w| {
                    header(w, FAMILY_INET, 0);
                    w.string(1, TABLE);
                    w.string(2, &container.name(family));
                    w.nest(3, |w| chunk.iter().for_each(|(k, v)| write_element(w, kind, k, v)));
                });
                acknowledgements += 1;
            }
        }
        if acknowledgements == 0 {
            return Ok(());
        }
        let last = self.netlink.next_sequence();
        batch.message(BATCH_END, 0, last, |w| header(w, 0, SUBSYSTEM >> 8));
        self.netlink
            .send_all(&batch, first..=last, acknowledgements)
            .map_err(failed(format!("change {} elements of table {TABLE}", ops.len())))
    }

    /// Deletes the table.
    pub(crate) fn delete(&mut self) -> Result<(), OpError> {
        if !self.exists()? {
            return Ok(());
        }
        self.batch_of_one(DELETE_TABLE, 0, |w| w.string(1, TABLE))
            .map_err(failed(format!("delete table {TABLE}")))
    }

    fn batch_of_one(
        &mut self,
        kind: u16,
        flags: u16,
        body: impl FnOnce(&mut Writer),
    ) -> io::Result<()> {
        let first = self.netlink.next_sequence();
        let middle = self.netlink.next_sequence();
        let last = self.netlink.next_sequence();
        let mut batch = Writer::default();
        batch.message(BATCH_BEGIN, 0, first, |w| header(w, 0, SUBSYSTEM >> 8));
        batch.message(kind, ACK | flags, middle, |w| {
            header(w, FAMILY_INET, 0);
            body(w);
        });
        batch.message(BATCH_END, 0, last, |w| header(w, 0, SUBSYSTEM >> 8));
        self.netlink.send_all(&batch, first..=last, 1)
    }

    fn dump_chains(&mut self) -> Result<impl Iterator<Item = Message> + use<>, OpError> {
        let all = self
            .netlink
            .request(GET_CHAIN, DUMP, |w| header(w, FAMILY_INET, 0))
            .map_err(failed("list chains"))?;
        Ok(all.into_iter().filter(|m| named(m, 1) == Some(TABLE)))
    }

    fn chain_comment(&mut self, name: &str) -> Result<Option<String>, OpError> {
        let chain = self.dump_chains()?.find(|m| named(m, 3) == Some(name));
        Ok(chain.and_then(|m| comment(attribute(body(&m), 12)?)))
    }

    /// The chains that others go to, with their numbers of rules.
    fn chains(&mut self) -> Result<BTreeMap<ChainName, usize>, OpError> {
        let mut out: BTreeMap<ChainName, usize> = self
            .dump_chains()?
            .filter_map(|m| Some((ChainName::parse(named(&m, 3)?)?, 0)))
            .collect();
        for rule in self.dump_rules()? {
            let chain = named(&rule, 2).and_then(ChainName::parse);
            if let Some(count) = chain.and_then(|chain| out.get_mut(&chain)) {
                *count += 1;
            }
        }
        Ok(out)
    }

    fn dump_rules(&mut self) -> Result<Vec<Message>, OpError> {
        self.netlink
            .request(GET_RULE, DUMP, |w| {
                header(w, FAMILY_INET, 0);
                w.string(1, TABLE);
            })
            .or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(vec![]) } else { Err(e) })
            .map_err(failed(format!("list the rules of table {TABLE}")))
    }

    /// What identifies the rules: those that were meant, and those that the kernel has.
    fn seal(&mut self, desired: &State) -> Result<String, OpError> {
        let meant = fnv1a(render::fingerprint(&desired.ruleset).as_bytes(), FNV_START);
        let mut found = FNV_START;
        for rule in self.dump_rules()? {
            let chain = named(&rule, 2).unwrap_or_default();
            if ChainName::parse(chain).is_none() {
                found = fnv1a(chain.as_bytes(), found);
                found = fnv1a(attribute(body(&rule), 4).unwrap_or_default(), found);
            }
        }
        Ok(format!("{meant:016x} {found:016x}"))
    }

    fn write_seal(&mut self, seal: &str) -> Result<(), OpError> {
        let mut userdata = vec![0, u8::try_from(seal.len() + 1).expect("a seal is short")];
        userdata.extend_from_slice(seal.as_bytes());
        userdata.push(0);
        self.batch_of_one(NEW_CHAIN, CREATE, |w| {
            w.string(1, TABLE);
            w.string(3, SEAL);
            w.attr(12, &userdata);
        })
        .map_err(failed(format!("seal table {TABLE}")))
    }

    fn read_elements(
        &mut self,
        container: Container,
        family: Family,
        out: &mut BTreeMap<Key, Value>,
    ) -> Result<(), OpError> {
        let name = container.name(family);
        let answers = self
            .netlink
            .request(GET_ELEMENT, DUMP, |w| {
                header(w, FAMILY_INET, 0);
                w.string(1, TABLE);
                w.string(2, &name);
            })
            .map_err(failed(format!("list the elements of {name}")))?;
        for message in &answers {
            let list = attribute(body(message), 3).unwrap_or_default();
            for (_, element) in attributes(list) {
                if let Some((key, value)) = read_element(container, family, element) {
                    out.insert(key, value);
                }
            }
        }
        Ok(())
    }
}

/// Consecutive elements of one container, as one kind of message wants them.
fn runs(ops: &[Op]) -> Vec<(u16, Container, Family, Vec<(&Key, &Value)>)> {
    let mut out: Vec<(u16, Container, Family, Vec<(&Key, &Value)>)> = Vec::new();
    for op in ops {
        let (kind, key, value) = match op {
            Op::Delete(key, value) => (DELETE_ELEMENT, key, value),
            Op::Add(key, value) => (NEW_ELEMENT, key, value),
            Op::Replace | Op::AddChain(_) => continue,
        };
        let family = key.item.family();
        match out.last_mut() {
            Some((k, c, f, list)) if (*k, *c, *f) == (kind, key.container, family) => {
                list.push((key, value));
            }
            _ => out.push((kind, key.container, family, vec![(key, value)])),
        }
    }
    out
}

fn header(writer: &mut Writer, family: u8, resource: u16) {
    let resource = resource.to_be_bytes();
    writer.raw(&[family, 0, resource[0], resource[1]]);
}

fn body(message: &Message) -> &[u8] {
    message.body.get(4..).unwrap_or_default()
}

fn named(message: &Message, kind: u16) -> Option<&str> {
    attribute(body(message), kind).map(text)
}

/// Is a notification about our table?
pub(crate) fn concerns_us(message: &Message) -> bool {
    named(message, 1) == Some(TABLE)
}

fn comment(userdata: &[u8]) -> Option<String> {
    // Type, length, text: libnftnl's own little format.
    let (kind, length) = (*userdata.first()?, usize::from(*userdata.get(1)?));
    (kind == 0).then(|| text(userdata.get(2..2 + length).unwrap_or_default()).to_owned())
}

fn write_element(writer: &mut Writer, kind: u16, key: &Key, value: &Value) {
    writer.nest(1, |w| {
        let (from, to) = key_bytes(key);
        w.nest(1, |w| w.attr(1, &from));
        if let Some(to) = to {
            w.nest(10, |w| w.attr(1, &to));
        }
        if kind == DELETE_ELEMENT {
            return;
        }
        match value {
            Value::Present => {}
            Value::Backend(backend) => {
                let mut data = octets(backend.addr);
                push_port(&mut data, backend.port);
                w.nest(2, |w| w.attr(1, &data));
            }
            Value::Verdict(verdict, owner) => {
                w.nest(2, |w| w.nest(2, |w| write_verdict(w, *verdict)));
                w.attr(6, &element_comment(owner));
            }
        }
    });
}

fn write_verdict(writer: &mut Writer, verdict: Verdict) {
    match verdict {
        Verdict::Drop => writer.attr(1, &VERDICT_DROP.to_be_bytes()),
        Verdict::Goto(chain) => {
            writer.attr(1, &VERDICT_GOTO.to_be_bytes());
            writer.string(2, &chain.to_string());
        }
    }
}

fn element_comment(owner: &str) -> Vec<u8> {
    // nft shows at most 128 bytes of comment; names can be longer.
    let shown = owner.get(..127.min(owner.len())).unwrap_or_default();
    let mut out = vec![0, u8::try_from(shown.len() + 1).expect("at most 128")];
    out.extend_from_slice(shown.as_bytes());
    out.push(0);
    out
}

/// An element's key, and its upper end where the container holds ranges.
fn key_bytes(key: &Key) -> (Vec<u8>, Option<Vec<u8>>) {
    match key.item {
        Item::Frontend(frontend) => (frontend_bytes(frontend), None),
        Item::Slot(frontend, slot) => {
            let mut out = frontend_bytes(frontend);
            out.extend_from_slice(&slot.to_ne_bytes());
            (out, None)
        }
        Item::Clients(frontend, range) => {
            let with = |addr| [frontend_bytes(frontend), octets(addr)].concat();
            (with(range.network()), Some(with(range.broadcast())))
        }
        Item::Address(addr) if key.container == Container::Hairpin => {
            ([octets(addr), octets(addr)].concat(), None)
        }
        Item::Address(addr) => (octets(addr), None),
    }
}

/// Every field of a concatenation is padded to four bytes.
fn frontend_bytes(frontend: Frontend) -> Vec<u8> {
    let mut out = octets(frontend.addr);
    out.extend_from_slice(&[frontend.protocol.number(), 0, 0, 0]);
    push_port(&mut out, frontend.port);
    out
}

fn push_port(out: &mut Vec<u8>, port: u16) {
    out.extend_from_slice(&port.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
}

fn octets(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    }
}

fn read_element(container: Container, family: Family, element: &[u8]) -> Option<(Key, Value)> {
    let key = attribute(attribute(element, 1)?, 1)?;
    let item = match container {
        Container::Services | Container::Outside | Container::Unserved | Container::Restricted => {
            Item::Frontend(read_frontend(family, key)?.0)
        }
        Container::Endpoints | Container::OutsideEndpoints => {
            let (frontend, rest) = read_frontend(family, key)?;
            Item::Slot(frontend, u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?))
        }
        Container::Admitted => {
            let (frontend, from) = read_frontend(family, key)?;
            let end = attribute(attribute(element, 10)?, 1)?;
            let to = read_frontend(family, end)?.1;
            Item::Clients(frontend, read_range(family, from, to)?)
        }
        Container::Vips | Container::Hairpin | Container::Nodes => {
            Item::Address(read_address(family, key)?.0)
        }
    };
    let data = attribute(element, 2);
    let value = match container {
        Container::Services | Container::Outside | Container::Unserved => {
            let owner = attribute(element, 6).and_then(comment).unwrap_or_default();
            Value::Verdict(read_verdict(attribute(data?, 2)?)?, Arc::from(owner))
        }
        Container::Endpoints | Container::OutsideEndpoints => {
            let (addr, port) = read_address(family, attribute(data?, 1)?)?;
            let port = u16::from_be_bytes(port.get(..2)?.try_into().ok()?);
            Value::Backend(Backend { addr, port })
        }
        _ => Value::Present,
    };
    Some((Key { container, item }, value))
}

fn read_verdict(data: &[u8]) -> Option<Verdict> {
    match i32::from_be_bytes(attribute(data, 1)?.try_into().ok()?) {
        VERDICT_DROP => Some(Verdict::Drop),
        VERDICT_GOTO => Some(Verdict::Goto(ChainName::parse(text(attribute(data, 2)?))?)),
        _ => None,
    }
}

fn read_address(family: Family, bytes: &[u8]) -> Option<(IpAddr, &[u8])> {
    match family {
        Family::V4 => {
            let (addr, rest) = bytes.split_first_chunk::<4>()?;
            Some((IpAddr::from(*addr), rest))
        }
        Family::V6 => {
            let (addr, rest) = bytes.split_first_chunk::<16>()?;
            Some((IpAddr::from(*addr), rest))
        }
    }
}

fn read_frontend(family: Family, bytes: &[u8]) -> Option<(Frontend, &[u8])> {
    let (addr, rest) = read_address(family, bytes)?;
    let protocol = Transport::from_number(*rest.first()?)?;
    let port = u16::from_be_bytes(rest.get(4..6)?.try_into().ok()?);
    Some((Frontend { addr, protocol, port }, rest.get(8..)?))
}

fn read_range(family: Family, from: &[u8], to: &[u8]) -> Option<IpNet> {
    let (from, to) = (read_address(family, from)?.0, read_address(family, to)?.0);
    (0..=family.host_bits())
        .filter_map(|bits| IpNet::new(from, bits).ok())
        .find(|net| net.network() == from && net.broadcast() == to)
}

fn run_nft(text: &str) -> Result<(), OpError> {
    let step = "load the nftables table with nft";
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed(step))?;
    let mut input = child.stdin.take().expect("stdin is piped");
    // nft reads all of its input before it writes anything, so this can't dead-lock.
    let written = input.write_all(text.as_bytes());
    drop(input);
    let output = child.wait_with_output().map_err(failed(step))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(failed(step)(io::Error::other(words)));
    }
    written.map_err(failed(step))
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a: only has to notice an edit, not an attacker.
fn fnv1a(bytes: &[u8], start: u64) -> u64 {
    bytes.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
