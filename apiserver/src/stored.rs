//! Objects as the store keeps them: JSON with a gap into which the store stamps the revision.
//!
//! Invariant: what is stored is what is sent. A read hands out the stored bytes; only resources
//! that share another one's storage (events) are converted.

use std::borrow::Cow;
use std::sync::LazyLock;

use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use resources::object::Object;
use resources::table::Resource;
use store::{Entry, Op, Revision};

use crate::status::ApiError;

/// Stands where the revision will: random, so that no client can write it.
static PLACEHOLDER: LazyLock<String> = LazyLock::new(|| uuid::Uuid::new_v4().to_string());

/// A serialised object without its `resourceVersion`, and where that belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Encoded {
    bytes: Bytes,
    stamp: usize,
}

impl Encoded {
    /// Serialises an object; its present `resourceVersion` does not matter.
    pub(crate) fn of(resource: &Resource, object: &mut dyn Object) -> Result<Self, ApiError> {
        let before = object.metadata_mut().resource_version.replace(PLACEHOLDER.clone());
        let json = object.to_json();
        object.metadata_mut().resource_version = before;
        let mut json = match &resource.shared {
            Some(shared) => (shared.to_stored)(&json).map_err(|e| malformed(resource, &e))?,
            None => json,
        };
        let stamp = find(&json, PLACEHOLDER.as_bytes())
            .ok_or_else(|| ApiError::Internal("an object without metadata".into()))?;
        json.drain(stamp..stamp + PLACEHOLDER.len());
        Ok(Self { bytes: json.into(), stamp })
    }

    /// The bytes as they are stored at a revision.
    pub(crate) fn at(&self, revision: Revision) -> Bytes {
        let (head, tail) = self.bytes.split_at(self.stamp);
        [head, revision.0.to_string().as_bytes(), tail].concat().into()
    }

    /// The write that stores it.
    pub(crate) fn put(&self, key: String) -> Op {
        Op::Put { key, value: self.bytes.clone(), stamp: Some(self.stamp) }
    }

    /// The removal that shows it to watchers as the final state.
    pub(crate) fn delete(&self, key: String) -> Op {
        Op::Delete { key, last: Some((self.bytes.clone(), Some(self.stamp))) }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// The JSON of a stored value as clients of this resource see it.
pub(crate) fn json(resource: &Resource, value: &Bytes) -> Result<Bytes, ApiError> {
    match &resource.shared {
        Some(shared) => {
            (shared.from_stored)(value).map(Bytes::from).map_err(|e| malformed(resource, &e))
        }
        None => Ok(value.clone()),
    }
}

fn malformed(resource: &Resource, error: &serde_json::Error) -> ApiError {
    ApiError::Internal(format!("a stored object of {} is malformed: {error}", resource.qualified()))
}

/// A stored object, decoded.
pub(crate) struct Current {
    pub(crate) object: Box<dyn Object>,
    pub(crate) json: Bytes,
    pub(crate) revision: Revision,
}

impl Current {
    pub(crate) fn read(resource: &Resource, entry: &Entry) -> Result<Self, ApiError> {
        let json = json(resource, &entry.value)?;
        let object = resource.strategy.decode(&json).map_err(|e| malformed(resource, &e))?;
        Ok(Self { object, json, revision: entry.modified })
    }

    pub(crate) fn metadata(&self) -> &ObjectMeta {
        self.object.metadata()
    }
}

/// Only what selectors by label and partial answers need, borrowed from the bytes.
#[derive(serde::Deserialize)]
pub(crate) struct Head<'a> {
    #[serde(borrow)]
    pub(crate) metadata: &'a serde_json::value::RawValue,
}

/// The labels of an object.
#[derive(serde::Deserialize)]
struct Labelled<'a> {
    #[serde(borrow)]
    metadata: Labels<'a>,
}

#[derive(serde::Deserialize)]
struct Labels<'a> {
    #[serde(borrow, default)]
    labels: std::collections::BTreeMap<Cow<'a, str>, Cow<'a, str>>,
}

/// The labels of a serialised object, without decoding the rest of it.
pub(crate) fn labels(json: &[u8]) -> std::collections::BTreeMap<Cow<'_, str>, Cow<'_, str>> {
    serde_json::from_slice::<Labelled<'_>>(json).map(|l| l.metadata.labels).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use resources::table;

    #[test]
    fn the_revision_lands_in_the_metadata_and_nowhere_else() {
        let resource = table::by_path("", "v1", "configmaps").unwrap();
        let json = br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","annotations":{"resourceVersion":""}},"data":{"resourceVersion":""}}"#;
        let mut object = resource.strategy.decode(json).unwrap();
        let encoded = Encoded::of(resource, object.as_mut()).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&encoded.at(Revision(42))).unwrap();
        assert_eq!(value["metadata"]["resourceVersion"], "42");
        assert_eq!(value["metadata"]["annotations"]["resourceVersion"], "");
        assert_eq!(value["data"]["resourceVersion"], "");
        assert_eq!(object.metadata().resource_version, None);
    }

    #[test]
    fn labels_are_read_without_the_rest() {
        let found = labels(br#"{"spec":{"x":[1]},"metadata":{"name":"a","labels":{"k":"v"}}}"#);
        assert_eq!(found.get("k").map(|v| &**v), Some("v"));
        assert!(labels(br#"{"metadata":{}}"#).is_empty());
    }
}
