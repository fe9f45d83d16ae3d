//! Admission: what a write must find in the cluster, and what it takes along from it.
//!
//! Namespaces must exist and stay; Services get addresses and ports, Nodes their pod ranges, as
//! keys of the same transaction; Ingresses get the default class; an AddressPool overlaps with
//! nothing; no pod goes to a new Node before it is ready; no Service touches the API server's address.
//! Inputs: a snapshot and the object; outputs: the object filled in, and the checks and writes that
//! belong to it.

mod pool;

use k8s_openapi::api::core::v1::{Endpoints, Namespace, Node, Pod, Service, Taint};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{IPAddress, Ingress, IngressClass, ServiceCIDR};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use resources::address_pool::AddressPool;
use resources::object::Object;
use resources::service::balancer as balancing;
use resources::table::{self, Resource};
use resources::{api_server, ingress, ingress_class};
use store::{Check, Snapshot, Txn};

use crate::allocate::{balancer, cluster_ip, pod_range, service};
use crate::api::Api;
use crate::authn::User;
use crate::authz::MASTERS;
use crate::key;
use crate::status::ApiError;
use crate::stored::Current;

/// Namespaces without which the cluster does not work (upstream: NamespaceLifecycle).
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const NO_SCHEDULE: &str = "NoSchedule";

fn namespaces() -> Result<&'static Resource, ApiError> {
    table::by_path("", "v1", "namespaces")
        .ok_or_else(|| ApiError::Internal("namespaces are not served".into()))
}

/// A new object needs a namespace that is there to stay until the transaction is through.
pub(crate) fn namespace(
    snapshot: &Snapshot,
    resource: &'static Resource,
    namespace: Option<&str>,
    name: &str,
) -> Result<Txn, ApiError> {
    let Some(namespace) = namespace.filter(|_| resource.namespaced) else {
        return Ok(Txn::default());
    };
    let namespaces = namespaces()?;
    let key = key::object(namespaces, None, namespace);
    let entry = snapshot.get(&key).ok_or_else(|| ApiError::not_found(namespaces, namespace))?;
    let current = Current::read(namespaces, entry)?;
    if terminating(current.object.as_ref()) {
        return Err(ApiError::NamespaceTerminating {
            resource: resource.into(),
            name: name.to_owned(),
            namespace: namespace.to_owned(),
        });
    }
    // Unchanged, not only present: once a namespace is marked for deletion nothing new gets in,
    // so whoever empties it and sees it empty is right.
    Ok(Txn { checks: vec![Check::Unchanged(key, current.revision)], ops: Vec::new() })
}

fn terminating(object: &dyn Object) -> bool {
    let phase = object
        .as_any()
        .downcast_ref::<Namespace>()
        .and_then(|n| n.status.as_ref()?.phase.as_deref());
    object.metadata().deletion_timestamp.is_some() || phase == Some("Terminating")
}

/// Some namespaces may not go, and no address that a Service has.
pub(crate) fn may_delete(
    resource: &'static Resource,
    snapshot: &Snapshot,
    name: &str,
    object: &dyn Object,
) -> Result<(), ApiError> {
    if object.as_any().is::<Namespace>() && IMMORTAL.contains(&name) {
        return Err(ApiError::forbidden(resource, name, "this namespace may not be deleted"));
    }
    if let Some(address) = object.as_any().downcast_ref::<IPAddress>()
        && let Some((namespace, service)) = cluster_ip::holding_service(snapshot, address)
    {
        let reason = format!(
            "the Service {namespace}/{service} has this address; the object goes with the Service"
        );
        return Err(ApiError::forbidden(resource, name, reason));
    }
    Ok(())
}

/// What a new object takes from the cluster's ranges.
pub(crate) fn create(
    api: &Api,
    snapshot: &Snapshot,
    user: &User,
    object: &mut dyn Object,
) -> Result<Txn, ApiError> {
    api_server_alone(api, snapshot, user, object)?;
    if let Some(new) = object.as_any_mut().downcast_mut::<Service>() {
        let mut txn = service::create(&api.ranges, snapshot, new)?;
        join(&mut txn, balance(api, snapshot, new, None)?);
        return Ok(txn);
    }
    if let Some(new) = object.as_any_mut().downcast_mut::<Node>() {
        taint(new);
        return pod_range::create(&api.ranges, snapshot, new);
    }
    if let Some(new) = object.as_any_mut().downcast_mut::<Ingress>() {
        name_default_class(snapshot, new)?;
    }
    if let Some(new) = object.as_any().downcast_ref::<AddressPool>() {
        return pool::check(&api.ranges, snapshot, new, None);
    }
    if let Some(new) = object.as_any().downcast_ref::<ServiceCIDR>() {
        return pool::check_services(snapshot, new, None);
    }
    Ok(Txn::default())
}

/// Addresses for a Service of type LoadBalancer, unless the server has nothing to do with them. What
/// a Service was given before goes back with its type all the same.
fn balance(
    api: &Api,
    snapshot: &Snapshot,
    new: &mut Service,
    old: Option<&Service>,
) -> Result<Txn, ApiError> {
    if !api.features.load_balancer && balancing::is_ours(new) {
        return Ok(Txn::default());
    }
    balancer::settle(snapshot, new, old)
}

fn join(txn: &mut Txn, more: Txn) {
    txn.checks.extend(more.checks);
    txn.ops.extend(more.ops);
}

/// A new Ingress that names no class gets the default one, if there is one (upstream:
/// `plugin/pkg/admission/network/defaultingressclass`).
fn name_default_class(snapshot: &Snapshot, new: &mut Ingress) -> Result<(), ApiError> {
    if ingress::class(new).is_some() || ingress::class_annotation(new).is_some() {
        return Ok(());
    }
    let Some(row) = table::by_path("networking.k8s.io", "v1", "ingressclasses") else {
        return Ok(());
    };
    let classes = balancer::objects::<IngressClass>(snapshot, row)?;
    let default = ingress_class::default_of(&classes).map(str::to_owned);
    new.spec.get_or_insert_default().ingress_class_name = default;
    Ok(())
}

/// No Service leads to the API server's address, or away from it. The controllers write down which
/// pods there are, also one that says it listens there: were its whole slice refused, the Service
/// would lose all others with it. Nodes leave that one out and say so on the Service.
fn api_server_alone(
    api: &Api,
    snapshot: &Snapshot,
    user: &User,
    object: &dyn Object,
) -> Result<(), ApiError> {
    let (any, port) = (object.as_any(), api.advertise.port());
    let (plural, group, candidates) = if let Some(new) = any.downcast_ref::<Service>() {
        ("services", "", api_server::in_service(new, port))
    } else if user.is_controllers() {
        return Ok(());
    } else if let Some(new) = any.downcast_ref::<Endpoints>() {
        ("endpoints", "", api_server::in_endpoints(new, port))
    } else if let Some(new) = any.downcast_ref::<EndpointSlice>() {
        ("endpointslices", "discovery.k8s.io", api_server::in_slice(new, port))
    } else {
        return Ok(());
    };
    let rows = (table::by_path(group, "v1", plural), table::by_path("", "v1", "nodes"));
    let (Some(row), Some(nodes)) = rows else { return Ok(()) };
    if candidates.is_empty() {
        return Ok(());
    }
    let nodes = balancer::objects::<Node>(snapshot, nodes)?;
    let addresses = api_server::addresses(api.advertise.ip(), &nodes);
    let errors: Vec<_> =
        candidates.iter().filter_map(|found| found.refused(&addresses, port)).collect();
    if errors.is_empty() {
        return Ok(());
    }
    let name = object.metadata().name.as_deref().unwrap_or_default();
    Err(ApiError::invalid(row, name, errors))
}

/// What a write to a status may say; the addresses that a pool gave a Service stay in it.
pub(crate) fn status(
    api: &Api,
    snapshot: &Snapshot,
    user: &User,
    new: &mut dyn Object,
    old: &dyn Object,
) -> Result<(), ApiError> {
    status_by_node(user, new, old)?;
    if let Some(service) = new.as_any_mut().downcast_mut::<Service>() {
        balancer::keep_status(snapshot, service)?;
    }
    api_server_alone(api, snapshot, user, new)
}

/// Of a Service's status a node may say what it could not do; where the Service is reached from
/// outside is not a node's to say (CVE-2020-8554 by another door). Nor is what comes along with a
/// status: a Service whose owner is nobody would be collected, and a pod's labels choose whose
/// backend it is (upstream: `plugin/pkg/admission/noderestriction`).
fn status_by_node(user: &User, new: &dyn Object, old: &dyn Object) -> Result<(), ApiError> {
    let Some(node) = user.node().filter(|_| !user.is_in(MASTERS)) else { return Ok(()) };
    let (now, before) = (new.metadata(), old.metadata());
    if new.as_any().is::<Pod>() && now.labels != before.labels {
        let reason = format!("node {node:?} cannot update labels through pod status");
        return Err(refused("pods", now, reason));
    }
    let (Some(service), Some(was)) =
        (new.as_any().downcast_ref::<Service>(), old.as_any().downcast_ref::<Service>())
    else {
        return Ok(());
    };
    let ingress = |s: &Service| s.status.as_ref()?.load_balancer.as_ref()?.ingress.clone();
    let kept = ingress(service) == ingress(was)
        && now.labels == before.labels
        && now.annotations == before.annotations
        && now.owner_references == before.owner_references
        && now.finalizers == before.finalizers;
    if kept {
        return Ok(());
    }
    let reason =
        "a node may change the conditions of a Service and nothing else through its status";
    Err(refused("services", now, reason.to_owned()))
}

fn refused(plural: &str, metadata: &ObjectMeta, reason: String) -> ApiError {
    match table::by_path("", "v1", plural) {
        Some(row) => ApiError::forbidden(row, metadata.name.as_deref().unwrap_or_default(), reason),
        None => ApiError::Internal(format!("{plural} are not served")),
    }
}

/// Keeps pods off a new Node until it says that it is ready (upstream: TaintNodesByCondition,
/// `plugin/pkg/admission/nodetaint`). The node lifecycle controller takes the taint away.
fn taint(node: &mut Node) {
    let mut conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    if conditions.any(|c| c.type_ == "Ready" && c.status == "True") {
        return;
    }
    let taints = node.spec.get_or_insert_default().taints.get_or_insert_default();
    if !taints.iter().any(|t| t.key == NOT_READY && t.effect == NO_SCHEDULE) {
        taints.push(Taint {
            key: NOT_READY.to_owned(),
            effect: NO_SCHEDULE.to_owned(),
            ..Taint::default()
        });
    }
}

/// What a changed object takes and gives back.
pub(crate) fn update(
    api: &Api,
    snapshot: &Snapshot,
    user: &User,
    new: &mut dyn Object,
    old: &dyn Object,
) -> Result<Txn, ApiError> {
    api_server_alone(api, snapshot, user, new)?;
    if let (Some(new), Some(old)) =
        (new.as_any_mut().downcast_mut::<Service>(), old.as_any().downcast_ref::<Service>())
    {
        let mut txn = service::update(&api.ranges, snapshot, new, old)?;
        join(&mut txn, balance(api, snapshot, new, Some(old))?);
        return Ok(txn);
    }
    if let (Some(new), Some(old)) =
        (new.as_any().downcast_ref::<AddressPool>(), old.as_any().downcast_ref::<AddressPool>())
    {
        return pool::check(&api.ranges, snapshot, new, Some(old));
    }
    if let (Some(new), Some(old)) =
        (new.as_any().downcast_ref::<ServiceCIDR>(), old.as_any().downcast_ref::<ServiceCIDR>())
    {
        return pool::check_services(snapshot, new, Some(old));
    }
    if let (Some(new), Some(old)) =
        (new.as_any_mut().downcast_mut::<Node>(), old.as_any().downcast_ref::<Node>())
    {
        pod_range::keep(new, old);
    }
    Ok(Txn::default())
}

/// What an object gives back when it goes.
pub(crate) fn delete(api: &Api, snapshot: &Snapshot, object: &dyn Object) -> Result<Txn, ApiError> {
    if let Some(old) = object.as_any().downcast_ref::<Service>() {
        let mut txn = balancer::release(snapshot, old)?;
        txn.ops.extend(service::release(snapshot, old)?);
        return Ok(txn);
    }
    if let Some(old) = object.as_any().downcast_ref::<Node>() {
        return Ok(Txn { checks: Vec::new(), ops: pod_range::release(&api.ranges, old) });
    }
    Ok(Txn::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_new_node_is_tainted_once_unless_it_is_ready() {
        let not_ready = json!({ "key": NOT_READY, "effect": NO_SCHEDULE });
        let own = json!({ "key": "gpu", "effect": NO_SCHEDULE });
        let ready = |status| json!({ "conditions": [{ "type": "Ready", "status": status }] });
        let cases = [
            (json!({}), json!({}), json!([not_ready])),
            (json!({}), ready("False"), json!([not_ready])),
            (json!({ "taints": [own] }), json!({}), json!([own, not_ready])),
            (json!({ "taints": [not_ready] }), json!({}), json!([not_ready])),
            (json!({}), ready("True"), json!(null)),
        ];
        for (spec, status, expected) in cases {
            let node = json!({ "metadata": { "name": "a" }, "spec": spec, "status": status });
            let mut node: Node = serde_json::from_value(node).unwrap();
            taint(&mut node);
            let taints = node.spec.unwrap_or_default().taints;
            assert_eq!(json!(taints), expected, "{spec} {status}");
        }
    }
}
