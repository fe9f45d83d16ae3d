//! Wires the hosts of a lab: a namespace each, one bridge in the machine's own namespace.
//!
//! The machine's own network gets exactly that bridge, its address, and one port per host.

use anyhow::{Context, Result};
use ipnet::{IpNet, Ipv4Net};
use netns::{Links, Namespace, Route, Veth, namespace};

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
    let bridge = machine.ensure_bridge(&spec.bridge(), MTU).await?;
    machine.ensure_address(bridge, on_network(spec, spec.machine_address())).await?;
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
    let alias = format!("minictl lab {} host {}", spec.name, host.name);
    let veth = Veth {
        name: &host.port,
        peer_name: "eth0",
        peer_namespace: &namespace,
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
    inside.ensure_address(eth0, on_network(spec, host.address)).await?;
    if let Some(gateway) = default_gateway(spec, host.role) {
        let everywhere = IpNet::V4(Ipv4Net::default());
        let route = Route {
            destination: everywhere,
            gateway: Some(gateway.into()),
            link: Some(eth0),
            onlink: false,
            protocol: None,
        };
        inside.ensure_route(&route).await?;
    }
    Ok(())
}

/// Nodes leave by the `internet` host; the client knows the node network only; the `internet` host
/// leaves by the machine if, and only if, the lab has an uplink.
fn default_gateway(spec: &LabSpec, role: Role) -> Option<std::net::Ipv4Addr> {
    match role {
        Role::Node => Some(spec.gateway()),
        Role::Client => None,
        Role::Internet => spec.uplink.then(|| spec.machine_address()),
    }
}

fn on_network(spec: &LabSpec, address: std::net::Ipv4Addr) -> IpNet {
    Ipv4Net::new(address, spec.network.prefix_len())
        .map_or_else(|_| IpNet::from(std::net::IpAddr::V4(address)), IpNet::V4)
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
