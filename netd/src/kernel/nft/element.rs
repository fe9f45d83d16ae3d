//! Elements of maps and sets as the kernel wants them and gives them back.
//!
//! Every field of a concatenation is padded to four bytes; addresses and ports are in network
//! order, slots in host order (as `numgen` makes them).

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use netmodel::address::{Backend, Family, Frontend, Protocol as Transport};
use netmodel::nft::{ChainName, Client, Container, Item, Key, Value, Verdict};

use crate::kernel::netlink::{Writer, attribute, text};

const VERDICT_DROP: i32 = 0;
const VERDICT_ACCEPT: i32 = 1;
const VERDICT_GOTO: i32 = -4;

/// The text of a comment, in libnftnl's own little format: type, length, text.
pub(in crate::kernel) fn comment(userdata: &[u8]) -> Option<String> {
    let (kind, length) = (*userdata.first()?, usize::from(*userdata.get(1)?));
    (kind == 0).then(|| text(userdata.get(2..2 + length).unwrap_or_default()).to_owned())
}

/// Writes an element; to delete one, its key is enough.
pub(super) fn write_element(writer: &mut Writer, key: &Key, value: Option<&Value>) {
    writer.nest(1, |w| {
        let (from, to) = key_bytes(key);
        w.nest(1, |w| w.attr(1, &from));
        if let Some(to) = to {
            w.nest(10, |w| w.attr(1, &to));
        }
        match value {
            None | Some(Value::Present) => {}
            Some(Value::Backend(backend)) => {
                let mut data = octets(backend.addr);
                push_port(&mut data, backend.port);
                w.nest(2, |w| w.attr(1, &data));
            }
            Some(Value::Verdict(verdict, owner)) => {
                w.nest(2, |w| w.nest(2, |w| write_verdict(w, *verdict)));
                w.attr(6, &comment_bytes(owner));
            }
        }
    });
}

fn write_verdict(writer: &mut Writer, verdict: Verdict) {
    match verdict {
        Verdict::Drop => writer.attr(1, &VERDICT_DROP.to_be_bytes()),
        Verdict::Accept => writer.attr(1, &VERDICT_ACCEPT.to_be_bytes()),
        Verdict::Goto(chain) => {
            writer.attr(1, &VERDICT_GOTO.to_be_bytes());
            writer.string(2, &chain.to_string());
        }
    }
}

/// The comment of a text that may be too long for one: nft shows at most 128 bytes.
pub(in crate::kernel) fn comment_bytes(owner: &str) -> Vec<u8> {
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
        Item::Pair(frontend, backend) => {
            let mut out = [frontend_bytes(frontend), octets(backend.addr)].concat();
            push_port(&mut out, backend.port);
            (out, None)
        }
        Item::Clients(frontend, range) => {
            let with = |addr| [frontend_bytes(frontend), octets(addr)].concat();
            (with(range.network()), Some(with(range.broadcast())))
        }
        Item::Client(client, frontend) => {
            ([octets(client), frontend_bytes(frontend)].concat(), None)
        }
        Item::Address(addr) if key.container == Container::Hairpin => {
            ([octets(addr), octets(addr)].concat(), None)
        }
        Item::Address(addr) => (octets(addr), None),
    }
}

pub(in crate::kernel) fn frontend_bytes(frontend: Frontend) -> Vec<u8> {
    let mut out = octets(frontend.addr);
    out.extend_from_slice(&[frontend.protocol.number(), 0, 0, 0]);
    push_port(&mut out, frontend.port);
    out
}

fn push_port(out: &mut Vec<u8>, port: u16) {
    out.extend_from_slice(&port.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
}

pub(in crate::kernel) fn octets(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    }
}

/// Reads an element; none if it is not what its container should hold.
pub(super) fn read_element(
    container: Container,
    family: Family,
    element: &[u8],
) -> Option<(Key, Value)> {
    let key = attribute(attribute(element, 1)?, 1)?;
    let item = match container {
        Container::Services
        | Container::Balanced
        | Container::Outside
        | Container::Unserved
        | Container::Local
        | Container::Untracked
        | Container::Sticky
        | Container::Restricted => Item::Frontend(read_frontend(family, key)?.0),
        Container::Endpoints | Container::OutsideEndpoints => {
            let (frontend, rest) = read_frontend(family, key)?;
            Item::Slot(frontend, u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?))
        }
        Container::Kept => {
            let (frontend, rest) = read_frontend(family, key)?;
            Item::Pair(frontend, read_backend(family, rest)?)
        }
        Container::Admitted => {
            let (frontend, from) = read_frontend(family, key)?;
            let end = attribute(attribute(element, 10)?, 1)?;
            let to = read_frontend(family, end)?.1;
            Item::Clients(frontend, read_range(family, from, to)?)
        }
        Container::Affinity => {
            let (client, rest) = read_address(family, key)?;
            Item::Client(client, read_frontend(family, rest)?.0)
        }
        Container::Vips | Container::Draining | Container::Hairpin | Container::Nodes => {
            Item::Address(read_address(family, key)?.0)
        }
    };
    let data = attribute(element, 2);
    let value = match container {
        Container::Services
        | Container::Balanced
        | Container::Outside
        | Container::Unserved
        | Container::Local
        | Container::Sticky => {
            let owner = attribute(element, 6).and_then(comment).unwrap_or_default();
            Value::Verdict(read_verdict(attribute(data?, 2)?)?, Arc::from(owner))
        }
        Container::Endpoints | Container::OutsideEndpoints | Container::Affinity => {
            Value::Backend(read_backend(family, attribute(data?, 1)?)?)
        }
        _ => Value::Present,
    };
    Some((Key { container, item }, value))
}

/// Reads what is remembered of a client.
pub(super) fn read_client(family: Family, element: &[u8]) -> Option<Client> {
    let (key, value) = read_element(Container::Affinity, family, element)?;
    let (Item::Client(addr, frontend), Value::Backend(backend)) = (key.item, value) else {
        return None;
    };
    Some(Client { addr, frontend, backend })
}

fn read_verdict(data: &[u8]) -> Option<Verdict> {
    match i32::from_be_bytes(attribute(data, 1)?.try_into().ok()?) {
        VERDICT_DROP => Some(Verdict::Drop),
        VERDICT_ACCEPT => Some(Verdict::Accept),
        VERDICT_GOTO => Some(Verdict::Goto(ChainName::parse(text(attribute(data, 2)?))?)),
        _ => None,
    }
}

pub(in crate::kernel) fn read_address(family: Family, bytes: &[u8]) -> Option<(IpAddr, &[u8])> {
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

fn read_backend(family: Family, bytes: &[u8]) -> Option<Backend> {
    let (addr, rest) = read_address(family, bytes)?;
    Some(Backend { addr, port: u16::from_be_bytes(rest.get(..2)?.try_into().ok()?) })
}

pub(in crate::kernel) fn read_frontend(family: Family, bytes: &[u8]) -> Option<(Frontend, &[u8])> {
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
