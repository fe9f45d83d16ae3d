//! What a user is told about itself: who it is, and what it may do (upstream:
//! `pkg/registry/{authorization,authentication}`; `kubectl auth whoami` and `kubectl auth can-i`).
//!
//! Reviews are questions in the form of objects: created, answered and never stored. Inputs: the
//! user and the question; output: the question with its `status`. The rules are those of `authz`,
//! which is asked as if the request were there.

use bytes::Bytes;
use http::Method;
use resources::table::{self, Resource, Subresource};
use serde_json::{Value, json};

use crate::authn::User;
use crate::authz::{self, Ask, MASTERS};
use crate::http::route::{self, Route, Verb};
use crate::incoming;
use crate::status::ApiError;
use crate::verbs::Body;

/// The paths that every user may read (upstream: the cluster role `system:discovery`).
const OPEN_PATHS: [&str; 10] = [
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/healthz",
    "/livez",
    "/openapi",
    "/openapi/*",
    "/readyz",
    "/version",
];

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Review {
    /// `SelfSubjectReview`: who am I?
    User,
    /// `SelfSubjectAccessReview`: may I do this?
    Access,
    /// `SelfSubjectRulesReview`: what may I do?
    Rules,
}

impl Review {
    /// The question that is asked at a path below `/apis`.
    pub(crate) fn at(path: &[&str]) -> Option<Self> {
        match path {
            ["authentication.k8s.io", "v1", "selfsubjectreviews"] => Some(Self::User),
            ["authorization.k8s.io", "v1", "selfsubjectaccessreviews"] => Some(Self::Access),
            ["authorization.k8s.io", "v1", "selfsubjectrulesreviews"] => Some(Self::Rules),
            _ => None,
        }
    }

    fn kind(self) -> (&'static str, &'static str) {
        match self {
            Self::User => ("authentication.k8s.io/v1", "SelfSubjectReview"),
            Self::Access => ("authorization.k8s.io/v1", "SelfSubjectAccessReview"),
            Self::Rules => ("authorization.k8s.io/v1", "SelfSubjectRulesReview"),
        }
    }

    /// The question with its answer.
    ///
    /// # Errors
    /// What is wrong with the body.
    pub(crate) fn answer(self, user: &User, body: &Body) -> Result<Bytes, ApiError> {
        let (api_version, kind) = self.kind();
        let spec = incoming::value(body, kind)?.value["spec"].take();
        let status = match self {
            Self::User => json!({ "userInfo": { "username": user.name, "groups": user.groups } }),
            Self::Access => json!({ "allowed": may(user, &spec)? }),
            Self::Rules => rules(user, spec["namespace"].as_str().unwrap_or_default()),
        };
        let mut answer = json!({
            "kind": kind, "apiVersion": api_version, "metadata": {}, "status": status,
        });
        if self != Self::User {
            answer["spec"] = spec;
        }
        Ok(answer.to_string().into())
    }
}

fn may(user: &User, spec: &Value) -> Result<bool, ApiError> {
    match (&spec["resourceAttributes"], &spec["nonResourceAttributes"]) {
        (Value::Object(_), Value::Null) if user.is_in(MASTERS) => Ok(true),
        (of @ Value::Object(_), Value::Null) => Ok(may_use(user, of).is_some()),
        (Value::Null, of @ Value::Object(_)) => Ok(may_read(user, of)),
        _ => Err(ApiError::Unprocessable(
            "exactly one of nonResourceAttributes or resourceAttributes must be specified".into(),
        )),
    }
}

fn may_use(user: &User, of: &Value) -> Option<()> {
    let text = |field: &str| of[field].as_str().filter(|t| !t.is_empty());
    let group = text("group").unwrap_or_default();
    let plural = text("resource")?;
    let resource = table::all().iter().find(|r| r.group == group && r.plural == plural)?;
    let subresource = match text("subresource") {
        Some(part) => Some(route::subresource(resource, part)?),
        None => None,
    };
    let verb = Verb::ALL.into_iter().find(|v| Some(v.as_str()) == text("verb"))?;
    let (namespace, name) = (text("namespace"), text("name"));
    allows(user, &Ask { verb, resource, subresource, namespace, name }).then_some(())
}

fn allows(user: &User, ask: &Ask<'_>) -> bool {
    // No pod in particular: whether there can be one with which it is allowed.
    authz::decide(user, ask, || None).is_ok()
}

/// Paths that belong to no resource can only be read.
fn may_read(user: &User, of: &Value) -> bool {
    let path = of["path"].as_str().unwrap_or_default();
    if user.is_in(MASTERS) {
        return true;
    }
    let reads = of["verb"].as_str().is_some_and(|v| v == "get");
    reads
        && match route::route(&Method::GET, path, false) {
            Ok(Route::Metrics) => authz::decide_path(user, path).is_ok(),
            Ok(Route::Object { .. } | Route::Tunnel(_) | Route::Review(_)) | Err(_) => false,
            Ok(_) => true,
        }
}

/// Everything that the user may do in a namespace and at the cluster scope.
fn rules(user: &User, namespace: &str) -> Value {
    if user.is_in(MASTERS) {
        return json!({
            "resourceRules": [{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] }],
            "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }],
            "incomplete": false,
        });
    }
    let parts = |r: &'static Resource| {
        let subresources = r.subresources.iter().copied().map(Some);
        std::iter::once(None).chain(subresources).map(move |part| (r, part))
    };
    let resources: Vec<Value> = table::all()
        .iter()
        .flat_map(parts)
        .filter_map(|(resource, part)| rule(user, namespace, resource, part))
        .collect();
    let mut paths = OPEN_PATHS.to_vec();
    paths.extend(authz::decide_path(user, "/metrics").is_ok().then_some("/metrics"));
    json!({
        "resourceRules": resources,
        "nonResourceRules": [{ "verbs": ["get"], "nonResourceURLs": paths }],
        "incomplete": false,
    })
}

/// What the user may do with a resource, or with a part of it.
fn rule(
    user: &User,
    namespace: &str,
    resource: &'static Resource,
    subresource: Option<Subresource>,
) -> Option<Value> {
    // A node may write some objects that bear its name.
    let name = user.node();
    let ask = |verb| Ask { verb, resource, subresource, namespace: Some(namespace), name };
    let verbs: Vec<&str> =
        Verb::ALL.into_iter().filter(|verb| allows(user, &ask(*verb))).map(Verb::as_str).collect();
    let path = match subresource {
        Some(part) => format!("{}/{}", resource.plural, route::segment(part)),
        None => resource.plural.to_owned(),
    };
    (!verbs.is_empty())
        .then(|| json!({ "verbs": verbs, "apiGroups": [resource.group], "resources": [path] }))
}
