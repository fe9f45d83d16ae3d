//! What a user may do: everything for `system:masters`, a short list for nodes and for Kubernetes'
//! own proxy, nothing for others.
//!
//! The list is what upstream's node authorizer and NodeRestriction admission leave a kubelet and
//! a kube-proxy (upstream: `plugin/pkg/auth/authorizer/node`, `plugin/pkg/admission/noderestriction`).
//! Pure: the node of a pod is looked up by a function of the caller.

use resources::table::{Resource, Subresource};

use crate::authn::User;
use crate::http::route::Verb;
use crate::status::ApiError;

/// The group whose members may do everything.
pub(crate) const MASTERS: &str = "system:masters";
/// The user that Kubernetes' own proxy is.
const PROXY: &str = "system:kube-proxy";
const LEASE_NAMESPACE: &str = "kube-node-lease";

/// What is to be done.
pub(crate) struct Ask<'a> {
    pub(crate) verb: Verb,
    pub(crate) resource: &'static Resource,
    pub(crate) subresource: Option<Subresource>,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) name: Option<&'a str>,
}

/// Whether `user` may do what is asked. `node_of_pod` finds the node of the pod that is asked for.
///
/// # Errors
/// [`ApiError::Forbidden`] in upstream's words.
pub(crate) fn decide(
    user: &User,
    ask: &Ask<'_>,
    node_of_pod: impl Fn() -> Option<String>,
) -> Result<(), ApiError> {
    if user.is_in(MASTERS) {
        return Ok(());
    }
    match user.node() {
        Some(_) if reads(ask) => Ok(()),
        Some(node) => node_write(user, node, ask, node_of_pod),
        None if user.name == PROXY && proxies(ask) => Ok(()),
        None => Err(denied(user, ask)),
    }
}

/// Whether `user` may open the tunnel of a node.
pub(crate) fn decide_tunnel(user: &User, node: &str) -> Result<(), ApiError> {
    if user.node() == Some(node) {
        return Ok(());
    }
    Err(denied_path(user, &proto::tunnel_path(node)))
}

/// Whether `user` may read a path that belongs to no resource, such as `/metrics`.
pub(crate) fn decide_path(user: &User, path: &str) -> Result<(), ApiError> {
    if user.is_in(MASTERS) || user.node().is_some() {
        return Ok(());
    }
    Err(denied_path(user, path))
}

/// Whether `user` may read a path that shows all of the cluster, such as a node's data plane.
pub(crate) fn decide_admin(user: &User, path: &str) -> Result<(), ApiError> {
    if user.is_in(MASTERS) { Ok(()) } else { Err(denied_path(user, path)) }
}

fn denied_path(user: &User, path: &str) -> ApiError {
    let reason = format!("User {:?} cannot get path {path:?}", user.name);
    ApiError::Forbidden { resource: None, name: String::new(), reason }
}

fn reads(ask: &Ask<'_>) -> bool {
    let streams = matches!(
        ask.subresource,
        Some(Subresource::Exec | Subresource::Attach | Subresource::PortForward)
    );
    matches!(ask.verb, Verb::Get | Verb::List | Verb::Watch) && !streams
}

/// What Kubernetes' own proxy needs (upstream: ClusterRole `system:node-proxier`).
fn proxies(ask: &Ask<'_>) -> bool {
    let reads = match ask.resource.plural {
        "nodes" => matches!(ask.verb, Verb::Get | Verb::List | Verb::Watch),
        "services" | "endpointslices" | "servicecidrs" => {
            matches!(ask.verb, Verb::List | Verb::Watch)
        }
        _ => false,
    };
    let writes = matches!(ask.verb, Verb::Create | Verb::Update | Verb::Patch);
    ask.subresource.is_none() && (reads || (ask.resource.plural == "events" && writes))
}

fn node_write(
    user: &User,
    node: &str,
    ask: &Ask<'_>,
    node_of_pod: impl Fn() -> Option<String>,
) -> Result<(), ApiError> {
    let name = ask.name.unwrap_or_default();
    let refuse = |reason: String| Err(ApiError::forbidden(ask.resource, name, reason));
    let on_this_node = || node_of_pod().is_none_or(|n| n == node);
    match (ask.resource.plural, ask.subresource, ask.verb) {
        // A node's name at creation stands in the body: `may_create_node` sees it.
        ("nodes", None, Verb::Create) => Ok(()),
        ("nodes", None | Some(Subresource::Status), Verb::Update | Verb::Patch) if name != node => {
            refuse(format!("node {node:?} is not allowed to modify node {name:?}"))
        }
        ("nodes", None | Some(Subresource::Status), Verb::Update | Verb::Patch) => Ok(()),
        ("leases", None, Verb::Create | Verb::Update | Verb::Patch | Verb::Delete) => {
            if ask.namespace != Some(LEASE_NAMESPACE) {
                refuse(format!(
                    "can only access leases in the {LEASE_NAMESPACE:?} system namespace"
                ))
            } else if ask.verb != Verb::Create && name != node {
                refuse(
                    "can only access node lease with the same name as the requesting node".into(),
                )
            } else {
                Ok(())
            }
        }
        ("pods", Some(Subresource::Status), Verb::Update | Verb::Patch) if !on_this_node() => {
            refuse(format!(
                "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
            ))
        }
        ("pods", None, Verb::Delete) if !on_this_node() => {
            refuse(format!("node {node:?} can only delete pods with spec.nodeName set to itself"))
        }
        // What of it, admission decides.
        ("services", Some(Subresource::Status), Verb::Update | Verb::Patch)
        | ("pods", Some(Subresource::Status), Verb::Update | Verb::Patch)
        | ("pods", None, Verb::Delete)
        | ("events", None, Verb::Create | Verb::Update | Verb::Patch) => Ok(()),
        _ => Err(denied(user, ask)),
    }
}

/// A node may create only itself, and only its own lease (the name stands in the body).
pub(crate) fn decide_creation(
    user: &User,
    resource: &'static Resource,
    name: &str,
) -> Result<(), ApiError> {
    let Some(node) = user.node().filter(|_| !user.is_in(MASTERS)) else { return Ok(()) };
    match resource.plural {
        "nodes" if name != node => Err(ApiError::forbidden(
            resource,
            name,
            format!("node {node:?} is not allowed to modify node {name:?}"),
        )),
        "leases" if name != node => Err(ApiError::forbidden(
            resource,
            name,
            "can only access node lease with the same name as the requesting node",
        )),
        _ => Ok(()),
    }
}

/// Upstream: `responsewriters.forbiddenMessage`.
fn denied(user: &User, ask: &Ask<'_>) -> ApiError {
    let resource = match ask.subresource {
        Some(sub) => format!("{}/{}", ask.resource.plural, crate::http::route::segment(sub)),
        None => ask.resource.plural.to_owned(),
    };
    let scope = match ask.namespace {
        Some(namespace) => format!("in the namespace {namespace:?}"),
        None => "at the cluster scope".to_owned(),
    };
    let reason = format!(
        "User {:?} cannot {} resource {resource:?} in API group {:?} {scope}",
        user.name,
        ask.verb.as_str(),
        ask.resource.group,
    );
    ApiError::forbidden(ask.resource, ask.name.unwrap_or_default(), reason)
}

#[cfg(test)]
mod tests;
