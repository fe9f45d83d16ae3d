//! The patches of apply, for typed kinds and for others.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{diff_merge, diff_strategic, three_way_merge, three_way_strategic};
use crate::patch::{StrategicError, merge};

#[test]
fn an_apply_of_a_deployment_scaled_by_somebody_else() {
    let applied = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"template": {"spec": {"containers": [{"name": "web", "image": "nginx:1"}]}}}});
    let mut wanted = applied.clone();
    wanted["spec"]["template"]["spec"]["containers"][0]["image"] = json!("nginx:2");
    let mut live = applied.clone();
    live["spec"]["replicas"] = json!(5);
    live["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
    assert_eq!(
        three_way_strategic("apps/v1", "Deployment", Some(&applied), &wanted, &live),
        Ok(json!({"spec": {"template": {"spec": {
            "$setElementOrder/containers": [{"name": "web"}],
            "containers": [{"name": "web", "image": "nginx:2"}]
        }}}}))
    );
}

#[test]
fn without_a_last_applied_object_nothing_is_removed() {
    let live = json!({"metadata": {"name": "a", "labels": {"x": "y"}}, "data": {"k": "v"}});
    let wanted = json!({"metadata": {"name": "a"}, "data": {"k": "w"}});
    let patch = json!({"data": {"k": "w"}});
    assert_eq!(three_way_strategic("v1", "ConfigMap", None, &wanted, &live), Ok(patch.clone()));
    assert_eq!(three_way_merge(None, &wanted, &live), Ok(patch));
}

#[test]
fn an_object_may_not_become_another_one() {
    for (modified, current) in [
        (json!({"kind": "A"}), json!({"kind": "B"})),
        (json!({"apiVersion": "v1"}), json!({"apiVersion": "v2"})),
        (json!({"metadata": {"name": "a"}}), json!({"metadata": {"name": "b"}})),
    ] {
        let error = Err(StrategicError::IdentityChanged);
        assert_eq!(three_way_merge(None, &modified, &current), error);
        assert_eq!(three_way_strategic("v1", "ConfigMap", None, &modified, &current), error);
    }
}

#[test]
fn merge_patches_of_an_apply() {
    for (original, modified, current, patch) in [
        (json!({}), json!({"a": 1}), json!({"a": 1, "b": 2}), json!({})),
        (json!({"a": 1}), json!({}), json!({"a": 1, "b": 2}), json!({"a": null})),
        (json!({"l": [1]}), json!({"l": [1, 2]}), json!({"l": [1, 3]}), json!({"l": [1, 2]})),
        (
            json!({"m": {"x": 1, "y": 1}}),
            json!({"m": {"x": 2}}),
            json!({"m": {"x": 1, "y": 1, "z": 1}}),
            json!({"m": {"x": 2, "y": null}}),
        ),
        (json!({}), json!({"m": {}}), json!({}), json!({"m": {}})),
    ] {
        assert_eq!(three_way_merge(Some(&original), &modified, &current), Ok(patch));
    }
}

#[test]
fn differences_of_a_kind() {
    let old = json!({"spec": {"ports": [{"port": 80}, {"port": 443}]}});
    let new = json!({"spec": {"ports": [{"port": 80, "name": "web"}]}});
    assert_eq!(
        diff_strategic("v1", "Service", &old, &new),
        Ok(json!({"spec": {
            "$setElementOrder/ports": [{"port": 80}],
            "ports": [{"port": 80, "name": "web"}, {"port": 443, "$patch": "delete"}]
        }}))
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![(0..3_i64).prop_map(Value::from), "[a-b]".prop_map(Value::from)];
    leaf.prop_recursive(4, 30, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn a_merge_patch_leads_from_one_value_to_the_other(old in any_json(), new in any_json()) {
        prop_assert_eq!(merge(&old, &diff_merge(&old, &new)), new);
    }
}
