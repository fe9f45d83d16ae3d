//! Services that a process of each node answers.

use super::at::{CLIENT, CLIENT6, FAR_POD, NODE, POD, POD6};
use super::world::{add, cluster, delivered, ip, ready, translated, web};
use super::{Case, case};
use crate::address::Protocol;
use crate::packet::From::{Network, Node, Pod};
use crate::packet::Outcome::{self, Dropped, Refused};
use crate::snapshot::{ByNode, Service, Snapshot};

pub(super) fn cases() -> Vec<Case> {
    vec![dns(Protocol::Udp), dns(Protocol::Tcp), web_server(), at_nodes(), shared()]
}

/// Reached as it was sent: nothing is translated.
fn reached(to: &str) -> Outcome {
    delivered(to, false, false)
}

fn by_node(service: Service) -> Service {
    Service { by_node: Some(ByNode { untracked: false }), ..service }
}

fn one(service: Service) -> Snapshot {
    let mut snapshot = cluster();
    add(&mut snapshot, "local", service, vec![]);
    snapshot
}

fn dns(protocol: Protocol) -> Case {
    let mut service = web("10.96.0.10");
    service.cluster_ips.push(ip("fd96::a"));
    service.ports[0].protocol = protocol;
    service.ports[0].port = 53;
    service.by_node = Some(ByNode { untracked: true });
    case(
        "a node's own DNS is reached without being tracked, and no other port of its address",
        one(service),
        &[
            (Pod, POD, "10.96.0.10:53", reached("10.96.0.10:53")),
            (Node, NODE, "10.96.0.10:53", reached("10.96.0.10:53")),
            (Network, CLIENT, "10.96.0.10:53", reached("10.96.0.10:53")),
            (Network, FAR_POD, "10.96.0.10:53", reached("10.96.0.10:53")),
            (Pod, POD6, "[fd96::a]:53", reached("[fd96::a]:53")),
            (Network, CLIENT6, "[fd96::a]:53", reached("[fd96::a]:53")),
            (Pod, POD, "10.96.0.10:22", Refused),
            (Node, NODE, "10.96.0.10:22", Refused),
            (Pod, POD6, "[fd96::a]:22", Refused),
            (Pod, POD, "10.96.0.11:53", Dropped),
        ],
    )
    .by(protocol)
}

fn web_server() -> Case {
    let mut service = by_node(web("10.96.0.20"));
    service.ports[0].node_port = Some(30020);
    service.load_balancer_ips = vec![ip("203.0.113.200")];
    service.external_ips = vec![ip("172.30.1.20")];
    service.source_ranges = vec!["192.168.56.0/28".parse().expect("a range")];
    case(
        "a node's own web server is reached at the Service's addresses, and endpoints don't matter",
        {
            let mut snapshot = cluster();
            add(&mut snapshot, "local", service, vec![ready("10.244.2.5")]);
            snapshot
        },
        &[
            (Pod, POD, "10.96.0.20:80", reached("10.96.0.20:80")),
            (Node, NODE, "203.0.113.200:80", reached("203.0.113.200:80")),
            (Network, CLIENT, "203.0.113.200:80", reached("203.0.113.200:80")),
            (Network, "192.168.56.99", "203.0.113.200:80", Dropped),
            (Network, CLIENT, "203.0.113.200:22", Refused),
            // It listens at neither.
            (Network, CLIENT, "192.168.56.70:30020", reached("192.168.56.70:30020")),
            (Network, CLIENT, "172.30.1.20:80", reached("172.30.1.20:80")),
        ],
    )
}

fn at_nodes() -> Case {
    let mut service = by_node(web("10.96.0.20"));
    service.load_balancer_ips = vec![ip("192.168.56.70"), ip("192.168.56.71")];
    case(
        "where the nodes' addresses are those of the balancer, each node answers at its own",
        one(service),
        &[
            (Network, CLIENT, "192.168.56.70:80", reached("192.168.56.70:80")),
            (Pod, POD, "192.168.56.71:80", reached("192.168.56.71:80")),
            (Network, CLIENT, "192.168.56.70:22", reached("192.168.56.70:22")),
        ],
    )
}

fn shared() -> Case {
    let mut local = by_node(web("10.96.0.20"));
    local.load_balancer_ips = vec![ip("203.0.113.200")];
    let mut snapshot = one(local);
    let mut service = web("10.96.0.21");
    service.ports[0].port = 81;
    service.load_balancer_ips = vec![ip("203.0.113.200")];
    add(&mut snapshot, "web", service, vec![ready("10.244.1.6")]);
    case(
        "an address may be shared with a Service that has endpoints",
        snapshot,
        &[
            (Network, CLIENT, "203.0.113.200:80", reached("203.0.113.200:80")),
            (Network, CLIENT, "203.0.113.200:81", translated("10.244.1.6:8080")),
            (Pod, POD, "203.0.113.200:81", translated("10.244.1.6:8080")),
            (Pod, POD, "203.0.113.200:82", Refused),
        ],
    )
}
