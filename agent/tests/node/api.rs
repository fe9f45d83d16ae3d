//! A small stand-in for the API server: keeps objects as JSON, answers list, watch, get, create,
//! merge patch and delete, and takes tunnels.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::{BodyExt as _, StreamBody, combinators::BoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Frame, Incoming},
    service::service_fn,
    upgrade::Upgraded,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch};
use tokio_stream::wrappers::WatchStream;

type Body = BoxBody<Bytes, Infallible>;

#[derive(Default)]
struct State {
    revision: u64,
    /// By path, such as `/api/v1/namespaces/default/pods/web`.
    objects: BTreeMap<String, Value>,
    /// What happened to pods and services: revision, collection, event.
    log: Vec<(u64, &'static str, Value)>,
}

/// The stand-in.
#[derive(Clone)]
pub(crate) struct Api {
    state: Arc<Mutex<State>>,
    revision: watch::Sender<u64>,
    tunnels: tokio::sync::mpsc::UnboundedSender<Upgraded>,
}

fn collection(path: &str) -> Option<&'static str> {
    ["pods", "services"]
        .into_iter()
        .find(|name| path.contains(&format!("/{name}/")) || path.ends_with(&format!("/{name}")))
}

fn merge(target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    target.remove(key);
                } else {
                    merge(target.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (target, patch) => *target = patch.clone(),
    }
}

impl Api {
    /// Serves on a loopback port of the current namespace; tunnels come out of the channel.
    pub(crate) async fn start() -> (Self, SocketAddr, tokio::sync::mpsc::UnboundedReceiver<Upgraded>)
    {
        let (tunnels, taken) = tokio::sync::mpsc::unbounded_channel();
        let api = Self { state: Arc::default(), revision: watch::channel(0).0, tunnels };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = api.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let api = server.clone();
                let service = service_fn(move |request| {
                    let api = api.clone();
                    async move { Ok::<_, Infallible>(api.answer(request).await) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades(),
                );
            }
        });
        (api, address, taken)
    }

    async fn answer(&self, mut request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        if path.ends_with("/tunnel") {
            let upgrade = hyper::upgrade::on(&mut request);
            let tunnels = self.tunnels.clone();
            tokio::spawn(async move {
                if let Ok(upgraded) = upgrade.await {
                    let _ = tunnels.send(upgraded);
                }
            });
            return Response::builder()
                .status(StatusCode::SWITCHING_PROTOCOLS)
                .header("connection", "upgrade")
                .header("upgrade", proto::TUNNEL_PROTOCOL)
                .body(http_body_util::Empty::new().boxed())
                .unwrap();
        }
        let method = request.method().clone();
        let bytes = request.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if query.contains("watch=true") {
            return self.watch(&path, &query);
        }
        let (status, value) = self.handle(&method, &path, body);
        let whole = http_body_util::Full::new(Bytes::from(value.to_string()));
        Response::builder()
            .status(status)
            .header("content-type", "application/json")
            .body(whole.boxed())
            .unwrap()
    }

    fn handle(&self, method: &Method, path: &str, body: Value) -> (StatusCode, Value) {
        let missing = || {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                "reason": "NotFound", "code": 404, "message": format!("{path} not found")});
            (StatusCode::NOT_FOUND, status)
        };
        let object_path = path.trim_end_matches("/status").to_owned();
        match *method {
            Method::POST => {
                let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                let stored = self.put(&format!("{path}/{name}"), body);
                (StatusCode::CREATED, stored)
            }
            Method::PATCH => match self.change(&object_path, |object| merge(object, &body)) {
                Some(object) => (StatusCode::OK, object),
                None => missing(),
            },
            Method::DELETE => match self.remove(&object_path) {
                Some(object) => (StatusCode::OK, object),
                None => missing(),
            },
            _ => match self.get(path) {
                Some(object) => (StatusCode::OK, object),
                None if collection(path).is_some_and(|name| path.ends_with(name)) => {
                    (StatusCode::OK, self.list(path))
                }
                None => missing(),
            },
        }
    }

    fn list(&self, path: &str) -> Value {
        let state = self.state.lock().unwrap();
        let name = collection(path).unwrap();
        let items: Vec<&Value> = state
            .objects
            .iter()
            .filter(|(path, _)| collection(path) == Some(name))
            .map(|(_, object)| object)
            .collect();
        json!({"kind": "List", "apiVersion": "v1", "items": items,
            "metadata": {"resourceVersion": state.revision.to_string()}})
    }

    fn watch(&self, path: &str, query: &str) -> Response<Body> {
        let name = collection(path).unwrap();
        let from = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion="));
        let mut seen: u64 = from.and_then(|text| text.parse().ok()).unwrap_or(0);
        let state = Arc::clone(&self.state);
        let lines = WatchStream::new(self.revision.subscribe()).map(move |_| {
            let state = state.lock().unwrap();
            let mut text = String::new();
            for (revision, kind, event) in &state.log {
                if *revision > seen && *kind == name {
                    text.push_str(&format!("{event}\n"));
                }
            }
            seen = state.revision;
            Ok::<_, Infallible>(Frame::data(Bytes::from(text)))
        });
        Response::new(http_body_util::BodyExt::boxed(StreamBody::new(SyncStream(Mutex::new(
            Box::pin(lines),
        )))))
    }

    fn note(&self, state: &mut State, path: &str, kind: &str, object: &Value) {
        if let Some(name) = collection(path) {
            state.log.push((state.revision, name, json!({"type": kind, "object": object})));
        }
        self.revision.send_replace(state.revision);
    }

    /// Creates or replaces an object.
    pub(crate) fn put(&self, path: &str, mut object: Value) -> Value {
        let mut state = self.state.lock().unwrap();
        state.revision += 1;
        let revision = state.revision;
        if object["metadata"]["uid"].is_null() {
            // Unique on the machine, as real ones are: runc keeps containers of all namespaces.
            object["metadata"]["uid"] = json!(format!("{:032x}", rand::random::<u128>()));
        }
        object["metadata"]["resourceVersion"] = json!(revision.to_string());
        if path.starts_with("/api/v1/nodes/") && object["spec"]["podCIDR"].is_null() {
            object["spec"]["podCIDR"] = json!("10.244.7.0/24");
        }
        let kind = if state.objects.contains_key(path) { "MODIFIED" } else { "ADDED" };
        state.objects.insert(path.to_owned(), object.clone());
        self.note(&mut state, path, kind, &object);
        object
    }

    /// Changes an object.
    pub(crate) fn change(&self, path: &str, change: impl FnOnce(&mut Value)) -> Option<Value> {
        let mut state = self.state.lock().unwrap();
        let mut object = state.objects.get(path)?.clone();
        let before = object.clone();
        change(&mut object);
        if object == before {
            return Some(object);
        }
        state.revision += 1;
        object["metadata"]["resourceVersion"] = json!(state.revision.to_string());
        state.objects.insert(path.to_owned(), object.clone());
        self.note(&mut state, path, "MODIFIED", &object);
        Some(object)
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.state.lock().unwrap().objects.get(path).cloned()
    }

    fn remove(&self, path: &str) -> Option<Value> {
        let mut state = self.state.lock().unwrap();
        let object = state.objects.remove(path)?;
        state.revision += 1;
        self.note(&mut state, path, "DELETED", &object);
        Some(object)
    }

    /// Waits until the objects are so; `check` says when, and sees them at every change.
    pub(crate) async fn until<T>(
        &self,
        path: &str,
        check: impl Fn(Option<&Value>) -> Option<T>,
    ) -> T {
        let mut revision = self.revision.subscribe();
        let wait = async {
            loop {
                let now = self.get(path);
                if let Some(found) = check(now.as_ref()) {
                    return found;
                }
                revision.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(std::time::Duration::from_secs(30), wait).await {
            Ok(found) => found,
            Err(_) => {
                let now = self.get(path).map(|o| serde_json::to_string_pretty(&o).unwrap());
                panic!("waited 30 s for {path}; it is {now:?}; events: {:#?}", self.events())
            }
        }
    }

    /// Reasons and messages of all events.
    pub(crate) fn events(&self) -> Vec<(String, String)> {
        let state = self.state.lock().unwrap();
        let events = state.objects.iter().filter(|(path, _)| path.contains("/events/"));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        events.map(|(_, event)| (text(&event["reason"]), text(&event["message"]))).collect()
    }
}

/// hyper asks for `Sync` bodies here, and a stream behind a lock is one.
struct SyncStream<S>(Mutex<S>);

impl<S: futures::Stream + Unpin> futures::Stream for SyncStream<S> {
    type Item = S::Item;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<S::Item>> {
        self.0.lock().unwrap().poll_next_unpin(context)
    }
}
