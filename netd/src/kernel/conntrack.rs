//! The kernel's memory of connections: read, and forgotten one by one.

use std::net::{IpAddr, Ipv4Addr};

use netmodel::address::{Backend, Family, Frontend, Protocol as Transport};
use netmodel::conntrack::Flow;

use super::netlink::{Connection, DUMP, Protocol, Writer, attribute};
use super::{OpError, failed};

const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const NESTED: u16 = 0x8000;

/// Attributes of a connection.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ID: u16 = 12;
const FILTER: u16 = 25;

/// A connection to the connection tracker.
#[derive(Debug)]
pub(crate) struct Tracker {
    netlink: Connection,
}

/// A remembered connection, and what names it to the kernel.
#[derive(Debug)]
pub(crate) struct Remembered {
    pub(crate) flow: Flow,
    original: Vec<u8>,
    id: Option<Vec<u8>>,
}

impl Tracker {
    pub(crate) fn open() -> Result<Self, OpError> {
        let netlink = Connection::open(Protocol::Netfilter)
            .map_err(failed("open a socket to the connection tracker"))?;
        Ok(Self { netlink })
    }

    /// All remembered UDP connections of a family.
    pub(crate) fn udp_flows(&mut self, family: Family) -> Result<Vec<Remembered>, OpError> {
        let answers = self
            .netlink
            .request(GET, DUMP, |w| {
                header(w, family);
                // Let the kernel leave out what isn't UDP: tables of 100,000 connections are
                // ordinary. Kernels before 5.8 ignore it, and `read` looks again.
                w.nest(FILTER, |w| {
                    w.u32(1, 1 << 3);
                    w.u32(2, 0);
                });
                w.nest(ORIGINAL, |w| w.nest(2, |w| w.u8(1, Transport::Udp.number())));
            })
            .or_else(|_| self.netlink.request(GET, DUMP, |w| header(w, family)))
            .map_err(failed("list remembered connections"))?;
        Ok(answers.iter().filter_map(|m| read(family, m.body.get(4..)?)).collect())
    }

    /// Forgets one. That it is gone already is no error.
    pub(crate) fn forget(&mut self, remembered: &Remembered) -> Result<(), OpError> {
        let Flow { to, answered_by } = remembered.flow;
        let gone = self.netlink.request(DELETE, 0, |w| {
            header(w, Family::of(to.addr));
            w.attr(ORIGINAL | NESTED, &remembered.original);
            if let Some(id) = &remembered.id {
                w.attr(ID, id);
            }
        });
        match gone {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other.map(|_| ()).map_err(failed(format!(
                "forget a connection to {to} that {answered_by} answered"
            ))),
        }
    }
}

fn header(writer: &mut Writer, family: Family) {
    let number = match family {
        Family::V4 => 2,
        Family::V6 => 10,
    };
    writer.raw(&[number, 0, 0, 0]);
}

fn read(family: Family, connection: &[u8]) -> Option<Remembered> {
    let original = attribute(connection, ORIGINAL)?;
    let reply = attribute(connection, REPLY)?;
    let (protocol, to_port) = ports(original, 3)?;
    let (_, from_port) = ports(reply, 2)?;
    let protocol = Transport::from_number(protocol).filter(|p| *p == Transport::Udp)?;
    let flow = Flow {
        to: Frontend { addr: address(family, original, 2)?, protocol, port: to_port },
        answered_by: Backend { addr: address(family, reply, 1)?, port: from_port },
    };
    let id = attribute(connection, ID).map(<[u8]>::to_vec);
    Some(Remembered { flow, original: original.to_vec(), id })
}

/// The protocol and the source (2) or destination (3) port of one direction.
fn ports(tuple: &[u8], kind: u16) -> Option<(u8, u16)> {
    let transport = attribute(tuple, 2)?;
    let port = attribute(transport, kind)?;
    Some((*attribute(transport, 1)?.first()?, u16::from_be_bytes(port.try_into().ok()?)))
}

/// The source (1) or destination (2) address of one direction.
fn address(family: Family, tuple: &[u8], kind: u16) -> Option<IpAddr> {
    let ip = attribute(tuple, 1)?;
    match family {
        Family::V4 => {
            let octets: [u8; 4] = attribute(ip, kind)?.try_into().ok()?;
            Some(Ipv4Addr::from(octets).into())
        }
        Family::V6 => {
            let octets: [u8; 16] = attribute(ip, kind + 2)?.try_into().ok()?;
            Some(octets.into())
        }
    }
}
