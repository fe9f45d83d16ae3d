//! UDP has no end of connection, so netd ends what leads nowhere any more: that, all of that, and
//! nothing else. What the kernel remembers is checked with conntrack(8).

use std::collections::BTreeSet;
use std::net::UdpSocket;

use crate::cluster::{add, both_nodes, cluster, set_backends};
use crate::net::{Host, Outcome, ask, connect, root, serve, udp_ask, udp_socket};
use crate::{answered, at, engine, isolated, web};
use netmodel::nft::Engine;

/// What a node remembers of the protocols that Services have: a line for each connection, without
/// its age and state, and without those that mention `but`. The kernel's own words to groups of
/// hosts (IGMP) come when it likes.
fn remembered(node: &Host, but: &[&str]) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for family in ["ipv4", "ipv6"] {
        for line in node.command("conntrack", &format!("-L -f {family}")).lines() {
            let words = line.split_whitespace().filter(|word| word.contains('='));
            let protocol = line.split_whitespace().next().unwrap_or_default();
            let line = words.fold(protocol.to_owned(), |line, word| line + " " + word);
            let is_ours = ["tcp", "udp", "sctp"].contains(&protocol);
            if is_ours && !but.iter().any(|text| line.contains(text)) {
                lines.insert(line);
            }
        }
    }
    lines
}

/// A client that keeps its port, and what it hears.
struct Caller {
    socket: UdpSocket,
    what: &'static str,
}

impl Caller {
    fn new(host: &Host, to: &'static str) -> Self {
        Self { socket: udp_socket(host, at(to)), what: to }
    }

    #[track_caller]
    fn hears(&self, name: &str, when: &str) {
        let outcome = udp_ask(&self.socket);
        assert!(answered(&outcome, &[name], &[]), "{when}: {}: {outcome:?}", self.what);
    }

    #[track_caller]
    fn is_refused(&self, when: &str) {
        assert_eq!(udp_ask(&self.socket), Outcome::Refused, "{when}: {}", self.what);
    }
}

#[test]
fn a_udp_client_with_one_port_follows_the_endpoints() {
    if !root() {
        return;
    }
    let net = isolated();
    let _servers = [
        serve(&net.b, "b", at("10.244.1.6:8080")),
        serve(&net.b, "b", at("[fd44:1::6]:8080")),
        serve(&net.c, "c", at("10.244.2.5:8080")),
        serve(&net.c, "c", at("[fd44:2::5]:8080")),
    ];
    let mut snapshot = cluster();
    let doors = |service: &mut netmodel::snapshot::Service| {
        web("10.96.0.11,fd96::11")(service);
        service.ports.iter_mut().for_each(|port| port.node_port = Some(30011));
    };
    let (near, far) = (["10.244.1.6", "fd44:1::6"], ["10.244.2.5", "fd44:2::5"]);
    let name = add(&mut snapshot, "web", doors, &near);
    let [mut netd1, _netd2] = both_nodes(&net, &snapshot);
    let callers = [
        Caller::new(&net.a, "10.96.0.11:80"),
        Caller::new(&net.a, "[fd96::11]:80"),
        Caller::new(&net.node1, "10.96.0.11:80"),
        Caller::new(&net.client, "192.168.56.70:30011"),
        Caller::new(&net.client, "[fd56::70]:30011"),
    ];
    callers.iter().for_each(|c| c.hears("b", "at first"));

    set_backends(&mut snapshot, &name, &far);
    // What IPVS remembers, IPVS forgets with the destination, and conntrack's part with it, but
    // some time later: what is left by then is netd's to forget.
    let all_forgotten = |report: &netd::Report| match engine() {
        Engine::Nftables => report.forgotten == callers.len(),
        Engine::Ipvs => report.forgotten <= callers.len(),
    };
    let report = netd1.sync_some(&net.node1, &snapshot, Some(&name));
    assert!(all_forgotten(&report), "one connection for each of them: {report:?}");
    callers.iter().for_each(|c| c.hears("c", "its endpoint went, another came"));

    set_backends(&mut snapshot, &name, &[]);
    let report = netd1.sync_some(&net.node1, &snapshot, Some(&name));
    assert!(all_forgotten(&report), "also when nobody is left: {report:?}");
    callers.iter().for_each(|c| c.is_refused("nobody left"));

    set_backends(&mut snapshot, &name, &near);
    netd1.sync_some(&net.node1, &snapshot, Some(&name));
    callers.iter().for_each(|c| c.hears("b", "back again"));

    snapshot.services.remove(&name);
    let report = netd1.sync_some(&net.node1, &snapshot, Some(&name));
    assert!(all_forgotten(&report), "the Service went: {report:?}");
}

#[test]
fn a_client_that_sent_before_there_was_a_service_is_served_when_there_is() {
    if !root() {
        return;
    }
    let net = isolated();
    let _servers =
        [serve(&net.b, "b", at("10.244.1.6:8080")), serve(&net.b, "b", at("[fd44:1::6]:8080"))];
    let mut snapshot = cluster();
    let [mut netd1, _netd2] = both_nodes(&net, &snapshot);
    let callers =
        ["192.168.56.70:30011", "[fd56::70]:30011"].map(|to| Caller::new(&net.client, to));
    callers.iter().for_each(|c| c.is_refused("nobody is there yet"));
    let doors = |service: &mut netmodel::snapshot::Service| {
        web("10.96.0.11,fd96::11")(service);
        service.ports.iter_mut().for_each(|port| port.node_port = Some(30011));
    };
    let name = add(&mut snapshot, "web", doors, &["10.244.1.6", "fd44:1::6"]);
    let report = netd1.sync_some(&net.node1, &snapshot, Some(&name));
    assert_eq!(report.forgotten, callers.len(), "{report:?}");
    callers.iter().for_each(|c| c.hears("b", "from the same port"));
}

#[test]
fn what_is_not_stale_stays_remembered() {
    if !root() {
        return;
    }
    let net = isolated();
    let _servers = [
        serve(&net.b, "b", at("10.244.1.6:8080")),
        serve(&net.c, "c", at("10.244.2.5:8080")),
        serve(&net.c, "bystander", at("10.244.2.5:9090")),
        serve(&net.client, "client", at("192.168.56.10:9090")),
    ];
    let mut snapshot = cluster();
    let name = add(&mut snapshot, "web", web("10.96.0.11"), &["10.244.1.6"]);
    add(&mut snapshot, "other", web("10.96.0.12"), &["10.244.1.6"]);
    let [mut netd1, _netd2] = both_nodes(&net, &snapshot);
    let stale = Caller::new(&net.a, "10.96.0.11:80");
    stale.hears("b", "at first");
    // A pod's own connection; one of the node; one of another Service to the same endpoint; a TCP
    // connection of the very Service whose UDP endpoint goes.
    let others = [
        (Caller::new(&net.a, "10.244.2.5:9090"), "bystander"),
        (Caller::new(&net.a, "192.168.56.10:9090"), "client"),
        (Caller::new(&net.node1, "10.244.2.5:9090"), "bystander"),
        (Caller::new(&net.a, "10.96.0.12:80"), "b"),
    ];
    others.iter().for_each(|(caller, name)| caller.hears(name, "at first"));
    let mut stream = connect(&net.a, at("10.96.0.11:80"));
    assert!(answered(&ask(&mut stream), &["b"], &[]));

    let stale_lines = ["udp src=10.244.1.5 dst=10.96.0.11"];
    let before = remembered(&net.node1, &stale_lines);
    assert_eq!(before.len(), others.len() + 1, "{before:#?}");
    let count =
        |text: &str| remembered(&net.node1, &[]).iter().filter(|line| line.contains(text)).count();
    assert_eq!(count(stale_lines[0]), 1);
    set_backends(&mut snapshot, &name, &[]);
    netd1.sync_some(&net.node1, &snapshot, Some(&name));
    assert_eq!(count(stale_lines[0]), 0, "the stale one is gone");
    assert_eq!(remembered(&net.node1, &stale_lines), before, "and nothing else");
    // Neither does a look at everything.
    netd1.sync(&net.node1, &snapshot);
    assert_eq!(remembered(&net.node1, &stale_lines), before, "after a full look");
    others.iter().for_each(|(caller, name)| caller.hears(name, "afterwards"));
    assert!(answered(&ask(&mut stream), &["b"], &[]), "TCP ends by itself");
    stale.is_refused("nobody left");
}

#[test]
fn a_restart_forgets_what_went_stale_while_nobody_looked() {
    if !root() {
        return;
    }
    let net = isolated();
    let _servers =
        [serve(&net.b, "b", at("10.244.1.6:8080")), serve(&net.c, "c", at("10.244.2.5:8080"))];
    let mut snapshot = cluster();
    let name = add(&mut snapshot, "web", web("10.96.0.11"), &["10.244.1.6"]);
    let netds = both_nodes(&net, &snapshot);
    let caller = Caller::new(&net.a, "10.96.0.11:80");
    caller.hears("b", "at first");
    drop(netds);
    set_backends(&mut snapshot, &name, &["10.244.2.5"]);
    let _netds = both_nodes(&net, &snapshot);
    caller.hears("c", "after the restart");
    // IPVS has a table of its own, which must not lead to the old one either.
    if engine() == Engine::Ipvs {
        let connections = net.node1.command("ipvsadm", "-Lnc");
        assert!(!connections.contains("10.244.1.6:8080"), "{connections}");
    }
}
