//! Objects and lists in the representation a client asked for: themselves, a Table, or metadata.
//!
//! Inputs are serialised objects; outputs are response bodies. The plain form never re-serialises
//! an object: a list is its items' bytes joined. Pure (`now` is an argument).

use bytes::Bytes;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use resources::strategy::{Cell, Column};
use resources::table::Resource;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::http::accept::Representation;
use crate::status::ApiError;
use crate::stored::Head;

/// What a Table's rows carry of their objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Include {
    Nothing,
    Metadata,
    Object,
}

impl Include {
    /// Reads the `includeObject` parameter.
    pub(crate) fn parse(text: Option<&str>) -> Result<Self, ApiError> {
        match text {
            None | Some("Metadata") => Ok(Self::Metadata),
            Some("Object") => Ok(Self::Object),
            Some("None") => Ok(Self::Nothing),
            Some(other) => {
                Err(ApiError::BadRequest(format!("unrecognized includeObject value: {other:?}")))
            }
        }
    }
}

/// How to present.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub(crate) representation: Representation,
    pub(crate) include: Include,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Table<'a> {
    kind: &'static str,
    api_version: String,
    metadata: &'a ListMeta,
    column_definitions: Vec<Definition>,
    rows: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Definition {
    name: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    format: &'static str,
    description: &'static str,
    priority: i32,
}

impl From<&Column> for Definition {
    fn from(column: &Column) -> Self {
        Self {
            name: column.name,
            kind: column.kind,
            format: column.format,
            description: "",
            priority: column.priority,
        }
    }
}

#[derive(Serialize)]
struct Row<'a> {
    cells: Vec<Cell>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<RowObject<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum RowObject<'a> {
    Whole(&'a RawValue),
    Partial(Partial<'a>),
}

/// A `PartialObjectMetadata`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Partial<'a> {
    kind: &'static str,
    api_version: String,
    metadata: &'a RawValue,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'a, I> {
    kind: String,
    api_version: String,
    metadata: &'a ListMeta,
    items: Vec<I>,
}

/// One object.
pub(crate) fn object(
    resource: &Resource,
    json: &Bytes,
    view: View,
    now: Timestamp,
) -> Result<Bytes, ApiError> {
    match view.representation {
        Representation::Object => Ok(json.clone()),
        Representation::Metadata(version) => encode(&partial(json, version)?),
        Representation::Table(version) => {
            let metadata =
                ListMeta { resource_version: resource_version(json), ..ListMeta::default() };
            let include = view.include;
            table(resource, std::slice::from_ref(json), &metadata, version, include, true, now)
        }
    }
}

/// A list.
pub(crate) fn list(
    resource: &Resource,
    items: &[Bytes],
    metadata: &ListMeta,
    view: View,
    now: Timestamp,
) -> Result<Bytes, ApiError> {
    match view.representation {
        Representation::Object => encode(&List {
            kind: format!("{}List", resource.kind),
            api_version: resource.api_version(),
            metadata,
            items: items.iter().map(|json| raw(json)).collect::<Result<Vec<_>, _>>()?,
        }),
        Representation::Metadata(version) => encode(&List {
            kind: "PartialObjectMetadataList".to_owned(),
            api_version: format!("meta.k8s.io/{version}"),
            metadata,
            items: items
                .iter()
                .map(|json| partial(json, version))
                .collect::<Result<Vec<_>, _>>()?,
        }),
        Representation::Table(version) => {
            table(resource, items, metadata, version, view.include, true, now)
        }
    }
}

/// One object of a watch. Only the first Table of a stream names its columns.
pub(crate) fn event(
    resource: &Resource,
    json: &Bytes,
    view: View,
    first: bool,
    now: Timestamp,
) -> Result<Bytes, ApiError> {
    match view.representation {
        Representation::Table(version) => {
            let metadata =
                ListMeta { resource_version: resource_version(json), ..ListMeta::default() };
            let items = std::slice::from_ref(json);
            table(resource, items, &metadata, version, view.include, first, now)
        }
        Representation::Object | Representation::Metadata(_) => object(resource, json, view, now),
    }
}

/// The object of a bookmark: nothing but a revision, and the mark that ends a streamed list.
pub(crate) fn bookmark(
    resource: &Resource,
    revision: u64,
    initial_end: bool,
    view: View,
) -> Result<Bytes, ApiError> {
    let mut metadata = serde_json::json!({
        "resourceVersion": revision.to_string(), "creationTimestamp": null,
    });
    if initial_end {
        metadata["annotations"] = serde_json::json!({ "k8s.io/initial-events-end": "true" });
    }
    let (kind, api_version) = match view.representation {
        Representation::Object => (resource.kind, resource.api_version()),
        Representation::Metadata(v) => ("PartialObjectMetadata", format!("meta.k8s.io/{v}")),
        Representation::Table(v) => ("Table", format!("meta.k8s.io/{v}")),
    };
    let mut body =
        serde_json::json!({ "kind": kind, "apiVersion": api_version, "metadata": metadata });
    if let Representation::Table(_) = view.representation {
        body["columnDefinitions"] = serde_json::json!([]);
        body["rows"] = serde_json::json!([]);
    }
    encode(&body)
}

fn table(
    resource: &Resource,
    items: &[Bytes],
    metadata: &ListMeta,
    version: &str,
    include: Include,
    headers: bool,
    now: Timestamp,
) -> Result<Bytes, ApiError> {
    let columns = if headers { resource.strategy.columns() } else { &[] };
    let rows = items.iter().map(|json| row(resource, json, version, include, now));
    encode(&Table {
        kind: "Table",
        api_version: format!("meta.k8s.io/{version}"),
        metadata,
        column_definitions: columns.iter().map(Definition::from).collect(),
        rows: rows.collect::<Result<Vec<_>, _>>()?,
    })
}

fn row<'a>(
    resource: &Resource,
    json: &'a Bytes,
    version: &str,
    include: Include,
    now: Timestamp,
) -> Result<Row<'a>, ApiError> {
    let object = resource.strategy.decode(json).map_err(|e| unreadable(&e))?;
    Ok(Row {
        cells: resource.strategy.cells(object.as_ref(), now),
        object: match include {
            Include::Nothing => None,
            Include::Metadata => Some(RowObject::Partial(partial(json, version)?)),
            Include::Object => Some(RowObject::Whole(raw(json)?)),
        },
    })
}

fn partial<'a>(json: &'a Bytes, version: &str) -> Result<Partial<'a>, ApiError> {
    let head: Head<'a> = serde_json::from_slice(json).map_err(|e| unreadable(&e))?;
    Ok(Partial {
        kind: "PartialObjectMetadata",
        api_version: format!("meta.k8s.io/{version}"),
        metadata: head.metadata,
    })
}

fn raw(json: &Bytes) -> Result<&RawValue, ApiError> {
    serde_json::from_slice(json).map_err(|e| unreadable(&e))
}

fn resource_version(json: &Bytes) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Object {
        metadata: Versioned,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Versioned {
        resource_version: Option<String>,
    }
    serde_json::from_slice::<Object>(json).ok()?.metadata.resource_version
}

fn encode(value: &impl Serialize) -> Result<Bytes, ApiError> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|e| ApiError::Internal(format!("encode an answer: {e}")))
}

fn unreadable(error: &serde_json::Error) -> ApiError {
    ApiError::Internal(format!("a stored object is malformed: {error}"))
}

#[cfg(test)]
mod tests;
