//! Connections that are open stay open, whatever happens to rules, netd, and their Service.

use crate::cluster::{Netd, add, both_nodes, cluster, set_backends};
use crate::net::{Host, Net, ask, connect, root, serve, tcp};
use crate::{answered, at, engine, ip, isolated, web};
use netmodel::snapshot::{Service, ServiceName, Snapshot};

/// Connections by every door to the one pod `b`, kept open, asked again and again.
pub(crate) struct Open(Vec<(std::net::TcpStream, &'static str)>);

impl Open {
    pub(crate) fn through_every_door(net: &Net) -> Self {
        let doors: [(&Host, &'static str); 6] = [
            (&net.a, "10.96.0.11:80"),
            (&net.a, "[fd96::11]:80"),
            (&net.node1, "10.96.0.11:80"),
            (&net.client, "192.168.56.70:30011"),
            (&net.client, "[fd56::70]:30011"),
            (&net.client, "172.30.1.11:80"),
        ];
        Self(doors.into_iter().map(|(host, to)| (connect(host, at(to)), to)).collect())
    }

    #[track_caller]
    pub(crate) fn answer(&mut self, when: &str) {
        for (stream, to) in &mut self.0 {
            let outcome = ask(stream);
            assert!(answered(&outcome, &["b"], &[]), "{when}: {to}: {outcome:?}");
        }
    }
}

fn every_door(service: &mut Service) {
    web("10.96.0.11,fd96::11")(service);
    service.external_ips = vec![ip("172.30.1.11")];
    service.ports.iter_mut().for_each(|port| port.node_port = Some(30011));
}

const B: [&str; 2] = ["10.244.1.6", "fd44:1::6"];
const B_AND_C: [&str; 4] = ["10.244.1.6", "fd44:1::6", "10.244.2.5", "fd44:2::5"];
const C: [&str; 2] = ["10.244.2.5", "fd44:2::5"];

fn pods(net: &Net) -> Vec<crate::net::Server> {
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

/// A Service with every door, in front of `b`.
pub(crate) fn bed() -> (Net, Vec<crate::net::Server>, Snapshot, ServiceName) {
    let net = isolated();
    let servers = pods(&net);
    let mut snapshot = cluster();
    let name = add(&mut snapshot, "web", every_door, &B);
    (net, servers, snapshot, name)
}

#[test]
fn open_connections_outlive_fifty_reconciles() {
    if !root() {
        return;
    }
    let (net, _servers, mut snapshot, name) = bed();
    let [mut netd1, _netd2] = both_nodes(&net, &snapshot);
    let mut open = Open::through_every_door(&net);
    open.answer("at first");
    for round in 0..50 {
        // The Service itself, others beside it, and everything anew.
        set_backends(&mut snapshot, &name, if round % 2 == 0 { &B_AND_C } else { &B });
        netd1.sync_some(&net.node1, &snapshot, Some(&name));
        let vip: &'static str = format!("10.96.4.{round}").leak();
        add(&mut snapshot, &format!("other-{}", round % 7), web(vip), &["10.244.2.5"]);
        netd1.sync(&net.node1, &snapshot);
        if round % 10 == 0 {
            open.answer(&format!("after round {round}"));
        }
    }
    open.answer("after all");
}

#[test]
fn open_connections_outlive_restarts_and_a_flushed_table() {
    if !root() {
        return;
    }
    let (net, _servers, snapshot, _) = bed();
    let mut netds = both_nodes(&net, &snapshot);
    let mut open = Open::through_every_door(&net);
    open.answer("at first");
    drop(netds);
    open.answer("while netd is away");
    netds = both_nodes(&net, &snapshot);
    open.answer("after a restart");
    for damage in ["flush table inet minictl", "delete table inet minictl", "flush ruleset"] {
        net.node1.command("nft", damage);
        netds[0].sync(&net.node1, &snapshot);
        open.answer(damage);
    }
}

#[test]
fn a_removed_endpoint_drains_and_a_removed_service_too() {
    if !root() {
        return;
    }
    let (net, _servers, mut snapshot, name) = bed();
    let [mut netd1, _netd2] = both_nodes(&net, &snapshot);
    let mut open = Open::through_every_door(&net);
    open.answer("at first");

    set_backends(&mut snapshot, &name, &C);
    netd1.sync_some(&net.node1, &snapshot, Some(&name));
    open.answer("after their endpoint left the Service");
    for _ in 0..6 {
        for (host, to) in [(&net.a, "10.96.0.11:80"), (&net.a, "[fd96::11]:80")] {
            let outcome = tcp(host, at(to));
            assert!(answered(&outcome, &["c"], &[]), "new ones go elsewhere, {to}: {outcome:?}");
        }
    }
    // A full look finds nothing to mend, and a restart either.
    netd1.sync(&net.node1, &snapshot);
    Netd::new(&net.node1, "node-1", engine()).sync(&net.node1, &snapshot);
    open.answer("after a look at everything");

    set_backends(&mut snapshot, &name, &[]);
    netd1.sync(&net.node1, &snapshot);
    open.answer("after the last endpoint left");
    crate::assert_refused(&net.a, "10.96.0.11:80", "new ones are refused");

    snapshot.services.remove(&name);
    netd1.sync(&net.node1, &snapshot);
    open.answer("after their Service went");
    let outcome = tcp(&net.a, at("10.96.0.11:80"));
    assert!(!answered(&outcome, &["b", "c"], &[]), "new ones find nobody: {outcome:?}");
}
