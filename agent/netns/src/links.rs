//! Making links, addresses and routes of one network namespace through rtnetlink.
//!
//! Every call is idempotent: what is there already is left as it is. Kernel errors keep the
//! operation and its operands. Looking at what is there: `look.rs`.

use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use futures::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute};
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol, RouteScope};
use rtnetlink::{Handle, LinkBridge, LinkBridgePort, LinkUnspec, LinkVeth, RouteMessageBuilder};
use tokio::sync::Mutex;

use crate::namespace::{Namespace, NamespaceError};

/// What failed in the kernel, with its operands.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No netlink socket.
    #[error("open a netlink socket")]
    Socket(#[source] std::io::Error),
    /// The namespace could not be entered.
    #[error("reach the namespace")]
    Namespace(#[from] NamespaceError),
    /// A request was refused.
    #[error("{op}")]
    Request {
        /// What was asked, e.g. `add address 10.244.0.1/24 to mini0`.
        op: String,
        /// The kernel's answer.
        #[source]
        source: rtnetlink::Error,
    },
    /// A link that must be there is not.
    #[error("link {0} does not exist")]
    NoLink(String),
}

/// An rtnetlink connection into one network namespace.
#[derive(Clone, Debug)]
pub struct Links {
    pub(crate) handle: Handle,
    /// Held during a dump: a socket has one at a time, a second one is refused as busy.
    pub(crate) dump: Arc<Mutex<()>>,
}

/// A virtual Ethernet pair, one end here and one in another namespace.
#[derive(Clone, Debug)]
pub struct Veth<'a> {
    /// Name of the end that stays here.
    pub name: &'a str,
    /// Name of the other end, inside `peer_namespace`.
    pub peer_name: &'a str,
    /// Where the other end goes.
    pub peer_namespace: &'a Namespace,
    /// Hardware address of the other end; `None` for one by chance.
    pub peer_mac: Option<[u8; 6]>,
    /// MTU of both ends in bytes.
    pub mtu: u32,
    /// Index of the bridge that the end here joins.
    pub bridge: Option<u32>,
    /// Whether the bridge keeps frames of this port from other isolated ports.
    pub isolated: bool,
    /// Free text shown by `ip link`: what the link is for.
    pub alias: Option<&'a str>,
}

/// A route to be programmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination; `0.0.0.0/0` is the default route.
    pub destination: IpNet,
    /// Next hop; `None` for a destination on the link itself.
    pub gateway: Option<IpAddr>,
    /// The node's own address for packets that take this route; `None` leaves it to the kernel.
    pub source: Option<IpAddr>,
    /// Its metric; `None` leaves it to the kernel.
    pub metric: Option<u32>,
    /// The link, by index; may be left out where the gateway decides it.
    pub link: Option<u32>,
    /// The gateway is on the link though no address says so.
    pub onlink: bool,
    /// Who made it (`rtm_protocol`); `None` is `static` (4).
    pub protocol: Option<u8>,
}

impl Links {
    /// A connection in the namespace of the calling thread. Must be called within a runtime.
    ///
    /// # Errors
    /// When no netlink socket can be made.
    pub fn here() -> Result<Self, LinkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(LinkError::Socket)?;
        tokio::spawn(connection);
        Ok(Self { handle, dump: Arc::default() })
    }

    /// A connection inside a pinned namespace. Must be called within a runtime.
    ///
    /// # Errors
    /// When the namespace is gone or no socket can be made.
    pub fn inside(namespace: &Namespace) -> Result<Self, LinkError> {
        let runtime = tokio::runtime::Handle::current();
        namespace.run(move || {
            let _inside = runtime.enter();
            Self::here()
        })?
    }

    /// The handle, for what has no verb here.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The index of a link; `None` if there is none of that name.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub async fn index(&self, name: &str) -> Result<Option<u32>, LinkError> {
        match self.handle.link().get().match_name(name).execute().try_next().await {
            Ok(found) => Ok(found.map(|link| link.header.index)),
            Err(error) if errno(&error) == Some(libc::ENODEV) => Ok(None),
            Err(source) => Err(LinkError::Request { op: format!("look up link {name}"), source }),
        }
    }

    /// The index of a link that must be there.
    ///
    /// # Errors
    /// [`LinkError::NoLink`] if it is not.
    pub async fn require(&self, name: &str) -> Result<u32, LinkError> {
        self.index(name).await?.ok_or_else(|| LinkError::NoLink(name.to_owned()))
    }

    /// Makes sure that a bridge is there; answers its index. It is not set up: settings that must
    /// hold from its first packet come first. A new one floods multicast to all ports: neighbours
    /// are found by it, and a bridge that listens for who wants which is one more thing to go wrong.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub async fn ensure_bridge(&self, name: &str, mtu: u32) -> Result<u32, LinkError> {
        if self.index(name).await?.is_none() {
            let bridge = LinkBridge::new(name).mtu(mtu).mcast_snooping(false).build();
            ignore_exists(self.handle.link().add(bridge).execute().await)
                .map_err(request(format!("add bridge {name}")))?;
        }
        self.require(name).await
    }

    /// Makes a veth pair and moves its other end; answers (index here, index there). The end here
    /// is up, the other one is not.
    ///
    /// # Errors
    /// The kernel's refusal; a half-made pair is removed.
    pub async fn add_veth(&self, veth: &Veth<'_>) -> Result<(u32, u32), LinkError> {
        let op = || format!("add veth {} with peer {}", veth.name, veth.peer_name);
        // The peer is born under a name that can't clash here, and gets its own where it goes.
        let travelling = format!("{}p", veth.name);
        let mut message = LinkVeth::new(veth.name, &travelling).mtu(veth.mtu);
        if let Some(bridge) = veth.bridge {
            message = message.controller(bridge);
        }
        self.handle.link().add(message.build()).execute().await.map_err(request(op()))?;
        match self.finish_veth(veth, &travelling).await {
            Ok(indices) => Ok(indices),
            Err(error) => {
                // The first error is the one worth telling.
                let _ = self.delete(veth.name).await;
                Err(error)
            }
        }
    }

    async fn finish_veth(
        &self,
        veth: &Veth<'_>,
        travelling: &str,
    ) -> Result<(u32, u32), LinkError> {
        let here = self.require(veth.name).await?;
        let there = self.require(travelling).await?;
        if veth.isolated {
            self.handle
                .link()
                .set_port(LinkBridgePort::new(here).isolated(true).build())
                .execute()
                .await
                .map_err(request(format!("isolate bridge port {}", veth.name)))?;
        }
        if let Some(alias) = veth.alias {
            self.handle
                .link()
                .set(LinkUnspec::new_with_index(here).alias(alias).build())
                .execute()
                .await
                .map_err(request(format!("name the purpose of {}", veth.name)))?;
        }
        if veth.bridge.is_some() {
            self.without_ipv6_address(here, veth.name).await?;
        }
        let file = veth.peer_namespace.file()?;
        let mut peer = LinkUnspec::new_with_index(there)
            .name(veth.peer_name)
            .mtu(veth.mtu)
            .setns_by_fd(file.as_raw_fd());
        if let Some(mac) = veth.peer_mac {
            peer = peer.address(mac.to_vec());
        }
        self.handle
            .link()
            .set(peer.build())
            .execute()
            .await
            .map_err(request(format!("move {} into its namespace", veth.peer_name)))?;
        self.set_up(here).await?;
        let inside = Links::inside(veth.peer_namespace)?;
        Ok((here, inside.require(veth.peer_name).await?))
    }

    /// A port of a bridge has no address, not even the one that IPv6 gives to every link.
    async fn without_ipv6_address(&self, index: u32, name: &str) -> Result<(), LinkError> {
        let none = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
        let message = LinkUnspec::new_with_index(index)
            .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![none]))
            .build();
        match self.handle.link().set(message).execute().await {
            // A kernel without IPv6 gives none anyway.
            Err(error) if errno(&error) == Some(libc::EAFNOSUPPORT) => Ok(()),
            other => other.map_err(request(format!("keep {name} without an address"))),
        }
    }

    /// Sets a link up.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub async fn set_up(&self, index: u32) -> Result<(), LinkError> {
        self.handle
            .link()
            .set(LinkUnspec::new_with_index(index).up().build())
            .execute()
            .await
            .map_err(request(format!("set link {index} up")))
    }

    /// Sets the loopback link up; a new namespace has it down.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub async fn set_loopback_up(&self) -> Result<(), LinkError> {
        let index = self.require("lo").await?;
        self.set_up(index).await
    }

    /// Removes a link by name; answers whether it was there.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub async fn delete(&self, name: &str) -> Result<bool, LinkError> {
        let Some(index) = self.index(name).await? else {
            return Ok(false);
        };
        match self.handle.link().del(index).execute().await {
            Ok(()) => Ok(true),
            Err(error) if errno(&error) == Some(libc::ENODEV) => Ok(false),
            Err(source) => Err(LinkError::Request { op: format!("delete link {name}"), source }),
        }
    }

    /// Makes sure that a link has an address. It can be used at once: whoever asks for it knows
    /// that nobody else has it, so IPv6 need not look for another owner first.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub async fn ensure_address(&self, index: u32, address: IpNet) -> Result<(), LinkError> {
        let mut add = self.handle.address().add(index, address.addr(), address.prefix_len());
        if address.addr().is_ipv6() {
            add.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        ignore_exists(add.execute().await)
            .map_err(request(format!("add address {address} to link {index}")))
    }

    /// Makes sure that a route is there, replacing one of the same destination.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub async fn ensure_route(&self, route: &Route) -> Result<(), LinkError> {
        let op = format!("set route to {}", route.destination);
        self.handle
            .route()
            .add(route_message(route, &op)?)
            .replace()
            .execute()
            .await
            .map_err(request(op))
    }
}

fn route_message(route: &Route, op: &str) -> Result<RouteMessage, LinkError> {
    let mut builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(route.destination.addr(), route.destination.prefix_len())
        .map_err(|_| LinkError::NoLink(op.to_owned()))?;
    if let Some(gateway) = route.gateway {
        builder = builder.gateway(gateway).map_err(|_| LinkError::NoLink(op.to_owned()))?;
    } else {
        builder = builder.scope(RouteScope::Link);
    }
    if let Some(source) = route.source {
        builder = builder.pref_source(source).map_err(|_| LinkError::NoLink(op.to_owned()))?;
    }
    if let Some(metric) = route.metric {
        builder = builder.priority(metric);
    }
    if let Some(link) = route.link {
        builder = builder.output_interface(link);
    }
    if route.onlink {
        builder = builder.onlink();
    }
    if let Some(protocol) = route.protocol {
        builder = builder.protocol(RouteProtocol::from(protocol));
    }
    Ok(builder.build())
}

pub(crate) fn request(op: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> LinkError {
    let op = op.into();
    move |source| LinkError::Request { op, source }
}

/// The errno of a refusal, positive as in `errno.h`.
#[must_use]
pub fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => Some(-message.raw_code()),
        _ => None,
    }
}

fn ignore_exists(result: Result<(), rtnetlink::Error>) -> Result<(), rtnetlink::Error> {
    match result {
        Err(error) if errno(&error) == Some(libc::EEXIST) => Ok(()),
        other => other,
    }
}
