//! Services reached from everywhere, on every kind of bridge that a node may have.

use crate::cluster::{Netd, add, cluster};
use crate::net::{BridgeStyle, Host, Net, Outcome, root, serve, tcp};
use crate::{answered, assert_refused, at, both, engine};

const STYLES: [BridgeStyle; 3] = [
    BridgeStyle { netfilter: false, foreign_bridge: false, isolated: true, hairpin: false },
    // Switched off by netd, which is alone there.
    BridgeStyle { netfilter: true, foreign_bridge: false, isolated: true, hairpin: false },
    // Left alone by netd, for the sake of the other bridge.
    BridgeStyle { netfilter: true, foreign_bridge: true, isolated: false, hairpin: true },
];

#[test]
fn everyone_reaches_services_from_everywhere() {
    if !root() {
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
    let snapshot = usual_services();
    let mut netd1 = Netd::new(&net.node1, "node-1", engine());
    let mut netd2 = Netd::new(&net.node2, "node-2", engine());
    netd1.sync(&net.node1, &snapshot);
    netd2.sync(&net.node2, &snapshot);
    everyone_is_served(&net, style);
    nobody_is_kept_waiting(&net, style);
}

/// Services with a backend near, far, both, none, or the caller itself.
fn usual_services() -> netmodel::snapshot::Snapshot {
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
    snapshot
}

fn everyone_is_served(net: &Net, style: BridgeStyle) {
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
        (&net.node1, "own node", "10.96.0.12:80", "c", &["10.244.1.1", n1]),
        (&net.node1, "own node", "192.168.56.70:30011", "b", &[n1, "10.244.1.1"]),
        (&net.node1, "own node", "192.168.56.70:30012", "c", &[n1, "10.244.1.1"]),
        (&net.node2, "other node", "10.96.0.11:80", "b", &["10.244.2.1", "192.168.56.71"]),
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
}

fn nobody_is_kept_waiting(net: &Net, style: BridgeStyle) {
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
