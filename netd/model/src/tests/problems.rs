//! What can't be honoured, in the words that its author reads.

use std::collections::BTreeSet;

use crate::address::Protocol;
use crate::cases::world::{add, cluster, ip, node_ported, ready, web};
use crate::dataplane::Dataplane;
use crate::problem::Severity;
use crate::repair::{Object, Repair, summary};
use crate::snapshot::Snapshot;

fn told(snapshot: &Snapshot) -> Vec<String> {
    Dataplane::of(snapshot).problems().iter().map(ToString::to_string).collect()
}

#[test]
fn a_balancer_may_have_the_nodes_own_addresses() {
    let mut snapshot = cluster();
    let mut service = web("10.96.0.70");
    service.load_balancer_ips = ["192.168.56.70", "192.168.56.71"].map(ip).to_vec();
    add(&mut snapshot, "web", service, vec![ready("10.244.1.6")]);
    assert!(told(&snapshot).is_empty(), "{:?}", told(&snapshot));
}

#[test]
fn addresses_that_belong_to_others() {
    let mut snapshot = cluster();
    let mut greedy = web("10.96.0.70");
    greedy.external_ips =
        ["10.244.2.5", "10.99.0.1", "127.0.0.1", "192.168.56.71"].map(ip).to_vec();
    greedy.load_balancer_ips = vec![ip("224.0.0.1")];
    add(&mut snapshot, "greedy", greedy, vec![ready("10.244.1.6")]);
    assert_eq!(
        told(&snapshot),
        [
            "default/greedy: 192.168.56.71 is an address of node node-2: the Service's ports hide \
             that node's own",
            "default/greedy: 10.99.0.1 is in 10.96.0.0/12, the addresses that the cluster gives to \
             Services, and is not served",
            "default/greedy: 10.244.2.5 is in 10.244.0.0/16, the addresses of pods, and is not \
             served",
            "default/greedy: 127.0.0.1 is a loopback address and is not served",
            "default/greedy: 224.0.0.1 is a multicast address and is not served",
        ]
    );
    let severities: Vec<Severity> =
        Dataplane::of(&snapshot).problems().iter().map(|p| p.cause.severity()).collect();
    assert_eq!(severities[0], Severity::Notice, "it is served all the same");
    assert!(severities[1..].iter().all(|s| *s == Severity::Refused), "{severities:?}");
}

#[test]
fn endpoints_that_are_no_place_for_packets() {
    let mut snapshot = cluster();
    add(&mut snapshot, "kubernetes", web("10.96.0.1"), vec![ready("192.168.56.71")]);
    let bad = ["127.0.0.1", "169.254.1.1", "0.0.0.0", "10.96.0.1", "192.168.56.71", "::1"];
    let mut service = web("10.96.0.72");
    service.cluster_ips.push(ip("fd96::72"));
    add(&mut snapshot, "some", service, bad.map(ready).to_vec());
    assert_eq!(
        told(&snapshot),
        [
            "default/some: endpoint 0.0.0.0 is the unspecified address and gets no connections",
            "default/some: endpoint 10.96.0.1 is the cluster address of a Service and gets no \
             connections",
            "default/some: endpoint 127.0.0.1 is a loopback address and gets no connections",
            "default/some: endpoint 169.254.1.1 is a link-local address and gets no connections",
            "default/some: endpoint 192.168.56.71 is an API server of this cluster and gets no \
             connections",
            "default/some: endpoint ::1 is a loopback address and gets no connections",
        ]
    );
}

#[test]
fn where_the_api_servers_are_matters_to_services_that_did_not_change() {
    let mut snapshot = cluster();
    add(&mut snapshot, "some", web("10.96.0.72"), vec![ready("192.168.56.71")]);
    let mut plane = Dataplane::of(&snapshot);
    assert_eq!(plane.problems(), []);
    let api = add(&mut snapshot, "kubernetes", web("10.96.0.1"), vec![ready("192.168.56.71")]);
    plane.refresh(&snapshot, [&api]);
    assert_eq!(plane, Dataplane::of(&snapshot));
    assert_eq!(plane.problems().len(), 1);
}

#[test]
fn a_node_port_beats_an_external_address_whoever_comes_first_by_name() {
    let mut snapshot = cluster();
    let mut greedy = web("10.96.0.70");
    greedy.external_ips = vec![ip("192.168.56.70")];
    greedy.ports[0].port = 30071;
    add(&mut snapshot, "a", greedy, vec![ready("10.244.1.6")]);
    add(&mut snapshot, "b", node_ported("10.96.0.71", 30071), vec![ready("10.244.2.5")]);
    let taken: Vec<String> =
        told(&snapshot).into_iter().filter(|t| t.contains("belongs")).collect();
    assert_eq!(taken, ["default/a: 192.168.56.70 port 30071/tcp belongs to Service default/b"]);
}

#[test]
fn schedulers_and_protocols_that_are_not_there() {
    let mut snapshot = cluster();
    let mut strange = web("10.96.0.73");
    strange.scheduler = Some("fairest".into());
    strange.ports[0].protocol = Protocol::Sctp;
    add(&mut snapshot, "strange", strange, vec![ready("10.244.1.6")]);
    let plane = Dataplane::lacking(BTreeSet::from([Protocol::Sctp])).anew(&snapshot);
    let words: Vec<String> = plane.problems().iter().map(ToString::to_string).collect();
    assert_eq!(
        words,
        [
            "default/strange: IPVS has no scheduler \"fairest\"; rr is used",
            "default/strange: this kernel does not track SCTP connections; its ports are not \
             served",
        ]
    );
    assert_eq!(plane.iter().count(), 0);
}

#[test]
fn many_repairs_of_one_sort_are_counted() {
    let element = |n: usize| Repair::new(Object::Element, format!("{n}"));
    let short = summary((0..20).map(element).chain([Repair::new(Object::Route, "r")]).collect());
    assert_eq!(short.len(), 18);
    assert_eq!(short.iter().map(|r| r.count).sum::<usize>(), 21);
    assert_eq!(short[17].to_string(), "element and 4 more");
}
