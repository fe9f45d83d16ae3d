//! An even spread over zones: the hints of Services that ask for it by the annotation
//! `service.kubernetes.io/topology-mode: Auto` (upstream: `endpointslice/topologycache`).
//!
//! Pure. Inputs: a family's endpoints, the hints that they have by now, the CPUs of the zones.
//! Output: a zone for each ready endpoint, or why there are none.
//! Each zone is to get as many endpoints as is its share of the cluster's CPUs. An endpoint is
//! meant for its own zone, unless that one has too many and another too few.
//! Invariant: hints that are good enough stay, so that a pod more does not shift all others.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, EndpointSlice, ForZone};

use super::desired::zone;
use super::slices::{Group, Identity, identity};
use crate::event::Severity;
use crate::meta;
use crate::quantity;

/// By how much more than its share an endpoint may get to do.
const OVERLOAD: f64 = 0.2;
/// Nodes that are not counted, because they are there for other work.
const EXCLUDED: [&str; 2] =
    ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];

const ENABLED: &str = "Topology Aware Hints has been enabled";
const NO_NODES: &str = "Insufficient Node information: allocatable CPU or zone not specified on \
                        one or more nodes";
const NO_ZONE: &str = "One or more endpoints do not have a zone specified";
const FEW: &str = "Insufficient number of endpoints";
const UNEVEN: &str = "Unable to allocate minimum required endpoints to each zone without \
                      exceeding overload threshold";

/// What people are told: how bad, a reason, a sentence.
pub(super) type Said = (Severity, &'static str, String);

/// Each zone's share of the cluster's CPUs.
type Shares = BTreeMap<String, f64>;

/// How many endpoints a zone is to get.
struct Quota {
    most: usize,
    wanted: f64,
}

/// What of a node matters here: its zone and its CPUs in thousandths; none where it is not counted.
pub(super) fn capacity(node: &Node) -> Option<(Option<&str>, i64)> {
    let status = node.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().any(|held| held.type_ == "Ready" && held.status == "True");
    if !ready || EXCLUDED.iter().any(|label| meta::label(node, label).is_some()) {
        return None;
    }
    let cpus = status.and_then(|status| status.allocatable.as_ref()?.get("cpu"));
    Some((zone(node), cpus.map_or(0, quantity::milli)))
}

/// The zones' shares; none unless all nodes say what they have, and where, in two zones or more.
fn shares(nodes: &[Arc<Node>]) -> Option<Shares> {
    let mut cpus: BTreeMap<String, i64> = BTreeMap::new();
    for (zone, cpu) in nodes.iter().filter_map(|node| capacity(node)) {
        let zone = zone.filter(|_| cpu > 0)?;
        *cpus.entry(zone.to_owned()).or_default() += cpu;
    }
    let total: i64 = cpus.values().sum();
    let share = |cpu: i64| cpu as f64 / total as f64;
    (cpus.len() > 1).then(|| cpus.into_iter().map(|(zone, cpu)| (zone, share(cpu))).collect())
}

/// Gives hints to all ready endpoints of the groups; answers with what people are to be told.
pub(super) fn spread(
    groups: &mut [Group],
    existing: &[Arc<EndpointSlice>],
    nodes: &[Arc<Node>],
) -> Vec<Said> {
    let shares = shares(nodes);
    let mut said = Vec::new();
    for family in ["IPv4", "IPv6"] {
        let of_family = groups.iter_mut().filter(|group| group.address_type == family);
        let all = of_family.flat_map(|group| &mut group.endpoints);
        let ready: Vec<&mut Endpoint> = all.filter(|endpoint| is_ready(endpoint)).collect();
        if !existing.iter().any(|slice| slice.address_type == family) && ready.is_empty() {
            continue;
        }
        let held = held_hints(existing.iter().filter(|slice| slice.address_type == family));
        let (severity, reason, text) = match spread_family(ready, &held, shares.as_ref()) {
            Ok(()) if held.is_empty() => {
                (Severity::Normal, "TopologyAwareHintsEnabled", ENABLED.to_owned())
            }
            Ok(()) => continue,
            Err(why) => (Severity::Warning, "TopologyAwareHintsDisabled", why),
        };
        said.push((severity, reason, format!("{text}, addressType: {family}")));
    }
    said
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(true)
}

fn held_hints<'a>(
    slices: impl Iterator<Item = &'a Arc<EndpointSlice>>,
) -> HashMap<Identity, String> {
    let endpoints = slices.flat_map(|slice| slice.endpoints.iter().flatten());
    let hint = |endpoint: &Endpoint| {
        let zones = endpoint.hints.as_ref()?.for_zones.as_ref()?;
        Some((identity(endpoint), zones.first()?.name.clone()))
    };
    endpoints.filter_map(hint).collect()
}

fn spread_family(
    ready: Vec<&mut Endpoint>,
    held: &HashMap<Identity, String>,
    shares: Option<&Shares>,
) -> Result<(), String> {
    let quotas = quotas(shares, ready.len())?;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut movable = Vec::new();
    for endpoint in ready {
        let Some(own) = endpoint.zone.clone() else { return Err(NO_ZONE.to_owned()) };
        let kept = held.get(&identity(endpoint)).filter(|zone| {
            let given = counts.get(*zone).copied().unwrap_or(0);
            quotas.get(*zone).is_some_and(|quota| given < quota.most)
        });
        let zone = kept.cloned().unwrap_or(own);
        *counts.entry(zone.clone()).or_default() += 1;
        movable.push((endpoint, kept.is_none(), zone));
    }
    let (mut giving, mut receiving) = exchange(&quotas, &counts);
    for (endpoint, free, mut zone) in movable {
        if free
            && let Some(left) = giving.get_mut(&zone).filter(|left| **left > 0)
            && let Some((to, wanted)) = receiving.iter_mut().find(|(_, wanted)| **wanted > 0)
        {
            *left -= 1;
            *wanted -= 1;
            zone.clone_from(to);
        }
        let for_zones = Some(vec![ForZone { name: zone }]);
        endpoint.hints = Some(EndpointHints { for_nodes: None, for_zones });
    }
    Ok(())
}

/// How many of `endpoints` each zone should get, and may get at most (upstream: `getAllocations`).
fn quotas(shares: Option<&Shares>, endpoints: usize) -> Result<BTreeMap<String, Quota>, String> {
    let shares = shares.ok_or_else(|| NO_NODES.to_owned())?;
    let counted = format!("({endpoints} endpoints, {} zones)", shares.len());
    if shares.len() > endpoints {
        return Err(format!("{FEW} {counted}"));
    }
    let least = |share: &f64| (share * endpoints as f64 / (1.0 + OVERLOAD)).ceil() as usize;
    let Some(slack) = endpoints.checked_sub(shares.values().map(least).sum()) else {
        return Err(format!("{UNEVEN} {counted}"));
    };
    let quota = |share: &f64| Quota {
        most: least(share) + slack,
        wanted: (share * endpoints as f64).max(least(share) as f64),
    };
    Ok(shares.iter().map(|(zone, share)| (zone.clone(), quota(share))).collect())
}

/// How many endpoints zones should give to others, and get from them (upstream:
/// `getGivingAndReceivingZones`).
fn exchange(
    quotas: &BTreeMap<String, Quota>,
    counts: &BTreeMap<String, usize>,
) -> (BTreeMap<String, usize>, BTreeMap<String, usize>) {
    let mut surplus: BTreeMap<&String, f64> = quotas
        .iter()
        .map(|(zone, quota)| (zone, counts.get(zone).copied().unwrap_or(0) as f64 - quota.wanted))
        .collect();
    let (mut giving, mut receiving) = (BTreeMap::new(), BTreeMap::new());
    loop {
        let by_surplus = |a: &(&&String, &f64), b: &(&&String, &f64)| a.1.total_cmp(b.1);
        let most = surplus.iter().max_by(by_surplus).map(|(zone, left)| (*zone, *left));
        let least = surplus.iter().min_by(by_surplus).map(|(zone, left)| (*zone, -*left));
        let (Some((from, give)), Some((to, get))) = (most, least) else { break };
        if give < 0.5 || get < 0.5 || (give < 1.0 && get < 1.0) {
            break;
        }
        surplus.insert(from, give - 1.0);
        surplus.insert(to, 1.0 - get);
        *giving.entry(from.clone()).or_default() += 1;
        *receiving.entry(to.clone()).or_default() += 1;
    }
    (giving, receiving)
}

#[cfg(test)]
mod tests;
