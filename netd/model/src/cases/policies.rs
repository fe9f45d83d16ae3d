//! Traffic policies, source ranges, and addresses outside the cluster.

use super::at::{CLIENT, FAR_POD, NODE, OTHER_NODE, POD};
use super::world::{add, cluster, ip, masqueraded, node_ported, ready, translated, web};
use super::{Case, case, case_drawing};
use crate::packet::From::{Network, Node, Pod};
use crate::packet::Outcome::{Dropped, Refused};
use crate::snapshot::{Endpoint, Service, Snapshot};

pub(super) fn cases() -> Vec<Case> {
    let mut out = external_local();
    out.extend(internal_local());
    out.extend(outer_doors());
    out
}

fn one(service: Service, endpoints: Vec<Endpoint>) -> Snapshot {
    let mut snapshot = cluster();
    add(&mut snapshot, "web", service, endpoints);
    snapshot
}

fn external_local() -> Vec<Case> {
    let mut service = node_ported("10.96.0.30", 30030);
    service.external_local = true;
    service.load_balancer_ips = vec![ip("203.0.113.30")];
    vec![
        // The second of two backends is elsewhere: outsiders never get it.
        case_drawing(
            1,
            "external policy Local keeps outsiders here and serves insiders from everywhere",
            one(service.clone(), vec![ready("10.244.1.6"), ready("10.244.2.5")]),
            &[
                (Network, CLIENT, "192.168.56.70:30030", translated("10.244.1.6:8080")),
                (Network, CLIENT, "203.0.113.30:80", translated("10.244.1.6:8080")),
                (Pod, POD, "203.0.113.30:80", translated("10.244.2.5:8080")),
                (Pod, POD, "192.168.56.70:30030", translated("10.244.2.5:8080")),
                (Node, NODE, "203.0.113.30:80", masqueraded("10.244.2.5:8080")),
                (Node, NODE, "192.168.56.70:30030", masqueraded("10.244.2.5:8080")),
                (Network, FAR_POD, "203.0.113.30:80", masqueraded("10.244.2.5:8080")),
                (Network, CLIENT, "10.96.0.30:80", masqueraded("10.244.2.5:8080")),
            ],
        ),
        case(
            "external policy Local without a backend here leaves outsiders to try elsewhere",
            one(service.clone(), vec![ready("10.244.2.5")]),
            &[
                (Network, CLIENT, "192.168.56.70:30030", Dropped),
                (Network, CLIENT, "203.0.113.30:80", Dropped),
                // Another node's own processes are not this node's.
                (Network, OTHER_NODE, "192.168.56.70:30030", Dropped),
                (Pod, POD, "203.0.113.30:80", translated("10.244.2.5:8080")),
                (Node, NODE, "203.0.113.30:80", masqueraded("10.244.2.5:8080")),
                (Network, FAR_POD, "192.168.56.70:30030", masqueraded("10.244.2.5:8080")),
            ],
        ),
        case(
            "external policy Local without any backend says so to everyone",
            one(service, vec![]),
            &[
                (Network, CLIENT, "192.168.56.70:30030", Refused),
                (Network, CLIENT, "203.0.113.30:80", Refused),
                (Pod, POD, "203.0.113.30:80", Refused),
                (Node, NODE, "192.168.56.70:30030", Refused),
            ],
        ),
    ]
}

fn internal_local() -> Vec<Case> {
    let mut service = node_ported("10.96.0.31", 30031);
    service.internal_local = true;
    vec![
        case_drawing(
            1,
            "internal policy Local serves from this node",
            one(service.clone(), vec![ready("10.244.1.6"), ready("10.244.2.5")]),
            &[
                (Pod, POD, "10.96.0.31:80", translated("10.244.1.6:8080")),
                (Node, NODE, "10.96.0.31:80", translated("10.244.1.6:8080")),
            ],
        ),
        case(
            "internal policy Local without a backend here drops, and node ports obey another",
            one(service.clone(), vec![ready("10.244.2.5")]),
            &[
                (Pod, POD, "10.96.0.31:80", Dropped),
                (Node, NODE, "10.96.0.31:80", Dropped),
                (Pod, POD, "192.168.56.70:30031", translated("10.244.2.5:8080")),
            ],
        ),
        case(
            "internal policy Local without any backend refuses",
            one(service, vec![]),
            &[(Pod, POD, "10.96.0.31:80", Refused)],
        ),
    ]
}

fn outer_doors() -> Vec<Case> {
    let mut external = web("10.96.0.32");
    external.external_ips = vec![ip("172.30.1.44")];
    let mut closed = node_ported("10.96.0.33", 30033);
    closed.load_balancer_ips = vec![ip("203.0.113.33")];
    closed.external_ips = vec![ip("172.30.1.45")];
    closed.source_ranges = vec!["192.168.56.0/28".parse().expect("a range")];
    vec![
        case(
            "external addresses are served like load balancer addresses",
            one(external, vec![ready("10.244.2.5")]),
            &[
                (Network, CLIENT, "172.30.1.44:80", masqueraded("10.244.2.5:8080")),
                (Pod, POD, "172.30.1.44:80", translated("10.244.2.5:8080")),
                (Node, NODE, "172.30.1.44:80", masqueraded("10.244.2.5:8080")),
                (Network, CLIENT, "172.30.1.44:22", Refused),
            ],
        ),
        case(
            "source ranges close every outer door",
            one(closed, vec![ready("10.244.1.6")]),
            &[
                (Network, CLIENT, "203.0.113.33:80", translated("10.244.1.6:8080")),
                (Network, "192.168.56.99", "203.0.113.33:80", Dropped),
                (Network, CLIENT, "192.168.56.70:30033", translated("10.244.1.6:8080")),
                (Network, "192.168.56.99", "192.168.56.70:30033", Dropped),
                (Network, CLIENT, "172.30.1.45:80", translated("10.244.1.6:8080")),
                (Network, "192.168.56.99", "172.30.1.45:80", Dropped),
                (Pod, POD, "203.0.113.33:80", Dropped),
                (Pod, POD, "10.96.0.33:80", translated("10.244.1.6:8080")),
                (Network, "192.168.56.99", "10.96.0.33:80", translated("10.244.1.6:8080")),
            ],
        ),
    ]
}
