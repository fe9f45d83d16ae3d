//! What a typed decode of a body would stumble over or silently drop, in upstream's words
//! (sigs.k8s.io/json, `kubernetes_patch.go` and `decode.go`).
//!
//! Inputs: a kind and a JSON value; outputs: texts for the strict decoding error and for the
//! error of a value of the wrong type. Not here: what a value means (validation).

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::decode::Body;
use crate::quote::quote;
use crate::schema::{self, Kind, Shape, Type};

/// Upstream collects no more problems than this.
const MAX_PROBLEMS: usize = 100;

/// All unknown and duplicate fields, such as `unknown field "spec.bogus"`. Upstream joins them
/// with `, ` behind `strict decoding error: `. A kind that the table lacks has only duplicates.
#[must_use]
pub fn check(api_version: &str, kind: &str, body: &Body) -> Vec<String> {
    let mut problems = Problems::default();
    if let Some(of) = schema::of_kind(api_version, kind) {
        unknown_fields(of, &body.value, "", &mut problems);
    }
    for path in &body.duplicates {
        problems.add("duplicate", path);
    }
    problems.found
}

/// Problems in the order of their discovery, each once.
#[derive(Default)]
struct Problems {
    found: Vec<String>,
    seen: BTreeSet<String>,
}

impl Problems {
    fn add(&mut self, what: &str, path: &str) {
        let text = format!("{what} field {}", quote(path));
        if self.found.len() < MAX_PROBLEMS && self.seen.insert(text.clone()) {
            self.found.push(text);
        }
    }
}

fn unknown_fields(of: &Type, value: &Value, path: &str, problems: &mut Problems) {
    let Value::Object(fields) = value else { return };
    for (name, value) in fields {
        let path = child(path, name);
        match of.field(name) {
            None => problems.add("unknown", &path),
            Some(field) => unknown_in_shape(field.shape, value, &path, problems),
        }
    }
}

fn unknown_in_shape(shape: Shape, value: &Value, path: &str, problems: &mut Problems) {
    let (Shape::One(Kind::Object(id))
    | Shape::List(Kind::Object(id))
    | Shape::Map(Kind::Object(id))) = shape
    else {
        return;
    };
    let of = schema::get(id);
    match (shape, value) {
        (Shape::One(_), value) => unknown_fields(of, value, path, problems),
        (Shape::List(_), Value::Array(items)) => {
            for (i, item) in items.iter().enumerate() {
                unknown_fields(of, item, &format!("{path}[{i}]"), problems);
            }
        }
        (Shape::Map(_), Value::Object(values)) => {
            for (key, value) in values {
                unknown_fields(of, value, &child(path, key), problems);
            }
        }
        _ => {}
    }
}

fn child(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The first value whose type is not that of its field, such as `json: cannot unmarshal string
/// into Go struct field DeploymentSpec.spec.replicas of type int32`. Types that read their JSON
/// themselves (times, quantities) are left to the typed decode.
#[must_use]
pub fn mismatch(api_version: &str, kind: &str, value: &Value) -> Option<String> {
    let of = schema::of_kind(api_version, kind)?;
    let Value::Object(_) = value else {
        let go_type = go_object(of);
        return Some(format!(
            "json: cannot unmarshal {} into Go value of type {go_type}",
            json_word(value)
        ));
    };
    mismatch_in_object(of, value, "")
}

fn mismatch_in_object(of: &'static Type, value: &Value, path: &str) -> Option<String> {
    value.as_object()?.iter().find_map(|(name, value)| {
        let field = of.field(name)?;
        let place = Place { owner: of, path: &child(path, name) };
        match (field.shape, value) {
            (_, Value::Null) => None,
            (Shape::One(kind), value) => place.check(kind, value),
            (Shape::List(kind), Value::Array(items)) => {
                items.iter().find_map(|item| place.check(kind, item))
            }
            (Shape::Map(kind), Value::Object(values)) => {
                values.values().find_map(|value| place.check(kind, value))
            }
            // Bytes of a list would be base64, but the API has no such field.
            (Shape::List(kind), value) => {
                Some(place.refuse(value, &format!("[]{}", go_kind(kind))))
            }
            (Shape::Map(kind), value) => {
                Some(place.refuse(value, &format!("map[string]{}", go_kind(kind))))
            }
        }
    })
}

/// Where a value stands, as Go's decoder names it: the innermost struct, the path without indices.
struct Place<'a> {
    owner: &'static Type,
    path: &'a str,
}

impl Place<'_> {
    fn check(&self, kind: Kind, value: &Value) -> Option<String> {
        let fits = match (kind, value) {
            (_, Value::Null) => true,
            (Kind::Text, value) => value.is_string(),
            (Kind::Bool, value) => value.is_boolean(),
            (Kind::Double, value) => value.is_number(),
            (Kind::Int32, value) => value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
            (Kind::Int64, value) => value.is_i64(),
            (Kind::Bytes, Value::String(text)) => return illegal_base64(text),
            (Kind::Bytes, _) => false,
            (Kind::Texts, value) => value.is_array(),
            (Kind::Object(id), Value::Object(_)) => {
                return mismatch_in_object(schema::get(id), value, self.path);
            }
            (Kind::Object(_), _) => false,
            (Kind::Time | Kind::MicroTime | Kind::Quantity | Kind::IntOrString | Kind::Raw, _) => {
                true
            }
        };
        (!fits).then(|| self.refuse(value, &go_kind(kind)))
    }

    fn refuse(&self, value: &Value, go_type: &str) -> String {
        format!(
            "json: cannot unmarshal {} into Go struct field {}.{} of type {go_type}",
            value_word(value, go_type),
            self.owner.short_name(),
            self.path
        )
    }
}

fn illegal_base64(text: &str) -> Option<String> {
    let offset = match STANDARD.decode(text).err()? {
        base64::DecodeError::InvalidByte(offset, _)
        | base64::DecodeError::InvalidLastSymbol(offset, _) => offset,
        _ => text.len(),
    };
    Some(format!("illegal base64 data at input byte {offset}"))
}

/// What Go's decoder calls a value; numbers are shown where they do not fit a number.
fn value_word(value: &Value, go_type: &str) -> String {
    match value {
        Value::Number(number) if go_type.starts_with("int") => format!("number {number}"),
        other => json_word(other).to_owned(),
    }
}

fn json_word(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn go_kind(kind: Kind) -> String {
    match kind {
        Kind::Text => "string".to_owned(),
        Kind::Int32 => "int32".to_owned(),
        Kind::Int64 => "int64".to_owned(),
        Kind::Bool => "bool".to_owned(),
        Kind::Double => "float64".to_owned(),
        Kind::Bytes => "[]uint8".to_owned(),
        Kind::Time => "v1.Time".to_owned(),
        Kind::MicroTime => "v1.MicroTime".to_owned(),
        Kind::Quantity => "resource.Quantity".to_owned(),
        Kind::IntOrString => "intstr.IntOrString".to_owned(),
        Kind::Raw => "runtime.RawExtension".to_owned(),
        Kind::Texts => "[]string".to_owned(),
        Kind::Object(id) => go_object(schema::get(id)),
    }
}

/// The type with its package, which is named after the version.
fn go_object(of: &Type) -> String {
    let mut parts = of.name.rsplit('.');
    let (name, package) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    format!("{package}.{name}")
}

#[cfg(test)]
mod tests;
