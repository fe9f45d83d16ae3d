//! What becomes of a packet on this node, for people: every way that chance leaves open, in one
//! answer.
//!
//! Pure. A walk throws the dice once; here they are thrown in all ways, so that each backend that
//! may be chosen is told, with its share. Input: the tables as the kernel holds them, or as they
//! should be. Deliberately not here: where a packet enters the cluster, and what other nodes do.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::dataplane::Dataplane;
use crate::handover::{self, Arrival, SLOTS, Way};
use crate::nft::Layout;
use crate::nft::walk::Place;
use crate::packet::{From, Outcome, Packet, Step, Walk};
use crate::service::{Owner, Pool};
use crate::{ipvs, nft};

/// Sides that the dice have at most: Services with more backends are told by a part of them.
const MOST_SIDES: u32 = 4096;

/// The tables of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tables {
    /// One table does it all.
    Nftables(nft::State),
    /// IPVS balances, and the table beside it does the rest.
    Ipvs(ipvs::State),
}

impl Tables {
    /// Walks a packet through them.
    #[must_use]
    pub fn walk(&self, place: &Place, packet: Packet) -> Walk {
        match self {
            Self::Nftables(table) => nft::walk::walk(table, place, packet),
            Self::Ipvs(state) => ipvs::walk(state, place, packet),
        }
    }
}

/// Why nobody answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A pod sends from an address that is not of its node's range.
    NotItsAddress,
    /// The Service admits other clients only (`loadBalancerSourceRanges`).
    NotAdmitted,
    /// The Service has no endpoint that takes calls.
    NoEndpoint,
    /// It has some, but none on this node, and its policy is Local.
    NoEndpointHere,
    /// The address is a Service's, which has no such port.
    NoSuchPort,
    /// No Service has the address.
    NoService,
}

/// Everything that may become of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Nodes to which it may be passed on unchanged, with their shares of [`SLOTS`]; this node sees
    /// it to its end where they leave a rest.
    pub passed_on: BTreeMap<IpAddr, u32>,
    /// One way through this node's tables, as an example.
    pub steps: Vec<Step>,
    /// How it may end here, with the number of sides of the dice that lead there.
    pub ends: BTreeMap<Outcome, u32>,
    /// The Service port that it is for; of an address without such a port, the address' first.
    pub owner: Option<Owner>,
    /// Why it is refused or dropped, if it is.
    pub why: Option<Why>,
    /// Seconds for which a client keeps its backend: the ends are those of one that has none yet.
    pub affinity_seconds: Option<u32>,
    /// How IPVS chooses, where it does; the ends have equal shares all the same.
    pub scheduler: Option<Arc<str>>,
}

/// What is walked through.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    /// The engine's tables.
    pub tables: &'a Tables,
    /// What they were made from.
    pub plane: &'a Dataplane,
    /// What shaped them.
    pub layout: &'a Layout,
    /// What else counts of the node.
    pub place: &'a Place,
    /// The table that hands over, where there is one.
    pub hand_over: Option<&'a handover::State>,
}

/// Traces the first packet of a connection; its own dice are not looked at. `handed_over` says that
/// another node passed it on.
#[must_use]
pub fn trace(node: &Node<'_>, packet: Packet, handed_over: bool) -> Trace {
    let Node { tables, plane, layout, place, hand_over } = *node;
    let arrival = Arrival { remembered: None, begins: true, marked: handed_over };
    let mut passed_on = BTreeMap::new();
    if let Some(state) = hand_over.filter(|_| packet.from == From::Network) {
        for random in 0..SLOTS {
            let way = handover::walk(state, &Packet { random, ..packet }, arrival);
            if let Way::To(node) = way {
                *passed_on.entry(node).or_insert(0) += 1;
            }
        }
    }
    let mut steps = None;
    let mut ends = BTreeMap::new();
    for random in 0..sides(plane, &packet) {
        let walk = tables.walk(place, Packet { random, ..packet });
        *ends.entry(walk.outcome).or_insert(0) += 1;
        steps.get_or_insert(walk.steps);
    }
    let service = plane.get(&packet.to);
    let answers = |end: &Outcome| matches!(end, Outcome::Delivered { .. });
    let server = match tables {
        Tables::Ipvs(state) => state.servers.get(&packet.to),
        Tables::Nftables(_) => None,
    };
    Trace {
        passed_on,
        steps: steps.unwrap_or_default(),
        why: (!ends.keys().all(answers)).then(|| why(plane, layout, &packet)),
        ends,
        owner: service.or_else(|| plane.iter_at(packet.to.addr).next()).map(|s| s.owner.clone()),
        affinity_seconds: service.and_then(|service| service.affinity_seconds),
        scheduler: server.map(|server| server.scheduler.clone()),
    }
}

/// Why a packet that nobody answers is not answered.
fn why(plane: &Dataplane, layout: &Layout, packet: &Packet) -> Why {
    let is_in = |ranges: &[IpNet]| ranges.iter().any(|range| range.contains(&packet.source));
    if packet.from == From::Pod && !is_in(&layout.pod_cidrs) {
        return Why::NotItsAddress;
    }
    let Some(service) = plane.get(&packet.to) else {
        return if plane.is_claimed(packet.to.addr) { Why::NoSuchPort } else { Why::NoService };
    };
    if !service.source_ranges.is_empty() && !is_in(&service.source_ranges) {
        return Why::NotAdmitted;
    }
    let is_outside = packet.from == From::Network && !is_in(&layout.cluster_cidrs);
    let pool = service.outside.as_ref().filter(|_| is_outside).unwrap_or(&service.pool);
    match pool {
        Pool::Drop => Why::NoEndpointHere,
        _ => Why::NoEndpoint,
    }
}

/// So many that every backend has the same number of them, whichever pool the packet draws from.
fn sides(plane: &Dataplane, packet: &Packet) -> u32 {
    let Some(service) = plane.get(&packet.to) else { return 1 };
    let outside = service.outside.as_ref().map_or(0, |pool| pool.backends().len());
    let counts = [service.pool.backends().len(), outside].map(|n| n.max(1));
    let [a, b] = counts.map(|n| u32::try_from(n).unwrap_or(MOST_SIDES).min(MOST_SIDES));
    let common = a / gcd(a, b) * b;
    if common <= MOST_SIDES { common } else { a.max(b) }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::cases::at::{CLIENT, FAR_POD, NEAR_POD, NODE, POD};
    use crate::cases::world::{
        add, cluster, delivered, masqueraded, node_ported, packet, place, ready, translated,
    };
    use crate::cases::{self, Row};
    use crate::nft::Engine;
    use crate::packet::From::{Network, Pod};
    use crate::snapshot::Snapshot;

    /// Traces on both engines.
    fn both(
        snapshot: &Snapshot,
        hand_over: Option<&handover::State>,
        packet: Packet,
        handed_over: bool,
    ) -> [Trace; 2] {
        let plane = Dataplane::of(snapshot);
        [Engine::Nftables, Engine::Ipvs].map(|engine| {
            let layout = Layout::of(snapshot, engine);
            let tables = match engine {
                Engine::Nftables => {
                    Tables::Nftables(nft::State::desired(&layout, &plane, &BTreeSet::new()))
                }
                Engine::Ipvs => Tables::Ipvs(ipvs::State::desired(&layout, &plane)),
            };
            let place = place(snapshot);
            let node =
                Node { tables: &tables, plane: &plane, layout: &layout, place: &place, hand_over };
            trace(&node, packet, handed_over)
        })
    }

    fn ends(snapshot: &Snapshot, packet: Packet) -> [Vec<(Outcome, u32)>; 2] {
        both(snapshot, None, packet, false).map(|traced| {
            assert_eq!((traced.passed_on, traced.why), (BTreeMap::new(), None));
            traced.ends.into_iter().collect()
        })
    }

    /// A Service with three backends, of which one is on this node, which alone answers outside.
    fn uneven() -> Snapshot {
        let mut snapshot = cluster();
        let mut service = node_ported("10.96.0.20", 30020);
        service.external_local = true;
        let backends = [NEAR_POD, FAR_POD, "10.244.3.9"].map(ready).to_vec();
        add(&mut snapshot, "web", service, backends);
        snapshot
    }

    #[test]
    fn every_backend_is_told_with_the_same_share() {
        let thirds = vec![
            (translated("10.244.1.6:8080"), 1),
            (translated("10.244.2.5:8080"), 1),
            (translated("10.244.3.9:8080"), 1),
        ];
        let found = ends(&uneven(), packet(Pod, POD, "10.96.0.20:80", 7));
        assert_eq!(found, [thirds.clone(), thirds]);
        let outside = vec![(translated("10.244.1.6:8080"), 3)];
        let found = ends(&uneven(), packet(Network, CLIENT, "192.168.56.70:30020", 7));
        assert_eq!(found, [outside.clone(), outside]);
    }

    #[test]
    fn a_source_that_is_rewritten_for_some_backends_is_told_apart() {
        let found = ends(&uneven(), packet(From::Node, NODE, "10.96.0.20:80", 0));
        let told = vec![
            (translated("10.244.1.6:8080"), 1),
            (masqueraded("10.244.2.5:8080"), 1),
            (masqueraded("10.244.3.9:8080"), 1),
        ];
        assert_eq!(found, [told.clone(), told]);
    }

    #[test]
    fn what_is_no_services_goes_its_way() {
        let there = vec![(delivered("203.0.113.7:80", false, true), 1)];
        let found = ends(&uneven(), packet(Pod, POD, "203.0.113.7:80", 3));
        assert_eq!(found, [there.clone(), there]);
    }

    #[test]
    fn the_outcome_of_every_case_is_among_the_ends_and_has_a_reason_if_it_is_no_answer() {
        for case in cases::all() {
            for Row { packet, outcome } in &case.rows {
                // A trace is that of a client who was never here.
                let is_back = packet.remembers.is_some();
                for traced in both(&case.snapshot, None, *packet, false) {
                    let told = traced.ends.contains_key(outcome) || is_back;
                    assert!(told, "{}: {packet:?} {outcome:?}: {traced:?}", case.name);
                    let answers = matches!(outcome, Outcome::Delivered { .. });
                    assert_eq!(traced.why.is_none(), answers, "{}: {traced:?}", case.name);
                }
            }
        }
    }

    #[test]
    fn that_nobody_answers_has_a_reason() {
        let mut snapshot = uneven();
        add(&mut snapshot, "none", node_ported("10.96.0.13", 30013), vec![]);
        let mut elsewhere = node_ported("10.96.0.14", 30014);
        elsewhere.external_local = true;
        add(&mut snapshot, "elsewhere", elsewhere, vec![ready(FAR_POD)]);
        let mut private = node_ported("10.96.0.15", 30015);
        private.source_ranges = vec!["203.0.113.0/24".parse().expect("a range")];
        add(&mut snapshot, "private", private, vec![ready(NEAR_POD)]);
        for (from, source, to, why, owner) in [
            (Pod, "10.244.2.9", "10.96.0.20:80", Why::NotItsAddress, "default/web"),
            (Pod, POD, "10.96.0.13:80", Why::NoEndpoint, "default/none"),
            (Network, CLIENT, "192.168.56.70:30013", Why::NoEndpoint, "default/none"),
            (Network, CLIENT, "192.168.56.70:30014", Why::NoEndpointHere, "default/elsewhere"),
            (Network, CLIENT, "192.168.56.70:30015", Why::NotAdmitted, "default/private"),
            (From::Node, NODE, "10.96.0.20:22", Why::NoSuchPort, "default/web"),
            (Pod, POD, "10.99.1.2:80", Why::NoService, ""),
        ] {
            for traced in both(&snapshot, None, packet(from, source, to, 0), false) {
                assert_eq!(traced.why, Some(why), "{to}: {traced:?}");
                let told = traced.owner.map(|owner| owner.service.to_string()).unwrap_or_default();
                assert_eq!(told, owner, "{to}");
            }
        }
    }

    #[test]
    fn what_makes_shares_unequal_is_told() {
        let mut snapshot = cluster();
        let mut service = node_ported("10.96.0.20", 30020);
        service.affinity_seconds = Some(10800);
        service.scheduler = Some("sh".into());
        add(&mut snapshot, "web", service, [NEAR_POD, FAR_POD].map(ready).to_vec());
        let [table, ipvs] = both(&snapshot, None, packet(Pod, POD, "10.96.0.20:80", 0), false);
        assert_eq!((table.affinity_seconds, table.scheduler), (Some(10800), None));
        assert_eq!((ipvs.affinity_seconds, ipvs.scheduler.as_deref()), (Some(10800), Some("sh")));
    }

    #[test]
    fn the_nodes_it_may_be_passed_on_to_have_their_shares_unless_one_did_so_already() {
        let mut snapshot = cluster();
        let mut service = node_ported("10.96.0.20", 30020);
        service.load_balancer_ips = vec![crate::cases::world::ip("192.168.56.200")];
        let name = add(&mut snapshot, "web", service, [NEAR_POD, FAR_POD].map(ready).to_vec());
        let plane = Dataplane::of(&snapshot);
        assert!(plane.iter().any(|(_, service)| service.spread.is_some()), "{name}");
        let lan = ["192.168.56.0/24".parse().expect("a range")];
        let layout = handover::Layout::of(&snapshot, "lan", &lan);
        let state = handover::desired(layout, &plane).expect("there is something to hand over");
        let passed_on = |handed_over, packet| {
            both(&snapshot, Some(&state), packet, handed_over).map(|traced| traced.passed_on)
        };
        let call = packet(Network, CLIENT, "192.168.56.200:80", 0);
        let half = BTreeMap::from([(crate::cases::world::ip("192.168.56.71"), SLOTS / 2)]);
        assert_eq!(passed_on(false, call), [half.clone(), half]);
        let nobody = [BTreeMap::new(), BTreeMap::new()];
        assert_eq!(passed_on(true, call), nobody);
        let own = packet(From::Node, NODE, "192.168.56.200:80", 0);
        assert_eq!(passed_on(false, own), nobody, "what is sent here is served here");
    }
}
