//! What a namespace is given.

use serde_json::json;

use super::*;
use crate::view::Object;

fn namespace(phase: &str) -> Namespace {
    let value = json!({ "metadata": { "name": "shop" }, "status": { "phase": phase } });
    serde_json::from_value(value).unwrap()
}

#[test]
fn a_new_namespace_gets_both_and_one_that_goes_gets_nothing() {
    let writes = plan(&namespace("Active"), None, None, "PEM");
    let [Write::Create(Object::ServiceAccount(account)), Write::Create(Object::ConfigMap(map))] =
        writes.as_slice()
    else {
        panic!("{writes:?}")
    };
    assert_eq!((meta::namespace(&**account), meta::name(&**account)), ("shop", "default"));
    assert_eq!((meta::namespace(&**map), meta::name(&**map)), ("shop", "kube-root-ca.crt"));
    assert_eq!(map.data.as_ref().unwrap()["ca.crt"], "PEM");
    assert!(plan(&namespace("Terminating"), None, None, "PEM").is_empty());
}

#[test]
fn a_map_that_somebody_changed_is_put_right() {
    let writes = plan(&namespace("Active"), None, None, "PEM");
    let Write::Create(Object::ConfigMap(map)) = &writes[1] else { panic!("{writes:?}") };
    let account = ServiceAccount::default();
    assert!(plan(&namespace("Active"), Some(&account), Some(map), "PEM").is_empty());
    let writes = plan(&namespace("Active"), Some(&account), Some(map), "NEW");
    let [Write::Update(Object::ConfigMap(updated))] = writes.as_slice() else {
        panic!("{writes:?}")
    };
    assert_eq!(updated.data.as_ref().unwrap()["ca.crt"], "NEW");
}
