//! OpenAPI v2 in protobuf, by gnostic's field numbers (google/gnostic-models,
//! `openapiv2/OpenAPIv2.proto`).
//!
//! Input: the JSON of paths and definitions; output: one `Document` message. Only what our
//! documents use is encoded. Extensions (`x-…`) travel as YAML texts; JSON is YAML.

use serde_json::{Map, Value};

/// Encodes a document.
pub(super) fn document<'n>(
    version: &str,
    paths: impl Iterator<Item = (&'n str, Value)>,
    definitions: impl Iterator<Item = (&'n str, Value)>,
) -> Vec<u8> {
    let mut document = Message::default();
    document.text(1, "2.0");
    document.message(2, |info| {
        info.text(1, "Kubernetes");
        info.text(2, version);
    });
    document.message(8, |all| {
        for (path, item) in paths {
            all.named(2, path, |message| path_item(message, &item));
        }
    });
    document.message(9, |all| {
        for (name, definition) in definitions {
            all.named(1, name, |message| schema(message, &definition));
        }
    });
    document.0
}

/// A message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn bytes(&mut self, field: usize, value: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(value.len());
        self.0.extend_from_slice(value);
    }

    fn text(&mut self, field: usize, value: &str) {
        self.bytes(field, value.as_bytes());
    }

    fn truth(&mut self, field: usize, value: bool) {
        self.varint(field << 3);
        self.varint(usize::from(value));
    }

    fn message(&mut self, field: usize, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.bytes(field, &inner.0);
    }

    /// `NamedX`: what maps are in gnostic.
    fn named(&mut self, field: usize, name: &str, write: impl FnOnce(&mut Self)) {
        self.message(field, |entry| {
            entry.text(1, name);
            entry.message(2, write);
        });
    }

    /// The text of a JSON field, if it is there.
    fn text_of(&mut self, field: usize, object: &Value, name: &str) {
        if let Some(text) = object[name].as_str() {
            self.text(field, text);
        }
    }

    /// The texts of a JSON list, if it is there.
    fn texts_of(&mut self, field: usize, object: &Value, name: &str) {
        for text in object[name].as_array().into_iter().flatten().filter_map(Value::as_str) {
            self.text(field, text);
        }
    }

    fn extensions(&mut self, field: usize, object: &Value) {
        for (name, value) in fields(object).filter(|(name, _)| name.starts_with("x-")) {
            self.named(field, name, |any| any.text(2, &value.to_string()));
        }
    }
}

fn fields(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flat_map(Map::iter)
}

fn path_item(message: &mut Message, item: &Value) {
    for (method, field) in [("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("patch", 8)] {
        if let Some(value) = item.get(method) {
            message.message(field, |inner| operation(inner, value));
        }
    }
    parameters(message, 9, item);
}

fn operation(message: &mut Message, operation: &Value) {
    message.text_of(5, operation, "operationId");
    message.texts_of(6, operation, "produces");
    message.texts_of(7, operation, "consumes");
    parameters(message, 8, operation);
    message.message(9, |responses| {
        for (code, response) in fields(&operation["responses"]) {
            responses.named(1, code, |value| {
                value.message(1, |inner| {
                    inner.text_of(1, response, "description");
                    if let Some(of) = response.get("schema") {
                        inner.message(2, |item| item.message(1, |inner| schema(inner, of)));
                    }
                });
            });
        }
    });
    message.extensions(13, operation);
}

/// `ParametersItem { Parameter { BodyParameter | NonBodyParameter { query | path } } }`
fn parameters(message: &mut Message, field: usize, owner: &Value) {
    for parameter in owner["parameters"].as_array().into_iter().flatten() {
        message.message(field, |item| {
            item.message(1, |either| match parameter["in"].as_str() {
                Some("body") => either.message(1, |body| {
                    body.text_of(2, parameter, "name");
                    body.text_of(3, parameter, "in");
                    body.truth(4, parameter["required"] == true);
                    body.message(5, |inner| schema(inner, &parameter["schema"]));
                }),
                place => either.message(2, |other| {
                    let (variant, type_field) = if place == Some("path") { (4, 5) } else { (3, 6) };
                    other.message(variant, |inner| {
                        inner.truth(1, parameter["required"] == true);
                        inner.text_of(2, parameter, "in");
                        inner.text_of(3, parameter, "description");
                        inner.text_of(4, parameter, "name");
                        inner.text_of(type_field, parameter, "type");
                    });
                }),
            });
        });
    }
}

fn schema(message: &mut Message, of: &Value) {
    message.text_of(1, of, "$ref");
    message.text_of(2, of, "format");
    message.text_of(4, of, "description");
    message.texts_of(19, of, "required");
    if let Some(values) = of.get("additionalProperties") {
        message.message(21, |item| item.message(1, |inner| schema(inner, values)));
    }
    if of["type"].is_string() {
        message.message(22, |item| item.text_of(1, of, "type"));
    }
    if let Some(items) = of.get("items") {
        message.message(23, |item| item.message(1, |inner| schema(inner, items)));
    }
    if of.get("properties").is_some() {
        message.message(25, |properties| {
            for (name, property) in fields(&of["properties"]) {
                properties.named(1, name, |inner| schema(inner, property));
            }
        });
    }
    message.extensions(31, of);
}
