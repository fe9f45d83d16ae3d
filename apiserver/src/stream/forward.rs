//! Port-forward: SPDY streams, raw or inside a WebSocket, each pair of which is one TCP connection
//! into the pod (upstream: `k8s.io/kubelet/pkg/cri/streaming/portforward/httpstream.go`).

use std::collections::BTreeMap;

use axum::extract::{FromRequestParts as _, ws::WebSocketUpgrade};
use axum::response::Response;
use bytes::Bytes;
use http::header;
use http::request::Parts;
use proto::v1::forward_frame::Frame;
use proto::v1::node_client::NodeClient;
use proto::v1::{ForwardFrame, ForwardOpen, Target};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::api::Api;
use crate::status::ApiError;
use crate::stream::spdy::session::{Event, Session, Writer};
use crate::stream::transport::{self, Drain, Source};
use crate::stream::{agent, lists, switch_to_spdy, target};
use crate::verbs::Call;

const PROTOCOL: &str = "portforward.k8s.io";
const TUNNELLED: &str = "SPDY/3.1+portforward.k8s.io";
/// Pieces that may wait for a slow pod before the whole session waits.
const QUEUE: usize = 64;

/// Opens a session.
///
/// # Errors
/// What is wrong with the pod, its node or the request, before anything is switched.
pub(crate) async fn open(api: &Api, call: &Call, parts: &mut Parts) -> Result<Response, ApiError> {
    let pod = target::pod(api, call)?;
    let running = pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running");
    if !running {
        return Err(ApiError::BadRequest(format!(
            "unable to forward port because pod is not running. Current status={}",
            pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("Pending")
        )));
    }
    let agent = agent(api, target::node(&pod)?)?;
    let target = target::target(&pod, "");
    if lists(parts, header::UPGRADE, "websocket") {
        let socket = WebSocketUpgrade::from_request_parts(parts, &())
            .await
            .map_err(|e| ApiError::BadRequest(e.to_string()))?
            .protocols([TUNNELLED]);
        if socket.selected_protocol().is_none() {
            return Err(ApiError::BadRequest(format!(
                "unable to upgrade: only the protocol {TUNNELLED} is offered here"
            )));
        }
        return Ok(socket.on_upgrade(|socket| async move {
            let (source, drain) = transport::tunnelled(socket);
            run(source, drain, &agent, &target).await;
        }));
    }
    let (upgrade, response) = switch_to_spdy(parts, PROTOCOL)?;
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => {
                let (source, drain) = transport::raw(upgraded);
                run(source, drain, &agent, &target).await;
            }
            Err(error) => tracing::debug!(%error, "upgrade to SPDY"),
        }
    });
    Ok(response)
}

/// Two streams that belong together by their request id.
#[derive(Clone, Copy, Debug, Default)]
struct Pair {
    data: Option<u32>,
    error: Option<u32>,
    port: u32,
}

/// Serves a session until the client goes.
async fn run(source: Source, drain: Drain, agent: &NodeClient<Channel>, target: &Target) {
    let mut session = Session::start(source, drain);
    let mut pairs: BTreeMap<String, Pair> = BTreeMap::new();
    // Ways into the pod by data stream; dropping one ends its connection.
    let mut ways: BTreeMap<u32, mpsc::Sender<ForwardFrame>> = BTreeMap::new();
    while let Some(event) = session.next().await {
        match event {
            Event::Open { stream, headers } => {
                let Some((id, pair)) = paired(&mut pairs, stream, &headers) else { continue };
                if let (Some(data), Some(error)) = (pair.data, pair.error) {
                    pairs.remove(&id);
                    let (way, frames) = mpsc::channel(QUEUE);
                    ways.insert(data, way);
                    let connection = Connection { data, error, port: pair.port };
                    tokio::spawn(connection.run(
                        agent.clone(),
                        target.clone(),
                        frames,
                        session.writer(),
                    ));
                }
            }
            Event::Data { stream, data } => {
                let Some(way) = ways.get(&stream) else { continue };
                let frame = ForwardFrame { frame: Some(Frame::Data(data.into())) };
                if way.send(frame).await.is_err() {
                    ways.remove(&stream);
                }
            }
            Event::End { stream } => {
                if let Some(way) = ways.remove(&stream) {
                    let frame = ForwardFrame { frame: Some(Frame::Closed(true)) };
                    // A connection that is over needs no half-close.
                    let _ = way.send(frame).await.is_ok();
                }
            }
        }
    }
}

/// Puts a new stream into its pair.
fn paired(
    pairs: &mut BTreeMap<String, Pair>,
    stream: u32,
    headers: &[(String, String)],
) -> Option<(String, Pair)> {
    let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    // Very old clients send no request id: a pair is then an odd stream and the next.
    let id = header("requestid").map_or_else(|| (stream / 4).to_string(), str::to_owned);
    let port = header("port")?.parse().ok()?;
    let kind = header("streamtype")?;
    let pair = pairs.entry(id.clone()).or_default();
    pair.port = port;
    match kind {
        "data" => pair.data = Some(stream),
        "error" => pair.error = Some(stream),
        _ => return None,
    }
    Some((id, *pair))
}

/// One TCP connection into the pod.
struct Connection {
    data: u32,
    error: u32,
    port: u32,
}

impl Connection {
    async fn run(
        self,
        mut agent: NodeClient<Channel>,
        target: Target,
        frames: mpsc::Receiver<ForwardFrame>,
        writer: Writer,
    ) {
        let pod = target.pod.clone();
        let open = ForwardOpen { target: Some(target), port: self.port };
        let first = ForwardFrame { frame: Some(Frame::Open(open)) };
        let first = tokio_stream::once(first);
        let frames = futures::StreamExt::chain(first, ReceiverStream::new(frames));
        let failed = match agent.port_forward(frames).await {
            Ok(answer) => self.copy(answer.into_inner(), &writer).await,
            Err(status) => Some(status.message().to_owned()),
        };
        if let Some(reason) = failed {
            let port = self.port;
            let text = format!("error forwarding port {port} to pod {pod}, uid : {reason}");
            writer.data(self.error, Bytes::from(text), false).await;
        }
        writer.end(self.data).await;
        writer.end(self.error).await;
    }

    /// Hands on what the pod sends; the reason if it ends badly.
    async fn copy(
        &self,
        mut output: tonic::Streaming<ForwardFrame>,
        writer: &Writer,
    ) -> Option<String> {
        loop {
            match output.message().await {
                Ok(Some(ForwardFrame { frame: Some(Frame::Data(bytes)) })) if bytes.is_empty() => {}
                Ok(Some(ForwardFrame { frame: Some(Frame::Data(bytes)) })) => {
                    if !writer.data(self.data, bytes.into(), false).await {
                        return None;
                    }
                }
                Ok(Some(ForwardFrame { frame: Some(Frame::Closed(_)) })) | Ok(None) => return None,
                Ok(Some(_)) => {}
                Err(status) => return Some(status.message().to_owned()),
            }
        }
    }
}
