//! Handing over: clients outside the cluster whose packets come to one node, and pods on three.
//!
//! Who announces the address is not at stake here: the client's route says to which node its packets
//! go, and is changed by hand when that node dies.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use netmodel::snapshot::{Node, Service, Snapshot};

use crate::cluster::{Netd, add, cluster, set_backends};
use crate::net::{
    Host, Outcome, Server, ask, connect, patience, root, serve, tcp, udp, udp_ask, udp_socket,
};
use crate::{answered, at, engine, ip};

const VIP: &str = "203.0.113.9";
const VIP6: &str = "2001:db8:2::9";
/// The client's last byte.
const CLIENT: u8 = 10;

/// Three nodes with a pod each, and a client, on one switch.
struct Three {
    nodes: [Host; 3],
    pods: [Host; 3],
    client: Host,
    switch: Host,
}

impl Three {
    fn new() -> Self {
        let switch = Host::new();
        switch.ip("link add br0 type bridge");
        switch.ip("link set br0 up");
        let nodes = [1, 2, 3].map(|n| on_switch(&switch, &format!("n{n}"), 69 + n));
        let client = on_switch(&switch, "client", CLIENT);
        let pods = [1, 2, 3].map(|n| pod(&nodes[usize::from(n) - 1], n));
        let three = Self { nodes, pods, client, switch };
        three.reach_by(1);
        three
    }

    /// Makes a node the one that the client's packets for the addresses go to.
    fn reach_by(&self, node: u8) {
        self.client.ip(&format!("route replace {VIP} via 192.168.56.{}", 69 + node));
        self.client.ip(&format!("route replace {VIP6} via fd56::{}", 69 + node));
    }

    fn serve(&self) -> Vec<Server> {
        let pods = self.pods.iter().zip([("one", 1), ("two", 2), ("three", 3)]);
        pods.flat_map(|(pod, (name, n))| {
            [format!("10.244.{n}.5:8080"), format!("[fd44:{n}::5]:8080")]
                .map(|addr| serve(pod, name, at(&addr)))
        })
        .collect()
    }

    fn netds(&self, snapshot: &Snapshot) -> [Netd; 3] {
        let names = ["node-1", "node-2", "node-3"];
        let mut netds = [0, 1, 2].map(|n| Netd::new(&self.nodes[n], names[n], engine()));
        self.sync(&mut netds, snapshot);
        netds
    }

    /// Nodes 1 and 3 do not hear node 2 any more. Nothing tells node 2.
    fn falls_silent(&self, netds: &mut [Netd; 3], snapshot: &mut Snapshot) {
        snapshot.silent.insert("node-2".into());
        self.hear(netds, snapshot);
    }

    /// Nodes 1 and 3 hear others than before.
    fn hear(&self, netds: &mut [Netd; 3], snapshot: &Snapshot) {
        for netd in [0, 2] {
            let node = &self.nodes[netd];
            assert!(netds[netd].sync_silence(node, snapshot).writes > 0);
            let again = netds[netd].sync_silence(node, snapshot);
            assert_eq!((again.writes, again.repaired), (0, vec![]), "nothing changed since");
        }
    }

    fn sync(&self, netds: &mut [Netd; 3], snapshot: &Snapshot) {
        for (netd, node) in netds.iter_mut().zip(&self.nodes) {
            netd.sync(node, snapshot);
        }
    }
}

fn on_switch(switch: &Host, port: &str, last: u8) -> Host {
    let host = Host::new();
    switch.cable(port, &host, "eth0");
    switch.ip(&format!("link set {port} master br0"));
    host.ip(&format!("address add 192.168.56.{last}/24 dev eth0"));
    host.ip(&format!("address add fd56::{last}/64 dev eth0 nodad"));
    if last != CLIENT {
        // So that there is somewhere to send what is not translated; nobody there forwards it.
        host.ip("route add default via 192.168.56.10");
        host.ip("route add default via fd56::10");
    }
    // As on machines: what comes in must come by the link that answers leave by.
    host.write("/proc/sys/net/ipv4/conf/all/rp_filter", "1");
    host.write("/proc/sys/net/ipv4/conf/eth0/rp_filter", "1");
    host
}

fn pod(node: &Host, n: u8) -> Host {
    node.ip("link add mini0 type bridge");
    node.ip(&format!("address add 10.244.{n}.1/24 dev mini0"));
    node.ip(&format!("address add fd44:{n}::1/64 dev mini0 nodad"));
    node.ip("link set mini0 up");
    let pod = Host::new();
    node.cable("pod", &pod, "eth0");
    node.ip("link set pod master mini0");
    pod.ip(&format!("address add 10.244.{n}.5/32 dev eth0"));
    pod.ip(&format!("route add 10.244.{n}.1 dev eth0"));
    pod.ip(&format!("route add default via 10.244.{n}.1"));
    pod.ip(&format!("address add fd44:{n}::5/128 dev eth0 nodad"));
    pod.ip(&format!("route add fd44:{n}::1 dev eth0"));
    pod.ip(&format!("route add default via fd44:{n}::1"));
    pod
}

fn three_nodes() -> Snapshot {
    let mut snapshot = cluster();
    let node = Node {
        addresses: vec![ip("192.168.56.72"), ip("fd56::72")],
        pod_cidrs: vec!["10.244.3.0/24".parse().unwrap(), "fd44:3::/64".parse().unwrap()],
        zone: None,
    };
    snapshot.nodes.insert("node-3".into(), Arc::new(node));
    snapshot
}

fn balanced(service: &mut Service) {
    service.cluster_ips = vec![ip("10.96.0.11"), ip("fd96::11")];
    service.load_balancer_ips = vec![ip(VIP), ip(VIP6)];
}

const EVERYWHERE: [&str; 6] =
    ["10.244.1.5", "10.244.2.5", "10.244.3.5", "fd44:1::5", "fd44:2::5", "fd44:3::5"];

/// The addresses that a client may be seen by: only its own.
fn own(to: &str) -> [&'static str; 1] {
    if to.starts_with('[') { ["fd56::10"] } else { ["192.168.56.10"] }
}

/// Open connections, by the pod that answers.
type Open = BTreeMap<String, Vec<TcpStream>>;

/// Opens connections until every pod has some.
fn open(client: &Host, to: &str, want: usize) -> Open {
    let mut open = Open::new();
    for _ in 0..200 {
        let mut stream = connect(client, at(to));
        let outcome = ask(&mut stream);
        let Outcome::Answer(name, seen) = outcome else { panic!("{to}: {outcome:?}") };
        assert_eq!(seen, own(to)[0].parse::<IpAddr>().unwrap(), "{name} sees the client itself");
        open.entry(name).or_default().push(stream);
        if open.len() == 3 && open.values().all(|streams| streams.len() >= want) {
            return open;
        }
    }
    panic!("{to}: {:?}", open.iter().map(|(n, s)| (n, s.len())).collect::<Vec<_>>());
}

/// Longer than a client waits before it asks for a connection for the third time.
const PATIENT: Duration = Duration::from_secs(6);

/// Begins a connection and asks; in the end, how long that took.
fn begin(client: &Host, to: SocketAddr) -> JoinHandle<(Duration, Outcome)> {
    client.run(move || {
        // A thread is where its parent is.
        std::thread::spawn(move || {
            let began = Instant::now();
            let outcome = match TcpStream::connect_timeout(&to, PATIENT) {
                Ok(mut stream) => ask(&mut stream),
                Err(_) => Outcome::Silence,
            };
            (began.elapsed(), outcome)
        })
    })
}

/// Every connection goes on, at the pod it was at.
#[track_caller]
fn go_on(open: &mut Open, but: &[&str], when: &str) {
    for (name, streams) in open.iter_mut().filter(|(name, _)| !but.contains(&name.as_str())) {
        for stream in streams {
            let outcome = ask(stream);
            assert!(answered(&outcome, &[name], &[]), "{when}: {name}: {outcome:?}");
        }
    }
}

#[test]
fn connections_outlive_the_node_that_their_packets_came_to() {
    if !root() {
        return;
    }
    let net = Three::new();
    let _servers = net.serve();
    let mut snapshot = three_nodes();
    add(&mut snapshot, "web", balanced, &EVERYWHERE);
    let _netds = net.netds(&snapshot);
    let mut by_4 = open(&net.client, &format!("{VIP}:80"), 3);
    let mut by_6 = open(&net.client, &format!("[{VIP6}]:80"), 3);
    // Node 1 dies, and another is announced.
    net.switch.ip("link set n1 down");
    // The switch shows its packets to all others now, whose business they are not.
    let outcome = tcp(&net.client, at(&format!("{VIP}:80")));
    assert_eq!(outcome, Outcome::Silence, "nobody deals with what was sent to another");
    net.reach_by(3);
    go_on(&mut by_4, &["one"], "by another node");
    go_on(&mut by_6, &["one"], "by another node");
    // Nobody but the pod's own node ever remembered them.
    let tracked = net.nodes[2].command("conntrack", "-L -f ipv4 -p tcp");
    assert!(!tracked.contains("10.244.2.5"), "{tracked}");
}

#[test]
fn a_connection_stays_where_it_is_when_endpoints_come_and_go() {
    if !root() {
        return;
    }
    let net = Three::new();
    let _servers = net.serve();
    let mut snapshot = three_nodes();
    let name = add(&mut snapshot, "web", balanced, &EVERYWHERE);
    let mut netds = net.netds(&snapshot);
    let to = format!("{VIP}:80");
    let mut open = open(&net.client, &to, 3);
    for backends in [&["10.244.3.5"][..], &["10.244.1.5", "10.244.3.5"], &[], &EVERYWHERE] {
        set_backends(&mut snapshot, &name, backends);
        for (netd, node) in netds.iter_mut().zip(&net.nodes) {
            netd.sync_some(node, &snapshot, Some(&name));
        }
        go_on(&mut open, &[], &format!("{backends:?}"));
        let expected: &[&str] = match backends.len() {
            0 => &[],
            1 => &["three"],
            2 => &["one", "three"],
            _ => &["one", "two", "three"],
        };
        for _ in 0..10 {
            let outcome = tcp(&net.client, at(&to));
            let fits = match expected {
                [] => outcome == Outcome::Refused,
                names => answered(&outcome, names, &own(&to)),
            };
            assert!(fits, "{backends:?}: {outcome:?}");
        }
    }
    // A restart of netd, and a look at everything, leave the memory alone.
    set_backends(&mut snapshot, &name, &["10.244.3.5"]);
    net.sync(&mut netds, &snapshot);
    drop(netds);
    let _netds = net.netds(&snapshot);
    go_on(&mut open, &[], "after a restart");
}

#[test]
fn while_a_node_is_silent_others_get_who_calls_and_it_keeps_whom_it_has() {
    if !root() {
        return;
    }
    let net = Three::new();
    let _servers = net.serve();
    let mut snapshot = three_nodes();
    add(&mut snapshot, "web", balanced, &EVERYWHERE);
    let mut netds = net.netds(&snapshot);
    let mut by_4 = open(&net.client, &format!("{VIP}:80"), 3);
    let mut by_6 = open(&net.client, &format!("[{VIP6}]:80"), 3);
    net.falls_silent(&mut netds, &mut snapshot);
    for node in [1, 3] {
        net.reach_by(node);
        let when = format!("while node 2 is silent, by node {node}");
        go_on(&mut by_4, &[], &when);
        go_on(&mut by_6, &[], &when);
        for to in [format!("{VIP}:80"), format!("[{VIP6}]:80")] {
            for _ in 0..20 {
                for outcome in [tcp(&net.client, at(&to)), udp(&net.client, at(&to))] {
                    assert!(
                        answered(&outcome, &["one", "three"], &own(&to)),
                        "{when}: {outcome:?}"
                    );
                }
            }
        }
    }
    // It speaks again, before anybody else knew.
    snapshot.silent.clear();
    net.hear(&mut netds, &snapshot);
    for netd in [0, 2] {
        assert_eq!(netds[netd].sync(&net.nodes[netd], &snapshot).writes, 0, "all is as it was");
    }
    open(&net.client, &format!("{VIP}:80"), 1);
}

#[test]
fn a_socket_for_datagrams_leaves_the_node_that_fell_silent() {
    if !root() {
        return;
    }
    let net = Three::new();
    let _servers = net.serve();
    let mut snapshot = three_nodes();
    add(&mut snapshot, "web", balanced, &EVERYWHERE);
    let mut netds = net.netds(&snapshot);
    let at_node_2 = |to: String| {
        let mut sockets = (0..200).map(|_| udp_socket(&net.client, at(&to)));
        let found = sockets.find(|socket| udp_ask(socket).name() == "two");
        found.expect("node 2 gets somebody")
    };
    let sockets = [format!("{VIP}:80"), format!("[{VIP6}]:80")].map(at_node_2);
    net.switch.ip("link set n2 down");
    for socket in &sockets {
        assert_eq!(udp_ask(socket), Outcome::Silence, "nobody knows it yet");
    }
    net.falls_silent(&mut netds, &mut snapshot);
    let now_at = sockets.each_ref().map(|socket| {
        let outcome = udp_ask(socket);
        assert!(answered(&outcome, &["one", "three"], &[]), "{outcome:?}");
        outcome.name()
    });
    // Who serves them now is remembered like any other choice.
    net.switch.ip("link set n2 up");
    snapshot.silent.clear();
    net.hear(&mut netds, &snapshot);
    for (socket, name) in sockets.iter().zip(&now_at) {
        assert_eq!(udp_ask(socket).name(), *name, "it stays, though node 2 is back");
    }
}

#[test]
fn who_called_a_node_that_just_died_is_served_when_it_calls_again() {
    if !root() {
        return;
    }
    let net = Three::new();
    let _servers = net.serve();
    let mut snapshot = three_nodes();
    add(&mut snapshot, "web", balanced, &EVERYWHERE);
    let mut netds = net.netds(&snapshot);
    net.switch.ip("link set n2 down");
    // Nobody knows it yet: a third of them is handed over to node 2.
    let begun: Vec<_> = [format!("{VIP}:80"), format!("[{VIP6}]:80")]
        .iter()
        .flat_map(|to| (0..12).map(|_| begin(&net.client, at(to))).collect::<Vec<_>>())
        .collect();
    let asked = Instant::now();
    while begun.iter().filter(|call| call.is_finished()).count() == 0 {
        assert!(asked.elapsed() < PATIENT, "nobody is served");
        std::thread::yield_now();
    }
    net.falls_silent(&mut netds, &mut snapshot);
    let mut late = 0;
    for call in begun {
        let (took, outcome) = call.join().expect("a call ends");
        assert!(answered(&outcome, &["one", "three"], &[]), "after {took:?}: {outcome:?}");
        late += u32::from(took > Duration::from_millis(900));
    }
    assert!(late > 0, "nobody was sent to node 2, and nothing was tried");
}

#[test]
fn connections_outlive_a_change_of_the_rules() {
    if !root() {
        return;
    }
    let net = Three::new();
    let _servers = net.serve();
    let mut snapshot = three_nodes();
    let name = add(&mut snapshot, "web", balanced, &EVERYWHERE);
    let mut netds = net.netds(&snapshot);
    let mut by_4 = open(&net.client, &format!("{VIP}:80"), 2);
    let mut by_6 = open(&net.client, &format!("[{VIP6}]:80"), 2);
    // From now on only what is remembered leads to the pods of nodes 1 and 2.
    set_backends(&mut snapshot, &name, &["10.244.3.5", "fd44:3::5"]);
    net.sync(&mut netds, &snapshot);
    let mut go_on = |when: &str| {
        go_on(&mut by_4, &[], when);
        go_on(&mut by_6, &[], when);
    };
    go_on("when endpoints went");
    snapshot.settings.cluster_cidrs.push("10.99.0.0/16".parse().unwrap());
    assert!(netds[0].sync(&net.nodes[0], &snapshot).writes > 0);
    go_on("when there is another range of pods");
    for damage in [
        "flush chain netdev minictl recall4",
        "flush chain netdev minictl remember-long6",
        "add chain netdev minictl foreign; add rule netdev minictl foreign counter",
        "delete chain netdev minictl seal",
    ] {
        let _ = net.nodes[0].command("nft", damage);
        assert!(netds[0].sync(&net.nodes[0], &snapshot).writes > 0, "{damage}");
        go_on(damage);
        assert_eq!(netds[0].sync(&net.nodes[0], &snapshot).writes, 0, "{damage}: repaired");
    }
    let rules = net.nodes[0].command("nft", "list table netdev minictl");
    assert!(rules.contains("10.99.0.0/16") && !rules.contains("foreign"), "{rules}");
}

#[test]
fn connections_outlive_a_move_of_the_node_s_address_to_another_link() {
    if !root() {
        return;
    }
    let net = Three::new();
    let _servers = net.serve();
    let mut snapshot = three_nodes();
    add(&mut snapshot, "web", balanced, &EVERYWHERE);
    let mut netds = net.netds(&snapshot);
    let mut by_4 = open(&net.client, &format!("{VIP}:80"), 2);
    let node = &net.nodes[0];
    net.switch.cable("n1b", node, "eth1");
    net.switch.ip("link set n1b master br0");
    node.write("/proc/sys/net/ipv4/conf/eth1/rp_filter", "1");
    node.ip("address flush dev eth0");
    node.ip("address add 192.168.56.70/24 dev eth1");
    node.ip("address add fd56::70/64 dev eth1 nodad");
    node.ip("route add default via 192.168.56.10");
    net.client.ip("neigh flush all");
    netds[0].sync(node, &snapshot);
    let rules = node.command("nft", "list chain netdev minictl arriving");
    assert!(rules.contains("eth1") && !rules.contains("eth0"), "{rules}");
    go_on(&mut by_4, &["one"], "by another link");
    assert_eq!(netds[0].sync(node, &snapshot).writes, 0);
}

#[test]
fn one_client_s_datagrams_and_affinity_stay_together() {
    if !root() {
        return;
    }
    let net = Three::new();
    let _servers = net.serve();
    let mut snapshot = three_nodes();
    add(&mut snapshot, "web", balanced, &EVERYWHERE);
    let sticky = |service: &mut Service| {
        service.cluster_ips = vec![ip("10.96.0.12")];
        service.load_balancer_ips = vec![ip(VIP)];
        service.ports.iter_mut().for_each(|port| port.port = 81);
        service.affinity_seconds = Some(60);
    };
    add(&mut snapshot, "sticky", sticky, &EVERYWHERE);
    let _netds = net.netds(&snapshot);
    let socket = udp_socket(&net.client, at(&format!("{VIP}:80")));
    let first = udp_ask(&socket).name();
    net.reach_by(3);
    for _ in 0..5 {
        assert_eq!(udp_ask(&socket).name(), first, "the same socket, by whatever node");
    }
    let kept = tcp(&net.client, at(&format!("{VIP}:81"))).name();
    for node in [1, 2, 3, 1] {
        net.reach_by(node);
        for _ in 0..5 {
            assert_eq!(tcp(&net.client, at(&format!("{VIP}:81"))).name(), kept, "node {node}");
        }
    }
}

#[test]
fn source_ranges_hold_and_who_is_inside_is_served_where_it_is() {
    if !root() {
        return;
    }
    let net = Three::new();
    let _servers = net.serve();
    let mut snapshot = three_nodes();
    let closed = |service: &mut Service| {
        balanced(service);
        service.source_ranges = vec!["192.168.56.128/25".parse().unwrap()];
    };
    let name = add(&mut snapshot, "web", closed, &EVERYWHERE);
    let mut netds = net.netds(&snapshot);
    let to = at(&format!("{VIP}:80"));
    for _ in 0..6 {
        assert_eq!(tcp(&net.client, to), Outcome::Silence, "not admitted, by whatever node");
    }
    add(&mut snapshot, "web", balanced, &EVERYWHERE);
    for (netd, node) in netds.iter_mut().zip(&net.nodes) {
        netd.sync_some(node, &snapshot, Some(&name));
    }
    for _ in 0..6 {
        let outcome = tcp(&net.pods[0], to);
        assert!(
            answered(
                &outcome,
                &["one", "two", "three"],
                &["10.244.1.5", "10.244.1.1", "192.168.56.70"]
            ),
            "a pod: {outcome:?}"
        );
        for outcome in [tcp(&net.client, to), udp(&net.client, to)] {
            assert!(
                answered(&outcome, &["one", "two", "three"], &["192.168.56.10"]),
                "{outcome:?}"
            );
        }
    }
}

#[test]
fn what_is_broken_is_repaired_and_nothing_is_left_in_the_end() {
    if !root() {
        return;
    }
    let net = Three::new();
    let _servers = net.serve();
    let mut snapshot = three_nodes();
    let name = add(&mut snapshot, "web", balanced, &EVERYWHERE);
    let mut netds = net.netds(&snapshot);
    let node = &net.nodes[0];
    assert_eq!(netds[0].sync(node, &snapshot).writes, 0, "nothing to do");
    // A person can read it, although nft has no words for some of it.
    let listing = node.command("nft", "list table netdev minictl");
    assert!(listing.contains("chain hand-over6"), "{listing}");
    let damages = [
        "nft delete table netdev minictl",
        "nft flush chain netdev minictl hand-over4",
        "nft flush map netdev minictl slots4",
        "nft flush chain netdev minictl remember-long6",
    ];
    for damage in damages {
        let (program, args) = damage.split_once(' ').unwrap();
        node.command(program, args);
        let report = netds[0].sync(node, &snapshot);
        assert!(!report.repaired.is_empty(), "{damage}: told");
        assert_eq!(netds[0].sync(node, &snapshot).writes, 0, "{damage}: repaired");
        open(&net.client, &format!("{VIP}:80"), 1);
    }
    snapshot.services.remove(&name);
    netds[0].sync_some(node, &snapshot, Some(&name));
    let tables = node.command("nft", "list tables");
    assert!(!tables.contains("netdev"), "{tables}");
}

/// What a pod sends at once, so that its packets are as large as its link allows.
const LARGE: usize = 200_000;

/// Sends a lot to everybody who connects.
fn send_much(pod: &Host, addr: SocketAddr) {
    let listener = pod.run(move || TcpListener::bind(addr).unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // Who gave up is not told.
            drop(stream.and_then(|mut stream| stream.write_all(&[b'x'; LARGE])));
        }
    });
}

/// How much of it arrives.
fn receive(host: &Host, to: SocketAddr) -> usize {
    let mut stream = connect(host, to);
    stream.set_read_timeout(Some(4 * patience())).unwrap();
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => all.len(),
        Err(error) => panic!("{to}: {error} after {} bytes", all.len()),
    }
}

#[test]
fn a_router_s_word_that_a_packet_is_too_long_gets_to_the_pod_that_sent_it() {
    if !root() {
        return;
    }
    let net = Three::new();
    // Behind the client is another, and the way there is narrower than both think.
    let far = Host::new();
    net.client.cable("far", &far, "eth0");
    net.client.ip("link set far mtu 1300");
    for (here, there, network) in
        [("10.9.9.1/24", "10.9.9.9/24", "10.9.9.0/24"), ("fd99::1/64", "fd99::9/64", "fd99::/64")]
    {
        let nodad = if here.contains(':') { " nodad" } else { "" };
        net.client.ip(&format!("address add {here} dev far{nodad}"));
        far.ip(&format!("address add {there} dev eth0{nodad}"));
        let gateway = here.split('/').next().unwrap();
        far.ip(&format!("route add default via {gateway}"));
        for node in &net.nodes {
            let by = if here.contains(':') { "fd56::10" } else { "192.168.56.10" };
            node.ip(&format!("route add {network} via {by}"));
        }
    }
    net.client.write("/proc/sys/net/ipv4/ip_forward", "1");
    net.client.write("/proc/sys/net/ipv6/conf/all/forwarding", "1");
    let mut snapshot = three_nodes();
    // Nobody on the node that packets come to.
    add(&mut snapshot, "web", balanced, &["10.244.2.5", "fd44:2::5"]);
    send_much(&net.pods[1], at("10.244.2.5:8080"));
    send_much(&net.pods[1], at("[fd44:2::5]:8080"));
    let _netds = net.netds(&snapshot);
    for to in [format!("{VIP}:80"), format!("[{VIP6}]:80")] {
        assert_eq!(receive(&far, at(&to)), LARGE, "{to}");
    }
}
