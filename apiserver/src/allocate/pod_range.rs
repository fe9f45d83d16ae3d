//! The pod ranges of each Node: a slice of the cluster's CIDR of each family.
//!
//! Node `…-N` gets the N-th slice if it is free, so that nodes which register at the same time get
//! the ranges that one expects by their names; every other node gets the lowest free slice.

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, NodeSpec};
use resources::field::{ErrorKind, FieldError};
use resources::table;
use store::{Op, Snapshot, Txn};

use super::{give_back, take};
use crate::api::Ranges;
use crate::key;
use crate::status::ApiError;

const POOL: &str = "podcidrs";

/// Gives a new Node a range of each family. A range that the Node brings is taken if it is one of
/// ours.
pub(crate) fn create(
    ranges: &Ranges,
    snapshot: &Snapshot,
    node: &mut Node,
) -> Result<Txn, ApiError> {
    let mut txn = Txn::default();
    let name = node.metadata.name.clone().unwrap_or_default();
    let spec = node.spec.get_or_insert_default();
    let asked = asked(spec);
    if !asked.is_empty() {
        // What is not of ours is the Node's own affair.
        let ours = asked.iter().filter_map(|asked| slice_of(ranges, asked));
        for slice in ours {
            if held(snapshot, slice) {
                let error = FieldError {
                    path: "spec.podCIDR".into(),
                    kind: ErrorKind::Invalid(format!("{:?}", slice.to_string())),
                    detail: "range is already allocated".into(),
                };
                return Err(invalid(&name, error));
            }
            take(&mut txn, POOL, &item(slice), &name);
        }
        return Ok(txn);
    }
    let mut chosen = Vec::new();
    for range in &ranges.cluster_cidrs {
        let free = choose(&name, slices(ranges, *range), |s| held(snapshot, s));
        let slice = free.ok_or_else(|| {
            let detail = format!("no range is left in {range}");
            let path = "spec.podCIDR".into();
            invalid(&name, FieldError { path, kind: ErrorKind::Forbidden, detail })
        })?;
        take(&mut txn, POOL, &item(slice), &name);
        chosen.push(slice.to_string());
    }
    spec.pod_cidr = chosen.first().cloned();
    spec.pod_cidrs = Some(chosen);
    Ok(txn)
}

/// The ranges that a Node brings; old clients know the singular field only.
fn asked(spec: &NodeSpec) -> Vec<String> {
    let several = spec.pod_cidrs.iter().flatten();
    let asked = several.chain(&spec.pod_cidr).filter(|range| !range.is_empty());
    let mut asked: Vec<String> = asked.cloned().collect();
    asked.dedup();
    asked
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

/// The ranges of a Node that goes.
pub(crate) fn release(ranges: &Ranges, node: &Node) -> Vec<Op> {
    let own = node.spec.as_ref().map(asked).unwrap_or_default();
    let ours = own.iter().filter_map(|own| slice_of(ranges, own));
    ours.map(|slice| give_back(POOL, &item(slice))).collect()
}

/// The slice for the node of this name; `None` when all are held.
fn choose(
    name: &str,
    mut slices: impl Iterator<Item = IpNet> + Clone,
    held: impl Fn(IpNet) -> bool,
) -> Option<IpNet> {
    let by_name = place(name).and_then(|place| slices.clone().nth(place));
    by_name.filter(|slice| !held(*slice)).or_else(|| slices.find(|slice| !held(*slice)))
}

/// The place of node `…-N`, counted from 0.
fn place(name: &str) -> Option<usize> {
    let (_, number) = name.rsplit_once('-')?;
    number.parse::<usize>().ok()?.checked_sub(1)
}

fn slices(ranges: &Ranges, range: IpNet) -> impl Iterator<Item = IpNet> + Clone {
    range.subnets(prefix(ranges, range)).into_iter().flatten()
}

/// The length of a Node's slice of a range.
fn prefix(ranges: &Ranges, range: IpNet) -> u8 {
    match range {
        IpNet::V4(_) => ranges.node_prefix,
        IpNet::V6(_) => ranges.node_prefix_v6,
    }
}

/// The slice of ours that is written so.
fn slice_of(ranges: &Ranges, text: &str) -> Option<IpNet> {
    let slice: IpNet = text.parse().ok()?;
    let ours =
        |range: &IpNet| range.contains(&slice) && slice.prefix_len() == prefix(ranges, *range);
    (slice == slice.trunc() && ranges.cluster_cidrs.iter().any(ours)).then_some(slice)
}

fn held(snapshot: &Snapshot, slice: IpNet) -> bool {
    snapshot.get(&key::allocation(POOL, &item(slice))).is_some()
}

/// A key holds no slash of its own.
fn item(slice: IpNet) -> String {
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
            let held = |slice: IpNet| taken.contains(&slice.to_string().as_str());
            let all = slices(&ranges, ranges.cluster_cidrs[0]);
            let chosen = choose(name, all, held).map(|s| s.to_string());
            assert_eq!(chosen.as_deref(), expected, "{name} beside {taken:?}");
        }
    }

    fn dual() -> Ranges {
        Ranges {
            service_cidrs: vec!["10.96.0.0/12".parse().unwrap()],
            cluster_cidrs: vec![
                "10.244.0.0/16".parse().unwrap(),
                "fd00:10:244::/56".parse().unwrap(),
            ],
            node_prefix: 24,
            node_prefix_v6: 64,
            node_ports: 30000..=32767,
        }
    }

    fn node(name: &str, ranges: &[&str]) -> Node {
        serde_json::from_value(serde_json::json!({
            "metadata": { "name": name },
            "spec": { "podCIDR": ranges.first(), "podCIDRs": ranges },
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn a_node_takes_a_range_of_each_family_and_gives_both_back() {
        let dir = tempfile::tempdir().unwrap();
        let config = store::Config { dir: dir.path().to_owned(), history: 10 };
        let store = store::Store::open(config).await.unwrap();
        let mut second = node("node-2", &[]);
        let txn = create(&dual(), &store.snapshot(), &mut second).unwrap();
        store.commit(txn).await.unwrap();
        let spec = second.spec.clone().unwrap();
        assert_eq!(spec.pod_cidr.as_deref(), Some("10.244.1.0/24"));
        let both = ["10.244.1.0/24", "fd00:10:244:1::/64"];
        assert_eq!(spec.pod_cidrs.unwrap(), both);

        let mut thief = node("a", &["10.244.3.0/24", "fd00:10:244:1::/64"]);
        let refused = create(&dual(), &store.snapshot(), &mut thief).unwrap_err().to_string();
        assert!(refused.contains("range is already allocated"), "{refused}");
        let mut foreign = node("b", &["172.16.0.0/24"]);
        let txn = create(&dual(), &store.snapshot(), &mut foreign).unwrap();
        assert!(txn.ops.is_empty(), "not of ours: {txn:?}");

        let ops = release(&dual(), &second);
        store.commit(Txn { checks: Vec::new(), ops }).await.unwrap();
        assert_eq!(store.snapshot().range("/allocations/").count(), 0);
    }
}
