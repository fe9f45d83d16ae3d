//! A scripted API server, and verbs run against it as from a command line.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use clap::Parser;
use serde_json::{Value, json};

use crate::{Globals, Io, Verb};

/// One request as the server saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// `GET /api/v1/pods?limit=500`
    pub(crate) line: String,
    pub(crate) content_type: String,
    pub(crate) body: Value,
}

/// Status, headers, body.
type Answer = (u16, Vec<(String, String)>, String);

/// What the server answers to a line; the last answer of a list is repeated.
#[derive(Default)]
pub(crate) struct Script {
    answers: HashMap<String, Vec<Answer>>,
    seen: Vec<Seen>,
}

type Shared = Arc<Mutex<Script>>;

/// The server.
pub(crate) struct Fake {
    script: Shared,
    kubeconfig: tempfile::NamedTempFile,
}

/// How a verb ended.
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Fake {
    /// Starts a server that knows discovery and nothing else.
    pub(crate) async fn start() -> Fake {
        let script = Shared::default();
        let app = Router::new().fallback(answer).with_state(script.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        let mut kubeconfig = tempfile::NamedTempFile::new().unwrap();
        let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]});
        kubeconfig.write_all(config.to_string().as_bytes()).unwrap();
        let fake = Fake { script, kubeconfig };
        let (core, groups) = discovery();
        fake.on("GET /api", core).on("GET /apis", groups)
    }

    /// Adds an answer with status 200 (or the `code` of a `Status`).
    pub(crate) fn on(self, line: &str, body: Value) -> Fake {
        let code = match body["kind"].as_str() {
            Some("Status") => body["code"].as_u64().unwrap_or(200),
            _ => 200,
        };
        self.raw(line, u16::try_from(code).unwrap(), &[], &body.to_string())
    }

    /// Adds any answer.
    pub(crate) fn raw(self, line: &str, code: u16, headers: &[(&str, &str)], body: &str) -> Fake {
        let headers = headers.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let answer = (code, headers, body.to_owned());
        self.script.lock().unwrap().answers.entry(line.to_owned()).or_default().push(answer);
        self
    }

    /// Runs a command line.
    pub(crate) async fn run(&self, line: &str) -> Outcome {
        self.run_with(line, "").await
    }

    /// Runs a command line with text on standard input.
    pub(crate) async fn run_with(&self, line: &str, input: &str) -> Outcome {
        let (out, err) = (Buffer::default(), Buffer::default());
        let mut io = Io {
            out: Box::new(out.clone()),
            err: Box::new(err.clone()),
            input: Box::new(std::io::Cursor::new(input.as_bytes().to_vec())),
            interactive: false,
        };
        let code = self.run_on(line, &mut io).await;
        let code = code.unwrap_or_else(|e| {
            io.warn(e.report());
            1
        });
        Outcome { code, out: out.text(), err: err.text() }
    }

    /// Runs a command line on given streams.
    pub(crate) async fn run_on(&self, line: &str, io: &mut Io) -> Result<i32, crate::Error> {
        #[derive(Parser)]
        struct Cli {
            #[command(flatten)]
            globals: Globals,
            #[command(subcommand)]
            verb: Verb,
        }
        let words = std::iter::once("kubectl").chain(line.split_whitespace());
        let cli = Cli::try_parse_from(words).unwrap_or_else(|e| panic!("{line}: {e}"));
        let globals =
            Globals { kubeconfig: Some(self.kubeconfig.path().to_owned()), ..cli.globals };
        crate::run(&globals, cli.verb, None, io).await
    }

    /// The requests so far, without discovery.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        let script = self.script.lock().unwrap();
        let discovery = ["GET /api", "GET /apis"];
        script.seen.iter().filter(|s| !discovery.contains(&s.line.as_str())).cloned().collect()
    }

    /// The lines of the requests so far, without discovery.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|s| s.line).collect()
    }
}

/// Text that was written to a stream.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A `NotFound` as the API server writes it.
pub(crate) fn not_found(resource: &str, name: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404,
           "reason": "NotFound", "message": format!("{resource} {name:?} not found")})
}

fn discovery() -> (Value, Value) {
    let row = |plural: &str, kind: &str, scope: &str, short: &str, all: bool| {
        json!({"resource": plural, "responseKind": {"kind": kind}, "scope": scope,
               "shortNames": [short], "categories": if all { vec!["all"] } else { vec![] },
               "verbs": ["get", "list"]})
    };
    let list = |items: Value| json!({"kind": "APIGroupDiscoveryList", "items": items});
    let n = "Namespaced";
    let core = list(json!([{"metadata": {}, "versions": [{"version": "v1", "resources": [
        row("pods", "Pod", n, "po", true), row("services", "Service", n, "svc", true),
        row("nodes", "Node", "Cluster", "no", false)]}]}]));
    let groups = list(json!([{"metadata": {"name": "apps"}, "versions": [{"version": "v1",
        "resources": [row("deployments", "Deployment", n, "deploy", true)]}]}]));
    (core, groups)
}

async fn answer(State(script): State<Shared>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let line = format!("{} {}", parts.method, parts.uri);
    let content_type = parts.headers.get("content-type");
    let content_type = content_type.map_or("", |v| v.to_str().unwrap()).to_owned();
    if parts.headers.contains_key("upgrade") {
        record(&script, &line, content_type, Value::Null);
        let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await.unwrap();
        let upgrade = upgrade.protocols(["v5.channel.k8s.io"]);
        return match line {
            line if line.contains("command=deaf") => upgrade.on_upgrade(deaf),
            line if line.contains("command=yes") => upgrade.on_upgrade(yes),
            _ => upgrade.on_upgrade(container),
        };
    }
    let body = to_bytes(body, usize::MAX).await.unwrap();
    record(&script, &line, content_type, serde_json::from_slice(&body).unwrap_or(Value::Null));
    let mut script = script.lock().unwrap();
    let Some(answers) = script.answers.get_mut(&line) else {
        let status = not_found("script", &line);
        return (StatusCode::NOT_FOUND, status.to_string()).into_response();
    };
    let (code, headers, body) =
        if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
    let mut response = Response::builder().status(code);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response.body(Body::from(body)).unwrap()
}

fn record(script: &Shared, line: &str, content_type: String, body: Value) {
    let seen = Seen { line: line.to_owned(), content_type, body };
    script.lock().unwrap().seen.push(seen);
}

fn on_channel(channel: u8, text: &str) -> Message {
    Message::Binary([&[channel], text.as_bytes()].concat().into())
}

/// A command that reads nothing, and writes more than a connection holds on its way.
async fn deaf(mut socket: axum::extract::ws::WebSocket) {
    let piece = "x".repeat(1_000_000);
    for _ in 0..20 {
        socket.send(on_channel(1, &piece)).await.unwrap();
    }
    socket.send(on_channel(3, &json!({"status": "Success"}).to_string())).await.unwrap();
    std::future::pending().await
}

/// A command that never stops writing.
async fn yes(mut socket: axum::extract::ws::WebSocket) {
    while socket.send(on_channel(1, "y\n")).await.is_ok() {}
}

/// A container that greets on both outputs, repeats its input until that ends, and exits with 7.
async fn container(mut socket: axum::extract::ws::WebSocket) {
    socket.send(on_channel(1, "out\n")).await.unwrap();
    socket.send(on_channel(2, "err\n")).await.unwrap();
    while let Some(Ok(message)) = socket.recv().await {
        let Message::Binary(bytes) = message else { continue };
        match (bytes.first(), bytes.get(1)) {
            (Some(255), Some(0)) => break,
            (Some(0), _) => {
                let text = String::from_utf8_lossy(&bytes[1..]).into_owned();
                socket.send(on_channel(1, &text)).await.unwrap();
            }
            _ => {}
        }
    }
    let status = json!({"status": "Failure", "reason": "NonZeroExitCode", "details":
        {"causes": [{"reason": "ExitCode", "message": "7"}]}});
    let _ = socket.send(on_channel(3, &status.to_string())).await;
    let _ = socket.send(Message::Close(None)).await;
}
