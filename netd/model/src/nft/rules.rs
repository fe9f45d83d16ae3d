//! The rules of the table: a handful, the same at ten Services and at ten thousand.
//!
//! Invariant: base chains depend on the [`Layout`] alone, never on Services; what they do with a
//! packet, maps and sets say.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::address::Family;
use crate::nft::elements::{Container, Elements, Value, Verdict};
use crate::nft::ruleset::{
    Action, BaseChain, ChainName, Engine, Group, Hook, Is, Layout, Picker, Purpose, Rule, Ruleset,
    Test,
};

/// Chains for so many backends are there from the start; larger ones are added when needed.
const READY_PICKERS: u32 = 8;

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
        ChainName::Remember(seconds) => Family::ALL
            .into_iter()
            .flat_map(|family| {
                [
                    rule(Some(family), vec![Test::NotKept], Action::Forget),
                    rule(Some(family), vec![Test::NotKept], Action::Drop),
                    rule(Some(family), vec![], Action::Remember(seconds)),
                ]
            })
            .collect(),
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
    let mut base_chains = vec![
        chain("check-source", filter, Hook::Prerouting, -300, &|f| check_source(layout, f)),
        chain("untrack-arriving", filter, Hook::Prerouting, -300, &|f| {
            vec![on(f, vec![Test::Calls(Container::Untracked)], Action::Untrack)]
        }),
        chain("untrack-own", filter, Hook::Output, -300, &|f| {
            [Test::Calls, Test::Answers]
                .map(|test| on(f, vec![test(Container::Untracked)], Action::Untrack))
                .to_vec()
        }),
        chain("admit", filter, Hook::Prerouting, -110, &|f| {
            vec![on(f, vec![Test::Opens, Test::NotAdmitted], Action::Drop)]
        }),
        chain("translate-arriving", Purpose::Nat, Hook::Prerouting, -100, &|f| {
            translate_arriving(layout, f)
        }),
        chain("refuse-own-first", filter, Hook::Output, -105, &|f| refuse_before_ipvs(layout, f)),
        chain("translate-own", Purpose::Nat, Hook::Output, -100, &|f| {
            [vec![on(f, vec![], Action::Lookup(Container::Services))], mark(layout, f)].concat()
        }),
        BaseChain { name: "learn-arriving", hook: Hook::Prerouting, ..learning() },
        BaseChain { name: "learn-own", hook: Hook::Output, ..learning() },
        chain("refuse-to-node", filter, Hook::Input, 0, &|f| refuse_to_node(f)),
        chain("refuse-passing", filter, Hook::Forward, 0, &|f| refuse_unserved(layout, f)),
        chain("refuse-own", filter, Hook::Output, 0, &|f| {
            [redirects(layout, f), let_in(f), refuse_unserved(layout, f)].concat()
        }),
        chain("translate-source", Purpose::Nat, Hook::Postrouting, 100, &|f| masquerade(layout, f)),
    ];
    base_chains.retain(|chain| !chain.rules.is_empty());
    Ruleset { base_chains }
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
    let mut rules = vec![
        on(family, outside, Action::Lookup(Container::Outside)),
        on(family, vec![], Action::Lookup(Container::Services)),
    ];
    rules.extend(mark(layout, family));
    rules
}

/// What IPVS is going to translate.
fn mark(layout: &Layout, family: Family) -> Vec<Rule> {
    match layout.engine {
        Engine::Nftables => vec![],
        Engine::Ipvs => vec![on(family, vec![], Action::Lookup(Container::Balanced))],
    }
}

/// What a process of this node answers.
fn let_in(family: Family) -> Vec<Rule> {
    vec![on(family, vec![Test::Opens], Action::Lookup(Container::Local))]
}

fn refuse_to_node(family: Family) -> Vec<Rule> {
    let mut rules = let_in(family);
    rules.push(on(family, vec![Test::Opens], Action::Lookup(Container::Unserved)));
    rules.push(on(family, vec![Test::Opens], Action::Lookup(Container::Balanced)));
    // With IPVS, or while its connections drain after a switch to nftables, virtual addresses are
    // the node's own: without this, every port that the node itself listens on would answer at
    // every one of them.
    let to = |set| vec![Test::Opens, Test::Destination(Is::In, Group::Set(set))];
    rules.push(on(family, to(Container::Vips), Action::Goto(ChainName::Refuse)));
    rules.push(on(family, to(Container::Draining), Action::Drop));
    rules
}

/// A node's own packets reach IPVS before the other chains of this hook, and where a server still
/// drains, IPVS would refuse by itself what is to be dropped.
fn refuse_before_ipvs(layout: &Layout, family: Family) -> Vec<Rule> {
    if layout.engine == Engine::Nftables {
        return Vec::new();
    }
    let draining = Test::Destination(Is::In, Group::Set(Container::Draining));
    vec![
        on(family, vec![Test::Opens], Action::Lookup(Container::Unserved)),
        on(family, vec![Test::Opens, draining], Action::Drop),
    ]
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
    // Where virtual addresses are the node's own, it speaks from the one that it speaks to.
    let from_vip = Test::Source(Is::In, Group::Set(Container::Vips));
    rules.push(on(family, vec![Test::Marked, from_vip], Action::Masquerade));
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
