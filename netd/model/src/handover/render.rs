//! The table's rules as text for `nft -f -`; its elements follow as netlink.
//!
//! A packet's mark says which node is remembered for its connection; if none is, first which slot
//! the client has, counted from one, then which node that is.

use std::collections::BTreeSet;
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
    /// The same for clients that are new, where the slot's node is not heard.
    StandIns,
    /// Other node → address.
    Peers,
    /// Addresses of all nodes.
    Nodes,
    /// Other nodes that are not heard.
    Silent,
    /// Connection → node. The rules fill it, not us.
    Flows,
}

impl Container {
    /// All whose contents are ours to decide.
    pub const ALL: [Self; 6] =
        [Self::Spread, Self::Slots, Self::StandIns, Self::Peers, Self::Nodes, Self::Silent];

    /// Its name in the kernel.
    #[must_use]
    pub fn name(self, family: Family) -> String {
        let stem = match self {
            Self::Spread => "spread",
            Self::Slots => "slots",
            Self::StandIns => "stand-ins",
            Self::Peers => "peers",
            Self::Nodes => "nodes",
            Self::Silent => "silent",
            Self::Flows => "flows",
        };
        format!("{stem}{}", family.digit())
    }
}

/// A chain whose only rule nft 1.0.6 has no words for: it is added as netlink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Special {
    /// Remembers the node that the mark says for the packet's connection.
    Remember(Memory),
    /// Forgets which node the connection has.
    Forget,
    /// Finds the node to whose connection an error belongs, which is told in the packet that the
    /// error quotes.
    RecallError,
}

impl Special {
    /// All.
    pub const ALL: [Self; 5] = [
        Self::Remember(Memory::Learn),
        Self::Remember(Memory::Short),
        Self::Remember(Memory::Long),
        Self::Forget,
        Self::RecallError,
    ];

    /// The chain's name in the kernel.
    #[must_use]
    pub fn chain(self, family: Family) -> String {
        let stem = match self {
            Self::Remember(Memory::Learn) => "learn",
            Self::Remember(Memory::Short) => "remember-short",
            Self::Remember(Memory::Long) => "remember-long",
            Self::Forget => "forget",
            Self::RecallError => "recall-error",
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

/// Chains that frontends lead to.
#[must_use]
pub fn chain(by_client: bool, family: Family) -> String {
    format!("by-{}{}", if by_client { "client" } else { "flow" }, family.digit())
}

/// The table without its elements; whatever was there is replaced, and what was remembered is
/// forgotten.
#[must_use]
pub fn replace(layout: &Layout) -> String {
    format!("add table netdev {TABLE}\ndelete table netdev {TABLE}\n{}", table(&body(layout)))
}

/// Gives a table that is there these rules in one transaction, and deletes `leftover`, chains that
/// it is not to have, or not like that. What is remembered stays, and so do the other elements and
/// the chains that nft has no words for.
#[must_use]
pub fn refill(layout: &Layout, leftover: &BTreeSet<String>) -> String {
    let chains = chains(layout);
    let mut out = String::new();
    for name in leftover {
        writeln!(out, "flush chain netdev {TABLE} {name}").expect(INFALLIBLE);
    }
    for name in leftover {
        writeln!(out, "delete chain netdev {TABLE} {name}").expect(INFALLIBLE);
    }
    // All are there before one of them goes to another.
    let mut empty = declarations();
    for Chain { name, hook, .. } in &chains {
        writeln!(empty, "\tchain {name} {{ {hook} }}").expect(INFALLIBLE);
    }
    out.push_str(&table(&empty));
    for Chain { name, .. } in &chains {
        writeln!(out, "flush chain netdev {TABLE} {name}").expect(INFALLIBLE);
    }
    let mut rules = String::new();
    chains.iter().for_each(|chain| chain.write(&mut rules));
    out.push_str(&table(&rules));
    out
}

/// The names of all chains that the table is to have.
#[must_use]
pub fn chain_names(layout: &Layout) -> BTreeSet<String> {
    let special = Family::ALL.into_iter().flat_map(|family| Special::ALL.map(|s| s.chain(family)));
    chains(layout).into_iter().map(|chain| chain.name).chain(special).collect()
}

/// What identifies the rules.
#[must_use]
pub fn body(layout: &Layout) -> String {
    let mut out = declarations();
    for family in Family::ALL {
        for special in Special::ALL {
            writeln!(out, "\tchain {} {{\n\t}}", special.chain(family)).expect(INFALLIBLE);
        }
    }
    chains(layout).iter().for_each(|chain| chain.write(&mut out));
    out
}

fn table(body: &str) -> String {
    format!("table netdev {TABLE} {{\n{body}}}\n")
}

/// A chain in nft's words.
struct Chain {
    name: String,
    /// Where packets come in by themselves; empty where others send them.
    hook: String,
    rules: Vec<String>,
}

impl Chain {
    fn of(name: String, rules: Vec<String>) -> Self {
        Self { name, hook: String::new(), rules }
    }

    fn write(&self, out: &mut String) {
        writeln!(out, "\tchain {} {{", self.name).expect(INFALLIBLE);
        for line in [&self.hook].into_iter().filter(|hook| !hook.is_empty()).chain(&self.rules) {
            writeln!(out, "\t\t{line}").expect(INFALLIBLE);
        }
        out.push_str("\t}\n");
    }
}

/// The chains that nft has words for, each after those that it goes to.
fn chains(layout: &Layout) -> Vec<Chain> {
    let mut out = Vec::new();
    for family in Family::ALL {
        let digit = family.digit();
        out.extend([
            Chain::of(format!("pass-on{digit}"), pass_on(layout, family)),
            Chain::of(format!("errors{digit}"), errors(family)),
            Chain::of(format!("remember{digit}"), remember(family)),
            Chain::of(format!("anew{digit}"), anew(family)),
            Chain::of(format!("recall{digit}"), recall(layout, family)),
            Chain::of(format!("hand-over{digit}"), hand_over(family)),
        ]);
        let choices = [false, true];
        out.extend(choices.map(|who| Chain::of(chain(who, family), choose(who, family))));
    }
    out.push(arriving(&layout.link));
    out
}

/// The chain that packets come in by.
pub const ARRIVING: &str = "arriving";

fn arriving(link: &str) -> Chain {
    let mut rules = vec![
        // A switch that does not know where a node is shows its packets to all.
        "meta pkttype != host accept".to_owned(),
        // Only the first fragment has ports; all go the same way.
        "ip frag-off & 0x3fff != 0 accept".to_owned(),
        "exthdr frag exists accept".to_owned(),
    ];
    for family in Family::ALL {
        let map = Container::Spread.name(family);
        rules.push(format!("{} vmap @{map}", frontend(family)));
        let types = match family {
            Family::V4 => "icmp type { destination-unreachable, time-exceeded }",
            Family::V6 => "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded }",
        };
        rules.push(format!("{types} goto errors{}", family.digit()));
    }
    let hook = format!("type filter hook ingress device \"{link}\" priority 0; policy accept;");
    Chain { name: ARRIVING.to_owned(), hook, rules }
}

fn frontend(family: Family) -> String {
    format!("{} daddr . meta l4proto . th dport", ip(family))
}

/// The connection of a packet.
fn flow(family: Family) -> String {
    format!("{} saddr . th sport . {}", ip(family), frontend(family))
}

fn declarations() -> String {
    let mut out = String::new();
    for family in Family::ALL {
        for line in declared(family) {
            writeln!(out, "\t{line}").expect(INFALLIBLE);
        }
    }
    out
}

fn declared(family: Family) -> [String; 7] {
    let (ip, frontend, flow) = (ip(family), frontend(family), flow(family));
    let by_slot = format!("typeof {frontend} . meta mark : meta mark;");
    [
        format!("map {} {{ typeof {frontend} : verdict; }}", Container::Spread.name(family)),
        format!("map {} {{ {by_slot} }}", Container::Slots.name(family)),
        format!("map {} {{ {by_slot} }}", Container::StandIns.name(family)),
        format!("map {} {{ typeof meta mark : {ip} daddr; }}", Container::Peers.name(family)),
        format!("set {} {{ typeof {ip} saddr; }}", Container::Nodes.name(family)),
        format!("set {} {{ typeof meta mark; }}", Container::Silent.name(family)),
        format!(
            "map {} {{ typeof {flow} : meta mark; size {REMEMBERED}; flags dynamic, timeout; }}",
            Container::Flows.name(family)
        ),
    ]
}

/// The way of a client's packet: what is remembered of its connection, or else the slot of the
/// client or the connection.
fn choose(by_client: bool, family: Family) -> Vec<String> {
    let (ip, digit) = (ip(family), family.digit());
    let who = if by_client { format!("{ip} saddr") } else { format!("{ip} saddr . th sport") };
    vec![
        format!("jump recall{digit}"),
        format!("meta mark set jhash {who} mod {SLOTS} seed {SEED:#x} offset 1"),
        format!("goto hand-over{digit}"),
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
        format!("jump {}", Special::RecallError.chain(family)),
        format!("meta mark >= {:#x} goto pass-on{}", NodeId::FIRST, family.digit()),
    ]
}

/// A packet begins a connection, or is of a protocol whose packets do not tell.
const MAY_BEGIN: [&str; 2] = ["tcp flags & (syn | ack) == syn", "meta l4proto != tcp"];

/// Returns to who is new here; what is known goes its way.
fn recall(layout: &Layout, family: Family) -> Vec<String> {
    let (ip, digit) = (ip(family), family.digit());
    let mut rules = vec![handed_over(family)];
    for range in layout.cluster_cidrs.iter().filter(|net| Family::of(net.addr()) == family) {
        rules.push(format!("{ip} saddr {range} {AS_EVER}"));
    }
    let [nodes, flows, silent] = [Container::Nodes, Container::Flows, Container::Silent]
        .map(|container| container.name(family));
    rules.extend([
        format!("{ip} saddr @{nodes} {AS_EVER}"),
        "meta mark set 0".to_owned(),
        format!("meta mark set {} map @{flows}", flow(family)),
    ]);
    rules.extend(MAY_BEGIN.map(|begins| format!("{begins} meta mark @{silent} goto anew{digit}")));
    rules.push(format!("meta mark >= {:#x} goto remember{digit}", NodeId::FIRST));
    rules
}

/// A client begins a connection, perhaps for the second time, or sends another datagram, and the
/// node that was chosen for it is not heard: another is to be.
fn anew(family: Family) -> Vec<String> {
    vec![format!("jump {}", Special::Forget.chain(family)), "meta mark set 0".to_owned()]
}

/// From the slot to the node.
fn hand_over(family: Family) -> Vec<String> {
    let [slots, stand_ins] =
        [Container::Slots, Container::StandIns].map(|container| container.name(family));
    let by_slot = format!("meta mark set {} . meta mark map", frontend(family));
    // What goes on belongs to the slot's own node, and only another node remembered that.
    let mut rules = MAY_BEGIN.map(|begins| format!("{begins} {by_slot} @{stand_ins}")).to_vec();
    rules.extend([
        format!("meta mark < {:#x} {by_slot} @{slots}", NodeId::FIRST),
        // Nobody was chosen: the mark still says the slot.
        format!("meta mark < {:#x} {AS_EVER}", NodeId::FIRST),
        format!("goto remember{}", family.digit()),
    ]);
    rules
}

/// A connection goes to the node that the mark says, from now on or still.
fn remember(family: Family) -> Vec<String> {
    let [learn, short, long] = [Memory::Learn, Memory::Short, Memory::Long]
        .map(|memory| Special::Remember(memory).chain(family));
    vec![
        format!("meta l4proto udp jump {short}"),
        format!("tcp flags & (fin | rst) != 0 jump {short}"),
        // Not after every packet: the last is one without data, after the end was announced.
        format!("tcp flags & (fin | rst | psh) == psh jump {long}"),
        format!("meta l4proto sctp jump {long}"),
        format!("jump {learn}"),
        format!("goto pass-on{}", family.digit()),
    ]
}
