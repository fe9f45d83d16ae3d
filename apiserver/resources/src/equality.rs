//! Whether two values mean the same: an empty list is as good as none, and so is an empty text.
//!
//! Upstream: apimachinery `pkg/api/equality` (`Semantic.DeepEqual`).
//! Clients write `args: []`, leave it out, or write null; none of that is a change.

use serde::Serialize;
use serde_json::Value;

/// Whether the two mean the same.
pub(crate) fn same<T: Serialize + PartialEq>(a: &T, b: &T) -> bool {
    a == b || canonical(a) == canonical(b)
}

fn canonical(value: &impl Serialize) -> Value {
    let mut json = serde_json::to_value(value).unwrap_or_default();
    prune(&mut json);
    json
}

fn prune(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(prune);
            fields.retain(|_, field| !is_nothing(field));
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::same;

    #[test]
    fn nothing_is_written_in_many_ways() {
        assert!(same(&json!({"a": []}), &json!({})));
        assert!(same(&json!({"a": null, "b": {"c": ""}}), &json!({"b": {}})));
        assert!(!same(&json!({"a": {}}), &json!({})), "an empty struct may mean something");
        assert!(!same(&json!({"a": 0}), &json!({})));
        assert!(!same(&json!({"a": ["x"]}), &json!({"a": ["y"]})));
    }
}
