//! Into running containers: exec, attach, port-forward and logs, by way of the agent of the pod's
//! node (contract: `proto/node.proto`).
//!
//! A client comes by WebSocket (kubectl since 1.31, browsers, kube-rs) or by SPDY/3.1 (older
//! kubectl); the agent speaks gRPC on its tunnel. `exec` and `forward` translate between the two,
//! `spdy` is the old framing, `transport` hides which kind of connection it runs on. `dataplane`,
//! `dns` and `load_balancer` take the same way to a node to ask what its netd did, its name server,
//! and its announcer.

pub(crate) mod dataplane;
pub(crate) mod dns;
pub(crate) mod exec;
pub(crate) mod forward;
pub(crate) mod load_balancer;
pub(crate) mod logs;
pub(crate) mod spdy;
pub(crate) mod target;
pub(crate) mod transport;
pub(crate) mod tunnel;

use axum::body::Body;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use proto::v1::node_client::NodeClient;
use resources::table::Subresource;
use tonic::transport::Channel;

use crate::api::Api;
use crate::status::ApiError;
use crate::verbs::Call;

/// The header in which SPDY clients offer, and are told, the protocol on top.
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const SPDY: &str = "SPDY/3.1";

/// Opens a session that the path asks for.
pub(crate) async fn open(api: &Api, call: &Call, parts: &mut Parts) -> Result<Response, ApiError> {
    match call.target.subresource {
        Some(Subresource::PortForward) => forward::open(api, call, parts).await,
        Some(Subresource::Attach) => exec::open(api, call, parts, exec::Kind::Attach).await,
        _ => exec::open(api, call, parts, exec::Kind::Exec).await,
    }
}

/// A client of the agent of a node.
fn agent(api: &Api, node: &str) -> Result<NodeClient<Channel>, ApiError> {
    // 500 as upstream when a kubelet cannot be reached. 503 would make clients try again for
    // minutes, while a person waits for the answer.
    api.tunnels.client(node).ok_or_else(|| ApiError::Relayed {
        code: StatusCode::INTERNAL_SERVER_ERROR,
        message: format!(
            "node {node:?} is not connected: its agent has no tunnel to the API server open"
        ),
    })
}

/// An agent's refusal as an answer to the client.
fn relayed(status: &tonic::Status) -> ApiError {
    let code = match status.code() {
        tonic::Code::NotFound => StatusCode::NOT_FOUND,
        tonic::Code::InvalidArgument
        | tonic::Code::FailedPrecondition
        | tonic::Code::OutOfRange => StatusCode::BAD_REQUEST,
        tonic::Code::Unavailable | tonic::Code::DeadlineExceeded => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    ApiError::Relayed { code, message: status.message().to_owned() }
}

/// Whether a header lists a token.
fn lists(parts: &Parts, name: HeaderName, token: &str) -> bool {
    let values = parts.headers.get_all(name);
    values
        .iter()
        .filter_map(|v| v.to_str().ok())
        .any(|v| v.split(',').any(|t| t.trim().eq_ignore_ascii_case(token)))
}

/// Takes the connection over for SPDY with one of the offered protocols.
///
/// # Errors
/// 400 without an upgrade; 403 in upstream's words when no protocol fits (upstream:
/// `httpstream.Handshake`).
fn switch_to_spdy(
    parts: &mut Parts,
    protocol: &'static str,
) -> Result<(OnUpgrade, Response), ApiError> {
    let upgrade = parts.extensions.remove::<OnUpgrade>();
    let Some(upgrade) = upgrade.filter(|_| lists(parts, header::UPGRADE, SPDY)) else {
        return Err(ApiError::BadRequest("Upgrade request required".into()));
    };
    if !lists(parts, STREAM_PROTOCOL, protocol) {
        let offered = crate::http::header(&parts.headers, STREAM_PROTOCOL.as_str());
        return Err(ApiError::Relayed {
            code: StatusCode::FORBIDDEN,
            message: format!(
                "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{protocol}]",
                offered.unwrap_or_default()
            ),
        });
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(SPDY));
    headers.insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
    Ok((upgrade, response))
}
