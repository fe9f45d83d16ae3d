//! Other families and protocols, clients that keep their backend, and what can't be honoured.

use super::at::{CLIENT, CLIENT6, FAR_POD6, NODE, NODE6, POD, POD6};
use super::world::{
    add, cluster, delivered, ip, masqueraded, node_ported, packet, ready, translated, web,
};
use super::{Case, Row, case};
use crate::address::{Backend, Protocol};
use crate::packet::From::{Network, Node, Pod};
use crate::packet::Outcome::{Dropped, Refused};
use crate::snapshot::{Service, Snapshot};

pub(super) fn cases() -> Vec<Case> {
    let mut out = ipv6();
    out.extend(protocols());
    out.extend(affinity());
    out.extend(refusals());
    out
}

fn ipv6() -> Vec<Case> {
    let mut snapshot = cluster();
    let mut dual = node_ported("10.96.0.34", 30034);
    dual.cluster_ips.push(ip("fd96::34"));
    add(&mut snapshot, "dual", dual, vec![ready("10.244.2.5"), ready(FAR_POD6)]);
    add(&mut snapshot, "none", node_ported("fd96::35", 30035), vec![]);
    add(&mut snapshot, "self", node_ported("fd96::36", 30036), vec![ready(POD6)]);
    let mut local = node_ported("fd96::37", 30037);
    local.external_local = true;
    local.external_ips = vec![ip("fd30::44")];
    local.source_ranges = vec!["fd56::/124".parse().expect("a range")];
    add(&mut snapshot, "local", local, vec![ready("fd44:1::6")]);
    vec![case(
        "both families are served alike",
        snapshot,
        &[
            (Pod, POD, "10.96.0.34:80", translated("10.244.2.5:8080")),
            (Pod, POD6, "[fd96::34]:80", translated("[fd44:2::5]:8080")),
            (Node, NODE6, "[fd96::34]:80", masqueraded("[fd44:2::5]:8080")),
            (Pod, POD6, "[fd96::34]:22", Refused),
            (Node, NODE6, "[fd96::34]:22", Refused),
            (Network, CLIENT6, "[fd96::34]:22", Refused),
            (Pod, POD6, "[fd96::99]:80", Dropped),
            (Node, NODE6, "[fd96::99]:80", Dropped),
            (Network, CLIENT6, "[fd56::70]:30034", masqueraded("[fd44:2::5]:8080")),
            (Pod, POD6, "[fd96::35]:80", Refused),
            (Network, CLIENT6, "[fd56::70]:30035", Refused),
            (Pod, POD6, "[fd96::36]:80", masqueraded("[fd44:1::5]:8080")),
            // A Service of one family has nothing of the other.
            (
                Network,
                CLIENT,
                "192.168.56.70:30036",
                delivered("192.168.56.70:30036", false, false),
            ),
            (Network, "fd56::5", "[fd30::44]:80", translated("[fd44:1::6]:8080")),
            (Network, "fd56::5", "[fd56::70]:30037", translated("[fd44:1::6]:8080")),
            (Network, CLIENT6, "[fd30::44]:80", Dropped),
            (Network, CLIENT6, "[fd56::70]:30037", Dropped),
        ],
    )]
}

fn protocols() -> Vec<Case> {
    [Protocol::Udp, Protocol::Sctp]
        .into_iter()
        .map(|protocol| {
            let mut snapshot = cluster();
            let mut service = node_ported("10.96.0.50", 30050);
            service.ports[0].protocol = protocol;
            add(&mut snapshot, "one", service.clone(), vec![ready("10.244.2.5")]);
            service.cluster_ips = vec![ip("10.96.0.51")];
            service.ports[0].node_port = Some(30051);
            add(&mut snapshot, "none", service, vec![]);
            case(
                "UDP and SCTP are served like TCP",
                snapshot,
                &[
                    (Pod, POD, "10.96.0.50:80", translated("10.244.2.5:8080")),
                    (Node, NODE, "10.96.0.50:80", masqueraded("10.244.2.5:8080")),
                    (Network, CLIENT, "192.168.56.70:30050", masqueraded("10.244.2.5:8080")),
                    (Pod, POD, "10.96.0.50:81", Refused),
                    (Pod, POD, "10.96.0.51:80", Refused),
                    (Network, CLIENT, "192.168.56.70:30051", Refused),
                ],
            )
            .by(protocol)
        })
        .collect()
}

/// A client that was here before, and had `backend`.
fn returning(mut row: Row, backend: &str) -> Row {
    row.packet.remembers = Some(Backend { addr: ip(backend), port: 8080 });
    row
}

fn sticky_web() -> Service {
    Service { affinity_seconds: Some(10_800), ..web("10.96.0.60") }
}

fn affinity() -> Vec<Case> {
    let mut snapshot = cluster();
    let mut service = sticky_web();
    service.ports[0].node_port = Some(30060);
    add(&mut snapshot, "sticky", service, vec![ready("10.244.1.6"), ready("10.244.2.5")]);
    let lonely = Service { cluster_ips: vec![ip("10.96.0.62")], ..sticky_web() };
    add(&mut snapshot, "lonely", lonely, vec![ready("10.244.1.6")]);
    add(&mut snapshot, "plain", web("10.96.0.61"), vec![ready("10.244.1.6"), ready("10.244.2.5")]);
    let row = |to: &str, outcome| Row { packet: packet(Pod, POD, to, 0), outcome };
    let outside =
        |outcome| Row { packet: packet(Network, CLIENT, "192.168.56.70:30060", 0), outcome };
    vec![Case {
        name: "a client keeps its backend for as long as that serves",
        snapshot,
        rows: vec![
            row("10.96.0.62:80", translated("10.244.1.6:8080")),
            returning(row("10.96.0.60:80", translated("10.244.2.5:8080")), "10.244.2.5"),
            returning(outside(masqueraded("10.244.2.5:8080")), "10.244.2.5"),
            // It went: nobody is ever sent there again.
            returning(row("10.96.0.60:80", translated("10.244.1.6:8080")), "10.244.2.99"),
            returning(row("10.96.0.61:80", translated("10.244.1.6:8080")), "10.244.2.5"),
        ],
    }]
}

fn refusals() -> Vec<Case> {
    vec![
        case(
            "addresses of pods and of the cluster are nobody's external address",
            with_bad_addresses(),
            &[
                (Pod, POD, "10.244.2.5:80", delivered("10.244.2.5:80", false, false)),
                (Pod, POD, "10.99.0.1:80", Dropped),
                (Pod, POD, "172.30.1.46:80", translated("10.244.1.6:8080")),
                // The cluster address of another Service stays that Service's.
                (Pod, POD, "10.96.0.71:80", translated("10.244.2.5:8080")),
            ],
        ),
        case(
            "no packet is sent to an endpoint that is no place for one",
            with_bad_endpoints(),
            &[
                (Pod, POD, "10.96.0.72:80", translated("10.244.1.6:8080")),
                (Pod, POD, "10.96.0.73:80", Refused),
                (Pod, POD, "10.96.0.1:80", translated("192.168.56.71:8080")),
            ],
        ),
    ]
}

fn with_bad_addresses() -> Snapshot {
    let mut snapshot = cluster();
    let mut greedy = web("10.96.0.70");
    greedy.external_ips =
        ["10.244.2.5", "10.99.0.1", "10.96.0.71", "127.0.0.1", "172.30.1.46"].map(ip).to_vec();
    add(&mut snapshot, "a-greedy", greedy, vec![ready("10.244.1.6")]);
    add(&mut snapshot, "other", web("10.96.0.71"), vec![ready("10.244.2.5")]);
    snapshot
}

fn with_bad_endpoints() -> Snapshot {
    let mut snapshot = cluster();
    let api = add(&mut snapshot, "kubernetes", web("10.96.0.1"), vec![ready("192.168.56.71")]);
    debug_assert_eq!(api.to_string(), "default/kubernetes");
    let bad = ["127.0.0.1", "169.254.1.1", "224.0.0.1", "0.0.0.0", "10.96.0.1", "192.168.56.71"];
    let mut some = bad.map(ready).to_vec();
    add(&mut snapshot, "nobody", web("10.96.0.73"), some.clone());
    some.push(ready("10.244.1.6"));
    add(&mut snapshot, "some", web("10.96.0.72"), some);
    snapshot
}
