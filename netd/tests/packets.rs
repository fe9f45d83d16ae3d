//! Real packets through what the executor puts into the kernel: namespaces made by the test,
//! snapshots made by hand, sockets opened inside. Needs root.

#[path = "packets/cluster.rs"]
mod cluster;
#[path = "packets/net.rs"]
mod net;

use std::net::SocketAddr;

use cluster::{Netd, add, cluster};
use net::{BridgeStyle, Host, Net, Outcome, serve, tcp, udp};
use netmodel::nft::Engine;

const STYLES: [BridgeStyle; 3] = [
    BridgeStyle { netfilter: false, foreign_bridge: false, isolated: true, hairpin: false },
    // Switched off by netd, which is alone there.
    BridgeStyle { netfilter: true, foreign_bridge: false, isolated: true, hairpin: false },
    // Left alone by netd, for the sake of the other bridge.
    BridgeStyle { netfilter: true, foreign_bridge: true, isolated: false, hairpin: true },
];

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn answered(outcome: &Outcome, by: &[&str], seen_as: &[&str]) -> bool {
    match outcome {
        Outcome::Answer(name, client) => {
            by.contains(&name.as_str())
                && (seen_as.is_empty()
                    || seen_as.iter().any(|s| *client == s.parse::<std::net::IpAddr>().unwrap()))
        }
        _ => false,
    }
}

/// Calls by both protocols.
fn both(host: &Host, to: &str) -> [Outcome; 2] {
    [tcp(host, at(to)), udp(host, at(to))]
}

/// TCP must be refused at once. Of the ICMP errors that refuse UDP, the kernel sends one client only
/// one a second (`icmp_ratelimit`), so that may take a few calls.
fn assert_refused(host: &Host, to: &str, what: &str) {
    assert_eq!(tcp(host, at(to)), Outcome::Refused, "{what}, TCP");
    let attempts: Vec<Outcome> = (0..4).map(|_| udp(host, at(to))).collect();
    assert!(attempts.contains(&Outcome::Refused), "{what}, UDP: {attempts:?}");
}

#[test]
fn everyone_reaches_services_from_everywhere() {
    if !net::root() {
        return;
    }
    for style in STYLES {
        everyone_with(style);
    }
}

fn everyone_with(style: BridgeStyle) {
    let net = Net::new(style);
    let _servers = [
        serve(&net.a, "a", at("10.244.1.5:8080")),
        serve(&net.b, "b", at("10.244.1.6:8080")),
        serve(&net.c, "c", at("10.244.2.5:8080")),
        serve(&net.a, "a6", at("[fd44:1::5]:8080")),
        serve(&net.c, "c6", at("[fd44:2::5]:8080")),
    ];
    let mut snapshot = cluster();
    let vip = |vip: &'static str, port: Option<u16>| {
        move |s: &mut netmodel::snapshot::Service| {
            s.cluster_ips = vip.split(',').map(|v| v.parse().unwrap()).collect();
            for p in &mut s.ports {
                p.node_port = port;
            }
        }
    };
    add(&mut snapshot, "local", vip("10.96.0.11", Some(30011)), &["10.244.1.6"]);
    add(&mut snapshot, "remote", vip("10.96.0.12", Some(30012)), &["10.244.2.5"]);
    add(&mut snapshot, "none", vip("10.96.0.13", Some(30013)), &[]);
    add(&mut snapshot, "self", vip("10.96.0.14", Some(30014)), &["10.244.1.5"]);
    add(&mut snapshot, "six", vip("10.96.0.16,fd96::6", Some(30016)), &["10.244.1.5", "fd44:1::5"]);
    add(&mut snapshot, "six-far", vip("fd96::7", Some(30017)), &["fd44:2::5"]);
    let mut netd1 = Netd::new(&net.node1, "node-1", Engine::Nftables);
    let mut netd2 = Netd::new(&net.node2, "node-2", Engine::Nftables);
    netd1.sync(&net.node1, &snapshot);
    netd2.sync(&net.node2, &snapshot);

    let n1 = "192.168.56.70";
    // (client, name, destination, who answers, as whom the client is seen)
    let served: &[(&Host, &str, &str, &str, &[&str])] = &[
        (&net.a, "pod", "10.96.0.11:80", "b", &["10.244.1.5"]),
        (&net.a, "pod", "10.96.0.12:80", "c", &["10.244.1.5"]),
        (&net.a, "pod", "10.96.0.14:80", "a", &["10.244.1.1"]),
        (&net.a, "pod", "192.168.56.70:30011", "b", &["10.244.1.5"]),
        (&net.a, "pod", "192.168.56.71:30011", "b", &[]),
        (&net.a, "pod", "192.168.56.71:30012", "c", &["10.244.1.5"]),
        (&net.a, "pod", "192.168.56.70:30014", "a", &["10.244.1.1"]),
        (&net.a, "pod", "10.244.1.6:8080", "b", &["10.244.1.5"]),
        (&net.a, "pod", "10.244.2.5:8080", "c", &["10.244.1.5"]),
        (&net.node1, "own node", "10.96.0.11:80", "b", &[]),
        (&net.node1, "own node", "10.96.0.12:80", "c", &["10.244.1.1"]),
        (&net.node1, "own node", "192.168.56.70:30011", "b", &[n1, "10.244.1.1"]),
        (&net.node1, "own node", "192.168.56.70:30012", "c", &[n1, "10.244.1.1"]),
        (&net.node2, "other node", "10.96.0.11:80", "b", &["10.244.2.1"]),
        (&net.node2, "other node", "192.168.56.70:30012", "c", &[n1]),
        (&net.client, "client", "192.168.56.70:30011", "b", &["192.168.56.10"]),
        (&net.client, "client", "192.168.56.70:30012", "c", &[n1]),
        (&net.client, "client", "192.168.56.71:30011", "b", &["192.168.56.71"]),
        (&net.a, "pod", "[fd96::6]:80", "a6", &["fd44:1::1"]),
        (&net.a, "pod", "[fd96::7]:80", "c6", &["fd44:1::5"]),
        (&net.b, "pod b", "[fd96::6]:80", "a6", &["fd44:1::6"]),
        (&net.c, "pod c", "[fd96::6]:80", "a6", &["fd44:2::5"]),
        (&net.node1, "own node", "[fd96::7]:80", "c6", &[]),
        (&net.client, "client", "[fd56::70]:30017", "c6", &["fd56::70"]),
    ];
    for (host, name, to, by, seen) in served {
        for outcome in both(host, to) {
            assert!(
                answered(&outcome, &[by], seen),
                "{style:?}: {name} to {to}: {outcome:?}, wanted {by} seeing {seen:?}"
            );
        }
    }
    let refused: &[(&Host, &str, &str)] = &[
        (&net.a, "pod", "10.96.0.13:80"),
        (&net.a, "pod", "10.96.0.11:22"),
        (&net.a, "pod", "192.168.56.70:30013"),
        (&net.node1, "own node", "10.96.0.13:80"),
        (&net.node1, "own node", "10.96.0.11:22"),
        (&net.node1, "own node", "192.168.56.70:30013"),
        (&net.client, "client", "192.168.56.70:30013"),
        (&net.client, "client", "192.168.56.71:30013"),
    ];
    for (host, name, to) in refused {
        assert_refused(host, to, &format!("{style:?}: {name} to {to}"));
    }
    for (host, name) in [(&net.a, "pod"), (&net.node1, "own node")] {
        let outcome = tcp(host, at("10.96.99.99:80"));
        assert_eq!(outcome, Outcome::Silence, "{style:?}: {name} to an unassigned address");
    }
}
