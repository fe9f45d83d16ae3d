//! Events in, snapshot and dirt out.

use netmodel::address::Family;
use netmodel::snapshot::{Endpoint, EndpointSlice, Node, Service, ServiceName, Settings};

use super::{Change, Event, Inputs};

fn inputs() -> Inputs {
    Inputs::new(Settings {
        node_name: "node-1".into(),
        cluster_cidrs: vec![],
        service_cidrs: vec![],
        bridge: "mini0".into(),
        node_ports: 30000..=32767,
    })
}

fn name(name: &str) -> ServiceName {
    ServiceName::new("default", name)
}

fn service(vip: &str) -> Option<Service> {
    Some(Service { cluster_ips: vec![vip.parse().unwrap()], ..Service::default() })
}

fn slice(owner: &str, addr: &str) -> Option<(ServiceName, EndpointSlice)> {
    let endpoint = Endpoint { addresses: vec![addr.parse().unwrap()], ..Endpoint::default() };
    let slice = EndpointSlice { family: Family::V4, ports: vec![], endpoints: vec![endpoint] };
    Some((name(owner), slice))
}

/// All lists complete, with a Service `web` that has one slice.
fn listed() -> Inputs {
    let mut inputs = inputs();
    for event in [
        Event::Service(Change::Begin),
        Event::Service(Change::Set(name("web"), service("10.96.0.1"))),
        Event::Slice(Change::Begin),
        Event::Slice(Change::Set(name("web-x"), slice("web", "10.244.1.5"))),
        Event::Slice(Change::Listed),
        Event::Node(Change::Begin),
        Event::Node(Change::Listed),
        Event::Service(Change::Listed),
    ] {
        inputs.apply(event);
    }
    inputs.dirty = super::Dirty::default();
    inputs
}

fn dirty(inputs: &Inputs) -> Vec<&str> {
    assert!(!inputs.dirty.all);
    inputs.dirty.services.iter().map(|n| &*n.name).collect()
}

#[test]
fn nothing_is_synced_before_all_three_lists_are_complete() {
    let mut inputs = inputs();
    inputs.apply(Event::Service(Change::Listed));
    inputs.apply(Event::Slice(Change::Listed));
    assert!(!inputs.synced());
    inputs.apply(Event::Node(Change::Listed));
    assert!(inputs.synced());
    assert!(inputs.dirty.all, "the first look compares everything");
}

#[test]
fn a_new_list_that_says_the_same_is_no_change() {
    let mut inputs = listed();
    inputs.apply(Event::Service(Change::Begin));
    inputs.apply(Event::Service(Change::Set(name("web"), service("10.96.0.1"))));
    inputs.apply(Event::Service(Change::Listed));
    inputs.apply(Event::Slice(Change::Set(name("web-x"), slice("web", "10.244.1.5"))));
    assert!(inputs.dirty.is_clean());
    assert!(inputs.synced(), "also while a list is being read anew");
}

#[test]
fn what_a_new_list_leaves_out_is_gone() {
    let mut inputs = listed();
    for event in [
        Event::Service(Change::Begin),
        Event::Service(Change::Set(name("other"), service("10.96.0.2"))),
    ] {
        inputs.apply(event);
    }
    assert!(inputs.snapshot.services.contains_key(&name("web")), "until the list is complete");
    inputs.apply(Event::Service(Change::Listed));
    assert_eq!(inputs.snapshot.services.keys().collect::<Vec<_>>(), [&name("other")]);
    assert_eq!(dirty(&inputs), ["other", "web"]);
}

#[test]
fn a_slice_dirties_its_service_alone() {
    let mut inputs = listed();
    inputs.apply(Event::Slice(Change::Set(name("web-x"), slice("web", "10.244.1.6"))));
    assert_eq!(dirty(&inputs), ["web"]);
}

#[test]
fn a_slice_that_changes_hands_dirties_both_services() {
    let mut inputs = listed();
    inputs.apply(Event::Slice(Change::Set(name("web-x"), slice("other", "10.244.1.5"))));
    assert_eq!(dirty(&inputs), ["other", "web"]);
    assert!(!inputs.snapshot.slices.contains_key(&name("web")));
    assert_eq!(inputs.snapshot.slices[&name("other")].len(), 1);
}

#[test]
fn a_slice_that_goes_or_can_no_longer_be_read_takes_its_endpoints_along() {
    for change in [Change::Gone(name("web-x")), Change::Set(name("web-x"), None)] {
        let mut inputs = listed();
        inputs.apply(Event::Slice(change));
        assert_eq!(dirty(&inputs), ["web"]);
        assert!(inputs.snapshot.slices.is_empty());
    }
}

#[test]
fn a_service_that_becomes_headless_goes() {
    let mut inputs = listed();
    inputs.apply(Event::Service(Change::Set(name("web"), None)));
    assert_eq!(dirty(&inputs), ["web"]);
    assert!(inputs.snapshot.services.is_empty());
}

#[test]
fn a_node_dirties_everything_but_only_when_it_differs() {
    let mut inputs = listed();
    inputs.apply(Event::Node(Change::Set("node-2".into(), Some(Node::default()))));
    assert!(inputs.dirty.all);
    inputs.dirty = super::Dirty::default();
    inputs.apply(Event::Node(Change::Set("node-2".into(), Some(Node::default()))));
    assert!(inputs.dirty.is_clean(), "a heartbeat");
    inputs.apply(Event::Node(Change::Gone("node-2".into())));
    assert!(inputs.dirty.all);
}
