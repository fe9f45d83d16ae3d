//! What becomes of a packet on this node, for people: every way that chance leaves open, in one
//! answer.
//!
//! Pure. A walk throws the dice once; here they are thrown in all ways, so that each backend that
//! may be chosen is told, with its share. Input: the tables as the kernel holds them, or as they
//! should be. Deliberately not here: where a packet enters the cluster, and what other nodes do.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::dataplane::Dataplane;
use crate::handover::{self, Arrival, SLOTS, Way};
use crate::nft::walk::Place;
use crate::packet::{From, Outcome, Packet, Step, Walk};
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
}

impl Trace {
    /// Does this node pass every such packet on?
    #[must_use]
    pub fn is_passed_on(&self) -> bool {
        self.passed_on.values().sum::<u32>() == SLOTS
    }
}

/// Traces the first packet of a connection; its own dice are not looked at. `hand_over` is the
/// table that hands over, where there is one, and `handed_over` that another node did so already.
#[must_use]
pub fn trace(
    tables: &Tables,
    plane: &Dataplane,
    place: &Place,
    hand_over: Option<&handover::State>,
    packet: Packet,
    handed_over: bool,
) -> Trace {
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
    Trace { passed_on, steps: steps.unwrap_or_default(), ends }
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
    use super::*;
    use crate::cases::at::{CLIENT, FAR_POD, NEAR_POD, NODE, POD};
    use crate::cases::world::{
        add, cluster, delivered, masqueraded, node_ported, packet, place, ready, translated,
    };
    use crate::cases::{self, Row};
    use crate::nft::{Engine, Layout};
    use crate::packet::From::{Network, Node, Pod};
    use crate::snapshot::Snapshot;

    fn both(snapshot: &Snapshot) -> (Dataplane, [Tables; 2]) {
        let plane = Dataplane::of(snapshot);
        let table = nft::State::desired(
            &Layout::of(snapshot, Engine::Nftables),
            &plane,
            &std::collections::BTreeSet::new(),
        );
        let servers = ipvs::State::desired(&Layout::of(snapshot, Engine::Ipvs), &plane);
        (plane, [Tables::Nftables(table), Tables::Ipvs(servers)])
    }

    fn ends(snapshot: &Snapshot, packet: Packet) -> [Vec<(Outcome, u32)>; 2] {
        let (plane, tables) = both(snapshot);
        tables.map(|tables| {
            let traced = trace(&tables, &plane, &place(snapshot), None, packet, false);
            assert!(!traced.is_passed_on() && traced.passed_on.is_empty());
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
        let found = ends(&uneven(), packet(Node, NODE, "10.96.0.20:80", 0));
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
    fn whatever_a_walk_gives_is_among_the_ends() {
        for case in cases::all() {
            let (plane, tables) = both(&case.snapshot);
            let here = place(&case.snapshot);
            for Row { packet, outcome } in &case.rows {
                // A trace is that of a client who was never here.
                let packet = Packet { remembers: None, ..*packet };
                for tables in &tables {
                    let traced = trace(tables, &plane, &here, None, packet, false);
                    let walked = tables.walk(&here, packet).outcome;
                    let told = traced.ends.contains_key(&walked);
                    assert!(told, "{}: {packet:?} {outcome:?}: {traced:?}", case.name);
                }
            }
        }
    }

    #[test]
    fn the_nodes_it_may_be_passed_on_to_have_their_shares_unless_one_did_so_already() {
        let mut snapshot = cluster();
        let mut service = node_ported("10.96.0.20", 30020);
        service.load_balancer_ips = vec![crate::cases::world::ip("192.168.56.200")];
        let name = add(&mut snapshot, "web", service, [NEAR_POD, FAR_POD].map(ready).to_vec());
        let (plane, [tables, _]) = both(&snapshot);
        assert!(plane.iter().any(|(_, service)| service.spread.is_some()), "{name}");
        let lan = ["192.168.56.0/24".parse().expect("a range")];
        let layout = handover::Layout::of(&snapshot, "lan", &lan);
        let state = handover::desired(layout, &plane).expect("there is something to hand over");
        let call = packet(Network, CLIENT, "192.168.56.200:80", 0);
        let go = |handed_over, packet| {
            trace(&tables, &plane, &place(&snapshot), Some(&state), packet, handed_over)
        };
        let traced = go(false, call);
        let other = crate::cases::world::ip("192.168.56.71");
        assert_eq!(traced.passed_on, BTreeMap::from([(other, SLOTS / 2)]));
        assert!(!traced.is_passed_on(), "this node has a share of its own");
        assert_eq!(go(true, call).passed_on, BTreeMap::new());
        let own = packet(Node, NODE, "192.168.56.200:80", 0);
        assert_eq!(go(false, own).passed_on, BTreeMap::new(), "what is sent here is served here");
    }
}
