//! Events in, snapshot and dirt out.

use jiff::Timestamp;
use netmodel::address::Family;
use netmodel::snapshot::{Endpoint, EndpointSlice, Node, Service, ServiceName, Settings};

use super::{Change, Event, Facts, Inputs, OwnNode, OwnedSlice};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn inputs() -> Inputs {
    let settings = Settings {
        node_name: "node-1".into(),
        cluster_cidrs: vec![],
        service_cidrs: vec!["10.96.0.0/12".parse().unwrap()],
        bridge: "mini0".into(),
        node_ports: 30000..=32767,
        default_scheduler: "rr".into(),
    };
    Inputs::new(settings, at(100))
}

fn name(name: &str) -> ServiceName {
    ServiceName::new("default", name)
}

fn service(vip: &str) -> (Option<Service>, Facts) {
    let service = Service { cluster_ips: vec![vip.parse().unwrap()], ..Service::default() };
    (Some(service), Facts::default())
}

fn slice(owner: &str, addr: &str) -> OwnedSlice {
    let endpoint = Endpoint { addresses: vec![addr.parse().unwrap()], ..Endpoint::default() };
    let slice = EndpointSlice { family: Family::V4, ports: vec![], endpoints: vec![endpoint] };
    OwnedSlice { owner: name(owner), slice: slice.into(), triggered: None }
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
        Event::Ranges(Change::Listed),
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
fn nothing_is_synced_before_all_lists_are_complete() {
    let mut inputs = inputs();
    inputs.apply(Event::Service(Change::Listed));
    inputs.apply(Event::Slice(Change::Listed));
    assert!(!inputs.synced());
    inputs.apply(Event::Node(Change::Listed));
    assert!(!inputs.synced());
    inputs.apply(Event::Ranges(Change::Listed));
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
    let mut inputs = listed();
    inputs.apply(Event::Slice(Change::Gone(name("web-x"))));
    assert_eq!(dirty(&inputs), ["web"]);
    assert!(inputs.snapshot.slices.is_empty());
}

#[test]
fn a_service_that_becomes_headless_goes() {
    let mut inputs = listed();
    inputs.apply(Event::Service(Change::Set(name("web"), (None, Facts::default()))));
    assert_eq!(dirty(&inputs), ["web"]);
    assert!(inputs.snapshot.services.is_empty());
}

#[test]
fn a_node_dirties_everything_but_only_when_it_differs() {
    let mut inputs = listed();
    let other = || ServiceName::new("", "node-2");
    inputs.apply(Event::Node(Change::Set(other(), (Node::default(), None))));
    assert!(inputs.dirty.all);
    inputs.dirty = super::Dirty::default();
    inputs.apply(Event::Node(Change::Set(other(), (Node::default(), None))));
    assert!(inputs.dirty.is_clean(), "a heartbeat");
    inputs.apply(Event::Node(Change::Gone(other())));
    assert!(inputs.dirty.all);
    assert!(!inputs.news.own_node, "it is another's");
}

#[test]
fn only_the_silence_of_nodes_is_news_and_it_counts_for_one_that_comes_later() {
    let mut inputs = listed();
    let silent = |inputs: &mut Inputs, names: &[&str]| {
        inputs.set_silent(names.iter().map(|name| (*name).into()).collect());
        std::mem::take(&mut inputs.dirty.silence)
    };
    let other = || ServiceName::new("", "node-2");
    inputs.apply(Event::Node(Change::Set(other(), (Node::default(), None))));
    assert!(!silent(&mut inputs, &["invented"]));
    assert!(silent(&mut inputs, &["invented", "node-2"]));
    assert!(!silent(&mut inputs, &["another", "node-2", "node-3"]));
    assert!(silent(&mut inputs, &["another", "node-3"]), "it speaks");
    inputs.dirty = super::Dirty::default();
    inputs.apply(Event::Node(Change::Set(ServiceName::new("", "node-3"), (Node::default(), None))));
    assert!(inputs.dirty.all && inputs.snapshot.silent.contains("node-3"));
}

#[test]
fn what_the_own_node_says_is_news_but_changes_nothing_in_the_kernel() {
    let mut inputs = listed();
    let own = |wanted: Option<&str>| {
        let own = OwnNode { wanted: wanted.map(str::to_owned), ..OwnNode::default() };
        let object = (Node::default(), Some(Box::new(own)));
        Event::Node(Change::Set(ServiceName::new("", "node-1"), object))
    };
    assert!(!inputs.is_leaving(), "it is not registered yet");
    inputs.apply(own(None));
    assert!(!inputs.is_leaving());
    inputs.dirty = super::Dirty::default();
    inputs.news = super::News::default();
    inputs.apply(own(None));
    assert!(!inputs.news.own_node);
    inputs.apply(own(Some("nftables")));
    assert!(inputs.news.own_node && inputs.dirty.is_clean());
    assert_eq!(inputs.own_node.as_ref().unwrap().wanted.as_deref(), Some("nftables"));
    inputs.apply(Event::Node(Change::Gone(ServiceName::new("", "node-1"))));
    assert_eq!(inputs.own_node, None);
    assert!(inputs.is_leaving());
}

#[test]
fn a_services_facts_are_news_but_change_nothing_in_the_kernel() {
    let mut inputs = listed();
    inputs.news = super::News::default();
    let told = Facts { resource_version: "8".into(), ..Facts::default() };
    inputs.apply(Event::Service(Change::Set(name("web"), (service("10.96.0.1").0, told.clone()))));
    assert!(inputs.dirty.is_clean());
    assert_eq!(inputs.news.services.iter().collect::<Vec<_>>(), [&name("web")]);
    assert_eq!(inputs.facts[&name("web")], told);
    let told = Facts { balanced_by_others: true, ..told };
    inputs.apply(Event::Service(Change::Set(name("web"), (service("10.96.0.1").0, told))));
    assert_eq!(inputs.balanced_by_others.iter().collect::<Vec<_>>(), [&name("web")]);
    inputs.apply(Event::Service(Change::Gone(name("web"))));
    assert!(inputs.facts.is_empty() && inputs.balanced_by_others.is_empty());
}

#[test]
fn only_changes_since_the_start_say_how_fast_netd_is() {
    let mut inputs = listed();
    for (addr, second) in [("10.244.1.6", 99), ("10.244.1.7", 100), ("10.244.1.8", 101)] {
        let slice = OwnedSlice { triggered: Some(at(second)), ..slice("web", addr) };
        inputs.apply(Event::Slice(Change::Set(name("web-x"), slice.clone())));
        inputs.apply(Event::Slice(Change::Set(name("web-x"), slice)));
    }
    assert_eq!(inputs.dirty.triggered, [at(100), at(101)]);
}

#[test]
fn the_ranges_of_the_server_are_followed_and_the_flags_count_where_it_has_none() {
    let ranges = |inputs: &Inputs| -> Vec<String> {
        inputs.snapshot.settings.service_cidrs.iter().map(ToString::to_string).collect()
    };
    let set = |name: &str, range: &str| {
        Event::Ranges(Change::Set(ServiceName::new("", name), vec![range.parse().unwrap()]))
    };
    let mut inputs = inputs();
    inputs.apply(Event::Ranges(Change::Begin));
    inputs.apply(set("kubernetes", "172.30.0.0/16"));
    assert_eq!(ranges(&inputs), ["10.96.0.0/12"], "half a list says nothing");
    inputs.apply(Event::Ranges(Change::Listed));
    assert_eq!(ranges(&inputs), ["172.30.0.0/16"]);
    inputs.dirty = super::Dirty::default();
    inputs.apply(set("more", "10.112.0.0/16"));
    assert_eq!(ranges(&inputs), ["10.112.0.0/16", "172.30.0.0/16"]);
    assert!(inputs.dirty.all, "the table's ranges change");
    for name in ["more", "kubernetes"] {
        inputs.apply(Event::Ranges(Change::Gone(ServiceName::new("", name))));
    }
    assert_eq!(ranges(&inputs), ["10.96.0.0/12"]);
}
