//! Who offers which address, situation by situation.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use netmodel::address::Family;
use netmodel::snapshot::{
    ByNode, Endpoint, EndpointSlice, Node, Service, ServiceName, Settings, Snapshot,
};

use super::{Declined, Fitness, Wanted, wanted};

const VIP: &str = "192.168.56.200";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn name(name: &str) -> ServiceName {
    ServiceName::new("default", name)
}

/// A cluster of three nodes, seen from node-1.
fn cluster() -> Snapshot {
    let mut snapshot = Snapshot::new(Settings {
        node_name: "node-1".into(),
        cluster_cidrs: Vec::new(),
        service_cidrs: Vec::new(),
        bridge: "mini0".into(),
        node_ports: 30000..=32767,
        default_scheduler: "rr".into(),
    });
    for number in 1..=3_u8 {
        let addresses = vec![IpAddr::from([192, 168, 56, 69 + number])];
        let node = Node { addresses, ..Node::default() };
        snapshot.nodes.insert(format!("node-{number}").into(), Arc::new(node));
    }
    snapshot
}

fn add(snapshot: &mut Snapshot, service: &str, local: bool, endpoints: Vec<Endpoint>) {
    let object =
        Service { load_balancer_ips: vec![ip(VIP)], external_local: local, ..Service::default() };
    snapshot.services.insert(name(service), Arc::new(object));
    let slice = EndpointSlice { family: Family::V4, ports: Vec::new(), endpoints };
    let slices = [(Arc::from("slice"), Arc::new(slice))].into();
    snapshot.slices.insert(name(service), slices);
}

fn ready_on(node: &str) -> Endpoint {
    Endpoint { node: Some(node.into()), ready: true, serving: true, ..Endpoint::default() }
}

fn going_on(node: &str) -> Endpoint {
    let node = Some(node.into());
    Endpoint { node, serving: true, terminating: true, ..Endpoint::default() }
}

fn fit() -> Fitness {
    Fitness::default()
}

#[track_caller]
fn judged(snapshot: &Snapshot, node: &Fitness) -> Option<Declined> {
    let mut all = wanted(snapshot, node);
    let Wanted { declined, .. } = all.remove(&ip(VIP)).expect("the address is wanted");
    declined
}

#[test]
fn under_policy_cluster_any_node_offers_even_without_endpoints() {
    let mut snapshot = cluster();
    add(&mut snapshot, "web", false, vec![]);
    assert_eq!(judged(&snapshot, &fit()), None);
}

#[test]
fn under_policy_local_a_node_offers_what_it_has_endpoints_of() {
    let missing = Some(Declined::NoLocalEndpoint(name("web")));
    for (endpoints, wanted) in [
        (vec![ready_on("node-1"), ready_on("node-2")], None),
        (vec![ready_on("node-2")], missing.clone()),
        (vec![], missing.clone()),
        // A rolling update: others are ready while ours goes.
        (vec![going_on("node-1"), ready_on("node-2")], missing.clone()),
        // All are going: they serve on until they are gone.
        (vec![going_on("node-1"), going_on("node-2")], None),
        (vec![going_on("node-2")], missing.clone()),
        (vec![Endpoint { ready: false, serving: false, ..ready_on("node-1") }], missing),
    ] {
        let mut snapshot = cluster();
        add(&mut snapshot, "web", true, endpoints.clone());
        assert_eq!(judged(&snapshot, &fit()), wanted, "{endpoints:?}");
    }
}

#[test]
fn endpoints_of_the_other_family_do_not_count() {
    let mut snapshot = cluster();
    add(&mut snapshot, "web", true, vec![ready_on("node-1")]);
    let six = EndpointSlice {
        family: Family::V6,
        ports: Vec::new(),
        endpoints: vec![ready_on("node-1")],
    };
    snapshot.slices.insert(name("web"), [(Arc::from("six"), Arc::new(six))].into());
    assert_eq!(judged(&snapshot, &fit()), Some(Declined::NoLocalEndpoint(name("web"))));
}

#[test]
fn services_that_share_an_address_need_a_node_that_can_serve_all_that_can_be_served() {
    let mut snapshot = cluster();
    add(&mut snapshot, "cluster", false, vec![]);
    add(&mut snapshot, "local", true, vec![ready_on("node-2")]);
    assert_eq!(judged(&snapshot, &fit()), Some(Declined::NoLocalEndpoint(name("local"))));
    add(&mut snapshot, "local", true, vec![]);
    assert_eq!(judged(&snapshot, &fit()), None, "nobody could serve it");
    let all = wanted(&snapshot, &fit());
    assert_eq!(all[&ip(VIP)].services, BTreeSet::from([name("cluster"), name("local")]));
}

#[test]
fn a_node_that_should_not_serve_offers_nothing() {
    let mut snapshot = cluster();
    add(&mut snapshot, "web", false, vec![ready_on("node-1")]);
    for (node, declined) in [
        (Fitness { excluded: true, ..fit() }, Declined::Excluded),
        (Fitness { leaving: true, ..fit() }, Declined::Leaving),
    ] {
        assert_eq!(judged(&snapshot, &node), Some(declined));
    }
}

#[test]
fn what_a_process_of_the_node_answers_is_offered_once_it_listens() {
    let mut snapshot = cluster();
    let ingress = name("minictl-ingress");
    let object = Service {
        load_balancer_ips: vec![ip(VIP)],
        by_node: Some(ByNode { untracked: false }),
        ..Service::default()
    };
    snapshot.services.insert(ingress.clone(), Arc::new(object));
    let offered = |node: &Fitness| judged(&snapshot, node);
    assert_eq!(offered(&fit()), None);
    let silent = Fitness { unanswered: BTreeSet::from([ingress.clone()]), ..fit() };
    assert_eq!(offered(&silent), Some(Declined::NotListening(ingress.clone())));
}

#[test]
fn addresses_of_nodes_are_nobodys_to_announce() {
    let mut snapshot = cluster();
    let object = Service { load_balancer_ips: vec![ip("192.168.56.71")], ..Service::default() };
    snapshot.services.insert(name("web"), Arc::new(object));
    let all = wanted(&snapshot, &fit());
    assert_eq!(all[&ip("192.168.56.71")].declined, Some(Declined::NodeAddress));
}

#[test]
fn what_another_load_balancer_gave_is_its_to_announce() {
    let mut snapshot = cluster();
    add(&mut snapshot, "theirs", false, vec![ready_on("node-1")]);
    let node = Fitness { others: BTreeSet::from([name("theirs")]), ..fit() };
    assert_eq!(judged(&snapshot, &node), Some(Declined::OtherBalancer));
    // An address that was given here, too, is announced here.
    add(&mut snapshot, "ours", false, vec![ready_on("node-1")]);
    assert_eq!(judged(&snapshot, &node), None);
}

#[test]
fn what_the_kernel_does_not_serve_is_not_offered() {
    let mut snapshot = cluster();
    add(&mut snapshot, "web", false, vec![ready_on("node-1")]);
    let node = Fitness { unserved: [ip(VIP)].into(), ..fit() };
    assert_eq!(judged(&snapshot, &node), Some(Declined::NotProgrammed));
    let leaving = Fitness { leaving: true, ..node };
    assert_eq!(judged(&snapshot, &leaving), Some(Declined::Leaving), "the greater reason");
    let other = Fitness { unserved: [ip("192.168.56.201")].into(), ..fit() };
    assert_eq!(judged(&snapshot, &other), None);
}
