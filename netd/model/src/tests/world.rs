//! A small cluster made by hand: three nodes, of which `node-1` is this one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::address::{Backend, Family, Frontend, Protocol};
use crate::dataplane::Dataplane;
use crate::nft::walk::Place;
use crate::nft::{Engine, Layout};
use crate::packet::{From, Outcome, Packet, Walk};
use crate::snapshot::{
    Endpoint, EndpointPort, EndpointSlice, Node, Service, ServiceName, ServicePort, Settings,
    Snapshot,
};
use crate::{ipvs, nft};

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Nodes are 192.168.56.70 and up; node N's pods are 10.244.N.0/24 and fd44:N::/64.
pub(crate) fn cluster() -> Snapshot {
    let mut snapshot = Snapshot::new(Settings {
        node_name: "node-1".into(),
        cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap(), "fd44::/16".parse().unwrap()],
        service_cidrs: vec!["10.96.0.0/12".parse().unwrap(), "fd96::/108".parse().unwrap()],
        bridge: "mini0".into(),
        node_ports: 30000..=32767,
        default_scheduler: "rr".into(),
    });
    for n in 1..=3 {
        let node = Node {
            addresses: vec![
                ip(&format!("192.168.56.{}", 69 + n)),
                ip(&format!("fd56::{}", 69 + n)),
            ],
            pod_cidrs: vec![
                format!("10.244.{n}.0/24").parse().unwrap(),
                format!("fd44:{n}::/64").parse().unwrap(),
            ],
            zone: Some(if n == 3 { "far" } else { "near" }.into()),
        };
        snapshot.nodes.insert(format!("node-{n}").into(), Arc::new(node));
    }
    snapshot
}

/// A Service with one unnamed TCP port 80 that its backends serve at 8080.
pub(crate) fn web(vip: &str) -> Service {
    Service {
        ports: vec![ServicePort {
            name: "".into(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: None,
        }],
        cluster_ips: vec![ip(vip)],
        ..Service::default()
    }
}

pub(crate) fn node_ported(vip: &str, node_port: u16) -> Service {
    let mut service = web(vip);
    service.ports[0].node_port = Some(node_port);
    service
}

/// A ready endpoint, on the node that its address belongs to.
pub(crate) fn ready(addr: &str) -> Endpoint {
    let addr = ip(addr);
    Endpoint {
        node: node_of(addr).map(|n| format!("node-{n}").into()),
        addresses: vec![addr],
        ready: true,
        serving: true,
        ..Endpoint::default()
    }
}

/// An endpoint that is being deleted and still answers.
pub(crate) fn leaving(addr: &str) -> Endpoint {
    Endpoint { ready: false, terminating: true, ..ready(addr) }
}

fn node_of(addr: IpAddr) -> Option<u16> {
    match addr {
        IpAddr::V4(addr) if addr.octets()[..2] == [10, 244] => Some(addr.octets()[2].into()),
        IpAddr::V6(addr) if addr.segments()[0] == 0xfd44 => Some(addr.segments()[1]),
        _ => None,
    }
}

pub(crate) fn add(
    snapshot: &mut Snapshot,
    name: &str,
    service: Service,
    endpoints: Vec<Endpoint>,
) -> ServiceName {
    let name = ServiceName::new("default", name);
    let ports: Vec<EndpointPort> = service
        .ports
        .iter()
        .map(|p| EndpointPort { name: p.name.clone(), protocol: p.protocol, port: 8080 })
        .collect();
    snapshot.services.insert(name.clone(), Arc::new(service));
    let mut slices = BTreeMap::new();
    for family in Family::ALL {
        let of_family = |e: &&Endpoint| Family::of(e.addresses[0]) == family;
        let endpoints: Vec<Endpoint> = endpoints.iter().filter(of_family).cloned().collect();
        let slice = EndpointSlice { family, ports: ports.clone(), endpoints };
        slices.insert(Arc::from(format!("slice-{}", family.digit())), Arc::new(slice));
    }
    snapshot.slices.insert(name.clone(), slices);
    name
}

pub(crate) fn packet(from: From, source: &str, to: &str, random: u32) -> Packet {
    let to: std::net::SocketAddr = to.parse().unwrap();
    let to = Frontend { addr: to.ip(), protocol: Protocol::Tcp, port: to.port() };
    Packet { from, source: ip(source), to, random, remembers: None }
}

pub(crate) fn place(snapshot: &Snapshot) -> Place {
    let mut own_addresses = snapshot.this_node().unwrap().addresses.clone();
    own_addresses.extend([ip("10.244.1.1"), ip("fd44:1::1")]);
    Place { bridge: snapshot.settings.bridge.clone(), own_addresses }
}

/// The walks of one packet through both engines.
pub(crate) fn walks(snapshot: &Snapshot, packet: Packet) -> [(Engine, Walk); 2] {
    let plane = Dataplane::of(snapshot);
    let place = place(snapshot);
    let table = nft::State::desired(&Layout::of(snapshot, Engine::Nftables), &plane);
    let servers = ipvs::State::desired(&Layout::of(snapshot, Engine::Ipvs), &plane);
    [
        (Engine::Nftables, nft::walk::walk(&table, &place, packet)),
        (Engine::Ipvs, ipvs::walk(&servers, &place, packet)),
    ]
}

/// Both engines must give this outcome.
#[track_caller]
pub(crate) fn expect(snapshot: &Snapshot, packet: Packet, outcome: Outcome) {
    for (engine, walk) in walks(snapshot, packet) {
        let steps: Vec<String> = walk.steps.iter().map(ToString::to_string).collect();
        assert_eq!(walk.outcome, outcome, "{engine:?}, {packet:?}:\n{}", steps.join("\n"));
    }
}

pub(crate) fn translated(to: &str) -> Outcome {
    delivered(to, true, false)
}

pub(crate) fn masqueraded(to: &str) -> Outcome {
    delivered(to, true, true)
}

pub(crate) fn delivered(to: &str, translated: bool, masqueraded: bool) -> Outcome {
    let to: std::net::SocketAddr = to.parse().unwrap();
    let to = Backend { addr: to.ip(), port: to.port() };
    Outcome::Delivered { to, translated, masqueraded }
}
