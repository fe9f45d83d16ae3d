//! The table's rules as text for `nft -f -`; its elements follow as netlink.
//!
//! A packet's mark says first which slot the client has, counted from one, then which node that is.

use std::fmt::Write;

use super::{DSCP, Layout, NodeId, SEED, SLOTS};
use crate::address::Family;
use crate::nft::render::ip;

/// The table's name; its family is `netdev`.
pub const TABLE: &str = "minictl";

/// Connections remembered at a time, in each family. What does not fit is served all the same, and
/// moves when its slot does.
const REMEMBERED: u32 = 131_072;

/// Writing to a string can't fail.
const INFALLIBLE: &str = "a string takes all text";

/// A map or set; in the kernel it exists once per family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Container {
    /// Frontend → by what its clients are spread.
    Spread,
    /// Frontend and slot → node.
    Slots,
    /// Other node → address.
    Peers,
    /// Addresses of all nodes.
    Nodes,
    /// Connection → node. The rules fill it, not us.
    Flows,
}

impl Container {
    /// All whose contents are ours to decide.
    pub const ALL: [Self; 4] = [Self::Spread, Self::Slots, Self::Peers, Self::Nodes];

    /// Its name in the kernel.
    #[must_use]
    pub fn name(self, family: Family) -> String {
        let stem = match self {
            Self::Spread => "spread",
            Self::Slots => "slots",
            Self::Peers => "peers",
            Self::Nodes => "nodes",
            Self::Flows => "flows",
        };
        format!("{stem}{}", family.digit())
    }
}

/// How long a connection is remembered after a packet of some sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Memory {
    /// Its first: as long as after the last, if no other follows. Later ones change nothing.
    Learn,
    /// Its last, or one of a protocol without an end.
    Short,
    /// In between.
    Long,
}

impl Memory {
    /// All.
    pub const ALL: [Self; 3] = [Self::Learn, Self::Short, Self::Long];

    /// The chain that does it. nft 1.0.6 has no words for its only rule: it is added as netlink.
    #[must_use]
    pub fn chain(self, family: Family) -> String {
        let stem = match self {
            Self::Learn => "learn",
            Self::Short => "remember-short",
            Self::Long => "remember-long",
        };
        format!("{stem}{}", family.digit())
    }

    /// Seconds. As the connection tracker has it for UDP and for TCP that ends; less than there for
    /// the silence of a connection that may be dead.
    #[must_use]
    pub fn seconds(self) -> u32 {
        match self {
            Self::Learn | Self::Short => 180,
            Self::Long => 43_200,
        }
    }
}

/// The chain that finds the node to whose connection an error belongs. nft has no words for its
/// only rule either: the connection is told in the packet that the error quotes.
#[must_use]
pub fn recall_error(family: Family) -> String {
    format!("recall-error{}", family.digit())
}

/// Chains that frontends lead to.
#[must_use]
pub fn chain(by_client: bool, family: Family) -> String {
    format!("by-{}{}", if by_client { "client" } else { "flow" }, family.digit())
}

/// The table without its elements; whatever was there is replaced.
#[must_use]
pub fn replace(layout: &Layout) -> String {
    let mut out = format!("add table netdev {TABLE}\ndelete table netdev {TABLE}\n");
    writeln!(out, "table netdev {TABLE} {{").expect(INFALLIBLE);
    out.push_str(&body(layout));
    out.push_str("}\n");
    out
}

/// What identifies the rules.
#[must_use]
pub fn body(layout: &Layout) -> String {
    let mut out = String::new();
    for family in Family::ALL {
        declarations(&mut out, family);
        for memory in Memory::ALL {
            writeln!(out, "\tchain {} {{\n\t}}", memory.chain(family)).expect(INFALLIBLE);
        }
        writeln!(out, "\tchain {} {{\n\t}}", recall_error(family)).expect(INFALLIBLE);
        let digit = family.digit();
        chain_of(&mut out, &format!("pass-on{digit}"), &pass_on(layout, family));
        chain_of(&mut out, &format!("errors{digit}"), &errors(family));
        chain_of(&mut out, &format!("hand-over{digit}"), &hand_over(layout, family));
        for by_client in [false, true] {
            chain_of(&mut out, &chain(by_client, family), &choose(by_client, family));
        }
    }
    let link = &layout.link;
    let mut arriving =
        vec![format!("type filter hook ingress device \"{link}\" priority 0; policy accept;")];
    // A switch that does not know where a node is shows its packets to all.
    arriving.push("meta pkttype != host accept".to_owned());
    // Only the first fragment has ports; all go the same way.
    arriving.push("ip frag-off & 0x3fff != 0 accept".to_owned());
    arriving.push("exthdr frag exists accept".to_owned());
    for family in Family::ALL {
        let map = Container::Spread.name(family);
        arriving.push(format!("{} vmap @{map}", frontend(family)));
        let types = match family {
            Family::V4 => "icmp type { destination-unreachable, time-exceeded }",
            Family::V6 => "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded }",
        };
        arriving.push(format!("{types} goto errors{}", family.digit()));
    }
    chain_of(&mut out, "arriving", &arriving);
    out
}

fn chain_of(out: &mut String, name: &str, rules: &[String]) {
    writeln!(out, "\tchain {name} {{").expect(INFALLIBLE);
    for rule in rules {
        writeln!(out, "\t\t{rule}").expect(INFALLIBLE);
    }
    out.push_str("\t}\n");
}

fn frontend(family: Family) -> String {
    format!("{} daddr . meta l4proto . th dport", ip(family))
}

/// The connection of a packet.
fn flow(family: Family) -> String {
    format!("{} saddr . th sport . {}", ip(family), frontend(family))
}

fn declarations(out: &mut String, family: Family) {
    let (ip, frontend, flow) = (ip(family), frontend(family), flow(family));
    let lines = [
        format!("map {} {{ typeof {frontend} : verdict; }}", Container::Spread.name(family)),
        format!(
            "map {} {{ typeof {frontend} . meta mark : meta mark; }}",
            Container::Slots.name(family)
        ),
        format!("map {} {{ typeof meta mark : {ip} daddr; }}", Container::Peers.name(family)),
        format!("set {} {{ typeof {ip} saddr; }}", Container::Nodes.name(family)),
        format!(
            "map {} {{ typeof {flow} : meta mark; size {REMEMBERED}; flags dynamic, timeout; }}",
            Container::Flows.name(family)
        ),
    ];
    for line in lines {
        writeln!(out, "\t{line}").expect(INFALLIBLE);
    }
}

/// The slot of a client or its connection; the rest is the same for both.
fn choose(by_client: bool, family: Family) -> Vec<String> {
    let ip = ip(family);
    let who = if by_client { format!("{ip} saddr") } else { format!("{ip} saddr . th sport") };
    vec![
        format!("meta mark set jhash {who} mod {SLOTS} seed {SEED:#x} offset 1"),
        format!("goto hand-over{}", family.digit()),
    ]
}

/// This node deals with it, and the mark is free for others again.
const AS_EVER: &str = "meta mark set 0 accept";

/// What was handed over to this node.
fn handed_over(family: Family) -> String {
    let ip = ip(family);
    format!("{ip} dscp {DSCP:#x} {ip} dscp set 0 {AS_EVER}")
}

/// To the node that the mark says.
fn pass_on(layout: &Layout, family: Family) -> Vec<String> {
    let (ip, peers) = (ip(family), Container::Peers.name(family));
    vec![
        format!("meta mark {} {AS_EVER}", layout.me),
        format!("{ip} dscp set {DSCP:#x}"),
        format!("fwd {ip} to meta mark map @{peers} device \"{}\"", layout.link),
        // That node is gone.
        format!("{ip} dscp set 0"),
        AS_EVER.to_owned(),
    ]
}

/// An error on the way back to a client (the packet was too long, say) comes to this node, and
/// concerns the one that answers.
fn errors(family: Family) -> Vec<String> {
    vec![
        handed_over(family),
        format!("jump {}", recall_error(family)),
        format!("meta mark >= {:#x} goto pass-on{}", NodeId::FIRST, family.digit()),
    ]
}

fn hand_over(layout: &Layout, family: Family) -> Vec<String> {
    let ip = ip(family);
    let mut rules = vec![handed_over(family)];
    for range in layout.cluster_cidrs.iter().filter(|net| Family::of(net.addr()) == family) {
        rules.push(format!("{ip} saddr {range} {AS_EVER}"));
    }
    let [slots, nodes, flows] = [Container::Slots, Container::Nodes, Container::Flows]
        .map(|container| container.name(family));
    let [learn, short, long] = Memory::ALL.map(|memory| memory.chain(family));
    rules.extend([
        format!("{ip} saddr @{nodes} {AS_EVER}"),
        format!("meta mark set {} . meta mark map @{slots}", frontend(family)),
        // What was chosen for the connection before wins.
        format!("meta mark set {} map @{flows}", flow(family)),
        // Nobody was chosen: the mark still says the slot.
        format!("meta mark < {:#x} {AS_EVER}", NodeId::FIRST),
        format!("meta l4proto udp jump {short}"),
        format!("tcp flags & (fin | rst) != 0 jump {short}"),
        // Not after every packet: the last is one without data, after the end was announced.
        format!("tcp flags & (fin | rst | psh) == psh jump {long}"),
        format!("meta l4proto sctp jump {long}"),
        format!("jump {learn}"),
        format!("goto pass-on{}", family.digit()),
    ]);
    rules
}
