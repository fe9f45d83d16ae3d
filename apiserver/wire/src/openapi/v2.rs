//! OpenAPI v2: one document of everything, as JSON and as protobuf.
//!
//! The protobuf form is encoded piece by piece, so that no tree of the whole document is in memory.

use serde_json::{Map, Value, json};

use super::definitions::{Definitions, V2_REFERENCE, V3_REFERENCE};
use super::gnostic;
use super::operations::{Operation, Path, paths, roots};
use super::{Document, ResourceDoc, VERSION};

/// Every kind of answer that this server gives.
const PRODUCES: [&str; 1] = ["application/json"];

/// `/openapi/v2` as JSON.
#[must_use]
pub fn v2_json(resources: &[ResourceDoc]) -> Document {
    let paths: Vec<Path> = resources.iter().flat_map(paths).collect();
    let items: Map<String, Value> =
        paths.iter().map(|path| (path.path.clone(), path_item(path))).collect();
    let mut text = format!(
        r#"{{"swagger":"2.0","info":{{"title":"Kubernetes","version":"{VERSION}"}},"paths":{},"definitions":{{"#,
        Value::Object(items)
    );
    let definitions = Definitions::unpack();
    for (i, (name, schema)) in definitions.reachable(roots(&paths)).into_iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        let schema = definition(schema).to_string();
        text.extend([comma, "\"", name, "\":", &schema]);
    }
    text.push_str("}}");
    Document::new("application/json", text.into_bytes())
}

/// What the answer in protobuf is called. Clients ask for `…spec.v2@v1.0+protobuf`, but cannot
/// parse that as a media type themselves, so upstream answers with a dot in place of the `@`.
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// `/openapi/v2` for clients that accept
/// `application/com.github.proto-openapi.spec.v2@v1.0+protobuf`.
#[must_use]
pub fn v2_protobuf(resources: &[ResourceDoc]) -> Document {
    let paths: Vec<Path> = resources.iter().flat_map(paths).collect();
    let definitions = Definitions::unpack();
    let reachable = definitions.reachable(roots(&paths));
    let bytes = gnostic::document(
        VERSION,
        paths.iter().map(|path| (path.path.as_str(), path_item(path))),
        reachable.into_iter().map(|(name, schema)| (name, definition(schema))),
    );
    Document::new(PROTOBUF, bytes)
}

/// A definition in v2's words.
pub(super) fn definition(v3: &str) -> Value {
    let mut schema: Value = serde_json::from_str(v3)
        .expect("the definitions are part of the program, and a test parses them all");
    simplify(&mut schema);
    // v2 cannot say "a number or a string".
    if schema.as_object_mut().is_some_and(|fields| fields.remove("oneOf").is_some()) {
        schema["type"] = json!("string");
    }
    schema
}

/// v3 wraps references in `allOf`, because it allows nothing beside them; v2 does not.
fn simplify(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::Array(all)) = fields.remove("allOf") {
                let referred = all.into_iter().find_map(|part| part.get("$ref").cloned());
                fields.extend(referred.map(|reference| ("$ref".to_owned(), reference)));
            }
            if let Some(Value::String(reference)) = fields.get_mut("$ref") {
                *reference = reference.replace(V3_REFERENCE, V2_REFERENCE);
            }
            fields.values_mut().for_each(simplify);
        }
        Value::Array(items) => items.iter_mut().for_each(simplify),
        _ => {}
    }
}

fn path_item(path: &Path) -> Value {
    let mut item = Map::new();
    for operation in &path.operations {
        item.insert(operation.method.to_owned(), self::operation(operation));
    }
    let parameters: Vec<Value> = path
        .parameters()
        .map(|name| json!({"name": name, "in": "path", "required": true, "type": "string"}))
        .collect();
    if !parameters.is_empty() {
        item.insert("parameters".to_owned(), Value::Array(parameters));
    }
    Value::Object(item)
}

fn operation(operation: &Operation) -> Value {
    let (group, version, kind) = operation.gvk;
    let mut parameters: Vec<Value> = operation
        .query
        .iter()
        .map(|(name, of, description)| {
            json!({"name": name, "in": "query", "description": description, "type": of})
        })
        .collect();
    let body = match (operation.method, operation.body) {
        ("patch", _) => Some(json!({"type": "object"})),
        (_, body) => body.map(reference),
    };
    if let Some(schema) = body {
        parameters.push(json!({"name": "body", "in": "body", "schema": schema}));
    }
    let answer = match operation.answer {
        Some(name) => json!({"description": "OK", "schema": reference(name)}),
        None => json!({"description": "OK"}),
    };
    json!({
        "operationId": operation.id,
        "consumes": operation.consumes(),
        "produces": PRODUCES,
        "parameters": parameters,
        "responses": {"200": answer},
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
    })
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("{V2_REFERENCE}{name}")})
}
