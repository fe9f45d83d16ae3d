//! The table of packet walks (`netmodel::cases`), with real packets: the same clusters, the same
//! packets, the same outcomes, through the engine under test.
//!
//! Only node 1 has a data plane here, because that is whose walks the table tells; node 2 is no
//! more than a router to it. Left out: packets of a client that was there before, which tests of
//! affinity make, and those from link-local addresses, which nobody could answer.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use netmodel::address::{Backend, Protocol};
use netmodel::cases::{self, Row, world};
use netmodel::dataplane::Dataplane;
use netmodel::ipvs;
use netmodel::nft::{self, Engine, Layout};
use netmodel::packet::{From, Outcome as Walked, Packet};
use netmodel::snapshot::Snapshot;

use crate::cluster::Netd;
use crate::net::{self, Call, Host, Net, Outcome, Server, calls_from, serve};
use crate::{engine, ip, isolated, sctp};

/// How many times a client calls where several endpoints may answer: the chance that one of three
/// is never drawn is one in ten million.
const CALLS: usize = 40;

#[test]
fn the_table_of_walks_holds_for_real_packets() {
    if net::root() {
        hold(&[Protocol::Tcp, Protocol::Udp]);
    }
}

#[test]
#[ignore = "needs SCTP sockets; run in the virtual machine"]
fn the_table_of_walks_holds_for_real_packets_over_sctp() {
    assert!(net::root());
    hold(&[Protocol::Sctp]);
}

fn hold(protocols: &[Protocol]) {
    let net = isolated();
    node_2_is_a_router(&net);
    let mut netd = Netd::new(&net.node1, "node-1", engine());
    let mut walked = 0;
    let mut broken = Vec::new();
    for case in cases::all() {
        let rows: Vec<Row> = case.rows.iter().copied().filter(|r| real(r, protocols)).collect();
        if rows.is_empty() {
            continue;
        }
        netd.sync(&net.node1, &case.snapshot);
        let walks = Walks::of(&case.snapshot);
        let rows: Vec<(Row, Vec<Walked>)> =
            rows.into_iter().map(|row| (row, walks.possible(row.packet))).collect();
        let locals: BTreeSet<IpAddr> =
            case.snapshot.locals().flat_map(|(_, service)| service.local_addresses()).collect();
        let hosts = Hosts { net: &net, locals };
        let _addresses = hosts.borrow(&rows);
        let _servers = hosts.listen(&rows);
        walked += rows.len();
        for ((row, possible), outcomes) in rows.iter().zip(outcomes(&net, &rows)) {
            if let Some(breach) = breach(row, possible, &outcomes) {
                broken.push(format!("{}: {row:?}: {breach}", case.name));
            }
        }
    }
    assert!(broken.is_empty(), "{} of {walked} rows:\n{}", broken.len(), broken.join("\n"));
    assert!(walked > 4, "there is a table");
}

fn real(row: &Row, protocols: &[Protocol]) -> bool {
    let link_local = matches!(row.packet.source, IpAddr::V6(a) if a.is_unicast_link_local());
    protocols.contains(&row.packet.to.protocol) && !link_local && row.packet.remembers.is_none()
}

fn node_2_is_a_router(net: &Net) {
    net.node2.write("/proc/sys/net/ipv4/ip_forward", "1");
    net.node2.write("/proc/sys/net/ipv4/conf/all/send_redirects", "0");
    net.node2.write("/proc/sys/net/ipv6/conf/all/forwarding", "1");
    net.node2.ip("route replace default via 192.168.56.70");
    net.node2.ip("-6 route replace default via fd56::70");
    for network in ["10.96.0.0/12", "fd96::/108", "fd30::/16"] {
        let gateway = if network.contains(':') { "fd56::70" } else { "192.168.56.70" };
        net.client.ip(&format!("route add {network} via {gateway}"));
    }
}

/// The host that a packet starts from.
fn client<'a>(net: &'a Net, packet: &Packet) -> &'a Host {
    let is = |texts: [&str; 2]| texts.iter().any(|text| ip(text) == packet.source);
    match packet.from {
        From::Node => &net.node1,
        From::Pod if is(["10.244.1.6", "fd44:1::6"]) => &net.b,
        From::Pod => &net.a,
        From::Network if is(["192.168.56.71", "fd56::71"]) => &net.node2,
        From::Network if is(["10.244.2.5", "fd44:2::5"]) => &net.c,
        From::Network => &net.client,
    }
}

/// Who has which address in a case.
struct Hosts<'a> {
    net: &'a Net,
    /// Those that the data plane binds on node 1.
    locals: BTreeSet<IpAddr>,
}

/// Addresses that hosts have for one case only.
struct Borrowed<'a>(Vec<(&'a Host, IpAddr)>);

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        for (host, addr) in &self.0 {
            host.ip(&format!("address del {} dev eth0", with_prefix(*addr)));
        }
    }
}

fn with_prefix(addr: IpAddr) -> String {
    // Whole addresses: a range would be a route.
    format!("{addr}/{}", if addr.is_ipv4() { 32 } else { 128 })
}

/// The places that packets may be delivered to.
fn places(rows: &[(Row, Vec<Walked>)]) -> BTreeSet<(Backend, bool)> {
    let each = rows.iter().flat_map(|(row, possible)| possible.iter().map(move |w| (row, w)));
    each.filter_map(|(row, walked)| match walked {
        Walked::Delivered { to, .. } => Some((*to, row.packet.to.protocol == Protocol::Sctp)),
        Walked::Refused | Walked::Dropped => None,
    })
    .collect()
}

impl<'a> Hosts<'a> {
    /// The host that has an address, or is given it.
    fn owner(&self, addr: IpAddr) -> &'a Host {
        let (net, text) = (self.net, addr.to_string());
        let begins = |prefixes: [&str; 2]| prefixes.iter().any(|prefix| text.starts_with(prefix));
        match text.as_str() {
            "10.244.1.5" | "fd44:1::5" => &net.a,
            "192.168.56.70" | "fd56::70" => &net.node1,
            "192.168.56.71" | "fd56::71" => &net.node2,
            _ if self.locals.contains(&addr) => &net.node1,
            _ if begins(["10.244.1.", "fd44:1::"]) => &net.b,
            _ if begins(["10.244.2.", "fd44:2::"]) => &net.c,
            _ => &net.client,
        }
    }

    /// Gives clients the addresses they speak from, and servers those they are called at.
    fn borrow(&self, rows: &[(Row, Vec<Walked>)]) -> Borrowed<'a> {
        let mut borrowed = Borrowed(Vec::new());
        let clients =
            rows.iter().map(|(row, _)| (client(self.net, &row.packet), row.packet.source));
        let servers = places(rows).into_iter().map(|(to, _)| (self.owner(to.addr), to.addr));
        for (host, addr) in clients.chain(servers) {
            if !host.ip("-o address").contains(&format!(" {addr}/")) {
                let nodad = if addr.is_ipv4() { "" } else { " nodad" };
                host.ip(&format!("address add {} dev eth0{nodad}", with_prefix(addr)));
                borrowed.0.push((host, addr));
            }
        }
        borrowed
    }

    /// Somebody listens wherever a packet may be delivered, and says where that is.
    fn listen(&self, rows: &[(Row, Vec<Walked>)]) -> Vec<Server> {
        let serve_at = |(to, by_sctp): (Backend, bool)| {
            let address = SocketAddr::new(to.addr, to.port);
            let name: &'static str = address.to_string().leak();
            let host = self.owner(to.addr);
            if by_sctp { sctp::serve_sctp(host, name, address) } else { serve(host, name, address) }
        };
        places(rows).into_iter().map(serve_at).collect()
    }
}

/// What becomes of the packets of all rows, those of one client at the same time.
fn outcomes(net: &Net, rows: &[(Row, Vec<Walked>)]) -> Vec<Vec<Outcome>> {
    let mut out: Vec<Vec<Outcome>> = vec![Vec::new(); rows.len()];
    for host in [&net.a, &net.b, &net.c, &net.node1, &net.node2, &net.client] {
        let mut calls = Vec::new();
        let mut rows_of_calls = Vec::new();
        for (index, (Row { packet, .. }, possible)) in rows.iter().enumerate() {
            if !std::ptr::eq(client(net, packet), host) {
                continue;
            }
            let call = Call {
                protocol: packet.to.protocol,
                // A node speaks from the address that its routes say.
                source: (packet.from != From::Node).then_some(packet.source),
                to: SocketAddr::new(packet.to.addr, packet.to.port),
            };
            let repeat = if possible.len() > 1 { CALLS } else { 1 };
            calls.extend(vec![call; repeat]);
            rows_of_calls.extend(vec![index; repeat]);
        }
        for (index, outcome) in rows_of_calls.into_iter().zip(calls_from(host, calls)) {
            out[index].push(outcome);
        }
    }
    out
}

/// What became of a packet otherwise than the table says.
fn breach(row: &Row, possible: &[Walked], outcomes: &[Outcome]) -> Option<String> {
    let wrong = outcomes.iter().find(|o| !possible.iter().any(|w| is(row.packet, w, o)));
    let happened = outcomes.iter().any(|outcome| is(row.packet, &row.outcome, outcome));
    match wrong {
        Some(outcome) => Some(format!("{outcome:?}")),
        None => (!happened).then(|| "never happened".to_owned()),
    }
}

/// Is this what the walk says?
fn is(packet: Packet, walked: &Walked, outcome: &Outcome) -> bool {
    match (walked, outcome) {
        (Walked::Refused, Outcome::Refused) | (Walked::Dropped, Outcome::Silence) => true,
        // SCTP sockets take a port that is unreachable for no more than a hint.
        (Walked::Refused, Outcome::Silence) => packet.to.protocol == Protocol::Sctp,
        (Walked::Delivered { to, masqueraded, .. }, Outcome::Answer(name, seen)) => {
            let own = ["192.168.56.70", "10.244.1.1", "fd56::70", "fd44:1::1"].map(ip);
            let by_node = *masqueraded || packet.from == From::Node;
            // A node that calls an address of its own speaks from it.
            let itself = packet.from == From::Node && *seen == to.addr;
            *name == SocketAddr::new(to.addr, to.port).to_string()
                && if by_node { own.contains(seen) || itself } else { *seen == packet.source }
        }
        _ => false,
    }
}

/// The state of the engine under test, to be walked.
struct Walks<'a> {
    snapshot: &'a Snapshot,
    table: nft::State,
    servers: Option<ipvs::State>,
}

impl<'a> Walks<'a> {
    fn of(snapshot: &'a Snapshot) -> Self {
        let plane = Dataplane::of(snapshot);
        let servers = (engine() == Engine::Ipvs)
            .then(|| ipvs::State::desired(&Layout::of(snapshot, Engine::Ipvs), &plane));
        let table =
            nft::State::desired(&Layout::of(snapshot, Engine::Nftables), &plane, &BTreeSet::new());
        Self { snapshot, table, servers }
    }

    /// What may become of a packet, whatever the dice say.
    fn possible(&self, packet: Packet) -> Vec<Walked> {
        let place = world::place(self.snapshot);
        let mut out = Vec::new();
        for random in 0..12 {
            let packet = Packet { random, ..packet };
            let walk = match &self.servers {
                None => nft::walk::walk(&self.table, &place, packet),
                Some(servers) => ipvs::walk(servers, &place, packet),
            };
            if !out.contains(&walk.outcome) {
                out.push(walk.outcome);
            }
        }
        out
    }
}
