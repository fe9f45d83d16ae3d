//! Which nodes a pod can run on, and why not on the others (upstream: the filter plugins
//! `nodeunschedulable`, `nodename`, `tainttoleration`, `nodeaffinity`, `nodeports`,
//! `noderesources`).
//!
//! Pure. The reasons are upstream's words: they reach people in `FailedScheduling` events.

use k8s_openapi::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Taint, Toleration,
};

use super::request::{self, Amounts, HostPort};
use super::state::NodeState;
use crate::meta;
use crate::selector;

/// Why a node will not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Upstream's words, one for each reason.
    pub(super) reasons: Vec<String>,
    /// Whether the pod could run here if others went (upstream: `Unschedulable`, as opposed to
    /// `UnschedulableAndUnresolvable`).
    pub(super) resolvable: bool,
}

impl Refusal {
    fn for_good(reason: impl Into<String>) -> Self {
        Self { reasons: vec![reason.into()], resolvable: false }
    }
}

/// What the filters need to know of a pod, computed once for all nodes.
pub(super) struct Wish<'a> {
    /// The pod.
    pub(super) spec: &'a PodSpec,
    /// What it asks for.
    pub(super) requests: Amounts,
    ports: Vec<HostPort>,
}

impl<'a> Wish<'a> {
    pub(super) fn new(pod: &Pod, spec: &'a PodSpec) -> Self {
        Self { spec, requests: request::of_pod(pod), ports: request::host_ports(pod) }
    }

    fn tolerations(&self) -> &[Toleration] {
        self.spec.tolerations.as_deref().unwrap_or_default()
    }
}

/// `Ok` if the pod can run on the node. The filters stand in upstream's order; the first refusal
/// counts.
pub(super) fn check(wish: &Wish<'_>, state: &NodeState) -> Result<(), Refusal> {
    let node = &*state.node;
    unschedulable(wish, node)?;
    taints(wish, node)?;
    affinity(wish, node)?;
    ports(wish, state)?;
    resources(wish, state)
}

fn unschedulable(wish: &Wish<'_>, node: &Node) -> Result<(), Refusal> {
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    if cordoned && !wish.tolerations().iter().any(|toleration| tolerates(toleration, &taint)) {
        return Err(Refusal::for_good("node(s) were unschedulable"));
    }
    Ok(())
}

fn taints(wish: &Wish<'_>, node: &Node) -> Result<(), Refusal> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let hard = taints.filter(|taint| matches!(&*taint.effect, "NoSchedule" | "NoExecute"));
    for taint in hard {
        if !wish.tolerations().iter().any(|toleration| tolerates(toleration, taint)) {
            return Err(Refusal::for_good(UNTOLERATED));
        }
    }
    Ok(())
}

const UNTOLERATED: &str = "node(s) had untolerated taint(s)";

/// Upstream: `Toleration.ToleratesTaint`.
pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    let key = toleration.key.as_deref().unwrap_or_default();
    if !key.is_empty() && key != taint.key {
        return false;
    }
    match toleration.operator.as_deref() {
        None | Some("" | "Equal") => {
            toleration.value.as_deref().unwrap_or_default()
                == taint.value.as_deref().unwrap_or_default()
        }
        Some("Exists") => true,
        Some(_) => false,
    }
}

fn affinity(wish: &Wish<'_>, node: &Node) -> Result<(), Refusal> {
    const REASON: &str = "node(s) didn't match Pod's node affinity/selector";
    if let Some(selector) = &wish.spec.node_selector
        && !selector::contains(node.metadata.labels.as_ref(), selector)
    {
        return Err(Refusal::for_good(REASON));
    }
    let affinity = wish.spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    if let Some(required) = required
        && !required.node_selector_terms.iter().any(|term| matches_term(term, node))
    {
        return Err(Refusal::for_good(REASON));
    }
    Ok(())
}

/// Whether a node satisfies a term; an empty one matches nothing (upstream: `nodeaffinity`).
pub(super) fn matches_term(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let labels = node.metadata.labels.as_ref();
    expressions.iter().all(|r| requirement(r, labels.and_then(|held| held.get(&r.key))))
        && fields.iter().all(|r| {
            let name = meta::name(node).to_owned();
            r.key == "metadata.name" && requirement(r, Some(&name))
        })
}

fn requirement(requirement: &NodeSelectorRequirement, value: Option<&String>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.contains(value));
    let numbers = || {
        let held: i64 = value?.parse().ok()?;
        let bound: i64 = values.first()?.parse().ok()?;
        Some((held, bound))
    };
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers().is_some_and(|(held, bound)| held > bound),
        "Lt" => numbers().is_some_and(|(held, bound)| held < bound),
        _ => false,
    }
}

fn ports(wish: &Wish<'_>, state: &NodeState) -> Result<(), Refusal> {
    let taken = wish.ports.iter().any(|port| state.ports.iter().any(|held| held.conflicts(port)));
    if taken {
        return Err(Refusal {
            reasons: vec!["node(s) didn't have free ports for the requested pod ports".to_owned()],
            resolvable: true,
        });
    }
    Ok(())
}

fn resources(wish: &Wish<'_>, state: &NodeState) -> Result<(), Refusal> {
    let mut reasons = Vec::new();
    let mut resolvable = true;
    let offered = |resource: &str| state.allocatable.get(resource).copied().unwrap_or(0);
    if state.pods + 1 > offered("pods") {
        reasons.push("Too many pods".to_owned());
    }
    for (resource, asked) in wish.requests.iter().filter(|(_, asked)| **asked > 0) {
        let taken = state.requested.get(resource).copied().unwrap_or(0);
        if *asked > offered(resource) - taken {
            reasons.push(format!("Insufficient {resource}"));
            resolvable &= *asked <= offered(resource);
        }
    }
    if reasons.is_empty() { Ok(()) } else { Err(Refusal { reasons, resolvable }) }
}
