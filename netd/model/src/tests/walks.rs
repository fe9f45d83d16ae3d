//! Packet walks: every row of the cases, walked through both engines.

use std::collections::BTreeSet;

use crate::cases::at::POD;
use crate::cases::world::{add, cluster, ip, packet, place, ready, translated, web};
use crate::cases::{self, Case, Row};
use crate::dataplane::Dataplane;
use crate::ipvs;
use crate::nft::{self, Engine, Layout};
use crate::packet::From::Pod;
use crate::packet::{Outcome, Packet, Walk};
use crate::snapshot::Snapshot;

/// The walks of one packet through both engines.
fn walks(snapshot: &Snapshot, packet: Packet) -> [(Engine, Walk); 2] {
    let plane = Dataplane::of(snapshot);
    let place = place(snapshot);
    let layout = |engine| Layout::of(snapshot, engine);
    let table = nft::State::desired(&layout(Engine::Nftables), &plane, &BTreeSet::new());
    let servers = ipvs::State::desired(&layout(Engine::Ipvs), &plane);
    [
        (Engine::Nftables, nft::walk::walk(&table, &place, packet)),
        (Engine::Ipvs, ipvs::walk(&servers, &place, packet)),
    ]
}

/// Both engines must give this outcome.
#[track_caller]
fn expect(name: &str, snapshot: &Snapshot, packet: Packet, outcome: Outcome) {
    for (engine, walk) in walks(snapshot, packet) {
        let steps: Vec<String> = walk.steps.iter().map(ToString::to_string).collect();
        assert_eq!(walk.outcome, outcome, "{name}: {engine:?}, {packet:?}:\n{}", steps.join("\n"));
    }
}

#[test]
fn every_case_holds_on_both_engines() {
    let all = cases::all();
    for Case { name, snapshot, rows } in &all {
        assert!(!rows.is_empty(), "{name}");
        for Row { packet, outcome } in rows {
            expect(name, snapshot, *packet, *outcome);
        }
    }
}

#[test]
fn of_two_services_at_one_address_the_first_by_name_wins_until_it_goes() {
    let mut snapshot = cluster();
    let mut service = web("10.96.0.40");
    service.external_ips = vec![ip("172.30.1.44")];
    let first = add(&mut snapshot, "a", service.clone(), vec![ready("10.244.1.6")]);
    service.cluster_ips = vec![ip("10.96.0.41")];
    add(&mut snapshot, "b", service, vec![ready("10.244.2.5")]);
    let to_both = packet(Pod, POD, "172.30.1.44:80", 0);
    expect("conflict", &snapshot, to_both, translated("10.244.1.6:8080"));
    let plane = Dataplane::of(&snapshot);
    let conflicts: Vec<String> =
        plane.conflicts().map(|(at, loser, winner)| format!("{at}: {loser} < {winner}")).collect();
    assert_eq!(conflicts, ["172.30.1.44 . tcp . 80: default/b < default/a"]);
    snapshot.services.remove(&first);
    expect("conflict", &snapshot, to_both, translated("10.244.2.5:8080"));
}

#[test]
fn a_walk_names_the_service_and_the_rule() {
    let [(_, walk), _] = walks(&cases::usual(), packet(Pod, POD, "10.96.0.12:80", 0));
    let steps: Vec<String> = walk.steps.iter().map(ToString::to_string).collect();
    assert_eq!(
        steps,
        [
            "prerouting translate-arriving: ip daddr . meta l4proto . th dport vmap @services4: \
             default/remote says goto pick4-1",
            "pick4-1: dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 1 map \
             @endpoints4: slot 0 is 10.244.2.5 . 8080",
        ]
    );
}
