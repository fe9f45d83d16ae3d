//! Strategic merge patches by situation, after upstream's own cases (apimachinery
//! `pkg/util/strategicpatch/patch_test.go`): a small type with every strategy, then real kinds.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Differences, StrategicError, View, apply, diff, object, strategic};
use crate::decode::from_yaml;
use crate::patch::three_way::three_way;
use crate::schema::Table;

/// A type with one field per strategy; `t`, `r` and `items` lead back to it or to a sibling.
const TYPES: &str = "\
test.Item test/v1 Item
\tname 1 string
\tvalue 2 string
\titems 3 []test.Item strategy=merge key=name
\tatomic 4 []test.Item
\tnumbers 5 []int64 strategy=merge
\tplain 6 []int64
\tmap 7 {}string
\treplaced 8 raw strategy=replace
\tretained 9 test.Item strategy=retainKeys
\tsources 10 []test.Item strategy=merge,retainKeys key=name
";

fn yaml(text: &str) -> Value {
    from_yaml(text.as_bytes()).expect("the tests' YAML is right").value
}

fn patched(current: &Value, patch: &Value) -> Result<Value, StrategicError> {
    let table = Table::read(TYPES);
    apply(View::of_kind(&table, "test/v1", "Item")?, current, patch)
}

fn computed(original: &Value, modified: &Value) -> Value {
    let table = Table::read(TYPES);
    let view = View::of_kind(&table, "test/v1", "Item").unwrap();
    let (original, modified) = (object(original).unwrap(), object(modified).unwrap());
    Value::Object(diff(&original, &modified, view, Differences::All).unwrap())
}

fn applied(original: &Value, modified: &Value, current: &Value) -> Value {
    let table = Table::read(TYPES);
    let view = View::of_kind(&table, "test/v1", "Item").unwrap();
    three_way(view, original, modified, current).unwrap()
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn patches_and_their_results() {
    for (situation, current, patch, result) in [
        ("empty patch", "{name: a}", "{}", "{name: a}"),
        ("no object yet", "null", "{name: a}", "{name: a}"),
        ("field set", "{name: a}", "{value: b}", "{name: a, value: b}"),
        ("field removed", "{name: a, value: b}", "{value: null}", "{name: a}"),
        ("null for a missing field", "{name: a}", "{value: null}", "{name: a}"),
        ("map merges", "{map: {a: x, b: y}}", "{map: {b: null, c: z}}", "{map: {a: x, c: z}}"),
        ("nulls of a new map vanish", "{}", "{map: {a: x, b: null}}", "{map: {a: x}}"),
        ("map replaced", "{map: {a: x}}", "{map: {$patch: replace, b: y}}", "{map: {b: y}}"),
        ("map emptied", "{map: {a: x}}", "{map: {$patch: delete}}", "{map: {}}"),
        ("directive for a missing map", "{}", "{map: {$patch: delete}}", "{}"),
        (
            "map that is replaced by type",
            "{replaced: {a: 1}}",
            "{replaced: {b: 2}}",
            "{replaced: {b: 2}}",
        ),
        ("value changes type", "{map: {a: x}}", "{map: [1]}", "{map: [1]}"),
        ("atomic list", "{plain: [1, 2]}", "{plain: [3]}", "{plain: [3]}"),
        (
            "atomic list of objects",
            "{atomic: [{name: a}]}",
            "{atomic: [{name: b}]}",
            "{atomic: [{name: b}]}",
        ),
        (
            "scalars merge once each",
            "{numbers: [1, 2]}",
            "{numbers: [2, 3, 3]}",
            "{numbers: [1, 2, 3]}",
        ),
        (
            "scalars deleted",
            "{numbers: [1, 2, 3]}",
            "{$deleteFromPrimitiveList/numbers: [1, 3, 9]}",
            "{numbers: [2]}",
        ),
        (
            "scalars deleted from an atomic list",
            "{plain: [1, 2]}",
            "{$deleteFromPrimitiveList/plain: [1]}",
            "{plain: [2]}",
        ),
        ("deletion from a missing list", "{}", "{$deleteFromPrimitiveList/numbers: [1]}", "{}"),
        (
            "deletion from an empty list",
            "{numbers: []}",
            "{$deleteFromPrimitiveList/numbers: [1]}",
            "{numbers: []}",
        ),
        (
            "item changed",
            "{items: [{name: a, value: x}, {name: b}]}",
            "{items: [{name: b, value: y}]}",
            "{items: [{name: a, value: x}, {name: b, value: y}]}",
        ),
        (
            "new items come first",
            "{items: [{name: a}, {name: b}]}",
            "{items: [{name: c}]}",
            "{items: [{name: c}, {name: a}, {name: b}]}",
        ),
        (
            "item deleted",
            "{items: [{name: a}, {name: b}]}",
            "{items: [{name: a, $patch: delete}]}",
            "{items: [{name: b}]}",
        ),
        (
            "every item of the key deleted",
            "{items: [{name: a}, {name: b}, {name: a}]}",
            "{items: [{name: a, $patch: delete}]}",
            "{items: [{name: b}]}",
        ),
        (
            "missing item deleted",
            "{items: [{name: a}]}",
            "{items: [{name: b, $patch: delete}]}",
            "{items: [{name: a}]}",
        ),
        (
            "list replaced",
            "{items: [{name: a}]}",
            "{items: [{name: b}, {$patch: replace}]}",
            "{items: [{name: b}]}",
        ),
        (
            "list replaced by items of one key",
            "{items: [{name: a}]}",
            "{items: [{name: b, value: x}, {name: b, value: y}, {$patch: replace}]}",
            "{items: [{name: b, value: x}, {name: b, value: y}]}",
        ),
        ("list emptied", "{items: [{name: a}]}", "{items: [{$patch: replace}]}", "{items: []}"),
        (
            "deleted items are not added",
            "{}",
            "{items: [{name: a}, {name: b, $patch: delete}]}",
            "{items: [{name: a}]}",
        ),
        ("list removed", "{items: [{name: a}]}", "{items: null}", "{}"),
        (
            "nested lists",
            "{items: [{name: a, items: [{name: x}]}]}",
            "{items: [{name: a, items: [{name: x, value: 1}]}]}",
            "{items: [{name: a, items: [{name: x, value: 1}]}]}",
        ),
        (
            "order given",
            "{items: [{name: a}, {name: b}, {name: c}]}",
            "{$setElementOrder/items: [{name: c}, {name: a}], items: [{name: a, value: x}]}",
            "{items: [{name: b}, {name: c}, {name: a, value: x}]}",
        ),
        (
            "order alone",
            "{numbers: [1, 2, 3]}",
            "{$setElementOrder/numbers: [3, 2, 1]}",
            "{numbers: [3, 2, 1]}",
        ),
        (
            "order for a new list",
            "{}",
            "{$setElementOrder/numbers: [2, 1], numbers: [2, 1]}",
            "{numbers: [2, 1]}",
        ),
        ("order for no list", "{name: a}", "{$setElementOrder/numbers: [1]}", "{name: a}"),
        (
            "new item takes the place of a deleted one",
            "{items: [{name: a}, {name: b}, {name: d}]}",
            "{$setElementOrder/items: [{name: b}, {name: c}], items: [{name: c}, {name: a, $patch: delete}]}",
            "{items: [{name: b}, {name: d}, {name: c}]}",
        ),
        (
            "retained keys",
            "{retained: {name: a, value: b, map: {}}}",
            "{retained: {$retainKeys: [name], name: c}}",
            "{retained: {name: c}}",
        ),
        (
            "retained keys without directive",
            "{retained: {name: a, value: b}}",
            "{retained: {name: c}}",
            "{retained: {name: c, value: b}}",
        ),
        (
            "retained keys of a new value",
            "{}",
            "{retained: {$retainKeys: [name], name: c}}",
            "{retained: {name: c}}",
        ),
        (
            "retained keys of an item",
            "{sources: [{name: a, value: x}]}",
            "{sources: [{name: a, $retainKeys: [name, map], map: {k: v}}]}",
            "{sources: [{name: a, map: {k: v}}]}",
        ),
    ] {
        let got = patched(&yaml(current), &yaml(patch));
        assert_eq!(got, Ok(yaml(result)), "{situation}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn refusals_in_upstream_words() {
    for (current, patch, message) in [
        ("{map: {}}", "{map: {$patch: frob}}", "unknown patch type: frob in map: map[$patch:frob]"),
        (
            "{items: [{name: a}]}",
            "{items: [{name: a, $patch: merge}]}",
            "merging lists cannot yet be specified in the patch",
        ),
        (
            "{items: [{name: a}]}",
            "{items: [{name: a, $patch: 1}]}",
            "unknown patch type: 1 in map: map[$patch:1 name:a]",
        ),
        (
            "{items: [{name: a}]}",
            "{items: [{value: x}]}",
            "map: map[value:x] does not contain declared merge key: name",
        ),
        (
            "{items: [{value: x}]}",
            "{items: [{name: a}]}",
            "map: map[value:x] does not contain declared merge key: name",
        ),
        (
            "{items: [{name: a}]}",
            "{items: [{$patch: delete}]}",
            "map: map[$patch:delete] does not contain declared merge key: name",
        ),
        (
            "{items: [{name: a}]}",
            "{items: [a]}",
            "list element types are not identical: [[map[name:a]] [a]]",
        ),
        ("{numbers: [[1]]}", "{numbers: [[2]]}", "lists of lists are not supported"),
        (
            "{unknown: {a: b}}",
            "{unknown: {a: c}}",
            "unable to find api field in struct Item for the json field \"unknown\"",
        ),
        (
            "{numbers: [1]}",
            "{$deleteFromPrimitiveListnumbers: [1]}",
            "invalid patch format of primitive list",
        ),
        (
            "{numbers: [1]}",
            "{$setElementOrder: [1]}",
            "invalid patch format of setElementOrder list",
        ),
        (
            "{numbers: [1]}",
            "{$setElementOrder/numbers: 1}",
            "expected a []interface {}, but received a int64",
        ),
        (
            "{numbers: [1]}",
            "{$setElementOrder/numbers: [1, 2], numbers: [2, 1]}",
            "The order in patch list:\n[2 1]\n doesn't match $setElementOrder list:\n[1 2]\n",
        ),
        (
            "{retained: {}}",
            "{retained: {$retainKeys: [name], value: x}}",
            "invalid patch format of retainKeys",
        ),
        ("{retained: {}}", "{retained: {$retainKeys: name}}", "invalid patch format of retainKeys"),
        ("[]", "{}", "invalid JSON document"),
        ("{}", "1", "invalid JSON document"),
    ] {
        let error = patched(&yaml(current), &yaml(patch)).unwrap_err();
        assert_eq!(error.to_string(), message, "{patch}");
    }
    let custom = strategic("example.com/v1", "Foo", &json!({}), &json!({})).unwrap_err();
    assert_eq!(
        custom.to_string(),
        "strategic merge patch format is not supported for example.com/v1 Foo"
    );
}

#[test]
fn computed_patches() {
    for (situation, original, modified, patch) in [
        ("nothing", "{name: a}", "{name: a}", "{}"),
        (
            "field added, changed, removed",
            "{name: a, value: x}",
            "{name: b, map: {k: v}}",
            "{name: b, map: {k: v}, value: null}",
        ),
        ("inside a map", "{map: {a: x, b: y}}", "{map: {a: z}}", "{map: {a: z, b: null}}"),
        ("atomic list", "{plain: [1]}", "{plain: [1, 2]}", "{plain: [1, 2]}"),
        ("replaced map", "{replaced: {a: 1}}", "{replaced: {b: 1}}", "{replaced: {b: 1}}"),
        (
            "scalars",
            "{numbers: [1, 2, 2]}",
            "{numbers: [3, 1]}",
            "{numbers: [3], $deleteFromPrimitiveList/numbers: [2], $setElementOrder/numbers: [3, 1]}",
        ),
        (
            "items",
            "{items: [{name: a, value: x}, {name: b}]}",
            "{items: [{name: c}, {name: a, value: y}]}",
            "{items: [{name: c}, {name: a, value: y}, {name: b, $patch: delete}], $setElementOrder/items: [{name: c}, {name: a}]}",
        ),
        (
            "items only in another order",
            "{items: [{name: a}, {name: b}]}",
            "{items: [{name: b}, {name: a}]}",
            "{$setElementOrder/items: [{name: b}, {name: a}]}",
        ),
        ("list from nothing", "{items: []}", "{items: [{name: a}]}", "{items: [{name: a}]}"),
        (
            "retained keys",
            "{retained: {name: a, value: b}}",
            "{retained: {name: c}}",
            "{retained: {name: c, value: null, $retainKeys: [name]}}",
        ),
        (
            "retained keys of an item",
            "{sources: [{name: a, value: x}]}",
            "{sources: [{name: a, map: {}}]}",
            "{sources: [{name: a, map: {}, value: null, $retainKeys: [map, name]}], $setElementOrder/sources: [{name: a}]}",
        ),
    ] {
        assert_eq!(computed(&yaml(original), &yaml(modified)), yaml(patch), "{situation}");
    }
}

#[test]
fn what_an_apply_sends_and_what_it_leaves() {
    for (situation, original, modified, current, patch, result) in [
        (
            "nothing to do",
            "{name: a}",
            "{name: a}",
            "{name: a, value: theirs}",
            "{}",
            "{name: a, value: theirs}",
        ),
        (
            "drift is put right",
            "{value: x}",
            "{value: x}",
            "{value: y}",
            "{value: x}",
            "{value: x}",
        ),
        (
            "what is not wanted any more goes",
            "{map: {a: x, b: y}}",
            "{map: {a: x}}",
            "{map: {a: x, b: y, c: theirs}}",
            "{map: {b: null}}",
            "{map: {a: x, c: theirs}}",
        ),
        ("it goes although it is gone", "{value: x}", "{}", "{}", "{value: null}", "{}"),
        (
            "others' items stay",
            "{items: [{name: a}, {name: b}]}",
            "{items: [{name: a, value: x}]}",
            "{items: [{name: a}, {name: b}, {name: theirs}]}",
            "{$setElementOrder/items: [{name: a}], items: [{name: a, value: x}, {name: b, $patch: delete}]}",
            "{items: [{name: a, value: x}, {name: theirs}]}",
        ),
        (
            "scalars",
            "{numbers: [1, 2]}",
            "{numbers: [2, 3]}",
            "{numbers: [1, 2, 9]}",
            "{$setElementOrder/numbers: [2, 3], $deleteFromPrimitiveList/numbers: [1], numbers: [3]}",
            "{numbers: [2, 3, 9]}",
        ),
        (
            "others' fields of a retained value go",
            "{retained: {name: a}}",
            "{retained: {name: b}}",
            "{retained: {name: a, value: theirs}}",
            "{retained: {name: b, $retainKeys: [name]}}",
            "{retained: {name: b}}",
        ),
        ("explicit null", "{}", "{value: null}", "{value: x}", "{value: null}", "{}"),
    ] {
        let current = yaml(current);
        let got = applied(&yaml(original), &yaml(modified), &current);
        assert_eq!(got, yaml(patch), "{situation}");
        assert_eq!(patched(&current, &got), Ok(yaml(result)), "{situation}");
    }
}

#[test]
fn real_kinds_merge_by_their_keys() {
    let current = yaml(
        "spec: {template: {spec: {containers: [{name: web, image: nginx, env: [{name: A, value: x}],
         ports: [{containerPort: 80, protocol: TCP}]}], volumes: [{name: v, emptyDir: {}}]}},
         strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1}}}",
    );
    let patch = yaml(
        "spec: {template: {spec: {containers: [{name: web, image: httpd, env: [{name: B, value: y}],
         ports: [{containerPort: 443}]}], volumes: [{$retainKeys: [name, configMap], name: v, configMap: {name: c}}]}},
         strategy: {$retainKeys: [type], type: Recreate}}",
    );
    assert_eq!(
        strategic("apps/v1", "Deployment", &current, &patch),
        Ok(yaml(
            "spec: {template: {spec: {containers: [{name: web, image: httpd,
             env: [{name: B, value: y}, {name: A, value: x}],
             ports: [{containerPort: 443}, {containerPort: 80, protocol: TCP}]}],
             volumes: [{name: v, configMap: {name: c}}]}}, strategy: {type: Recreate}}",
        ))
    );
}

/// The deepest values that the decoders let through fit a thread's stack.
#[test]
fn deep_values_do_not_exhaust_the_stack() {
    let nested = |leaf: i64| {
        let lists = (0..60).fold(json!(leaf), |inner, _| json!([inner]));
        (0..60).fold(lists, |inner, _| json!({"a": inner}))
    };
    let (old, new) = (json!({"map": nested(1)}), json!({"map": nested(2)}));
    assert_eq!(patched(&old, &new), Ok(new.clone()));
    assert_eq!(computed(&old, &new), new);
    assert_eq!(applied(&old, &new, &old), new);
    let items = |leaf: i64| {
        (0..60).fold(
            json!({"name": "x", "map": {"v": leaf}}),
            |inner, _| json!({"name": "x", "items": [inner]}),
        )
    };
    assert_eq!(patched(&items(1), &items(2)), Ok(items(2)));
    assert_eq!(patched(&items(1), &computed(&items(1), &items(2))), Ok(items(2)));
}

fn any_item() -> impl Strategy<Value = Value> {
    let scalars = proptest::collection::btree_set(0..5_i64, 0..4);
    let map = proptest::option::of(proptest::collection::btree_map("[a-c]", "[x-z]", 0..3));
    let leaf = ("[a-c]", proptest::option::of("[x-z]"), scalars, map).prop_map(
        |(name, value, numbers, map)| {
            let mut item = json!({"name": name, "numbers": numbers, "plain": numbers});
            if let Some(value) = value {
                item["value"] = json!(value);
            }
            if let Some(map) = map {
                item["map"] = json!(map);
            }
            item
        },
    );
    leaf.prop_recursive(3, 20, 3, |inner| {
        let items = proptest::collection::btree_map("[a-d]", inner.clone(), 0..4);
        (inner, items).prop_map(|(mut item, items)| {
            let named = |(name, mut item): (&String, Value)| {
                item["name"] = json!(name);
                item
            };
            let list: Vec<Value> =
                items.iter().map(|(name, item)| named((name, item.clone()))).collect();
            item["items"] = json!(list);
            item["sources"] = json!(list);
            item["retained"] = list.first().cloned().unwrap_or(json!({}));
            item
        })
    })
}

proptest! {
    /// A computed patch leads from one object to the other, lists' order included.
    #[test]
    fn a_computed_patch_applies(original in any_item(), modified in any_item()) {
        let patch = computed(&original, &modified);
        prop_assert_eq!(patched(&original, &patch), Ok(modified));
    }

    /// After an apply, nothing is left to apply.
    #[test]
    fn an_apply_settles(original in any_item(), modified in any_item(), current in any_item()) {
        let live = patched(&current, &applied(&original, &modified, &current)).unwrap();
        let again = applied(&modified, &modified, &live);
        prop_assert_eq!(patched(&live, &again), Ok(live));
    }

    #[test]
    fn any_patch_applies_or_is_refused(
        current in any_item(),
        text in "\\{(items|numbers|retained|\\$patch|\\$retainKeys|\\$setElementOrder/items|\\$deleteFromPrimitiveList/numbers): (1|a|\\[\\]|\\[1\\]|\\[\\{name: a\\}\\]|\\{\\}|null)\\}",
    ) {
        let _ = patched(&current, &yaml(&text));
    }
}
