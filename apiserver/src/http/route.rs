//! What a path means: a pure function from method, path and query to [`Route`].
//!
//! The resource table decides which resources and subresources exist; nothing here knows a kind.
//! Upstream: apiserver `pkg/endpoints/request/requestinfo.go`.

use http::Method;
use resources::table::{self, Resource, Subresource};

use crate::review::Review;
use crate::status::ApiError;
use crate::stream::dataplane::Question;
use crate::stream::dns;

/// What is done with a resource, as authorization and messages name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    /// All of them.
    pub(crate) const ALL: [Self; 8] = [
        Self::Get,
        Self::List,
        Self::Watch,
        Self::Create,
        Self::Update,
        Self::Patch,
        Self::Delete,
        Self::DeleteCollection,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }
}

/// A resource, and which part of it.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) resource: &'static Resource,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<Subresource>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target")
            .field("resource", &self.resource.qualified())
            .field("namespace", &self.namespace)
            .field("name", &self.name)
            .field("subresource", &self.subresource)
            .finish()
    }
}

/// What a path asks for.
#[derive(Clone, Debug)]
pub(crate) enum Route {
    /// `/healthz`, `/livez`, `/readyz` and what lies below them.
    Health,
    /// `/version`
    Version,
    /// `/metrics`
    Metrics,
    /// `/api`
    CoreVersions,
    /// `/apis`
    Groups,
    /// `/apis/GROUP`
    Group(String),
    /// `/api/VERSION` and `/apis/GROUP/VERSION`
    Resources { group: String, version: String },
    /// `/openapi/v3`
    OpenApiIndex,
    /// `/openapi/v3/api/v1` and `/openapi/v3/apis/GROUP/VERSION`
    OpenApiDocument { group: String, version: String },
    /// `/openapi/v2`
    OpenApiV2,
    /// A node's offer of its services.
    Tunnel(String),
    /// What a node tells about its data plane.
    Dataplane { node: String, question: Question },
    /// What a node's name server tells.
    Dns { node: String, question: dns::Question },
    /// What a node knows of a LoadBalancer address.
    LoadBalancer { node: String },
    /// The list of custom resource definitions, of which this server has none. kubectl asks for it
    /// when it meets a kind that discovery does not know, and would blame the list if it failed.
    NoDefinitions,
    /// A user's question about itself.
    Review(Review),
    /// A resource of the table.
    Object { verb: Verb, target: Target },
}

/// The route of a request.
///
/// # Errors
/// [`ApiError::UnknownPath`] for a path that leads nowhere, [`ApiError::MethodNotAllowed`] for a
/// method that the path does not have.
pub(crate) fn route(method: &Method, path: &str, watch: bool) -> Result<Route, ApiError> {
    let segments: Vec<String> =
        path.split('/').filter(|s| !s.is_empty()).map(percent_decoded).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        ["healthz" | "livez" | "readyz", ..] => Ok(Route::Health),
        ["version"] => Ok(Route::Version),
        ["metrics"] => Ok(Route::Metrics),
        ["api"] => Ok(Route::CoreVersions),
        ["apis"] => Ok(Route::Groups),
        ["apis", group] => Ok(Route::Group((*group).into())),
        ["openapi", "v2"] => Ok(Route::OpenApiV2),
        ["openapi", "v3"] => Ok(Route::OpenApiIndex),
        ["openapi", "v3", "api", version] => {
            Ok(Route::OpenApiDocument { group: String::new(), version: (*version).into() })
        }
        ["openapi", "v3", "apis", group, version] => {
            Ok(Route::OpenApiDocument { group: (*group).into(), version: (*version).into() })
        }
        ["minictl.io", "v1", "nodes", node, "tunnel"] => Ok(Route::Tunnel((*node).into())),
        ["minictl.io", "v1", "nodes", node, "dataplane", question]
            if let Some(question) = Question::named(question) =>
        {
            Ok(Route::Dataplane { node: (*node).into(), question })
        }
        ["minictl.io", "v1", "nodes", node, "dns", question]
            if let Some(question) = dns::Question::named(question) =>
        {
            Ok(Route::Dns { node: (*node).into(), question })
        }
        ["minictl.io", "v1", "nodes", node, "lb", "check"] => {
            Ok(Route::LoadBalancer { node: (*node).into() })
        }
        ["api", version] => {
            Ok(Route::Resources { group: String::new(), version: (*version).into() })
        }
        ["apis", group, version] => {
            Ok(Route::Resources { group: (*group).into(), version: (*version).into() })
        }
        ["apis", "apiextensions.k8s.io", "v1", "customresourcedefinitions"] => {
            Ok(Route::NoDefinitions)
        }
        ["apis", path @ ..] if let Some(review) = Review::at(path) => Ok(Route::Review(review)),
        ["api", version, rest @ ..] => object(method, "", version, rest, watch),
        ["apis", group, version, rest @ ..] => object(method, group, version, rest, watch),
        _ => Err(ApiError::UnknownPath),
    }
}

fn object(
    method: &Method,
    group: &str,
    version: &str,
    path: &[&str],
    watch: bool,
) -> Result<Route, ApiError> {
    // The old form `/api/v1/watch/…` of `?watch=true`.
    let (path, watch) = match path {
        ["watch", rest @ ..] if !rest.is_empty() => (rest, true),
        _ => (path, watch),
    };
    let target = target(group, version, path).ok_or(ApiError::UnknownPath)?;
    let verb = verb(method, &target, watch).ok_or(ApiError::MethodNotAllowed)?;
    Ok(Route::Object { verb, target })
}

fn target(group: &str, version: &str, path: &[&str]) -> Option<Target> {
    let find = |plural: &str| table::by_path(group, version, plural);
    // `/namespaces/NAME/RESOURCE…` is something in a namespace, unless RESOURCE is a subresource
    // of the namespace itself.
    if let ["namespaces", namespace, plural, rest @ ..] = path
        && let Some(resource) = find(plural)
        && resource.namespaced
    {
        return named(resource, Some(namespace), rest);
    }
    // A binding of its own (`POST /namespaces/NS/bindings`) is the pod's subresource.
    let [plural, rest @ ..] = path else { return None };
    let resource = find(plural)?;
    if resource.namespaced && !rest.is_empty() {
        return None;
    }
    named(resource, None, rest)
}

fn named(resource: &'static Resource, namespace: Option<&&str>, rest: &[&str]) -> Option<Target> {
    let (name, subresource) = match rest {
        [] => (None, None),
        [name] => (Some((*name).to_owned()), None),
        [name, part] => (Some((*name).to_owned()), Some(subresource(resource, part)?)),
        _ => return None,
    };
    let namespace = namespace.map(|n| (*n).to_owned());
    let slashed = |text: &Option<String>| text.as_ref().is_some_and(|t| t.contains('/'));
    if slashed(&namespace) || slashed(&name) {
        return None;
    }
    Some(Target { resource, namespace, name, subresource })
}

fn verb(method: &Method, target: &Target, watch: bool) -> Option<Verb> {
    let named = target.name.is_some();
    // Something in a namespace can be read over all namespaces, and written only in one.
    let writable = !target.resource.namespaced || target.namespace.is_some();
    if let Some(part) = target.subresource {
        return part_verb(method, part);
    }
    match *method {
        Method::GET | Method::HEAD if watch => Some(Verb::Watch),
        Method::GET | Method::HEAD if named => Some(Verb::Get),
        Method::GET | Method::HEAD => Some(Verb::List),
        Method::POST if !named && writable => Some(Verb::Create),
        Method::PUT if named => Some(Verb::Update),
        Method::PATCH if named => Some(Verb::Patch),
        Method::DELETE if named => Some(Verb::Delete),
        Method::DELETE if writable => Some(Verb::DeleteCollection),
        _ => None,
    }
}

fn part_verb(method: &Method, part: Subresource) -> Option<Verb> {
    match part {
        Subresource::Status | Subresource::Scale => match *method {
            Method::GET => Some(Verb::Get),
            Method::PUT => Some(Verb::Update),
            Method::PATCH => Some(Verb::Patch),
            _ => None,
        },
        Subresource::Finalize => (method == Method::PUT).then_some(Verb::Update),
        Subresource::Binding | Subresource::Eviction => {
            (method == Method::POST).then_some(Verb::Create)
        }
        Subresource::Log => (method == Method::GET).then_some(Verb::Get),
        // A WebSocket starts with GET, SPDY with POST; both mean to create a session.
        Subresource::Exec | Subresource::Attach | Subresource::PortForward => match *method {
            Method::GET | Method::POST => Some(Verb::Create),
            _ => None,
        },
    }
}

/// The subresource's part of the path.
pub(crate) fn segment(subresource: Subresource) -> &'static str {
    match subresource {
        Subresource::Status => "status",
        Subresource::Scale => "scale",
        Subresource::Finalize => "finalize",
        Subresource::Binding => "binding",
        Subresource::Eviction => "eviction",
        Subresource::Log => "log",
        Subresource::Exec => "exec",
        Subresource::Attach => "attach",
        Subresource::PortForward => "portforward",
    }
}

/// The subresource with this part of the path.
pub(crate) fn subresource(resource: &Resource, part: &str) -> Option<Subresource> {
    resource.subresources.iter().copied().find(|s| segment(*s) == part)
}

fn percent_decoded(text: &str) -> String {
    super::query::percent_decoded(text, false)
}

#[cfg(test)]
mod tests;
