//! Packet walks: from, to, what becomes of it. Every row is walked through both engines.

use super::world::{
    add, cluster, delivered, expect, masqueraded, node_ported, packet, ready, translated, walks,
    web,
};
use crate::packet::From::{Network, Node, Pod};
use crate::packet::{From, Outcome};
use crate::snapshot::Snapshot;

use Outcome::{Dropped, Refused};

const POD: &str = "10.244.1.5";
const NODE: &str = "192.168.56.70";
const OTHER_NODE: &str = "192.168.56.71";
const FAR_POD: &str = "10.244.2.5";
const CLIENT: &str = "192.168.56.10";

/// One Service on a local, one on a remote, one on no backend; one whose backend is the caller.
fn usual() -> Snapshot {
    let mut snapshot = cluster();
    add(&mut snapshot, "local", node_ported("10.96.0.11", 30011), vec![ready("10.244.1.6")]);
    add(&mut snapshot, "remote", node_ported("10.96.0.12", 30012), vec![ready("10.244.2.5")]);
    add(&mut snapshot, "none", node_ported("10.96.0.13", 30013), vec![]);
    add(&mut snapshot, "self", node_ported("10.96.0.14", 30014), vec![ready(POD)]);
    snapshot
}

#[track_caller]
fn table(snapshot: &Snapshot, rows: &[(From, &str, &str, Outcome)]) {
    for (from, source, to, outcome) in rows {
        expect(snapshot, packet(*from, source, to, 0), *outcome);
    }
}

#[test]
fn cluster_address_from_everywhere() {
    table(
        &usual(),
        &[
            (Pod, POD, "10.96.0.11:80", translated("10.244.1.6:8080")),
            (Pod, POD, "10.96.0.12:80", translated("10.244.2.5:8080")),
            (Node, NODE, "10.96.0.11:80", translated("10.244.1.6:8080")),
            (Node, NODE, "10.96.0.12:80", masqueraded("10.244.2.5:8080")),
            (Network, OTHER_NODE, "10.96.0.11:80", translated("10.244.1.6:8080")),
            // Whoever routes the service range to a node is served by it.
            (Network, CLIENT, "10.96.0.11:80", translated("10.244.1.6:8080")),
            (Network, CLIENT, "10.96.0.12:80", masqueraded("10.244.2.5:8080")),
        ],
    );
}

#[test]
fn a_pod_that_calls_itself_is_masqueraded() {
    table(
        &usual(),
        &[
            (Pod, POD, "10.96.0.14:80", masqueraded("10.244.1.5:8080")),
            (Pod, POD, "192.168.56.70:30014", masqueraded("10.244.1.5:8080")),
            (Pod, "10.244.1.6", "10.96.0.14:80", translated("10.244.1.5:8080")),
        ],
    );
}

#[test]
fn node_port_from_everywhere() {
    table(
        &usual(),
        &[
            (Pod, POD, "192.168.56.70:30011", translated("10.244.1.6:8080")),
            (Pod, POD, "192.168.56.70:30012", translated("10.244.2.5:8080")),
            (Node, NODE, "192.168.56.70:30011", translated("10.244.1.6:8080")),
            (Node, NODE, "192.168.56.70:30012", masqueraded("10.244.2.5:8080")),
            (Network, CLIENT, "192.168.56.70:30011", translated("10.244.1.6:8080")),
            (Network, CLIENT, "192.168.56.70:30012", masqueraded("10.244.2.5:8080")),
            // A pod of another node: the answer would not come back this way.
            (Network, FAR_POD, "192.168.56.70:30012", masqueraded("10.244.2.5:8080")),
            (Network, FAR_POD, "192.168.56.70:30011", translated("10.244.1.6:8080")),
            // Another node's port is that node's business.
            (Pod, POD, "192.168.56.71:30011", delivered("192.168.56.71:30011", false, false)),
        ],
    );
}

#[test]
fn nobody_there_is_said_at_once() {
    table(
        &usual(),
        &[
            (Pod, POD, "10.96.0.13:80", Refused),
            (Node, NODE, "10.96.0.13:80", Refused),
            (Network, CLIENT, "10.96.0.13:80", Refused),
            (Pod, POD, "192.168.56.70:30013", Refused),
            (Node, NODE, "192.168.56.70:30013", Refused),
            (Network, CLIENT, "192.168.56.70:30013", Refused),
        ],
    );
}

#[test]
fn unserved_ports_of_a_virtual_address_are_refused_not_the_nodes_own() {
    table(
        &usual(),
        &[
            (Pod, POD, "10.96.0.11:22", Refused),
            (Node, NODE, "10.96.0.11:22", Refused),
            (Network, CLIENT, "10.96.0.11:22", Refused),
            // The node's own port 22 stays what it is.
            (Network, CLIENT, "192.168.56.70:22", delivered("192.168.56.70:22", false, false)),
            (Pod, POD, "192.168.56.70:22", delivered("192.168.56.70:22", false, false)),
        ],
    );
}

#[test]
fn unassigned_service_addresses_swallow_packets() {
    table(
        &usual(),
        &[
            (Pod, POD, "10.99.1.2:80", Dropped),
            (Node, NODE, "10.99.1.2:80", Dropped),
            (Network, CLIENT, "10.99.1.2:80", Dropped),
        ],
    );
}

#[test]
fn pods_keep_their_address_inside_the_cluster_only() {
    table(
        &usual(),
        &[
            (Pod, POD, "10.244.1.6:8080", delivered("10.244.1.6:8080", false, false)),
            (Pod, POD, "10.244.2.5:8080", delivered("10.244.2.5:8080", false, false)),
            (Pod, POD, "192.168.56.71:22", delivered("192.168.56.71:22", false, false)),
            (Pod, POD, "192.168.56.10:80", delivered("192.168.56.10:80", false, true)),
            (Pod, POD, "203.0.113.7:80", delivered("203.0.113.7:80", false, true)),
        ],
    );
}

#[test]
fn a_pod_with_a_borrowed_address_is_silenced() {
    table(
        &usual(),
        &[
            (Pod, "10.244.2.9", "10.244.2.5:8080", Dropped),
            (Pod, NODE, "10.96.0.11:80", Dropped),
            (Pod, "203.0.113.9", "10.244.1.6:8080", Dropped),
            (Pod, "fe80::9", "[fd44:1::6]:80", delivered("[fd44:1::6]:80", false, false)),
        ],
    );
}

#[test]
fn every_backend_gets_its_turn() {
    let mut snapshot = cluster();
    let backends = ["10.244.1.5", "10.244.1.6", "10.244.2.5"];
    add(&mut snapshot, "web", web("10.96.0.20"), backends.map(ready).to_vec());
    for (random, backend) in (0..6).zip(backends.iter().cycle()) {
        let packet = packet(Pod, "10.244.1.9", "10.96.0.20:80", random);
        expect(&snapshot, packet, translated(&format!("{backend}:8080")));
    }
}

#[test]
fn external_policy_local_keeps_the_client_and_serves_insiders_from_everywhere() {
    let mut snapshot = cluster();
    let mut service = node_ported("10.96.0.30", 30030);
    service.external_local = true;
    service.load_balancer_ips = vec!["203.0.113.30".parse().unwrap()];
    let endpoints = vec![ready("10.244.1.6"), ready("10.244.2.5")];
    add(&mut snapshot, "web", service.clone(), endpoints);
    // The second of two backends is elsewhere: outsiders never get it.
    let rows: &[(From, &str, &str, Outcome)] = &[
        (Network, CLIENT, "192.168.56.70:30030", translated("10.244.1.6:8080")),
        (Network, CLIENT, "203.0.113.30:80", translated("10.244.1.6:8080")),
        (Pod, POD, "203.0.113.30:80", translated("10.244.2.5:8080")),
        (Pod, POD, "192.168.56.70:30030", translated("10.244.2.5:8080")),
        (Node, NODE, "203.0.113.30:80", masqueraded("10.244.2.5:8080")),
        (Network, CLIENT, "10.96.0.30:80", masqueraded("10.244.2.5:8080")),
    ];
    for (from, source, to, outcome) in rows {
        expect(&snapshot, packet(*from, source, to, 1), *outcome);
    }
    // No backend here: outsiders are left to try elsewhere, insiders are served.
    add(&mut snapshot, "web", service.clone(), vec![ready("10.244.2.5")]);
    table(
        &snapshot,
        &[
            (Network, CLIENT, "192.168.56.70:30030", Dropped),
            (Network, CLIENT, "203.0.113.30:80", Dropped),
            (Pod, POD, "203.0.113.30:80", translated("10.244.2.5:8080")),
        ],
    );
    // No backend anywhere: that is said to everyone.
    add(&mut snapshot, "web", service, vec![]);
    table(
        &snapshot,
        &[
            (Network, CLIENT, "192.168.56.70:30030", Refused),
            (Pod, POD, "203.0.113.30:80", Refused),
        ],
    );
}

#[test]
fn internal_policy_local_serves_from_this_node_or_not_at_all() {
    let mut snapshot = cluster();
    let mut service = node_ported("10.96.0.31", 30031);
    service.internal_local = true;
    add(&mut snapshot, "web", service.clone(), vec![ready("10.244.1.6"), ready("10.244.2.5")]);
    expect(&snapshot, packet(Pod, POD, "10.96.0.31:80", 1), translated("10.244.1.6:8080"));
    add(&mut snapshot, "web", service.clone(), vec![ready("10.244.2.5")]);
    table(
        &snapshot,
        &[
            (Pod, POD, "10.96.0.31:80", Dropped),
            // Node ports obey the external policy.
            (Pod, POD, "192.168.56.70:30031", translated("10.244.2.5:8080")),
        ],
    );
    add(&mut snapshot, "web", service, vec![]);
    expect(&snapshot, packet(Pod, POD, "10.96.0.31:80", 0), Refused);
}

#[test]
fn external_addresses_are_served_like_load_balancer_addresses() {
    let mut snapshot = cluster();
    let mut service = web("10.96.0.32");
    service.external_ips = vec!["172.30.1.44".parse().unwrap()];
    add(&mut snapshot, "web", service, vec![ready("10.244.2.5")]);
    table(
        &snapshot,
        &[
            (Network, CLIENT, "172.30.1.44:80", masqueraded("10.244.2.5:8080")),
            (Pod, POD, "172.30.1.44:80", translated("10.244.2.5:8080")),
            (Network, CLIENT, "172.30.1.44:22", Refused),
        ],
    );
}

#[test]
fn source_ranges_close_every_outer_door() {
    let mut snapshot = cluster();
    let mut service = node_ported("10.96.0.33", 30033);
    service.load_balancer_ips = vec!["203.0.113.33".parse().unwrap()];
    service.source_ranges = vec!["192.168.56.0/28".parse().unwrap()];
    add(&mut snapshot, "web", service, vec![ready("10.244.1.6")]);
    table(
        &snapshot,
        &[
            (Network, CLIENT, "203.0.113.33:80", translated("10.244.1.6:8080")),
            (Network, "192.168.56.99", "203.0.113.33:80", Dropped),
            (Network, CLIENT, "192.168.56.70:30033", translated("10.244.1.6:8080")),
            (Network, "192.168.56.99", "192.168.56.70:30033", Dropped),
            (Pod, POD, "10.96.0.33:80", translated("10.244.1.6:8080")),
        ],
    );
}

#[test]
fn both_families_are_served_alike() {
    let mut snapshot = cluster();
    let mut service = node_ported("10.96.0.34", 30034);
    service.cluster_ips.push("fd96::34".parse().unwrap());
    add(&mut snapshot, "web", service, vec![ready("10.244.2.5"), ready("fd44:2::5")]);
    table(
        &snapshot,
        &[
            (Pod, "fd44:1::5", "[fd96::34]:80", translated("[fd44:2::5]:8080")),
            (Pod, "fd44:1::5", "[fd96::34]:22", Refused),
            (Pod, "fd44:1::5", "[fd96::99]:80", Dropped),
            (Network, "fd56::10", "[fd56::70]:30034", masqueraded("[fd44:2::5]:8080")),
            (Pod, POD, "10.96.0.34:80", translated("10.244.2.5:8080")),
        ],
    );
}

#[test]
fn of_two_services_at_one_address_the_first_by_name_wins_until_it_goes() {
    let mut snapshot = cluster();
    let mut service = web("10.96.0.40");
    service.external_ips = vec!["172.30.1.44".parse().unwrap()];
    let first = add(&mut snapshot, "a", service.clone(), vec![ready("10.244.1.6")]);
    service.cluster_ips = vec!["10.96.0.41".parse().unwrap()];
    add(&mut snapshot, "b", service, vec![ready("10.244.2.5")]);
    let to_both = packet(Pod, POD, "172.30.1.44:80", 0);
    expect(&snapshot, to_both, translated("10.244.1.6:8080"));
    let plane = crate::dataplane::Dataplane::of(&snapshot);
    let conflicts: Vec<String> =
        plane.conflicts().map(|(at, loser, winner)| format!("{at}: {loser} < {winner}")).collect();
    assert_eq!(conflicts, ["172.30.1.44 . tcp . 80: default/b < default/a"]);
    snapshot.services.remove(&first);
    expect(&snapshot, to_both, translated("10.244.2.5:8080"));
}

#[test]
fn a_walk_names_the_service_and_the_rule() {
    let [(_, walk), _] = walks(&usual(), packet(Pod, POD, "10.96.0.12:80", 0));
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
