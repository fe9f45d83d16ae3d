//! What others do to the kernel's state is put right, what is right is left alone, and in the end
//! nothing stays behind.

use crate::cluster::{self, Netd, add, cluster};
use crate::net::{Net, Outcome, root, serve, tcp};
use crate::{answered, at, both, engine, isolated, web};
use netmodel::nft::Engine;

#[test]
fn a_change_of_one_endpoint_writes_little_and_nothing_when_nothing_changed() {
    if !root() {
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
    // IPVS: the next look finds that nobody is connected any more, and removes what drained.
    let seen = netd.sync(&net.node1, &snapshot).writes;
    assert_eq!(seen > 0, engine() == Engine::Ipvs, "a Service gone");
    assert_eq!(netd.sync(&net.node1, &snapshot).writes, 0, "and nothing left of it");
}

#[test]
fn what_somebody_else_broke_is_repaired() {
    if !root() {
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
        "nft flush map inet minictl balanced4",
        "nft delete element inet minictl endpoints4 { 10.96.0.11 . tcp . 80 . 0 }",
        "nft add element inet minictl vips4 { 10.96.7.7 }",
        "nft flush chain inet minictl refuse-passing",
        "nft flush chain inet minictl pick4-1",
        "nft add rule inet minictl check-source drop",
        "ip route del 10.244.2.0/24",
        "ip route del 10.96.0.0/12",
        "sysctl -q net.ipv4.ip_forward=0",
    ];
    let of_others: &[&str] = match engine() {
        Engine::Nftables => &["balanced4"],
        Engine::Ipvs => &["services4", "endpoints4", "pick4-1"],
    };
    for damage in damages {
        if of_others.iter().any(|name| damage.contains(name)) {
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
fn a_rule_that_was_replaced_in_its_place_is_put_back_and_named() {
    if !root() {
        return;
    }
    let net = isolated();
    let _server = serve(&net.b, "b", at("10.244.1.6:8080"));
    let mut snapshot = cluster();
    add(&mut snapshot, "web", web("10.96.0.11"), &["10.244.1.6"]);
    let mut netd = Netd::new(&net.node1, "node-1", engine());
    netd.sync(&net.node1, &snapshot);
    let serves = |when: &str| {
        for outcome in both(&net.a, "10.96.0.11:80") {
            assert!(answered(&outcome, &["b"], &[]), "{when}: {outcome:?}");
        }
        assert_eq!(tcp(&net.a, at("10.96.0.11:81")), Outcome::Refused, "{when}");
    };
    serves("at first");
    let chains: &[&str] = match engine() {
        Engine::Nftables => &["pick4-1", "refuse", "refuse-to-node"],
        Engine::Ipvs => &["served", "refuse", "refuse-to-node"],
    };
    for chain in chains {
        let listed = net.node1.command("nft", &format!("-a list chain inet minictl {chain}"));
        let handles = listed.lines().filter(|line| line.starts_with("\t\t"));
        let last = handles.filter_map(|line| line.rsplit_once("# handle ")).next_back();
        let (_, handle) = last.unwrap_or_else(|| panic!("no rules in {listed}"));
        net.node1
            .command("nft", &format!("replace rule inet minictl {chain} handle {handle} drop"));
        let report = netd.sync(&net.node1, &snapshot);
        assert!(report.writes > 0, "{chain}: not noticed");
        let named = report.repaired.iter().any(|repair| format!("{repair:?}").contains("edited"));
        assert!(named, "{chain}: {:?}", report.repaired);
        assert_eq!(netd.sync(&net.node1, &snapshot).writes, 0, "{chain}: not settled");
        serves(chain);
    }
}

#[test]
fn cleaning_up_leaves_foreign_state_and_nothing_of_ours() {
    if !root() {
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
    if !root() {
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
    assert!(!report.stuck, "Services do not wait for a route");
    assert_eq!(report.failures[0].to_string(), "set the route to 10.244.2.0/24");
    assert!(routes.contains("192.168.56.99"), "{routes}");
}
