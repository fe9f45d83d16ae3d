//! Events: what `kubectl describe` shows at its end (upstream: `client-go/tools/record`).
//!
//! Input: occurrences. Output: `v1` Event objects, written in the background so that no controller
//! waits for them. The same occurrence again raises the count of the event that is there; from the
//! tenth that differs from the others in its message alone, they share one event.
//! Invariants: recording never blocks and never fails; when people could not keep up anyway
//! (1000 waiting, or one object complaining without end), occurrences are dropped.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::clock;
use crate::meta::{self, Held};

/// Occurrences that may wait to be written.
const WAITING: usize = 1000;
/// Events whose counts are remembered.
const REMEMBERED: usize = 4096;
/// Occurrences of one source about one object that may come at once …
const BURST: f64 = 25.0;
/// … and the time after which one more may.
const REFILL: Duration = Duration::from_secs(300);

/// So many occurrences that differ in the message alone …
const SIMILAR: usize = 10;
/// … with pauses no longer than this, and they are told of in one event.
const MEMORY: SignedDuration = SignedDuration::from_mins(10);

/// `Event.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Severity {
    /// As it should be.
    Normal,
    /// Somebody should look.
    Warning,
}

/// Something that happened to an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Occurrence {
    /// Who says so, such as `deployment-controller`.
    pub(crate) component: &'static str,
    /// About what.
    pub(crate) object: Subject,
    /// How bad it is.
    pub(crate) severity: Severity,
    /// A word in CamelCase.
    pub(crate) reason: &'static str,
    /// A sentence.
    pub(crate) message: String,
}

/// The object that an occurrence is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Subject {
    api_version: &'static str,
    kind: &'static str,
    namespace: String,
    name: String,
    uid: String,
    resource_version: String,
}

impl Occurrence {
    /// An occurrence about `object`.
    pub(crate) fn new<K: Resource + Held>(
        component: &'static str,
        object: &K,
        severity: Severity,
        reason: &'static str,
        message: String,
    ) -> Self {
        let object = Subject {
            api_version: K::API_VERSION,
            kind: K::KIND,
            namespace: meta::namespace(object).to_owned(),
            name: meta::name(object).to_owned(),
            uid: meta::uid(object).to_owned(),
            resource_version: object.meta().resource_version.clone().unwrap_or_default(),
        };
        Self { component, object, severity, reason, message }
    }
}

/// Takes occurrences in; cheap to clone.
#[derive(Clone)]
pub(crate) struct Recorder {
    waiting: mpsc::Sender<Occurrence>,
}

impl Recorder {
    /// A recorder, and the end from which [`write_all`] takes.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Occurrence>) {
        let (waiting, taken) = mpsc::channel(WAITING);
        (Self { waiting }, taken)
    }

    /// Records an occurrence.
    pub(crate) fn record(&self, occurrence: Occurrence) {
        if let Err(error) = self.waiting.try_send(occurrence) {
            tracing::debug!(%error, "event dropped");
        }
    }
}

/// Writes occurrences until stopped.
pub(crate) async fn write_all(
    api: Arc<Api>,
    mut taken: mpsc::Receiver<Occurrence>,
    stop: CancellationToken,
) {
    let mut ledger = Ledger::default();
    loop {
        let occurrence = tokio::select! {
            () = stop.cancelled() => return,
            occurrence = taken.recv() => occurrence,
        };
        let Some(occurrence) = occurrence else { return };
        let Some(posting) = ledger.note(&occurrence, clock::now()) else { continue };
        let written = match &posting {
            Posting::First(event) => api.create_event(event).await,
            Posting::Again { event, .. } => match api.count_event(event).await {
                // The event expired; its successor starts to count anew.
                Err(error) if error.is_not_found() => api.create_event(event).await,
                other => other,
            },
        };
        if let Err(error) = written {
            // Usual when the namespace is going away.
            tracing::debug!(error = error.chain(), "event not written");
        }
    }
}

/// What is to be written for an occurrence.
#[derive(Debug, PartialEq)]
enum Posting {
    /// A new event.
    First(Box<Event>),
    /// The event as it is to stand now: a higher count, a later time.
    Again {
        /// The event.
        event: Box<Event>,
    },
}

/// What was written already: counts, and how much each object may still say (upstream:
/// `EventCorrelator`).
#[derive(Default)]
struct Ledger {
    known: HashMap<Fingerprint, Event>,
    similar: HashMap<Group, Similar>,
    allowance: HashMap<(&'static str, String, String), (f64, Timestamp)>,
    /// The number in the last event's name: its time in nanoseconds, never the same twice.
    last: i128,
}

/// What makes two occurrences similar; the object's resource version does not matter.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Group {
    component: &'static str,
    uid: String,
    name: String,
    severity: Severity,
    reason: &'static str,
}

/// What makes them the same event: the message, too, unless there are many.
#[derive(PartialEq, Eq, Hash)]
struct Fingerprint {
    group: Group,
    message: Option<String>,
}

/// Occurrences of one group, not long ago.
struct Similar {
    messages: HashSet<String>,
    last: Timestamp,
}

impl Ledger {
    fn note(&mut self, occurrence: &Occurrence, now: Timestamp) -> Option<Posting> {
        let posting = self.count(occurrence, now);
        self.allowed(occurrence, now).then_some(posting)
    }

    fn count(&mut self, occurrence: &Occurrence, now: Timestamp) -> Posting {
        // Forgetting all at once costs a few counts, and needs no order of ages.
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        let group = Group {
            component: occurrence.component,
            uid: occurrence.object.uid.clone(),
            name: occurrence.object.name.clone(),
            severity: occurrence.severity,
            reason: occurrence.reason,
        };
        let combined = self.is_one_of_many(&group, &occurrence.message, now);
        let own = (!combined).then(|| occurrence.message.clone());
        let fingerprint = Fingerprint { group, message: own };
        let message = if combined {
            format!("(combined from similar events): {}", occurrence.message)
        } else {
            occurrence.message.clone()
        };
        if let Some(event) = self.known.get_mut(&fingerprint) {
            event.count = Some(event.count.unwrap_or(1) + 1);
            event.last_timestamp = Some(meta::seconds(now));
            event.message = Some(message);
            return Posting::Again { event: Box::new(event.clone()) };
        }
        self.last = now.as_nanosecond().max(self.last + 1);
        let mut event = event(occurrence, now, self.last);
        event.message = Some(message);
        self.known.insert(fingerprint, event.clone());
        Posting::First(Box::new(event))
    }

    fn is_one_of_many(&mut self, group: &Group, message: &str, now: Timestamp) -> bool {
        if self.similar.len() >= REMEMBERED {
            self.similar.clear();
        }
        let none = || Similar { messages: HashSet::new(), last: now };
        let similar = self.similar.entry(group.clone()).or_insert_with(none);
        if now.duration_since(similar.last) > MEMORY {
            similar.messages.clear();
        }
        similar.last = now;
        similar.messages.insert(message.to_owned());
        if similar.messages.len() < SIMILAR {
            return false;
        }
        // Nobody needs more of them to know that they are many.
        similar.messages.remove(message);
        true
    }

    /// A bucket of [`BURST`] tokens per source and object, refilled by one each [`REFILL`].
    fn allowed(&mut self, occurrence: &Occurrence, now: Timestamp) -> bool {
        if self.allowance.len() >= REMEMBERED {
            self.allowance.clear();
        }
        let Subject { uid, name, .. } = &occurrence.object;
        let key = (occurrence.component, uid.clone(), name.clone());
        let (tokens, since) = self.allowance.entry(key).or_insert((BURST, now));
        let elapsed = now.duration_since(*since).as_secs_f64().max(0.0);
        *tokens = (*tokens + elapsed / REFILL.as_secs_f64()).min(BURST);
        *since = now;
        if *tokens < 1.0 {
            return false;
        }
        *tokens -= 1.0;
        true
    }
}

fn event(occurrence: &Occurrence, now: Timestamp, number: i128) -> Event {
    let object = &occurrence.object;
    // Events about cluster-scoped objects live in the default namespace.
    let namespace = if object.namespace.is_empty() { "default" } else { object.namespace.as_str() };
    let at: Time = meta::seconds(now);
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{number:x}", object.name)),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some(object.api_version.to_owned()),
            kind: Some(object.kind.to_owned()),
            name: Some(object.name.clone()),
            namespace: some_unless_empty(&object.namespace),
            uid: some_unless_empty(&object.uid),
            resource_version: some_unless_empty(&object.resource_version),
            field_path: None,
        },
        reason: Some(occurrence.reason.to_owned()),
        message: Some(occurrence.message.clone()),
        type_: Some(
            match occurrence.severity {
                Severity::Normal => "Normal",
                Severity::Warning => "Warning",
            }
            .to_owned(),
        ),
        source: Some(EventSource { component: Some(occurrence.component.to_owned()), host: None }),
        reporting_component: Some(occurrence.component.to_owned()),
        reporting_instance: Some(String::new()),
        first_timestamp: Some(at.clone()),
        last_timestamp: Some(at),
        count: Some(1),
        ..Event::default()
    }
}

fn some_unless_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    fn occurrence(message: &str) -> Occurrence {
        let mut pod = Pod::default();
        pod.metadata.name = Some("web".to_owned());
        pod.metadata.namespace = Some("shop".to_owned());
        pod.metadata.uid = Some("u1".to_owned());
        Occurrence::new("tester", &pod, Severity::Normal, "Tried", message.to_owned())
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_same_occurrence_again_raises_the_count() {
        let mut ledger = Ledger::default();
        let Some(Posting::First(first)) = ledger.note(&occurrence("one"), at(10)) else {
            panic!("the first occurrence makes an event")
        };
        let Some(Posting::Again { event }) = ledger.note(&occurrence("one"), at(20)) else {
            panic!("the second occurrence changes it")
        };
        assert_eq!(event.metadata.name, first.metadata.name);
        assert_eq!(event.count, Some(2));
        assert_eq!(event.first_timestamp, first.first_timestamp);
        assert_eq!(event.last_timestamp, Some(Time(at(20))));
        assert!(matches!(ledger.note(&occurrence("two"), at(20)), Some(Posting::First(_))));
    }

    #[test]
    fn from_the_tenth_that_differs_in_its_message_alone_they_share_an_event() {
        let mut ledger = Ledger::default();
        for n in 1..10 {
            let posting = ledger.note(&occurrence(&n.to_string()), at(n));
            assert!(matches!(posting, Some(Posting::First(_))), "{n}: {posting:?}");
        }
        let Some(Posting::First(combined)) = ledger.note(&occurrence("ten"), at(10)) else {
            panic!("the tenth begins the common event")
        };
        assert_eq!(combined.message.as_deref(), Some("(combined from similar events): ten"));
        let Some(Posting::Again { event }) = ledger.note(&occurrence("eleven"), at(11)) else {
            panic!("the eleventh joins it")
        };
        assert_eq!(event.metadata.name, combined.metadata.name);
        assert_eq!(event.message.as_deref(), Some("(combined from similar events): eleven"));
        assert_eq!(event.count, Some(2));
        let Some(Posting::First(anew)) = ledger.note(&occurrence("twelve"), at(11 + 601)) else {
            panic!("after ten quiet minutes they are few again")
        };
        assert_eq!(anew.message.as_deref(), Some("twelve"));
    }

    #[test]
    fn one_object_may_say_25_things_at_once_and_one_more_every_five_minutes() {
        let mut ledger = Ledger::default();
        let said = (0..40).filter(|n| ledger.note(&occurrence(&n.to_string()), at(0)).is_some());
        assert_eq!(said.count(), 25);
        assert!(ledger.note(&occurrence("later"), at(299)).is_none());
        assert!(ledger.note(&occurrence("later"), at(301)).is_some());
    }

    #[test]
    fn an_event_about_a_cluster_scoped_object_lives_in_default() {
        let node = k8s_openapi::api::core::v1::Node::default();
        let occurrence =
            Occurrence::new("tester", &node, Severity::Warning, "Tried", String::new());
        let event = event(&occurrence, at(0), 1);
        assert_eq!(event.metadata.namespace.as_deref(), Some("default"));
        assert_eq!(event.involved_object.namespace, None);
        assert_eq!(event.type_.as_deref(), Some("Warning"));
    }
}
