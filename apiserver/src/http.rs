//! The HTTP pipeline: route ► authenticate ► authorize ► verb ► answer.
//!
//! One handler serves everything; the resource table decides which paths exist. Inputs: requests
//! with the connection's user as an extension. Outputs: responses, failures as `Status` objects.

pub(crate) mod accept;
pub(crate) mod query;
pub(crate) mod respond;
pub(crate) mod route;

use std::sync::Arc;

use axum::body::Body as HttpBody;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use resources::table::{self, Subresource};

use crate::api::Api;
use crate::authn::User;
use crate::authz::{self, Ask};
use crate::key;
use crate::present::{Include, View};
use crate::status::ApiError;
use crate::stored::Current;
use crate::verbs::{self, Answer, Body, Call};
use crate::{discovery, stream, watch};
use query::Query;
use respond::Reply;
use route::{Route, Target, Verb};

/// The largest request body (upstream: `MaxRequestBodyBytes`).
const LARGEST_BODY: usize = 3 * 1024 * 1024;

/// The routes of the server, for requests whose extensions carry the [`User`].
pub(crate) fn router(api: Arc<Api>) -> axum::Router {
    axum::Router::new().fallback(move |request: Request<HttpBody>| {
        let api = api.clone();
        async move { handle(api, request).await }
    })
}

/// Answers one request.
async fn handle(api: Arc<Api>, request: Request<HttpBody>) -> Response {
    let (parts, body) = request.into_parts();
    let reply = Reply::to(&parts);
    let result = serve(&api, parts, body, &reply).await;
    result.unwrap_or_else(|error| reply.error(&error))
}

async fn serve(
    api: &Arc<Api>,
    mut parts: Parts,
    body: HttpBody,
    reply: &Reply,
) -> Result<Response, ApiError> {
    let query = Query::parse(parts.uri.query());
    let found = route::route(&parts.method, parts.uri.path(), query.flag("watch"));
    let user = parts.extensions.get::<User>().cloned();
    // Whether it lives is no secret, everything else is: a stranger learns not even which paths
    // exist.
    if let Ok(Route::Health) = found {
        return Ok(reply.text("ok"));
    }
    let user = user.ok_or(ApiError::Unauthorized)?;
    match found? {
        Route::Health => Ok(reply.text("ok")),
        Route::Version => Ok(reply.json(discovery::version())),
        Route::Metrics => {
            authz::decide_path(&user, "/metrics")?;
            Ok(reply.text(&metrics(api)))
        }
        Route::CoreVersions | Route::Groups | Route::Group(_) | Route::Resources { .. } => {
            reading(&parts.method)?;
            let found = route::route(&parts.method, parts.uri.path(), false)?;
            discovery::answer(&api.discovery, &found, &parts.headers, reply)
        }
        Route::OpenApiIndex | Route::OpenApiDocument { .. } | Route::OpenApiV2 => {
            reading(&parts.method)?;
            let found = route::route(&parts.method, parts.uri.path(), false)?;
            crate::openapi::answer(&found, &parts.headers, reply)
        }
        Route::Tunnel(node) => {
            authz::decide_tunnel(&user, &node)?;
            stream::tunnel::open(api, &mut parts, &node)
        }
        asked @ (Route::Dataplane { .. } | Route::Dns { .. } | Route::LoadBalancer { .. }) => {
            reading(&parts.method)?;
            node_tells(api, &user, asked, &query, reply).await
        }
        Route::NoDefinitions => {
            reading(&parts.method)?;
            Ok(reply.json(discovery::no_definitions()))
        }
        Route::Review(review) => {
            if parts.method != Method::POST {
                return Err(ApiError::MethodNotAllowed);
            }
            let body = read(&parts.headers, body).await?;
            let mut response = reply.json(review.answer(&user, &body)?);
            *response.status_mut() = StatusCode::CREATED;
            Ok(response)
        }
        Route::Object { verb, target } => {
            authorize(api, &user, verb, &target)?;
            let dry_run = query.dry_run()?;
            let deprecation = target.resource.deprecation;
            let call = Call { user, target, query, dry_run };
            let answered = object(api, verb, call, parts, body, reply).await;
            let mut response = answered.unwrap_or_else(|error| reply.error(&error));
            if let Some(text) = deprecation {
                respond::warn(&mut response, text);
            }
            Ok(response)
        }
    }
}

/// What a node is asked by way of its tunnel; only administrators may.
async fn node_tells(
    api: &Api,
    user: &User,
    asked: Route,
    query: &Query,
    reply: &Reply,
) -> Result<Response, ApiError> {
    match asked {
        Route::Dataplane { node, question } => {
            authz::decide_admin(user, &proto::dataplane_path(&node, question.name()))?;
            Ok(reply.json(stream::dataplane::ask(api, &node, question, query).await?))
        }
        Route::Dns { node, question } => {
            authz::decide_admin(user, &proto::dns_path(&node, question.name()))?;
            stream::dns::ask(api, &node, question, query).await
        }
        Route::LoadBalancer { node } => {
            authz::decide_admin(user, &proto::load_balancer_path(&node))?;
            Ok(reply.json(stream::load_balancer::check(api, &node, query).await?))
        }
        _ => Err(ApiError::UnknownPath),
    }
}

fn reading(method: &Method) -> Result<(), ApiError> {
    if method == Method::GET || method == Method::HEAD {
        Ok(())
    } else {
        Err(ApiError::MethodNotAllowed)
    }
}

fn authorize(api: &Api, user: &User, verb: Verb, target: &Target) -> Result<(), ApiError> {
    let ask = Ask {
        verb,
        resource: target.resource,
        subresource: target.subresource,
        namespace: target.namespace.as_deref(),
        name: target.name.as_deref(),
    };
    authz::decide(user, &ask, || {
        let pods = table::by_path("", "v1", "pods")?;
        let key = key::object(pods, target.namespace.as_deref(), target.name.as_deref()?);
        let snapshot = api.store.snapshot();
        let pod = Current::read(pods, snapshot.get(&key)?).ok()?;
        let pod = pod.object.as_any().downcast_ref::<k8s_openapi::api::core::v1::Pod>()?;
        Some(pod.spec.as_ref()?.node_name.clone().unwrap_or_default())
    })
}

/// Carries out a verb on a resource.
async fn object(
    api: &Arc<Api>,
    verb: Verb,
    call: Call,
    mut parts: Parts,
    body: HttpBody,
    reply: &Reply,
) -> Result<Response, ApiError> {
    match call.target.subresource {
        Some(Subresource::Exec | Subresource::Attach | Subresource::PortForward) => {
            return stream::open(api, &call, &mut parts).await;
        }
        Some(Subresource::Log) => return stream::logs::open(api, &call).await,
        _ => {}
    }
    let accept = header(&parts.headers, header::ACCEPT.as_str());
    let view = View {
        representation: accept::representation(accept.as_deref())?,
        include: Include::parse(call.query.get("includeObject"))?,
    };
    if verb == Verb::Watch {
        return Ok(reply.stream("application/json", watch::open(api, &call, view)?));
    }
    let body = read(&parts.headers, body).await?;
    let answer = carry_out(api, verb, &call, &body).await?;
    reply.answer(&call, answer, view)
}

async fn carry_out(api: &Api, verb: Verb, call: &Call, body: &Body) -> Result<Answer, ApiError> {
    match (call.target.subresource, verb) {
        (Some(Subresource::Scale), Verb::Get) => verbs::scale::get(api, call),
        (Some(Subresource::Scale), Verb::Update) => verbs::scale::replace(api, call, body).await,
        (Some(Subresource::Scale), Verb::Patch) => verbs::scale::patch(api, call, body).await,
        (Some(Subresource::Binding), _) => verbs::bind::bind(api, call, body).await,
        (Some(Subresource::Eviction), _) => verbs::evict::evict(api, call, body).await,
        (Some(Subresource::Finalize), _) => verbs::update::finalize(api, call, body).await,
        (_, Verb::Get) => verbs::get::get(api, call),
        (_, Verb::List) => verbs::list::list(api, call),
        (_, Verb::Create) => verbs::create::create(api, call, body).await,
        (_, Verb::Update) => verbs::update::replace(api, call, body).await,
        (_, Verb::Patch) => verbs::patch::patch(api, call, body).await,
        (_, Verb::Delete) => verbs::delete::delete(api, call, body).await,
        (_, Verb::DeleteCollection) => verbs::collection::delete(api, call, body).await,
        (_, Verb::Watch) => Err(ApiError::MethodNotAllowed),
    }
}

async fn read(headers: &HeaderMap, body: HttpBody) -> Result<Body, ApiError> {
    let bytes = Limited::new(body, LARGEST_BODY).collect().await.map_err(|error| {
        if error.downcast_ref::<LengthLimitError>().is_some() {
            ApiError::TooLarge(LARGEST_BODY)
        } else {
            ApiError::BadRequest(format!("read the body: {error}"))
        }
    })?;
    let content_type = header(headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
    Ok(Body { content_type, bytes: bytes.to_bytes() })
}

/// All values of a header, joined as if they stood in one.
pub(crate) fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    let values: Vec<&str> = headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).collect();
    (!values.is_empty()).then(|| values.join(","))
}

/// The few numbers that are worth watching, in Prometheus' text form.
fn metrics(api: &Api) -> String {
    let snapshot = api.store.snapshot();
    let mut text = format!(
        "# TYPE minictl_store_revision gauge\nminictl_store_revision {}\n\
         # TYPE minictl_node_tunnels gauge\nminictl_node_tunnels {}\n\
         # TYPE apiserver_storage_objects gauge\n",
        snapshot.revision().0,
        api.tunnels.count(),
    );
    for resource in table::all().iter().filter(|r| r.shared.is_none()) {
        let count = snapshot.range(&key::all(resource)).count();
        text.push_str(&format!(
            "apiserver_storage_objects{{resource=\"{}\"}} {count}\n",
            resource.qualified()
        ));
    }
    text
}
