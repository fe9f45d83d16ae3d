//! Events about pods and the node, as kubelet writes them: what `kubectl describe` ends with.
//!
//! Input: events from workers. Output: Event objects; an event that repeats counts up its first
//! object. Recording never holds a worker up: when the API is slow, events are dropped.
//! Upstream: `client-go/tools/record/events_cache.go`.

use std::collections::{HashMap, VecDeque};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference, Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
    core::ObjectMeta,
};
use tokio::sync::mpsc;

/// Events waiting to be written.
const QUEUE: usize = 1024;
/// Events that are remembered in order to count them up.
const REMEMBERED: usize = 1024;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Severity {
    /// As it should be.
    Normal,
    /// Somebody may have to look.
    Warning,
}

/// What happened to a pod or to the node.
#[derive(Debug, Clone)]
pub(crate) struct Happening {
    /// The pod, a container of it, or the node.
    about: ObjectReference,
    severity: Severity,
    reason: &'static str,
    message: String,
}

/// The workers' end.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    queue: mpsc::Sender<Happening>,
    node: String,
}

impl Recorder {
    /// A recorder and the task that writes what it is told.
    pub(crate) fn new(client: Client, node: String) -> (Self, impl Future<Output = ()>) {
        let (queue, happenings) = mpsc::channel(QUEUE);
        (Self { queue, node: node.clone() }, Writer::new(client, node).run(happenings))
    }

    /// Records an event about a pod, or about a container of it.
    pub(crate) fn record(
        &self,
        pod: &Pod,
        container: Option<&str>,
        severity: Severity,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        self.send(reference(pod, container), severity, reason, message.into());
    }

    /// Records an event about the node.
    pub(crate) fn record_node(&self, severity: Severity, reason: &'static str, message: String) {
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(self.node.clone()),
            // As kubelet: a node is known by its name before it has an object.
            uid: Some(self.node.clone()),
            ..ObjectReference::default()
        };
        self.send(about, severity, reason, message);
    }

    fn send(
        &self,
        about: ObjectReference,
        severity: Severity,
        reason: &'static str,
        message: String,
    ) {
        let happening = Happening { about, severity, reason, message };
        if self.queue.try_send(happening).is_err() {
            tracing::debug!(reason, "an event is dropped: the API is slow or we are stopping");
        }
    }
}

fn reference(pod: &Pod, container: Option<&str>) -> ObjectReference {
    let init = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let field_path = container.map(|name| {
        let is_init = init.into_iter().any(|container| container.name == name);
        format!("spec.{}{{{name}}}", if is_init { "initContainers" } else { "containers" })
    });
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: pod.metadata.name.clone(),
        namespace: pod.metadata.namespace.clone(),
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        field_path,
    }
}

#[derive(Debug, PartialEq, Eq, Hash, Clone)]
struct Key {
    uid: Option<String>,
    field_path: Option<String>,
    severity: Severity,
    reason: &'static str,
    message: String,
}

struct Writer {
    client: Client,
    node: String,
    known: HashMap<Key, (String, i32)>,
    order: VecDeque<Key>,
}

impl Writer {
    fn new(client: Client, node: String) -> Self {
        Self { client, node, known: HashMap::new(), order: VecDeque::new() }
    }

    async fn run(mut self, mut happenings: mpsc::Receiver<Happening>) {
        while let Some(happening) = happenings.recv().await {
            if let Err(error) = self.write(happening).await {
                tracing::debug!(error = crate::error_chain(&error), "an event was not written");
            }
        }
    }

    async fn write(&mut self, happening: Happening) -> Result<(), kube::Error> {
        // Events about what has no namespace are in this one.
        let namespace = happening.about.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let now = Time(Timestamp::now());
        let key = Key {
            uid: happening.about.uid.clone(),
            field_path: happening.about.field_path.clone(),
            severity: happening.severity,
            reason: happening.reason,
            message: happening.message.clone(),
        };
        if let Some((name, count)) = self.known.get_mut(&key) {
            *count += 1;
            let patch = serde_json::json!({"count": *count, "lastTimestamp": now});
            match events.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
                // The event may have expired: then it begins anew.
                Err(kube::Error::Api(answer)) if answer.code == 404 => {}
                other => return other.map(|_| ()),
            }
        }
        let event = self.event(happening, namespace, &now);
        let created = events.create(&PostParams::default(), &event).await?;
        self.remember(key, created.metadata.name.unwrap_or_default());
        Ok(())
    }

    fn event(&self, happening: Happening, namespace: String, now: &Time) -> Event {
        let about = happening.about.name.clone().unwrap_or_default();
        let unique = now.0.as_nanosecond();
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{about}.{unique:x}")),
                namespace: Some(namespace),
                ..ObjectMeta::default()
            },
            involved_object: happening.about,
            type_: Some(match happening.severity {
                Severity::Normal => "Normal".to_owned(),
                Severity::Warning => "Warning".to_owned(),
            }),
            reason: Some(happening.reason.to_owned()),
            message: Some(happening.message),
            source: Some(EventSource {
                component: Some("kubelet".to_owned()),
                host: Some(self.node.clone()),
            }),
            reporting_component: Some("kubelet".to_owned()),
            reporting_instance: Some(self.node.clone()),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now.clone()),
            count: Some(1),
            ..Event::default()
        }
    }

    fn remember(&mut self, key: Key, name: String) {
        if self.known.insert(key.clone(), (name, 1)).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }
}
