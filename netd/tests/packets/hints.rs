//! Topology hints: a client's connections stay in its zone, or on its node, for as long as every
//! ready endpoint says whom it is for.

use std::collections::BTreeSet;
use std::sync::Arc;

use netmodel::address::Protocol;
use netmodel::snapshot::{Endpoint, Snapshot};

use crate::cluster::{add, both_nodes, cluster, ready, set_endpoints};
use crate::net::{Host, Net, Server, calls, root, serve};
use crate::{at, isolated, web};

const VIPS: [&str; 2] = ["10.96.0.40:80", "[fd96::40]:80"];

/// An endpoint and whom it is for.
fn hinted(addr: &str, zones: &[&str], nodes: &[&str]) -> Endpoint {
    let names = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect();
    Endpoint { for_zones: names(zones), for_nodes: names(nodes), ..ready(addr) }
}

fn pods(net: &Net) -> Vec<Server> {
    [
        (&net.b, "b", "10.244.1.6:8080"),
        (&net.b, "b", "[fd44:1::6]:8080"),
        (&net.c, "c", "10.244.2.5:8080"),
        (&net.c, "c", "[fd44:2::5]:8080"),
    ]
    .into_iter()
    .map(|(host, name, address)| serve(host, name, at(address)))
    .collect()
}

/// Nodes 1 and 2 in these zones.
fn zones(snapshot: &mut Snapshot, zones: [&str; 2]) {
    for (name, zone) in ["node-1", "node-2"].into_iter().zip(zones) {
        let mut node = snapshot.nodes[name].as_ref().clone();
        node.zone = Some(zone.into());
        snapshot.nodes.insert(name.into(), node.into());
    }
}

/// Who answers a host, by both protocols and families. Where two may, that one of them is never
/// drawn in so many calls happens once in a million times.
fn answering(host: &Host) -> Vec<BTreeSet<String>> {
    let who = |vip: &str, protocol| {
        let outcomes = calls(host, vec![(protocol, at(vip)); 21]);
        outcomes.into_iter().map(crate::net::Outcome::name).collect()
    };
    let protocols = [Protocol::Tcp, Protocol::Udp];
    VIPS.iter().flat_map(|vip| protocols.map(|protocol| who(vip, protocol))).collect()
}

#[track_caller]
fn answer(host: &Host, wanted: &[&str], why: &str) {
    let wanted: BTreeSet<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
    let seen = answering(host);
    assert!(seen.iter().all(|names| *names == wanted), "{why}: {wanted:?}, but {seen:?}");
}

#[test]
fn connections_stay_in_the_zone_of_the_client_and_leave_it_with_the_hints() {
    if !root() {
        return;
    }
    let net = isolated();
    let _servers = pods(&net);
    let mut snapshot = cluster();
    zones(&mut snapshot, ["east", "west"]);
    let name = add(&mut snapshot, "zoned", web("10.96.0.40,fd96::40"), &[]);
    let of = |east: &[&str], west: &[&str]| {
        let near = ["10.244.1.6", "fd44:1::6"].map(|addr| hinted(addr, east, &[]));
        let far = ["10.244.2.5", "fd44:2::5"].map(|addr| hinted(addr, west, &[]));
        [near, far].concat()
    };
    set_endpoints(&mut snapshot, &name, &of(&["east"], &["west"]));
    let [mut netd1, mut netd2] = both_nodes(&net, &snapshot);
    for (host, by, who) in [
        (&net.a, "b", "a pod of node 1"),
        (&net.node1, "b", "node 1"),
        (&net.c, "c", "a pod of node 2"),
        (&net.node2, "c", "node 2"),
    ] {
        answer(host, &[by], who);
    }

    set_endpoints(&mut snapshot, &name, &of(&["east"], &["east", "west"]));
    netd1.sync_some(&net.node1, &snapshot, Some(&name));
    answer(&net.a, &["b", "c"], "an endpoint for two zones");

    set_endpoints(&mut snapshot, &name, &of(&["east"], &[]));
    netd1.sync_some(&net.node1, &snapshot, Some(&name));
    answer(&net.a, &["b", "c"], "an endpoint that says nothing spoils the hints of all");

    set_endpoints(&mut snapshot, &name, &of(&["west"], &["west"]));
    netd1.sync_some(&net.node1, &snapshot, Some(&name));
    answer(&net.a, &["b", "c"], "nobody is for this zone");

    set_endpoints(&mut snapshot, &name, &of(&["east"], &["west"]));
    zones(&mut snapshot, ["west", "east"]);
    netd1.sync(&net.node1, &snapshot);
    netd2.sync(&net.node2, &snapshot);
    answer(&net.a, &["c"], "the node is in another zone now");
    answer(&net.c, &["b"], "the other one, too");
    assert_eq!(netd1.sync(&net.node1, &snapshot).writes, 0, "hints read back as written");
}

#[test]
fn hints_for_the_node_come_before_those_for_its_zone() {
    if !root() {
        return;
    }
    let net = isolated();
    let _servers = pods(&net);
    let mut snapshot = cluster();
    zones(&mut snapshot, ["east", "east"]);
    let name = add(&mut snapshot, "on-node", web("10.96.0.40,fd96::40"), &[]);
    let endpoints = [
        hinted("10.244.1.6", &["east"], &["node-1"]),
        hinted("fd44:1::6", &["east"], &["node-1"]),
        hinted("10.244.2.5", &["east"], &["node-2"]),
        hinted("fd44:2::5", &["east"], &["node-2"]),
    ];
    set_endpoints(&mut snapshot, &name, &endpoints);
    let [mut netd1, _netd2] = both_nodes(&net, &snapshot);
    answer(&net.a, &["b"], "the own node");
    answer(&net.c, &["c"], "the own node");

    // The own one is not ready any more: the zone's hints count, and then its others.
    let gone: Vec<Endpoint> = endpoints
        .iter()
        .cloned()
        .map(|e| Endpoint { ready: e.node.as_deref() != Some("node-1"), ..e })
        .collect();
    set_endpoints(&mut snapshot, &name, &gone);
    netd1.sync_some(&net.node1, &snapshot, Some(&name));
    answer(&net.a, &["c"], "the zone");
}
