//! An API server in memory, for tests: just enough of the contract that controllers cannot tell.
//!
//! Objects are JSON. Lists, watches from a revision, create with `generateName`, optimistic
//! updates, `/status`, merge and strategic patches, graceful deletion of bound pods, finalizers,
//! bindings, namespace finalisation. No validation, no defaults, no authorisation.

mod hand;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::controllers::{Config, ResourceId};
use crate::meta;
use crate::view::Kind;

type Answer = Result<Value, (StatusCode, &'static str, String)>;
type Stream = UnsyncBoxBody<Bytes, Infallible>;

/// Where an object is: collection (`apps/v1/deployments`), namespace, name.
type Place = (String, String, String);

#[derive(Default)]
struct State {
    objects: BTreeMap<Place, Value>,
    revision: u64,
    history: Vec<(u64, Place, &'static str, Value)>,
    watchers: Vec<(String, Option<String>, mpsc::UnboundedSender<Bytes>)>,
    /// `METHOD path` of every write.
    writes: Vec<String>,
    refusals: Vec<(String, usize)>,
}

/// See the module's text.
#[derive(Clone, Default)]
pub(crate) struct FakeApi {
    state: Arc<Mutex<State>>,
}

struct Route {
    collection: String,
    namespace: String,
    name: String,
    subresource: String,
    query: BTreeMap<String, String>,
}

fn route(uri: &http::Uri) -> Route {
    let parts: Vec<&str> = uri.path().trim_matches('/').split('/').collect();
    let (group_version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] => ((*version).to_owned(), rest),
        ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
        other => panic!("not a path of the API: {other:?}"),
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, plural, rest @ ..]
            if !matches!(*plural, "status" | "finalize") =>
        {
            ((*namespace).to_owned(), [&[*plural], rest].concat())
        }
        rest => (String::new(), rest.to_vec()),
    };
    let text = |index: usize| rest.get(index).map(|s| (*s).to_owned()).unwrap_or_default();
    let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    Route {
        collection: format!("{group_version}/{}", text(0)),
        namespace,
        name: text(1),
        subresource: text(2),
        query: pairs.map(|(key, value)| (key.to_owned(), value.replace("%3D", "="))).collect(),
    }
}

impl FakeApi {
    /// A client of this server.
    pub(crate) fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.serve(request).await) }
        });
        kube::Client::new(service, "default")
    }

    /// Runs all controllers against this server until the guard is dropped.
    pub(crate) fn run_controllers(&self) -> tokio_util::sync::DropGuard {
        self.run_controllers_of(resources())
    }

    /// The same for a server that stores these resources.
    pub(crate) fn run_controllers_of(
        &self,
        resources: Vec<ResourceId>,
    ) -> tokio_util::sync::DropGuard {
        let stop = CancellationToken::new();
        let config = Config { ca_pem: "PEM".into(), resources, ..Config::default() };
        let (client, stopped) = (self.client(), stop.clone());
        tokio::spawn(async move { crate::run(client, config, stopped).await.unwrap() });
        stop.drop_guard()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn serve(&self, request: Request<Body>) -> Response<Stream> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let route = route(&head.uri);
        if route.query.contains_key("watch") {
            return self.watch(&route);
        }
        let body: Value =
            if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
        let answer = self.lock().answer(&head.method, &head.uri, &route, body);
        let (code, value) = match answer {
            Ok(value) => (StatusCode::OK, value),
            Err((code, reason, message)) => {
                let number = code.as_u16();
                (
                    code,
                    json!({ "kind": "Status", "reason": reason, "message": message, "code": number }),
                )
            }
        };
        let body = Full::new(Bytes::from(value.to_string())).boxed_unsync();
        Response::builder().status(code).body(body).unwrap()
    }

    fn watch(&self, route: &Route) -> Response<Stream> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let from: u64 = route.query["resourceVersion"].parse().unwrap();
        let name = wanted_name(route);
        let mut state = self.lock();
        for (revision, place, kind, object) in &state.history {
            if *revision > from && place.0 == route.collection && concerns(&name, &place.2) {
                sender.send(event(kind, object)).unwrap();
            }
        }
        state.watchers.push((route.collection.clone(), name, sender));
        let frames = futures::stream::unfold(receiver, |mut receiver| async move {
            Some((receiver.recv().await?, receiver))
        });
        let frames = frames.map(|bytes| Ok(hyper::body::Frame::data(bytes)));
        Response::new(StreamBody::new(frames).boxed_unsync())
    }

    /// Ends all watches, as a server does that restarts.
    pub(crate) fn cut_watches(&self) {
        self.lock().watchers.clear();
    }

    /// Refuses the next `count` requests whose `METHOD path` begins so.
    pub(crate) fn refuse(&self, start: &str, count: usize) {
        self.lock().refusals.push((start.to_owned(), count));
    }
}

fn collection<K: Kind>() -> String {
    format!("{}/{}", K::API_VERSION, K::URL_PATH_SEGMENT)
}

fn wanted_name(route: &Route) -> Option<String> {
    let fields = route.query.get("fieldSelector")?;
    fields.strip_prefix("metadata.name=").map(str::to_owned)
}

fn concerns(wanted: &Option<String>, name: &str) -> bool {
    wanted.as_ref().is_none_or(|wanted| wanted == name)
}

fn event(kind: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{}\n", json!({ "type": kind, "object": object })))
}

impl State {
    fn answer(&mut self, method: &Method, uri: &http::Uri, route: &Route, body: Value) -> Answer {
        let line = format!("{method} {}", uri.path());
        for (start, left) in &mut self.refusals {
            if *left > 0 && line.starts_with(start.as_str()) {
                *left -= 1;
                let text = "quota exceeded".to_owned();
                return Err((StatusCode::FORBIDDEN, "Forbidden", text));
            }
        }
        if *method != Method::GET {
            self.writes.push(line);
        }
        let place = (route.collection.clone(), route.namespace.clone(), route.name.clone());
        match *method {
            Method::GET if route.name.is_empty() => Ok(self.list(route)),
            Method::GET => self.objects.get(&place).cloned().ok_or_else(not_found),
            Method::POST if route.subresource == "binding" => self.bind(&place, &body),
            Method::POST => self.create(route, body),
            Method::PUT => self.put(&place, &route.subresource, body),
            Method::PATCH => self.patch(&place, &route.subresource, &body),
            Method::DELETE => self.delete(&place, &body),
            _ => panic!("no such method: {method}"),
        }
    }

    fn list(&self, route: &Route) -> Value {
        let name = wanted_name(route);
        let items: Vec<&Value> = self
            .objects
            .iter()
            .filter(|((collection, namespace, held), _)| {
                *collection == route.collection
                    && (route.namespace.is_empty() || *namespace == route.namespace)
                    && concerns(&name, held)
            })
            .map(|(_, value)| value)
            .collect();
        json!({ "metadata": { "resourceVersion": self.revision.to_string() }, "items": items })
    }

    fn store(&mut self, place: Place, mut value: Value, kind: &'static str) -> Value {
        self.revision += 1;
        value["metadata"]["resourceVersion"] = self.revision.to_string().into();
        let finalizers = value["metadata"]["finalizers"].as_array().map_or(0, Vec::len);
        let namespace_held = value["spec"]["finalizers"].as_array().map_or(0, Vec::len);
        let going = !value["metadata"]["deletionTimestamp"].is_null()
            && value["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0;
        let kind = if going && finalizers == 0 && namespace_held == 0 {
            self.objects.remove(&place);
            "DELETED"
        } else {
            self.objects.insert(place.clone(), value.clone());
            kind
        };
        self.history.push((self.revision, place.clone(), kind, value.clone()));
        self.watchers.retain(|(collection, name, sender)| {
            *collection != place.0
                || !concerns(name, &place.2)
                || sender.send(event(kind, &value)).is_ok()
        });
        value
    }

    fn create(&mut self, route: &Route, mut value: Value) -> Answer {
        let number = self.revision + 1;
        let metadata = &mut value["metadata"];
        if metadata["name"].is_null() {
            let prefix = metadata["generateName"].as_str().unwrap_or_default().to_owned();
            metadata["name"] = format!("{prefix}{number:05}").into();
        }
        metadata["uid"] = format!("uid-{number}").into();
        metadata["generation"] = 1.into();
        metadata["creationTimestamp"] = json!(meta::seconds(clock::now()));
        let name = metadata["name"].as_str().unwrap().to_owned();
        let place = (route.collection.clone(), route.namespace.clone(), name);
        if self.objects.contains_key(&place) {
            let text = format!("{} already exists", place.2);
            return Err((StatusCode::CONFLICT, "AlreadyExists", text));
        }
        if route.collection == "v1/namespaces" {
            value["spec"]["finalizers"] = json!(["kubernetes"]);
            value["status"]["phase"] = "Active".into();
        }
        Ok(self.store(place, value, "ADDED"))
    }

    fn put(&mut self, place: &Place, subresource: &str, mut value: Value) -> Answer {
        let held = self.objects.get(place).ok_or_else(not_found)?.clone();
        if value["metadata"]["resourceVersion"] != held["metadata"]["resourceVersion"] {
            return Err(conflict());
        }
        if subresource == "status" {
            let (status, notes) = (value["status"].take(), value["metadata"]["annotations"].take());
            value = held;
            value["status"] = status;
            value["metadata"]["annotations"] = notes;
        } else if subresource.is_empty() {
            value["status"] = held["status"].clone();
            if value["spec"] != held["spec"] {
                let generation = held["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
                value["metadata"]["generation"] = generation.into();
            }
        }
        Ok(self.store(place.clone(), value, "MODIFIED"))
    }

    fn patch(&mut self, place: &Place, subresource: &str, change: &Value) -> Answer {
        let mut value = self.objects.get(place).ok_or_else(not_found)?.clone();
        let wanted = &change["metadata"]["resourceVersion"];
        if !wanted.is_null() && *wanted != value["metadata"]["resourceVersion"] {
            return Err(conflict());
        }
        let conditions = value["status"]["conditions"].clone();
        merge(&mut value, change);
        if subresource == "status" && !change["status"]["conditions"].is_null() {
            // The only list that is patched strategically here.
            let mut merged = conditions.as_array().cloned().unwrap_or_default();
            for condition in change["status"]["conditions"].as_array().unwrap() {
                match merged.iter_mut().find(|held| held["type"] == condition["type"]) {
                    Some(held) => merge(held, condition),
                    None => merged.push(condition.clone()),
                }
            }
            value["status"]["conditions"] = merged.into();
        }
        Ok(self.store(place.clone(), value, "MODIFIED"))
    }

    fn bind(&mut self, place: &Place, binding: &Value) -> Answer {
        let mut pod = self.objects.get(place).ok_or_else(not_found)?.clone();
        if !pod["spec"]["nodeName"].is_null() {
            return Err(conflict());
        }
        pod["spec"]["nodeName"] = binding["target"]["name"].clone();
        self.store(place.clone(), pod, "MODIFIED");
        Ok(json!({ "apiVersion": "v1", "kind": "Status", "status": "Success" }))
    }

    fn delete(&mut self, place: &Place, options: &Value) -> Answer {
        let mut value = self.objects.get(place).ok_or_else(not_found)?.clone();
        let uid = &options["preconditions"]["uid"];
        if !uid.is_null() && *uid != value["metadata"]["uid"] {
            return Err(conflict());
        }
        let metadata = &mut value["metadata"];
        let now = !options["gracePeriodSeconds"].is_null();
        if !metadata["deletionTimestamp"].is_null() && !now {
            return Ok(value);
        }
        let extra = match options["propagationPolicy"].as_str() {
            Some("Foreground") => Some("foregroundDeletion"),
            Some("Orphan") => Some("orphan"),
            _ => None,
        };
        if let Some(extra) = extra {
            let mut held = metadata["finalizers"].as_array().cloned().unwrap_or_default();
            held.push(extra.into());
            metadata["finalizers"] = held.into();
        }
        let bound = place.0 == "v1/pods" && !value["spec"]["nodeName"].is_null() && !now;
        let metadata = &mut value["metadata"];
        metadata["deletionTimestamp"] = json!(meta::seconds(clock::now()));
        metadata["deletionGracePeriodSeconds"] = if bound { 30 } else { 0 }.into();
        if place.0 == "v1/namespaces" {
            value["status"]["phase"] = "Terminating".into();
        }
        let stored = self.store(place.clone(), value, "MODIFIED");
        if self.objects.contains_key(place) {
            return Ok(stored);
        }
        Ok(json!({ "apiVersion": "v1", "kind": "Status", "status": "Success" }))
    }

    fn remove(&mut self, place: &Place) {
        if let Some(mut value) = self.objects.get(place).cloned() {
            value["metadata"]["deletionTimestamp"] = json!(meta::seconds(clock::now()));
            value["metadata"]["deletionGracePeriodSeconds"] = 0.into();
            self.store(place.clone(), value, "DELETED");
        }
    }
}

/// RFC 7386.
fn merge(target: &mut Value, change: &Value) {
    let Some(change) = change.as_object() else {
        *target = change.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in change {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}

fn not_found() -> (StatusCode, &'static str, String) {
    (StatusCode::NOT_FOUND, "NotFound", "not found".to_owned())
}

fn conflict() -> (StatusCode, &'static str, String) {
    (StatusCode::CONFLICT, "Conflict", "the object has been modified".to_owned())
}

/// The resources that a server like ours stores.
pub(crate) fn resources() -> Vec<ResourceId> {
    use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
    use k8s_openapi::api::coordination::v1::Lease;
    use k8s_openapi::api::core::v1 as core;
    vec![
        core::Pod::resource(),
        core::Service::resource(),
        core::Endpoints::resource(),
        core::Node::resource(),
        core::Namespace::resource(),
        core::ServiceAccount::resource(),
        core::ConfigMap::resource(),
        ResourceId { plural: "secrets", kind: "Secret", ..core::Pod::resource() },
        ResourceId { plural: "events", kind: "Event", ..core::Pod::resource() },
        Deployment::resource(),
        ReplicaSet::resource(),
        Lease::resource(),
        k8s_openapi::api::discovery::v1::EndpointSlice::resource(),
        k8s_openapi::api::networking::v1::ServiceCIDR::resource(),
        k8s_openapi::api::networking::v1::IPAddress::resource(),
    ]
}
