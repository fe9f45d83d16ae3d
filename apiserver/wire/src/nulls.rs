//! Nulls inside of lists and maps, as Go's typed decode reads them.
//!
//! Input: an object of a known kind; output: the same object with zero values in place of those
//! nulls. An empty value in YAML (`data: {key: }`) is such a null, and upstream stores an empty
//! text for it, where a typed decode in Rust refuses. A null field stays null: it means "not set"
//! in both worlds. Not for patches, in which a null removes something.

use serde_json::Value;

use crate::schema::{self, Kind, Shape, Type};

/// Replaces the nulls inside of lists and maps by zero values. Unknown kinds stay as they are.
pub fn fill(api_version: &str, kind: &str, value: &mut Value) {
    if let Some(of) = schema::of_kind(api_version, kind) {
        fill_object(of, value);
    }
}

fn fill_object(of: &Type, value: &mut Value) {
    let Value::Object(fields) = value else { return };
    for (name, value) in fields {
        match (of.field(name).map(|field| field.shape), value) {
            (Some(Shape::One(Kind::Object(id))), value) => fill_object(schema::get(id), value),
            (Some(Shape::List(kind)), Value::Array(items)) => {
                items.iter_mut().for_each(|item| fill_item(kind, item));
            }
            (Some(Shape::Map(kind)), Value::Object(values)) => {
                values.values_mut().for_each(|value| fill_item(kind, value));
            }
            _ => {}
        }
    }
}

fn fill_item(kind: Kind, item: &mut Value) {
    if item.is_null() {
        *item = kind.zero();
    }
    if let Kind::Object(id) = kind {
        fill_object(schema::get(id), item);
    }
}

#[cfg(test)]
mod tests {
    use super::fill;
    use k8s_openapi::api::core::v1::{ConfigMap, Pod};
    use serde_json::json;

    #[test]
    fn nulls_in_maps_and_lists_become_zero_values() {
        let mut map = json!({"metadata": {"labels": {"a": null, "b": "c"}, "finalizers": null},
                             "data": {"key": null}});
        fill("v1", "ConfigMap", &mut map);
        assert_eq!(map["data"], json!({"key": ""}));
        assert_eq!(map["metadata"]["finalizers"], json!(null));
        let typed: ConfigMap = serde_json::from_value(map).unwrap();
        assert_eq!(typed.metadata.labels.unwrap()["a"], "");
    }

    #[test]
    fn nulls_below_items_are_found() {
        let mut pod = json!({"spec": {"containers": [null, {"args": [null], "command": null,
            "resources": {"limits": {"cpu": null}}}]}});
        fill("v1", "Pod", &mut pod);
        assert_eq!(
            pod,
            json!({"spec": {"containers": [{}, {"args": [""], "command": null,
                "resources": {"limits": {"cpu": "0"}}}]}})
        );
        assert!(serde_json::from_value::<Pod>(pod).is_ok());
    }

    #[test]
    fn what_is_not_known_stays() {
        let mut other = json!({"data": {"a": null}});
        fill("example.com/v1", "ConfigMap", &mut other);
        assert_eq!(other, json!({"data": {"a": null}}));
        let mut map = json!({"unknown": {"a": null}, "data": [null]});
        fill("v1", "ConfigMap", &mut map);
        assert_eq!(map, json!({"unknown": {"a": null}, "data": [null]}));
    }
}
