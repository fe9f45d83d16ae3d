//! Which of the possible nodes is best (upstream: the score plugins and their default weights).
//!
//! Pure. Each part scores a node from 0 to 100; the weighted sum decides, and of equals the node
//! with fewer pods, then the first by name. Upstream draws lots between equals; a course repeats.

use std::cmp::Reverse;

use k8s_openapi::api::core::v1::{Pod, Taint};

use super::filter::{Wish, matches_term, tolerates};
use super::request;
use super::state::NodeState;
use crate::meta;

const TAINTS: i64 = 3;
const AFFINITY: i64 = 2;
const SPREAD: i64 = 2;
const LEAST_ALLOCATED: i64 = 1;
const BALANCED: i64 = 1;

/// The best of the nodes, or none if there are none.
pub(super) fn best<'a>(
    pod: &Pod,
    wish: &Wish<'_>,
    nodes: &[&'a NodeState],
) -> Option<&'a NodeState> {
    let owner = meta::controller_of(&pod.metadata).map(|owner| owner.uid.as_str());
    let taints: Vec<i64> = nodes.iter().map(|node| soft_taints(wish, node)).collect();
    let affinity: Vec<i64> = nodes.iter().map(|node| preferred(wish, node)).collect();
    let company: Vec<i64> = nodes
        .iter()
        .map(|node| owner.and_then(|uid| node.owners.get(uid)).copied().unwrap_or(0))
        .collect();
    let most = |scores: &[i64]| scores.iter().copied().max().unwrap_or(0);
    let (most_taints, most_affinity, most_company) =
        (most(&taints), most(&affinity), most(&company));

    (0..nodes.len())
        .max_by_key(|&i| {
            let score = TAINTS * (100 - share(taints[i], most_taints))
                + AFFINITY * share(affinity[i], most_affinity)
                + SPREAD * (100 - share(company[i], most_company))
                + LEAST_ALLOCATED * least_allocated(wish, nodes[i])
                + BALANCED * balanced(wish, nodes[i]);
            (score, Reverse(nodes[i].pods), Reverse(nodes[i].name()))
        })
        .map(|i| nodes[i])
}

/// `value` on a scale on which `most` is 100.
fn share(value: i64, most: i64) -> i64 {
    if most == 0 { 0 } else { value * 100 / most }
}

/// The `PreferNoSchedule` taints that the pod does not tolerate.
fn soft_taints(wish: &Wish<'_>, state: &NodeState) -> i64 {
    let tolerations = wish.spec.tolerations.as_deref().unwrap_or_default();
    let untolerated =
        |taint: &&Taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint));
    let taints = state.node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let soft = taints.filter(|taint| taint.effect == "PreferNoSchedule").filter(untolerated);
    i64::try_from(soft.count()).unwrap_or(i64::MAX / 1000)
}

/// The weight of the preferred node affinity terms that match.
fn preferred(wish: &Wish<'_>, state: &NodeState) -> i64 {
    let affinity = wish.spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    affinity
        .iter()
        .flat_map(|a| a.preferred_during_scheduling_ignored_during_execution.iter().flatten())
        .filter(|term| matches_term(&term.preference, &state.node))
        .map(|term| i64::from(term.weight))
        .sum()
}

/// CPU and memory in use with this pod on the node, in thousandths of what is offered.
fn fractions(wish: &Wish<'_>, state: &NodeState) -> [i64; 2] {
    let asked = request::for_scoring(&wish.requests);
    ["cpu", "memory"].map(|resource| {
        let of = |amounts: &request::Amounts| amounts.get(resource).copied().unwrap_or(0);
        let offered = i128::from(of(&state.allocatable));
        if offered <= 0 {
            return 1000;
        }
        let used = i128::from(of(&state.counted)) + i128::from(of(&asked));
        i64::try_from((used * 1000 / offered).min(1000)).unwrap_or(1000)
    })
}

/// The emptier the better.
fn least_allocated(wish: &Wish<'_>, state: &NodeState) -> i64 {
    let [cpu, memory] = fractions(wish, state);
    (2000 - cpu - memory) / 20
}

/// The more evenly used the better.
fn balanced(wish: &Wish<'_>, state: &NodeState) -> i64 {
    let [cpu, memory] = fractions(wish, state);
    (1000 - (cpu - memory).abs() / 2) / 10
}
