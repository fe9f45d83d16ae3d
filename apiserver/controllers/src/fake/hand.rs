//! What a test does to the server by hand, and what it asks of it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::{FakeApi, Route, collection};
use crate::meta;
use crate::view::Kind;

impl FakeApi {
    /// Creates an object, as a user would.
    pub(crate) fn create<K: Kind>(&self, object: &K) -> K {
        let route = Route {
            collection: collection::<K>(),
            namespace: meta::namespace(object).to_owned(),
            name: String::new(),
            subresource: String::new(),
            query: BTreeMap::new(),
        };
        let value = serde_json::to_value(object).unwrap();
        let created = self.lock().create(&route, value).unwrap();
        serde_json::from_value(created).unwrap()
    }

    /// Changes an object, as a user or an agent would.
    pub(crate) fn change<K: Kind>(&self, namespace: &str, name: &str, change: impl FnOnce(&mut K)) {
        let place = (collection::<K>(), namespace.to_owned(), name.to_owned());
        let mut state = self.lock();
        let held = state.objects.get(&place).expect("the object is there").clone();
        let mut object: K = serde_json::from_value(held.clone()).unwrap();
        change(&mut object);
        let mut value = serde_json::to_value(&object).unwrap();
        if value["spec"] != held["spec"] {
            let generation = held["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
            value["metadata"]["generation"] = generation.into();
        }
        state.store(place, value, "MODIFIED");
    }

    /// Removes an object, as `kubectl delete` would; `policy` is `propagationPolicy`.
    pub(crate) fn delete<K: Kind>(&self, namespace: &str, name: &str, policy: &str) {
        let place = (collection::<K>(), namespace.to_owned(), name.to_owned());
        self.lock().delete(&place, &json!({ "propagationPolicy": policy })).unwrap();
    }

    /// Takes an object away at once, as an agent does with a pod that has ended.
    pub(crate) fn take<K: Kind>(&self, namespace: &str, name: &str) {
        let place = (collection::<K>(), namespace.to_owned(), name.to_owned());
        self.lock().remove(&place);
    }

    /// An object, if it is there.
    pub(crate) fn get<K: Kind>(&self, namespace: &str, name: &str) -> Option<K> {
        let place = (collection::<K>(), namespace.to_owned(), name.to_owned());
        let value = self.lock().objects.get(&place).cloned()?;
        Some(serde_json::from_value(value).unwrap())
    }

    /// All objects of a kind.
    pub(crate) fn all<K: Kind>(&self) -> Vec<K> {
        let wanted = collection::<K>();
        let state = self.lock();
        let objects = state.objects.iter().filter(|(place, _)| place.0 == wanted);
        objects.map(|(_, value)| serde_json::from_value(value.clone()).unwrap()).collect()
    }

    /// Every state of every object of a kind, in order; `true` where it went.
    pub(crate) fn history<K: Kind>(&self) -> Vec<(bool, K)> {
        let wanted = collection::<K>();
        let state = self.lock();
        let of_kind = state.history.iter().filter(|(_, place, ..)| place.0 == wanted);
        let read = |value: &Value| serde_json::from_value(value.clone()).unwrap();
        of_kind.map(|(_, _, kind, value)| (*kind == "DELETED", read(value))).collect()
    }

    /// `reason: message` of all events, oldest first.
    pub(crate) fn events(&self) -> Vec<String> {
        let state = self.lock();
        let added = state
            .history
            .iter()
            .filter(|(_, place, kind, _)| place.0 == "v1/events" && *kind == "ADDED");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        added.map(|(.., e)| format!("{}: {}", text(&e["reason"]), text(&e["message"]))).collect()
    }

    /// `METHOD path` of all writes so far.
    pub(crate) fn writes(&self) -> Vec<String> {
        self.lock().writes.clone()
    }

    /// Waits until the condition holds; panics with all objects after 15 minutes of the
    /// test's clock.
    pub(crate) async fn eventually(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let wait = async {
            let mut pause = Duration::from_millis(1);
            while !holds(self) {
                tokio::time::sleep(pause).await;
                pause = (pause + pause / 100).min(Duration::from_millis(200));
            }
        };
        if tokio::time::timeout(Duration::from_secs(900), wait).await.is_err() {
            let state = self.lock();
            let objects: Vec<String> =
                state.objects.iter().map(|(place, value)| format!("{place:?}: {value}")).collect();
            panic!("never: {what}\n{}", objects.join("\n"));
        }
    }
}
