//! What kubectl prints for awkward values, and that everything reads back.

use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn nested_objects_look_as_kubectl_prints_them() {
    let value = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"labels": {}, "name": "a"},
        "spec": {"ports": [{"name": "80", "port": 80}, {"port": 90}], "args": ["a", ["b", "c"]]}});
    assert_eq!(
        to_yaml(&value),
        "apiVersion: v1\nkind: Service\nmetadata:\n  labels: {}\n  name: a\nspec:\n  args:\n  - a\n  \
         - - b\n    - c\n  ports:\n  - name: \"80\"\n    port: 80\n  - port: 90\n"
    );
}

#[test]
fn scalars_are_quoted_as_go_yaml_quotes_them() {
    for (value, text) in [
        ("web", "web"),
        ("", "\"\""),
        ("yes", "\"yes\""),
        ("null", "\"null\""),
        ("80", "\"80\""),
        ("0x1f", "\"0x1f\""),
        ("1e3", "\"1e3\""),
        ("1.5", "\"1.5\""),
        ("10.244.0.2", "10.244.0.2"),
        ("12:30", "\"12:30\""),
        ("2024-01-31T10:00:00Z", "\"2024-01-31T10:00:00Z\""),
        ("a: b", "'a: b'"),
        ("a:b", "a:b"),
        ("- a", "'- a'"),
        ("-a", "-a"),
        ("it's", "it's"),
        ("'a", "'''a'"),
        ("*", "'*'"),
        ("a #b", "'a #b'"),
        ("a\tb", "\"a\\tb\""),
        (" a", "' a'"),
        ("{}", "'{}'"),
        ("한국어", "한국어"),
        ("a\nb\n", "|\n  a\n  b"),
        ("a\nb", "|-\n  a\n  b"),
        ("a\n\n", "|+\n  a\n"),
    ] {
        assert_eq!(to_yaml(&json!({ "k": value })), format!("k: {text}\n"), "{value:?}");
    }
}

#[test]
fn long_text_is_folded_behind_column_eighty() {
    let words = "word ".repeat(20) + "end";
    assert_eq!(
        to_yaml(&json!({ "message": words })),
        format!("message: {}\n  {}\n", "word ".repeat(15).trim_end(), "word ".repeat(5) + "end")
    );
}

#[test]
fn keys_with_numbers_are_sorted_by_number() {
    let value = json!({"a10": 1, "a9": 2, "b": 3, "a-b": 4, "ab": 5});
    assert_eq!(to_yaml(&value), "a-b: 4\na9: 2\na10: 1\nab: 5\nb: 3\n");
}

fn value() -> impl Strategy<Value = serde_json::Value> {
    let text = prop_oneof!["[ -~]{0,100}", "[a-z:#'\"\\- \\n\\t]{0,20}", "\\PC{0,10}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z0-9./ -]{1,8}", inner, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_is_written_reads_back(value in value()) {
        let text = to_yaml(&json!({ "root": value.clone() }));
        let back = crate::manifest::parse("test", text.as_bytes()).unwrap();
        prop_assert_eq!(&back[0].value["root"], &value, "{}", text);
    }
}
