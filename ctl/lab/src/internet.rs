//! The `internet` host of a lab: what the nodes find outside, without any way out of the machine.
//!
//! It is the nodes' name server and has the two sites that the course notes name, each with
//! addresses of its own from the ranges that are set aside for documentation. A pod that follows an
//! ExternalName finds a page there which tells what arrived: who asked, and for which host.
//! Inputs: the host's addresses. Invariant: with `forward` off nothing is ever sent to anybody but
//! who asked.
//! Deliberately not here: the host's namespace, links and addresses (`network`), and the
//! translation of an uplink (`uplink`).

mod dns;
mod names;
mod page;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result};
use tokio_util::sync::CancellationToken;

/// Port of name servers.
const DNS_PORT: u16 = 53;
/// Port of sites.
const HTTP_PORT: u16 = 80;

/// A site outside the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// Its name, as it is typed.
    pub name: &'static str,
    /// Its IPv4 address (RFC 5737).
    pub v4: Ipv4Addr,
    /// Its IPv6 address (RFC 3849).
    pub v6: Ipv6Addr,
}

/// The sites of the course notes.
pub const SITES: &[Site] = &[
    Site {
        name: "myservice.test.com",
        v4: Ipv4Addr::new(203, 0, 113, 10),
        v6: Ipv6Addr::new(0x2001, 0xdb8, 0x203, 0x113, 0, 0, 0, 0x10),
    },
    Site {
        name: "someapi.somecompany.com",
        v4: Ipv4Addr::new(203, 0, 113, 20),
        v6: Ipv6Addr::new(0x2001, 0xdb8, 0x203, 0x113, 0, 0, 0, 0x20),
    },
];

/// The site that has an address.
fn site_at(address: IpAddr) -> Option<&'static Site> {
    let of = |site: &Site| match address.to_canonical() {
        IpAddr::V4(address) => site.v4 == address,
        IpAddr::V6(address) => site.v6 == address,
    };
    SITES.iter().find(|site| of(site))
}

/// Serves names at `addresses` and pages at every address of this network namespace, until `stop`.
/// With `forward`, questions for other names go to the machine's own name servers.
///
/// # Errors
/// A port that cannot be had, with its address.
pub async fn run(addresses: &[IpAddr], forward: bool, stop: CancellationToken) -> Result<()> {
    let upstreams = if forward { dns::machine_name_servers() } else { Vec::new() };
    let server = dns::NameServer::new(
        names::Names {
            v4: addresses.iter().any(IpAddr::is_ipv4),
            v6: addresses.iter().any(IpAddr::is_ipv6),
            closed: !forward,
        },
        upstreams,
    );
    let mut tasks = tokio::task::JoinSet::new();
    for address in addresses {
        let at = SocketAddr::new(*address, DNS_PORT);
        let datagrams = tokio::net::UdpSocket::bind(at)
            .await
            .with_context(|| format!("answer names at {at}/udp"))?;
        let streams = tokio::net::TcpListener::bind(at)
            .await
            .with_context(|| format!("answer names at {at}/tcp"))?;
        tasks.spawn(server.clone().serve_datagrams(datagrams));
        tasks.spawn(server.clone().serve_streams(streams));
        let everywhere: IpAddr = match address {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let pages = page::listen(SocketAddr::new(everywhere, HTTP_PORT))?;
        tasks.spawn(page::serve(pages));
    }
    stop.cancelled().await;
    Ok(())
}
