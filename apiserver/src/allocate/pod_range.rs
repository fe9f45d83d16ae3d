//! The pod range of each Node: a slice of the cluster's CIDR.
//!
//! Node `…-N` gets the N-th slice if it is free, so that nodes which register at the same time get
//! the ranges that one expects by their names; every other node gets the lowest free slice.

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;
use resources::field::{ErrorKind, FieldError};
use resources::table;
use store::{Op, Snapshot, Txn};

use super::{give_back, take};
use crate::api::Ranges;
use crate::key;
use crate::status::ApiError;

const POOL: &str = "podcidrs";

/// Gives a new Node its range. A range that the Node brings is taken if it is one of ours.
pub(crate) fn create(
    ranges: &Ranges,
    snapshot: &Snapshot,
    node: &mut Node,
) -> Result<Txn, ApiError> {
    let mut txn = Txn::default();
    let name = node.metadata.name.clone().unwrap_or_default();
    let spec = node.spec.get_or_insert_default();
    let asked = spec.pod_cidr.clone().filter(|c| !c.is_empty());
    let slice = match asked {
        Some(asked) => {
            let Some(range) = slices(ranges).find(|s| s.to_string() == asked) else {
                return Ok(txn);
            };
            if held(snapshot, range) {
                let error = FieldError {
                    path: "spec.podCIDR".into(),
                    kind: ErrorKind::Invalid(format!("{asked:?}")),
                    detail: "range is already allocated".into(),
                };
                return Err(invalid(&name, error));
            }
            range
        }
        None => choose(&name, slices(ranges), |s| held(snapshot, s)).ok_or_else(|| {
            let detail = format!("no range is left in {}", ranges.cluster_v4());
            let error =
                FieldError { path: "spec.podCIDR".into(), kind: ErrorKind::Forbidden, detail };
            invalid(&name, error)
        })?,
    };
    take(&mut txn, POOL, &item(slice), &name);
    spec.pod_cidr = Some(slice.to_string());
    spec.pod_cidrs = Some(vec![slice.to_string()]);
    Ok(txn)
}

/// A range never changes. A client that does not know it yet does not erase it.
pub(crate) fn keep(new: &mut Node, old: &Node) {
    let Some(old) = old.spec.as_ref() else { return };
    let new = new.spec.get_or_insert_default();
    if new.pod_cidr.as_deref().is_none_or(str::is_empty) {
        new.pod_cidr.clone_from(&old.pod_cidr);
        new.pod_cidrs.clone_from(&old.pod_cidrs);
    }
}

/// The range of a Node that goes.
pub(crate) fn release(ranges: &Ranges, node: &Node) -> Vec<Op> {
    let own = node.spec.as_ref().and_then(|s| s.pod_cidr.as_deref());
    let slice = own.and_then(|own| slices(ranges).find(|s| s.to_string() == own));
    slice.map(|s| vec![give_back(POOL, &item(s))]).unwrap_or_default()
}

/// The slice for the node of this name; `None` when all are held.
fn choose(
    name: &str,
    mut slices: impl Iterator<Item = Ipv4Net> + Clone,
    held: impl Fn(Ipv4Net) -> bool,
) -> Option<Ipv4Net> {
    let by_name = place(name).and_then(|place| slices.clone().nth(place));
    by_name.filter(|slice| !held(*slice)).or_else(|| slices.find(|slice| !held(*slice)))
}

/// The place of node `…-N`, counted from 0.
fn place(name: &str) -> Option<usize> {
    let (_, number) = name.rsplit_once('-')?;
    number.parse::<usize>().ok()?.checked_sub(1)
}

fn slices(ranges: &Ranges) -> impl Iterator<Item = Ipv4Net> + Clone {
    ranges.cluster_v4().subnets(ranges.node_prefix).into_iter().flatten()
}

fn held(snapshot: &Snapshot, slice: Ipv4Net) -> bool {
    snapshot.get(&key::allocation(POOL, &item(slice))).is_some()
}

/// A key holds no slash of its own.
fn item(slice: Ipv4Net) -> String {
    slice.to_string().replace('/', "-")
}

fn invalid(name: &str, error: FieldError) -> ApiError {
    match table::by_path("", "v1", "nodes") {
        Some(nodes) => ApiError::invalid(nodes, name, vec![error]),
        None => ApiError::Internal(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_gets_the_slice_of_its_number_or_the_lowest_free_one() {
        let cases: [(&str, &[&str], Option<&str>); 11] = [
            ("node-1", &[], Some("10.0.0.0/24")),
            ("node-2", &[], Some("10.0.1.0/24")),
            ("lab-a-node-4", &[], Some("10.0.3.0/24")),
            ("node-2", &["10.0.1.0/24"], Some("10.0.0.0/24")),
            ("node-1", &["10.0.0.0/24", "10.0.1.0/24"], Some("10.0.2.0/24")),
            ("node-0", &[], Some("10.0.0.0/24")),
            ("node-5", &["10.0.0.0/24"], Some("10.0.1.0/24")),
            ("node-99999999999999999999", &[], Some("10.0.0.0/24")),
            ("n3", &[], Some("10.0.0.0/24")),
            ("worker-a", &["10.0.0.0/24"], Some("10.0.1.0/24")),
            ("node-1", &["10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24", "10.0.3.0/24"], None),
        ];
        let ranges = Ranges {
            service_cidrs: vec!["10.96.0.0/12".parse().unwrap()],
            cluster_cidrs: vec!["10.0.0.0/22".parse().unwrap()],
            node_prefix: 24,
            node_prefix_v6: 64,
            node_ports: 30000..=32767,
        };
        for (name, taken, expected) in cases {
            let held = |slice: Ipv4Net| taken.contains(&slice.to_string().as_str());
            let chosen = choose(name, slices(&ranges), held).map(|s| s.to_string());
            assert_eq!(chosen.as_deref(), expected, "{name} beside {taken:?}");
        }
    }
}
