//! JSON patches (RFC 6902) with the texts of upstream's library (evanphx/json-patch).
//!
//! Input: the document and the list of operations; output: the new document or the first
//! operation's refusal. At most [`MAX_OPERATIONS`] operations are taken.

use json_patch::{Patch, PatchErrorKind, PatchOperation};
use serde_json::Value;

/// Upstream's limit of operations in one patch.
pub const MAX_OPERATIONS: usize = 10_000;

/// Why a JSON patch was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonPatchError {
    /// More than [`MAX_OPERATIONS`] operations: 413.
    #[error("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {0}")]
    TooManyOperations(usize),
    /// Not a list of operations: 400.
    #[error("error decoding patch: {0}")]
    Malformed(String),
    /// An operation's path does not exist: 422.
    #[error("{operation} operation does not apply: doc is missing path: {path}: missing value")]
    MissingPath {
        /// `add`, `remove`, …
        operation: &'static str,
        /// JSON pointer.
        path: String,
    },
    /// A `test` operation found something else: 422.
    #[error("testing value {0} failed: test failed")]
    TestFailed(String),
    /// An operation would put a value into itself: 422.
    #[error("{operation} operation does not apply: {path} lies inside the moved value")]
    IntoItself {
        /// `move`
        operation: &'static str,
        /// JSON pointer.
        path: String,
    },
}

/// Applies a JSON patch.
///
/// # Errors
/// See [`JsonPatchError`].
pub fn json(current: &Value, operations: &Value) -> Result<Value, JsonPatchError> {
    if let Some(count) = operations.as_array().map(Vec::len).filter(|&n| n > MAX_OPERATIONS) {
        return Err(JsonPatchError::TooManyOperations(count));
    }
    let patch: Patch = serde_json::from_value(operations.clone())
        .map_err(|e| JsonPatchError::Malformed(e.to_string()))?;
    let mut result = current.clone();
    // The copy is dropped on failure, so nothing needs to be undone.
    json_patch::patch_unsafe(&mut result, &patch)
        .map_err(|error| refused(&patch[error.operation], &error.kind))?;
    Ok(result)
}

fn refused(operation: &PatchOperation, kind: &PatchErrorKind) -> JsonPatchError {
    let name = match operation {
        PatchOperation::Add(_) => "add",
        PatchOperation::Remove(_) => "remove",
        PatchOperation::Replace(_) => "replace",
        PatchOperation::Move(_) => "move",
        PatchOperation::Copy(_) => "copy",
        PatchOperation::Test(_) => "test",
    };
    let path = operation.path().to_string();
    match (kind, operation) {
        (PatchErrorKind::TestFailed, _) | (_, PatchOperation::Test(_)) => {
            JsonPatchError::TestFailed(path)
        }
        (PatchErrorKind::CannotMoveInsideItself, _) => {
            JsonPatchError::IntoItself { operation: name, path }
        }
        (PatchErrorKind::InvalidFromPointer, PatchOperation::Move(o)) => {
            JsonPatchError::MissingPath { operation: name, path: o.from.to_string() }
        }
        (PatchErrorKind::InvalidFromPointer, PatchOperation::Copy(o)) => {
            JsonPatchError::MissingPath { operation: name, path: o.from.to_string() }
        }
        _ => JsonPatchError::MissingPath { operation: name, path },
    }
}

#[cfg(test)]
mod tests {
    use super::{JsonPatchError, MAX_OPERATIONS, json};
    use proptest::prelude::*;
    use serde_json::{Value, json as value};

    #[test]
    fn operations_apply_in_order() {
        let patched = json(
            &value!({"a": [1, 2], "b": {"c": 1}}),
            &value!([
                {"op": "test", "path": "/b/c", "value": 1},
                {"op": "add", "path": "/a/-", "value": 3},
                {"op": "replace", "path": "/b/c", "value": 2},
                {"op": "copy", "from": "/b", "path": "/d"},
                {"op": "move", "from": "/a/0", "path": "/e"},
                {"op": "remove", "path": "/b"},
            ]),
        );
        assert_eq!(patched.unwrap(), value!({"a": [2, 3], "d": {"c": 2}, "e": 1}));
    }

    #[test]
    fn keys_with_slashes_are_escaped() {
        let patched = json(
            &value!({"metadata": {"labels": {"a/b": "x"}}}),
            &value!([{"op": "remove", "path": "/metadata/labels/a~1b"}]),
        );
        assert_eq!(patched.unwrap(), value!({"metadata": {"labels": {}}}));
    }

    #[test]
    fn refusals_name_operation_and_path() {
        let missing = |operation, path: &str| JsonPatchError::MissingPath {
            operation,
            path: path.to_owned(),
        };
        for (operation, error) in [
            (value!({"op": "add", "path": "/x/y", "value": 1}), missing("add", "/x/y")),
            (value!({"op": "remove", "path": "/x"}), missing("remove", "/x")),
            (value!({"op": "replace", "path": "/x", "value": 1}), missing("replace", "/x")),
            (value!({"op": "copy", "from": "/x", "path": "/y"}), missing("copy", "/x")),
            (value!({"op": "move", "from": "/x", "path": "/y"}), missing("move", "/x")),
            (
                value!({"op": "test", "path": "/a", "value": 2}),
                JsonPatchError::TestFailed("/a".into()),
            ),
            (
                value!({"op": "test", "path": "/x", "value": 2}),
                JsonPatchError::TestFailed("/x".into()),
            ),
        ] {
            assert_eq!(json(&value!({"a": 1}), &value!([operation])), Err(error), "{operation}");
        }
    }

    #[test]
    fn a_patch_must_be_a_list_of_known_operations() {
        for patch in [value!({}), value!([{"op": "frob", "path": "/a"}]), value!([{"op": "add"}])] {
            assert!(matches!(json(&value!({}), &patch), Err(JsonPatchError::Malformed(_))));
        }
    }

    #[test]
    fn more_operations_than_the_limit_are_not_tried() {
        let one = value!({"op": "test", "path": "", "value": {}});
        let at_limit = Value::Array(vec![one.clone(); MAX_OPERATIONS]);
        assert_eq!(json(&value!({}), &at_limit), Ok(value!({})));
        let above = Value::Array(vec![one; MAX_OPERATIONS + 1]);
        assert_eq!(
            json(&value!({}), &above).unwrap_err().to_string(),
            "The allowed maximum operations in a JSON patch is 10000, got 10001"
        );
    }

    proptest! {
        #[test]
        fn any_operation_applies_or_is_refused(
            op in "add|remove|replace|move|copy|test",
            path in "(/[ab0-2~-]{0,2}){0,3}",
            from in "(/[ab0-2~-]{0,2}){0,3}",
        ) {
            let document = value!({"a": [1, {"b": 2}], "b": {"a": null}});
            let _ = json(&document, &value!([{"op": op, "path": path, "from": from, "value": 1}]));
        }
    }
}
