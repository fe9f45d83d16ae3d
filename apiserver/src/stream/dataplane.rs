//! `GET /minictl.io/v1/nodes/NAME/dataplane/{status,dump,diff,trace}`: what netd tells about the data
//! plane of its node, by way of the agent's tunnel, as JSON (contract: `proto/dataplane.proto`).
//!
//! Not a resource: nothing of it is stored, and only the node's own kernel knows it.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use proto::dataplane::dataplane_client::DataplaneClient;
use proto::dataplane::{DiffRequest, DumpRequest, StatusRequest, TraceRequest};
use resources::table;
use serde::Serialize;
use tonic::transport::Channel;

use crate::api::Api;
use crate::http::query::Query;
use crate::key;
use crate::status::ApiError;
use crate::stream::relayed;

/// What ten thousand Services with all their endpoints take is a tenth of this.
const LARGEST_ANSWER: usize = 128 * 1024 * 1024;
/// netd answers between two looks at the kernel; one that does not is stuck.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// Which engine, and how it fares.
    Status,
    /// What is programmed.
    Dump,
    /// What differs from what should be.
    Diff,
    /// What would become of a packet.
    Trace,
}

impl Question {
    /// The question with this name in a path.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "status" => Some(Self::Status),
            "dump" => Some(Self::Dump),
            "diff" => Some(Self::Diff),
            "trace" => Some(Self::Trace),
            _ => None,
        }
    }

    /// Its name in a path.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Dump => "dump",
            Self::Diff => "diff",
            Self::Trace => "trace",
        }
    }
}

/// The node's answer. A dump can be narrowed by the parameters `namespace` and `service`; a packet is
/// described by `origin`, `source`, `destination`, `protocol` and `handedOver`.
///
/// # Errors
/// 400 for a packet that can't be, 404 for a node that does not exist, 503 for one that is not connected or runs no netd.
pub(crate) async fn ask(
    api: &Api,
    node: &str,
    question: Question,
    query: &Query,
) -> Result<Bytes, ApiError> {
    let channel = to_netd(api, node)?;
    let mut netd = DataplaneClient::new(channel).max_decoding_message_size(LARGEST_ANSWER);
    let text = |name| query.get(name).unwrap_or_default().to_owned();
    let answer = async {
        match question {
            Question::Status => netd.status(StatusRequest {}).await.map(json),
            Question::Dump => {
                let request =
                    DumpRequest { namespace: text("namespace"), service: text("service") };
                netd.dump(request).await.map(json)
            }
            Question::Diff => netd.diff(DiffRequest {}).await.map(json),
            Question::Trace => {
                let request = TraceRequest {
                    origin: text("origin"),
                    source: text("source"),
                    destination: text("destination"),
                    protocol: text("protocol"),
                    handed_over: query.get("handedOver") == Some("true"),
                };
                netd.trace(request).await.map(json)
            }
        }
    };
    match tokio::time::timeout(PATIENCE, answer).await {
        Err(_) => Err(unavailable(format!("the netd of node {node:?} does not answer"))),
        Ok(Err(status)) => Err(refused(node, &status)),
        Ok(Ok(answer)) => answer,
    }
}

/// Why a node's netd tells nothing.
pub(super) fn refused(node: &str, status: &tonic::Status) -> ApiError {
    match status.code() {
        tonic::Code::Unimplemented => {
            unavailable(format!("no netd runs beside the agent of node {node:?}"))
        }
        _ => relayed(status),
    }
}

/// The way to a node's netd.
pub(super) fn to_netd(api: &Api, node: &str) -> Result<Channel, ApiError> {
    if let Some(channel) = api.tunnels.channel(node) {
        return Ok(channel);
    }
    let nodes = table::by_path("", "v1", "nodes").ok_or(ApiError::UnknownPath)?;
    if api.store.snapshot().get(&key::object(nodes, None, node)).is_none() {
        return Err(ApiError::not_found(nodes, node));
    }
    Err(unavailable(format!(
        "node {node:?} is not connected: its agent has no tunnel to the API server open"
    )))
}

pub(super) fn unavailable(message: String) -> ApiError {
    ApiError::Relayed { code: StatusCode::SERVICE_UNAVAILABLE, message }
}

pub(super) fn json<T: Serialize>(answer: tonic::Response<T>) -> Result<Bytes, ApiError> {
    let bytes = serde_json::to_vec(&answer.into_inner());
    bytes.map(Bytes::from).map_err(|e| ApiError::Internal(format!("encode the answer: {e}")))
}
