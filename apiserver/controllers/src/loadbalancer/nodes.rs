//! Node mode: where there is no AddressPool, Services of type LoadBalancer are reached at the nodes'
//! own addresses, as with k3s' servicelb.
//!
//! Pure. Inputs: services, nodes, endpoints, pods. Output: the Services whose status is to change.
//! Invariant: a port of the nodes has one owner: who has it keeps it, else the oldest Service that
//! asks for it gets it. All others are told whose it is, and are not served.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use resources::families::Family;
use resources::service as rules;
use resources::service::balancer;

use super::SERVICE_NAME;
use crate::meta;
use crate::view::View;

/// Label of nodes that outside load balancers leave out (upstream: `LabelNodeExcludeBalancers`).
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// Label and value of Services that each node serves by itself, without endpoints.
const PROXY_LABEL: &str = "service.kubernetes.io/service-proxy-name";
const NODE_LOCAL: &str = "minictl-node-local";

/// What a plan is made from.
pub(super) struct Cluster {
    pub(super) services: Vec<Arc<Service>>,
    pub(super) nodes: Vec<Arc<Node>>,
    pub(super) pods: Vec<Arc<Pod>>,
    /// The nodes on which a Service has endpoints that take connections, by `namespace/name`.
    pub(super) homes: BTreeMap<String, BTreeSet<String>>,
}

impl Cluster {
    /// What the view knows.
    pub(super) fn of(view: &View) -> Self {
        let services = view.services.all();
        // Few clusters have one, and many have very many slices.
        let any_local = services.iter().any(|service| is_local(service));
        let slices = if any_local { view.endpoint_slices.all() } else { Vec::new() };
        let mut homes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for slice in slices {
            let Some(service) = meta::label(&*slice, SERVICE_NAME) else { continue };
            let serving = slice.endpoints.iter().flatten().filter(|endpoint| {
                let conditions = endpoint.conditions.as_ref();
                conditions.and_then(|c| c.ready).unwrap_or(true)
            });
            let nodes = serving.filter_map(|endpoint| endpoint.node_name.clone());
            let name = format!("{}/{service}", meta::namespace(&*slice));
            homes.entry(name).or_default().extend(nodes);
        }
        let with_ports = |pod: &Arc<Pod>| has_host_ports(pod) && !crate::pod::is_terminal(pod);
        Self {
            services,
            nodes: view.nodes.all(),
            pods: view.pods.all().into_iter().filter(with_ports).collect(),
            homes,
        }
    }
}

/// Whether only nodes with endpoints are to take the Service's connections.
pub(super) fn is_local(service: &Service) -> bool {
    let policy = service.spec.as_ref().and_then(|s| s.external_traffic_policy.as_deref());
    balancer::is_ours(service) && policy == Some("Local") && !is_node_local(service)
}

/// Whether the pod takes ports of its node.
pub(super) fn has_host_ports(pod: &Pod) -> bool {
    host_ports(pod).next().is_some()
}

fn host_ports(pod: &Pod) -> impl Iterator<Item = String> {
    let spec = pod.spec.as_ref();
    let containers = spec.into_iter().flat_map(|spec| &spec.containers);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports.filter_map(|port| {
        let number = port.host_port.filter(|number| *number != 0)?;
        Some(format!("{}/{number}", port.protocol.as_deref().unwrap_or("TCP")))
    })
}

fn is_node_local(service: &Service) -> bool {
    meta::label(service, PROXY_LABEL) == Some(NODE_LOCAL)
}

fn name(service: &Service) -> String {
    format!("{}/{}", meta::namespace(service), meta::name(service))
}

/// The Services whose addresses or condition are to be others, as they are to be.
pub(super) fn plan(cluster: &Cluster, now: Timestamp) -> Vec<Service> {
    let mut services: Vec<&Arc<Service>> = cluster
        .services
        .iter()
        .filter(|service| balancer::is_ours(service) && !balancer::is_from_pool(service))
        .collect();
    services.sort_by_key(|service| {
        (!has_its_ports(service), meta::created(&***service), name(service))
    });
    let mut ports = Ports::of(cluster);
    let mut changed = Vec::new();
    for service in services {
        let wanted = settled(service, cluster, &mut ports, now);
        if wanted != **service {
            changed.push(wanted);
        }
    }
    changed
}

fn has_its_ports(service: &Service) -> bool {
    balancer::condition(service).is_some_and(|c| c.reason == balancer::NODE_ADDRESSES)
}

fn settled(service: &Service, cluster: &Cluster, ports: &mut Ports, now: Timestamp) -> Service {
    let mut wanted = service.clone();
    let (addresses, condition) = match ports.take(service) {
        Err(conflict) => (Vec::new(), (false, "PortConflict", conflict)),
        Ok(()) => match addresses(service, cluster) {
            found if found.is_empty() => (found, (false, "NoNode", nowhere(service))),
            found => (found, (true, balancer::NODE_ADDRESSES, WHENCE.to_owned())),
        },
    };
    wanted.status.get_or_insert_default().load_balancer = Some(balancer::status(&addresses));
    balancer::set_condition(&mut wanted, Some(condition), meta::seconds(now));
    wanted
}

const WHENCE: &str = "there is no AddressPool: the nodes' own addresses serve";

fn nowhere(service: &Service) -> String {
    if is_local(service) {
        "there is no AddressPool, and no ready node has an endpoint of the Service, whose \
         externalTrafficPolicy is Local"
            .to_owned()
    } else {
        "there is no AddressPool, and no node is ready".to_owned()
    }
}

/// The addresses of the nodes that serve, family by family.
fn addresses(service: &Service, cluster: &Cluster) -> Vec<IpAddr> {
    let homes = cluster.homes.get(&name(service));
    let serves = |node: &Node| {
        !is_local(service) || homes.is_some_and(|homes| homes.contains(meta::name(node)))
    };
    let mut nodes: Vec<&Arc<Node>> =
        cluster.nodes.iter().filter(|node| is_eligible(node) && serves(node)).collect();
    nodes.sort_by_key(|node| meta::name(&***node));
    let families = balancer::wish(service).families;
    let of_family = |family: &Family| {
        let all = nodes.iter().flat_map(|node| internal_addresses(node));
        all.filter(|address| Family::from(*address) == *family).collect::<Vec<_>>()
    };
    families.iter().flat_map(of_family).collect()
}

fn is_eligible(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
    ready.any(|condition| condition.status == "True")
        && meta::label(node, EXCLUDED).is_none()
        && !meta::is_deleted(node)
}

fn internal_addresses(node: &Node) -> impl Iterator<Item = IpAddr> {
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let internal = addresses.filter(|address| address.type_ == "InternalIP");
    internal.filter_map(|address| address.address.parse().ok())
}

/// Whose each port of the nodes is: `TCP/80` → `the Service default/web`.
struct Ports(BTreeMap<String, (String, Option<String>)>);

impl Ports {
    /// Those that are taken before any load balancer asks: node ports, and ports of pods.
    fn of(cluster: &Cluster) -> Self {
        let mut taken = BTreeMap::new();
        for service in &cluster.services {
            for (protocol, port) in rules::held_node_ports(service) {
                let text = format!("a nodePort of the Service {}", name(service));
                taken.insert(format!("{protocol}/{port}"), (text, Some(name(service))));
            }
        }
        for pod in &cluster.pods {
            let pod_name = format!("{}/{}", meta::namespace(&**pod), meta::name(&**pod));
            for port in host_ports(pod) {
                taken.insert(port, (format!("a hostPort of the pod {pod_name}"), None));
            }
        }
        Self(taken)
    }

    /// Takes all ports of a Service, or none.
    fn take(&mut self, service: &Service) -> Result<(), String> {
        let own = name(service);
        let ports = balancer::wish(service).tenancy.ports;
        for port in &ports {
            if let Some((holder, of)) = self.0.get(port)
                && of.as_ref() != Some(&own)
            {
                return Err(format!(
                    "port {port} of the nodes is {holder}; without an AddressPool all Services of \
                     type LoadBalancer share the nodes' addresses: make a pool, or take another port"
                ));
            }
        }
        let holder = format!("that of the Service {own}");
        self.0.extend(ports.into_iter().map(|port| (port, (holder.clone(), Some(own.clone())))));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
