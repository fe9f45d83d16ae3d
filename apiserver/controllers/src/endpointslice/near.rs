//! A Service that selects no pod although pods are there that nearly fit: the label's value is
//! theirs, its key is not. People look for such a slip for a long time, because nothing fails.
//!
//! Owns: what was told of which Service, so that it is told once. Inputs: a Service that selects
//! nobody, the pods of its namespace. Output: a sentence.
//! Deliberately not here: misspelt values, which might well be other applications.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{Pod, Service};

use crate::cache::Key;
use crate::pod;
use crate::selector::Labels;

/// See the module's text.
#[derive(Default)]
pub(super) struct Told {
    last: Mutex<HashMap<Key, String>>,
}

impl Told {
    /// The sentence, if it is news for this Service.
    pub(super) fn news(&self, key: &Key, sentence: Option<String>) -> Option<String> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sentence) = sentence else {
            last.remove(key);
            return None;
        };
        let before = last.insert(key.clone(), sentence.clone());
        (before.as_ref() != Some(&sentence)).then_some(sentence)
    }
}

/// What is to be said of a Service that selects none of these pods. How many they are is not said,
/// so that one pod more is no news.
pub(super) fn explain(service: &Service, pods: &[Arc<Pod>]) -> Option<String> {
    let selector = service.spec.as_ref()?.selector.as_ref()?;
    let active = pods.iter().filter(|pod| pod::is_active(pod));
    let labels = active.filter_map(|pod| pod.metadata.labels.as_ref());
    let (key, value, found) = labels.filter_map(|labels| slip(selector, labels)).min()?;
    let pods = format!("but there are pods with {found}={value}");
    Some(format!(
        "No pod is selected: the selector asks for {key}={value}, {pods}. Change the selector, or \
         the labels of the pods"
    ))
}

/// The pair of the selector that the labels lack, where it is the only one, and the key under which
/// they have its value.
fn slip<'a>(selector: &'a Labels, labels: &'a Labels) -> Option<(&'a str, &'a str, &'a str)> {
    let mut missing = selector.iter().filter(|(key, value)| labels.get(*key) != Some(value));
    // More than one wrong label is another application.
    let (Some((key, value)), None) = (missing.next(), missing.next()) else { return None };
    let mut similar = labels.iter().filter(|pair| pair.1 == value);
    let (found, _) = similar.find(|(key, _)| !selector.contains_key(*key))?;
    Some((key, value, found))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(selector: Value) -> Service {
        serde_json::from_value(json!({ "metadata": {}, "spec": { "selector": selector } })).unwrap()
    }

    fn pod(labels: Value) -> Arc<Pod> {
        Arc::new(serde_json::from_value(json!({ "metadata": { "labels": labels } })).unwrap())
    }

    #[test]
    fn a_value_under_another_key_is_named() {
        let wanted = service(json!({ "app": "http-go" }));
        let pods = [pod(json!({ "tier": "http-go" })), pod(json!({ "tier": "http-go" }))];
        let said = "No pod is selected: the selector asks for app=http-go, but there are pods \
                    with tier=http-go. Change the selector, or the labels of the pods";
        assert_eq!(explain(&wanted, &pods).as_deref(), Some(said));
        assert_eq!(explain(&wanted, &pods[..1]).as_deref(), Some(said));
    }

    #[test]
    fn what_is_another_application_is_not() {
        let wanted = service(json!({ "app": "web", "track": "stable" }));
        for labels in [
            json!({}),
            json!({ "app": "db", "track": "stable" }),
            json!({ "tier": "web", "track": "canary" }),
            json!({ "tier": "web", "level": "stable" }),
        ] {
            assert_eq!(explain(&wanted, &[pod(labels.clone())]), None, "{labels}");
        }
        let slip = pod(json!({ "tier": "web", "track": "stable" }));
        assert!(explain(&wanted, &[slip]).is_some());
    }

    #[test]
    fn it_is_told_once_and_again_after_it_was_right() {
        let (told, key) = (Told::default(), Key::new("shop", "web"));
        let say = |text: &str| Some(text.to_owned());
        assert_eq!(told.news(&key, say("a")), say("a"));
        assert_eq!(told.news(&key, say("a")), None);
        assert_eq!(told.news(&key, say("b")), say("b"));
        assert_eq!(told.news(&key, None), None);
        assert_eq!(told.news(&key, say("b")), say("b"));
    }
}
