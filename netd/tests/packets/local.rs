//! Services that a process of each node answers: somebody listens at their addresses on the node
//! itself, and everybody reaches exactly that.

use netmodel::address::Protocol;
use netmodel::snapshot::{ByNode, Service, ServicePort, Snapshot};

use crate::cluster::{Netd, add, cluster};
use crate::net::{Host, Net, Outcome, Server, root, serve, tcp};
use crate::{answered, assert_refused, at, both, engine, ip, isolated};

/// The cluster's DNS: port 53, of both families, not tracked.
fn dns(service: &mut Service) {
    let port = |name: &str, protocol| ServicePort {
        name: name.into(),
        protocol,
        port: 53,
        node_port: None,
    };
    service.ports = vec![port("dns", Protocol::Udp), port("dns-tcp", Protocol::Tcp)];
    service.cluster_ips = vec![ip("10.96.0.10"), ip("fd96::a")];
    service.by_node = Some(ByNode { untracked: true });
}

/// A web server with an address of the nodes' network, as a pool would give it.
fn ingress(service: &mut Service) {
    service.ports.retain(|port| port.protocol == Protocol::Tcp);
    service.cluster_ips = vec![ip("10.96.0.20"), ip("fd96::20")];
    service.load_balancer_ips = vec![ip("192.168.56.200"), ip("fd56::200")];
    service.by_node = Some(ByNode { untracked: false });
}

fn both_kinds() -> Snapshot {
    let mut snapshot = cluster();
    add(&mut snapshot, "dns", dns, &[]);
    add(&mut snapshot, "ingress", ingress, &[]);
    snapshot
}

/// Somebody at each of these addresses of node 1, and on every address of the node at port 22.
fn listeners(node: &Host, at_these: &[&str]) -> Vec<Server> {
    let mut servers: Vec<Server> =
        at_these.iter().map(|text| serve(node, "local", at(text))).collect();
    servers.push(serve(node, "host", at("0.0.0.0:22")));
    servers
}

fn bound(net: &Net) -> String {
    net.node1.ip("-o address show dev mini-local0")
}

#[test]
fn a_process_of_the_node_answers_everybody_and_no_other_port_is_open() {
    if !root() {
        return;
    }
    let net = isolated();
    let snapshot = both_kinds();
    let mut netd = Netd::new(&net.node1, "node-1", engine());
    netd.sync(&net.node1, &snapshot);
    let _servers = listeners(
        &net.node1,
        &["10.96.0.10:53", "[fd96::a]:53", "10.96.0.20:80", "192.168.56.200:80", "[fd56::200]:80"],
    );
    // What would be announced in life: node 1 is the way to the addresses, and to the cluster's.
    net.client.ip("route add 10.96.0.0/12 via 192.168.56.70");
    net.client.ip("route add fd96::/108 via fd56::70");
    net.client.ip("route add 192.168.56.200 via 192.168.56.70");
    net.client.ip("route add fd56::200 via fd56::70");
    for (host, who, seen) in [
        (&net.a, "a pod", ["10.244.1.5", "fd44:1::5"]),
        (&net.client, "outside", ["192.168.56.10", "fd56::10"]),
    ] {
        for to in ["10.96.0.10:53", "[fd96::a]:53", "192.168.56.200:80", "[fd56::200]:80"] {
            let outcome = tcp(host, at(to));
            assert!(answered(&outcome, &["local"], &seen), "{who}: {to}: {outcome:?}");
        }
        for outcome in both(host, "10.96.0.10:53") {
            assert!(answered(&outcome, &["local"], &seen), "{who}: {outcome:?}");
        }
        assert_refused(host, "10.96.0.10:22", who);
        assert_refused(host, "192.168.56.200:22", who);
    }
    for to in ["10.96.0.10:53", "[fd96::a]:53", "192.168.56.200:80"] {
        let outcome = tcp(&net.node1, at(to));
        assert!(answered(&outcome, &["local"], &[]), "the node: {to}: {outcome:?}");
    }
    assert_refused(&net.node1, "10.96.0.10:22", "the node");
    // At the node's own address, its port is open as ever.
    let outcome = tcp(&net.client, at("192.168.56.70:22"));
    assert!(answered(&outcome, &["host"], &[]), "{outcome:?}");
}

#[test]
fn dns_leaves_nothing_in_the_connection_tracker() {
    if !root() {
        return;
    }
    let net = isolated();
    let mut netd = Netd::new(&net.node1, "node-1", engine());
    netd.sync(&net.node1, &both_kinds());
    let _servers = listeners(&net.node1, &["10.96.0.10:53", "[fd96::a]:53", "10.96.0.20:80"]);
    for host in [&net.a, &net.node1] {
        for to in ["10.96.0.10:53", "[fd96::a]:53"] {
            for outcome in both(host, to) {
                assert!(answered(&outcome, &["local"], &[]), "{to}: {outcome:?}");
            }
        }
    }
    let tracked = |family: &str| net.node1.command("conntrack", &format!("-L -f {family}"));
    let all = tracked("ipv4") + &tracked("ipv6");
    assert!(!all.contains("port=53 "), "{all}");
    // What is not DNS is remembered: the test would see it.
    let outcome = tcp(&net.a, at("10.96.0.20:80"));
    assert!(answered(&outcome, &["local"], &[]), "{outcome:?}");
    assert!(tracked("ipv4").contains("dst=10.96.0.20"), "{}", tracked("ipv4"));
}

#[test]
fn the_kernel_does_not_speak_for_an_address_that_all_nodes_have_bound() {
    if !root() {
        return;
    }
    let net = isolated();
    let mut snapshot = both_kinds();
    let balanced = |service: &mut Service| {
        service.cluster_ips = vec![ip("10.96.0.30")];
        service.load_balancer_ips = vec![ip("192.168.56.201")];
    };
    add(&mut snapshot, "web", balanced, &["10.244.1.6"]);
    let mut netd = Netd::new(&net.node1, "node-1", engine());
    netd.sync(&net.node1, &snapshot);
    let _servers = listeners(&net.node1, &["192.168.56.200:80", "[fd56::200]:80"]);
    for to in ["192.168.56.200:80", "192.168.56.201:80", "[fd56::200]:80"] {
        let outcome = tcp(&net.client, at(to));
        let nobody = [Outcome::Silence, Outcome::Unreachable];
        assert!(nobody.contains(&outcome), "nobody says whose {to} is: {outcome:?}");
    }
    let setting = "/proc/sys/net/ipv4/conf/eth0/arp_ignore";
    net.node1.write(setting, "0");
    let report = netd.audit(&net.node1, &snapshot);
    let repaired: Vec<String> = report.repaired.iter().map(ToString::to_string).collect();
    assert!(repaired.iter().any(|r| r.contains("eth0.arp_ignore")), "{repaired:?}");
    assert_eq!(net.node1.command("cat", setting).trim(), "1");
}

#[test]
fn addresses_come_and_go_with_the_service_and_come_back_when_deleted() {
    if !root() {
        return;
    }
    let net = isolated();
    let mut snapshot = cluster();
    let mut netd = Netd::new(&net.node1, "node-1", engine());
    netd.sync(&net.node1, &snapshot);
    assert!(!net.node1.ip("-o link").contains("mini-local0"), "not before it is needed");
    let name = add(&mut snapshot, "ingress", ingress, &[]);
    netd.sync_some(&net.node1, &snapshot, Some(&name));
    for addr in ["10.96.0.20/32", "192.168.56.200/32", "fd96::20/128", "fd56::200/128"] {
        assert!(bound(&net).contains(addr), "{addr}: {}", bound(&net));
    }
    assert_eq!(netd.sync(&net.node1, &snapshot).writes, 0, "nothing to do");

    net.node1.ip("address del 192.168.56.200/32 dev mini-local0");
    let report = netd.sync(&net.node1, &snapshot);
    let repaired: Vec<String> = report.repaired.iter().map(ToString::to_string).collect();
    assert_eq!(repaired, ["address 192.168.56.200 was deleted from mini-local0"]);
    assert!(bound(&net).contains("192.168.56.200/32"));

    // An address that the node has itself stays where it is.
    net.node1.ip("address add 192.168.56.202/24 dev eth0");
    let more = |service: &mut Service| {
        ingress(service);
        service.load_balancer_ips = vec![ip("192.168.56.202")];
    };
    add(&mut snapshot, "ingress", more, &[]);
    netd.sync_some(&net.node1, &snapshot, Some(&name));
    assert!(!bound(&net).contains("192.168.56.20"), "{}", bound(&net));

    snapshot.services.remove(&name);
    netd.sync_some(&net.node1, &snapshot, Some(&name));
    assert!(!net.node1.ip("-o link").contains("mini-local0"), "nothing is left");
    assert!(net.node1.ip("-o address show dev eth0").contains("192.168.56.202/24"));
}
