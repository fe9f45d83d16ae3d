//! What must pass a node, and what must pass a bridge between hosts.
//!
//! A passage is a kind of packets, the first of their connections: from one place to another by
//! one hook of the kernel.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use crate::address::{Family, Protocol};
use crate::nft::Engine;
use crate::snapshot::{Slices, Snapshot};

/// Ports that are asked about one by one: more would be a server of everything.
const MOST_PORTS: usize = 64;

/// Packets that must pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// Which, in words.
    pub what: String,
    pub(crate) hook: Hook,
    pub(crate) iif: Option<Link>,
    pub(crate) oif: Option<Link>,
    pub(crate) from: IpNet,
    pub(crate) to: IpNet,
    pub(crate) protocol: Protocol,
    /// None: any.
    pub(crate) ports: Option<RangeInclusive<u16>>,
    /// Their destination was rewritten (`ct status dnat`).
    pub(crate) translated: bool,
    /// They are answers.
    pub(crate) answers: bool,
    /// What lets all of them pass, and no more than need be.
    pub(crate) allow: Allow,
}

impl Passage {
    /// The answers to these packets, which must pass, too.
    pub(crate) fn answered(&self) -> Self {
        let allow = match self.allow.clone() {
            Allow::From { link, net } => Allow::To { link, net },
            Allow::To { link, net } => Allow::From { link, net },
            same => same,
        };
        let hook = match self.hook {
            Hook::Input => Hook::Output,
            Hook::Output => Hook::Input,
            same => same,
        };
        let (iif, oif) = (self.oif.clone(), self.iif.clone());
        let (from, to) = (self.to, self.from);
        Self { hook, iif, oif, from, to, answers: true, allow, ..self.clone() }
    }
}

/// The hook of the kernel at which they must pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    Input,
    Forward,
    Output,
    /// Inside a bridge.
    Bridge,
}

/// A link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Named(String),
    /// Any of several that are none of ours.
    Any,
}

impl Link {
    fn of(name: Option<&String>) -> Self {
        name.map_or(Self::Any, |name| Self::Named(name.clone()))
    }
}

/// What is to be allowed. The orders are those of `fix`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Allow {
    /// All that comes in by a link from these addresses.
    From { link: String, net: IpNet },
    /// All that goes out by a link to these addresses.
    To { link: String, net: IpNet },
    /// What is passed on to these addresses.
    Through { net: IpNet },
    /// Ports of this node.
    Ports { protocol: Protocol, ports: RangeInclusive<u16> },
    /// What passes a bridge.
    Within { bridge: String },
}

/// What of a node matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// What translates Services.
    pub engine: Engine,
    /// The link that pods hang on.
    pub bridge: String,
    /// The link of the node's own address, if it is known.
    pub uplink: Option<String>,
    /// The ranges of all pods.
    pub cluster_cidrs: Vec<IpNet>,
    /// The ranges of this node's pods.
    pub pod_cidrs: Vec<IpNet>,
    /// The ranges of cluster addresses.
    pub service_cidrs: Vec<IpNet>,
    /// This node's own addresses.
    pub addresses: Vec<IpAddr>,
    /// Ports of backends.
    pub backend_ports: BTreeSet<(Protocol, u16)>,
    /// Ports that Services have on this node.
    pub node_ports: BTreeSet<(Protocol, u16)>,
    /// Ports that Services may have on nodes.
    pub node_port_range: RangeInclusive<u16>,
}

impl NodeView {
    /// What a snapshot says; `uplink` is the link of the node's own address.
    #[must_use]
    pub fn of(snapshot: &Snapshot, engine: Engine, uplink: Option<String>) -> Self {
        let settings = &snapshot.settings;
        let node = snapshot.this_node();
        let ports = snapshot.slices.values().flat_map(Slices::values).flat_map(|s| &s.ports);
        let services = snapshot.services.values().flat_map(|service| &service.ports);
        Self {
            engine,
            bridge: settings.bridge.to_string(),
            uplink,
            cluster_cidrs: settings.cluster_cidrs.clone(),
            pod_cidrs: node.map(|n| n.pod_cidrs.clone()).unwrap_or_default(),
            service_cidrs: settings.service_cidrs.clone(),
            addresses: node.map(|n| n.addresses.clone()).unwrap_or_default(),
            backend_ports: ports.map(|p| (p.protocol, p.port)).collect(),
            node_ports: services.filter_map(|p| Some((p.protocol, p.node_port?))).collect(),
            node_port_range: settings.node_ports.clone(),
        }
    }
}

/// What must pass a node.
#[must_use]
pub fn of_node(node: &NodeView) -> Vec<Passage> {
    node.pod_cidrs.iter().flat_map(|own| of_family(node, *own)).collect()
}

/// What must pass a bridge between hosts, and whether the machine's own IP rules look into it
/// (`bridge-nf-call-iptables`).
#[must_use]
pub fn between_hosts(bridge: &str, networks: &[IpNet], filtered_as_ip: bool) -> Vec<Passage> {
    let hooks: &[Hook] =
        if filtered_as_ip { &[Hook::Bridge, Hook::Forward] } else { &[Hook::Bridge] };
    let mut out = Vec::new();
    for &net in networks {
        for &hook in hooks {
            let on = Some(Link::Named(bridge.to_owned()));
            out.push(Passage {
                what: format!("hosts on {bridge} to each other"),
                hook,
                iif: on.clone(),
                oif: on,
                from: net,
                to: net,
                protocol: Protocol::Tcp,
                ports: None,
                translated: false,
                answers: false,
                allow: Allow::Within { bridge: bridge.to_owned() },
            });
        }
    }
    out
}

fn of_family(node: &NodeView, own: IpNet) -> Vec<Passage> {
    let mut out = forwarded(node, own);
    out.extend(to_and_from_node(node, own));
    out
}

/// What this node passes on.
fn forwarded(node: &NodeView, own: IpNet) -> Vec<Passage> {
    let everywhere = everywhere(Family::of(own.addr()));
    let bridge = &Link::Named(node.bridge.clone());
    let uplink = &Link::of(node.uplink.as_ref());
    let cluster = node.cluster_cidrs.iter().copied().find(|c| c.contains(&own)).unwrap_or(own);
    let from_pods = Allow::From { link: node.bridge.clone(), net: own };
    let to_pods = Allow::To { link: node.bridge.clone(), net: own };
    let through = Allow::Through { net: cluster };
    let pass = |what: &str, (iif, oif): (&Link, &Link), (from, to), allow: &Allow| Passage {
        what: what.to_owned(),
        hook: Hook::Forward,
        iif: Some(iif.clone()),
        oif: Some(oif.clone()),
        from,
        to,
        protocol: Protocol::Tcp,
        ports: None,
        // Under IPVS, the kernel does not call it so.
        translated: from == everywhere && node.engine == Engine::Nftables,
        answers: false,
        allow: allow.clone(),
    };
    let (out_by, in_by, across) = ((bridge, uplink), (uplink, bridge), (uplink, uplink));
    let mut out = vec![
        pass("this node's pods to each other", (bridge, bridge), (own, own), &from_pods),
        pass("this node's pods to pods of other nodes", out_by, (own, cluster), &from_pods),
        pass("pods of other nodes to this node's pods", in_by, (cluster, own), &to_pods),
        pass("clients outside to Services' pods here", in_by, (everywhere, own), &to_pods),
        pass("clients outside to pods of other nodes", across, (everywhere, cluster), &through),
    ];
    for &(protocol, number) in node.backend_ports.iter().take(MOST_PORTS) {
        for at in 0..5 {
            let ports = Some(number..=number);
            out.push(Passage { protocol, ports, ..out[at].clone() });
        }
    }
    out.push(pass("this node's pods to the world", out_by, (own, everywhere), &from_pods));
    out
}

/// What this node itself takes in and sends.
fn to_and_from_node(node: &NodeView, own: IpNet) -> Vec<Passage> {
    let family = Family::of(own.addr());
    let bridge = || Some(Link::Named(node.bridge.clone()));
    let pods_to = |what: &str, to| Passage {
        what: what.to_owned(),
        hook: Hook::Input,
        iif: bridge(),
        oif: None,
        from: own,
        to,
        protocol: Protocol::Tcp,
        ports: None,
        translated: false,
        answers: false,
        allow: Allow::From { link: node.bridge.clone(), net: own },
    };
    let mut out = Vec::new();
    let local = node.addresses.iter().filter(|a| Family::of(**a) == family);
    for address in local.map(|address| IpNet::from(*address)) {
        out.push(pods_to("this node's pods to this node", address));
        out.push(Passage {
            hook: Hook::Output,
            iif: None,
            oif: bridge(),
            from: address,
            allow: Allow::To { link: node.bridge.clone(), net: own },
            ..pods_to("this node to its pods", own)
        });
        out.extend(node_ports(node, address));
    }
    // IPVS takes packets to virtual addresses where they come in to this node.
    if node.engine == Engine::Ipvs {
        let services = node.service_cidrs.iter().filter(|c| Family::of(c.addr()) == family);
        out.extend(services.map(|net| pods_to("this node's pods to Services", *net)));
    }
    out
}

/// IPVS takes packets to node ports where they come in to this node.
fn node_ports(node: &NodeView, address: IpNet) -> Vec<Passage> {
    if node.engine != Engine::Ipvs {
        return Vec::new();
    }
    let ports = node.node_ports.iter().take(MOST_PORTS);
    ports
        .map(|&(protocol, number)| Passage {
            what: "clients outside to node ports".to_owned(),
            hook: Hook::Input,
            iif: Some(Link::of(node.uplink.as_ref())),
            oif: None,
            from: everywhere(Family::of(address.addr())),
            to: address,
            protocol,
            ports: Some(number..=number),
            translated: false,
            answers: false,
            allow: Allow::Ports { protocol, ports: node.node_port_range.clone() },
        })
        .collect()
}

fn everywhere(family: Family) -> IpNet {
    let text = match family {
        Family::V4 => "0.0.0.0/0",
        Family::V6 => "::/0",
    };
    text.parse().expect("it is written as a network")
}
