//! Since when a Service's endpoints should be as they are: what the annotation
//! `endpoints.kubernetes.io/last-change-trigger-time` tells (upstream: `TriggerTimeTracker`).
//!
//! Input: a Service and its pods at each look. Output: the time of the oldest change since the
//! look before. Whoever programs the endpoints takes the difference to now as its latency.
//! Invariant: asked once per look, also when nothing will be written.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::cache::Key;
use crate::meta;
use crate::pod;

/// The annotation.
pub(crate) const LAST_CHANGE: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// What the last look at each Service saw.
#[derive(Default)]
pub(crate) struct Triggers {
    seen: Mutex<HashMap<Key, Seen>>,
}

/// When the Service was made and when each pod's readiness last changed.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    service: Option<Timestamp>,
    pods: HashMap<String, Timestamp>,
}

impl Triggers {
    /// Notes this look; answers with what triggered it, if that is known.
    pub(crate) fn note(&self, service: &Service, pods: &[Arc<Pod>]) -> Option<Timestamp> {
        let now = Seen::of(service, pods);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.insert(meta::key(service), now.clone());
        trigger(before.as_ref(), &now)
    }

    /// The Service is gone.
    pub(crate) fn forget(&self, key: &Key) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

impl Seen {
    fn of(service: &Service, pods: &[Arc<Pod>]) -> Self {
        let changed = |pod: &Arc<Pod>| {
            let Time(at) = pod::condition(pod, "Ready")?.last_transition_time.as_ref()?;
            Some((meta::name(&**pod).to_owned(), *at))
        };
        let service = service.metadata.creation_timestamp.as_ref().map(|Time(at)| *at);
        Self { service, pods: pods.iter().filter_map(changed).collect() }
    }
}

/// The oldest change between two looks; for a new Service its own making.
fn trigger(before: Option<&Seen>, now: &Seen) -> Option<Timestamp> {
    let Some(before) = before else { return now.service };
    let pods = now.pods.iter().filter(|(name, at)| before.pods.get(*name) < Some(*at));
    let service = now.service.filter(|_| now.service > before.service);
    pods.map(|(_, at)| *at).chain(service).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn seen(service: i64, pods: &[(&str, i64)]) -> Seen {
        let pods = pods.iter().map(|(name, second)| ((*name).to_owned(), at(*second)));
        Seen { service: Some(at(service)), pods: pods.collect() }
    }

    #[test]
    fn the_oldest_change_since_the_last_look_counts() {
        let before = seen(10, &[("a", 20), ("b", 20)]);
        let cases = [
            ("a new service", None, seen(10, &[("a", 20)]), Some(10)),
            ("nothing changed", Some(&before), before.clone(), None),
            ("one pod changed", Some(&before), seen(10, &[("a", 30), ("b", 20)]), Some(30)),
            ("two pods changed", Some(&before), seen(10, &[("a", 40), ("b", 35)]), Some(35)),
            ("a pod more", Some(&before), seen(10, &[("a", 20), ("b", 20), ("c", 15)]), Some(15)),
            ("a pod less", Some(&before), seen(10, &[("a", 20)]), None),
            ("made anew", Some(&before), seen(50, &[("a", 20), ("b", 20)]), Some(50)),
        ];
        for (what, before, now, wanted) in cases {
            assert_eq!(trigger(before, &now), wanted.map(at), "{what}");
        }
    }
}
