//! Slots, and the ways of packets over several nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::spread::{Weights, slots, without};
use super::{
    Arrival, Elements, Key, Layout, NodeId, SLOTS, State, Way, apply, desired, desired_of_touched,
};
use crate::address::Protocol;
use crate::cases::at::{CLIENT, FAR_POD, OTHER_NODE};
use crate::cases::world::{add, cluster, ip, packet, place, ready, translated, web};
use crate::dataplane::Dataplane;
use crate::handover::{diff, walk};
use crate::nft::{self, Engine};
use crate::packet::From::Network;
use crate::packet::{Outcome, Packet};
use crate::snapshot::{Endpoint, Node, Service, ServicePort, Snapshot};
use crate::{handover, ipvs};

const VIP: &str = "203.0.113.9";

/// A packet that nothing is known of.
const NEW: Arrival = Arrival { remembered: None, begins: true, marked: false };

fn weights(list: &[(&str, u32)]) -> Weights {
    list.iter().map(|(name, weight)| (Arc::from(*name), *weight)).collect()
}

/// How many slots each node has.
fn counts(slots: &[NodeId]) -> BTreeMap<NodeId, u32> {
    let mut counts = BTreeMap::new();
    slots.iter().for_each(|node| *counts.entry(*node).or_default() += 1);
    counts
}

#[test]
fn each_node_gets_its_share_of_the_slots() {
    let of = |list: &[(&str, u32)], name: &str| {
        counts(&slots(&weights(list))).get(&NodeId::of(name)).copied().unwrap_or_default()
    };
    assert_eq!(of(&[("a", 1)], "a"), SLOTS);
    assert_eq!((of(&[("a", 1), ("b", 1)], "a"), of(&[("a", 1), ("b", 1)], "b")), (32, 32));
    let uneven = [("a", 2), ("b", 1), ("c", 1)];
    assert_eq!(["a", "b", "c"].map(|name| of(&uneven, name)), [32, 16, 16]);
    // However few its endpoints are among many, a node has a slot.
    let lonely = [("a", 1000), ("b", 1)];
    assert_eq!(["a", "b"].map(|name| of(&lonely, name)), [63, 1]);
}

#[test]
fn without_endpoints_or_with_too_many_nodes_nothing_is_spread() {
    assert!(slots(&Weights::new()).is_empty());
    let many: Vec<String> = (0..=SLOTS).map(|n| format!("node-{n}")).collect();
    let many: Weights = many.iter().map(|name| (Arc::from(&**name), 1)).collect();
    assert!(slots(&many).is_empty());
}

fn some_weights() -> impl Strategy<Value = Weights> {
    prop::collection::btree_map(
        (0..40_u32).prop_map(|n| Arc::from(format!("node-{n}"))),
        1..20_u32,
        1..12,
    )
}

proptest! {
    /// Shares are fair to less than one slot, but for those that were lifted to one.
    #[test]
    fn shares_are_fair(weights in some_weights()) {
        let counts = counts(&slots(&weights));
        prop_assert_eq!(counts.values().sum::<u32>(), SLOTS);
        let total: u32 = weights.values().sum();
        for (name, weight) in &weights {
            let exact = f64::from(SLOTS * weight) / f64::from(total);
            let got = f64::from(counts[&NodeId::of(name)]);
            prop_assert!(got >= 1.0);
            let lifted = weights.len() as f64;
            prop_assert!((got - exact).abs() < 1.0 + lifted, "{name}: {got} of {exact}");
        }
    }

    /// When a node goes, few slots of the others move: its own must, and not many more do.
    #[test]
    fn few_slots_move_when_a_node_goes(weights in some_weights()) {
        prop_assume!(weights.len() > 1);
        let before = slots(&weights);
        let mut fewer = weights.clone();
        let (gone, _) = fewer.pop_first().expect("there are some");
        let after = slots(&fewer);
        let must = before.iter().filter(|node| **node == NodeId::of(&gone)).count();
        let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        prop_assert!(moved >= must);
        prop_assert!(moved <= 2 * must + weights.len(), "{moved} moved, {must} had to");
    }
}

/// Some nodes of a table are silent.
fn some_silence() -> impl Strategy<Value = (Box<[NodeId]>, BTreeSet<NodeId>)> {
    some_weights().prop_flat_map(|weights| {
        let nodes: Vec<NodeId> = weights.keys().map(|name| NodeId::of(name)).collect();
        let count = nodes.len();
        let silent = prop::sample::subsequence(nodes, 0..=count);
        (Just(slots(&weights)), silent.prop_map(|list| list.into_iter().collect()))
    })
}

proptest! {
    /// Nobody new goes to a node that is silent, and no slot of another changes hands.
    #[test]
    fn just_the_slots_of_silent_nodes_move((slots, silent) in some_silence()) {
        let meanwhile = without(&slots, &silent);
        prop_assert_eq!(meanwhile.len(), slots.len());
        if slots.iter().all(|node| silent.contains(node)) {
            prop_assert_eq!(&meanwhile, &slots, "nobody is better");
            return Ok(());
        }
        for (before, now) in slots.iter().zip(&meanwhile) {
            prop_assert!(!silent.contains(now));
            prop_assert!(silent.contains(before) || before == now);
        }
        let (before, now) = (counts(&slots), counts(&meanwhile));
        let heard: u32 = before.iter().filter(|(node, _)| !silent.contains(node)).map(|(_, n)| n).sum();
        for (node, count) in now {
            let exact = f64::from(SLOTS * before[&node]) / f64::from(heard);
            let off = (f64::from(count) - exact).abs();
            prop_assert!(off < 1.0 + before.len() as f64, "{node}: {count} of {exact}");
        }
    }
}

fn balanced() -> Service {
    Service { load_balancer_ips: vec![ip(VIP)], ..web("10.96.0.90") }
}

/// A cluster whose balancer has these endpoints, as a node sees it.
fn seen_by(node: &str, service: Service, endpoints: Vec<Endpoint>) -> Snapshot {
    let mut snapshot = cluster();
    add(&mut snapshot, "web", service, endpoints);
    snapshot.settings.node_name = node.into();
    snapshot
}

fn state(snapshot: &Snapshot) -> Option<State> {
    let on_link = ["192.168.56.0/24", "fd56::/64"].map(|net| net.parse().unwrap());
    desired(Layout::of(snapshot, "eth0", &on_link), &Dataplane::of(snapshot))
}

fn three() -> Vec<Endpoint> {
    ["10.244.1.6", "10.244.2.5", "10.244.3.5"].map(ready).to_vec()
}

const NODES: [(&str, &str, &str); 3] = [
    ("node-1", "192.168.56.70", "10.244.1.6:8080"),
    ("node-2", "192.168.56.71", "10.244.2.5:8080"),
    ("node-3", "192.168.56.72", "10.244.3.5:8080"),
];

/// Where a client's packet goes in, node by node: the nodes that passed it on, and what became of
/// it at the last, on both engines.
fn journey(first: &str, packet: Packet, endpoints: &[Endpoint]) -> (Vec<String>, [Outcome; 2]) {
    let mut at = first.to_owned();
    let mut nodes = vec![at.clone()];
    loop {
        let snapshot = seen_by(&at, balanced(), endpoints.to_vec());
        let state = state(&snapshot).expect("there is a balancer");
        let marked = nodes.len() > 1;
        if let Way::To(next) = walk(&state, &packet, Arrival { marked, ..NEW }) {
            let (name, ..) = NODES.iter().find(|(_, addr, _)| ip(addr) == next).expect("a node");
            at = (*name).to_owned();
            nodes.push(at.clone());
            assert!(nodes.len() < 5, "handed over again and again: {nodes:?}");
            continue;
        }
        let plane = Dataplane::of(&snapshot);
        let layout = |engine| nft::Layout::of(&snapshot, engine);
        let table = nft::State::desired(&layout(Engine::Nftables), &plane, &BTreeSet::new());
        let servers = ipvs::State::desired(&layout(Engine::Ipvs), &plane);
        let outcomes = [
            nft::walk::walk(&table, &place(&snapshot), packet).outcome,
            ipvs::walk(&servers, &place(&snapshot), packet).outcome,
        ];
        return (nodes, outcomes);
    }
}

#[test]
fn whichever_node_it_comes_to_a_client_s_packet_ends_at_the_same_pod_after_one_hand_over() {
    let mut ends = BTreeSet::new();
    for random in 0..SLOTS {
        let packet = packet(Network, CLIENT, "203.0.113.9:80", random);
        let all = NODES.map(|(first, ..)| journey(first, packet, &three()));
        let last = |(nodes, _): &(Vec<String>, _)| nodes.last().cloned();
        let (name, _, pod) = NODES
            .into_iter()
            .find(|(name, ..)| Some((*name).to_owned()) == last(&all[0]))
            .expect("one of the nodes");
        for (journey, (first, ..)) in all.iter().zip(NODES) {
            assert_eq!(journey.1, [translated(pod), translated(pod)], "its own pod, unmasqueraded");
            let hops = if first == name { vec![name] } else { vec![first, name] };
            assert_eq!(journey.0, hops);
        }
        ends.insert(name);
    }
    assert_eq!(ends.len(), 3, "each node serves somebody");
}

#[test]
fn who_is_inside_and_who_was_handed_over_is_served_where_it_is() {
    let snapshot = seen_by("node-1", balanced(), vec![ready("10.244.2.5")]);
    let state = state(&snapshot).unwrap();
    let to = |source: &str| packet(Network, source, "203.0.113.9:80", 0);
    assert_eq!(walk(&state, &to(CLIENT), NEW), Way::To(ip("192.168.56.71")));
    assert_eq!(
        walk(&state, &to(CLIENT), Arrival { marked: true, ..NEW }),
        Way::Here,
        "handed over"
    );
    assert_eq!(walk(&state, &to(FAR_POD), NEW), Way::Here, "a pod");
    assert_eq!(walk(&state, &to(OTHER_NODE), NEW), Way::Here, "a node");
    let other_port = packet(Network, CLIENT, "203.0.113.9:81", 0);
    assert_eq!(walk(&state, &other_port, NEW), Way::Here);
}

#[test]
fn what_was_chosen_before_wins_until_that_node_is_gone() {
    let mut snapshot = seen_by("node-1", balanced(), vec![ready("10.244.2.5")]);
    let before = Some(NodeId::of("node-3"));
    let packet = packet(Network, CLIENT, "203.0.113.9:80", 0);
    let way = |snapshot: &Snapshot, remembered| {
        walk(&state(snapshot).unwrap(), &packet, Arrival { remembered, begins: false, ..NEW })
    };
    assert_eq!(way(&snapshot, before), Way::To(ip("192.168.56.72")));
    assert_eq!(way(&snapshot, Some(NodeId::of("node-1"))), Way::Here);
    snapshot.nodes.remove("node-3");
    assert_eq!(way(&snapshot, before), Way::Here);
}

/// The table of a node while others are silent.
fn while_silent(node: &str, silent: &[&str], endpoints: Vec<Endpoint>) -> State {
    let mut snapshot = seen_by(node, balanced(), endpoints);
    snapshot.silent = silent.iter().map(|name| Arc::from(*name)).collect();
    state(&snapshot).unwrap()
}

#[test]
fn a_silent_node_gets_no_new_client_from_any_other_and_those_it_has_stay() {
    let tables = ["node-1", "node-3"].map(|node| while_silent(node, &["node-2"], three()));
    let slots = |state: &State| -> Elements {
        let is_slot = |key: &Key| matches!(key, Key::Slot(..) | Key::StandIn(..));
        let all = state.elements.0.iter().map(|(key, value)| (*key, *value));
        Elements(all.filter(|(key, _)| is_slot(key)).collect())
    };
    assert_eq!(slots(&tables[0]), slots(&tables[1]), "whoever hears the same computes the same");
    let all_heard = while_silent("node-1", &[], three());
    let lost = Some(NodeId::of("node-2"));
    for random in 0..SLOTS {
        let packet = packet(Network, CLIENT, "203.0.113.9:80", random);
        let way = |arrival| walk(&tables[0], &packet, arrival);
        let node_2 = Way::To(ip("192.168.56.71"));
        assert_ne!(way(NEW), node_2);
        let goes_on = Arrival { begins: false, ..NEW };
        assert_eq!(way(goes_on), walk(&all_heard, &packet, NEW), "where another node sent it");
        assert_eq!(way(Arrival { remembered: lost, ..goes_on }), node_2, "it may come back");
        let again = Arrival { remembered: lost, ..NEW };
        assert_eq!(way(again), way(NEW), "nobody answered, so another shall");
        let other = Arrival { remembered: Some(NodeId::of("node-3")), ..again };
        assert_eq!(way(other), Way::To(ip("192.168.56.72")), "a packet that was sent twice");
    }
}

#[test]
fn what_has_no_beginning_leaves_a_silent_node_with_its_next_packet() {
    for protocol in [Protocol::Udp, Protocol::Sctp] {
        let on = |service: Service| {
            let ports = service.ports.into_iter().map(|port| ServicePort { protocol, ..port });
            Service { ports: ports.collect(), ..service }
        };
        let table = |silent: &[&str]| {
            let mut snapshot = seen_by("node-1", on(balanced()), three());
            snapshot.silent = silent.iter().map(|name| Arc::from(*name)).collect();
            state(&snapshot).unwrap()
        };
        let (all_heard, meanwhile) = (table(&[]), table(&["node-2"]));
        let goes_on = |node: Option<&str>| Arrival {
            remembered: node.map(NodeId::of),
            begins: false,
            marked: false,
        };
        for random in 0..SLOTS {
            let mut packet = packet(Network, CLIENT, "203.0.113.9:80", random);
            packet.to.protocol = protocol;
            let node_2 = Way::To(ip("192.168.56.71"));
            assert_eq!(walk(&all_heard, &packet, goes_on(Some("node-2"))), node_2, "{protocol}");
            let left = walk(&meanwhile, &packet, goes_on(Some("node-2")));
            assert_ne!(left, node_2, "{protocol}");
            assert_eq!(left, walk(&meanwhile, &packet, goes_on(None)), "{protocol}: as if new");
            let other = walk(&meanwhile, &packet, goes_on(Some("node-3")));
            assert_eq!(other, Way::To(ip("192.168.56.72")), "{protocol}: nobody else moves");
        }
    }
}

#[test]
fn silence_is_told_and_counts_for_other_nodes_of_the_cluster_alone() {
    let names: BTreeMap<NodeId, Arc<str>> =
        ["node-1", "node-2", "node-3"].map(|name| (NodeId::of(name), name.into())).into();
    let line = |silent: &[&str], endpoints| {
        let state = while_silent("node-1", silent, endpoints);
        let frontend = packet(Network, CLIENT, "203.0.113.9:80", 0).to;
        super::inspect::line(&state.elements, frontend, &names).unwrap()
    };
    let all = "handed over by connection, of 64 slots: node-1 22, node-2 21, node-3 21";
    assert_eq!(line(&[], three()), all);
    assert_eq!(line(&["node-1", "gone"], three()), all, "this node, and one that is none");
    assert_eq!(
        line(&["node-2"], three()),
        "handed over by connection, of 64 slots: node-1 33, node-3 31; not heard: node-2"
    );
    assert_eq!(
        line(&["node-2"], vec![ready("10.244.2.5")]),
        "handed over by connection, of 64 slots: node-2 64; not heard: node-2",
        "nobody else has a pod"
    );
}

#[test]
fn a_node_behind_a_router_is_served_for_by_the_node_that_packets_come_to() {
    let mut snapshot = seen_by("node-1", balanced(), vec![ready("10.244.2.5")]);
    let far = Node { addresses: vec![ip("192.168.57.71")], ..(*snapshot.nodes["node-2"]).clone() };
    snapshot.nodes.insert("node-2".into(), Arc::new(far));
    let packet = packet(Network, CLIENT, "203.0.113.9:80", 0);
    assert_eq!(walk(&state(&snapshot).unwrap(), &packet, NEW), Way::Here);
}

#[test]
fn nothing_new_is_handed_over_where_it_must_not_or_can_not_be() {
    let idle = |service: Service, endpoints: Vec<Endpoint>| {
        let state =
            state(&seen_by("node-1", service, endpoints)).expect("what was chosen still holds");
        !state.elements.0.keys().any(|key| matches!(key, Key::Slot(..)))
    };
    assert!(!idle(balanced(), three()));
    assert!(idle(Service { external_local: true, ..balanced() }, three()), "policy Local");
    assert!(idle(balanced(), vec![]), "nobody there");
    let written = Endpoint { node: None, ..ready("10.244.2.5") };
    assert!(idle(balanced(), vec![ready("10.244.1.6"), written]), "one that is on no node");
    let nodes_own = Service { load_balancer_ips: vec![ip("192.168.56.70")], ..balanced() };
    assert!(state(&seen_by("node-1", nodes_own, three())).is_none(), "a node's own address");
    assert!(state(&seen_by("node-1", web("10.96.0.90"), three())).is_none(), "no balancer");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_change_is_as_good_as_a_look_at_all(
        before in endpoints(),
        after in endpoints(),
        silent in prop::sample::subsequence(vec!["node-1", "node-2", "node-3", "gone"], 0..=3),
    ) {
        let of = |list: &[&str]| {
            let endpoints = list.iter().map(|addr| ready(addr)).collect();
            let mut snapshot = seen_by("node-1", balanced(), endpoints);
            snapshot.silent = silent.iter().map(|name| (*name).into()).collect();
            snapshot
        };
        let silent = state(&of(&[])).unwrap().layout.silent;
        let (old, new) = (of(&before), of(&after));
        let mut plane = Dataplane::of(&old);
        let mut elements: Elements = state(&old).unwrap().elements;
        let touched = plane.refresh(&new, new.services.keys());
        let ops = diff(&elements.of_touched(&touched), &desired_of_touched(&plane, &touched, &silent));
        apply(&mut elements, &ops);
        prop_assert_eq!(&elements, &state(&new).unwrap().elements);
        prop_assert_eq!(handover::diff(&elements, &state(&new).unwrap().elements), vec![]);
    }
}

fn endpoints() -> impl Strategy<Value = Vec<&'static str>> {
    prop::sample::subsequence(vec!["10.244.1.5", "10.244.1.6", "10.244.2.5", "10.244.3.5"], 0..=4)
}
