//! Any other object: its fields as they are, under readable names.
//!
//! Upstream: `printUnstructuredContent` and `smartLabelFor` of `kubectl/pkg/describe`.

use serde_json::Value;

use super::Surroundings;
use super::metadata::{annotations, events, labels};
use super::text::Text;
use crate::edit_value::text as field;

/// What the head of the description has said already.
const SAID: [&str; 5] = [
    ".metadata.managedFields",
    ".metadata.name",
    ".metadata.namespace",
    ".metadata.labels",
    ".metadata.annotations",
];

/// Describes an object of any type.
pub(super) fn describe(out: &mut Text, object: &Value, around: &Surroundings) {
    out.pair(0, "Name", field(object, "/metadata/name"));
    out.pair(0, "Namespace", field(object, "/metadata/namespace"));
    let map = |pointer: &str| {
        object.pointer(pointer).and_then(|v| serde_json::from_value(v.clone()).ok())
    };
    labels(out, "Labels", map("/metadata/labels").as_ref());
    annotations(out, "Annotations", map("/metadata/annotations").as_ref());
    content(out, 0, object, "");
    events(out, around);
}

fn content(out: &mut Text, level: usize, object: &Value, path: &str) {
    for (key, value) in object.as_object().into_iter().flatten() {
        let path = format!("{path}.{key}");
        if SAID.contains(&path.as_str()) {
            continue;
        }
        let label = label(key);
        match value {
            Value::Object(_) => {
                out.line(level, format_args!("{label}:"));
                content(out, level + 1, value, &path);
            }
            Value::Array(items) => {
                out.line(level, format_args!("{label}:"));
                for item in items {
                    match item {
                        Value::Object(_) => content(out, level + 1, item, &path),
                        other => out.line(level + 1, scalar(other)),
                    }
                }
            }
            other => out.pair(level, &label, scalar(other)),
        }
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<nil>".to_owned(),
        other => other.to_string(),
    }
}

/// `apiVersion` → `API Version`, `leaseDurationSeconds` → `Lease Duration Seconds`; a name with
/// digits or dots stays as it is.
fn label(name: &str) -> String {
    if !name.chars().all(|c| c.is_alphabetic() || c == '-') {
        return name.to_owned();
    }
    let words = words(name).into_iter().map(|word| {
        let upper = word.to_uppercase();
        if ["API", "URL", "UID", "GUID"].contains(&upper.as_str()) {
            return upper;
        }
        if word.to_lowercase() != word {
            return word;
        }
        let mut chars = word.chars();
        chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Splits at changes from lower to upper case, keeping runs of capitals together.
fn words(name: &str) -> Vec<String> {
    let chars: Vec<char> = name.chars().collect();
    let mut words: Vec<String> = Vec::new();
    for (i, &c) in chars.iter().enumerate() {
        let starts = i == 0
            || (c.is_uppercase()
                && (!chars[i - 1].is_uppercase()
                    || chars.get(i + 1).is_some_and(|n| n.is_lowercase())));
        match words.last_mut() {
            Some(word) if !starts => word.push(c),
            _ => words.push(c.to_string()),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn field_names_become_labels() {
        for (name, text) in [
            ("apiVersion", "API Version"),
            ("kind", "Kind"),
            ("leaseDurationSeconds", "Lease Duration Seconds"),
            ("podCIDR", "Pod CIDR"),
            ("uid", "UID"),
            ("a.b/c", "a.b/c"),
        ] {
            assert_eq!(label(name), text);
        }
    }

    #[test]
    fn a_lease() {
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "l", "namespace": "n", "uid": "u"},
            "spec": {"holderIdentity": "h", "list": ["a", {"b": 1}]}});
        let mut out = Text::default();
        let around = Surroundings { events: Some(vec![]), now: jiff::Timestamp::UNIX_EPOCH };
        describe(&mut out, &lease, &around);
        let expected = "\
Name:         l
Namespace:    n
Labels:       <none>
Annotations:  <none>
API Version:  coordination.k8s.io/v1
Kind:         Lease
Metadata:
  UID:  u
Spec:
  Holder Identity:  h
  List:
    a
    B:   1
Events:  <none>
";
        assert_eq!(out.render(), expected);
    }
}
