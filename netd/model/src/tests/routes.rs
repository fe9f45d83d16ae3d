//! Routes, and which remembered connections are stale.

use std::collections::BTreeSet;

use crate::address::{Backend, Frontend, Protocol};
use crate::cases::world::{add, cluster, ip, ready, web};
use crate::conntrack::{Flow, is_stale};
use crate::dataplane::Dataplane;
use crate::route::{RouteOp, Routes, Via, desired_routes, diff_routes};

#[test]
fn other_nodes_pods_are_behind_them_and_services_on_the_bridge() {
    let routes = desired_routes(&cluster());
    let lines: Vec<String> = routes.iter().map(|(net, via)| format!("{net} {via:?}")).collect();
    assert_eq!(
        lines,
        [
            "10.96.0.0/12 Bridge",
            "10.244.2.0/24 Gateway(192.168.56.71)",
            "10.244.3.0/24 Gateway(192.168.56.72)",
            "fd44:2::/64 Gateway(fd56::71)",
            "fd44:3::/64 Gateway(fd56::72)",
            "fd96::/108 Bridge",
        ]
    );
}

#[test]
fn a_route_is_set_when_new_or_moved_deleted_when_gone_and_else_left_alone() {
    let to = |net: &str, gateway: &str| (net.parse().unwrap(), Via::Gateway(ip(gateway)));
    let observed: Routes = [
        to("10.244.1.0/24", "192.168.56.70"),
        to("10.244.2.0/24", "192.168.56.71"),
        to("10.244.3.0/24", "192.168.56.72"),
    ]
    .into();
    let desired: Routes = [
        to("10.244.2.0/24", "192.168.56.71"),
        to("10.244.3.0/24", "192.168.56.99"),
        to("10.244.4.0/24", "192.168.56.73"),
    ]
    .into();
    let set = |net: &str, gateway: &str| {
        let (net, via) = to(net, gateway);
        RouteOp::Set(net, via)
    };
    assert_eq!(
        diff_routes(&observed, &desired),
        [
            RouteOp::Delete("10.244.1.0/24".parse().unwrap()),
            set("10.244.3.0/24", "192.168.56.99"),
            set("10.244.4.0/24", "192.168.56.73"),
        ]
    );
    assert_eq!(diff_routes(&desired, &desired), []);
}

#[test]
fn only_udp_connections_of_ours_to_backends_that_are_gone_are_stale() {
    let mut snapshot = cluster();
    let mut service = web("10.96.0.1");
    service.ports[0].protocol = Protocol::Udp;
    add(&mut snapshot, "dns", service, vec![ready("10.244.1.5")]);
    let plane = Dataplane::of(&snapshot);
    let vip = |addr: &str, protocol| Frontend { addr: ip(addr), protocol, port: 80 };
    let flow =
        |to: Frontend, by: &str| Flow { to, answered_by: Backend { addr: ip(by), port: 8080 } };
    let dns = vip("10.96.0.1", Protocol::Udp);
    let deleted = vip("10.96.0.2", Protocol::Udp);
    let foreign = vip("192.168.56.9", Protocol::Udp);
    let ours = BTreeSet::from([deleted]);
    let stale = |flow| is_stale(&flow, &plane, &ours);
    assert!(stale(flow(dns, "10.244.1.6")), "its backend is gone");
    assert!(!stale(flow(dns, "10.244.1.5")), "its backend serves");
    assert!(stale(flow(deleted, "10.244.1.5")), "its Service is gone");
    assert!(!stale(flow(foreign, "10.244.1.5")), "not ours");
    assert!(!stale(flow(vip("10.96.0.1", Protocol::Tcp), "10.244.1.6")), "TCP");
}
