//! Real packets through what the executor puts into the kernel: namespaces made by the test,
//! snapshots made by hand, sockets opened inside. Needs root.

#![expect(clippy::unwrap_used, reason = "a test stops at what must not happen")]

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

/// The engine under test: nftables, or IPVS by `MINICTL_TEST_ENGINE=ipvs` where the kernel has it.
fn engine() -> Engine {
    match std::env::var("MINICTL_TEST_ENGINE").as_deref() {
        Ok("ipvs") => Engine::Ipvs,
        _ => Engine::Nftables,
    }
}

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

/// One node's view is enough for most of what follows.
fn web(vips: &'static str) -> impl FnOnce(&mut netmodel::snapshot::Service) {
    move |service| service.cluster_ips = vips.split(',').map(|v| v.parse().unwrap()).collect()
}

fn isolated() -> Net {
    Net::new(STYLES[0])
}

#[test]
fn a_change_of_one_endpoint_writes_little_and_nothing_when_nothing_changed() {
    if !net::root() {
        return;
    }
    let net = isolated();
    let mut snapshot = cluster();
    for n in 1..=50 {
        let vip: &'static str = format!("10.96.1.{n}").leak();
        add(&mut snapshot, &format!("s{n}"), web(vip), &["10.244.1.5", "10.244.2.5"]);
    }
    let mut netd = Netd::new(&net.node1, "node-1", engine());
    assert!(netd.sync(&net.node1, &snapshot).writes > 0);
    let again = netd.sync(&net.node1, &snapshot);
    assert_eq!(again.writes, 0, "the second look");
    let mut restarted = Netd::new(&net.node1, "node-1", engine());
    assert_eq!(restarted.sync(&net.node1, &snapshot).writes, 0, "the first look after a restart");

    let name = netmodel::snapshot::ServiceName::new("default", "s7");
    cluster::set_backends(&mut snapshot, &name, &["10.244.1.5", "10.244.2.6"]);
    let report = restarted.sync_some(&net.node1, &snapshot, Some(&name));
    assert_eq!(report.writes, 4, "the TCP and the UDP port's endpoint, out and in");
    let seen = netd.sync(&net.node1, &snapshot).writes;
    // IPVS: the backend that left had no connections any more, and went.
    assert_eq!(seen, usize::from(engine() == Engine::Ipvs), "what the other one wrote is right");
    assert_eq!(restarted.sync(&net.node1, &snapshot).writes, 0, "and stays");

    cluster::set_backends(&mut snapshot, &name, &["10.244.1.5"; 1]);
    restarted.sync_some(&net.node1, &snapshot, Some(&name));
    let many: Vec<String> = (1..=20).map(|n| format!("10.244.2.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).chain(["10.244.1.5"]).collect();
    cluster::set_backends(&mut snapshot, &name, &many);
    restarted.sync_some(&net.node1, &snapshot, Some(&name));
    assert_eq!(
        netd.sync(&net.node1, &snapshot).writes,
        0,
        "more backends than chains are ready for"
    );
    snapshot.services.remove(&name);
    restarted.sync_some(&net.node1, &snapshot, Some(&name));
    assert_eq!(netd.sync(&net.node1, &snapshot).writes, 0, "a Service gone");
}

#[test]
fn what_somebody_else_broke_is_repaired() {
    if !net::root() {
        return;
    }
    let net = isolated();
    let _server = serve(&net.b, "b", at("10.244.1.6:8080"));
    let mut snapshot = cluster();
    add(&mut snapshot, "web", web("10.96.0.11"), &["10.244.1.6"]);
    let mut netd = Netd::new(&net.node1, "node-1", engine());
    netd.sync(&net.node1, &snapshot);
    let damages = [
        "nft flush table inet minictl",
        "nft delete table inet minictl",
        "nft flush map inet minictl services4",
        "nft delete element inet minictl endpoints4 { 10.96.0.11 . tcp . 80 . 0 }",
        "nft add element inet minictl vips4 { 10.96.7.7 }",
        "nft flush chain inet minictl refuse-passing",
        "nft flush chain inet minictl pick4-1",
        "nft add rule inet minictl check-source drop",
        "ip route del 10.244.2.0/24",
        "ip route del 10.96.0.0/12",
        "sysctl -q net.ipv4.ip_forward=0",
    ];
    let by_nftables = ["endpoints4", "pick4-1"];
    for damage in damages {
        if engine() == Engine::Ipvs && by_nftables.iter().any(|name| damage.contains(name)) {
            continue;
        }
        let (program, args) = damage.split_once(' ').unwrap();
        net.node1.command(program, args);
        assert!(netd.sync(&net.node1, &snapshot).writes > 0, "{damage}: not noticed");
        assert_eq!(netd.sync(&net.node1, &snapshot).writes, 0, "{damage}: not settled");
        for outcome in both(&net.a, "10.96.0.11:80") {
            assert!(answered(&outcome, &["b"], &[]), "{damage}: {outcome:?}");
        }
        assert_eq!(tcp(&net.a, at("10.96.0.11:81")), Outcome::Refused, "{damage}");
    }
}

#[test]
fn open_tcp_connections_outlive_restarts_rewrites_and_their_service() {
    if !net::root() {
        return;
    }
    let net = isolated();
    let _servers =
        [serve(&net.b, "b", at("10.244.1.6:8080")), serve(&net.c, "c", at("10.244.2.5:8080"))];
    let mut snapshot = cluster();
    let name = add(&mut snapshot, "web", web("10.96.0.11"), &["10.244.1.6"]);
    Netd::new(&net.node1, "node-1", engine()).sync(&net.node1, &snapshot);
    Netd::new(&net.node2, "node-2", engine()).sync(&net.node2, &snapshot);
    let mut stream = net::connect(&net.a, at("10.96.0.11:80"));
    let mut still_b = |when: &str| {
        let outcome = net::ask(&mut stream);
        assert!(answered(&outcome, &["b"], &["10.244.1.5"]), "{when}: {outcome:?}");
    };
    still_b("at first");
    let mut netd = Netd::new(&net.node1, "node-1", engine());
    netd.sync(&net.node1, &snapshot);
    still_b("after a restart");
    net.node1.command("nft", "delete table inet minictl");
    netd.sync(&net.node1, &snapshot);
    still_b("after the table was lost");
    cluster::set_backends(&mut snapshot, &name, &["10.244.2.5"]);
    netd.sync_some(&net.node1, &snapshot, Some(&name));
    still_b("after its backend left the Service");
    assert!(answered(&tcp(&net.a, at("10.96.0.11:80")), &["c"], &[]), "new ones go elsewhere");
    snapshot.services.remove(&name);
    netd.sync_some(&net.node1, &snapshot, Some(&name));
    // IPVS forgets connections with the address they were made to.
    if engine() == Engine::Nftables {
        still_b("after its Service went");
    }
}

#[test]
fn a_udp_client_with_one_port_follows_the_endpoints() {
    if !net::root() {
        return;
    }
    let net = isolated();
    let _servers = [
        serve(&net.b, "b", at("10.244.1.6:8080")),
        serve(&net.c, "c", at("10.244.2.5:8080")),
        serve(&net.c, "bystander", at("10.244.2.5:9090")),
    ];
    let mut snapshot = cluster();
    let name = add(&mut snapshot, "web", web("10.96.0.11"), &["10.244.1.6"]);
    Netd::new(&net.node2, "node-2", engine()).sync(&net.node2, &snapshot);
    let mut netd = Netd::new(&net.node1, "node-1", engine());
    netd.sync(&net.node1, &snapshot);
    let socket = net::udp_socket(&net.a, at("10.96.0.11:80"));
    let other = net::udp_socket(&net.a, at("10.244.2.5:9090"));
    assert!(answered(&net::udp_ask(&socket), &["b"], &[]));
    assert!(answered(&net::udp_ask(&other), &["bystander"], &[]));

    cluster::set_backends(&mut snapshot, &name, &["10.244.2.5"]);
    let report = netd.sync_some(&net.node1, &snapshot, Some(&name));
    assert_eq!(report.forgotten, 1, "its own connection and no other");
    let outcome = net::udp_ask(&socket);
    assert!(answered(&outcome, &["c"], &[]), "moved: {outcome:?}");

    cluster::set_backends(&mut snapshot, &name, &[]);
    assert_eq!(netd.sync_some(&net.node1, &snapshot, Some(&name)).forgotten, 1);
    let attempts: Vec<Outcome> = (0..3).map(|_| net::udp_ask(&socket)).collect();
    assert!(attempts.contains(&Outcome::Refused), "nobody left: {attempts:?}");

    cluster::set_backends(&mut snapshot, &name, &["10.244.1.6"]);
    netd.sync_some(&net.node1, &snapshot, Some(&name));
    let outcome = net::udp_ask(&socket);
    assert!(answered(&outcome, &["b"], &[]), "back again: {outcome:?}");

    snapshot.services.remove(&name);
    assert_eq!(netd.sync_some(&net.node1, &snapshot, Some(&name)).forgotten, 1, "Service gone");
    assert!(answered(&net::udp_ask(&other), &["bystander"], &[]));
}

#[test]
fn policies_and_ranges_hold_for_real_clients() {
    if !net::root() {
        return;
    }
    let net = isolated();
    let _servers =
        [serve(&net.b, "b", at("10.244.1.6:8080")), serve(&net.c, "c", at("10.244.2.5:8080"))];
    let mut snapshot = cluster();
    let local = |service: &mut netmodel::snapshot::Service| {
        web("10.96.0.30")(service);
        service.external_local = true;
        service.external_ips = vec!["172.30.1.44".parse().unwrap()];
        service.ports.iter_mut().for_each(|p| p.node_port = Some(30030));
    };
    add(&mut snapshot, "local", local, &["10.244.1.6"]);
    let closed = |service: &mut netmodel::snapshot::Service| {
        web("10.96.0.31")(service);
        service.load_balancer_ips = vec!["172.30.1.45".parse().unwrap()];
        service.source_ranges = vec!["192.168.56.11/32".parse().unwrap()];
    };
    let name = add(&mut snapshot, "closed", closed, &["10.244.1.6"]);
    let mut netd1 = Netd::new(&net.node1, "node-1", engine());
    netd1.sync(&net.node1, &snapshot);
    Netd::new(&net.node2, "node-2", engine()).sync(&net.node2, &snapshot);
    net.client.ip("route add 172.30.1.0/24 via 192.168.56.70");
    // So that the node would have somewhere to send what is not translated.
    net.node1.ip("route add default via 192.168.56.71");

    for to in ["192.168.56.70:30030", "172.30.1.44:80"] {
        for outcome in both(&net.client, to) {
            assert!(answered(&outcome, &["b"], &["192.168.56.10"]), "{to}: {outcome:?}");
        }
    }
    let outcome = tcp(&net.client, at("192.168.56.71:30030"));
    assert_eq!(outcome, Outcome::Silence, "no backend on that node");
    let outcome = tcp(&net.c, at("192.168.56.71:30030"));
    assert!(answered(&outcome, &["b"], &[]), "a pod of that node is an insider: {outcome:?}");
    assert_eq!(tcp(&net.client, at("172.30.1.44:81")), Outcome::Refused);

    assert_eq!(tcp(&net.client, at("172.30.1.45:80")), Outcome::Silence, "not in the range");
    let mut service = snapshot.services[&name].as_ref().clone();
    service.source_ranges.push("192.168.56.0/28".parse().unwrap());
    snapshot.services.insert(name.clone(), service.into());
    netd1.sync_some(&net.node1, &snapshot, Some(&name));
    let outcome = tcp(&net.client, at("172.30.1.45:80"));
    assert!(answered(&outcome, &["b"], &["192.168.56.10"]), "in the range: {outcome:?}");
    assert_eq!(netd1.sync(&net.node1, &snapshot).writes, 0, "ranges read back as written");
}

#[test]
fn connections_are_spread_evenly() {
    if !net::root() {
        return;
    }
    let net = isolated();
    let _servers = [
        serve(&net.a, "a", at("10.244.1.5:8080")),
        serve(&net.b, "b", at("10.244.1.6:8080")),
        serve(&net.c, "c", at("10.244.2.5:8080")),
    ];
    let mut snapshot = cluster();
    add(&mut snapshot, "web", web("10.96.0.11"), &["10.244.1.5", "10.244.1.6", "10.244.2.5"]);
    Netd::new(&net.node1, "node-1", engine()).sync(&net.node1, &snapshot);
    Netd::new(&net.node2, "node-2", engine()).sync(&net.node2, &snapshot);
    let mut counts = std::collections::BTreeMap::new();
    for _ in 0..600 {
        match udp(&net.a, at("10.96.0.11:80")) {
            Outcome::Answer(name, _) => *counts.entry(name).or_insert(0_i32) += 1,
            other => panic!("{other:?}"),
        }
    }
    // Three standard deviations of a fair die are 35.
    assert!(counts.len() == 3 && counts.values().all(|n| (150..=250).contains(n)), "{counts:?}");
}

#[test]
fn cleaning_up_leaves_foreign_state_and_nothing_of_ours() {
    if !net::root() {
        return;
    }
    let net = isolated();
    let mut snapshot = cluster();
    add(&mut snapshot, "web", web("10.96.0.11"), &["10.244.1.6"]);
    let foreign = [
        ("nft", "add table inet foreign"),
        ("ip", "route add 10.99.0.0/16 via 192.168.56.71 proto static"),
    ];
    for (program, args) in foreign {
        net.node1.command(program, args);
    }
    let state = |net: &Net| {
        let routes = net.node1.ip("route");
        let routes6 = net.node1.ip("-6 route");
        let links = net.node1.ip("-o link show type dummy");
        [routes, routes6, links, net.node1.command("nft", "list ruleset")]
    };
    let before = state(&net);
    Netd::new(&net.node1, "node-1", engine()).sync(&net.node1, &snapshot);
    assert_ne!(state(&net), before);
    let failures = net.node1.run(|| netd::clean_up("mini0", &(30000..=32767)));
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(state(&net), before);
    let failures = net.node1.run(|| netd::clean_up("mini0", &(30000..=32767)));
    assert!(failures.is_empty(), "a second time: {failures:?}");
}

#[test]
fn a_foreign_route_in_the_way_is_reported_and_stays() {
    if !net::root() {
        return;
    }
    let net = isolated();
    net.node1.ip("route add 10.244.2.0/24 via 192.168.56.99 proto static");
    let snapshot = cluster();
    let (report, routes) = {
        let snapshot = snapshot.clone();
        let report = net.node1.run(move || {
            let mut executor = netd::Executor::open(engine()).unwrap();
            executor.sync(&snapshot, netd::Changes::All)
        });
        (report, net.node1.ip("route show 10.244.2.0/24"))
    };
    assert_eq!(report.failures.len(), 1, "{:?}", report.failures);
    assert_eq!(report.failures[0].to_string(), "set the route to 10.244.2.0/24");
    assert!(routes.contains("192.168.56.99"), "{routes}");
}

#[test]
fn a_client_keeps_its_backend_as_long_as_that_serves() {
    if !net::root() {
        return;
    }
    let net = isolated();
    let _servers = [
        serve(&net.a, "a", at("10.244.1.5:8080")),
        serve(&net.b, "b", at("10.244.1.6:8080")),
        serve(&net.c, "c", at("10.244.2.5:8080")),
        serve(&net.a, "a", at("[fd44:1::5]:8080")),
        serve(&net.b, "b", at("[fd44:1::6]:8080")),
    ];
    let all = ["10.244.1.5", "10.244.1.6", "10.244.2.5", "fd44:1::5", "fd44:1::6"];
    let mut snapshot = cluster();
    let sticky = |service: &mut netmodel::snapshot::Service| {
        web("10.96.0.11,fd96::11")(service);
        service.affinity_seconds = Some(10_800);
        service.ports.iter_mut().for_each(|p| p.node_port = Some(30011));
    };
    let name = add(&mut snapshot, "web", sticky, &all);
    let mut netd = Netd::new(&net.node1, "node-1", engine());
    netd.sync(&net.node1, &snapshot);
    Netd::new(&net.node2, "node-2", engine()).sync(&net.node2, &snapshot);

    let keeps = |host: &Host, to: &str| -> String {
        let answers: std::collections::BTreeSet<String> = (0..12)
            .map(|_| match tcp(host, at(to)) {
                Outcome::Answer(name, _) => name,
                other => panic!("{to}: {other:?}"),
            })
            .collect();
        assert_eq!(answers.len(), 1, "{to}: {answers:?}");
        answers.into_iter().next().unwrap()
    };
    // Also a pod that may be given itself.
    let first = keeps(&net.a, "10.96.0.11:80");
    keeps(&net.a, "[fd96::11]:80");
    keeps(&net.client, "192.168.56.70:30011");
    if engine() == Engine::Nftables {
        let learnt = net.node1.command("nft", "list map inet minictl affinity4");
        assert!(learnt.contains("10.244.1.5 . 10.96.0.11 . tcp . 80 timeout 3h"), "{learnt}");
    }
    assert_eq!(netd.sync(&net.node1, &snapshot).writes, 0, "nothing to do");
    assert_eq!(keeps(&net.a, "10.96.0.11:80"), first, "after a full look");

    let rest: Vec<&str> = all.into_iter().filter(|b| !b.ends_with(address_of(&first))).collect();
    cluster::set_backends(&mut snapshot, &name, &rest);
    let report = netd.sync_some(&net.node1, &snapshot, Some(&name));
    assert!(report.forgotten >= usize::from(engine() == Engine::Nftables));
    let second = keeps(&net.a, "10.96.0.11:80");
    assert_ne!(second, first, "its backend is gone");
    cluster::set_backends(&mut snapshot, &name, &all);
    netd.sync_some(&net.node1, &snapshot, Some(&name));
    assert_eq!(keeps(&net.a, "10.96.0.11:80"), second, "a new backend changes nothing");

    net.node1.command("nft", "list table inet minictl");
    if engine() == Engine::Nftables {
        net.node1.command("nft", "flush chain inet minictl remember-10800s");
        assert!(netd.sync(&net.node1, &snapshot).writes > 0);
    }
    net.node1.command("nft", "delete table inet minictl");
    netd.sync(&net.node1, &snapshot);
    assert_eq!(netd.sync(&net.node1, &snapshot).writes, 0);
    keeps(&net.a, "10.96.0.11:80");
}

fn address_of(server: &str) -> &'static str {
    match server {
        "a" => "1.5",
        "b" => "1.6",
        _ => "2.5",
    }
}
