//! Several ports, ports that differ by endpoint, and endpoints that are about to go.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::cluster::{add, both_nodes, cluster, ready, set_endpoints};
use crate::net::{Host, Outcome, root, serve, tcp, udp};
use crate::{answered, at, isolated, web};
use netmodel::address::{Family, Protocol};
use netmodel::snapshot::{Endpoint, EndpointPort, EndpointSlice, ServicePort, Slices};

fn service_port(name: &str, protocol: Protocol, port: u16, node_port: u16) -> ServicePort {
    ServicePort { name: name.into(), protocol, port, node_port: Some(node_port) }
}

fn slice(endpoints: &[&str], ports: &[(&str, Protocol, u16)]) -> Arc<EndpointSlice> {
    let port = |(name, protocol, port): &(&str, Protocol, u16)| EndpointPort {
        name: (*name).into(),
        protocol: *protocol,
        port: *port,
    };
    Arc::new(EndpointSlice {
        family: Family::V4,
        ports: ports.iter().map(port).collect(),
        endpoints: endpoints.iter().map(|addr| ready(addr)).collect(),
    })
}

/// Everyone who answers in many calls.
fn who(
    call: fn(&Host, std::net::SocketAddr) -> Outcome,
    host: &Host,
    to: &str,
) -> BTreeSet<String> {
    (0..40).map(|_| call(host, at(to)).name()).collect()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A port of a Service may be another number at every endpoint (a named target port), and the same
/// number of another protocol is another port.
#[test]
fn each_port_leads_to_its_own_endpoints() {
    if !root() {
        return;
    }
    let net = isolated();
    let _servers = [
        serve(&net.b, "b-web", at("10.244.1.6:8080")),
        serve(&net.c, "c-web", at("10.244.2.5:9090")),
        serve(&net.b, "b-admin", at("10.244.1.6:8081")),
        serve(&net.b, "b-name", at("10.244.1.6:5353")),
    ];
    let (web_port, admin, name_port) = ("web", "admin", "name");
    let mut snapshot = cluster();
    let change = |service: &mut netmodel::snapshot::Service| {
        web("10.96.0.41")(service);
        service.ports = vec![
            service_port(web_port, Protocol::Tcp, 80, 30041),
            service_port(admin, Protocol::Tcp, 8000, 30042),
            service_port(name_port, Protocol::Udp, 80, 30041),
        ];
    };
    let name = add(&mut snapshot, "several", change, &[]);
    let slices: Slices = [
        (
            "b".into(),
            slice(
                &["10.244.1.6"],
                &[
                    (web_port, Protocol::Tcp, 8080),
                    (admin, Protocol::Tcp, 8081),
                    (name_port, Protocol::Udp, 5353),
                ],
            ),
        ),
        ("c".into(), slice(&["10.244.2.5"], &[(web_port, Protocol::Tcp, 9090)])),
    ]
    .into();
    snapshot.slices.insert(name, slices);
    let _netds = both_nodes(&net, &snapshot);
    for (host, vip, node) in
        [(&net.a, "10.96.0.41", "192.168.56.70"), (&net.node2, "10.96.0.41", "192.168.56.71")]
    {
        for (tcp_web, tcp_admin, udp_name) in [
            (format!("{vip}:80"), format!("{vip}:8000"), format!("{vip}:80")),
            (format!("{node}:30041"), format!("{node}:30042"), format!("{node}:30041")),
        ] {
            assert_eq!(who(tcp, host, &tcp_web), names(&["b-web", "c-web"]), "{tcp_web}");
            assert_eq!(who(tcp, host, &tcp_admin), names(&["b-admin"]), "{tcp_admin}");
            assert_eq!(who(udp, host, &udp_name), names(&["b-name"]), "{udp_name}");
        }
        assert_eq!(udp(host, at(&format!("{vip}:8000"))), Outcome::Refused, "TCP only");
    }
}

/// Who is being deleted serves on only as long as nobody else does.
#[test]
fn leaving_endpoints_serve_while_there_is_nobody_else() {
    if !root() {
        return;
    }
    let net = isolated();
    let _servers =
        [serve(&net.b, "b", at("10.244.1.6:8080")), serve(&net.c, "c", at("10.244.2.5:8080"))];
    let leaving =
        |addr, serving| Endpoint { ready: false, serving, terminating: true, ..ready(addr) };
    let mut snapshot = cluster();
    let name = add(&mut snapshot, "web", web("10.96.0.42"), &[]);
    let [mut netd1, _netd2] = both_nodes(&net, &snapshot);
    let mut now = |endpoints: &[Endpoint]| {
        set_endpoints(&mut snapshot, &name, endpoints);
        netd1.sync_some(&net.node1, &snapshot, Some(&name));
    };
    let to = "10.96.0.42:80";
    now(&[ready("10.244.1.6"), leaving("10.244.2.5", true)]);
    assert_eq!(who(tcp, &net.a, to), names(&["b"]), "one stays, one leaves");
    now(&[leaving("10.244.1.6", true), leaving("10.244.2.5", true)]);
    assert_eq!(who(tcp, &net.a, to), names(&["b", "c"]), "both leave and still serve");
    now(&[leaving("10.244.1.6", false), leaving("10.244.2.5", true)]);
    assert_eq!(who(tcp, &net.a, to), names(&["c"]), "one of them has stopped serving");
    now(&[leaving("10.244.1.6", false), leaving("10.244.2.5", false)]);
    crate::assert_refused(&net.a, to, "nobody serves");
    // Not ready is not leaving: the pod has said that it does not want to be asked.
    let unready = Endpoint { ready: false, serving: false, ..ready("10.244.1.6") };
    now(std::slice::from_ref(&unready));
    crate::assert_refused(&net.a, to, "not ready");
    now(&[Endpoint { ready: true, ..unready }]);
    assert!(answered(&tcp(&net.a, at(to)), &["b"], &[]), "published although not ready");
}
