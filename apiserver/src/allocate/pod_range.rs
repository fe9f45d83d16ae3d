//! The pod range of each Node: the lowest free slice of the cluster's CIDR.

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
        None => slices(ranges).find(|s| !held(snapshot, *s)).ok_or_else(|| {
            let detail = format!("no range is left in {}", ranges.cluster_cidr);
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

fn slices(ranges: &Ranges) -> impl Iterator<Item = Ipv4Net> {
    ranges.cluster_cidr.subnets(ranges.node_prefix).into_iter().flatten()
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
