//! Notices when somebody else changes what is ours.
//!
//! The crate's only unsafe code is here: tokio can't see that a socket lives as long as its
//! registration, and IPVS, which sends no notices, tells its number of virtual servers only by a
//! socket option.

#![expect(unsafe_code, reason = "register_with_interest and getsockopt have no safe twins")]

use std::io;
use std::os::fd::AsRawFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::netlink::{Message, Monitor, Protocol, attribute, u32_at};
use super::{OpError, failed, nft, route};

/// Multicast groups of `NETLINK_ROUTE`.
const GROUP_LINK: u32 = 1;
const GROUP_IPV4_ADDRESS: u32 = 5;
const GROUP_IPV4_ROUTE: u32 = 7;
const GROUP_IPV6_ADDRESS: u32 = 9;
const GROUP_IPV6_ROUTE: u32 = 11;
/// Settings of links, of which forwarding is one.
const GROUP_IPV4_SETTINGS: u32 = 24;
const GROUP_IPV6_SETTINGS: u32 = 25;
/// `RTM_NEWNETCONF`.
const SETTING_CHANGED: u16 = 80;
/// Multicast group of `NETLINK_NETFILTER`.
const GROUP_NFTABLES: u32 = 7;

/// What may have changed by another hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tampered {
    /// Links, addresses, routes or settings.
    Network,
    /// Our table.
    Table,
}

/// Rings when our table, routes or links changed by another hand.
#[derive(Debug)]
pub(crate) struct Alarm {
    tables: AsyncFd<Monitor>,
    network: AsyncFd<Monitor>,
    /// The netlink port of our own changes to the table.
    own_port: u32,
    /// The link that pods hang on.
    bridge: String,
}

impl Alarm {
    /// Must be called inside a tokio runtime.
    pub(crate) fn open(own_port: u32, bridge: &str) -> Result<Self, OpError> {
        let tables = Monitor::open(Protocol::Netfilter, &[GROUP_NFTABLES]);
        let network = Monitor::open(
            Protocol::Route,
            &[
                GROUP_LINK,
                GROUP_IPV4_ADDRESS,
                GROUP_IPV6_ADDRESS,
                GROUP_IPV4_ROUTE,
                GROUP_IPV6_ROUTE,
                GROUP_IPV4_SETTINGS,
                GROUP_IPV6_SETTINGS,
            ],
        );
        let register = |monitor: io::Result<Monitor>| {
            monitor.and_then(watch).map_err(failed("subscribe to changes in the kernel"))
        };
        Ok(Self {
            tables: register(tables)?,
            network: register(network)?,
            own_port,
            bridge: bridge.to_owned(),
        })
    }

    /// Returns when something of ours may have changed. Dropping it loses nothing.
    pub(crate) async fn ring(&self) -> Tampered {
        let own_port = self.own_port;
        let table = wait_for(&self.tables, |m| m.port != own_port && nft::concerns_us(m));
        let network = wait_for(&self.network, |m| concerns_our_network(m, &self.bridge));
        tokio::select! {
            () = table => Tampered::Table,
            () = network => Tampered::Network,
        }
    }
}

fn concerns_our_network(message: &Message, bridge: &str) -> bool {
    match message.kind {
        // It came back without our routes, or went down and took them along.
        route::NEW_LINK => route::is_link(message, bridge),
        // Links come and go with pods, and take routes along without a word.
        route::DELETE_LINK | route::DELETE_ADDRESS => true,
        SETTING_CHANGED => is_of_all_links(message),
        route::DELETE_ROUTE => route::is_our_route(message),
        _ => false,
    }
}

/// Every new link has settings, too; ours are those of all links.
fn is_of_all_links(message: &Message) -> bool {
    const ALL: u32 = u32::MAX;
    let attributes = message.body.get(4..).unwrap_or_default();
    attribute(attributes, 1).and_then(|index| u32_at(index, 0)) == Some(ALL)
}

/// `IP_VS_SO_GET_INFO` of `include/uapi/linux/ip_vs.h`.
const GET_INFO: i32 = 64 + 1024 + 64 + 1;

/// `struct ip_vs_getinfo`.
#[repr(C)]
#[derive(Default)]
struct Info {
    version: u32,
    table_size: u32,
    servers: u32,
}

/// How many virtual servers with IPv4 addresses this network namespace has; `None` where the
/// kernel does not tell.
pub(crate) fn virtual_servers() -> Option<usize> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
    let kind = (AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw);
    let socket = socket(kind.0, kind.1, kind.2, kind.3).ok()?;
    let mut info = Info::default();
    let mut length = libc::socklen_t::try_from(size_of::<Info>()).ok()?;
    // SAFETY: `info` and `length` live until the call returns, `length` says how much fits, and
    // any bytes make a valid Info.
    let answer = unsafe {
        let place = (&raw mut info).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, GET_INFO, place, &raw mut length)
    };
    if answer == 0 { usize::try_from(info.servers).ok() } else { None }
}

fn watch(monitor: Monitor) -> io::Result<AsyncFd<Monitor>> {
    // SAFETY: a Monitor owns its socket, always gives the same descriptor, and closes it only when
    // it is dropped, which is after AsyncFd has given up the registration.
    unsafe { AsyncFd::register_with_interest(monitor, Interest::READABLE) }.map_err(io::Error::from)
}

async fn wait_for(monitor: &AsyncFd<Monitor>, concerns_us: impl Fn(&Message) -> bool) {
    loop {
        let Ok(mut ready) = monitor.readable().await else { return };
        match ready.get_inner().read() {
            Ok(messages) => {
                ready.clear_ready();
                if messages.iter().any(&concerns_us) {
                    return;
                }
            }
            // Too much happened at once: something may have been missed.
            Err(_) => {
                ready.clear_ready();
                return;
            }
        }
    }
}
