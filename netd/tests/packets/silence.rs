//! What the kernel sends no notice of: IPVS, looked after by audits.

use std::time::{Duration, Instant};

use crate::cluster::{Netd, add, cluster};
use crate::net::{Net, Outcome, ask, connect, root, serve, tcp};
use crate::{answered, at, both, engine, isolated, web};
use netmodel::nft::Engine;
use netmodel::problem::Cause;
use netmodel::snapshot::Snapshot;

/// What an audit may take to find a change: it is called twice a second.
const LIMIT: Duration = Duration::from_secs(20);

/// Audits until something was put back.
fn repaired(netd: &mut Netd, net: &Net, snapshot: &Snapshot, damage: &str) -> Vec<String> {
    let start = Instant::now();
    loop {
        let report = netd.audit(&net.node1, snapshot);
        if !report.repaired.is_empty() {
            return report.repaired.iter().map(ToString::to_string).collect();
        }
        assert!(start.elapsed() < LIMIT, "{damage}: not noticed");
    }
}

#[test]
#[ignore = "needs IPVS; run in the virtual machine"]
fn what_somebody_changed_in_ipvs_is_put_back_and_named() {
    assert!(root() && engine() == Engine::Ipvs);
    let net = isolated();
    let _server = serve(&net.b, "b", at("10.244.1.6:8080"));
    let mut snapshot = cluster();
    for n in 1..=100 {
        let vip: &'static str = format!("10.96.1.{n}").leak();
        add(&mut snapshot, &format!("s{n}"), web(vip), &["10.244.1.6"]);
    }
    let foreign = "-A -t 192.168.56.70:9999 -s rr";
    net.node1.command("ipvsadm", foreign);
    let mut netd = Netd::new(&net.node1, "node-1", Engine::Ipvs);
    netd.sync(&net.node1, &snapshot);
    assert_eq!(netd.audit(&net.node1, &snapshot).writes, 0);
    let damages = [
        (
            "-D -t 10.96.1.50:80",
            "virtual-server 10.96.1.50 . tcp . 80 was deleted of Service default/s50:t",
        ),
        (
            "-D -u 10.96.1.51:80",
            "virtual-server 10.96.1.51 . udp . 80 was deleted of Service default/s51:u",
        ),
        ("-A -t 10.96.1.1:81 -s rr", "virtual-server 10.96.1.1 . tcp . 81 was added"),
        (
            "-d -t 10.96.1.9:80 -r 10.244.1.6:8080",
            "destination 10.244.1.6 . 8080 of 10.96.1.9 . tcp . 80 was deleted of Service default/s9:t",
        ),
        (
            "-E -t 10.96.1.70:80 -s sh",
            "virtual-server 10.96.1.70 . tcp . 80 was edited of Service default/s70:t",
        ),
        ("-C", "was deleted"),
    ];
    for (damage, words) in damages {
        net.node1.command("ipvsadm", damage);
        let found = repaired(&mut netd, &net, &snapshot, damage);
        assert!(
            found.iter().any(|one| one.ends_with(words) || damage == "-C" && one.contains(words)),
            "{damage}: {found:?}"
        );
        assert_eq!(netd.sync(&net.node1, &snapshot).writes, 0, "{damage}: not settled");
        for outcome in both(&net.a, "10.96.1.50:80") {
            assert!(answered(&outcome, &["b"], &[]), "{damage}: {outcome:?}");
        }
        if damage != "-C" {
            assert!(net.node1.command("ipvsadm", "-Ln").contains("192.168.56.70:9999"), "{damage}");
        }
    }
    net.node1.ip("address del 10.96.1.50/32 dev mini-ipvs0");
    assert!(
        netd.sync(&net.node1, &snapshot).repaired.iter().any(|r| r.what.starts_with("10.96.1.50"))
    );
    net.node1.ip("link del mini-ipvs0");
    netd.sync(&net.node1, &snapshot);
    assert_eq!(netd.sync(&net.node1, &snapshot).writes, 0);
}

/// Ends a connection, and audits until nothing is left of the server that it kept.
fn until_drained(netd: &mut Netd, net: &Net, snapshot: &Snapshot, open: impl Sized, server: &str) {
    // What IPVS remembers of a connection that ended, it remembers for two minutes: less, here.
    net.node1.command("ipvsadm", "--set 2 2 2");
    drop(open);
    let start = Instant::now();
    while net.node1.command("ipvsadm", "-Ln").contains(server) {
        netd.audit(&net.node1, snapshot);
        assert!(
            start.elapsed() < Duration::from_secs(150),
            "{}",
            net.node1.command("ipvsadm", "-Lnc")
        );
        std::thread::park_timeout(Duration::from_millis(500));
    }
}

/// Nothing but what netd remembers tells such a server from others': its address is not on netd's
/// link, and its port is no node port.
#[test]
#[ignore = "needs IPVS; run in the virtual machine"]
fn a_service_at_the_nodes_own_address_drains_and_then_leaves_nothing() {
    assert!(root() && engine() == Engine::Ipvs);
    let net = isolated();
    let _server = serve(&net.b, "b", at("10.244.1.6:8080"));
    let mut snapshot = cluster();
    let at_the_node = |service: &mut netmodel::snapshot::Service| {
        web("10.96.0.11")(service);
        service.external_ips = vec![crate::ip("192.168.56.70")];
    };
    let name = add(&mut snapshot, "web", at_the_node, &["10.244.1.6"]);
    let mut netd = Netd::new(&net.node1, "node-1", Engine::Ipvs);
    netd.sync(&net.node1, &snapshot);
    let mut open = connect(&net.client, at("192.168.56.70:80"));
    assert!(answered(&ask(&mut open), &["b"], &[]));
    snapshot.services.remove(&name);
    snapshot.slices.remove(&name);
    netd.sync_some(&net.node1, &snapshot, Some(&name));
    netd.sync(&net.node1, &snapshot);
    assert!(answered(&ask(&mut open), &["b"], &[]), "the open connection lives");
    until_drained(&mut netd, &net, &snapshot, open, "192.168.56.70:80");
}

#[test]
#[ignore = "needs IPVS; run in the virtual machine"]
fn a_service_that_went_drains_and_then_leaves_nothing() {
    assert!(root() && engine() == Engine::Ipvs);
    let net = isolated();
    let _servers = [
        serve(&net.b, "b", at("10.244.1.6:8080")),
        // What must never be reached by the Service's address.
        serve(&net.node1, "node-1", at("0.0.0.0:22")),
    ];
    let mut snapshot = cluster();
    let name = add(&mut snapshot, "web", web("10.96.0.11"), &["10.244.1.6"]);
    let mut netd = Netd::new(&net.node1, "node-1", Engine::Ipvs);
    netd.sync(&net.node1, &snapshot);
    let mut open = connect(&net.a, at("10.96.0.11:80"));
    assert!(answered(&ask(&mut open), &["b"], &[]));
    snapshot.services.remove(&name);
    snapshot.slices.remove(&name);
    netd.sync_some(&net.node1, &snapshot, Some(&name));
    for look in 0..3 {
        netd.audit(&net.node1, &snapshot);
        assert!(answered(&ask(&mut open), &["b"], &[]), "look {look}: the open connection lives");
        assert_eq!(tcp(&net.a, at("10.96.0.11:80")), Outcome::Silence, "look {look}");
        assert_eq!(tcp(&net.a, at("10.96.0.11:22")), Outcome::Silence, "look {look}");
        netd.sync(&net.node1, &snapshot);
    }
    until_drained(&mut netd, &net, &snapshot, open, "10.96.0.11");
    assert!(!net.node1.ip("address show dev mini-ipvs0").contains("10.96.0.11"));
    // Puts the timeout back.
    netd.sync(&net.node1, &snapshot);
    assert_eq!(netd.sync(&net.node1, &snapshot).writes, 0);
}

#[test]
#[ignore = "needs IPVS; run in the virtual machine"]
fn a_scheduler_that_cannot_be_had_is_a_problem_of_one_service() {
    assert!(root() && engine() == Engine::Ipvs);
    let net = isolated();
    let _server = serve(&net.b, "b", at("10.244.1.6:8080"));
    let mut snapshot = cluster();
    let strange = |service: &mut netmodel::snapshot::Service| {
        web("10.96.0.12")(service);
        service.scheduler = Some("fairest".into());
    };
    add(&mut snapshot, "strange", strange, &["10.244.1.6"]);
    add(&mut snapshot, "plain", web("10.96.0.13"), &["10.244.1.6"]);
    snapshot.settings.default_scheduler = "wlc".into();
    let mut netd = Netd::new(&net.node1, "node-1", Engine::Ipvs);
    netd.sync(&net.node1, &snapshot);
    let problems = netd.problems();
    assert!(
        matches!(&problems[..], [p] if matches!(&p.cause, Cause::UnknownScheduler { used, .. } if **used == *"wlc")),
        "{problems:?}"
    );
    for vip in ["10.96.0.12:80", "10.96.0.13:80"] {
        for outcome in both(&net.a, vip) {
            assert!(answered(&outcome, &["b"], &[]), "{vip}: {outcome:?}");
        }
        assert!(net.node1.command("ipvsadm", "-Ln").contains(&format!("TCP  {vip} wlc")));
    }
}
