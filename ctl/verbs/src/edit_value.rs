//! Reading and setting fields of objects whose type is not known here.
//!
//! Pure. Deliberately not here: patches (crate `wire`).

use serde_json::{Map, Value};

/// The text at a JSON pointer, or `""`.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// Sets the field at a path of keys, making the objects on the way.
pub(crate) fn set(value: &mut Value, path: &[&str], new: impl Into<Value>) {
    let mut at = value;
    for key in path {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        at = at
            .as_object_mut()
            .expect("was made an object just above")
            .entry(*key)
            .or_insert(Value::Null);
    }
    *at = new.into();
}

/// Removes the field at a path of keys, if it is there.
pub(crate) fn remove(value: &mut Value, path: &[&str]) {
    let Some((last, parents)) = path.split_last() else { return };
    let mut at = value;
    for key in parents {
        match at.get_mut(*key) {
            Some(next) => at = next,
            None => return,
        }
    }
    if let Some(map) = at.as_object_mut() {
        map.remove(*last);
    }
}

/// `service/web`, `deployment.apps/web`: how kubectl names an object that it has no discovery for.
pub(crate) fn short_name(object: &Value) -> String {
    let (group, _) = crate::catalog::split_api_version(text(object, "/apiVersion"));
    let kind = text(object, "/kind").to_lowercase();
    let name = text(object, "/metadata/name");
    if group.is_empty() { format!("{kind}/{name}") } else { format!("{kind}.{group}/{name}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_made_and_removed_by_path() {
        let mut v = json!({"metadata": null});
        set(&mut v, &["metadata", "annotations", "a/b"], "c");
        assert_eq!(v, json!({"metadata": {"annotations": {"a/b": "c"}}}));
        remove(&mut v, &["metadata", "annotations", "a/b"]);
        remove(&mut v, &["metadata", "labels", "x"]);
        assert_eq!(v, json!({"metadata": {"annotations": {}}}));
    }

    #[test]
    fn objects_are_named_by_kind_and_group() {
        let d = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}});
        assert_eq!(short_name(&d), "deployment.apps/a");
        let s = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}});
        assert_eq!(short_name(&s), "service/a");
    }
}
