//! Firewalls of others: which of their rules keep packets of the cluster from passing.
//!
//! Pure. Input: what `nft -a -s list table` prints of each table that is not ours ([`Ruleset`],
//! which reads those of iptables, too, in nft's words), and what must pass ([`Passage`]). Output:
//! [`Finding`]s, each with the rule, its owner and the command that would let the packets pass.
//! A packet is followed through each base chain as the kernel does it; a rule that is written in
//! words unknown here makes what follows uncertain, never silently harmless. Rules that match only
//! some of the packets (one client's address, one port) are taken for what somebody wants.
//! Deliberately not here: changing anything; chains at the `ingress` and `postrouting` hooks.

mod fit;
mod fix;
mod judge;
mod listing;
mod passage;
mod rule;

use std::collections::BTreeMap;

pub use listing::{Ruleset, Tool};
pub use passage::{NodeView, Passage, between_hosts, of_node};

use judge::{Block, Judge};

/// A rule of another program that may keep packets from where they belong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Whose rule it is: `ufw`, `firewalld`, `docker`, `kube-proxy`, … or `iptables` or `nftables`
    /// where nobody in particular can be named.
    pub program: String,
    /// Family, table, chain and hook.
    pub place: String,
    /// The rule's handle; none where it is the policy of a chain, or a rule that has no handle.
    pub handle: Option<u64>,
    /// The rule in nft's words.
    pub rule: String,
    /// What is kept from passing.
    pub blocks: Vec<String>,
    /// Not just a possibility.
    pub certain: bool,
    /// The command that lets it pass.
    pub fix: String,
}

/// What keeps any of the passages from passing: one finding a rule.
#[must_use]
pub fn findings(ruleset: &Ruleset, passages: &[Passage]) -> Vec<Finding> {
    let judge = Judge::of(ruleset);
    let both_ways: Vec<Passage> =
        passages.iter().flat_map(|passage| [passage.clone(), passage.answered()]).collect();
    let mut by_rule: BTreeMap<Block<'_>, (bool, Vec<&Passage>)> = BTreeMap::new();
    for passage in &both_ways {
        for (block, certain) in judge.blocks(passage) {
            let (sure, blocked) = by_rule.entry(block).or_default();
            *sure |= certain;
            blocked.push(passage);
        }
    }
    by_rule
        .into_iter()
        .map(|(block, (certain, blocked))| {
            let mut blocks: Vec<String> = Vec::new();
            for passage in &blocked {
                if !blocks.contains(&passage.what) {
                    blocks.push(passage.what.clone());
                }
            }
            Finding {
                program: block.program(ruleset),
                place: block.place(),
                handle: block.handle(),
                rule: block.words(),
                blocks,
                certain,
                fix: fix::command(ruleset, &block, &blocked),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests;
