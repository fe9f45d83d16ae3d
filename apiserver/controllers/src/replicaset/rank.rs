//! Which pods go first when a replica set shrinks (upstream: `ActivePodsWithRanks`,
//! `getPodsRankedByRelatedPodsOnSameNode`).
//!
//! Pure. Input: candidates and their company. Output: the least useful ones.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::meta;
use crate::pod;

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The `count` candidates that are least useful. `company` are all pods that do the same work,
/// the candidates included: of two pods, the one whose node has more of them goes first.
pub(super) fn least_useful(
    mut candidates: Vec<Arc<Pod>>,
    company: &[&Arc<Pod>],
    count: usize,
    now: Timestamp,
) -> Vec<Arc<Pod>> {
    if count < candidates.len() {
        let mut per_node: HashMap<&str, usize> = HashMap::new();
        for pod in company {
            *per_node.entry(pod::node_name(pod).unwrap_or_default()).or_default() += 1;
        }
        let company_of =
            |pod: &Pod| per_node.get(pod::node_name(pod).unwrap_or_default()).copied().unwrap_or(0);
        candidates.sort_by(|a, b| compare(a, b, &company_of, now));
    }
    candidates.truncate(count);
    candidates
}

/// Less means: goes first.
fn compare(a: &Pod, b: &Pod, company_of: &dyn Fn(&Pod) -> usize, now: Timestamp) -> Ordering {
    let assigned = |pod: &Pod| pod::node_name(pod).is_some();
    let phase = |pod: &Pod| match pod::phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let cost = |pod: &Pod| {
        meta::annotation(pod, DELETION_COST).and_then(|text| text.parse().ok()).unwrap_or(0_i32)
    };
    // 1. Not assigned, 2. not running, 3. not ready, 4. cheap to lose, 5. in company on its node,
    assigned(a)
        .cmp(&assigned(b))
        .then_with(|| phase(a).cmp(&phase(b)))
        .then_with(|| pod::is_ready(a).cmp(&pod::is_ready(b)))
        .then_with(|| cost(a).cmp(&cost(b)))
        .then_with(|| Reverse(company_of(a)).cmp(&Reverse(company_of(b))))
        // 6. ready for a shorter time, 7. restarted more often, 8. created later.
        .then_with(|| {
            let ready = |pod: &Pod| pod::ready_since(pod).map(|since| age_class(since, now));
            if pod::is_ready(a) && pod::is_ready(b) {
                ready(a).cmp(&ready(b))
            } else {
                Ordering::Equal
            }
        })
        .then_with(|| Reverse(pod::restarts(a)).cmp(&Reverse(pod::restarts(b))))
        .then_with(|| age_class(meta::created(a), now).cmp(&age_class(meta::created(b), now)))
        // Pods of about the same age fall in random order, so that no node is always hit.
        .then_with(|| meta::uid(a).cmp(meta::uid(b)))
}

/// Ages are compared by their order of magnitude (upstream: `LogarithmicScaleDown`).
fn age_class(since: Timestamp, now: Timestamp) -> u32 {
    let age = now.as_nanosecond() - since.as_nanosecond();
    u64::try_from(age).map_or(0, |age| age.checked_ilog2().map_or(0, |class| class + 1))
}

#[cfg(test)]
mod tests;
