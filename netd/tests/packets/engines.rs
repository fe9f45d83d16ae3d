//! What only a kernel with IPVS can show.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::cluster::{Netd, add, both_nodes, cluster};
use crate::lasting::{Open, bed};
use crate::net::{Outcome, root, serve, tcp};
use crate::{answered, at, both, isolated, web};
use netmodel::ipvs::SCHEDULERS;
use netmodel::nft::Engine;

#[test]
#[ignore = "needs IPVS; run in the virtual machine"]
fn the_kernel_takes_every_scheduler_and_each_serves() {
    assert!(root() && crate::engine() == Engine::Ipvs);
    let net = isolated();
    let _servers =
        [serve(&net.b, "b", at("10.244.1.6:8080")), serve(&net.c, "c", at("10.244.2.5:8080"))];
    let mut snapshot = cluster();
    let vips: BTreeMap<&str, String> =
        (60..).zip(SCHEDULERS).map(|(n, name)| (name, format!("10.96.0.{n}"))).collect();
    for (scheduler, vip) in &vips {
        let vip: &'static str = vip.clone().leak();
        let change = |service: &mut netmodel::snapshot::Service| {
            web(vip)(service);
            service.scheduler = Some((*scheduler).into());
        };
        add(&mut snapshot, &format!("by-{scheduler}"), change, &["10.244.1.6", "10.244.2.5"]);
    }
    let [mut netd1, _netd2] = both_nodes(&net, &snapshot);
    let seen = net.node1.command("ipvsadm", "-Ln");
    for (scheduler, vip) in &vips {
        for protocol in ["TCP", "UDP"] {
            let line = format!("{protocol}  {vip}:80 {scheduler} ");
            assert!(seen.lines().any(|l| format!("{l} ").starts_with(&line)), "{line}\n{seen}");
        }
        let outcome = tcp(&net.a, at(&format!("{vip}:80")));
        assert!(answered(&outcome, &["b", "c"], &["10.244.1.5"]), "{scheduler}: {outcome:?}");
    }
    assert_eq!(netd1.sync(&net.node1, &snapshot).writes, 0, "all read back as written");
}

#[test]
#[ignore = "needs IPVS; run in the virtual machine"]
fn another_engine_takes_over_and_nobody_notices() {
    assert!(root() && crate::engine() == Engine::Ipvs);
    let (net, _servers, snapshot, _) = bed();
    // What must never be reached by the Service's address.
    let _host = serve(&net.node1, "node-1", at("[::]:22"));
    let [mut netd1, _netd2] = both_nodes(&net, &snapshot);
    let mut open = Open::through_every_door(&net);
    let served = net.a.hammer(at("10.96.0.11:80"));
    let served_outside = net.client.hammer(at("192.168.56.70:30011"));
    let refused = net.b.hammer(at("10.96.0.11:22"));
    for engine in [Engine::Nftables, Engine::Ipvs, Engine::Nftables, Engine::Ipvs] {
        netd1.switch(&net.node1, engine);
        netd1.sync(&net.node1, &snapshot);
        open.answer(&format!("after the switch to {engine:?}"));
        // New connections are the new engine's.
        for (host, to) in [
            (&net.node1, "10.96.0.11:80"),
            (&net.a, "[fd96::11]:80"),
            (&net.client, "[fd56::70]:30011"),
            (&net.client, "172.30.1.11:80"),
        ] {
            for outcome in both(host, to) {
                assert!(answered(&outcome, &["b"], &[]), "{engine:?}: {to}: {outcome:?}");
            }
        }
        netd1.sync(&net.node1, &snapshot);
        open.answer(&format!("after another look with {engine:?}"));
    }
    for (hammer, what) in [(served, "pod"), (served_outside, "client")] {
        let outcomes = hammer.stop();
        let bad: Vec<&Outcome> = outcomes.iter().filter(|o| !answered(o, &["b"], &[])).collect();
        assert!(bad.is_empty(), "{what}: {} of {} calls: {bad:?}", bad.len(), outcomes.len());
        assert!(outcomes.len() > 8, "{what}: only {} calls", outcomes.len());
    }
    let outcomes = refused.stop();
    assert!(outcomes.iter().all(|o| *o == Outcome::Refused), "port 22: {outcomes:?}");
}

#[test]
#[ignore = "needs IPVS; run in the virtual machine"]
fn ipvs_takes_calls_for_a_moment_after_it_was_left_and_then_no_more() {
    assert!(root() && crate::engine() == Engine::Ipvs);
    let (net, _servers, snapshot, _) = bed();
    let [mut netd1, _netd2] = both_nodes(&net, &snapshot);
    let mut open = Open::through_every_door(&net);
    let taking = || {
        let seen = net.node1.command("ipvsadm", "-Ln");
        // "  -> 10.244.1.6:8080  Masq  1  …": the fourth word is the weight.
        let weight = |line: &str| line.split_whitespace().nth(3).and_then(|w| w.parse().ok());
        seen.lines().filter(|l| l.contains("Masq")).filter_map(weight).any(|w: u32| w > 0)
    };
    netd1.switch(&net.node1, Engine::Nftables);
    netd1.sync(&net.node1, &snapshot);
    assert!(taking(), "a client that nobody answered yet asks again");
    let deadline = Instant::now() + Duration::from_secs(30);
    while taking() {
        assert!(Instant::now() < deadline, "{}", net.node1.command("ipvsadm", "-Ln"));
        netd1.audit(&net.node1, &snapshot);
    }
    let let_in = net.node1.command("nft", "list map inet minictl balanced4");
    assert!(!let_in.contains("10.96.0.11"), "{let_in}");
    open.answer("after IPVS stopped taking calls");
}

#[test]
#[ignore = "needs IPVS; run in the virtual machine"]
fn a_restart_with_another_engine_takes_over_too() {
    assert!(root() && crate::engine() == Engine::Ipvs);
    let (net, _servers, snapshot, _) = bed();
    let [netd1, _netd2] = both_nodes(&net, &snapshot);
    let mut open = Open::through_every_door(&net);
    drop(netd1);
    for engine in [Engine::Nftables, Engine::Ipvs] {
        Netd::new(&net.node1, "node-1", engine).sync(&net.node1, &snapshot);
        open.answer(&format!("restarted with {engine:?}"));
    }
}
