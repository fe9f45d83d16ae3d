//! The node's bridge and the pods' links on it.
//!
//! Pods have /32 addresses and a default route by the gateway, which is on the link though no
//! prefix says so: traffic between two pods of a node crosses the node's IP layer. Ports are
//! isolated from each other for the same reason. Deliberately not here: routes between nodes and
//! packet filters (netd's).

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use futures::TryStreamExt as _;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Pod;
use netns::{Links, Namespace, Route, Veth, namespace::set_sysctl};
use rtnetlink::{
    LinkBridgePort, LinkUnspec,
    packet_route::link::{InfoKind, LinkAttribute, LinkInfo},
};

use super::{SandboxError, addresses::gateway, file_error};

/// The node's side of the pod network.
#[derive(Debug, Clone)]
pub(crate) struct NodeNetwork {
    links: Links,
    bridge: u32,
    gateway: IpAddr,
    mtu: u32,
    /// Other bridges were in the namespace when the agent started; see [`has_other_bridges`].
    shared: bool,
}

impl NodeNetwork {
    /// Makes the bridge with the gateway's address. Call it in the node's network namespace.
    pub(crate) async fn set_up(name: &str, cidr: IpNet, mtu: u32) -> Result<Self, SandboxError> {
        let links = Links::here().map_err(SandboxError::Link)?;
        let gateway = gateway(cidr).ok_or(SandboxError::NoAddress { cidr })?;
        let bridge = links.ensure_bridge(name, mtu).await.map_err(SandboxError::Link)?;
        keep_mac(&links, bridge, gateway, name).await?;
        let address = IpNet::new(gateway, cidr.prefix_len()).unwrap_or(cidr);
        links.ensure_address(bridge, address).await.map_err(SandboxError::Link)?;
        // A redirect would tell pods to go around the node's IP layer.
        for (key, value) in [
            ("net/ipv4/ip_forward".to_owned(), "1"),
            (format!("net/ipv4/conf/{name}/send_redirects"), "0"),
            ("net/ipv4/conf/all/send_redirects".to_owned(), "0"),
        ] {
            set_sysctl(&key, value)
                .map_err(file_error("set", &PathBuf::from("/proc/sys").join(&key)))?;
        }
        let shared = has_other_bridges(&links, bridge).await.map_err(SandboxError::Link)?;
        Ok(Self { links, bridge, gateway, mtu, shared })
    }

    /// Connects a pod's namespace to the bridge.
    pub(super) async fn connect(
        &self,
        pod: &Pod,
        net: &Path,
        address: IpAddr,
    ) -> Result<(), SandboxError> {
        let metadata = &pod.metadata;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let name = link_name(&text(&metadata.uid));
        self.links.delete(&name).await.map_err(SandboxError::Link)?;
        let namespace = Namespace::open(net).map_err(SandboxError::Namespace)?;
        let alias = format!("{}/{}", text(&metadata.namespace), text(&metadata.name));
        let veth = Veth {
            name: &name,
            peer_name: "eth0",
            peer_namespace: &namespace,
            mtu: self.mtu,
            bridge: Some(self.bridge),
            isolated: !self.shared,
            // The kernel takes 255 bytes.
            alias: Some(&alias[..alias.floor_char_boundary(255)]),
        };
        let (port, eth0) = self.links.add_veth(&veth).await.map_err(SandboxError::Link)?;
        if self.shared {
            self.set_hairpin(port, &name).await.map_err(SandboxError::Link)?;
        }
        inside_settings(&namespace)?;
        self.configure(&namespace, eth0, address).await.map_err(SandboxError::Link)
    }

    async fn set_hairpin(&self, port: u32, name: &str) -> Result<(), netns::LinkError> {
        let message = LinkBridgePort::new(port).hairpin(true).build();
        let set = self.links.handle().link().set_port(message).execute().await;
        set.map_err(|source| {
            let op = format!("set bridge port {name} to hairpin mode");
            netns::LinkError::Request { op, source }
        })
    }

    async fn configure(
        &self,
        namespace: &Namespace,
        eth0: u32,
        address: IpAddr,
    ) -> Result<(), netns::LinkError> {
        let inside = Links::inside(namespace)?;
        inside.set_loopback_up().await?;
        inside.ensure_address(eth0, IpNet::from(address)).await?;
        inside.set_up(eth0).await?;
        let everywhere = match address {
            IpAddr::V4(_) => IpNet::V4(ipnet::Ipv4Net::default()),
            IpAddr::V6(_) => IpNet::V6(ipnet::Ipv6Net::default()),
        };
        inside
            .ensure_route(&Route {
                destination: everywhere,
                gateway: Some(self.gateway),
                link: Some(eth0),
                onlink: true,
                protocol: None,
            })
            .await
    }

    /// Removes a pod's link.
    pub(super) async fn disconnect(&self, uid: &str) -> Result<(), SandboxError> {
        self.links.delete(&link_name(uid)).await.map(|_| ()).map_err(SandboxError::Link)
    }
}

/// Whether other bridges are in the node's namespace, as Docker's on a machine of its own.
///
/// They may need bridge netfilter, and with it a packet from a pod to a pod by way of a Service is
/// turned round inside the bridge: isolation would drop it, and without hairpin mode it would not
/// come back to the pod that sent it. Where ours is alone, netd switches bridge netfilter off.
/// Asked once: a netlink socket has one dump at a time, and pods are connected side by side.
async fn has_other_bridges(links: &Links, own: u32) -> Result<bool, netns::LinkError> {
    let mut list = links.handle().link().get().execute();
    let failed = |source| netns::LinkError::Request { op: "list the links".to_owned(), source };
    while let Some(link) = list.try_next().await.map_err(failed)? {
        if link.header.index != own && is_bridge(&link.attributes) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_bridge(attributes: &[LinkAttribute]) -> bool {
    attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => {
            infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Bridge)))
        }
        _ => false,
    })
}

/// A bridge without an address of its own choosing takes the least one of its ports, and changes
/// it as pods come and go, which would cut off pods that remember the old one.
async fn keep_mac(
    links: &Links,
    bridge: u32,
    gateway: IpAddr,
    name: &str,
) -> Result<(), SandboxError> {
    let IpAddr::V4(gateway) = gateway else { return Ok(()) };
    let [a, b, c, d] = gateway.octets();
    let mac = vec![0x0a, 0x58, a, b, c, d];
    let message = LinkUnspec::new_with_index(bridge).address(mac).build();
    links.handle().link().set(message).execute().await.map_err(|source| {
        SandboxError::Link(netns::LinkError::Request {
            op: format!("set the address of {name}"),
            source,
        })
    })
}

/// Settings of a pod's namespace.
fn inside_settings(namespace: &Namespace) -> Result<(), SandboxError> {
    let settings = [
        // Announces the address, so that nobody sends to the pod that had it before.
        ("net/ipv4/conf/eth0/arp_notify", "1"),
        // As containerd's CRI plugin: low ports need no capability inside a pod of its own.
        ("net/ipv4/ip_unprivileged_port_start", "0"),
    ];
    let set = || -> Result<(), SandboxError> {
        for (key, value) in settings {
            set_sysctl(key, value).map_err(file_error("set", &Path::new("/proc/sys").join(key)))?;
        }
        Ok(())
    };
    namespace.run(set).map_err(SandboxError::Namespace)?
}

/// The node's end of a pod's link: told by the pod's uid, so that it is found again.
pub(crate) fn link_name(uid: &str) -> String {
    let digest = crate::image::digest(uid.as_bytes());
    format!("pod{}", &digest["sha256:".len()..][..8])
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_links_name_is_short_and_steady() {
        let name = super::link_name("5f7f6dfa-0d0b-4a3c-a8c3-1f0ce52e3c2a");
        // The other end travels under this name and one letter more; the kernel takes 15.
        assert_eq!(name.len(), 11);
        assert_eq!(name, super::link_name("5f7f6dfa-0d0b-4a3c-a8c3-1f0ce52e3c2a"));
        assert_ne!(name, super::link_name("another"));
    }
}
