//! An API server by script: lists to answer with, watches to send events on, and what was written.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use futures::StreamExt;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use serde_json::{Value, json};

/// Lists to answer with, open watches, and what was written.
#[derive(Clone, Default)]
pub(crate) struct Api(pub(crate) Arc<Mutex<Script>>);

#[derive(Default)]
pub(crate) struct Script {
    pub(crate) lists: BTreeMap<String, Vec<Value>>,
    watches: BTreeMap<String, Vec<UnboundedSender<Bytes>>>,
    /// The label selector that each path was asked with.
    pub(crate) selectors: BTreeMap<String, String>,
    /// Paths that this server does not have.
    pub(crate) absent: BTreeSet<String>,
    /// Nothing may be written but events.
    pub(crate) only_events: bool,
    pub(crate) patches: Vec<(String, Value)>,
    pub(crate) events: Vec<Value>,
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

impl Api {
    pub(crate) fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<Answer, Infallible>(api.answer(request).await) }
        });
        kube::Client::new(service, "default")
    }

    async fn answer(&self, request: Request<Body>) -> Answer {
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let method = request.method().clone();
        if method == Method::PATCH || method == Method::POST {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            return self.write(&method, path, serde_json::from_slice(&body).unwrap());
        }
        let mut script = self.0.lock().unwrap();
        if script.absent.contains(&path) {
            return refusal(StatusCode::NOT_FOUND, "NotFound");
        }
        if let Some(selector) = query.split('&').find_map(|q| q.strip_prefix("labelSelector=")) {
            script.selectors.insert(path.clone(), selector.to_owned());
        }
        if query.contains("watch=true") {
            let (send, receive) = unbounded();
            script.watches.entry(path).or_default().push(send);
            let frames = receive.map(|bytes| Ok(Frame::data(bytes)));
            return Response::new(BodyExt::boxed(StreamBody::new(frames)));
        }
        let items = script.lists.get(&path).cloned().unwrap_or_default();
        whole(&json!({
            "kind": "List", "apiVersion": "v1",
            "metadata": {"resourceVersion": "1"}, "items": items,
        }))
    }

    fn write(&self, method: &Method, path: String, body: Value) -> Answer {
        let mut script = self.0.lock().unwrap();
        if *method == Method::POST {
            script.events.push(body.clone());
            return whole(&body);
        }
        if path.contains("/events/") {
            let name = path.rsplit('/').next().unwrap();
            let known = script.events.iter_mut().find(|e| e["metadata"]["name"] == name).unwrap();
            known["count"] = body["count"].clone();
            return whole(known);
        }
        if script.only_events {
            return refusal(StatusCode::FORBIDDEN, "Forbidden");
        }
        let (kind, version) = match path.contains("/services/") {
            true => ("Service", "v1"),
            false => ("PartialObjectMetadata", "meta.k8s.io/v1"),
        };
        script.patches.push((path, body));
        whole(&json!({"kind": kind, "apiVersion": version, "metadata": {"name": "x"}}))
    }

    /// The reasons and messages of all events about an object.
    pub(crate) fn told_about(&self, name: &str) -> Vec<(String, String)> {
        let script = self.0.lock().unwrap();
        let about = script.events.iter().filter(|e| e["involvedObject"]["name"] == name);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        about.map(|event| (text(&event["reason"]), text(&event["message"]))).collect()
    }

    /// The last patch of a path that ends so.
    pub(crate) fn last_patch(&self, end: &str) -> Option<Value> {
        let script = self.0.lock().unwrap();
        let matching = script.patches.iter().rev().find(|(path, _)| path.ends_with(end));
        matching.map(|(_, patch)| patch.clone())
    }

    /// Sends an event to all watches of a path; waits for the first one to be opened.
    pub(crate) fn event(&self, path: &str, kind: &str, object: &Value) {
        let deadline = Instant::now() + crate::SOON;
        while !self.is_watched(path) {
            assert!(Instant::now() < deadline, "nobody watches {path}");
            std::thread::yield_now();
        }
        let line = format!("{}\n", json!({"type": kind, "object": object}));
        let script = self.0.lock().unwrap();
        for watch in script.watches.get(path).into_iter().flatten() {
            let _ = watch.unbounded_send(line.clone().into());
        }
    }

    pub(crate) fn is_watched(&self, path: &str) -> bool {
        self.0.lock().unwrap().watches.contains_key(path)
    }
}

fn refusal(code: StatusCode, reason: &str) -> Answer {
    let mut answer = whole(&json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "reason": reason, "message": reason, "code": code.as_u16(),
    }));
    *answer.status_mut() = code;
    answer
}

fn whole(value: &Value) -> Answer {
    Response::new(Full::new(Bytes::from(value.to_string())).boxed())
}

pub(crate) const SERVICES: &str = "/api/v1/services";
pub(crate) const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";
pub(crate) const NODES: &str = "/api/v1/nodes";
pub(crate) const RANGES: &str = "/apis/networking.k8s.io/v1/servicecidrs";

pub(crate) fn node(name: &str, addr: &str, range: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "resourceVersion": "1"}, "spec": {"podCIDR": range},
        "status": {"addresses": [{"type": "InternalIP", "address": addr}]},
    })
}

pub(crate) fn service(name: &str, vip: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default", "resourceVersion": "2"},
        "spec": {"clusterIP": vip, "clusterIPs": [vip], "ports": [{"port": 80}]},
    })
}

pub(crate) fn slice(service: &str, addrs: &[&str]) -> Value {
    let endpoints: Vec<Value> =
        addrs.iter().map(|addr| json!({"addresses": [addr], "nodeName": "node-1"})).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-x"), "namespace": "default", "resourceVersion": "2",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4", "ports": [{"port": 8080}], "endpoints": endpoints,
    })
}
