//! Which endpoints serve: readiness, termination, hints, and which node they are on.

use crate::address::Backend;
use crate::cases::world::{add, cluster, ip, leaving, ready, web};
use crate::dataplane::Dataplane;
use crate::service::Pool;
use crate::snapshot::{Endpoint, Snapshot};

fn served(snapshot: &mut Snapshot, endpoints: Vec<Endpoint>) -> Vec<String> {
    add(snapshot, "web", web("10.96.0.1"), endpoints);
    let plane = Dataplane::of(snapshot);
    let pool = &plane.iter().next().unwrap().1.pool;
    pool.backends().iter().map(|b| b.addr.to_string()).collect()
}

fn not_ready(addr: &str) -> Endpoint {
    Endpoint { ready: false, serving: false, ..ready(addr) }
}

#[test]
fn only_ready_endpoints_serve() {
    let all = vec![ready("10.244.1.5"), not_ready("10.244.1.6"), leaving("10.244.1.7")];
    assert_eq!(served(&mut cluster(), all), ["10.244.1.5"]);
}

#[test]
fn without_a_ready_one_those_that_are_leaving_still_serve() {
    let all = vec![not_ready("10.244.1.6"), leaving("10.244.1.7"), leaving("10.244.2.7")];
    assert_eq!(served(&mut cluster(), all), ["10.244.1.7", "10.244.2.7"]);
}

#[test]
fn an_endpoint_that_neither_is_ready_nor_serves_never_does() {
    let mut snapshot = cluster();
    let gone = Endpoint { serving: false, ..leaving("10.244.1.7") };
    assert_eq!(served(&mut snapshot, vec![not_ready("10.244.1.6"), gone]), [""; 0]);
    assert_eq!(Dataplane::of(&snapshot).iter().next().unwrap().1.pool, Pool::Refuse);
}

#[test]
fn an_address_in_two_slices_counts_once() {
    let all = vec![ready("10.244.1.5"), ready("10.244.1.5")];
    assert_eq!(served(&mut cluster(), all), ["10.244.1.5"]);
}

#[test]
fn hints_for_this_node_beat_hints_for_its_zone_which_beat_none() {
    let hinted = |addr: &str, zone: &str, node: &str| Endpoint {
        for_zones: vec![zone.into()],
        for_nodes: vec![node.into()],
        ..ready(addr)
    };
    let by_node = vec![
        hinted("10.244.1.5", "near", "node-1"),
        hinted("10.244.2.5", "near", "node-2"),
        hinted("10.244.3.5", "far", "node-3"),
    ];
    assert_eq!(served(&mut cluster(), by_node), ["10.244.1.5"]);
    let by_zone =
        vec![hinted("10.244.2.5", "near", "node-2"), hinted("10.244.3.5", "far", "node-3")];
    assert_eq!(served(&mut cluster(), by_zone), ["10.244.2.5"]);
    let one_without = vec![hinted("10.244.2.5", "near", "node-2"), ready("10.244.3.5")];
    assert_eq!(served(&mut cluster(), one_without), ["10.244.2.5", "10.244.3.5"]);
    let none_for_us = vec![hinted("10.244.3.5", "far", "node-3")];
    assert_eq!(served(&mut cluster(), none_for_us), ["10.244.3.5"]);
}

#[test]
fn ports_are_matched_by_name_and_protocol() {
    let mut snapshot = cluster();
    let mut service = web("10.96.0.1");
    service.ports[0].name = "http".into();
    let mut other = service.ports[0].clone();
    other.name = "admin".into();
    other.port = 81;
    service.ports.push(other);
    let name = add(&mut snapshot, "web", service, vec![ready("10.244.1.5")]);
    for slice in snapshot.slices.get_mut(&name).unwrap().values_mut() {
        let slice = std::sync::Arc::make_mut(slice);
        slice.ports.iter_mut().filter(|p| &*p.name == "admin").for_each(|p| p.port = 9090);
    }
    let plane = Dataplane::of(&snapshot);
    let backends: Vec<(u16, Backend)> =
        plane.iter().map(|(f, s)| (f.port, s.pool.backends()[0])).collect();
    let backend = |port| Backend { addr: ip("10.244.1.5"), port };
    assert_eq!(backends, [(80, backend(8080)), (81, backend(9090))]);
}

#[test]
fn a_service_of_one_family_has_node_ports_of_that_family_only() {
    let mut snapshot = cluster();
    add(
        &mut snapshot,
        "web",
        crate::cases::world::node_ported("10.96.0.1", 30001),
        vec![ready("10.244.1.5")],
    );
    let frontends: Vec<String> =
        Dataplane::of(&snapshot).iter().map(|(f, _)| f.to_string()).collect();
    assert_eq!(frontends, ["10.96.0.1 . tcp . 80", "192.168.56.70 . tcp . 30001"]);
}
