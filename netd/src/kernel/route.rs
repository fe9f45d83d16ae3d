//! Links, addresses and routes of this network namespace, as far as the data plane owns them.
//!
//! Invariant: a route is ours by its protocol number; an address, by the link it is on. Nothing
//! else is changed or deleted.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use netmodel::address::Family;
use netmodel::route::{PROTOCOL, RouteOp, Routes, Via};
use nix::net::if_::if_nametoindex;

use super::netlink::{
    CREATE, Connection, DUMP, EXCLUSIVE, Message, Protocol, REPLACE, attribute, text, u32_at,
};
use super::{OpError, failed};

/// A link came or changed.
pub(crate) const NEW_LINK: u16 = 16;
/// A link went.
pub(crate) const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
/// An address went.
pub(crate) const DELETE_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
/// A route went.
pub(crate) const DELETE_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;

const TABLE_MAIN: u8 = 254;
const SCOPE_GLOBAL: u8 = 0;
const SCOPE_LINK: u8 = 253;
const SCOPE_NOWHERE: u8 = 255;
const UNICAST: u8 = 1;

const LINK_NAME: u16 = 3;
const LINK_INFO: u16 = 18;

const ROUTE_DESTINATION: u16 = 1;
const ROUTE_LINK: u16 = 4;
const ROUTE_GATEWAY: u16 = 5;

/// A connection to the kernel's links, addresses and routes.
#[derive(Debug)]
pub(crate) struct Network {
    netlink: Connection,
}

impl Network {
    pub(crate) fn open() -> Result<Self, OpError> {
        let netlink = Connection::open(Protocol::Route).map_err(failed("open a route socket"))?;
        Ok(Self { netlink })
    }

    /// Our routes. A route of ours to an unknown link shows as one that must be set anew.
    pub(crate) fn routes(&mut self, bridge: &str) -> Result<Routes, OpError> {
        let bridge = link_index(bridge).ok();
        let mut routes = Routes::new();
        for family in Family::ALL {
            let answers = self
                .netlink
                .request(GET_ROUTE, DUMP, |w| w.raw(&route_header(family, 0, SCOPE_GLOBAL)))
                .map_err(failed("list routes"))?;
            routes.extend(answers.iter().filter_map(|m| read_route(family, m, bridge)));
        }
        Ok(routes)
    }

    /// Changes one route; `existed` when one of ours is there already.
    pub(crate) fn change_route(
        &mut self,
        op: &RouteOp,
        existed: bool,
        bridge: &str,
    ) -> Result<(), OpError> {
        match op {
            RouteOp::Set(net, via) => {
                let step = format!("set the route to {net}");
                // Never replaces somebody else's route: that is an error, and reported.
                let flags = CREATE | if existed { REPLACE } else { EXCLUSIVE };
                self.set_route(*net, via, flags, bridge).map_err(failed(step))
            }
            RouteOp::Delete(net) => self
                .netlink
                .request(DELETE_ROUTE, 0, |w| {
                    w.raw(&route_header(Family::of(net.addr()), net.prefix_len(), SCOPE_NOWHERE));
                    w.attr(ROUTE_DESTINATION, &octets(net.network()));
                })
                .map(|_| ())
                .or_else(ignore(libc::ESRCH))
                .map_err(failed(format!("delete the route to {net}"))),
        }
    }

    fn set_route(&mut self, net: IpNet, via: &Via, flags: u16, bridge: &str) -> io::Result<()> {
        let family = Family::of(net.addr());
        let link = match via {
            Via::Bridge => Some(link_index(bridge)?),
            Via::Gateway(_) => None,
        };
        let scope = match (via, family) {
            (Via::Bridge, Family::V4) => SCOPE_LINK,
            _ => SCOPE_GLOBAL,
        };
        self.netlink.request(NEW_ROUTE, flags, |w| {
            w.raw(&route_header(family, net.prefix_len(), scope));
            w.attr(ROUTE_DESTINATION, &octets(net.network()));
            if let Via::Gateway(gateway) = via {
                w.attr(ROUTE_GATEWAY, &octets(*gateway));
            }
            if let Some(link) = link {
                w.u32(ROUTE_LINK, link);
            }
        })?;
        Ok(())
    }

    /// The addresses on a link; none when there is no such link.
    pub(crate) fn addresses(&mut self, link: &str) -> Result<BTreeSet<IpAddr>, OpError> {
        let Ok(index) = link_index(link) else { return Ok(BTreeSet::new()) };
        let answers = self
            .netlink
            .request(GET_ADDRESS, DUMP, |w| w.raw(&[0; 8]))
            .map_err(failed("list addresses"))?;
        Ok(answers.iter().filter_map(|m| read_address(m, index)).collect())
    }

    /// The networks that a link is in.
    pub(crate) fn networks_of(&mut self, link: &str) -> Result<Vec<IpNet>, OpError> {
        let Ok(index) = link_index(link) else { return Ok(Vec::new()) };
        let answers = self
            .netlink
            .request(GET_ADDRESS, DUMP, |w| w.raw(&[0; 8]))
            .map_err(failed("list addresses"))?;
        let network = |m: &Message| IpNet::new(read_address(m, index)?, *m.body.get(1)?).ok();
        Ok(answers.iter().filter_map(network).map(|net| net.trunc()).collect())
    }

    /// Adds an address to a link. That it is there already is no error.
    pub(crate) fn bind(&mut self, link: &str, addr: IpAddr) -> Result<(), OpError> {
        self.change_address(NEW_ADDRESS, CREATE | EXCLUSIVE, link, addr)
            .or_else(ignore(libc::EEXIST))
            .map_err(failed(format!("add address {addr} to {link}")))
    }

    /// Takes an address from a link. That it is gone already is no error.
    pub(crate) fn release(&mut self, link: &str, addr: IpAddr) -> Result<(), OpError> {
        self.change_address(DELETE_ADDRESS, 0, link, addr)
            .or_else(ignore(libc::EADDRNOTAVAIL))
            .map_err(failed(format!("delete address {addr} from {link}")))
    }

    fn change_address(
        &mut self,
        kind: u16,
        flags: u16,
        link: &str,
        addr: IpAddr,
    ) -> io::Result<()> {
        let index = link_index(link)?;
        let family = Family::of(addr);
        self.netlink.request(kind, flags, |w| {
            let mut header = vec![number(family), family.host_bits(), 0, SCOPE_GLOBAL];
            header.extend_from_slice(&index.to_ne_bytes());
            w.raw(&header);
            w.attr(1, &octets(addr));
            w.attr(2, &octets(addr));
            if family == Family::V6 {
                // No duplicate detection (flag NODAD): the address is on every node on purpose.
                w.u32(8, 0x02);
            }
        })?;
        Ok(())
    }

    /// The addresses of this namespace, on whatever link.
    pub(crate) fn own_addresses(&mut self) -> Result<BTreeSet<IpAddr>, OpError> {
        let answers = self
            .netlink
            .request(GET_ADDRESS, DUMP, |w| w.raw(&[0; 8]))
            .map_err(failed("list addresses"))?;
        Ok(answers.iter().filter_map(|m| read_address(m, u32_at(&m.body, 4)?)).collect())
    }

    /// The addresses of this namespace that are on other links than these.
    pub(crate) fn addresses_but_on(&mut self, links: &[&str]) -> Result<BTreeSet<IpAddr>, OpError> {
        let but: Vec<u32> = links.iter().filter_map(|link| link_index(link).ok()).collect();
        let answers = self
            .netlink
            .request(GET_ADDRESS, DUMP, |w| w.raw(&[0; 8]))
            .map_err(failed("list addresses"))?;
        let other = |m: &Message| u32_at(&m.body, 4).filter(|index| !but.contains(index));
        Ok(answers.iter().filter_map(|m| read_address(m, other(m)?)).collect())
    }

    /// The names of the links that hold some of these addresses.
    pub(crate) fn links_with(
        &mut self,
        addresses: &BTreeSet<IpAddr>,
    ) -> Result<BTreeSet<String>, OpError> {
        let answers = self
            .netlink
            .request(GET_ADDRESS, DUMP, |w| w.raw(&[0; 8]))
            .map_err(failed("list addresses"))?;
        let holds = |m: &&Message| {
            let found = u32_at(&m.body, 4).and_then(|index| read_address(m, index));
            found.is_some_and(|addr| addresses.contains(&addr))
        };
        let holders: BTreeSet<u32> =
            answers.iter().filter(holds).filter_map(|m| u32_at(&m.body, 4)).collect();
        let name = |message: &Message| {
            let of_holder = holders.contains(&u32_at(&message.body, 4)?);
            let name = attribute(message.body.get(16..)?, LINK_NAME).map(text)?;
            of_holder.then(|| name.to_owned())
        };
        Ok(self.links()?.iter().filter_map(name).collect())
    }

    /// The names of all bridges.
    pub(crate) fn bridges(&mut self) -> Result<Vec<String>, OpError> {
        let answers = self.links()?;
        let bridge = |message: &Message| {
            let attributes = message.body.get(16..)?;
            let kind = attribute(attribute(attributes, LINK_INFO)?, 1)?;
            let name = attribute(attributes, LINK_NAME)?;
            (text(kind) == "bridge").then(|| text(name).to_owned())
        };
        Ok(answers.iter().filter_map(bridge).collect())
    }

    /// What sort of link this is (`dummy`, `bridge`); `None` when there is none of the name.
    pub(crate) fn link_kind(&mut self, name: &str) -> Result<Option<String>, OpError> {
        let kind = |message: &Message| {
            let attributes = message.body.get(16..)?;
            Some(text(attribute(attribute(attributes, LINK_INFO)?, 1)?).to_owned())
        };
        let links = self.links()?;
        Ok(links.iter().find(|m| is_link(m, name)).map(|m| kind(m).unwrap_or_default()))
    }

    fn links(&mut self) -> Result<Vec<Message>, OpError> {
        self.netlink.request(GET_LINK, DUMP, |w| w.raw(&[0; 16])).map_err(failed("list links"))
    }

    /// Is there a link of this name?
    pub(crate) fn has_link(&self, name: &str) -> bool {
        link_index(name).is_ok()
    }

    /// Makes a link to hold virtual addresses: a dummy, or where the kernel has none, a bridge
    /// without ports. It stays down: its addresses are the node's own all the same, and no packet
    /// ever leaves by it.
    pub(crate) fn ensure_address_link(&mut self, name: &str) -> Result<(), OpError> {
        if link_index(name).is_ok() {
            return Ok(());
        }
        self.new_link(name, "dummy")
            .or_else(|_| self.new_link(name, "bridge"))
            .map_err(failed(format!("create link {name}")))
    }

    fn new_link(&mut self, name: &str, kind: &str) -> io::Result<()> {
        self.netlink.request(NEW_LINK, CREATE | EXCLUSIVE, |w| {
            w.raw(&[0; 16]);
            w.string(LINK_NAME, name);
            w.nest(LINK_INFO, |w| w.string(1, kind));
        })?;
        Ok(())
    }

    /// Deletes a link with its addresses. That it is gone already is no error.
    pub(crate) fn delete_link(&mut self, name: &str) -> Result<(), OpError> {
        let Ok(index) = link_index(name) else { return Ok(()) };
        self.netlink
            .request(DELETE_LINK, 0, |w| {
                let mut header = [0; 16];
                header[4..8].copy_from_slice(&index.to_ne_bytes());
                w.raw(&header);
            })
            .map(|_| ())
            .or_else(ignore(libc::ENODEV))
            .map_err(failed(format!("delete link {name}")))
    }
}

/// Is a notification about a route of ours?
pub(crate) fn is_our_route(message: &Message) -> bool {
    message.body.get(5) == Some(&PROTOCOL)
}

/// Is a notification about the link of this name?
pub(crate) fn is_link(message: &Message, name: &str) -> bool {
    let attributes = message.body.get(16..).unwrap_or_default();
    attribute(attributes, LINK_NAME).is_some_and(|found| text(found) == name)
}

fn ignore(errno: i32) -> impl FnOnce(io::Error) -> io::Result<()> {
    move |e| if e.raw_os_error() == Some(errno) { Ok(()) } else { Err(e) }
}

fn link_index(name: &str) -> io::Result<u32> {
    if_nametoindex(name).map_err(io::Error::from)
}

fn number(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

fn octets(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    }
}

fn route_header(family: Family, prefix: u8, scope: u8) -> [u8; 12] {
    [number(family), prefix, 0, 0, TABLE_MAIN, PROTOCOL, scope, UNICAST, 0, 0, 0, 0]
}

fn read_route(family: Family, message: &Message, bridge: Option<u32>) -> Option<(IpNet, Via)> {
    let [header_family, prefix, _, _, table, protocol, ..] = *message.body.first_chunk::<12>()?;
    if (header_family, table, protocol) != (number(family), TABLE_MAIN, PROTOCOL) {
        return None;
    }
    let attributes = message.body.get(12..)?;
    let net = IpNet::new(address(attribute(attributes, ROUTE_DESTINATION)?)?, prefix).ok()?;
    let via = match attribute(attributes, ROUTE_GATEWAY) {
        Some(gateway) => Via::Gateway(address(gateway)?),
        None if bridge == u32_at(attribute(attributes, ROUTE_LINK)?, 0) => Via::Bridge,
        // Ours, but not where we would put it: an unspecified gateway never equals a wanted one.
        None => Via::Gateway(IpAddr::from([0, 0, 0, 0])),
    };
    Some((net, via))
}

fn read_address(message: &Message, index: u32) -> Option<IpAddr> {
    if u32_at(&message.body, 4)? != index {
        return None;
    }
    let attributes = message.body.get(8..)?;
    let addr = address(attribute(attributes, 2).or_else(|| attribute(attributes, 1))?)?;
    let link_local = matches!(addr, IpAddr::V6(v6) if v6.is_unicast_link_local());
    (!link_local).then_some(addr)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => None,
    }
}
