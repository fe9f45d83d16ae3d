//! A small cluster made by hand: three nodes, of which `node-1` is this one, and words for what
//! becomes of a packet.
//!
//! Addresses: nodes are 192.168.56.70 and up, and fd56::70 and up; pods of node N are in
//! 10.244.N.0/24 and fd44:N::/64; a client outside is 192.168.56.10 and fd56::10.

use std::net::IpAddr;
use std::sync::Arc;

use crate::address::{Backend, Family, Frontend, Protocol};
use crate::nft::walk::Place;
use crate::packet::{From, Outcome, Packet};
use crate::snapshot::{
    Endpoint, EndpointPort, EndpointSlice, Node, Service, ServiceName, ServicePort, Settings,
    Slices, Snapshot,
};

/// An address.
#[must_use]
pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Nodes are 192.168.56.70 and up; node N's pods are 10.244.N.0/24 and fd44:N::/64.
#[must_use]
pub fn cluster() -> Snapshot {
    let mut snapshot = Snapshot::new(Settings {
        node_name: "node-1".into(),
        cluster_cidrs: vec![
            "10.244.0.0/16".parse().expect("a range"),
            "fd44::/16".parse().expect("a range"),
        ],
        service_cidrs: vec![
            "10.96.0.0/12".parse().expect("a range"),
            "fd96::/108".parse().expect("a range"),
        ],
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
                format!("10.244.{n}.0/24").parse().expect("a range"),
                format!("fd44:{n}::/64").parse().expect("a range"),
            ],
            zone: Some(if n == 3 { "far" } else { "near" }.into()),
        };
        snapshot.nodes.insert(format!("node-{n}").into(), Arc::new(node));
    }
    snapshot
}

/// A Service with one unnamed TCP port 80 that its backends serve at 8080.
#[must_use]
pub fn web(vip: &str) -> Service {
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

/// The same with a node port.
#[must_use]
pub fn node_ported(vip: &str, node_port: u16) -> Service {
    let mut service = web(vip);
    service.ports[0].node_port = Some(node_port);
    service
}

/// A ready endpoint, on the node that its address belongs to.
#[must_use]
pub fn ready(addr: &str) -> Endpoint {
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
#[must_use]
pub fn leaving(addr: &str) -> Endpoint {
    Endpoint { ready: false, terminating: true, ..ready(addr) }
}

fn node_of(addr: IpAddr) -> Option<u16> {
    match addr {
        IpAddr::V4(addr) if addr.octets()[..2] == [10, 244] => Some(addr.octets()[2].into()),
        IpAddr::V6(addr) if addr.segments()[0] == 0xfd44 => Some(addr.segments()[1]),
        _ => None,
    }
}

/// Adds a Service of namespace `default`, whose backends serve every port at 8080, with a slice of
/// each family.
pub fn add(
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
    let mut slices = Slices::default();
    for family in Family::ALL {
        let of_family = |e: &&Endpoint| Family::of(e.addresses[0]) == family;
        let endpoints: Vec<Endpoint> = endpoints.iter().filter(of_family).cloned().collect();
        let slice = EndpointSlice { family, ports: ports.clone(), endpoints };
        slices.insert(Arc::from(format!("slice-{}", family.digit())), Arc::new(slice));
    }
    snapshot.slices.insert(name.clone(), slices);
    name
}

/// The first packet of a TCP connection.
#[must_use]
pub fn packet(from: From, source: &str, to: &str, random: u32) -> Packet {
    let to: std::net::SocketAddr = to.parse().expect("address and port");
    let to = Frontend { addr: to.ip(), protocol: Protocol::Tcp, port: to.port() };
    Packet { from, source: ip(source), to, random, remembers: None }
}

/// Where walks on `node-1` happen.
#[must_use]
pub fn place(snapshot: &Snapshot) -> Place {
    let mut own_addresses = snapshot.this_node().expect("node-1 is there").addresses.clone();
    own_addresses.extend([ip("10.244.1.1"), ip("fd44:1::1")]);
    Place { bridge: snapshot.settings.bridge.clone(), own_addresses }
}

/// Delivered to a backend, which sees the client's own address.
#[must_use]
pub fn translated(to: &str) -> Outcome {
    delivered(to, true, false)
}

/// Delivered to a backend, which sees an address of this node.
#[must_use]
pub fn masqueraded(to: &str) -> Outcome {
    delivered(to, true, true)
}

/// Delivered.
#[must_use]
pub fn delivered(to: &str, translated: bool, masqueraded: bool) -> Outcome {
    let to: std::net::SocketAddr = to.parse().expect("address and port");
    let to = Backend { addr: to.ip(), port: to.port() };
    Outcome::Delivered { to, translated, masqueraded }
}
