//! Who the two ends of a packet are: names as people type them, and addresses as packets have them.
//!
//! Pure.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Node, Pod, Service, ServicePort};
use kube::ResourceExt as _;
use verbs::Error;

use super::Packet;

/// What is known of the cluster.
pub(super) struct Cluster {
    pub(super) nodes: Vec<Node>,
    pub(super) pods: Vec<Pod>,
    pub(super) services: Vec<Service>,
    /// That of names without one.
    pub(super) namespace: String,
}

/// A destination as it was typed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Address {
        to: SocketAddr,
        protocol: String,
    },
    /// A Service, by name and perhaps namespace; its port by name or number, the first without.
    Service {
        name: String,
        namespace: Option<String>,
        port: Option<String>,
        protocol: Option<String>,
    },
}

/// What sort of sender it is, as netd tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Pod,
    Node,
    Network,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pod => "Pod",
            Self::Node => "Node",
            Self::Network => "Network",
        }
    }
}

/// Who sends.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) kind: Kind,
    /// As people call it.
    pub(super) name: String,
    pub(super) addresses: Vec<IpAddr>,
    /// The node that it is, or that it runs on.
    pub(super) node: Option<String>,
}

impl Origin {
    /// Its address of the same family as `to`.
    pub(super) fn source(&self, to: IpAddr) -> Result<IpAddr, Error> {
        let alike = self.addresses.iter().find(|addr| addr.is_ipv4() == to.is_ipv4());
        alike.copied().ok_or_else(|| {
            let family = if to.is_ipv4() { "IPv4" } else { "IPv6" };
            Error::Refused(format!("{} has no {family} address to call {to} from", self.name))
        })
    }
}

/// Who is called.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) address: IpAddr,
    pub(super) port: u16,
    /// As Kubernetes spells it.
    pub(super) protocol: String,
}

impl Destination {
    pub(super) fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }
}

impl Wanted {
    /// Reads what was typed.
    pub(super) fn parse(text: &str, protocol: Option<&str>) -> Result<Self, Error> {
        let protocol = protocol.map(str::to_uppercase);
        if let Ok(to) = text.parse::<SocketAddr>() {
            return Ok(Self::Address {
                to,
                protocol: protocol.unwrap_or_else(|| "TCP".to_owned()),
            });
        }
        if text.parse::<IpAddr>().is_ok() {
            let example =
                if text.contains(':') { format!("[{text}]:80") } else { format!("{text}:80") };
            return Err(Error::Refused(format!("a port is missing: {text:?}, as in {example}")));
        }
        let name = super::super::without_type(text);
        let (name, port) = match name.split_once(':') {
            Some((name, port)) => (name, Some(port.to_owned())),
            None => (name, None),
        };
        // As in DNS: a Service's name has no dots of its own, and what follows `.svc` is the cluster.
        let name = name.split_once(".svc").map_or(name, |(name, _)| name);
        let (name, namespace) = match name.split_once('.') {
            Some((name, namespace)) => (name, Some(namespace.to_owned())),
            None => (name, None),
        };
        Ok(Self::Service { name: name.to_owned(), namespace, port, protocol })
    }
}

impl Cluster {
    /// The node that has an address.
    pub(super) fn node_at(&self, address: IpAddr) -> Option<&String> {
        let has = |node: &&Node| node_addresses(node).contains(&address);
        self.nodes.iter().find(has).and_then(|node| node.metadata.name.as_ref())
    }

    /// The pod that has an address of its own.
    pub(super) fn pod_at(&self, address: IpAddr) -> Option<&Pod> {
        let runs = |pod: &&Pod| !is_over(pod) && self.node_at(address).is_none();
        self.pods.iter().filter(runs).find(|pod| pod_addresses(pod).contains(&address))
    }

    /// Who is meant by a name. `hosts` knows the hosts of a lab.
    pub(super) fn origin(
        &self,
        text: &str,
        hosts: impl Fn(&str) -> Option<Vec<IpAddr>>,
    ) -> Result<Origin, Error> {
        if let Ok(address) = text.parse() {
            return Ok(self.at(address));
        }
        let typed = text.split_once('/');
        let (sort, name) = typed.map_or(("", text), |(sort, name)| (sort, name));
        let pod = || self.pod(name);
        let node = || self.node(name);
        let found = match sort {
            "pod" | "pods" | "po" => pod(),
            "node" | "nodes" | "no" => node(),
            "" => pod().or_else(node).or_else(|| {
                let kind = Kind::Network;
                Some(Ok(Origin {
                    kind,
                    name: name.to_owned(),
                    addresses: hosts(name)?,
                    node: None,
                }))
            }),
            _ => None,
        };
        found.unwrap_or_else(|| {
            Err(Error::Refused(format!(
                "nobody is called {text:?}: give pod/NAME (in namespace {}), node/NAME, a host of \
                 the lab, or an address",
                self.namespace
            )))
        })
    }

    fn at(&self, address: IpAddr) -> Origin {
        let (kind, name, node) = if let Some(node) = self.node_at(address) {
            (Kind::Node, node.clone(), Some(node.clone()))
        } else if let Some(pod) = self.pod_at(address) {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
            (Kind::Pod, pod.name_any(), node)
        } else {
            (Kind::Network, address.to_string(), None)
        };
        Origin { kind, name, addresses: vec![address], node }
    }

    fn pod(&self, name: &str) -> Option<Result<Origin, Error>> {
        let named = |pod: &&Pod| {
            pod.name_any() == name && pod.namespace().as_deref() == Some(&*self.namespace)
        };
        let pod = self.pods.iter().find(named)?;
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let addresses = pod_addresses(pod);
        let (Some(node), Some(first), false) = (node, addresses.first(), is_over(pod)) else {
            return Some(Err(Error::Refused(format!("pod {name:?} does not run"))));
        };
        // A pod in its node's network is the node, as far as packets go.
        let kind = if self.node_at(*first).is_some() { Kind::Node } else { Kind::Pod };
        Some(Ok(Origin { kind, name: name.to_owned(), addresses, node: Some(node) }))
    }

    fn node(&self, name: &str) -> Option<Result<Origin, Error>> {
        let node = self.nodes.iter().find(|node| node.name_any() == name)?;
        let (name, addresses) = (name.to_owned(), node_addresses(node));
        Some(Ok(Origin { kind: Kind::Node, node: Some(name.clone()), name, addresses }))
    }

    /// Where the packet goes, at first.
    pub(super) fn destination(
        &self,
        wanted: &Wanted,
        origin: &Origin,
    ) -> Result<Destination, Error> {
        let (name, namespace, port, protocol) = match wanted {
            Wanted::Address { to, protocol } => {
                let (address, port) = (to.ip(), to.port());
                return Ok(Destination { address, port, protocol: protocol.clone() });
            }
            Wanted::Service { name, namespace, port, protocol } => {
                (name, namespace.as_ref().unwrap_or(&self.namespace), port, protocol)
            }
        };
        let named =
            |s: &&Service| s.name_any() == *name && s.namespace().as_ref() == Some(namespace);
        let service = self.services.iter().find(named).ok_or_else(|| {
            Error::Refused(format!("services {name:?} not found in namespace {namespace}"))
        })?;
        let address = cluster_ip(service, origin)?;
        let ports = ports_of(service);
        let is_wanted = |p: &&ServicePort| {
            let by_name =
                |text: &String| p.name.as_ref() == Some(text) || p.port.to_string() == *text;
            port.as_ref().is_none_or(by_name)
                && protocol.as_ref().is_none_or(|protocol| protocol_of(p) == *protocol)
        };
        let chosen = ports.iter().find(is_wanted);
        let number = chosen.and_then(|port| u16::try_from(port.port).ok());
        // That a port is not served is worth seeing, too.
        let number = number.or_else(|| port.as_ref()?.parse().ok()).ok_or_else(|| {
            let has: Vec<String> = ports
                .iter()
                .map(|p| match &p.name {
                    Some(name) => format!("{name} ({}/{})", p.port, protocol_of(p)),
                    None => format!("{}/{}", p.port, protocol_of(p)),
                })
                .collect();
            let wanted = port.clone().or_else(|| protocol.clone()).unwrap_or_default();
            Error::Refused(format!("service {name:?} has no port {wanted:?}: {}", has.join(", ")))
        })?;
        let protocol = protocol.clone().or_else(|| chosen.map(protocol_of));
        let protocol = protocol.unwrap_or_else(|| "TCP".to_owned());
        Ok(Destination { address, port: number, protocol })
    }

    /// The node that sees the packet first.
    pub(super) fn entry(
        &self,
        origin: &Origin,
        destination: &Destination,
        wanted: Option<&str>,
    ) -> Result<String, Error> {
        if let (Some(node), Some(wanted)) = (&origin.node, wanted)
            && node != wanted
        {
            let name = &origin.name;
            return Err(Error::Refused(format!(
                "what {name} sends is seen by {node} first, and not by {wanted}: leave out --node"
            )));
        }
        let own = origin.node.clone().or_else(|| wanted.map(str::to_owned));
        let addressed = || self.node_at(destination.address).cloned();
        let home = || self.pod_at(destination.address)?.spec.as_ref()?.node_name.clone();
        let first = || self.nodes.iter().map(kube::ResourceExt::name_any).min();
        own.or_else(addressed)
            .or_else(home)
            .or_else(first)
            .ok_or_else(|| Error::Refused("the cluster has no nodes".to_owned()))
    }

    /// Is it an address of some Service?
    pub(super) fn is_a_services(&self, address: IpAddr) -> bool {
        self.services.iter().any(|service| service_addresses(service).contains(&address))
    }

    /// Does nothing but the announcement of its address tell which node a packet comes to?
    pub(super) fn may_come_to_any(&self, packet: &Packet) -> bool {
        let to = packet.destination.address;
        let has_home = self.node_at(to).is_some() || self.pod_at(to).is_some();
        packet.origin.kind == Kind::Network && !has_home
    }

    /// Is it a cluster address of some Service?
    pub(super) fn is_a_cluster_ip(&self, address: IpAddr) -> bool {
        self.services.iter().any(|service| {
            let ips = service.spec.iter().flat_map(|spec| spec.cluster_ips.iter().flatten());
            ips.filter_map(|ip| ip.parse::<IpAddr>().ok()).any(|ip| ip == address)
        })
    }

    /// The field of a Service that makes a node answer by its own pods only.
    pub(super) fn local_policy(&self, namespace: &str, name: &str) -> Option<&'static str> {
        let named =
            |s: &&Service| s.name_any() == name && s.namespace().as_deref() == Some(namespace);
        let spec = self.services.iter().find(named)?.spec.as_ref()?;
        let external = spec.external_traffic_policy.as_deref() == Some("Local");
        let internal = spec.internal_traffic_policy.as_deref() == Some("Local");
        external
            .then_some("externalTrafficPolicy")
            .or_else(|| internal.then_some("internalTrafficPolicy"))
    }
}

fn cluster_ip(service: &Service, origin: &Origin) -> Result<IpAddr, Error> {
    let name = service.name_any();
    let spec = service.spec.clone().unwrap_or_default();
    if spec.type_.as_deref() == Some("ExternalName") {
        return Err(Error::Refused(format!(
            "service {name:?} is an alias and has no address: minictl dns trace {name}"
        )));
    }
    if spec.cluster_ip.as_deref() == Some("None") {
        return Err(Error::Refused(format!(
            "service {name:?} is headless: its name leads to its pods themselves \
             (minictl dns trace {name}), and no table knows it"
        )));
    }
    let ips = spec.cluster_ips.unwrap_or_default();
    let addresses: Vec<IpAddr> = ips.iter().filter_map(|ip| ip.parse().ok()).collect();
    let reachable = |addr: &&IpAddr| origin.source(**addr).is_ok();
    let found = addresses.iter().find(reachable).or(addresses.first());
    found.copied().ok_or_else(|| Error::Refused(format!("service {name:?} has no cluster address")))
}

fn ports_of(service: &Service) -> &[ServicePort] {
    service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default()
}

/// A port's protocol, as Kubernetes spells it.
pub(super) fn protocol_of(port: &ServicePort) -> String {
    port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())
}

fn service_addresses(service: &Service) -> Vec<IpAddr> {
    let spec = service.spec.clone().unwrap_or_default();
    let status = service.status.clone().unwrap_or_default();
    let ingress = status.load_balancer.and_then(|lb| lb.ingress).unwrap_or_default();
    let texts = spec.cluster_ips.into_iter().chain(spec.external_ips).flatten();
    let texts = texts.chain(ingress.into_iter().filter_map(|ingress| ingress.ip));
    texts.filter_map(|text| text.parse().ok()).collect()
}

fn node_addresses(node: &Node) -> Vec<IpAddr> {
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let is_ip = |sort: &str| matches!(sort, "InternalIP" | "ExternalIP");
    let addresses = addresses.filter(|address| is_ip(&address.type_));
    addresses.filter_map(|address| address.address.parse().ok()).collect()
}

fn pod_addresses(pod: &Pod) -> Vec<IpAddr> {
    let status = pod.status.clone().unwrap_or_default();
    let ips = status.pod_ips.unwrap_or_default().into_iter().map(|ip| ip.ip);
    let ips: Vec<IpAddr> = ips.filter_map(|ip| ip.parse().ok()).collect();
    if ips.is_empty() {
        status.pod_ip.and_then(|ip| ip.parse().ok()).into_iter().collect()
    } else {
        ips
    }
}

/// Its address may be another pod's by now.
fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

#[cfg(test)]
pub(super) mod tests;
