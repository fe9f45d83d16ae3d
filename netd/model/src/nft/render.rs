//! The table as text for `nft -f -`: what a person reads, too.
//!
//! The text always is the whole table in one transaction, elements included, so that no packet ever
//! meets half of it.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::address::Family;
use crate::nft::State;
use crate::nft::elements::{Container, Item, Key, Value};
use crate::nft::rules::chain_rules;
use crate::nft::ruleset::{
    Action, BaseChain, ChainName, Group, Is, MARK, Purpose, Rule, Ruleset, Test,
};

/// The table's name; its family is `inet`.
pub const TABLE: &str = "minictl";

/// Writing to a string can't fail.
const INFALLIBLE: &str = "a string takes all text";

/// Writes the table anew, whatever there was of its name.
///
/// Only for a table that nobody is served by: see [`refill`].
#[must_use]
pub fn replace(state: &State) -> String {
    let mut out = format!("add table inet {TABLE}\ndelete table inet {TABLE}\n");
    writeln!(out, "table inet {TABLE} {{").expect(INFALLIBLE);
    declarations(&mut out);
    for chain in &state.pickers {
        picker(&mut out, *chain);
    }
    rules(&mut out, &state.ruleset);
    out.push_str("}\n");
    elements(&mut out, state);
    out
}

/// Gives a table that serves other base chains and elements, and deletes `leftover`, chains that it
/// is to have no more. The chains that elements go to must be there; what is remembered of clients
/// stays.
///
/// Chains, maps and sets are kept and filled anew: packets then see the old rules or the new ones.
/// Deleted chains would go on ruling beside those that take their place until the last of their
/// hooks is gone, with maps that are empty already (`nf_tables_commit` of Linux,
/// `net/netfilter/nf_tables_api.c`): calls to a Service would be refused for that time.
#[must_use]
pub fn refill(state: &State, leftover: &BTreeSet<String>) -> String {
    let mut out = format!("table inet {TABLE} {{\n");
    declarations(&mut out);
    for chain in &state.ruleset.base_chains {
        writeln!(out, "\tchain {} {{ {} }}", chain.name, hook(chain)).expect(INFALLIBLE);
    }
    out.push_str("}\n");
    let base_chains = state.ruleset.base_chains.iter().map(|chain| chain.name);
    for chain in base_chains.chain(leftover.iter().map(String::as_str)) {
        writeln!(out, "flush chain inet {TABLE} {chain}").expect(INFALLIBLE);
    }
    for family in Family::ALL {
        for container in Container::ALL {
            let (kind, name) = (declared(container, family).0, container.name(family));
            writeln!(out, "flush {kind} inet {TABLE} {name}").expect(INFALLIBLE);
        }
    }
    for chain in leftover {
        writeln!(out, "delete chain inet {TABLE} {chain}").expect(INFALLIBLE);
    }
    writeln!(out, "table inet {TABLE} {{").expect(INFALLIBLE);
    rules(&mut out, &state.ruleset);
    out.push_str("}\n");
    elements(&mut out, state);
    out
}

/// The rules alone, as a text that identifies them.
#[must_use]
pub fn fingerprint(ruleset: &Ruleset) -> String {
    let mut out = String::new();
    declarations(&mut out);
    rules(&mut out, ruleset);
    out
}

fn frontend_type(family: Family) -> String {
    format!("{} daddr . meta l4proto . th dport", ip(family))
}

/// The frontend that was called, once the packet's own words are others.
fn called(family: Family) -> String {
    format!("ct original {} daddr . meta l4proto . ct original proto-dst", ip(family))
}

/// nft's word for a family.
#[must_use]
pub fn ip(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

fn declarations(out: &mut String) {
    for family in Family::ALL {
        for container in Container::ALL.into_iter().chain([Container::Affinity]) {
            declaration(out, container, family);
        }
    }
}

fn declaration(out: &mut String, container: Container, family: Family) {
    let (kind, what) = declared(container, family);
    writeln!(out, "\t{kind} {} {{ {what} }}", container.name(family)).expect(INFALLIBLE);
}

/// `map` or `set`, and of what.
fn declared(container: Container, family: Family) -> (&'static str, String) {
    let (ip, frontend) = (ip(family), frontend_type(family));
    // The modulus only fixes the key's type: every chain has its own.
    let slot = format!("{frontend} . numgen random mod 65536");
    match container {
        Container::Services
        | Container::Balanced
        | Container::Outside
        | Container::Unserved
        | Container::Local
        | Container::Sticky => ("map", format!("typeof {frontend} : verdict;")),
        Container::Endpoints | Container::OutsideEndpoints => {
            ("map", format!("typeof {slot} : {ip} daddr . th dport;"))
        }
        Container::Restricted | Container::Untracked => ("set", format!("typeof {frontend};")),
        Container::Admitted => ("set", format!("typeof {frontend} . {ip} saddr; flags interval;")),
        Container::Kept => ("set", format!("typeof {frontend} . {ip} daddr . th dport;")),
        Container::Vips | Container::Draining | Container::Nodes => {
            ("set", format!("typeof {ip} daddr;"))
        }
        Container::Hairpin => ("set", format!("typeof {ip} saddr . {ip} daddr;")),
        Container::Affinity => {
            let backend = format!("{ip} daddr . th dport");
            let what =
                format!("typeof {ip} saddr . {frontend} : {backend}; flags dynamic, timeout;");
            ("map", what)
        }
    }
}

/// nft 1.0.6 has no words for the rules that remember clients: they must be added as netlink.
#[must_use]
pub fn needs_netlink(name: ChainName) -> bool {
    matches!(name, ChainName::Learn | ChainName::Remember(_))
}

fn picker(out: &mut String, name: ChainName) {
    writeln!(out, "\tchain {name} {{").expect(INFALLIBLE);
    if !needs_netlink(name) {
        for rule in chain_rules(name) {
            writeln!(out, "\t\t{}", self::rule(&rule)).expect(INFALLIBLE);
        }
    }
    out.push_str("\t}\n");
}

fn rules(out: &mut String, ruleset: &Ruleset) {
    for chain in &ruleset.base_chains {
        writeln!(out, "\tchain {} {{", chain.name).expect(INFALLIBLE);
        writeln!(out, "\t\t{}", hook(chain)).expect(INFALLIBLE);
        for rule in &chain.rules {
            writeln!(out, "\t\t{}", self::rule(rule)).expect(INFALLIBLE);
        }
        out.push_str("\t}\n");
    }
}

/// Where a chain is asked.
fn hook(chain: &BaseChain) -> String {
    let BaseChain { hook, priority, .. } = chain;
    let kind = match chain.purpose {
        Purpose::Filter => "filter",
        Purpose::Nat => "nat",
    };
    format!("type {kind} hook {hook} priority {priority}; policy accept;")
}

/// One rule as text.
#[must_use]
pub fn rule(rule: &Rule) -> String {
    // Rules of chains that serve both families have no addresses in them.
    let family = rule.family.unwrap_or(Family::V4);
    let mut words: Vec<String> = Vec::new();
    // The table is one for both families: without this, a rule of one would see the other's packets.
    if rule.family.is_some() && !names_address(rule) {
        words.push(format!("meta nfproto {}", protocol(family)));
    }
    words.extend(rule.tests.iter().map(|t| test(t, family)));
    words.push(action(&rule.action, family));
    words.join(" ")
}

/// Is there an address in the rule? Then `nft` itself lets it see packets of that family only.
fn names_address(rule: &Rule) -> bool {
    let tested = rule.tests.iter().any(|test| match test {
        Test::Source(..)
        | Test::Destination(..)
        | Test::NotAdmitted
        | Test::Calls(_)
        | Test::Answers(_)
        | Test::CalledItself
        | Test::NotKept
        | Test::RedirectTo(_) => true,
        Test::Opens | Test::Marked | Test::Through(_) | Test::Translated | Test::Tcp => false,
    });
    let used = match rule.action {
        Action::Lookup(_)
        | Action::Translate(..)
        | Action::Recall
        | Action::LookupCalled
        | Action::Forget
        | Action::Remember(_) => true,
        Action::Mark
        | Action::Untrack
        | Action::Masquerade
        | Action::Goto(_)
        | Action::Reset
        | Action::Unreachable
        | Action::Drop => false,
    };
    tested || used
}

/// nft's word for a family where it is a protocol.
fn protocol(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

fn test(test: &Test, family: Family) -> String {
    let ip = ip(family);
    match test {
        Test::Opens => "ct state new".to_owned(),
        Test::Marked => format!("meta mark and {MARK:#x} != 0"),
        Test::Through(link) => format!("iifname \"{link}\""),
        Test::Source(is, group) => format!("{ip} saddr {}{}", not(*is), self::group(group, family)),
        Test::Destination(is, group) => {
            format!("{ip} daddr {}{}", not(*is), self::group(group, family))
        }
        Test::NotAdmitted => {
            let frontend = frontend_type(family);
            let restricted = Container::Restricted.name(family);
            let admitted = Container::Admitted.name(family);
            format!("{frontend} @{restricted} {frontend} . {ip} saddr != @{admitted}")
        }
        Test::Calls(set) => format!("{} @{}", frontend_type(family), set.name(family)),
        Test::Answers(set) => {
            format!("{ip} saddr . meta l4proto . th sport @{}", set.name(family))
        }
        Test::CalledItself => {
            format!("{ip} saddr . {ip} daddr @{}", Container::Hairpin.name(family))
        }
        Test::Translated => "ct status dnat".to_owned(),
        Test::NotKept => {
            let kept = Container::Kept.name(family);
            format!("{} . {ip} daddr . th dport != @{kept}", called(family))
        }
        Test::Tcp => "meta l4proto tcp".to_owned(),
        Test::RedirectTo(link) => format!("oifname \"{link}\" icmpv6 type nd-redirect"),
    }
}

fn not(is: Is) -> &'static str {
    match is {
        Is::In => "",
        Is::NotIn => "!= ",
    }
}

fn group(group: &Group, family: Family) -> String {
    match group {
        Group::Ranges(list) => match &list[..] {
            [one] => one.to_string(),
            many => {
                let list: Vec<String> = many.iter().map(ToString::to_string).collect();
                format!("{{ {} }}", list.join(", "))
            }
        },
        Group::Set(container) => format!("@{}", container.name(family)),
    }
}

fn action(action: &Action, family: Family) -> String {
    let (ip, frontend) = (ip(family), frontend_type(family));
    match action {
        Action::Lookup(map) => format!("{frontend} vmap @{}", map.name(family)),
        Action::Mark => format!("meta mark set meta mark or {MARK:#x}"),
        Action::Untrack => "notrack".to_owned(),
        Action::Translate(map, n) => {
            format!("dnat {ip} to {frontend} . numgen random mod {n} map @{}", map.name(family))
        }
        Action::Recall => {
            let map = Container::Affinity.name(family);
            format!("dnat {ip} to {ip} saddr . {frontend} map @{map}")
        }
        Action::LookupCalled => {
            let map = Container::Sticky.name(family);
            format!("{} vmap @{map}", called(family))
        }
        Action::Forget => {
            let (map, called) = (Container::Affinity.name(family), called(family));
            let backend = format!("{ip} daddr . th dport");
            format!("delete @{map} {{ {ip} saddr . {called} : {backend} }}")
        }
        Action::Remember(seconds) => {
            let (map, called) = (Container::Affinity.name(family), called(family));
            let backend = format!("{ip} daddr . th dport");
            format!("update @{map} {{ {ip} saddr . {called} timeout {seconds}s : {backend} }}")
        }
        Action::Masquerade => "masquerade".to_owned(),
        Action::Goto(chain) => format!("goto {chain}"),
        Action::Reset => "reject with tcp reset".to_owned(),
        Action::Unreachable => "reject with icmpx type port-unreachable".to_owned(),
        Action::Drop => "drop".to_owned(),
    }
}

fn elements(out: &mut String, state: &State) {
    let mut open: Option<(Container, Family)> = None;
    for (key, value) in &state.elements.0 {
        let place = (key.container, key.item.family());
        if open != Some(place) {
            if open.is_some() {
                out.push_str(" }\n");
            }
            write!(out, "add element inet {TABLE} {} {{ ", place.0.name(place.1))
                .expect(INFALLIBLE);
            open = Some(place);
        } else {
            out.push_str(", ");
        }
        out.push_str(&element(key, value));
    }
    if open.is_some() {
        out.push_str(" }\n");
    }
}

/// One element as text.
#[must_use]
pub fn element(key: &Key, value: &Value) -> String {
    let place = match key.item {
        Item::Frontend(frontend) => frontend.to_string(),
        Item::Slot(frontend, slot) => format!("{frontend} . {slot}"),
        Item::Pair(frontend, backend) => format!("{frontend} . {backend}"),
        Item::Clients(frontend, range) => format!("{frontend} . {range}"),
        Item::Client(client, frontend) => format!("{client} . {frontend}"),
        Item::Address(addr) if key.container == Container::Hairpin => format!("{addr} . {addr}"),
        Item::Address(addr) => addr.to_string(),
    };
    match value {
        Value::Present => place,
        Value::Verdict(verdict, owner) => format!("{place} comment \"{owner}\" : {verdict}"),
        Value::Backend(backend) => format!("{place} : {backend}"),
    }
}
