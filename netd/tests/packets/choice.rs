//! Which endpoint a client gets: each is as likely as the others, and with affinity the one it had.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use netmodel::address::Protocol;
use netmodel::nft::Engine;
use netmodel::snapshot::Service;

use crate::cluster::{self, Netd, add, both_nodes, cluster};
use crate::net::{Host, Outcome, Server, calls, root, serve, tcp, udp};
use crate::{answered, at, engine, ip, isolated, web};

/// Connections of one sample: enough for χ², and for taking turns a few will do.
fn sample_size() -> usize {
    if engine() == Engine::Ipvs { 400 } else { 3_200 }
}

/// The value that χ² with three degrees of freedom exceeds once in a thousand samples of a fair die.
const ONCE_IN_A_THOUSAND: f64 = 16.266;

#[test]
fn every_endpoint_is_as_likely_as_the_others() {
    if !root() {
        return;
    }
    let net = isolated();
    // Enough of a pod for this.
    net.c.ip("address add 10.244.2.6/32 dev eth0");
    let _servers = [
        serve(&net.a, "a", at("10.244.1.5:8080")),
        serve(&net.b, "b", at("10.244.1.6:8080")),
        serve(&net.c, "c", at("10.244.2.5:8080")),
        serve(&net.c, "d", at("10.244.2.6:8080")),
    ];
    let mut snapshot = cluster();
    let backends = ["10.244.1.5", "10.244.1.6", "10.244.2.5", "10.244.2.6"];
    add(&mut snapshot, "web", web("10.96.0.11"), &backends);
    let _netds = both_nodes(&net, &snapshot);
    let sample = || -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        let to = (Protocol::Tcp, at("10.96.0.11:80"));
        for outcome in calls(&net.a, vec![to; sample_size()]) {
            *counts.entry(outcome.name()).or_default() += 1;
        }
        counts
    };
    if engine() == Engine::Ipvs {
        // Round robin is no die: everyone in turn.
        // (A call that is repeated takes a turn, too.)
        let counts = sample();
        assert!(counts.values().all(|n| n.abs_diff(100) <= 2), "{counts:?}");
        return;
    }
    // A fair die fails one sample of a thousand; two in a row, one of a million.
    let failures: Vec<String> = (0..2)
        .map(|_| sample())
        .map_while(|counts| {
            let chi_squared = chi_squared(&counts, 4);
            (chi_squared > ONCE_IN_A_THOUSAND).then(|| format!("χ² = {chi_squared}: {counts:?}"))
        })
        .collect();
    assert!(failures.len() < 2, "{failures:#?}");
}

#[expect(clippy::cast_precision_loss, reason = "counts of a few thousand")]
fn chi_squared(counts: &BTreeMap<String, usize>, sides: usize) -> f64 {
    assert_eq!(counts.len(), sides, "everyone gets something: {counts:?}");
    let expected = counts.values().sum::<usize>() as f64 / sides as f64;
    counts.values().map(|n| (*n as f64 - expected).powi(2) / expected).sum()
}

fn sticky(seconds: u32) -> impl Fn(&mut Service) {
    move |service| {
        web("10.96.0.11,fd96::11")(service);
        service.affinity_seconds = Some(seconds);
        service.external_ips = vec![ip("172.30.1.11"), ip("2001:db8:1::11")];
        service.load_balancer_ips = vec![ip("203.0.113.11"), ip("2001:db8:2::11")];
        service.ports.iter_mut().for_each(|p| p.node_port = Some(30011));
    }
}

const ALL: [&str; 6] =
    ["10.244.1.5", "10.244.1.6", "10.244.2.5", "fd44:1::5", "fd44:1::6", "fd44:2::5"];

fn pods(net: &crate::net::Net) -> Vec<Server> {
    [
        (&net.a, "a", "10.244.1.5:8080"),
        (&net.b, "b", "10.244.1.6:8080"),
        (&net.c, "c", "10.244.2.5:8080"),
        (&net.a, "a", "[fd44:1::5]:8080"),
        (&net.b, "b", "[fd44:1::6]:8080"),
        (&net.c, "c", "[fd44:2::5]:8080"),
    ]
    .into_iter()
    .map(|(host, name, address)| serve(host, name, at(address)))
    .collect()
}

/// Who answers many calls: always the same.
#[track_caller]
fn keeps(call: fn(&Host, std::net::SocketAddr) -> Outcome, host: &Host, to: &str) -> String {
    let answers: BTreeSet<String> = (0..12).map(|_| call(host, at(to)).name()).collect();
    assert_eq!(answers.len(), 1, "{to}: {answers:?}");
    answers.into_iter().next().unwrap()
}

#[test]
fn a_client_keeps_its_endpoint_by_every_door() {
    if !root() {
        return;
    }
    let net = isolated();
    let _servers = pods(&net);
    let mut snapshot = cluster();
    add(&mut snapshot, "web", sticky(10_800), &ALL);
    let [mut netd1, _netd2] = both_nodes(&net, &snapshot);
    let inside = ["10.96.0.11:80", "[fd96::11]:80", "203.0.113.11:80", "[2001:db8:2::11]:80"];
    for to in inside {
        // Also a pod that may be given itself.
        for host in [&net.a, &net.c, &net.node1, &net.node2] {
            keeps(tcp, host, to);
            keeps(udp, host, to);
        }
    }
    let outside = [
        "192.168.56.70:30011",
        "[fd56::70]:30011",
        "172.30.1.11:80",
        "[2001:db8:1::11]:80",
        "203.0.113.11:80",
        "[2001:db8:2::11]:80",
    ];
    for to in outside {
        keeps(tcp, &net.client, to);
        keeps(udp, &net.client, to);
    }
    if engine() == Engine::Nftables {
        let learnt = net.node1.command("nft", "list map inet minictl affinity4");
        assert!(learnt.contains("10.244.1.5 . 10.96.0.11 . tcp . 80 timeout 3h"), "{learnt}");
    }
    // nft(8) must be able to show all of it, to people and to whoever looks for foreign rules.
    assert!(net.node1.command("nft", "list ruleset").contains("sticky"));
    assert_eq!(netd1.sync(&net.node1, &snapshot).writes, 0, "what was learnt is no fault to mend");
}

#[test]
fn a_client_keeps_its_endpoint_as_long_as_that_serves() {
    if !root() {
        return;
    }
    let net = isolated();
    let _servers = pods(&net);
    let mut snapshot = cluster();
    let name = add(&mut snapshot, "web", sticky(10_800), &ALL);
    let [mut netd1, _netd2] = both_nodes(&net, &snapshot);
    let first = keeps(tcp, &net.a, "10.96.0.11:80");
    let rest: Vec<&str> = ALL.into_iter().filter(|b| !b.ends_with(address_of(&first))).collect();
    cluster::set_backends(&mut snapshot, &name, &rest);
    let report = netd1.sync_some(&net.node1, &snapshot, Some(&name));
    assert!(report.forgotten >= usize::from(engine() == Engine::Nftables));
    let second = keeps(tcp, &net.a, "10.96.0.11:80");
    assert_ne!(second, first, "its endpoint is gone");

    cluster::set_backends(&mut snapshot, &name, &ALL);
    netd1.sync_some(&net.node1, &snapshot, Some(&name));
    assert_eq!(keeps(tcp, &net.a, "10.96.0.11:80"), second, "one endpoint more changes nothing");
    let many: Vec<String> = (20..40).map(|n| format!("10.244.2.{n}")).collect();
    let many: Vec<&str> = ALL.into_iter().chain(many.iter().map(String::as_str)).collect();
    cluster::set_backends(&mut snapshot, &name, &many);
    netd1.sync_some(&net.node1, &snapshot, Some(&name));
    assert_eq!(keeps(tcp, &net.a, "10.96.0.11:80"), second, "nor do twenty");
    let mut restarted = Netd::new(&net.node1, "node-1", engine());
    restarted.sync(&net.node1, &snapshot);
    assert_eq!(keeps(tcp, &net.a, "10.96.0.11:80"), second, "nor does a restart");

    if engine() == Engine::Nftables {
        net.node1.command("nft", "flush chain inet minictl remember-10800s");
        assert!(restarted.sync(&net.node1, &snapshot).writes > 0);
    }
    cluster::set_backends(&mut snapshot, &name, &ALL);
    net.node1.command("nft", "delete table inet minictl");
    restarted.sync(&net.node1, &snapshot);
    restarted.sync(&net.node1, &snapshot);
    keeps(tcp, &net.a, "10.96.0.11:80");
}

#[test]
fn a_client_that_stays_away_longer_than_the_timeout_is_forgotten() {
    if !root() {
        return;
    }
    let net = isolated();
    let _servers = pods(&net);
    let mut snapshot = cluster();
    // Longer than a look at what is remembered takes; on an emulated machine that is seconds.
    let timeout = if engine() == Engine::Ipvs { 6 } else { 2 };
    add(&mut snapshot, "web", sticky(timeout), &ALL);
    let _netds = both_nodes(&net, &snapshot);
    if engine() == Engine::Ipvs {
        // A tie lasts as long as one of the connections it made, which for UDP is five minutes.
        net.node1.command("ipvsadm", "--set 0 0 1");
    }
    let first = keeps(udp, &net.a, "10.96.0.11:80");
    let remembers = || match engine() {
        Engine::Nftables => net
            .node1
            .command("nft", "list map inet minictl affinity4")
            .contains("10.244.1.5 . 10.96.0.11 . udp . 80"),
        // The client's tie, besides its connections, which have a port.
        Engine::Ipvs => {
            net.node1.command("ipvsadm", "-Lnc").lines().any(|line| line.contains(" 10.244.1.5:0 "))
        }
    };
    assert!(remembers(), "while the client calls");
    // Each time it is forgotten, the choice is made anew among three.
    let end = Instant::now() + Duration::from_secs(90);
    let moved = loop {
        while remembers() {
            assert!(Instant::now() < end, "still remembered");
            std::thread::park_timeout(Duration::from_millis(50));
        }
        let now = udp(&net.a, at("10.96.0.11:80")).name();
        if now != first {
            break now;
        }
        assert!(Instant::now() < end, "forgotten many times, and always given the same");
    };
    assert_eq!(keeps(udp, &net.a, "10.96.0.11:80"), moved, "and kept again");
}

fn address_of(server: &str) -> &'static str {
    match server {
        "a" => "1.5",
        "b" => "1.6",
        _ => "2.5",
    }
}

/// Between the moment its endpoint goes and the moment it is forgotten, a memory must not lead there.
#[test]
fn a_memory_that_outlived_its_endpoint_leads_nowhere_and_is_gone() {
    if !root() || engine() == Engine::Ipvs {
        // IPVS keeps its own memory, and forgets with the destination.
        return;
    }
    let net = isolated();
    let _servers = pods(&net);
    let mut snapshot = cluster();
    add(&mut snapshot, "web", sticky(10_800), &["10.244.1.6", "fd44:1::6"]);
    let [_netd1, _netd2] = both_nodes(&net, &snapshot);
    for (map, client, vip, gone, to) in [
        ("affinity4", "10.244.1.5", "10.96.0.11", "10.244.2.5", "10.96.0.11:80"),
        ("affinity6", "fd44:1::5", "fd96::11", "fd44:2::5", "[fd96::11]:80"),
    ] {
        // The endpoint that went still answers, so that nobody could miss being sent there.
        let memory = format!("{client} . {vip} . tcp . 80 timeout 3h : {gone} . 8080");
        net.node1.command("nft", &format!("add element inet minictl {map} {{ {memory} }}"));
        let outcome = tcp(&net.a, at(to));
        assert!(!answered(&outcome, &["c"], &[]), "{to}: {outcome:?}");
        let left = net.node1.command("nft", &format!("list map inet minictl {map}"));
        assert!(!left.contains(gone), "{to}: {left}");
        let outcome = tcp(&net.a, at(to));
        assert!(answered(&outcome, &["b"], &[]), "{to}: {outcome:?}");
    }
}
