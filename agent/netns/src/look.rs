//! What links, addresses and routes there are in a network namespace.
//!
//! Each look is a dump. Dumps through clones of one [`Links`] wait for each other, because the
//! kernel has one per socket and refuses a second.

use std::net::IpAddr;

use futures::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{
    InfoBridgePort, InfoKind, InfoPortData, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};

use crate::links::{LinkError, Links, request};

/// A link as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is a bridge.
    pub is_bridge: bool,
    /// The bridge (or bond …) that it is a port of, by index.
    pub controller: Option<u32>,
    /// Whether the bridge keeps it from other isolated ports.
    pub isolated: bool,
    /// Whether frames may leave by it that came in by it.
    pub hairpin: bool,
    /// Its hardware address.
    pub mac: Vec<u8>,
    /// Whether it is set up.
    pub up: bool,
}

/// A route of the main table, as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSeen {
    /// Destination; `0.0.0.0/0` or `::/0` for the default route.
    pub destination: IpNet,
    /// Next hop.
    pub gateway: Option<IpAddr>,
    /// The link, by index.
    pub link: Option<u32>,
}

impl Links {
    /// All links.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub async fn list(&self) -> Result<Vec<Link>, LinkError> {
        let _one_at_a_time = self.dump.lock().await;
        let links: Vec<LinkMessage> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(request("list the links"))?;
        Ok(links.into_iter().map(seen).collect())
    }

    /// All addresses with the index of their link.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub async fn addresses(&self) -> Result<Vec<(u32, IpNet)>, LinkError> {
        let _one_at_a_time = self.dump.lock().await;
        let found: Vec<_> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(request("list the addresses"))?;
        Ok(found
            .into_iter()
            .filter_map(|message| {
                let address = message.attributes.iter().find_map(|attribute| match attribute {
                    AddressAttribute::Address(address) => Some(*address),
                    _ => None,
                })?;
                let net = IpNet::new(address, message.header.prefix_len).ok()?;
                Some((message.header.index, net))
            })
            .collect())
    }

    /// The routes of the main table, of both families.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub async fn routes(&self) -> Result<Vec<RouteSeen>, LinkError> {
        let mut all = self.routes_of(AddressFamily::Inet).await?;
        all.extend(self.routes_of(AddressFamily::Inet6).await?);
        Ok(all)
    }

    async fn routes_of(&self, family: AddressFamily) -> Result<Vec<RouteSeen>, LinkError> {
        let mut filter = RouteMessage::default();
        filter.header.address_family = family;
        let _one_at_a_time = self.dump.lock().await;
        let routes: Vec<RouteMessage> = self
            .handle
            .route()
            .get(filter)
            .execute()
            .try_collect()
            .await
            .map_err(request("list the routes"))?;
        Ok(routes
            .into_iter()
            .filter(|route| route.header.table == libc::RT_TABLE_MAIN)
            .filter_map(route_seen)
            .collect())
    }

    /// Destinations of the routes in the main table, without default routes and multicast.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub async fn destinations(&self) -> Result<Vec<IpNet>, LinkError> {
        let is_own = |net: &IpNet| match net {
            IpNet::V4(net) => net.prefix_len() > 0,
            // Every link has the same one of those.
            IpNet::V6(net) => {
                net.prefix_len() > 0
                    && !net.addr().is_unicast_link_local()
                    && !net.addr().is_multicast()
            }
        };
        let routes = self.routes().await?;
        Ok(routes.into_iter().map(|route| route.destination).filter(is_own).collect())
    }
}

fn seen(message: LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        ..Link::default()
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Controller(index) => link.controller = Some(index),
            LinkAttribute::Address(mac) => link.mac = mac,
            LinkAttribute::LinkInfo(infos) => infos.iter().for_each(|info| note(info, &mut link)),
            _ => {}
        }
    }
    link
}

fn note(info: &LinkInfo, link: &mut Link) {
    match info {
        LinkInfo::Kind(InfoKind::Bridge) => link.is_bridge = true,
        LinkInfo::PortData(InfoPortData::BridgePort(settings)) => {
            for setting in settings {
                match setting {
                    InfoBridgePort::Isolated(on) => link.isolated = *on,
                    InfoBridgePort::HairpinMode(on) => link.hairpin = *on,
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

fn route_seen(message: RouteMessage) -> Option<RouteSeen> {
    let mut address = None;
    let (mut gateway, mut link) = (None, None);
    for attribute in message.attributes {
        match attribute {
            RouteAttribute::Destination(found) => address = of_route(&found),
            RouteAttribute::Gateway(found) => gateway = of_route(&found),
            RouteAttribute::Oif(index) => link = Some(index),
            _ => {}
        }
    }
    let address = match (address, message.header.address_family) {
        (Some(address), _) => address,
        (None, AddressFamily::Inet) => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        (None, _) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    };
    let destination = IpNet::new(address, message.header.destination_prefix_length).ok()?;
    Some(RouteSeen { destination, gateway, link })
}

fn of_route(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}
