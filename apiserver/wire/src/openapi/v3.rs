//! OpenAPI v3: an index, and one document per group and version.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value, json};

use super::definitions::{Definitions, V3_REFERENCE};
use super::operations::{Operation, Path, paths, prefix, roots};
use super::{Document, ResourceDoc, VERSION};

const JSON: &str = "application/json";

/// The last index and what it was written for: every `kubectl apply` asks for it, and writing it
/// means writing all documents.
static INDEX: Mutex<Option<(Vec<ResourceDoc>, Document)>> = Mutex::new(None);

/// `/openapi/v3`: where the documents are. Each is addressed with its digest, so that clients may
/// keep it for ever. The index of the resources asked for last is remembered.
#[must_use]
pub fn v3_index(resources: &[ResourceDoc]) -> Document {
    let mut known = INDEX.lock().unwrap_or_else(PoisonError::into_inner);
    match &*known {
        Some((of, index)) if of == resources => index.clone(),
        _ => {
            let index = index(resources);
            *known = Some((resources.to_vec(), index.clone()));
            index
        }
    }
}

fn index(resources: &[ResourceDoc]) -> Document {
    let versions: BTreeSet<_> = resources.iter().map(|r| (r.group, r.version)).collect();
    let definitions = Definitions::unpack();
    let mut documents = Map::new();
    for (group, version) in versions {
        let Some(document) = document(&definitions, resources, group, version) else { continue };
        let place = prefix(group, version);
        let url = format!("/openapi/v3/{place}?hash={}", document.etag);
        documents.insert(place, json!({"serverRelativeURL": url}));
    }
    Document::new(JSON, json!({"paths": documents}).to_string().into_bytes())
}

/// The document of a group (empty for the core group) and version; `None` if nothing of it is
/// served.
#[must_use]
pub fn v3_document(resources: &[ResourceDoc], group: &str, version: &str) -> Option<Document> {
    document(&Definitions::unpack(), resources, group, version)
}

fn document(
    definitions: &Definitions,
    resources: &[ResourceDoc],
    group: &str,
    version: &str,
) -> Option<Document> {
    let of_version = |r: &&ResourceDoc| r.group == group && r.version == version;
    let paths: Vec<Path> = resources.iter().filter(of_version).flat_map(paths).collect();
    if paths.is_empty() {
        return None;
    }
    let items: Map<String, Value> =
        paths.iter().map(|path| (path.path.clone(), path_item(path))).collect();
    let mut text = format!(
        r#"{{"openapi":"3.0.0","info":{{"title":"Kubernetes","version":"{VERSION}"}},"paths":{},"components":{{"schemas":{{"#,
        Value::Object(items)
    );
    for (i, (name, schema)) in definitions.reachable(roots(&paths)).into_iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        text.extend([comma, "\"", name, "\":", schema]);
    }
    text.push_str("}}}");
    Some(Document::new(JSON, text.into_bytes()))
}

fn path_item(path: &Path) -> Value {
    let mut item = Map::new();
    for operation in &path.operations {
        item.insert(operation.method.to_owned(), self::operation(operation));
    }
    let parameters: Vec<Value> = path
        .parameters()
        .map(|name| {
            json!({"name": name, "in": "path", "required": true,
                   "schema": {"type": "string", "uniqueItems": true}})
        })
        .collect();
    if !parameters.is_empty() {
        item.insert("parameters".to_owned(), Value::Array(parameters));
    }
    Value::Object(item)
}

fn operation(operation: &Operation) -> Value {
    let (group, version, kind) = operation.gvk;
    let query: Vec<Value> = operation
        .query
        .iter()
        .map(|(name, of, description)| {
            json!({"name": name, "in": "query", "description": description,
                   "schema": {"type": of, "uniqueItems": true}})
        })
        .collect();
    let mut value = json!({
        "operationId": operation.id,
        "parameters": query,
        "responses": {"200": answer(operation)},
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
    });
    let body = match (operation.method, operation.body) {
        ("patch", _) => Some(json!({"type": "object"})),
        (_, body) => body.map(reference),
    };
    if let Some(schema) = body {
        let content: Map<String, Value> = operation
            .consumes()
            .iter()
            .map(|&media_type| (media_type.to_owned(), json!({"schema": schema})))
            .collect();
        value["requestBody"] = json!({"content": content});
    }
    value
}

fn answer(operation: &Operation) -> Value {
    match operation.answer {
        Some(name) => {
            json!({"description": "OK", "content": {JSON: {"schema": reference(name)}}})
        }
        None => json!({"description": "OK"}),
    }
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("{V3_REFERENCE}{name}")})
}
