//! What a plan may ask for: one write to the API, as a value.
//!
//! Pure data, so that plans can be printed, compared and counted in tests.
//! Deliberately not here: the execution (`api`).

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use crate::cache::Key;
use crate::controllers::ResourceId;
use crate::event::Occurrence;
use crate::meta;
use crate::view::{Kind, Object};

/// One object, named for a write.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    /// The resource.
    pub(crate) resource: ResourceId,
    /// Namespace and name.
    pub(crate) key: Key,
    /// The UID that the object must have; a namesake is left alone.
    pub(crate) uid: String,
}

impl Target {
    /// Names an object of the view.
    pub(crate) fn of<K: Kind>(object: &K) -> Self {
        Self { resource: K::resource(), key: meta::key(object), uid: meta::uid(object).to_owned() }
    }

    /// Names an object by its metadata.
    pub(crate) fn new(resource: ResourceId, metadata: &ObjectMeta) -> Self {
        Self {
            resource,
            key: Key::new(
                metadata.namespace.clone().unwrap_or_default(),
                metadata.name.clone().unwrap_or_default(),
            ),
            uid: metadata.uid.clone().unwrap_or_default(),
        }
    }
}

/// How the dependents of a removed object fare (`DeleteOptions.propagationPolicy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Propagation {
    /// The server's default for the kind and the object's finalizers.
    Default,
    /// Dependents are removed after it.
    Background,
    /// Dependents are removed before it.
    Foreground,
    /// Dependents stay.
    Orphan,
}

/// How a patch is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchKind {
    /// RFC 7386.
    Merge,
    /// Lists are merged by their keys.
    Strategic,
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Write {
    /// Creates the object.
    Create(Object),
    /// Replaces the object, if it still has the resource version that this one carries.
    Update(Object),
    /// The same on `/status`.
    UpdateStatus(Object),
    /// Removes the object.
    Delete {
        /// Which one.
        target: Target,
        /// Seconds of grace; `None` is the kind's default.
        grace: Option<i64>,
        /// What becomes of its dependents.
        propagation: Propagation,
    },
    /// Changes a part of the object.
    Patch {
        /// Which one.
        target: Target,
        /// The subresource, if not the object itself.
        subresource: Option<&'static str>,
        /// How `body` is meant.
        kind: PatchKind,
        /// The change.
        body: Value,
    },
    /// Binds a pod to a node.
    Bind {
        /// The pod.
        pod: Target,
        /// The node's name.
        node: String,
    },
    /// Writes a namespace's finalizers (`/finalize`).
    Finalize(Box<Namespace>),
    /// Tells people what happened; never fails.
    Event(Occurrence),
}

impl Write {
    /// Removes an object as its kind is usually removed.
    pub(crate) fn delete<K: Kind>(object: &K) -> Self {
        Self::Delete { target: Target::of(object), grace: None, propagation: Propagation::Default }
    }

    /// Creates an object.
    pub(crate) fn create(object: impl Into<Object>) -> Self {
        Self::Create(object.into())
    }

    /// Replaces an object.
    pub(crate) fn update(object: impl Into<Object>) -> Self {
        Self::Update(object.into())
    }

    /// Replaces an object's status.
    pub(crate) fn update_status(object: impl Into<Object>) -> Self {
        Self::UpdateStatus(object.into())
    }
}

/// What a controller wants for one key.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// In this order; the first failure ends the execution and the key is looked at again.
    pub(crate) writes: Vec<Write>,
    /// When to look again although nothing changed.
    pub(crate) recheck: Option<std::time::Duration>,
}

impl Plan {
    /// A plan of writes alone.
    pub(crate) fn of(writes: Vec<Write>) -> Self {
        Self { writes, recheck: None }
    }
}
