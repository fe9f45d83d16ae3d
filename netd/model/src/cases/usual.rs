//! What every Service does: cluster addresses and node ports, from everywhere.

use super::at::{CLIENT, FAR_POD, NEAR_POD, NODE, OTHER_NODE, POD};
use super::world::{add, cluster, delivered, masqueraded, node_ported, ready, translated, web};
use super::{Case, case, case_drawing};
use crate::packet::From::{Network, Node, Pod};
use crate::packet::Outcome::{Dropped, Refused};
use crate::snapshot::Snapshot;

/// One Service on a local, one on a remote, one on no backend; one whose backend is the caller.
pub(crate) fn usual() -> Snapshot {
    let mut snapshot = cluster();
    add(&mut snapshot, "local", node_ported("10.96.0.11", 30011), vec![ready("10.244.1.6")]);
    add(&mut snapshot, "remote", node_ported("10.96.0.12", 30012), vec![ready("10.244.2.5")]);
    add(&mut snapshot, "none", node_ported("10.96.0.13", 30013), vec![]);
    add(&mut snapshot, "self", node_ported("10.96.0.14", 30014), vec![ready(POD)]);
    snapshot
}

pub(super) fn cases() -> Vec<Case> {
    let mut out = served();
    out.extend(not_served());
    out.extend((0..4).map(every_backend_in_turn));
    out
}

fn served() -> Vec<Case> {
    vec![
        case(
            "a cluster address from everywhere",
            usual(),
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
        ),
        case(
            "a pod that calls itself is masqueraded",
            usual(),
            &[
                (Pod, POD, "10.96.0.14:80", masqueraded("10.244.1.5:8080")),
                (Pod, POD, "192.168.56.70:30014", masqueraded("10.244.1.5:8080")),
                (Pod, "10.244.1.6", "10.96.0.14:80", translated("10.244.1.5:8080")),
            ],
        ),
        case(
            "a node port from everywhere",
            usual(),
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
        ),
        case(
            "pods keep their address inside the cluster only",
            usual(),
            &[
                (Pod, POD, "10.244.1.6:8080", delivered("10.244.1.6:8080", false, false)),
                (Pod, POD, "10.244.2.5:8080", delivered("10.244.2.5:8080", false, false)),
                (Pod, POD, "192.168.56.71:22", delivered("192.168.56.71:22", false, false)),
                (Pod, POD, "192.168.56.10:80", delivered("192.168.56.10:80", false, true)),
                (Pod, POD, "203.0.113.7:80", delivered("203.0.113.7:80", false, true)),
            ],
        ),
    ]
}

fn not_served() -> Vec<Case> {
    vec![
        case(
            "that nobody is there is said at once",
            usual(),
            &[
                (Pod, POD, "10.96.0.13:80", Refused),
                (Node, NODE, "10.96.0.13:80", Refused),
                (Network, CLIENT, "10.96.0.13:80", Refused),
                (Pod, POD, "192.168.56.70:30013", Refused),
                (Node, NODE, "192.168.56.70:30013", Refused),
                (Network, CLIENT, "192.168.56.70:30013", Refused),
            ],
        ),
        case(
            "unserved ports of a virtual address are refused, and never the node's own",
            usual(),
            &[
                (Pod, POD, "10.96.0.11:22", Refused),
                (Node, NODE, "10.96.0.11:22", Refused),
                (Network, CLIENT, "10.96.0.11:22", Refused),
                // The node's own port 22 stays what it is.
                (Network, CLIENT, "192.168.56.70:22", delivered("192.168.56.70:22", false, false)),
                (Pod, POD, "192.168.56.70:22", delivered("192.168.56.70:22", false, false)),
            ],
        ),
        case(
            "unassigned service addresses swallow packets",
            usual(),
            &[
                (Pod, POD, "10.99.1.2:80", Dropped),
                (Node, NODE, "10.99.1.2:80", Dropped),
                (Network, CLIENT, "10.99.1.2:80", Dropped),
            ],
        ),
        case(
            "a pod with a borrowed address is silenced",
            usual(),
            &[
                (Pod, "10.244.2.9", "10.244.2.5:8080", Dropped),
                (Pod, NODE, "10.96.0.11:80", Dropped),
                (Pod, "203.0.113.9", "10.244.1.6:8080", Dropped),
                (Pod, "fe80::9", "[fd44:1::6]:80", delivered("[fd44:1::6]:80", false, false)),
            ],
        ),
    ]
}

fn every_backend_in_turn(random: u32) -> Case {
    let mut snapshot = cluster();
    let backends = [NEAR_POD, FAR_POD];
    add(&mut snapshot, "web", web("10.96.0.20"), backends.map(ready).to_vec());
    let turn = backends[random as usize % backends.len()];
    let outcome = translated(&format!("{turn}:8080"));
    let rows = [(Pod, POD, "10.96.0.20:80", outcome)];
    case_drawing(random, "every backend gets its turn", snapshot, &rows)
}
