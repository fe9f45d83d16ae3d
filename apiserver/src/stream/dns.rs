//! `GET /minictl.io/v1/nodes/NAME/dns/{log,trace}`: what a node's name server tells, by way of the
//! agent's tunnel (contract: `proto/dns.proto`). A trace is one JSON object, the log one on each line.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt as _;
use http::header::{CONTENT_TYPE, HeaderValue};
use proto::dns::dns_client::DnsClient;
use proto::dns::{LogEntry, LogRequest, TraceRequest};

use crate::api::Api;
use crate::http::query::Query;
use crate::status::ApiError;
use crate::stream::dataplane::{json, refused, to_netd, unavailable};

/// A name is looked for at several servers, and each may take its time.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// Who asked for what.
    Log,
    /// What a Pod would get.
    Trace,
}

impl Question {
    /// The question with this name in a path.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "log" => Some(Self::Log),
            "trace" => Some(Self::Trace),
            _ => None,
        }
    }

    /// Its name in a path.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Trace => "trace",
        }
    }
}

/// The node's answer.
///
/// # Errors
/// 404 for a node that does not exist, and for a Pod that it does not know; 400 for what is no name;
/// 503 for a node that is not connected or runs no name server.
pub(crate) async fn ask(
    api: &Api,
    node: &str,
    question: Question,
    query: &Query,
) -> Result<Response, ApiError> {
    let netd = DnsClient::new(to_netd(api, node)?);
    match question {
        Question::Log => log(netd, node, query).await,
        Question::Trace => trace(netd, node, query).await,
    }
}

async fn trace(
    mut netd: DnsClient<tonic::transport::Channel>,
    node: &str,
    query: &Query,
) -> Result<Response, ApiError> {
    let text = |name| query.get(name).unwrap_or_default().to_owned();
    let request = TraceRequest {
        name: text("name"),
        r#type: text("type"),
        namespace: text("namespace"),
        pod: text("pod"),
    };
    match tokio::time::timeout(PATIENCE, netd.trace(request)).await {
        Err(_) => Err(silent(node)),
        Ok(Err(status)) => Err(refused(node, &status)),
        Ok(Ok(reply)) => Ok(in_json(Body::from(json(reply)?))),
    }
}

async fn log(
    mut netd: DnsClient<tonic::transport::Channel>,
    node: &str,
    query: &Query,
) -> Result<Response, ApiError> {
    let text = |name| query.get(name).unwrap_or_default().to_owned();
    let tail = query.number("tail")?.and_then(|tail| u32::try_from(tail).ok()).unwrap_or(0);
    let request = LogRequest {
        namespace: text("namespace"),
        pod: text("pod"),
        follow: query.flag("follow"),
        only_new: query.flag("onlyNew"),
        marked: query.flag("marked"),
        tail,
    };
    // It begins at once, and may go on for ever.
    let entries = match tokio::time::timeout(PATIENCE, netd.log(request)).await {
        Err(_) => return Err(silent(node)),
        Ok(begun) => begun.map_err(|status| refused(node, &status))?.into_inner(),
    };
    let lines = entries.map(|entry| match entry {
        Ok(entry) => line(&entry),
        Err(status) => Err(std::io::Error::other(status.message().to_owned())),
    });
    Ok(in_json(Body::from_stream(lines)))
}

fn silent(node: &str) -> ApiError {
    unavailable(format!("the name server of node {node:?} does not answer"))
}

fn line(entry: &LogEntry) -> std::io::Result<Bytes> {
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    Ok(line.into())
}

fn in_json(body: Body) -> Response {
    let mut response = Response::new(body);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}
