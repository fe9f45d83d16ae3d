//! Everyone to everything: {pod, own node, other node, outside} × {cluster address, node port,
//! external address, load balancer address} × {policy} × {endpoint near, far, none} × {protocol} ×
//! {IPv4, IPv6}.
//!
//! What must happen is said three times, and all three must agree: by [`promise`], which is what
//! Kubernetes promises in the words of its own documentation and knows no engine; by the packet
//! walks of both engines over the state that would be sent to the kernel; and by real packets
//! through the kernel with the engine under test.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use netmodel::address::{Family, Frontend, Protocol};
use netmodel::dataplane::Dataplane;
use netmodel::handover::{self, Arrival, Way};
use netmodel::nft::walk::Place;
use netmodel::nft::{self, Engine, Layout};
use netmodel::packet::{self, Packet};
use netmodel::snapshot::{Service, Snapshot};
use netmodel::{ipvs, snapshot};

use crate::cluster::{Netd, add, cluster};
use crate::net::{Host, Net, Outcome, calls, serve};
use crate::{engine, isolated, net};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Client {
    /// A pod of node 1.
    Pod,
    /// Node 1, where the near endpoint is.
    OwnNode,
    /// Node 2, where the far endpoint is.
    OtherNode,
    /// A machine that is no part of the cluster.
    Outside,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Cluster,
    /// Of node 1.
    NodePort,
    External,
    LoadBalancer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Cluster,
    ExternalLocal,
    InternalLocal,
}

/// Where the only endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint {
    /// On node 1.
    Near,
    /// On node 2.
    Far,
    Nowhere,
}

const CLIENTS: [Client; 4] = [Client::Pod, Client::OwnNode, Client::OtherNode, Client::Outside];
const DOORS: [Door; 4] = [Door::Cluster, Door::NodePort, Door::External, Door::LoadBalancer];
const POLICIES: [Policy; 3] = [Policy::Cluster, Policy::ExternalLocal, Policy::InternalLocal];
const ENDPOINTS: [Endpoint; 3] = [Endpoint::Near, Endpoint::Far, Endpoint::Nowhere];

#[derive(Clone, Copy, Debug)]
struct Case {
    client: Client,
    door: Door,
    policy: Policy,
    endpoint: Endpoint,
    protocol: Protocol,
    family: Family,
}

/// As whom an endpoint sees its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// By the client's own address.
    Itself,
    /// By an address of node 1.
    Node1,
    /// By an address of node 2.
    Node2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Promise {
    Served(Seen),
    Refused,
    Silence,
    Unreachable,
}

/// What Kubernetes promises.
fn promise(case: Case) -> Promise {
    if (case.client, case.door) == (Client::Outside, Door::Cluster) {
        return Promise::Unreachable;
    }
    if case.endpoint == Endpoint::Nowhere {
        return Promise::Refused;
    }
    // A node serves what its own pods and processes send, except to another node's own address.
    let by_node_2 = case.client == Client::OtherNode && case.door != Door::NodePort;
    let local = case.endpoint == if by_node_2 { Endpoint::Far } else { Endpoint::Near };
    let insider = match case.client {
        Client::Pod | Client::OwnNode => true,
        Client::OtherNode => by_node_2,
        Client::Outside => false,
    };
    let local_only = match case.policy {
        Policy::Cluster => false,
        Policy::InternalLocal => case.door == Door::Cluster,
        // Clients inside the cluster are served as by the policy Cluster.
        Policy::ExternalLocal => case.door != Door::Cluster && !insider,
    };
    if local_only && !local {
        // So that a load balancer tries another node.
        return Promise::Silence;
    }
    Promise::Served(match case.client {
        Client::Pod => Seen::Itself,
        Client::OwnNode => Seen::Node1,
        Client::OtherNode if by_node_2 || local => Seen::Node2,
        Client::Outside if local => Seen::Itself,
        // Kubernetes lets a balancer do as it likes; ours hands over to the endpoint's own node.
        Client::Outside if case.door == Door::LoadBalancer => Seen::Itself,
        // The answer has to come back by the node that was asked.
        Client::OtherNode | Client::Outside => Seen::Node1,
    })
}

/// The position of a pair of policy and endpoint, from which all its numbers derive.
fn index(case: Case) -> usize {
    let policy = POLICIES.iter().position(|p| *p == case.policy).unwrap();
    let endpoint = ENDPOINTS.iter().position(|e| *e == case.endpoint).unwrap();
    policy * ENDPOINTS.len() + endpoint
}

fn parse(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn node_port(n: usize) -> u16 {
    30_100 + u16::try_from(n).unwrap()
}

/// `[IPv4, IPv6]` of a Service's address.
fn addresses(door: Door, n: usize) -> [IpAddr; 2] {
    match door {
        Door::Cluster => [parse(&format!("10.96.3.{n}")), parse(&format!("fd96::3:{n}"))],
        Door::NodePort => [parse("192.168.56.70"), parse("fd56::70")],
        Door::External => [parse(&format!("172.30.1.{n}")), parse(&format!("2001:db8:1::{n}"))],
        Door::LoadBalancer => {
            [parse(&format!("203.0.113.{n}")), parse(&format!("2001:db8:2::{n}"))]
        }
    }
}

fn of_family(addresses: [IpAddr; 2], family: Family) -> IpAddr {
    addresses[usize::from(family == Family::V6)]
}

fn destination(case: Case) -> SocketAddr {
    let n = 10 + index(case);
    let port = if case.door == Door::NodePort { node_port(n) } else { 80 };
    SocketAddr::new(of_family(addresses(case.door, n), case.family), port)
}

/// One Service for each pair of policy and endpoint; endpoints of both families.
fn services() -> Snapshot {
    let mut snapshot = cluster();
    for case in cases(&[Client::Pod], &[Door::Cluster], &[Protocol::Tcp], Family::V4) {
        let n = 10 + index(case);
        let change = move |service: &mut Service| {
            service.cluster_ips = addresses(Door::Cluster, n).into();
            service.external_ips = addresses(Door::External, n).into();
            service.load_balancer_ips = addresses(Door::LoadBalancer, n).into();
            service.external_local = case.policy == Policy::ExternalLocal;
            service.internal_local = case.policy == Policy::InternalLocal;
            service.ports.iter_mut().for_each(|port| port.node_port = Some(node_port(n)));
        };
        let backends: &[&str] = match case.endpoint {
            Endpoint::Near => &["10.244.1.6", "fd44:1::6"],
            Endpoint::Far => &["10.244.2.5", "fd44:2::5"],
            Endpoint::Nowhere => &[],
        };
        add(&mut snapshot, &format!("case-{n}"), change, backends);
    }
    snapshot
}

fn cases(clients: &[Client], doors: &[Door], protocols: &[Protocol], family: Family) -> Vec<Case> {
    let mut out = Vec::new();
    for client in clients {
        for door in doors {
            for policy in POLICIES {
                for endpoint in ENDPOINTS {
                    for protocol in protocols {
                        let (client, door, protocol) = (*client, *door, *protocol);
                        out.push(Case { client, door, policy, endpoint, protocol, family });
                    }
                }
            }
        }
    }
    out
}

fn addresses_of_node(n: u8, family: Family) -> Vec<IpAddr> {
    match family {
        Family::V4 => {
            vec![parse(&format!("192.168.56.{}", 69 + n)), parse(&format!("10.244.{n}.1"))]
        }
        Family::V6 => vec![parse(&format!("fd56::{}", 69 + n)), parse(&format!("fd44:{n}::1"))],
    }
}

fn address_of(client: Client, family: Family) -> IpAddr {
    let both = match client {
        Client::Pod => ["10.244.1.5", "fd44:1::5"],
        Client::OwnNode => ["192.168.56.70", "fd56::70"],
        Client::OtherNode => ["192.168.56.71", "fd56::71"],
        Client::Outside => ["192.168.56.10", "fd56::10"],
    };
    parse(both[usize::from(family == Family::V6)])
}

/// Is an outcome what was promised?
fn keeps(case: Case, outcome: &Outcome) -> bool {
    match (promise(case), outcome) {
        (Promise::Served(seen), Outcome::Answer(name, client)) => {
            let by = if case.endpoint == Endpoint::Near { "b" } else { "c" };
            let seen_as = match seen {
                Seen::Itself => vec![address_of(case.client, case.family)],
                Seen::Node1 => addresses_of_node(1, case.family),
                Seen::Node2 => addresses_of_node(2, case.family),
            };
            name == by && seen_as.contains(client)
        }
        (Promise::Refused, Outcome::Refused)
        | (Promise::Silence, Outcome::Silence)
        | (Promise::Unreachable, Outcome::Unreachable) => true,
        _ => false,
    }
}

/// Those of the link between the nodes.
const NETWORKS: [&str; 2] = ["192.168.56.0/24", "fd56::/64"];

/// One node's state in both engines' terms.
struct Walks {
    place: Place,
    table: nft::State,
    servers: ipvs::State,
    hand_over: Option<handover::State>,
}

impl Walks {
    fn of(snapshot: &Snapshot, n: u8) -> Self {
        let mut snapshot: Snapshot = snapshot.clone();
        snapshot.settings =
            snapshot::Settings { node_name: format!("node-{n}").into(), ..snapshot.settings };
        let plane = Dataplane::of(&snapshot);
        let own_addresses = Family::ALL.into_iter().flat_map(|f| addresses_of_node(n, f)).collect();
        Self {
            place: Place { bridge: snapshot.settings.bridge.clone(), own_addresses },
            table: nft::State::desired(
                &Layout::of(&snapshot, Engine::Nftables),
                &plane,
                &BTreeSet::new(),
            ),
            servers: ipvs::State::desired(&Layout::of(&snapshot, Engine::Ipvs), &plane),
            hand_over: handover::desired(
                handover::Layout::of(&snapshot, "eth0", &NETWORKS.map(|net| net.parse().unwrap())),
                &plane,
            ),
        }
    }

    fn outcome(&self, engine: Engine, packet: Packet) -> packet::Outcome {
        match engine {
            Engine::Nftables => nft::walk::walk(&self.table, &self.place, packet).outcome,
            Engine::Ipvs => ipvs::walk(&self.servers, &self.place, packet).outcome,
        }
    }
}

/// What the walks say, in the words of real packets; by way of the other node where it must be.
fn walked(nodes: &[Walks; 2], engine: Engine, case: Case) -> Outcome {
    if promise(case) == Promise::Unreachable {
        // No packet leaves the client, so there is none to walk.
        return Outcome::Unreachable;
    }
    let source = address_of(case.client, case.family);
    let to = destination(case);
    let to = Frontend { addr: to.ip(), protocol: case.protocol, port: to.port() };
    let (mut first, from) = match case.client {
        Client::Pod => (0, packet::From::Pod),
        Client::OwnNode => (0, packet::From::Node),
        Client::OtherNode => (1, packet::From::Node),
        Client::Outside => (0, packet::From::Network),
    };
    let packet = Packet { from, source, to, random: 0, remembers: None };
    let handed_over = nodes[first].hand_over.as_ref().filter(|_| from == packet::From::Network);
    if let Some(Way::To(_)) = handed_over.map(|s| handover::walk(s, &packet, Arrival::default())) {
        first = 1;
    }
    let mut outcome = nodes[first].outcome(engine, packet);
    let mut asked = first;
    if let packet::Outcome::Delivered { translated: false, masqueraded, .. } = outcome
        && case.client == Client::OtherNode
    {
        assert!(
            !masqueraded,
            "{case:?}: a node's own packet to another node needs no other source"
        );
        let packet = Packet { from: packet::From::Network, source, to, random: 0, remembers: None };
        outcome = nodes[0].outcome(engine, packet);
        asked = 0;
    }
    match outcome {
        packet::Outcome::Refused => Outcome::Refused,
        packet::Outcome::Dropped => Outcome::Silence,
        packet::Outcome::Delivered { to, masqueraded, .. } => {
            let name = match to.addr.to_string().as_str() {
                "10.244.1.6" | "fd44:1::6" => "b",
                "10.244.2.5" | "fd44:2::5" => "c",
                other => panic!("{case:?}: {engine:?} delivers to {other}"),
            };
            let node = if asked == 0 { Client::OwnNode } else { Client::OtherNode };
            let seen = if masqueraded { address_of(node, case.family) } else { source };
            Outcome::Answer(name.to_owned(), seen)
        }
    }
}

#[test]
fn both_engines_walks_keep_every_promise() {
    let snapshot = services();
    let nodes = [Walks::of(&snapshot, 1), Walks::of(&snapshot, 2)];
    let mut broken = Vec::new();
    for family in Family::ALL {
        for case in cases(&CLIENTS, &DOORS, &PROTOCOLS, family) {
            for engine in [Engine::Nftables, Engine::Ipvs] {
                let outcome = walked(&nodes, engine, case);
                if !keeps(case, &outcome) {
                    broken.push(format!(
                        "{engine:?} {case:?}: {:?}, walked {outcome:?}",
                        promise(case)
                    ));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

#[test]
fn every_promise_is_kept_over_ipv4() {
    real_packets(Family::V4);
}

#[test]
fn every_promise_is_kept_over_ipv6() {
    real_packets(Family::V6);
}

fn real_packets(family: Family) {
    if !net::root() {
        return;
    }
    let net = isolated();
    let _servers = match family {
        Family::V4 => [
            serve(&net.b, "b", crate::at("10.244.1.6:8080")),
            serve(&net.c, "c", crate::at("10.244.2.5:8080")),
        ],
        Family::V6 => [
            serve(&net.b, "b", crate::at("[fd44:1::6]:8080")),
            serve(&net.c, "c", crate::at("[fd44:2::5]:8080")),
        ],
    };
    let snapshot = services();
    Netd::new(&net.node1, "node-1", engine()).sync(&net.node1, &snapshot);
    Netd::new(&net.node2, "node-2", engine()).sync(&net.node2, &snapshot);
    let mut broken = Vec::new();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for client in CLIENTS {
        let cases = cases(&[client], &DOORS, &PROTOCOLS, family);
        let host = host_of(&net, client);
        let outcomes = calls(host, cases.iter().map(|c| (c.protocol, destination(*c))).collect());
        for (case, outcome) in cases.into_iter().zip(outcomes) {
            *seen.entry(kind(&outcome)).or_default() += 1;
            if !keeps(case, &outcome) {
                broken.push(format!("{case:?}: {:?}, seen {outcome:?}", promise(case)));
            }
        }
    }
    assert!(broken.is_empty(), "{} of {seen:?}:\n{}", broken.len(), broken.join("\n"));
    assert_eq!(seen.values().sum::<usize>(), 4 * 4 * 3 * 3 * 2);
    assert_eq!(seen.len(), 4, "each kind of outcome was met: {seen:?}");
}

fn kind(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Answer(..) => "answered",
        Outcome::Refused => "refused",
        Outcome::Reset => "reset",
        Outcome::Silence => "silent",
        Outcome::Unreachable => "unreachable",
    }
}

fn host_of(net: &Net, client: Client) -> &Host {
    match client {
        Client::Pod => &net.a,
        Client::OwnNode => &net.node1,
        Client::OtherNode => &net.node2,
        Client::Outside => &net.client,
    }
}
