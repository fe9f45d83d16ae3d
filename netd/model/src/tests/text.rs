//! What the rules' text must have in common, whatever the layout.

use crate::address::Family;
use crate::cases::world::cluster;
use crate::nft::render;
use crate::nft::ruleset::Engine;
use crate::nft::{Layout, rules};
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
