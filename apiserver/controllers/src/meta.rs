//! Small questions about object metadata that every controller asks.
//!
//! Pure. Deliberately not here: label selectors (`selector`), pods (`pod`).

use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};

use crate::cache::Key;

/// Something with object metadata: every API object, and metadata alone.
pub(crate) trait Held {
    /// The metadata.
    fn meta(&self) -> &ObjectMeta;
    /// The metadata, to be changed.
    fn meta_mut(&mut self) -> &mut ObjectMeta;

    /// By what else than its name the object is to be found in its namespace (see `Cache`);
    /// most kinds are not.
    fn words(&self) -> Vec<String> {
        Vec::new()
    }
}

impl Held for Event {
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Held for ObjectMeta {
    fn meta(&self) -> &ObjectMeta {
        self
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self
    }
}

/// The object's name; empty only for an object that was never stored.
pub(crate) fn name<K: Held>(object: &K) -> &str {
    object.meta().name.as_deref().unwrap_or_default()
}

/// The object's namespace; empty for cluster-scoped kinds.
pub(crate) fn namespace<K: Held>(object: &K) -> &str {
    object.meta().namespace.as_deref().unwrap_or_default()
}

/// The object's UID.
pub(crate) fn uid<K: Held>(object: &K) -> &str {
    object.meta().uid.as_deref().unwrap_or_default()
}

/// Namespace and name.
pub(crate) fn key<K: Held>(object: &K) -> Key {
    Key::new(namespace(object), name(object))
}

/// Whether somebody asked for the object's deletion.
pub(crate) fn is_deleted<K: Held>(object: &K) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// A label's value.
pub(crate) fn label<'a, K: Held>(object: &'a K, key: &str) -> Option<&'a str> {
    object.meta().labels.as_ref()?.get(key).map(String::as_str)
}

/// An annotation's value.
pub(crate) fn annotation<'a, K: Held>(object: &'a K, key: &str) -> Option<&'a str> {
    object.meta().annotations.as_ref()?.get(key).map(String::as_str)
}

/// The owner that manages the object, if any (upstream: `metav1.GetControllerOf`).
pub(crate) fn controller_of(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// Whether `owner` manages the object.
pub(crate) fn is_controlled_by<O: Held>(metadata: &ObjectMeta, owner: &O) -> bool {
    controller_of(metadata).is_some_and(|reference| reference.uid == uid(owner))
}

/// The reference by which `owner` manages an object (upstream: `metav1.NewControllerRef`).
pub(crate) fn controller_reference<O: Resource + Held>(owner: &O) -> OwnerReference {
    OwnerReference {
        api_version: O::API_VERSION.to_owned(),
        kind: O::KIND.to_owned(),
        name: name(owner).to_owned(),
        uid: uid(owner).to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// When the object was made; objects that were never stored sort last.
pub(crate) fn created<K: Held>(object: &K) -> jiff::Timestamp {
    object.meta().creation_timestamp.as_ref().map_or(jiff::Timestamp::MAX, |Time(at)| *at)
}

/// Whether the object carries this finalizer.
pub(crate) fn has_finalizer(metadata: &ObjectMeta, finalizer: &str) -> bool {
    metadata.finalizers.iter().flatten().any(|held| held == finalizer)
}

/// A time as objects carry it: whole seconds, as `metav1.Time` is serialised.
pub(crate) fn seconds(now: jiff::Timestamp) -> Time {
    Time(jiff::Timestamp::from_second(now.as_second()).unwrap_or(now))
}
