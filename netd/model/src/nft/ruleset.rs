//! What rules of the table can say: chains, tests, actions, and the layout that shapes them.
//!
//! Rules are values with one meaning each, so that the text given to `nft`, the netlink messages
//! and the packet walk can't disagree. Which rules there are: [`crate::nft::rules`].
//!
//! Own packet mark: bit [`MARK`] says "a Service translated, or is about to translate, this
//! connection"; it is set and read while the first packet of a connection crosses the node.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::address::Family;
use crate::ipvs::Schedulers;
use crate::nft::elements::Container;
use crate::snapshot::Snapshot;

/// The packet mark's bit that is ours. Kubernetes' own kube-proxy uses 0x4000 and 0x8000.
pub const MARK: u32 = 0x0020_0000;

/// What translates addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Engine {
    /// nftables itself.
    Nftables,
    /// IPVS; the table refuses, drops and masquerades, which IPVS can't.
    Ipvs,
}

/// Everything besides Services that shapes the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// What translates addresses.
    pub engine: Engine,
    /// The link that this node's pods hang on.
    pub bridge: Arc<str>,
    /// Ranges of this node's pods; empty until the API has assigned them.
    pub pod_cidrs: Vec<IpNet>,
    /// Ranges of all pods.
    pub cluster_cidrs: Vec<IpNet>,
    /// Ranges of all cluster addresses.
    pub service_cidrs: Vec<IpNet>,
    /// Addresses of all nodes.
    pub nodes: BTreeSet<IpAddr>,
    /// Those of this node.
    pub own: BTreeSet<IpAddr>,
    /// The schedulers that IPVS can use.
    pub schedulers: Schedulers,
}

impl Layout {
    /// The layout of this node in a snapshot.
    #[must_use]
    pub fn of(snapshot: &Snapshot, engine: Engine) -> Self {
        let settings = &snapshot.settings;
        Self {
            engine,
            bridge: settings.bridge.clone(),
            pod_cidrs: snapshot.this_node().map(|n| n.pod_cidrs.clone()).unwrap_or_default(),
            cluster_cidrs: settings.cluster_cidrs.clone(),
            service_cidrs: settings.service_cidrs.clone(),
            nodes: snapshot.nodes.values().flat_map(|n| n.addresses.iter().copied()).collect(),
            own: snapshot.this_node().into_iter().flat_map(|n| n.addresses.clone()).collect(),
            schedulers: Schedulers {
                default: Some(settings.default_scheduler.clone()),
                missing: BTreeSet::new(),
            },
        }
    }

    /// Is an address with frontends virtual? Not if it is a node's: whatever else that node
    /// listens on stays reachable.
    #[must_use]
    pub fn is_virtual(&self, addr: IpAddr) -> bool {
        !self.nodes.contains(&addr)
    }

    /// Does the table translate what is sent to this address? With IPVS, only where IPVS can't:
    /// another node's address (as somebody's external address) must not become this node's own.
    #[must_use]
    pub fn translates(&self, addr: IpAddr) -> bool {
        match self.engine {
            Engine::Nftables => true,
            Engine::Ipvs => self.nodes.contains(&addr) && !self.own.contains(&addr),
        }
    }

    /// Those of some ranges that are of a family.
    pub(crate) fn ranges(list: &[IpNet], family: Family) -> Vec<IpNet> {
        list.iter().filter(|net| Family::of(net.addr()) == family).copied().collect()
    }
}

/// A way to choose a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Picker {
    /// The backends' family.
    pub family: Family,
    /// For clients outside the cluster only, from [`Container::OutsideEndpoints`].
    pub outside: bool,
    /// One of so many.
    pub count: u32,
    /// A client that is remembered gets the backend it had.
    pub sticky: bool,
}

impl Picker {
    /// The map that the backends are in.
    #[must_use]
    pub fn endpoints(&self) -> Container {
        if self.outside { Container::OutsideEndpoints } else { Container::Endpoints }
    }

    fn parse(text: &str) -> Option<Self> {
        let (outside, text) = match text.strip_prefix("-outside") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let mut parts = text.split('-');
        let family = match parts.next()? {
            "4" => Family::V4,
            "6" => Family::V6,
            _ => return None,
        };
        let count = parts.next()?.parse().ok()?;
        let sticky = match parts.next() {
            Some("sticky") => true,
            Some(_) => return None,
            None => false,
        };
        parts.next().is_none().then_some(Self { family, outside, count, sticky })
    }
}

impl fmt::Display for Picker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outside = if self.outside { "-outside" } else { "" };
        write!(f, "{outside}{}-{}", self.family.digit(), self.count)?;
        if self.sticky { f.write_str("-sticky") } else { Ok(()) }
    }
}

/// A chain that others go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChainName {
    /// Marks the connection, recalls what the client had, else picks a backend.
    Pick(Picker),
    /// Sees what was picked for whom, and finds out whether that is to be remembered.
    Learn,
    /// Remembers it for so many seconds after the client's last connection. A memory of a backend
    /// that went is void from that moment: what it leads to is dropped, and the client, which
    /// tries again, is given another.
    Remember(u32),
    /// Marks the connection as ours and leaves translation to IPVS.
    Served,
    /// Refuses.
    Refuse,
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pick(picker) => write!(f, "pick{picker}"),
            Self::Learn => f.write_str("learn"),
            Self::Remember(seconds) => write!(f, "remember-{seconds}s"),
            Self::Served => f.write_str("served"),
            Self::Refuse => f.write_str("refuse"),
        }
    }
}

impl ChainName {
    /// The chain of a name in the kernel.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "served" => Some(Self::Served),
            "refuse" => Some(Self::Refuse),
            "learn" => Some(Self::Learn),
            _ => match name.strip_prefix("remember-") {
                Some(rest) => rest.strip_suffix('s')?.parse().ok().map(Self::Remember),
                None => Picker::parse(name.strip_prefix("pick")?).map(Self::Pick),
            },
        }
    }
}

/// Where the kernel calls a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// Every packet that arrives.
    Prerouting,
    /// Packets for the node itself.
    Input,
    /// Packets that pass through.
    Forward,
    /// Packets that the node sends.
    Output,
    /// Every packet that leaves.
    Postrouting,
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
        })
    }
}

/// What the kernel calls a chain for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Sees every packet.
    Filter,
    /// Sees the first packet of each connection; what it decides holds for all others.
    Nat,
}

/// A chain that the kernel calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseChain {
    /// Its name.
    pub name: &'static str,
    /// What it is called for.
    pub purpose: Purpose,
    /// Where it is called.
    pub hook: Hook,
    /// When, among the chains of one hook; the smallest first.
    pub priority: i32,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// One rule: when all tests hold, act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The only family it sees; `None` for both.
    pub family: Option<Family>,
    /// All must hold.
    pub tests: Vec<Test>,
    /// What it does.
    pub action: Action,
}

/// Whether a test wants membership or its absence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Is {
    /// Member.
    In,
    /// No member.
    NotIn,
}

/// A group of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Group {
    /// Ranges written into the rule; never empty.
    Ranges(Vec<IpNet>),
    /// A set of addresses.
    Set(Container),
}

/// A condition on a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// The packet opens a connection.
    Opens,
    /// The packet bears our mark.
    Marked,
    /// It came in through this link.
    Through(Arc<str>),
    /// Its source is (not) in a group.
    Source(Is, Group),
    /// Its destination is (not) in a group.
    Destination(Is, Group),
    /// Its destination is in [`Container::Restricted`], and its source not admitted there.
    NotAdmitted,
    /// Its destination is a frontend of a set.
    Calls(Container),
    /// Its source is a frontend of a set.
    Answers(Container),
    /// Its source is its destination, a backend of this node.
    CalledItself,
    /// Its destination was translated.
    Translated,
    /// It was translated to what no client of the called frontend may keep ([`Container::Kept`]): a
    /// memory that outlived its backend.
    NotKept,
    /// It is TCP.
    Tcp,
    /// It tells a host behind this link to use another router.
    RedirectTo(Arc<str>),
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Look up the frontend in a verdict map and do what it says, if it says something.
    Lookup(Container),
    /// Set our mark.
    Mark,
    /// Have the kernel not remember the connection.
    Untrack,
    /// Translate the destination to a random one of so many slots of a map.
    Translate(Container, u32),
    /// Translate to the backend that is remembered for the client, if one is.
    Recall,
    /// Look up, in [`Container::Sticky`], the frontend that the client called before translation.
    LookupCalled,
    /// Remember for so many seconds where the client's call was translated to.
    Remember(u32),
    /// Forget what is remembered for the client.
    Forget,
    /// Translate the source to an address of this node.
    Masquerade,
    /// Go on in another chain, and don't come back.
    Goto(ChainName),
    /// Answer with a TCP reset.
    Reset,
    /// Answer with ICMP port unreachable.
    Unreachable,
    /// Discard.
    Drop,
}

/// All rules that do not depend on Services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    /// In the order in which they are written.
    pub base_chains: Vec<BaseChain>,
}
