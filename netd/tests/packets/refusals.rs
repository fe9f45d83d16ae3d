//! Nobody is kept waiting, and nobody gets what was not offered.

use crate::cluster::{add, both_nodes, cluster};
use crate::net::{Host, Net, Outcome, both_to, root, serve, tcp};
use crate::{answered, assert_refused, at, both, ip, isolated, web};
use netmodel::snapshot::Service;

/// All the doors that a Service can have, in both families.
fn every_door(service: &mut Service) {
    web("10.96.0.13,fd96::13")(service);
    service.external_ips = vec![ip("172.30.1.13"), ip("2001:db8:1::13")];
    service.load_balancer_ips = vec![ip("203.0.113.13"), ip("2001:db8:2::13")];
    service.ports.iter_mut().for_each(|port| port.node_port = Some(30013));
}

/// Those of its addresses that nothing but the Service is reached by.
const VIRTUAL: [&str; 6] = [
    "10.96.0.13",
    "[fd96::13]",
    "172.30.1.13",
    "[2001:db8:1::13]",
    "203.0.113.13",
    "[2001:db8:2::13]",
];

/// Lets the client outside reach cluster addresses, too: by node 1.
fn route_the_client(net: &Net) {
    net.client.ip("route add 10.96.0.0/12 via 192.168.56.70");
    net.client.ip("route add fd96::/108 via fd56::70");
}

fn everyone(net: &Net) -> [(&Host, &'static str); 4] {
    [(&net.a, "pod"), (&net.node1, "own node"), (&net.node2, "other node"), (&net.client, "client")]
}

#[test]
fn where_nobody_serves_everyone_is_told_at_once() {
    if !root() {
        return;
    }
    let net = isolated();
    route_the_client(&net);
    let mut snapshot = cluster();
    add(&mut snapshot, "none", every_door, &[]);
    let _netds = both_nodes(&net, &snapshot);
    for (host, name) in everyone(&net) {
        for address in VIRTUAL {
            assert_refused(host, &format!("{address}:80"), name);
        }
        for node in ["192.168.56.70", "192.168.56.71", "[fd56::70]", "[fd56::71]"] {
            assert_refused(host, &format!("{node}:30013"), name);
        }
    }
}

#[test]
fn the_last_endpoint_that_goes_leaves_a_refusal_not_a_silence() {
    if !root() {
        return;
    }
    let net = isolated();
    let _servers =
        [serve(&net.b, "b", at("10.244.1.6:8080")), serve(&net.b, "b", at("[fd44:1::6]:8080"))];
    let mut snapshot = cluster();
    let name = add(&mut snapshot, "web", every_door, &["10.244.1.6", "fd44:1::6"]);
    let [mut netd1, _netd2] = both_nodes(&net, &snapshot);
    for to in ["10.96.0.13:80", "[fd96::13]:80"] {
        for outcome in both(&net.a, to) {
            assert!(answered(&outcome, &["b"], &[]), "{to}: {outcome:?}");
        }
    }
    crate::cluster::set_backends(&mut snapshot, &name, &[]);
    netd1.sync_some(&net.node1, &snapshot, Some(&name));
    for to in ["10.96.0.13:80", "[fd96::13]:80"] {
        assert_refused(&net.a, to, "the last endpoint went");
        assert_refused(&net.node1, to, "the last endpoint went");
    }
    crate::cluster::set_backends(&mut snapshot, &name, &["10.244.1.6", "fd44:1::6"]);
    netd1.sync_some(&net.node1, &snapshot, Some(&name));
    for to in ["10.96.0.13:80", "[fd96::13]:80"] {
        for outcome in both(&net.a, to) {
            assert!(answered(&outcome, &["b"], &[]), "back again, {to}: {outcome:?}");
        }
    }
}

#[test]
fn an_unserved_port_is_refused_whatever_the_node_itself_listens_on() {
    if !root() {
        return;
    }
    let net = isolated();
    route_the_client(&net);
    // As sshd does: on all addresses, those to come as well.
    let _hosts = [
        serve(&net.node1, "node-1", at("[::]:22")),
        serve(&net.node2, "node-2", at("[::]:22")),
        serve(&net.b, "b", at("10.244.1.6:8080")),
    ];
    let mut snapshot = cluster();
    add(&mut snapshot, "web", every_door, &["10.244.1.6"]);
    let _netds = both_nodes(&net, &snapshot);
    for (host, name) in everyone(&net) {
        for address in VIRTUAL {
            assert_refused(host, &format!("{address}:22"), name);
            // A node port is a port of nodes.
            assert_refused(host, &format!("{address}:30013"), name);
        }
        for (address, node) in [
            ("192.168.56.70", "node-1"),
            ("192.168.56.71", "node-2"),
            ("[fd56::70]", "node-1"),
            ("[fd56::71]", "node-2"),
        ] {
            let outcome = tcp(host, at(&format!("{address}:22")));
            assert!(answered(&outcome, &[node], &[]), "{name} to {address}: {outcome:?}");
        }
    }
}

#[test]
fn an_address_of_no_service_swallows_what_it_is_sent() {
    if !root() {
        return;
    }
    let net = isolated();
    route_the_client(&net);
    let _hosts = [serve(&net.node1, "node-1", at("[::]:80"))];
    let _netds = both_nodes(&net, &cluster());
    for (host, name) in everyone(&net) {
        for (to, outcome) in both_to(host, &["10.96.99.99:80", "[fd96::99]:80"]) {
            assert_eq!(outcome, Outcome::Silence, "{name}: {to}");
        }
    }
}

#[test]
fn a_client_outside_reaches_cluster_addresses_only_if_somebody_routes_them_there() {
    if !root() {
        return;
    }
    let net = isolated();
    let _servers =
        [serve(&net.c, "c", at("10.244.2.5:8080")), serve(&net.c, "c", at("[fd44:2::5]:8080"))];
    let mut snapshot = cluster();
    add(&mut snapshot, "web", web("10.96.0.11,fd96::11"), &["10.244.2.5", "fd44:2::5"]);
    let _netds = both_nodes(&net, &snapshot);
    for to in ["10.96.0.11:80", "[fd96::11]:80"] {
        assert_eq!(both(&net.client, to), [Outcome::Unreachable, Outcome::Unreachable], "{to}");
    }
    route_the_client(&net);
    for (to, seen) in [("10.96.0.11:80", "192.168.56.70"), ("[fd96::11]:80", "fd56::70")] {
        for outcome in both(&net.client, to) {
            assert!(answered(&outcome, &["c"], &[seen]), "{to}: {outcome:?}");
        }
    }
}
