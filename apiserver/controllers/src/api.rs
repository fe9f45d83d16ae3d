//! Executes writes: the only place of this crate that changes anything.
//!
//! Input: [`Write`]s. Output: their answers, which also go into the view (see `cache`).
//! Invariant: holds no policy; what is to be done was decided by a plan.

use std::sync::Arc;

use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{Binding, Event, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    DeleteOptions, ObjectMeta, Preconditions, Status,
};
use serde_json::json;

use crate::cache::Key;
use crate::controllers::ResourceId;
use crate::event::{Occurrence, Recorder};
use crate::meta;
use crate::view::{Object, View};
use crate::write::{PatchKind, Plan, Propagation, Target, Write};

/// A write that did not happen, or whose answer made no sense.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The request failed.
    #[error("{method} {path}")]
    Request {
        /// HTTP method.
        method: http::Method,
        /// Path.
        path: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// The request could not be written down.
    #[error("encode the body of {method} {path}")]
    Encode {
        /// HTTP method.
        method: http::Method,
        /// Path.
        path: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The answer could not be read.
    #[error("decode the answer to {method} {path}")]
    Decode {
        /// HTTP method.
        method: http::Method,
        /// Path.
        path: String,
        /// Why.
        source: serde_json::Error,
    },
}

impl Error {
    fn code_and_reason(&self) -> Option<(u16, &str)> {
        match self {
            Self::Request { source, .. } => match &**source {
                kube::Error::Api(status) => Some((status.code, &status.reason)),
                _ => None,
            },
            _ => None,
        }
    }

    /// Somebody else wrote the object first.
    pub(crate) fn is_conflict(&self) -> bool {
        self.code_and_reason().is_some_and(|(code, reason)| code == 409 && reason == "Conflict")
    }

    /// There is such an object already.
    pub(crate) fn is_already_exists(&self) -> bool {
        self.code_and_reason()
            .is_some_and(|(code, reason)| code == 409 && reason == "AlreadyExists")
    }

    /// There is no such object.
    pub(crate) fn is_not_found(&self) -> bool {
        self.code_and_reason().is_some_and(|(code, _)| code == 404)
    }

    /// Whether people should hear of it: not where somebody else wrote first, where the object or
    /// its namespace is going, which the next look settles.
    pub(crate) fn is_news(&self) -> bool {
        !self.is_conflict() && !self.is_not_found() && !self.is_namespace_terminating()
    }

    /// The object's namespace is going away (upstream: `NamespaceTerminatingCause`).
    pub(crate) fn is_namespace_terminating(&self) -> bool {
        match self {
            Self::Request { source, .. } => match &**source {
                kube::Error::Api(status) => status
                    .details
                    .iter()
                    .flat_map(|details| &details.causes)
                    .any(|cause| cause.reason == "NamespaceTerminating"),
                _ => false,
            },
            _ => false,
        }
    }

    /// What the API server said, for events and conditions that people read.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Request { source, .. } => match &**source {
                kube::Error::Api(status) => status.message.clone(),
                other => other.to_string(),
            },
            _ => self.chain(),
        }
    }

    /// The error with all its causes, for the log.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

/// The way to the API: client, view and recorder.
pub(crate) struct Api {
    client: kube::Client,
    view: Arc<View>,
    recorder: Recorder,
}

impl Api {
    pub(crate) fn new(client: kube::Client, view: Arc<View>, recorder: Recorder) -> Self {
        Self { client, view, recorder }
    }

    /// Records an occurrence, outside of any plan.
    pub(crate) fn tell(&self, occurrence: Occurrence) {
        self.recorder.record(occurrence);
    }

    /// The client, for lists and watches.
    pub(crate) fn client(&self) -> &kube::Client {
        &self.client
    }

    /// Executes a plan's writes in order, up to the first failure.
    ///
    /// # Errors
    /// The failure.
    pub(crate) async fn run(&self, plan: Plan) -> Result<crate::worker::Recheck, Error> {
        for write in plan.writes {
            self.execute(write).await?;
        }
        Ok(plan.recheck)
    }

    /// Executes one write; answers with the object as stored where the server sends it.
    ///
    /// # Errors
    /// When the server refuses or cannot be reached. Removing what is gone already succeeds.
    pub(crate) async fn execute(&self, write: Write) -> Result<Option<Object>, Error> {
        match write {
            Write::Create(object) => self.put(http::Method::POST, object, None).await.map(Some),
            Write::Update(object) => self.put(http::Method::PUT, object, None).await.map(Some),
            Write::UpdateStatus(object) => {
                self.put(http::Method::PUT, object, Some("status")).await.map(Some)
            }
            Write::Finalize(namespace) => self
                .put(http::Method::PUT, Object::Namespace(namespace), Some("finalize"))
                .await
                .map(Some),
            Write::Delete { target, grace, propagation } => {
                self.delete(&target, grace, propagation).await.map(|()| None)
            }
            Write::Patch { target, subresource, kind, body } => {
                self.patch(&target, subresource, kind, &body).await.map(|()| None)
            }
            Write::Bind { pod, node } => self.bind(&pod, &node).await.map(|()| None),
            Write::Event(occurrence) => {
                self.recorder.record(occurrence);
                Ok(None)
            }
        }
    }

    async fn put(
        &self,
        method: http::Method,
        object: Object,
        subresource: Option<&str>,
    ) -> Result<Object, Error> {
        let metadata = object.metadata();
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        let mut path = collection(&object.resource(), namespace);
        if method == http::Method::PUT {
            path = item(path, metadata.name.as_deref().unwrap_or_default(), subresource);
        }
        let body = object.to_json().map_err(|source| Error::Encode {
            method: method.clone(),
            path: path.clone(),
            source,
        })?;
        let answer = self.send(&method, &path, "application/json", body).await?;
        let stored =
            object.read_same(&answer).map_err(|source| Error::Decode { method, path, source })?;
        self.view.absorb(stored.clone());
        Ok(stored)
    }

    async fn delete(
        &self,
        target: &Target,
        grace: Option<i64>,
        propagation: Propagation,
    ) -> Result<(), Error> {
        let method = http::Method::DELETE;
        let path = self.path(target, None);
        let options = DeleteOptions {
            grace_period_seconds: grace,
            preconditions: Some(Preconditions {
                uid: Some(target.uid.clone()),
                resource_version: None,
            }),
            propagation_policy: match propagation {
                Propagation::Default => None,
                Propagation::Background => Some("Background".to_owned()),
                Propagation::Foreground => Some("Foreground".to_owned()),
                Propagation::Orphan => Some("Orphan".to_owned()),
            },
            ..DeleteOptions::default()
        };
        let body = self.encode(&method, &path, &options)?;
        match self.send(&method, &path, "application/json", body).await {
            Ok(answer) => self.absorb_deletion(target, &answer),
            // What we wanted gone is gone. A namesake with another UID is a conflict: by the next
            // look the view knows of it.
            Err(error) if error.is_not_found() => {
                self.view.absorb_removed(&target.resource, &target.key, &target.uid);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// A removal is answered by a `Status` when the object is gone, else by the object.
    fn absorb_deletion(&self, target: &Target, answer: &str) {
        #[derive(serde::Deserialize)]
        struct Head {
            #[serde(default)]
            kind: String,
            #[serde(default)]
            metadata: Option<ObjectMeta>,
        }
        let head: Option<Head> = serde_json::from_str(answer).ok();
        let lingers = head.is_some_and(|head| {
            head.kind != Status::KIND
                && head.metadata.is_some_and(|metadata| metadata.deletion_timestamp.is_some())
        });
        if !lingers {
            self.view.absorb_removed(&target.resource, &target.key, &target.uid);
        } else if let Err(error) = self.view.absorb_json(&target.resource, answer) {
            tracing::warn!(%error, ?target, "answer to a removal not understood");
        }
    }

    async fn patch(
        &self,
        target: &Target,
        subresource: Option<&str>,
        kind: PatchKind,
        body: &serde_json::Value,
    ) -> Result<(), Error> {
        let method = http::Method::PATCH;
        let path = self.path(target, subresource);
        let media = match kind {
            PatchKind::Merge => "application/merge-patch+json",
            PatchKind::Strategic => "application/strategic-merge-patch+json",
        };
        let body = self.encode(&method, &path, body)?;
        let answer = self.send(&method, &path, media, body).await?;
        self.view.absorb_json(&target.resource, &answer).map_err(|source| Error::Decode {
            method,
            path,
            source,
        })
    }

    async fn bind(&self, pod: &Target, node: &str) -> Result<(), Error> {
        let method = http::Method::POST;
        let path = self.path(pod, Some("binding"));
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(pod.key.name.clone()),
                namespace: Some(pod.key.namespace.clone()),
                uid: Some(pod.uid.clone()),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                kind: Some("Node".to_owned()),
                name: Some(node.to_owned()),
                ..ObjectReference::default()
            },
        };
        let body = self.encode(&method, &path, &binding)?;
        self.send(&method, &path, "application/json", body).await.map(|_| ())
    }

    /// The UID of the object at this place, asked of the server itself; `None` if there is none.
    ///
    /// # Errors
    /// When the server cannot answer.
    pub(crate) async fn uid_of(
        &self,
        resource: &ResourceId,
        key: &Key,
    ) -> Result<Option<String>, Error> {
        #[derive(serde::Deserialize)]
        struct Head {
            metadata: ObjectMeta,
        }
        let method = http::Method::GET;
        let path = item(collection(resource, &key.namespace), &key.name, None);
        match self.send(&method, &path, "application/json", Vec::new()).await {
            Ok(answer) => serde_json::from_str::<Head>(&answer)
                .map(|head| head.metadata.uid)
                .map_err(|source| Error::Decode { method, path, source }),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The metadata of all objects of a resource in a namespace, asked of the server itself.
    ///
    /// # Errors
    /// When the server cannot answer.
    pub(crate) async fn list_metadata(
        &self,
        resource: &ResourceId,
        namespace: &str,
    ) -> Result<Vec<ObjectMeta>, Error> {
        #[derive(serde::Deserialize)]
        struct Head {
            metadata: ObjectMeta,
        }
        #[derive(serde::Deserialize)]
        struct List {
            items: Vec<Head>,
        }
        let method = http::Method::GET;
        let path = collection(resource, namespace);
        let answer = self.send(&method, &path, "application/json", Vec::new()).await?;
        serde_json::from_str::<List>(&answer)
            .map(|list| list.items.into_iter().map(|head| head.metadata).collect())
            .map_err(|source| Error::Decode { method, path, source })
    }

    /// Sends an event.
    ///
    /// # Errors
    /// As [`Api::execute`].
    pub(crate) async fn create_event(&self, event: &Event) -> Result<(), Error> {
        let method = http::Method::POST;
        let path = collection(&EVENTS, meta::namespace(event));
        let body = self.encode(&method, &path, event)?;
        self.send(&method, &path, "application/json", body).await.map(|_| ())
    }

    /// Raises the count of an event that was sent before; its message may have changed as well.
    ///
    /// # Errors
    /// As [`Api::execute`].
    pub(crate) async fn count_event(&self, event: &Event) -> Result<(), Error> {
        let method = http::Method::PATCH;
        let path = item(collection(&EVENTS, meta::namespace(event)), meta::name(event), None);
        let change = json!({
            "count": event.count,
            "lastTimestamp": event.last_timestamp,
            "message": event.message,
        });
        let body = self.encode(&method, &path, &change)?;
        self.send(&method, &path, "application/merge-patch+json", body).await.map(|_| ())
    }

    fn path(&self, target: &Target, subresource: Option<&str>) -> String {
        let Key { namespace, name } = &target.key;
        item(collection(&target.resource, namespace), name, subresource)
    }

    fn encode<T: serde::Serialize>(
        &self,
        method: &http::Method,
        path: &str,
        body: &T,
    ) -> Result<Vec<u8>, Error> {
        serde_json::to_vec(body).map_err(|source| Error::Encode {
            method: method.clone(),
            path: path.to_owned(),
            source,
        })
    }

    async fn send(
        &self,
        method: &http::Method,
        path: &str,
        media: &str,
        body: Vec<u8>,
    ) -> Result<String, Error> {
        let failed = |source| Error::Request {
            method: method.clone(),
            path: path.to_owned(),
            source: Box::new(source),
        };
        let request = http::Request::builder()
            .method(method.clone())
            .uri(path)
            .header(http::header::CONTENT_TYPE, media)
            .header(http::header::ACCEPT, "application/json")
            .body(body)
            .map_err(|error| failed(kube::Error::HttpError(error)))?;
        self.client.request_text(request).await.map_err(failed)
    }
}

/// Events are written but never read here, so the view has no cache for them.
const EVENTS: ResourceId =
    ResourceId { group: "", version: "v1", plural: "events", kind: "Event", namespaced: true };

/// The path of a resource's collection; of all namespaces when `namespace` is empty.
pub(crate) fn collection(resource: &ResourceId, namespace: &str) -> String {
    let ResourceId { group, version, plural, .. } = resource;
    let mut path = if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    };
    if resource.namespaced && !namespace.is_empty() {
        path.push_str("/namespaces/");
        path.push_str(namespace);
    }
    path.push('/');
    path.push_str(plural);
    path
}

fn item(collection: String, name: &str, subresource: Option<&str>) -> String {
    match subresource {
        Some(subresource) => format!("{collection}/{name}/{subresource}"),
        None => format!("{collection}/{name}"),
    }
}
