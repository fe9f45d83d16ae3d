//! What differs between kinds, as pure functions over typed objects (upstream: `pkg/registry/*/strategy.go`).
//!
//! A kind implements [`Strategy`]; the pipeline sees [`ErasedStrategy`], which every strategy is.
//! Order of calls on create: `decode`, `default`, `prepare_create`, `validate`, `validate_create`,
//! `warnings`;
//! on update: `decode`, `default`, `prepare_update`, `validate`, `validate_update`, `warnings`;
//! through `/status`: `decode`, `prepare_status_update`, `validate_status_update`.
//! The pipeline allocates addresses and ports between `prepare_*` and `validate`.

use std::fmt::Debug;

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use crate::columns::{Cell, Column};
use crate::field::FieldErrors;
use crate::object::Object;

/// The behaviour of one kind. Every function is pure.
pub trait Strategy: Send + Sync + 'static {
    /// The kind.
    type Object: Resource
        + Metadata<Ty = ObjectMeta>
        + Serialize
        + DeserializeOwned
        + Clone
        + Debug
        + Send
        + Sync
        + 'static;

    /// Fills in what upstream's defaulting fills in.
    fn default(&self, _object: &mut Self::Object) {}
    /// Clears what a client may not set (status) and sets what the server owns (generation).
    fn prepare_create(&self, _object: &mut Self::Object) {}
    /// Keeps what a client may not change on the main resource (status) and bumps `generation`.
    fn prepare_update(&self, _new: &mut Self::Object, _old: &Self::Object) {}
    /// For `/status`: keeps everything of `old` but the status (and what upstream lets through).
    fn prepare_status_update(&self, _new: &mut Self::Object, _old: &Self::Object) {}
    /// All problems of a new object, besides those of its metadata.
    fn validate(&self, _object: &Self::Object) -> FieldErrors {
        Vec::new()
    }
    /// Problems that matter only while the object is new: an old one may have them.
    fn validate_create(&self, _object: &Self::Object) -> FieldErrors {
        Vec::new()
    }
    /// Problems of the change itself (immutable fields).
    fn validate_update(&self, _new: &Self::Object, _old: &Self::Object) -> FieldErrors {
        Vec::new()
    }
    /// Problems of a change through `/status`; replaces `validate` and `validate_update` there.
    fn validate_status_update(&self, _new: &Self::Object, _old: &Self::Object) -> FieldErrors {
        Vec::new()
    }
    /// Texts for `Warning:` headers.
    fn warnings(&self, _object: &Self::Object) -> Vec<String> {
        Vec::new()
    }
    /// Selectable fields besides `metadata.name` and `metadata.namespace`.
    fn fields(&self, _object: &Self::Object) -> Vec<(&'static str, String)> {
        Vec::new()
    }
    /// Seconds a delete waits for somebody to finish the object; 0 removes it at once.
    fn grace_period(&self, _object: &Self::Object, _requested: Option<i64>) -> i64 {
        0
    }
    /// The columns of a Table.
    fn columns(&self) -> &'static [Column];
    /// The cells of one row, as many as there are columns.
    fn cells(&self, object: &Self::Object, now: Timestamp) -> Vec<Cell>;
    /// The `/scale` view; `None` for kinds without one.
    fn scale(&self, _object: &Self::Object) -> Option<Scale> {
        None
    }
    /// Applies a `/scale` write.
    fn set_replicas(&self, _object: &mut Self::Object, _replicas: i32) {}
}

/// [`Strategy`] with its type erased: what the pipeline calls. An object handed to the wrong
/// strategy is a bug of the resource table and answers with [`WrongType`].
pub trait ErasedStrategy: Send + Sync {
    /// Reads JSON; unknown fields are ignored here (strictness: crate `wire`).
    ///
    /// # Errors
    /// The text of serde, with line and column.
    fn decode(&self, json: &[u8]) -> Result<Box<dyn Object>, serde_json::Error>;
    /// See [`Strategy::default`].
    fn default(&self, object: &mut dyn Object);
    /// See [`Strategy::prepare_create`].
    fn prepare_create(&self, object: &mut dyn Object);
    /// See [`Strategy::prepare_update`].
    fn prepare_update(&self, new: &mut dyn Object, old: &dyn Object);
    /// See [`Strategy::prepare_status_update`].
    fn prepare_status_update(&self, new: &mut dyn Object, old: &dyn Object);
    /// See [`Strategy::validate`].
    fn validate(&self, object: &dyn Object) -> FieldErrors;
    /// See [`Strategy::validate_create`].
    fn validate_create(&self, object: &dyn Object) -> FieldErrors;
    /// See [`Strategy::validate_update`].
    fn validate_update(&self, new: &dyn Object, old: &dyn Object) -> FieldErrors;
    /// See [`Strategy::validate_status_update`].
    fn validate_status_update(&self, new: &dyn Object, old: &dyn Object) -> FieldErrors;
    /// See [`Strategy::warnings`].
    fn warnings(&self, object: &dyn Object) -> Vec<String>;
    /// See [`Strategy::fields`].
    fn fields(&self, object: &dyn Object) -> Vec<(&'static str, String)>;
    /// See [`Strategy::grace_period`].
    fn grace_period(&self, object: &dyn Object, requested: Option<i64>) -> i64;
    /// See [`Strategy::columns`].
    fn columns(&self) -> &'static [Column];
    /// See [`Strategy::cells`].
    fn cells(&self, object: &dyn Object, now: Timestamp) -> Vec<Cell>;
    /// See [`Strategy::scale`].
    fn scale(&self, object: &dyn Object) -> Option<Scale>;
    /// See [`Strategy::set_replicas`].
    fn set_replicas(&self, object: &mut dyn Object, replicas: i32);
}

fn typed<K: 'static>(object: &dyn Object) -> &K {
    object.as_any().downcast_ref().expect("the resource table pairs each kind with its strategy")
}

fn typed_mut<K: 'static>(object: &mut dyn Object) -> &mut K {
    object
        .as_any_mut()
        .downcast_mut()
        .expect("the resource table pairs each kind with its strategy")
}

/// A client never sets `generation`: it starts from the stored one and only a strategy moves it
/// (upstream: `rest.BeforeUpdate`).
fn keep_generation(new: &mut dyn Object, old: &dyn Object) {
    new.metadata_mut().generation = old.metadata().generation;
}

impl<S: Strategy> ErasedStrategy for S {
    fn decode(&self, json: &[u8]) -> Result<Box<dyn Object>, serde_json::Error> {
        Ok(Box::new(serde_json::from_slice::<S::Object>(json)?))
    }
    fn default(&self, object: &mut dyn Object) {
        Strategy::default(self, typed_mut(object));
    }
    fn prepare_create(&self, object: &mut dyn Object) {
        Strategy::prepare_create(self, typed_mut(object));
    }
    fn prepare_update(&self, new: &mut dyn Object, old: &dyn Object) {
        keep_generation(new, old);
        Strategy::prepare_update(self, typed_mut(new), typed(old));
    }
    fn prepare_status_update(&self, new: &mut dyn Object, old: &dyn Object) {
        keep_generation(new, old);
        Strategy::prepare_status_update(self, typed_mut(new), typed(old));
    }
    fn validate(&self, object: &dyn Object) -> FieldErrors {
        Strategy::validate(self, typed(object))
    }
    fn validate_create(&self, object: &dyn Object) -> FieldErrors {
        Strategy::validate_create(self, typed(object))
    }
    fn validate_update(&self, new: &dyn Object, old: &dyn Object) -> FieldErrors {
        Strategy::validate_update(self, typed(new), typed(old))
    }
    fn validate_status_update(&self, new: &dyn Object, old: &dyn Object) -> FieldErrors {
        Strategy::validate_status_update(self, typed(new), typed(old))
    }
    fn warnings(&self, object: &dyn Object) -> Vec<String> {
        Strategy::warnings(self, typed(object))
    }
    fn fields(&self, object: &dyn Object) -> Vec<(&'static str, String)> {
        Strategy::fields(self, typed(object))
    }
    fn grace_period(&self, object: &dyn Object, requested: Option<i64>) -> i64 {
        Strategy::grace_period(self, typed(object), requested)
    }
    fn columns(&self) -> &'static [Column] {
        Strategy::columns(self)
    }
    fn cells(&self, object: &dyn Object, now: Timestamp) -> Vec<Cell> {
        Strategy::cells(self, typed(object), now)
    }
    fn scale(&self, object: &dyn Object) -> Option<Scale> {
        Strategy::scale(self, typed(object))
    }
    fn set_replicas(&self, object: &mut dyn Object, replicas: i32) {
        Strategy::set_replicas(self, typed_mut(object), replicas);
    }
}
