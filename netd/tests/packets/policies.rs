//! Who is admitted, and as whom an endpoint sees its client: source ranges, and what the policy
//! Local is for. The policies themselves are rows of the matrix.

use crate::cluster::{Netd, add, both_nodes, cluster, set_backends};
use crate::net::{Net, Outcome, both_to, root, serve, tcp};
use crate::{answered, assert_refused, at, both, engine, ip, isolated, web};
use netmodel::snapshot::Service;

fn pods(net: &Net) -> [crate::net::Server; 4] {
    [
        serve(&net.b, "b", at("10.244.1.6:8080")),
        serve(&net.b, "b", at("[fd44:1::6]:8080")),
        serve(&net.c, "c", at("10.244.2.5:8080")),
        serve(&net.c, "c", at("[fd44:2::5]:8080")),
    ]
}

const BOTH: [&str; 4] = ["10.244.1.6", "fd44:1::6", "10.244.2.5", "fd44:2::5"];

#[test]
fn policy_local_keeps_the_client_and_stays_on_the_node_that_was_asked() {
    if !root() {
        return;
    }
    let net = isolated();
    let _servers = pods(&net);
    let mut snapshot = cluster();
    let local = |service: &mut Service| {
        web("10.96.0.30,fd96::30")(service);
        service.external_local = true;
        service.load_balancer_ips = vec![ip("203.0.113.30"), ip("2001:db8:2::30")];
        service.ports.iter_mut().for_each(|p| p.node_port = Some(30030));
    };
    let name = add(&mut snapshot, "local", local, &BOTH);
    let [mut netd1, _netd2] = both_nodes(&net, &snapshot);
    // Whatever the dice say, an outsider gets the endpoint of the node that it asks.
    let rows = [
        ("192.168.56.70:30030", "b", "192.168.56.10"),
        ("192.168.56.71:30030", "c", "192.168.56.10"),
        ("203.0.113.30:80", "b", "192.168.56.10"),
        ("[fd56::70]:30030", "b", "fd56::10"),
        ("[fd56::71]:30030", "c", "fd56::10"),
        ("[2001:db8:2::30]:80", "b", "fd56::10"),
    ];
    for (to, by, seen) in rows {
        for _ in 0..4 {
            for outcome in both(&net.client, to) {
                assert!(answered(&outcome, &[by], &[seen]), "{to}: {outcome:?}");
            }
        }
    }
    // The near one goes: its node is silent for outsiders, and a pod of it goes on being served.
    set_backends(&mut snapshot, &name, &["10.244.2.5", "fd44:2::5"]);
    netd1.sync_some(&net.node1, &snapshot, Some(&name));
    let without = ["192.168.56.70:30030", "203.0.113.30:80", "[fd56::70]:30030"];
    for (to, outcome) in both_to(&net.client, &without) {
        assert_eq!(outcome, Outcome::Silence, "{to}");
    }
    for (to, outcome) in both_to(&net.a, &without) {
        assert!(answered(&outcome, &["c"], &[]), "an insider, {to}: {outcome:?}");
    }
}

#[test]
fn source_ranges_close_addresses_and_node_ports() {
    if !root() {
        return;
    }
    let net = isolated();
    let _servers = pods(&net);
    let mut snapshot = cluster();
    let closed = |service: &mut Service| {
        web("10.96.0.31,fd96::31")(service);
        service.load_balancer_ips = vec![ip("203.0.113.31"), ip("2001:db8:2::31")];
        service.ports.iter_mut().for_each(|p| p.node_port = Some(30031));
        service.source_ranges =
            vec!["192.168.56.11/32".parse().unwrap(), "fd56::11/128".parse().unwrap()];
    };
    let name = add(&mut snapshot, "closed", closed, &["10.244.1.6", "fd44:1::6"]);
    let [mut netd1, _netd2] = both_nodes(&net, &snapshot);
    let doors = [
        ("203.0.113.31:80", "192.168.56.10"),
        ("192.168.56.70:30031", "192.168.56.10"),
        ("[2001:db8:2::31]:80", "fd56::10"),
        ("[fd56::70]:30031", "fd56::10"),
    ];
    for (to, outcome) in both_to(&net.client, &doors.map(|(to, _)| to)) {
        assert_eq!(outcome, Outcome::Silence, "{to}: outside");
    }
    // Cluster addresses are no business of a load balancer.
    for to in ["10.96.0.31:80", "[fd96::31]:80"] {
        for outcome in both(&net.a, to) {
            assert!(answered(&outcome, &["b"], &[]), "{to}: {outcome:?}");
        }
    }
    let mut service = snapshot.services[&name].as_ref().clone();
    for range in ["192.168.56.0/28", "fd56::/64"] {
        service.source_ranges.push(range.parse().unwrap());
    }
    snapshot.services.insert(name.clone(), service.into());
    netd1.sync_some(&net.node1, &snapshot, Some(&name));
    for (to, seen) in doors {
        for outcome in both(&net.client, to) {
            assert!(answered(&outcome, &["b"], &[seen]), "{to}: in the range: {outcome:?}");
        }
    }
    assert_eq!(netd1.sync(&net.node1, &snapshot).writes, 0, "ranges read back as written");
}

#[test]
fn a_load_balancer_address_needs_no_node_port() {
    if !root() {
        return;
    }
    let net = isolated();
    let _servers = pods(&net);
    let mut snapshot = cluster();
    let direct = |service: &mut Service| {
        web("10.96.0.32")(service);
        service.load_balancer_ips = vec![ip("203.0.113.32")];
    };
    add(&mut snapshot, "direct", direct, &["10.244.1.6"]);
    Netd::new(&net.node1, "node-1", engine()).sync(&net.node1, &snapshot);
    for outcome in both(&net.client, "203.0.113.32:80") {
        assert!(answered(&outcome, &["b"], &["192.168.56.10"]), "{outcome:?}");
    }
    assert_refused(&net.client, "192.168.56.70:80", "no node port, and nobody on the node");
    assert_eq!(tcp(&net.client, at("203.0.113.32:81")), Outcome::Refused);
}
