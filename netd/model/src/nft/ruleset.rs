//! The rules of the table: a handful, the same at ten Services and at ten thousand.
//!
//! Rules are values with one meaning each, so that the text given to `nft` and the packet walk
//! can't disagree. Invariant: the ruleset depends on the [`Layout`] alone, never on Services.
//!
//! Own packet mark: bit [`MARK`] says "a Service translated, or is about to translate, this
//! connection"; it is set and read while the first packet of a connection crosses the node.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::address::Family;
use crate::nft::elements::{Container, Elements, Value, Verdict};
use crate::snapshot::Snapshot;

/// The packet mark's bit that is ours. Kubernetes' own kube-proxy uses 0x4000 and 0x8000.
pub const MARK: u32 = 0x0020_0000;

/// Chains for so many backends are there from the start; larger ones are added when needed.
const READY_PICKERS: u32 = 8;

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

    fn ranges(list: &[IpNet], family: Family) -> Vec<IpNet> {
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
    /// Remembers it for so many seconds after the client's last connection.
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
    /// Its source is its destination, a backend of this node.
    CalledItself,
    /// Its destination was translated.
    Translated,
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
    /// Translate the destination to a random one of so many slots of a map.
    Translate(Container, u32),
    /// Translate to the backend that is remembered for the client, if one is.
    Recall,
    /// Look up, in [`Container::Sticky`], the frontend that the client called before translation.
    LookupCalled,
    /// Remember for so many seconds where the client's call was translated to.
    Remember(u32),
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

/// The rules of a chain that others go to.
#[must_use]
pub fn chain_rules(name: ChainName) -> Vec<Rule> {
    let rule = |family, tests, action| Rule { family, tests, action };
    match name {
        ChainName::Pick(picker) => {
            let family = Some(picker.family);
            let mut rules = Vec::new();
            // Backends for clients outside are here, and the client's address must be kept.
            if !picker.outside {
                rules.push(rule(family, vec![], Action::Mark));
            }
            if picker.sticky {
                rules.push(rule(family, vec![], Action::Recall));
            }
            let translate = Action::Translate(picker.endpoints(), picker.count);
            rules.push(rule(family, vec![], translate));
            rules
        }
        ChainName::Learn => both_families(Action::LookupCalled),
        ChainName::Remember(seconds) => both_families(Action::Remember(seconds)),
        ChainName::Served => vec![rule(None, vec![], Action::Mark)],
        ChainName::Refuse => vec![
            rule(None, vec![Test::Tcp], Action::Reset),
            rule(None, vec![], Action::Unreachable),
        ],
    }
}

fn both_families(action: Action) -> Vec<Rule> {
    Family::ALL.map(|family| on(family, vec![], action.clone())).to_vec()
}

/// The chains for numbers of backends that the elements go to, and those that are always there.
#[must_use]
pub fn pickers(layout: &Layout, elements: &Elements) -> BTreeSet<ChainName> {
    let mut out: BTreeSet<ChainName> =
        [ChainName::Served, ChainName::Refuse, ChainName::Learn].into();
    if layout.engine == Engine::Nftables {
        out.extend(Family::ALL.into_iter().flat_map(|family| {
            (1..=READY_PICKERS).map(move |count| {
                ChainName::Pick(Picker { family, outside: false, count, sticky: false })
            })
        }));
    }
    out.extend(elements.0.values().filter_map(|value| match value {
        Value::Verdict(Verdict::Goto(chain), _) => Some(*chain),
        _ => None,
    }));
    out
}

/// The rules for a layout.
#[must_use]
pub fn build(layout: &Layout) -> Ruleset {
    let chain = |name, purpose, hook, priority, rules: &dyn Fn(Family) -> Vec<Rule>| BaseChain {
        name,
        purpose,
        hook,
        priority,
        rules: Family::ALL.into_iter().flat_map(rules).collect(),
    };
    let filter = Purpose::Filter;
    Ruleset {
        base_chains: vec![
            chain("check-source", filter, Hook::Prerouting, -300, &|f| check_source(layout, f)),
            chain("admit", filter, Hook::Prerouting, -110, &|f| {
                vec![on(f, vec![Test::Opens, Test::NotAdmitted], Action::Drop)]
            }),
            chain("translate-arriving", Purpose::Nat, Hook::Prerouting, -100, &|f| {
                translate_arriving(layout, f)
            }),
            chain("translate-own", Purpose::Nat, Hook::Output, -100, &|f| {
                vec![on(f, vec![], Action::Lookup(Container::Services))]
            }),
            BaseChain { name: "learn-arriving", hook: Hook::Prerouting, ..learning() },
            BaseChain { name: "learn-own", hook: Hook::Output, ..learning() },
            chain("refuse-to-node", filter, Hook::Input, 0, &|f| refuse_to_node(layout, f)),
            chain("refuse-passing", filter, Hook::Forward, 0, &|f| refuse_unserved(layout, f)),
            chain("refuse-own", filter, Hook::Output, 0, &|f| {
                [redirects(layout, f), refuse_unserved(layout, f)].concat()
            }),
            chain("translate-source", Purpose::Nat, Hook::Postrouting, 100, &|f| {
                masquerade(layout, f)
            }),
        ],
    }
}

fn on(family: Family, tests: Vec<Test>, action: Action) -> Rule {
    Rule { family: Some(family), tests, action }
}

/// A pod may only use addresses of this node's range.
fn check_source(layout: &Layout, family: Family) -> Vec<Rule> {
    let mut allowed = Layout::ranges(&layout.pod_cidrs, family);
    if allowed.is_empty() {
        return Vec::new();
    }
    if family == Family::V6 {
        // Neighbour discovery speaks from link-local addresses, and from :: before it has one.
        allowed.extend(["fe80::/10", "::/128"].map(|net| net.parse::<IpNet>().expect("a range")));
    }
    let tests =
        vec![Test::Through(layout.bridge.clone()), Test::Source(Is::NotIn, Group::Ranges(allowed))];
    vec![on(family, tests, Action::Drop)]
}

/// Right after translation, when the packet already says where it goes.
fn learning() -> BaseChain {
    let tests = vec![Test::Opens, Test::Translated];
    BaseChain {
        name: "learn",
        purpose: Purpose::Filter,
        hook: Hook::Prerouting,
        priority: -90,
        rules: vec![Rule { family: None, tests, action: Action::Goto(ChainName::Learn) }],
    }
}

/// Two pods of one node share a link and still must talk through the node, or answers would go
/// past the translation. IPv6 has no setting that keeps the kernel from telling them otherwise.
fn redirects(layout: &Layout, family: Family) -> Vec<Rule> {
    match family {
        Family::V4 => vec![],
        Family::V6 => {
            vec![on(family, vec![Test::RedirectTo(layout.bridge.clone())], Action::Drop)]
        }
    }
}

fn translate_arriving(layout: &Layout, family: Family) -> Vec<Rule> {
    let cluster = Layout::ranges(&layout.cluster_cidrs, family);
    let outside = match cluster.is_empty() {
        true => vec![],
        false => vec![Test::Source(Is::NotIn, Group::Ranges(cluster))],
    };
    vec![
        on(family, outside, Action::Lookup(Container::Outside)),
        on(family, vec![], Action::Lookup(Container::Services)),
    ]
}

fn refuse_to_node(layout: &Layout, family: Family) -> Vec<Rule> {
    let mut rules = vec![on(family, vec![Test::Opens], Action::Lookup(Container::Unserved))];
    if layout.engine == Engine::Ipvs {
        // Virtual addresses are the node's own here: without this, every port that the node
        // itself listens on would answer at every one of them.
        let virtual_address = Test::Destination(Is::In, Group::Set(Container::Vips));
        rules.push(on(family, vec![Test::Opens], Action::Lookup(Container::Services)));
        let tests = vec![Test::Opens, virtual_address];
        rules.push(on(family, tests, Action::Goto(ChainName::Refuse)));
    }
    rules
}

/// What still bears a service address here was not translated.
fn refuse_unserved(layout: &Layout, family: Family) -> Vec<Rule> {
    let to_vip = Test::Destination(Is::In, Group::Set(Container::Vips));
    let mut rules = vec![
        on(family, vec![Test::Opens], Action::Lookup(Container::Unserved)),
        on(family, vec![Test::Opens, to_vip], Action::Goto(ChainName::Refuse)),
    ];
    let service_range = Layout::ranges(&layout.service_cidrs, family);
    if !service_range.is_empty() {
        let unassigned = Test::Destination(Is::In, Group::Ranges(service_range));
        rules.push(on(family, vec![Test::Opens, unassigned], Action::Drop));
    }
    rules
}

fn masquerade(layout: &Layout, family: Family) -> Vec<Rule> {
    let here = Layout::ranges(&layout.pod_cidrs, family);
    let not_here = |test: fn(Is, Group) -> Test| match here.is_empty() {
        true => None,
        false => Some(test(Is::NotIn, Group::Ranges(here.clone()))),
    };
    // The answer of a backend elsewhere must come back through this node to be translated back.
    // A pod of this node is reached through it anyway.
    let mut passing = vec![Test::Marked];
    passing.extend(not_here(Test::Source));
    passing.extend(not_here(Test::Destination));
    let mut rules = vec![
        on(family, vec![Test::Marked, Test::CalledItself], Action::Masquerade),
        on(family, passing, Action::Masquerade),
    ];
    if layout.engine == Engine::Ipvs {
        // The node itself speaks from the virtual address that it speaks to.
        let from_vip = Test::Source(Is::In, Group::Set(Container::Vips));
        rules.push(on(family, vec![Test::Marked, from_vip], Action::Masquerade));
    }
    if !here.is_empty() {
        let elsewhere = |ranges: &[IpNet]| match Layout::ranges(ranges, family) {
            list if list.is_empty() => None,
            list => Some(Test::Destination(Is::NotIn, Group::Ranges(list))),
        };
        let mut leaving = vec![Test::Source(Is::In, Group::Ranges(here.clone()))];
        leaving.extend(not_here(Test::Destination));
        leaving.extend(elsewhere(&layout.cluster_cidrs));
        leaving.extend(elsewhere(&layout.service_cidrs));
        leaving.push(Test::Destination(Is::NotIn, Group::Set(Container::Nodes)));
        rules.push(on(family, leaving, Action::Masquerade));
    }
    rules
}
