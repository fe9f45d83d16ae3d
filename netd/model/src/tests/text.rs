//! What the rules' text must have in common, whatever the layout.

use std::collections::BTreeSet;

use crate::address::Family;
use crate::cases::world::cluster;
use crate::dataplane::Dataplane;
use crate::nft::ruleset::{Action, Engine, Purpose};
use crate::nft::{Container, Layout, State, render, rules};
use crate::snapshot::Snapshot;

/// The usual cluster without what it has of a family.
fn without(family: Family) -> Snapshot {
    let mut snapshot = cluster();
    let other = |addr| Family::of(addr) != family;
    snapshot.settings.cluster_cidrs.retain(|net| other(net.addr()));
    snapshot.settings.service_cidrs.retain(|net| other(net.addr()));
    for node in snapshot.nodes.values_mut() {
        let node = std::sync::Arc::make_mut(node);
        node.addresses.retain(|addr| other(*addr));
        node.pod_cidrs.retain(|net| other(net.addr()));
    }
    snapshot
}

/// A rule without an address sees both families, unless it says which.
#[test]
fn a_rule_of_one_family_says_so_in_clusters_of_one_family_too() {
    let snapshots = [cluster(), without(Family::V6), without(Family::V4)];
    for (snapshot, engine) in
        snapshots.iter().flat_map(|s| [(s, Engine::Nftables), (s, Engine::Ipvs)])
    {
        let ruleset = rules::build(&Layout::of(snapshot, engine));
        for rule in ruleset.base_chains.iter().flat_map(|chain| &chain.rules) {
            let text = render::rule(rule);
            let says = |words: [&str; 3]| words.iter().any(|word| text.contains(word));
            let (v4, v6) =
                (says(["ip saddr", "ip daddr", "nfproto ipv4"]), says(["ip6 ", "icmpv6", "ipv6"]));
            let wanted = (rule.family == Some(Family::V4), rule.family == Some(Family::V6));
            assert_eq!((v4, v6), wanted, "{engine:?}: {text}");
        }
    }
}

/// What serves must go on until the moment in which all is different.
#[test]
fn a_table_is_filled_anew_without_deleting_what_packets_go_through() {
    for engine in [Engine::Nftables, Engine::Ipvs] {
        let snapshot = cluster();
        let layout = Layout::of(&snapshot, engine);
        let mut plane = Dataplane::default();
        plane.refresh(&snapshot, snapshot.services.keys());
        let state = State::desired(&layout, &plane, &BTreeSet::new());
        let text = render::refill(&state, &BTreeSet::from(["left-over".to_owned()]));
        let deleted: Vec<&str> = text.lines().filter(|line| line.contains("delete ")).collect();
        assert_eq!(deleted, ["delete chain inet minictl left-over"], "{engine:?}");
        let place = |line: &str| {
            text.lines().position(|l| l == line).unwrap_or_else(|| panic!("no {line} in {text}"))
        };
        for chain in &state.ruleset.base_chains {
            assert!(place(&format!("flush chain inet minictl {}", chain.name)) > 0);
        }
        for family in Family::ALL {
            // The memory of clients is not ours to empty.
            let memory = Container::Affinity.name(family);
            assert!(!text.contains(&format!("flush map inet minictl {memory}")), "{engine:?}");
            for container in Container::ALL {
                let name = container.name(family);
                let flushed = |kind| text.contains(&format!("flush {kind} inet minictl {name}\n"));
                assert!(flushed("map") || flushed("set"), "{engine:?}: {name}");
            }
        }
    }
}

/// The kernel wants whatever a map leads to to be fit for every chain that looks it up, the chains
/// of the table that is filled anew included: what may translate is looked up by chains that may.
#[test]
fn maps_that_lead_to_translation_are_looked_up_by_chains_that_translate_only() {
    for engine in [Engine::Nftables, Engine::Ipvs] {
        let ruleset = rules::build(&Layout::of(&cluster(), engine));
        for chain in ruleset.base_chains.iter().filter(|chain| chain.purpose == Purpose::Filter) {
            for rule in &chain.rules {
                let translating = [Container::Services, Container::Outside];
                let bad = matches!(rule.action, Action::Lookup(map) if translating.contains(&map));
                assert!(!bad, "{engine:?}: {}: {}", chain.name, render::rule(rule));
            }
        }
    }
}
