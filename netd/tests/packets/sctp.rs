//! SCTP, where the kernel has it: sockets of one association each, which read and write like TCP's.
//!
//! Both ends are bound to one address. A socket on all addresses tells the other end all of them,
//! and no translation on the way rewrites that list (RFC 5061 names the trouble); Kubernetes' own
//! documentation of SCTP has the same condition.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use netmodel::address::Protocol;
use netmodel::snapshot::{EndpointPort, Service, ServiceName, ServicePort, Snapshot};
use socket2::{Domain, Socket, Type};

use crate::cluster::{add, both_nodes, cluster, set_backends};
use crate::net::{Host, Outcome, ask, calls, failure, root, serve_stream, stream_here};
use crate::{answered, at, ip, isolated};

fn protocol() -> socket2::Protocol {
    socket2::Protocol::from(i32::from(Protocol::Sctp.number()))
}

/// Calls by SCTP from the thread's namespace.
pub(crate) fn call_here(source: Option<IpAddr>, to: SocketAddr) -> Outcome {
    match connect_here(source, to) {
        Ok(mut stream) => ask(&mut stream),
        Err(error) => failure(&error),
    }
}

fn connect_here(source: Option<IpAddr>, to: SocketAddr) -> io::Result<TcpStream> {
    let source = match source {
        Some(source) => source,
        // The address that the way there begins with.
        None => {
            let probe = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
            probe.connect(to)?;
            probe.local_addr()?.ip()
        }
    };
    stream_here(Some(source), to, protocol())
}

/// Listens on a port of a host by SCTP.
pub(crate) fn serve_sctp(host: &Host, name: &'static str, at: SocketAddr) -> crate::net::Server {
    let listener: TcpListener = host.run(move || {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(protocol()));
        let socket = socket.expect("the kernel has SCTP");
        socket.bind(&at.into()).unwrap();
        socket.listen(64).unwrap();
        socket.into()
    });
    serve_stream(name, listener)
}

fn by_sctp(snapshot: &mut Snapshot, name: &ServiceName) {
    for slice in snapshot.slices.get_mut(name).unwrap().values_mut() {
        let port = EndpointPort { name: "s".into(), protocol: Protocol::Sctp, port: 8080 };
        std::sync::Arc::make_mut(slice).ports = vec![port];
    }
}

#[test]
#[ignore = "needs SCTP sockets; run in the virtual machine"]
fn services_over_sctp() {
    assert!(root());
    let net = isolated();
    let _servers = [
        serve_sctp(&net.b, "b", at("10.244.1.6:8080")),
        serve_sctp(&net.b, "b", at("[fd44:1::6]:8080")),
        serve_sctp(&net.c, "c", at("10.244.2.5:8080")),
        serve_sctp(&net.c, "c", at("[fd44:2::5]:8080")),
    ];
    let mut snapshot = cluster();
    let doors = |n: u8| {
        move |service: &mut Service| {
            let port = 30050 + u16::from(n);
            service.cluster_ips = vec![ip(&format!("10.96.0.5{n}")), ip(&format!("fd96::5{n}"))];
            service.external_ips = vec![ip(&format!("172.30.1.5{n}"))];
            let node_port = Some(port);
            service.ports = vec![ServicePort {
                name: "s".into(),
                protocol: Protocol::Sctp,
                port: 80,
                node_port,
            }];
        }
    };
    let near = add(&mut snapshot, "near", doors(1), &["10.244.1.6", "fd44:1::6"]);
    let far = add(&mut snapshot, "far", doors(2), &["10.244.2.5", "fd44:2::5"]);
    let none = add(&mut snapshot, "none", doors(3), &[]);
    for name in [&near, &far, &none] {
        by_sctp(&mut snapshot, name);
    }
    let [mut netd1, _netd2] = both_nodes(&net, &snapshot);
    let rows: [(&Host, &str, &str, &[&str]); 12] = [
        (&net.a, "10.96.0.51:80", "b", &["10.244.1.5"]),
        (&net.a, "10.96.0.52:80", "c", &["10.244.1.5"]),
        (&net.a, "[fd96::51]:80", "b", &["fd44:1::5"]),
        (&net.a, "[fd96::52]:80", "c", &["fd44:1::5"]),
        (&net.node1, "10.96.0.51:80", "b", &[]),
        (&net.node1, "10.96.0.52:80", "c", &[]),
        (&net.node2, "10.96.0.51:80", "b", &[]),
        (&net.client, "192.168.56.70:30051", "b", &["192.168.56.10"]),
        (&net.client, "192.168.56.70:30052", "c", &["192.168.56.70"]),
        (&net.client, "[fd56::70]:30051", "b", &["fd56::10"]),
        (&net.client, "172.30.1.51:80", "b", &["192.168.56.10"]),
        (&net.client, "172.30.1.52:80", "c", &["192.168.56.70"]),
    ];
    for (host, to, by, seen) in rows {
        let outcome = calls(host, vec![(Protocol::Sctp, at(to))]).remove(0);
        assert!(answered(&outcome, &[by], seen), "{to}: {outcome:?}, wanted {by} seeing {seen:?}");
    }
    for (host, to) in [
        (&net.a, "10.96.0.53:80"),
        (&net.node1, "10.96.0.53:80"),
        (&net.client, "192.168.56.70:30053"),
    ] {
        let outcome = calls(host, vec![(Protocol::Sctp, at(to))]).remove(0);
        // Told by ICMP that the port is unreachable, which SCTP sockets only take as a hint.
        assert!(!answered(&outcome, &["b", "c"], &[]), "{to}: nobody serves: {outcome:?}");
    }

    // An association stays with its endpoint, and new ones go to the one that came.
    let to = at("10.96.0.51:80");
    let mut open = net.a.run(move || connect_here(None, to)).unwrap();
    assert!(answered(&ask(&mut open), &["b"], &[]));
    set_backends(&mut snapshot, &near, &["10.244.2.5"]);
    by_sctp(&mut snapshot, &near);
    netd1.sync_some(&net.node1, &snapshot, Some(&near));
    assert!(answered(&ask(&mut open), &["b"], &[]), "an open association drains");
    let outcome = calls(&net.a, vec![(Protocol::Sctp, to)]).remove(0);
    assert!(answered(&outcome, &["c"], &[]), "{outcome:?}");
}
