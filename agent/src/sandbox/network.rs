//! The node's bridge and the pods' links on it.
//!
//! Pods have /32 and /128 addresses and default routes by the gateways, which are on the link though
//! no prefix says so: traffic between two pods of a node crosses the node's IP layer. Ports are
//! isolated from each other for the same reason. Invariant: what is wired stands in the list of
//! wired pods, and nobody repairs while somebody wires. Deliberately not here: routes between nodes
//! and packet filters (netd's), noticing damage (`repair.rs`).

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Pod;
use netns::{LinkError, Links, Namespace, Route, Veth, namespace::set_sysctl};
use rtnetlink::{LinkBridgePort, LinkUnspec};
use tokio::sync::RwLock;

use super::{SandboxError, addresses::gateway, file_error};

/// The node's side of the pod network.
#[derive(Debug, Clone)]
pub(crate) struct NodeNetwork {
    pub(super) links: Links,
    pub(super) bridge: Bridge,
    mtu: u32,
    /// Other bridges were in the namespace when the agent started; see [`set_up`](Self::set_up).
    pub(super) shared: bool,
    /// The pods that are connected, by uid. Held for writing by a repair, which must not see a pod
    /// half wired, and for reading while a pod is wired.
    pub(super) wired: Arc<RwLock<()>>,
    pub(super) pods: Arc<std::sync::Mutex<BTreeMap<String, Wired>>>,
}

/// The bridge as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bridge {
    pub(super) name: String,
    pub(super) mac: Vec<u8>,
    /// The gateways of the pods with the prefixes of their ranges, one of each family.
    pub(super) gateways: Vec<IpNet>,
}

/// The bridge's own address on the link, from which the node asks where a pod is when it forwards
/// IPv6. The kernel makes one, too, but not again when somebody has taken it away.
const LINK_LOCAL: &str = "fe80::1/64";

impl Bridge {
    /// All addresses that the bridge should have.
    pub(super) fn addresses(&self) -> Vec<IpNet> {
        let mut addresses = self.gateways.clone();
        if addresses.iter().any(|address| address.addr().is_ipv6()) {
            addresses.push(LINK_LOCAL.parse().expect("it is an address"));
        }
        addresses
    }
}

/// A pod's link as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wired {
    /// `NAMESPACE/NAME`, which the link has as its alias.
    pub(crate) alias: String,
    /// Where its network namespace is pinned.
    pub(crate) net: PathBuf,
    /// Its addresses, one of each family.
    pub(crate) addresses: Vec<IpAddr>,
}

impl Wired {
    /// The pod of that name with these addresses.
    pub(crate) fn new(namespace: &str, name: &str, net: &Path, addresses: &[IpAddr]) -> Self {
        let alias = format!("{namespace}/{name}");
        Self { alias, net: net.to_owned(), addresses: addresses.to_vec() }
    }
}

impl NodeNetwork {
    /// Makes the bridge with the gateways' addresses. Call it in the node's network namespace.
    ///
    /// Looks whether other bridges are there, as Docker's on a machine of its own. They may need
    /// bridge netfilter, and with it a packet from a pod to a pod by way of a Service is turned
    /// round inside the bridge: isolation would drop it, and without hairpin mode it would not come
    /// back to the pod that sent it. Where ours is alone, netd switches bridge netfilter off.
    pub(crate) async fn set_up(
        name: &str,
        cidrs: &[IpNet],
        mtu: u32,
    ) -> Result<Self, SandboxError> {
        let links = Links::here().map_err(SandboxError::Link)?;
        let gateways = cidrs.iter().map(|cidr| {
            let address = gateway(*cidr).ok_or(SandboxError::NoAddress { cidr: *cidr })?;
            Ok(IpNet::new(address, cidr.prefix_len()).unwrap_or(*cidr))
        });
        let gateways: Vec<IpNet> = gateways.collect::<Result<_, SandboxError>>()?;
        let own: Vec<IpAddr> = gateways.iter().map(IpNet::addr).collect();
        let bridge = Bridge { name: name.to_owned(), mac: mac(&own).to_vec(), gateways };
        let others = links.list().await.map_err(SandboxError::Link)?;
        let shared = others.iter().any(|link| link.is_bridge && link.name != name);
        let (wired, pods) = (Arc::default(), Arc::default());
        let network = Self { links, bridge, mtu, shared, wired, pods };
        network.ensure_bridge().await?;
        Ok(network)
    }

    /// Makes the bridge, or what is missing of it.
    pub(super) async fn ensure_bridge(&self) -> Result<(), SandboxError> {
        let Bridge { name, mac, gateways } = &self.bridge;
        let addresses = self.bridge.addresses();
        let link = SandboxError::Link;
        let index = self.links.ensure_bridge(name, self.mtu).await.map_err(link)?;
        self.keep_mac(index, mac).await.map_err(link)?;
        for (key, value) in bridge_settings(name, gateways) {
            set_sysctl(&key, value)
                .map_err(file_error("set", &PathBuf::from("/proc/sys").join(&key)))?;
        }
        self.links.set_up(index).await.map_err(link)?;
        for address in addresses {
            self.links.ensure_address(index, address).await.map_err(link)?;
        }
        Ok(())
    }

    /// A bridge without an address of its own choosing takes the least one of its ports, and
    /// changes it as pods come and go, which would cut off pods that remember the old one.
    async fn keep_mac(&self, bridge: u32, mac: &[u8]) -> Result<(), LinkError> {
        let message = LinkUnspec::new_with_index(bridge).address(mac.to_vec()).build();
        let set = self.links.handle().link().set(message).execute().await;
        set.map_err(|source| {
            let op = format!("set the hardware address of {}", self.bridge.name);
            LinkError::Request { op, source }
        })
    }

    /// Connects a pod's namespace to the bridge.
    pub(super) async fn connect(
        &self,
        pod: &Pod,
        net: &Path,
        addresses: &[IpAddr],
    ) -> Result<(), SandboxError> {
        let _no_repair = self.wired.read().await;
        let metadata = &pod.metadata;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let wired = Wired::new(&text(&metadata.namespace), &text(&metadata.name), net, addresses);
        let uid = text(&metadata.uid);
        self.wire(&uid, &wired).await?;
        self.note(uid, wired);
        Ok(())
    }

    /// Notes a pod that an earlier agent has connected.
    pub(crate) fn note(&self, uid: String, wired: Wired) {
        self.pods.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(uid, wired);
    }

    /// Makes a pod's link anew, with all that is in its namespace.
    pub(super) async fn wire(&self, uid: &str, wired: &Wired) -> Result<(), SandboxError> {
        let name = link_name(uid);
        self.links.delete(&name).await.map_err(SandboxError::Link)?;
        let namespace = Namespace::open(&wired.net).map_err(SandboxError::Namespace)?;
        inside_settings(&namespace)?;
        let bridge = self.links.require(&self.bridge.name).await.map_err(SandboxError::Link)?;
        let alias = &wired.alias;
        let veth = Veth {
            name: &name,
            peer_name: "eth0",
            peer_namespace: &namespace,
            peer_mac: Some(mac(&wired.addresses)),
            mtu: self.mtu,
            bridge: Some(bridge),
            isolated: !self.shared,
            // The kernel takes 255 bytes.
            alias: Some(&alias[..alias.floor_char_boundary(255)]),
        };
        let (port, eth0) = self.links.add_veth(&veth).await.map_err(SandboxError::Link)?;
        if self.shared {
            let hairpin = LinkBridgePort::new(port).hairpin(true).build();
            self.set_port(hairpin, &name).await.map_err(SandboxError::Link)?;
        }
        self.configure(&namespace, eth0, &wired.addresses).await.map_err(SandboxError::Link)
    }

    pub(super) async fn set_port(
        &self,
        message: rtnetlink::packet_route::link::LinkMessage,
        name: &str,
    ) -> Result<(), LinkError> {
        let set = self.links.handle().link().set_port(message).execute().await;
        set.map_err(|source| LinkError::Request { op: format!("set bridge port {name}"), source })
    }

    pub(super) async fn configure(
        &self,
        namespace: &Namespace,
        eth0: u32,
        addresses: &[IpAddr],
    ) -> Result<(), LinkError> {
        let inside = Links::inside(namespace)?;
        inside.set_loopback_up().await?;
        for address in addresses {
            inside.ensure_address(eth0, IpNet::from(*address)).await?;
        }
        inside.set_up(eth0).await?;
        for route in self.default_routes(eth0, addresses) {
            inside.ensure_route(&route).await?;
        }
        Ok(())
    }

    /// The default routes of a pod with these addresses.
    fn default_routes(&self, eth0: u32, addresses: &[IpAddr]) -> Vec<Route> {
        let gateways = self.bridge.gateways.iter().map(IpNet::addr);
        gateways
            .filter(|gateway| addresses.iter().any(|own| own.is_ipv4() == gateway.is_ipv4()))
            .map(|gateway| Route {
                destination: everywhere(gateway),
                gateway: Some(gateway),
                source: None,
                metric: None,
                link: Some(eth0),
                onlink: true,
                protocol: None,
            })
            .collect()
    }

    /// Removes a pod's link.
    pub(super) async fn disconnect(&self, uid: &str) -> Result<(), SandboxError> {
        let _no_repair = self.wired.read().await;
        self.pods.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(uid);
        self.links.delete(&link_name(uid)).await.map(|_| ()).map_err(SandboxError::Link)
    }
}

pub(super) fn everywhere(gateway: IpAddr) -> IpNet {
    match gateway {
        IpAddr::V4(_) => IpNet::V4(ipnet::Ipv4Net::default()),
        IpAddr::V6(_) => IpNet::V6(ipnet::Ipv6Net::default()),
    }
}

/// The hardware address of a link with these addresses: the same whenever it is made again, so that
/// what neighbours remember stays true. In CNI's manner it is made of the IPv4 address; the last four
/// bytes of an IPv6 one do as well, as a node's pods and their bridge are a network of their own.
fn mac(addresses: &[IpAddr]) -> [u8; 6] {
    let [a, b, c, d] = match addresses.iter().min_by_key(|address| address.is_ipv6()) {
        Some(IpAddr::V4(address)) => address.octets(),
        Some(IpAddr::V6(address)) => {
            let [.., a, b, c, d] = address.octets();
            [a, b, c, d]
        }
        None => [0; 4],
    };
    [0x0a, 0x58, a, b, c, d]
}

/// Settings without which the node does not forward between its pods.
fn bridge_settings(name: &str, gateways: &[IpNet]) -> Vec<(String, &'static str)> {
    let mut settings = Vec::new();
    if gateways.iter().any(|gateway| gateway.addr().is_ipv4()) {
        // A redirect would tell pods to go around the node's IP layer.
        settings.extend([
            ("net/ipv4/ip_forward".to_owned(), "1"),
            (format!("net/ipv4/conf/{name}/send_redirects"), "0"),
            ("net/ipv4/conf/all/send_redirects".to_owned(), "0"),
        ]);
    }
    if gateways.iter().any(|gateway| gateway.addr().is_ipv6()) {
        let of_bridge = |key: &str| format!("net/ipv6/conf/{name}/{key}");
        settings.extend([
            (of_bridge("disable_ipv6"), "0"),
            // Nobody else has the bridge's addresses; looking for one would take a second, in which
            // the node finds no pod.
            (of_bridge("accept_dad"), "0"),
            (of_bridge("dad_transmits"), "0"),
            // A pod that calls itself a router is none.
            (of_bridge("accept_ra"), "0"),
            (of_bridge("keep_addr_on_down"), "1"),
            ("net/ipv6/conf/all/forwarding".to_owned(), "1"),
        ]);
    }
    settings
}

/// Settings of a pod's namespace, which its link takes over when it comes.
fn inside_settings(namespace: &Namespace) -> Result<(), SandboxError> {
    let settings = [
        // Announces the address, so that nobody sends to the pod that had it before.
        ("net/ipv4/conf/default/arp_notify", "1"),
        // As containerd's CRI plugin: low ports need no capability inside a pod of its own.
        ("net/ipv4/ip_unprivileged_port_start", "0"),
    ];
    let of_ipv6 = [
        // As of the bridge; a pod's address is its own by allocation.
        ("net/ipv6/conf/default/accept_dad", "0"),
        ("net/ipv6/conf/default/dad_transmits", "0"),
        // Another pod must not become its router.
        ("net/ipv6/conf/default/accept_ra", "0"),
        ("net/ipv6/conf/default/keep_addr_on_down", "1"),
    ];
    let all = || -> Result<(), (&str, io::Error)> {
        let has_ipv6 = Path::new("/proc/sys/net/ipv6").exists();
        let of_ipv6 = of_ipv6.into_iter().filter(|_| has_ipv6);
        settings
            .into_iter()
            .chain(of_ipv6)
            .try_for_each(|(key, value)| set_sysctl(key, value).map_err(|error| (key, error)))
    };
    let done = namespace.run(all).map_err(SandboxError::Namespace)?;
    done.map_err(|(key, error)| file_error("set", &Path::new("/proc/sys").join(key))(error))
}

/// The node's end of a pod's link: told by the pod's uid, so that it is found again.
pub(crate) fn link_name(uid: &str) -> String {
    let digest = crate::image::digest(uid.as_bytes());
    format!("pod{}", &digest["sha256:".len()..][..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_links_name_is_short_and_steady() {
        let name = link_name("5f7f6dfa-0d0b-4a3c-a8c3-1f0ce52e3c2a");
        // The other end travels under this name and one letter more; the kernel takes 15.
        assert_eq!(name.len(), 11);
        assert_eq!(name, link_name("5f7f6dfa-0d0b-4a3c-a8c3-1f0ce52e3c2a"));
        assert_ne!(name, link_name("another"));
    }

    #[test]
    fn a_link_has_the_same_hardware_address_whenever_it_is_made() {
        let ips = |list: &[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<_>>();
        let dual = ips(&["fd00:10:244:1::1", "10.244.1.1"]);
        assert_eq!(mac(&dual), [0x0a, 0x58, 10, 244, 1, 1]);
        assert_eq!(mac(&ips(&["fd00:10:244:1::2"])), [0x0a, 0x58, 0, 0, 0, 2]);
    }
}
