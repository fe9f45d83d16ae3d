//! The nodes and what is on them, as decisions see them.
//!
//! Pure. Inputs: nodes, pods, and pods decided on but not yet seen as bound. Built anew for each
//! round of decisions and updated within it.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};

use super::request::{self, Amounts, HostPort};
use crate::meta;
use crate::pod;

/// One node and what is taken of it.
#[derive(Debug)]
pub(super) struct NodeState {
    /// The node.
    pub(super) node: Arc<Node>,
    /// What it offers.
    pub(super) allocatable: Amounts,
    /// What its pods asked for.
    pub(super) requested: Amounts,
    /// The same with defaults for pods that ask for nothing.
    pub(super) counted: Amounts,
    /// How many pods it has.
    pub(super) pods: i64,
    /// Its taken ports.
    pub(super) ports: Vec<HostPort>,
    /// How many pods of each owner it has.
    pub(super) owners: HashMap<String, i64>,
}

impl NodeState {
    /// The node's name.
    pub(super) fn name(&self) -> &str {
        meta::name(&*self.node)
    }

    fn place(&mut self, pod: &Pod) {
        let requests = request::of_pod(pod);
        request::add(&mut self.counted, &request::for_scoring(&requests));
        request::add(&mut self.requested, &requests);
        self.pods += 1;
        self.ports.extend(request::host_ports(pod));
        if let Some(owner) = meta::controller_of(&pod.metadata) {
            *self.owners.entry(owner.uid.clone()).or_default() += 1;
        }
    }
}

/// All nodes.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    /// By name.
    pub(super) nodes: Vec<NodeState>,
}

impl Cluster {
    pub(super) fn new<'a>(
        nodes: &[Arc<Node>],
        pods: &[Arc<Pod>],
        assumed: impl IntoIterator<Item = &'a (Arc<Pod>, String)>,
    ) -> Self {
        let nodes = nodes.iter().map(|node| NodeState {
            allocatable: request::amounts(
                node.status.as_ref().and_then(|status| status.allocatable.as_ref()),
            ),
            node: node.clone(),
            requested: Amounts::new(),
            counted: Amounts::new(),
            pods: 0,
            ports: Vec::new(),
            owners: HashMap::new(),
        });
        let mut cluster = Self { nodes: nodes.collect() };
        let positions: HashMap<String, usize> = cluster
            .nodes
            .iter()
            .enumerate()
            .map(|(position, node)| (node.name().to_owned(), position))
            .collect();
        let bound = pods
            .iter()
            .filter(|pod| !pod::is_terminal(pod))
            .filter_map(|pod| Some((pod, pod::node_name(pod)?)));
        let assumed = assumed.into_iter().map(|(pod, node)| (pod, node.as_str()));
        for (pod, node) in bound.chain(assumed) {
            if let Some(position) = positions.get(node) {
                cluster.nodes[*position].place(pod);
            }
        }
        cluster
    }

    /// Counts a pod as bound.
    pub(super) fn place(&mut self, pod: &Pod, node: &str) {
        if let Some(node) = self.nodes.iter_mut().find(|state| state.name() == node) {
            node.place(pod);
        }
    }
}
