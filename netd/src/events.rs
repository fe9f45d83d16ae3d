//! Events about Services and the Node: what `kubectl describe` ends with.
//!
//! Input: happenings. Output: Event objects from component `netd`, written in the background; the
//! same happening again raises the count of the event that is there (upstream:
//! `client-go/tools/record`). Invariants: telling never blocks the data plane, and one object
//! can't fill the cluster with events. Deliberately not here: what is worth telling.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Error};
use netmodel::snapshot::ServiceName;
use serde_json::json;
use tokio::sync::mpsc;

/// The component that tells.
const COMPONENT: &str = "netd";
/// Happenings that may wait to be written.
const WAITING: usize = 1024;
/// Events whose counts are remembered.
const REMEMBERED: usize = 1024;
/// Happenings of one object that may come at once …
const BURST: f64 = 25.0;
/// … and the time after which one more may.
const REFILL: Duration = Duration::from_secs(300);
/// How often a happening is tried to be told while the API can't be reached.
const TRIES: u32 = 6;
/// The first pause between two tries; each is twice the one before.
const PAUSE: Duration = Duration::from_millis(200);

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Severity {
    /// As it should be.
    Normal,
    /// Somebody should look.
    Warning,
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    /// A Service and its uid.
    Service(ServiceName, Box<str>),
    /// An Ingress and its uid.
    Ingress(ServiceName, Box<str>),
    /// The node that netd runs on, and its uid.
    Node(String),
}

/// Something worth telling.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Happening {
    pub(crate) about: Subject,
    pub(crate) severity: Severity,
    /// A word in CamelCase.
    pub(crate) reason: &'static str,
    /// A sentence.
    pub(crate) message: String,
}

/// Takes happenings in; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    queue: mpsc::Sender<Happening>,
}

impl Recorder {
    /// A recorder, and the task that writes what it is told.
    pub(crate) fn new(client: Client, node: String) -> (Self, impl Future<Output = ()>) {
        let (queue, happenings) = mpsc::channel(WAITING);
        (Self { queue }, write_all(client, node, happenings))
    }

    /// Tells of a happening.
    pub(crate) fn tell(&self, happening: Happening) {
        if let Err(error) = self.queue.try_send(happening) {
            tracing::debug!(%error, "an event is dropped");
        }
    }
}

async fn write_all(client: Client, node: String, mut happenings: mpsc::Receiver<Happening>) {
    let mut ledger = Ledger::new(node);
    while let Some(happening) = happenings.recv().await {
        let Some(posting) = ledger.note(happening, Timestamp::now()) else { continue };
        let mut pause = PAUSE;
        for _ in 0..TRIES {
            match write(&client, &posting).await {
                Ok(()) => break,
                // The server's answer stays the same: no permission, say, or no such namespace.
                Err(error @ Error::Api(_)) => {
                    tracing::debug!(error = crate::error_chain(&error), "an event is not written");
                    break;
                }
                Err(_) => tokio::time::sleep(pause).await,
            }
            pause *= 2;
        }
    }
}

async fn write(client: &Client, posting: &Posting) -> Result<(), Error> {
    let (Posting::First(event) | Posting::Again(event)) = posting;
    let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    if let Posting::Again(event) = posting {
        let name = event.metadata.name.as_deref().unwrap_or_default();
        let patch = json!({"count": event.count, "lastTimestamp": event.last_timestamp});
        match events.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            // The event expired; it begins anew.
            Err(Error::Api(answer)) if answer.code == 404 => {}
            other => return other.map(|_| ()),
        }
    }
    events.create(&PostParams::default(), event).await.map(|_| ())
}

/// What is to be written for a happening.
#[derive(Debug, PartialEq)]
enum Posting {
    /// A new event.
    First(Box<Event>),
    /// The event as it is to stand now: a higher count, a later time.
    Again(Box<Event>),
}

/// What was written already: counts, and how much each object may still say.
struct Ledger {
    node: String,
    known: HashMap<Happening, Event>,
    allowance: HashMap<Subject, (f64, Timestamp)>,
    /// The number in the last event's name: its time in nanoseconds, never the same twice.
    last: i128,
}

impl Ledger {
    fn new(node: String) -> Self {
        Self { node, known: HashMap::new(), allowance: HashMap::new(), last: 0 }
    }

    fn note(&mut self, happening: Happening, now: Timestamp) -> Option<Posting> {
        if !self.allowed(&happening.about, now) {
            return None;
        }
        // Forgetting all at once costs a few counts, and needs no order of ages.
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        if let Some(event) = self.known.get_mut(&happening) {
            event.count = Some(event.count.unwrap_or(1) + 1);
            event.last_timestamp = Some(seconds(now));
            return Some(Posting::Again(Box::new(event.clone())));
        }
        self.last = now.as_nanosecond().max(self.last + 1);
        let event = self.event(&happening, now);
        self.known.insert(happening, event.clone());
        Some(Posting::First(Box::new(event)))
    }

    /// A bucket of [`BURST`] tokens for each object, refilled by one each [`REFILL`].
    fn allowed(&mut self, about: &Subject, now: Timestamp) -> bool {
        if self.allowance.len() >= REMEMBERED {
            self.allowance.clear();
        }
        let (tokens, since) = self.allowance.entry(about.clone()).or_insert((BURST, now));
        let elapsed = now.duration_since(*since).as_secs_f64().max(0.0);
        *tokens = (*tokens + elapsed / REFILL.as_secs_f64()).min(BURST);
        *since = now;
        let allowed = *tokens >= 1.0;
        if allowed {
            *tokens -= 1.0;
        }
        allowed
    }

    fn event(&self, happening: &Happening, now: Timestamp) -> Event {
        let about = self.reference(&happening.about);
        let subject = about.name.as_deref().unwrap_or_default();
        // Events about objects without a namespace live in the default one.
        let namespace = about.namespace.clone().unwrap_or_else(|| "default".to_owned());
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{subject}.{:x}", self.last)),
                namespace: Some(namespace),
                ..ObjectMeta::default()
            },
            type_: Some(match happening.severity {
                Severity::Normal => "Normal".to_owned(),
                Severity::Warning => "Warning".to_owned(),
            }),
            reason: Some(happening.reason.to_owned()),
            message: Some(happening.message.clone()),
            source: Some(EventSource {
                component: Some(COMPONENT.to_owned()),
                host: Some(self.node.clone()),
            }),
            reporting_component: Some(COMPONENT.to_owned()),
            reporting_instance: Some(self.node.clone()),
            first_timestamp: Some(seconds(now)),
            last_timestamp: Some(seconds(now)),
            count: Some(1),
            involved_object: about,
            ..Event::default()
        }
    }

    fn reference(&self, about: &Subject) -> ObjectReference {
        let (version, kind, name, namespace, uid) = match about {
            Subject::Service(name, uid) => {
                ("v1", "Service", name.name.to_string(), Some(name.namespace.to_string()), &**uid)
            }
            Subject::Ingress(name, uid) => {
                let namespace = Some(name.namespace.to_string());
                ("networking.k8s.io/v1", "Ingress", name.name.to_string(), namespace, &**uid)
            }
            Subject::Node(uid) => ("v1", "Node", self.node.clone(), None, uid.as_str()),
        };
        ObjectReference {
            api_version: Some(version.to_owned()),
            kind: Some(kind.to_owned()),
            name: Some(name),
            namespace,
            uid: (!uid.is_empty()).then(|| uid.to_owned()),
            ..ObjectReference::default()
        }
    }
}

/// Kubernetes' times in `v1` Events have whole seconds.
fn seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happening(message: &str) -> Happening {
        Happening {
            about: Subject::Service(ServiceName::new("shop", "web"), "u-1".into()),
            severity: Severity::Warning,
            reason: "FrontendTaken",
            message: message.to_owned(),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_same_happening_again_raises_the_count() {
        let mut ledger = Ledger::new("node-1".to_owned());
        let Some(Posting::First(first)) = ledger.note(happening("one"), at(10)) else {
            panic!("the first makes an event")
        };
        let Some(Posting::Again(again)) = ledger.note(happening("one"), at(20)) else {
            panic!("the second changes it")
        };
        assert_eq!(again.metadata.name, first.metadata.name);
        assert_eq!((again.count, again.last_timestamp), (Some(2), Some(Time(at(20)))));
        assert_eq!(again.first_timestamp, Some(Time(at(10))));
        assert!(matches!(ledger.note(happening("two"), at(20)), Some(Posting::First(_))));
    }

    #[test]
    fn an_event_says_who_tells_where_and_about_what() {
        let mut ledger = Ledger::new("node-1".to_owned());
        let Some(Posting::First(event)) = ledger.note(happening("one"), at(10)) else { panic!() };
        let source = event.source.unwrap();
        assert_eq!(
            (source.component.as_deref(), source.host.as_deref()),
            (Some("netd"), Some("node-1"))
        );
        assert_eq!(event.metadata.namespace.as_deref(), Some("shop"));
        assert_eq!(event.involved_object.uid.as_deref(), Some("u-1"));
        let about = Subject::Node("n-1".to_owned());
        let Some(Posting::First(event)) =
            ledger.note(Happening { about, ..happening("x") }, at(10))
        else {
            panic!()
        };
        assert_eq!(event.metadata.namespace.as_deref(), Some("default"));
        assert_eq!(event.involved_object.namespace, None);
        assert_eq!(event.involved_object.name.as_deref(), Some("node-1"));
    }

    #[test]
    fn one_object_may_say_25_things_at_once_and_one_more_every_five_minutes() {
        let mut ledger = Ledger::new("node-1".to_owned());
        let said = (0..40).filter(|n| ledger.note(happening(&n.to_string()), at(0)).is_some());
        assert_eq!(said.count(), 25);
        assert!(ledger.note(happening("later"), at(299)).is_none());
        assert!(ledger.note(happening("later"), at(301)).is_some());
        let other = Happening { about: Subject::Node(String::new()), ..happening("x") };
        assert!(ledger.note(other, at(301)).is_some(), "others may talk meanwhile");
    }
}
