//! Wires the hosts of a lab: a namespace each, one bridge in the machine's own namespace.
//!
//! The machine's own network gets exactly that bridge, its address, and one port per host.

use std::net::IpAddr;

use anyhow::{Context, Result};
use ipnet::IpNet;
use netns::{Links, Namespace, Route, Veth, namespace};

use crate::internet::SITES;
use crate::spec::{Host, LabSpec, Role};
use crate::{paths, uplink};

/// Ethernet's own MTU: there is no tunnel between lab hosts.
const MTU: u32 = 1500;

/// Makes all namespaces, links, addresses and routes of a lab. What stands already is kept.
///
/// # Errors
/// The kernel's refusal, with the host it was for.
pub async fn build(spec: &LabSpec) -> Result<()> {
    std::fs::create_dir_all(paths::NETNS).context("make /run/netns")?;
    let machine = Links::here()?;
    let name = spec.bridge();
    let bridge = machine.ensure_bridge(&name, MTU).await?;
    if spec.network.iter().any(|network| network.addr().is_ipv6()) {
        ipv6_settings(&name).with_context(|| format!("prepare IPv6 on {name}"))?;
    }
    machine.set_up(bridge).await?;
    for address in spec.machine_addresses() {
        machine.ensure_address(bridge, address).await?;
    }
    for host in spec.hosts() {
        build_host(spec, &machine, bridge, &host)
            .await
            .with_context(|| format!("wire the lab host {}", host.name))?;
    }
    if spec.uplink {
        uplink::open(spec)?;
    }
    Ok(())
}

async fn build_host(spec: &LabSpec, machine: &Links, bridge: u32, host: &Host) -> Result<()> {
    let namespace = Namespace::create(&paths::namespace(&host.namespace))?;
    // Before the links come, which take these over.
    namespace.run(host_settings)??;
    let alias = format!("minictl lab {} host {}", spec.name, host.name);
    let veth = Veth {
        name: &host.port,
        peer_name: "eth0",
        peer_namespace: &namespace,
        peer_mac: None,
        mtu: MTU,
        bridge: Some(bridge),
        isolated: false,
        alias: Some(&alias),
    };
    if machine.index(&host.port).await?.is_none() {
        machine.add_veth(&veth).await?;
    }
    let inside = Links::inside(&namespace)?;
    inside.set_loopback_up().await?;
    let eth0 = inside.require("eth0").await?;
    inside.set_up(eth0).await?;
    for address in &host.addresses {
        inside.ensure_address(eth0, *address).await?;
    }
    if host.role == Role::Internet {
        let loopback = inside.require("lo").await?;
        for address in site_addresses(spec) {
            inside.ensure_address(loopback, address).await?;
        }
    }
    for gateway in default_gateways(spec, host.role) {
        let route = Route {
            destination: everywhere(gateway),
            gateway: Some(gateway),
            source: None,
            metric: None,
            link: Some(eth0),
            onlink: false,
            protocol: None,
        };
        inside.ensure_route(&route).await?;
    }
    Ok(())
}

/// Nodes leave by the `internet` host; the client knows the node network only; the `internet` host
/// leaves by the machine if, and only if, the lab has an uplink, which is IPv4's alone.
fn default_gateways(spec: &LabSpec, role: Role) -> Vec<IpAddr> {
    match role {
        Role::Node => spec.gateways(),
        Role::Client => Vec::new(),
        Role::Internet if spec.uplink => {
            let machine = spec.machine_addresses();
            machine.iter().map(IpNet::addr).filter(IpAddr::is_ipv4).collect()
        }
        Role::Internet => Vec::new(),
    }
}

/// The addresses of the sites outside, of the families that the lab has.
fn site_addresses(spec: &LabSpec) -> Vec<IpNet> {
    let families: Vec<bool> = spec.network.iter().map(|net| net.addr().is_ipv6()).collect();
    let both = SITES.iter().flat_map(|site| [IpAddr::from(site.v4), IpAddr::from(site.v6)]);
    both.filter(|address| families.contains(&address.is_ipv6())).map(IpNet::from).collect()
}

fn everywhere(gateway: IpAddr) -> IpNet {
    match gateway {
        IpAddr::V4(_) => IpNet::V4(ipnet::Ipv4Net::default()),
        IpAddr::V6(_) => IpNet::V6(ipnet::Ipv6Net::default()),
    }
}

/// Settings of a host, which its links take over when they come; runs in its namespace.
fn host_settings() -> Result<()> {
    // An address that goes must not take the others of its network along.
    namespace::set_sysctl("net/ipv4/conf/all/promote_secondaries", "1")
        .context("keep addresses when another one goes")?;
    if has_ipv6() {
        for links in ["all", "default"] {
            ipv6_settings(links).context("prepare IPv6")?;
        }
    }
    Ok(())
}

fn has_ipv6() -> bool {
    std::path::Path::new("/proc/sys/net/ipv6").exists()
}

/// IPv6 as a lab wants it: everybody's addresses are known, so that nobody has to look for another
/// owner of one before using it, which would take a second; and nobody is told where to send.
fn ipv6_settings(links: &str) -> std::io::Result<()> {
    let settings = [
        ("disable_ipv6", "0"),
        ("accept_dad", "0"),
        ("dad_transmits", "0"),
        ("accept_ra", "0"),
        ("keep_addr_on_down", "1"),
    ];
    for (key, value) in settings {
        namespace::set_sysctl(&format!("net/ipv6/conf/{links}/{key}"), value)?;
    }
    Ok(())
}

/// Removes all namespaces and links of a lab; goes on after a failure.
///
/// # Errors
/// Everything that could not be removed.
pub async fn remove(spec: &LabSpec) -> Vec<anyhow::Error> {
    let mut failed = Vec::new();
    if spec.uplink {
        failed.extend(uplink::close(spec).err());
    }
    for host in spec.hosts() {
        if let Err(error) = namespace::unpin(&paths::namespace(&host.namespace)) {
            failed.push(error.into());
        }
    }
    match Links::here() {
        Ok(machine) => {
            for host in spec.hosts() {
                failed.extend(machine.delete(&host.port).await.err().map(Into::into));
            }
            failed.extend(machine.delete(&spec.bridge()).await.err().map(Into::into));
        }
        Err(error) => failed.push(error.into()),
    }
    // Stays if somebody else has names there.
    let _ = std::fs::remove_dir(paths::NETNS);
    failed
}
