//! IPVS over generic netlink (`net/netfilter/ipvs/ip_vs_ctl.c`): virtual servers and destinations.
//!
//! IPVS has no transactions: operations are sent many at a time and each is answered for itself.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use netmodel::address::{Backend, Family, Frontend, Protocol as Transport};
use netmodel::ipvs::{Op, Server, Servers};

use super::netlink::{
    ACK, Connection, DUMP, Message, Protocol, Writer, attribute, text, u16_at, u32_at,
};
use super::{OpError, failed};

const CONTROLLER: u16 = 16;
const GET_FAMILY: u8 = 3;

const NEW_SERVICE: u8 = 1;
const SET_SERVICE: u8 = 2;
const DELETE_SERVICE: u8 = 3;
const GET_SERVICE: u8 = 4;
const NEW_DESTINATION: u8 = 5;
const SET_DESTINATION: u8 = 6;
const DELETE_DESTINATION: u8 = 7;
const GET_DESTINATION: u8 = 8;
const SET_CONFIG: u8 = 12;
const GET_CONFIG: u8 = 13;

const SERVICE: u16 = 1;
const DESTINATION: u16 = 2;
/// Seconds for which an idle TCP connection is remembered.
const TIMEOUT_TCP: u16 = 4;
const FLAG_PERSISTENT: u32 = 1;
const FORWARD_MASQUERADE: u32 = 0;

/// Messages in one send: their answers must fit the receive buffer.
const CHUNK: usize = 200;

/// Connections bound to each destination: active, inactive and persistent ones.
pub(crate) type Connections = BTreeMap<(Frontend, Backend), u32>;

/// A destination as the kernel has it.
pub(crate) struct Destination {
    pub(crate) backend: Backend,
    pub(crate) weight: u32,
    pub(crate) connections: u32,
}

/// Changes that the kernel refused, by their places in a plan.
pub(crate) type Refused = Vec<(usize, OpError)>;

/// A connection to IPVS.
#[derive(Debug)]
pub(crate) struct Ipvs {
    netlink: Connection,
    family: u16,
}

impl Ipvs {
    /// Fails with `NotFound` where the kernel has no IPVS.
    pub(crate) fn open() -> io::Result<Self> {
        let mut netlink = Connection::open(Protocol::Generic)?;
        let answers = netlink.request(CONTROLLER, 0, |w| {
            w.raw(&[GET_FAMILY, 1, 0, 0]);
            w.string(2, "IPVS");
        })?;
        let family = answers
            .iter()
            .find_map(|m| u16_at(attribute(m.body.get(4..)?, 1)?, 0))
            .ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { netlink, family })
    }

    /// All virtual servers of this network namespace, and the connections to their destinations.
    pub(crate) fn servers(&mut self) -> Result<(Servers, Connections), OpError> {
        let answers = self
            .netlink
            .request(self.family, DUMP, |w| w.raw(&[GET_SERVICE, 1, 0, 0]))
            .map_err(failed("list virtual servers"))?;
        let (mut servers, mut connections) = (Servers::new(), Connections::new());
        for message in &answers {
            let Some((frontend, mut server)) = message.body.get(4..).and_then(read_server) else {
                continue;
            };
            for found in self.destinations(frontend)? {
                server.destinations.insert(found.backend, found.weight);
                connections.insert((frontend, found.backend), found.connections);
            }
            servers.insert(frontend, server);
        }
        Ok((servers, connections))
    }

    /// One virtual server without its destinations, if it is there.
    pub(crate) fn server(&mut self, frontend: Frontend) -> Result<Option<Server>, OpError> {
        let asked = self.netlink.request(self.family, 0, |w| {
            w.raw(&[GET_SERVICE, 1, 0, 0]);
            w.nest(SERVICE, |w| write_frontend(w, frontend));
        });
        match asked {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
            Err(error) => Err(failed(format!("read virtual server {frontend}"))(error)),
            Ok(answers) => {
                let read = |m: &Message| m.body.get(4..).and_then(read_server);
                Ok(answers.iter().find_map(read).map(|(_, server)| server))
            }
        }
    }

    /// The destinations of a virtual server; none when there is no such server.
    pub(crate) fn destinations(&mut self, frontend: Frontend) -> Result<Vec<Destination>, OpError> {
        let answers = self
            .netlink
            .request(self.family, DUMP, |w| {
                w.raw(&[GET_DESTINATION, 1, 0, 0]);
                w.nest(SERVICE, |w| write_frontend(w, frontend));
            })
            .map_err(failed(format!("list the destinations of {frontend}")))?;
        let family = Family::of(frontend.addr);
        Ok(answers
            .iter()
            .filter_map(|m| read_destination(family, attribute(m.body.get(4..)?, DESTINATION)?))
            .collect())
    }

    /// Seconds for which an idle TCP connection is remembered.
    pub(crate) fn tcp_timeout(&mut self) -> Result<u32, OpError> {
        let answers = self
            .netlink
            .request(self.family, 0, |w| w.raw(&[GET_CONFIG, 1, 0, 0]))
            .map_err(failed("read the timeouts of IPVS"))?;
        let read = |m: &Message| u32_at(attribute(m.body.get(4..)?, TIMEOUT_TCP)?, 0);
        Ok(answers.iter().find_map(read).unwrap_or_default())
    }

    /// Sets it, and leaves the other timeouts as they are.
    pub(crate) fn set_tcp_timeout(&mut self, seconds: u32) -> Result<(), OpError> {
        self.netlink
            .request(self.family, 0, |w| {
                w.raw(&[SET_CONFIG, 1, 0, 0]);
                w.u32(TIMEOUT_TCP, seconds);
            })
            .map(|_| ())
            .map_err(failed(format!("let IPVS remember idle connections for {seconds} s")))
    }

    /// Makes changes; returns those that were refused. Addresses are another module's.
    ///
    /// # Errors
    /// When the kernel can't be asked at all.
    pub(crate) fn execute(&mut self, ops: &[Op]) -> Result<Refused, OpError> {
        let mine: Vec<(usize, &Op)> = ops
            .iter()
            .enumerate()
            .filter(|(_, op)| !matches!(op, Op::Bind(_) | Op::Release(_)))
            .collect();
        let mut refused = Refused::new();
        for chunk in mine.chunks(CHUNK) {
            self.execute_chunk(chunk, &mut refused)?;
        }
        Ok(refused)
    }

    fn execute_chunk(
        &mut self,
        ops: &[(usize, &Op)],
        refused: &mut Refused,
    ) -> Result<(), OpError> {
        let mut writer = Writer::default();
        let mut sequences = Vec::with_capacity(ops.len());
        for (_, op) in ops {
            let sequence = self.netlink.next_sequence();
            sequences.push(sequence);
            writer.message(self.family, ACK, sequence, |w| write_op(w, op));
        }
        let (Some(first), Some(last)) = (sequences.first(), sequences.last()) else {
            return Ok(());
        };
        let results = self
            .netlink
            .send_each(&writer, *first..=*last)
            .map_err(failed("change virtual servers"))?;
        for ((place, op), result) in ops.iter().zip(results) {
            if let Some(source) = result.err().filter(|error| !harmless(op, error)) {
                refused.push((*place, failed(describe(op))(source)));
            }
        }
        Ok(())
    }
}

/// The kernel already is where the operation leads.
fn harmless(op: &Op, error: &io::Error) -> bool {
    match (op, error.raw_os_error()) {
        (Op::AddServer(..) | Op::AddDestination(..), Some(libc::EEXIST)) => true,
        (Op::DeleteServer(_) | Op::DeleteDestination(..), Some(code)) => {
            code == libc::ESRCH || code == libc::ENOENT
        }
        _ => false,
    }
}

fn describe(op: &Op) -> String {
    match op {
        Op::Bind(addr) => format!("bind {addr}"),
        Op::Release(addr) => format!("release {addr}"),
        Op::AddServer(frontend, server) => {
            format!("add virtual server {frontend} with scheduler {}", server.scheduler)
        }
        Op::SetServer(frontend, server) => {
            format!("set virtual server {frontend} to scheduler {}", server.scheduler)
        }
        Op::DeleteServer(frontend) => format!("delete virtual server {frontend}"),
        Op::AddDestination(frontend, backend, _) => {
            format!("add destination {backend} to {frontend}")
        }
        Op::SetDestination(frontend, backend, weight) => {
            format!("set destination {backend} of {frontend} to weight {weight}")
        }
        Op::DeleteDestination(frontend, backend) => {
            format!("delete destination {backend} from {frontend}")
        }
    }
}

fn write_op(writer: &mut Writer, op: &Op) {
    let mut message = |command, frontend: Frontend, server: Option<&Server>, destination| {
        writer.raw(&[command, 1, 0, 0]);
        writer.nest(SERVICE, |w| {
            write_frontend(w, frontend);
            if let Some(server) = server {
                write_server(w, frontend, server);
            }
        });
        if let Some((backend, weight)) = destination {
            writer.nest(DESTINATION, |w| write_destination(w, backend, weight));
        }
    };
    match op {
        Op::AddServer(frontend, server) => message(NEW_SERVICE, *frontend, Some(server), None),
        Op::SetServer(frontend, server) => message(SET_SERVICE, *frontend, Some(server), None),
        Op::DeleteServer(frontend) => message(DELETE_SERVICE, *frontend, None, None),
        Op::AddDestination(frontend, backend, weight) => {
            message(NEW_DESTINATION, *frontend, None, Some((*backend, *weight)));
        }
        Op::SetDestination(frontend, backend, weight) => {
            message(SET_DESTINATION, *frontend, None, Some((*backend, *weight)));
        }
        Op::DeleteDestination(frontend, backend) => {
            message(DELETE_DESTINATION, *frontend, None, Some((*backend, 0)));
        }
        Op::Bind(_) | Op::Release(_) => {}
    }
}

fn write_frontend(writer: &mut Writer, frontend: Frontend) {
    writer.u16(1, number(frontend.addr));
    writer.u16(2, frontend.protocol.number().into());
    writer.attr(3, &sixteen(frontend.addr));
    writer.be16(4, frontend.port);
}

fn write_server(writer: &mut Writer, frontend: Frontend, server: &Server) {
    writer.string(6, &server.scheduler);
    let flags = if server.persistence_seconds.is_some() { FLAG_PERSISTENT } else { 0 };
    writer.attr(7, &[flags.to_ne_bytes(), u32::MAX.to_ne_bytes()].concat());
    writer.u32(8, server.persistence_seconds.unwrap_or(0));
    // The part of the client's address that persistence looks at: all of it.
    match Family::of(frontend.addr) {
        Family::V4 => writer.be32(9, u32::MAX),
        Family::V6 => writer.u32(9, 128),
    }
}

fn write_destination(writer: &mut Writer, backend: Backend, weight: u32) {
    writer.attr(1, &sixteen(backend.addr));
    writer.be16(2, backend.port);
    writer.u32(3, FORWARD_MASQUERADE);
    writer.u32(4, weight);
    // No thresholds.
    writer.u32(5, 0);
    writer.u32(6, 0);
    writer.u16(11, number(backend.addr));
}

fn number(addr: IpAddr) -> u16 {
    match Family::of(addr) {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

fn sixteen(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(addr) => {
            let mut out = [0; 16];
            out[..4].copy_from_slice(&addr.octets());
            out
        }
        IpAddr::V6(addr) => addr.octets(),
    }
}

fn read_sixteen(family: Family, bytes: &[u8]) -> Option<IpAddr> {
    match family {
        Family::V4 => Some(IpAddr::from(*bytes.first_chunk::<4>()?)),
        Family::V6 => Some(IpAddr::from(*bytes.first_chunk::<16>()?)),
    }
}

fn read_server(message: &[u8]) -> Option<(Frontend, Server)> {
    let service = attribute(message, SERVICE)?;
    let family = if u16_at(attribute(service, 1)?, 0)? == 2 { Family::V4 } else { Family::V6 };
    // A server without an address is one by packet mark: never ours.
    let addr = read_sixteen(family, attribute(service, 3)?)?;
    let protocol = Transport::from_number(u8::try_from(u16_at(attribute(service, 2)?, 0)?).ok()?)?;
    let port = u16::from_be_bytes(attribute(service, 4)?.try_into().ok()?);
    let flags = attribute(service, 7).and_then(|a| u32_at(a, 0)).unwrap_or(0);
    let timeout = attribute(service, 8).and_then(|a| u32_at(a, 0));
    let server = Server {
        scheduler: Arc::from(text(attribute(service, 6)?)),
        persistence_seconds: timeout.filter(|_| flags & FLAG_PERSISTENT != 0),
        destinations: BTreeMap::new(),
    };
    Some((Frontend { addr, protocol, port }, server))
}

fn read_destination(family: Family, destination: &[u8]) -> Option<Destination> {
    let number = |kind| attribute(destination, kind).and_then(|value| u32_at(value, 0));
    let port = u16::from_be_bytes(attribute(destination, 2)?.try_into().ok()?);
    Some(Destination {
        backend: Backend { addr: read_sixteen(family, attribute(destination, 1)?)?, port },
        weight: number(4)?,
        // Active, inactive and persistent ones.
        connections: [7, 8, 9].into_iter().filter_map(number).sum(),
    })
}
