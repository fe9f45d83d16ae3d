//! Which Services' clients are spread over the nodes, and by what weights
//! ([`crate::handover`]).

use std::sync::Arc;

use crate::address::{Backend, Family};
use crate::handover::NodeId;
use crate::handover::spread::{Spread, Weights, slots};
use crate::snapshot::{Endpoint, Service, Snapshot};

/// How the clients of a Service port's load balancer are spread.
#[derive(Clone, Debug, Default)]
pub(super) struct Spreading {
    /// None where there is no load balancer.
    pub(super) table: Option<Arc<Spread>>,
    /// Does this node have a part in it?
    pub(super) comes_here: bool,
}

impl Spreading {
    /// With a policy of Local, and where not all endpoints are on nodes, nobody new is handed over;
    /// what was chosen before still holds.
    pub(super) fn of(
        snapshot: &Snapshot,
        service: &Service,
        family: Family,
        endpoints: &[(&Endpoint, Backend)],
    ) -> Self {
        if service.load_balancer_ips.is_empty() {
            return Self::default();
        }
        let weights = match service.external_local {
            true => None,
            false => weights(snapshot, family, endpoints),
        };
        let nodes = weights.as_ref().map(slots).unwrap_or_default();
        let comes_here = nodes.contains(&NodeId::of(&snapshot.settings.node_name));
        let by_client = service.affinity_seconds.is_some();
        Self { table: Some(Arc::new(Spread { nodes, by_client })), comes_here }
    }
}

/// How many endpoints each node has of those that take connections, whatever is preferred where:
/// all nodes must count alike. None when some are on no node that is known.
fn weights(snapshot: &Snapshot, family: Family, all: &[(&Endpoint, Backend)]) -> Option<Weights> {
    let mut serving: Vec<&Endpoint> = all.iter().map(|(e, _)| *e).filter(|e| e.ready).collect();
    if serving.is_empty() {
        let leaving = all.iter().map(|(e, _)| *e).filter(|e| e.serving && e.terminating);
        serving = leaving.collect();
    }
    let mut weights = Weights::new();
    for endpoint in serving {
        let name = endpoint.node.as_ref()?;
        let node = snapshot.nodes.get(name)?;
        node.addresses.iter().find(|addr| Family::of(**addr) == family)?;
        *weights.entry(name.clone()).or_default() += 1;
    }
    Some(weights)
}
