//! What a pod asks of a node (upstream: `resource.PodRequests`, `nodeports`).
//!
//! Pure. Input: a pod. Output: resources as numbers, and host ports.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::pod;
use crate::quantity;

/// Amounts by resource: CPU in thousandths, everything else in units.
pub(super) type Amounts = BTreeMap<String, i64>;

/// What a pod counts for when it asks for nothing, so that such pods spread as well (upstream:
/// `DefaultMilliCPURequest`, `DefaultMemoryRequest`).
const UNASKED: [(&str, i64); 2] = [("cpu", 100), ("memory", 200 * 1024 * 1024)];

/// A port of the node that a pod wants for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostPort {
    protocol: String,
    ip: String,
    port: i32,
}

impl HostPort {
    /// Whether both cannot be held on one node: the wildcard address meets every other.
    pub(super) fn conflicts(&self, other: &Self) -> bool {
        let wildcard = |ip: &str| matches!(ip, "" | "0.0.0.0" | "::");
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || wildcard(&self.ip) || wildcard(&other.ip))
    }
}

/// A quantity as the number by which it is compared.
pub(super) fn amount(resource: &str, quantity: &Quantity) -> i64 {
    if resource == "cpu" { quantity::milli(quantity) } else { quantity::value(quantity) }
}

/// A list of quantities as numbers.
pub(super) fn amounts(quantities: Option<&BTreeMap<String, Quantity>>) -> Amounts {
    quantities
        .into_iter()
        .flatten()
        .map(|(resource, quantity)| (resource.clone(), amount(resource, quantity)))
        .collect()
}

fn requests(container: &Container) -> Amounts {
    amounts(container.resources.as_ref().and_then(|resources| resources.requests.as_ref()))
}

/// What the pod needs while it runs or while it starts, whichever is more.
pub(super) fn of_pod(pod: &Pod) -> Amounts {
    let Some(spec) = pod::spec(pod) else { return Amounts::new() };
    let mut running = Amounts::new();
    for container in &spec.containers {
        add(&mut running, &requests(container));
    }
    // Init containers run one by one, beside the sidecars (init containers that restart) that
    // were started before them.
    let mut sidecars = Amounts::new();
    let mut starting = Amounts::new();
    for container in spec.init_containers.iter().flatten() {
        let mut moment = requests(container);
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut sidecars, &moment);
            moment = sidecars.clone();
        } else {
            add(&mut moment, &sidecars);
        }
        raise(&mut starting, &moment);
    }
    add(&mut running, &sidecars);
    raise(&mut running, &starting);
    add(&mut running, &amounts(spec.overhead.as_ref()));
    running
}

/// The same for scoring, where a pod that asks for nothing still counts.
pub(super) fn for_scoring(requests: &Amounts) -> Amounts {
    UNASKED
        .iter()
        .map(|(resource, unasked)| {
            let asked = requests.get(*resource).copied().unwrap_or(0);
            ((*resource).to_owned(), if asked == 0 { *unasked } else { asked })
        })
        .collect()
}

/// The host ports of a pod's containers.
pub(super) fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let Some(spec) = pod::spec(pod) else { return Vec::new() };
    spec.containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            Some(HostPort {
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                ip: port.host_ip.clone().unwrap_or_default(),
                port: number,
            })
        })
        .collect()
}

/// Adds amounts to a sum.
pub(super) fn add(sum: &mut Amounts, more: &Amounts) {
    for (resource, amount) in more {
        let held = sum.entry(resource.clone()).or_default();
        *held = held.saturating_add(*amount);
    }
}

fn raise(most: &mut Amounts, other: &Amounts) {
    for (resource, amount) in other {
        let held = most.entry(resource.clone()).or_default();
        *held = (*held).max(*amount);
    }
}
