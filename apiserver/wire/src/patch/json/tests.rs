//! JSON patches: what applies, what is refused and how, and what would explode.

use proptest::prelude::*;
use serde_json::{Value, json as value};

use super::{JsonPatchError, MAX_COPIED, MAX_OPERATIONS, json};

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
fn places_of_every_kind() {
    let document = || value!({"l": [1, 2], "m": {"a/b": 1, "c~d": 2, "-": 3, "n": null}});
    for (operation, pointer, result) in [
        (value!({"op": "remove", "path": "/m/a~1b"}), "/m", value!({"c~d": 2, "-": 3, "n": null})),
        (value!({"op": "remove", "path": "/m/c~0d"}), "/m", value!({"a/b": 1, "-": 3, "n": null})),
        (value!({"op": "remove", "path": "/m/-"}), "/m", value!({"a/b": 1, "c~d": 2, "n": null})),
        (value!({"op": "add", "path": "/l/0", "value": 0}), "/l", value!([0, 1, 2])),
        (value!({"op": "add", "path": "/l/2", "value": 3}), "/l", value!([1, 2, 3])),
        (value!({"op": "add", "path": "/l/-1", "value": 3}), "/l", value!([1, 2, 3])),
        (value!({"op": "remove", "path": "/l/-1"}), "/l", value!([1])),
        (value!({"op": "replace", "path": "/l/-2", "value": 9}), "/l", value!([9, 2])),
        (value!({"op": "add", "path": "/m/n", "value": {}}), "/m/n", value!({})),
        (value!({"op": "replace", "path": "", "value": {"x": 1}}), "", value!({"x": 1})),
        (value!({"op": "test", "path": "/m/n", "value": null}), "/m/n", value!(null)),
        (value!({"op": "test", "path": "/m/missing", "value": null}), "/l", value!([1, 2])),
        (value!({"op": "test", "path": "/l/-1", "value": 2}), "/l", value!([1, 2])),
        (value!({"op": "move", "from": "/l/0", "path": "/l/1"}), "/l", value!([2, 1])),
    ] {
        let patched = json(&document(), &value!([operation])).unwrap();
        assert_eq!(patched.pointer(pointer), Some(&result), "{operation}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn refusals_in_upstream_words() {
    for (operation, message) in [
        (
            value!({"op": "add", "path": "/x/y", "value": 1}),
            "add operation does not apply: doc is missing path: \"/x/y\": missing value",
        ),
        (
            value!({"op": "add", "path": "", "value": 1}),
            "add operation does not apply: doc is missing path: \"\": missing value",
        ),
        (
            value!({"op": "add", "path": "/a/b", "value": 1}),
            "add operation does not apply: doc is missing path: \"/a/b\": missing value",
        ),
        (
            value!({"op": "remove", "path": "/x/y"}),
            "remove operation does not apply: doc is missing path: \"/x/y\": missing value",
        ),
        (
            value!({"op": "remove", "path": "/x"}),
            "error in remove for path: '/x': Unable to remove nonexistent key: x: missing value",
        ),
        (
            value!({"op": "replace", "path": "/x", "value": 1}),
            "replace operation does not apply: doc is missing key: /x: missing value",
        ),
        (
            value!({"op": "replace", "path": "/x/y", "value": 1}),
            "replace operation does not apply: doc is missing path: /x/y: missing value",
        ),
        (
            value!({"op": "copy", "from": "/x", "path": "/y"}),
            "copy operation does not apply: doc is missing from path: /x: missing value",
        ),
        (
            value!({"op": "move", "from": "/x/y", "path": "/y"}),
            "move operation does not apply: doc is missing from path: /x/y: missing value",
        ),
        (
            value!({"op": "move", "from": "/m", "path": "/m/n"}),
            "move operation does not apply: doc is missing destination path: /m/n: missing value",
        ),
        (
            value!({"op": "add", "path": "/l/9", "value": 1}),
            "error in add for path: '/l/9': Unable to access invalid index: 9: invalid index referenced",
        ),
        (
            value!({"op": "add", "path": "/l/-9", "value": 1}),
            "error in add for path: '/l/-9': Unable to access invalid index: -9: invalid index referenced",
        ),
        (
            value!({"op": "remove", "path": "/l/2"}),
            "error in remove for path: '/l/2': Unable to access invalid index: 2: invalid index referenced",
        ),
        (
            value!({"op": "remove", "path": "/empty/-"}),
            "error in remove for path: '/empty/-': value was not a proper array index: '-'",
        ),
        (
            value!({"op": "add", "path": "/l/x", "value": 1}),
            "error in add for path: '/l/x': value was not a proper array index: 'x'",
        ),
        (value!({"op": "test", "path": "/a", "value": 2}), "testing value /a failed: test failed"),
        (value!({"op": "test", "path": "/x", "value": 2}), "testing value /x failed: test failed"),
        (value!({"op": "test", "path": "x", "value": null}), "testing value x failed: test failed"),
        (
            value!({"op": "test", "path": "/x/y", "value": null}),
            "testing value /x/y failed: test failed",
        ),
    ] {
        let document = value!({"a": 1, "l": [1, 2], "m": {}, "empty": []});
        let error = json(&document, &value!([operation])).unwrap_err();
        assert_eq!(error.to_string(), message, "{operation}");
    }
}

#[test]
fn a_patch_must_be_a_list_of_known_operations() {
    for patch in [
        value!({}),
        value!([{"op": "frob", "path": "/a"}]),
        value!([{"op": "add", "path": "/a"}]),
        value!([{"op": "remove"}]),
        value!([1]),
    ] {
        let refused = json(&value!({}), &patch);
        assert!(matches!(refused, Err(JsonPatchError::Malformed(_))), "{patch}");
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

#[test]
fn a_document_that_doubles_itself_is_stopped() {
    let patch: Vec<Value> =
        (0..40).map(|i| value!({"op": "copy", "from": "/a", "path": format!("/a/{i}")})).collect();
    let refused = json(&value!({"a": {"x": "some text"}}), &Value::Array(patch));
    let Err(JsonPatchError::TooMuchCopied(bytes)) = refused else { panic!("{refused:?}") };
    assert!(bytes > MAX_COPIED && bytes < 3 * MAX_COPIED, "{bytes}");
}

#[test]
fn a_document_that_nests_ever_deeper_is_stopped() {
    let deeper: Vec<Value> =
        (1..5000).map(|i| value!({"op": "add", "path": "/a".repeat(i), "value": {}})).collect();
    let refused = json(&value!({}), &Value::Array(deeper));
    assert!(matches!(refused, Err(JsonPatchError::TooDeep { .. })), "{refused:?}");
    let nested: Vec<Value> = (0..5000)
        .flat_map(|_| {
            [
                value!({"op": "add", "path": "/b", "value": {}}),
                value!({"op": "move", "from": "/a", "path": "/b/a"}),
                value!({"op": "move", "from": "/b", "path": "/a"}),
            ]
        })
        .collect();
    let refused = json(&value!({"a": {}}), &Value::Array(nested[..9000].to_vec()));
    assert!(matches!(refused, Err(JsonPatchError::TooDeep { .. })), "{refused:?}");
}

proptest! {
    #[test]
    fn any_operation_applies_or_is_refused(
        op in "add|remove|replace|move|copy|test",
        path in "(/[ab0-2~-]{0,2}){0,3}",
        from in "(/[ab0-2~-]{0,2}){0,3}",
    ) {
        let document = value!({"a": [1, {"b": 2}, []], "b": {"a": null}});
        let _ = json(&document, &value!([{"op": op, "path": path, "from": from, "value": 1}]));
    }

    /// A removed field can be put back, a moved one moved back.
    #[test]
    fn operations_undo_each_other(key in "[a-c/~]{1,3}", other in "[x-z/~]{1,3}") {
        let document = value!({"o": {key.clone(): 1, "keep": 2}});
        let pointer = |key: &str| format!("/o/{}", key.replace('~', "~0").replace('/', "~1"));
        let (key, other) = (pointer(&key), pointer(&other));
        let there_and_back = value!([
            {"op": "remove", "path": key},
            {"op": "add", "path": key, "value": 1},
            {"op": "move", "from": key, "path": other},
            {"op": "move", "from": other, "path": key},
        ]);
        prop_assert_eq!(json(&document, &there_and_back), Ok(document));
    }
}
