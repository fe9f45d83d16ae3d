//! Exec and attach: a client's streams joined to those of a process (upstream:
//! `k8s.io/apimachinery/pkg/util/remotecommand`, `k8s.io/kubelet/pkg/cri/streaming/remotecommand`).
//!
//! The agent is asked first and the connection switched after, so that a refusal is an ordinary
//! answer with a Status.

mod spdy_client;
mod websocket;

use std::time::Duration;

use axum::extract::{FromRequestParts as _, ws::WebSocketUpgrade};
use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, header};
use proto::v1::client_frame::Frame as Input;
use proto::v1::{ClientFrame, Exit, Resize, ServerFrame, Start};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::api::Api;
use crate::http::query::Query;
use crate::status::ApiError;
use crate::stream::{agent, lists, relayed, switch_to_spdy, target, transport};
use crate::verbs::Call;

/// Input frames that may wait for a slow process.
const QUEUE: usize = 16;
/// Input goes on in pieces well below gRPC's limit of 4 MiB.
const PIECE: usize = 256 * 1024;
/// How long a client may go on sending after the last word before the connection is cut.
const LINGER: Duration = Duration::from_secs(5);

/// What is joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A new process.
    Exec,
    /// The container's first process.
    Attach,
}

/// Which streams the client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wants {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) tty: bool,
}

impl Wants {
    fn parse(query: &Query) -> Result<Self, ApiError> {
        let tty = query.flag("tty");
        // A terminal has one output.
        let wants = Self {
            stdin: query.flag("stdin"),
            stdout: query.flag("stdout"),
            stderr: query.flag("stderr") && !tty,
            tty,
        };
        if wants.stdin || wants.stdout || wants.stderr {
            Ok(wants)
        } else {
            Err(ApiError::BadRequest("you must specify at least 1 of stdin, stdout, stderr".into()))
        }
    }
}

/// A process at the other end of a tunnel.
pub(crate) struct Process {
    input: mpsc::Sender<ClientFrame>,
    output: Streaming<ServerFrame>,
}

/// The way into a process.
pub(crate) struct Stdin(mpsc::Sender<ClientFrame>);

impl Stdin {
    /// Hands input on; `false` when the process is gone.
    pub(crate) async fn send(&self, mut bytes: Bytes) -> bool {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE));
            if !self.frame(Input::Stdin(piece.into())).await {
                return false;
            }
        }
        true
    }

    pub(crate) async fn close(&self) -> bool {
        self.frame(Input::StdinClosed(true)).await
    }

    /// Passes on the size of the client's terminal, `{"Width":80,"Height":24}`.
    pub(crate) async fn resize(&self, json: &[u8]) -> bool {
        match terminal_size(json) {
            Some(size) => self.frame(Input::Resize(size)).await,
            None => true,
        }
    }

    async fn frame(&self, frame: Input) -> bool {
        self.0.send(ClientFrame { frame: Some(frame) }).await.is_ok()
    }
}

fn terminal_size(json: &[u8]) -> Option<Resize> {
    let size: serde_json::Value = serde_json::from_slice(json).ok()?;
    let field = |name: &str| size.get(name)?.as_u64().and_then(|n| u32::try_from(n).ok());
    Some(Resize { width: field("Width")?, height: field("Height")? })
}

impl Process {
    pub(crate) fn split(self) -> (Stdin, Streaming<ServerFrame>) {
        (Stdin(self.input), self.output)
    }
}

/// Opens a session.
///
/// # Errors
/// What is wrong with the pod, the container, the node or the request, before anything is switched.
pub(crate) async fn open(
    api: &Api,
    call: &Call,
    parts: &mut Parts,
    kind: Kind,
) -> Result<Response, ApiError> {
    let wants = Wants::parse(&call.query)?;
    if lists(parts, header::UPGRADE, "websocket") {
        let socket = WebSocketUpgrade::from_request_parts(parts, &())
            .await
            .map_err(|e| ApiError::BadRequest(e.to_string()))?
            .protocols([websocket::V5, websocket::V4]);
        let half_close = match socket.selected_protocol().map(|p| p.as_bytes()) {
            Some(p) if p == websocket::V5.as_bytes() => true,
            Some(_) => false,
            None => return Err(no_protocol(parts)),
        };
        let process = begin(api, call, kind, wants).await?;
        return Ok(
            socket.on_upgrade(move |socket| websocket::run(socket, process, wants, half_close))
        );
    }
    let (upgrade, response) = switch_to_spdy(parts, spdy_client::V4)?;
    let process = begin(api, call, kind, wants).await?;
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => {
                let (source, drain) = transport::raw(upgraded);
                spdy_client::run(source, drain, process, wants).await;
            }
            Err(error) => tracing::debug!(%error, "upgrade to SPDY"),
        }
    });
    Ok(response)
}

fn no_protocol(parts: &Parts) -> ApiError {
    let name = HeaderName::from_static("sec-websocket-protocol");
    let offered = crate::http::header(&parts.headers, name.as_str()).unwrap_or_default();
    ApiError::BadRequest(format!(
        "unable to upgrade: none of the protocols [{offered}] is one of [{} {}]",
        websocket::V5,
        websocket::V4
    ))
}

/// Asks the agent to start, or to join, the process.
async fn begin(api: &Api, call: &Call, kind: Kind, wants: Wants) -> Result<Process, ApiError> {
    let pod = target::pod(api, call)?;
    let container = target::container(&pod, call.query.get("container"))?;
    let node = target::node(&pod)?;
    let command: Vec<String> = call.query.all("command").map(str::to_owned).collect();
    if kind == Kind::Exec && command.is_empty() {
        return Err(ApiError::BadRequest("you must specify at least 1 command".into()));
    }
    let start = Start {
        target: Some(target::target(&pod, container)),
        command,
        tty: wants.tty,
        stdin: wants.stdin,
        stdout: wants.stdout,
        stderr: wants.stderr,
    };
    let mut agent = agent(api, node)?;
    let (input, frames) = mpsc::channel(QUEUE);
    let first = ClientFrame { frame: Some(Input::Start(start)) };
    input.send(first).await.map_err(|_| ApiError::Internal("a closed queue".into()))?;
    let frames = ReceiverStream::new(frames);
    let answer = match kind {
        Kind::Exec => agent.exec(frames).await,
        Kind::Attach => agent.attach(frames).await,
    };
    let output = answer.map_err(|e| relayed(&e))?.into_inner();
    Ok(Process { input, output })
}

/// The Status with which a session ends (upstream: `v4WriteStatusFunc`).
pub(crate) fn farewell(exit: Option<&Exit>) -> Bytes {
    let status = match exit {
        Some(exit) if exit.error.is_empty() && exit.code == 0 => {
            json!({ "metadata": {}, "status": "Success" })
        }
        Some(exit) if exit.error.is_empty() => json!({
            "metadata": {},
            "status": "Failure",
            "message": "command terminated with non-zero exit code",
            "reason": "NonZeroExitCode",
            "details": { "causes": [{ "reason": "ExitCode", "message": exit.code.to_string() }] },
        }),
        Some(exit) => failure(&exit.error),
        None => failure("the connection to the node was lost"),
    };
    status.to_string().into()
}

fn failure(reason: &str) -> serde_json::Value {
    let message = format!("Internal error occurred: {reason}");
    json!({
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": "InternalError",
        "details": { "causes": [{ "message": reason }] },
        "code": 500,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_takes_standard_error_along() {
        let wants = Wants::parse(&Query::parse(Some("tty=true&stdout=1&stderr=1"))).unwrap();
        assert_eq!(wants, Wants { stdin: false, stdout: true, stderr: false, tty: true });
        assert!(Wants::parse(&Query::parse(Some("tty=true"))).is_err());
    }

    #[test]
    fn sizes_are_read_and_nonsense_is_not() {
        let size = terminal_size(br#"{"Width":80,"Height":24}"#).unwrap();
        assert_eq!((size.width, size.height), (80, 24));
        assert!(terminal_size(b"{}").is_none());
        assert!(terminal_size(b"\xff").is_none());
    }

    #[test]
    fn the_last_word_is_the_exit_code_or_the_reason() {
        let status = |exit: Option<Exit>| -> serde_json::Value {
            serde_json::from_slice(&farewell(exit.as_ref())).unwrap()
        };
        let exit = |code, error: &str| Some(Exit { code, error: error.into() });
        assert_eq!(status(exit(0, ""))["status"], "Success");
        assert_eq!(status(exit(7, ""))["details"]["causes"][0]["message"], "7");
        assert_eq!(status(exit(1, "no such file"))["reason"], "InternalError");
        assert_eq!(status(None)["status"], "Failure");
    }
}
