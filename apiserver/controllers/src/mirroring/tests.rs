//! Which Endpoints are mirrored, and how.

use serde_json::{Value, json};

use super::*;
use crate::view::Object;

fn endpoints(change: impl FnOnce(&mut Value)) -> Endpoints {
    let mut endpoints = json!({
        "metadata": {
            "name": "outside", "namespace": "shop", "uid": "e", "labels": { "team": "a" },
            "annotations": { "note": "x", LAST_APPLIED: "{}" },
        },
        "subsets": [{
            "addresses": [{ "ip": "11.11.11.11" }, { "ip": "fd00::1", "nodeName": "n1" }],
            "notReadyAddresses": [{ "ip": "22.22.22.22", "hostname": "two" }],
            "ports": [{ "name": "http", "port": 80 }],
        }],
    });
    change(&mut endpoints);
    serde_json::from_value(endpoints).unwrap()
}

fn service(selector: Value) -> Service {
    serde_json::from_value(json!({
        "metadata": { "name": "outside", "namespace": "shop" },
        "spec": { "selector": selector },
    }))
    .unwrap()
}

fn made(writes: &[Write]) -> Vec<&EndpointSlice> {
    let slice = |write| match write {
        &Write::Create(Object::EndpointSlice(ref slice)) => Some(&**slice),
        _ => None,
    };
    writes.iter().filter_map(slice).collect()
}

#[test]
fn each_family_has_a_slice_with_all_that_the_endpoints_say() {
    let writes = plan(Some(&endpoints(|_| {})), Some(&service(Value::Null)), &[]);
    let slices = made(&writes);
    let found: Vec<(&str, Vec<(&str, bool)>)> = slices
        .iter()
        .map(|slice| {
            let all = slice.endpoints.iter().flatten().map(|endpoint| {
                let ready = endpoint.conditions.as_ref().unwrap().ready.unwrap();
                (endpoint.addresses[0].as_str(), ready)
            });
            (slice.address_type.as_str(), all.collect())
        })
        .collect();
    assert_eq!(
        found,
        [
            ("IPv4", vec![("11.11.11.11", true), ("22.22.22.22", false)]),
            ("IPv6", vec![("fd00::1", true)]),
        ]
    );
    let slice = slices[0];
    assert_eq!(slice.metadata.generate_name.as_deref(), Some("outside-"));
    assert_eq!(meta::label(slice, "team"), Some("a"));
    assert_eq!(meta::label(slice, SERVICE_NAME), Some("outside"));
    assert_eq!(meta::label(slice, MANAGED_BY), Some(MANAGER));
    assert_eq!(meta::annotation(slice, "note"), Some("x"));
    assert_eq!(meta::annotation(slice, LAST_APPLIED), None);
    assert_eq!(meta::controller_of(&slice.metadata).unwrap().kind, "Endpoints");
}

#[test]
fn what_is_not_the_users_is_not_mirrored() {
    let plain = service(Value::Null);
    let skip = |e: &mut Value| e["metadata"]["labels"][SKIP_MIRROR] = "true".into();
    let leader = |e: &mut Value| e["metadata"]["annotations"][LEADER] = "me".into();
    let ours = |e: &mut Value| {
        e["metadata"]["labels"][endpoints::MANAGED_BY] = endpoints::MANAGER.into();
    };
    assert!(is_mirrored(&endpoints(|_| {}), Some(&plain)));
    assert!(!is_mirrored(&endpoints(skip), Some(&plain)));
    assert!(!is_mirrored(&endpoints(leader), Some(&plain)));
    assert!(!is_mirrored(&endpoints(ours), Some(&plain)));
    assert!(!is_mirrored(&endpoints(|_| {}), None));
    assert!(!is_mirrored(&endpoints(|_| {}), Some(&service(json!({ "app": "web" })))));
}

#[test]
fn a_mirror_without_original_goes() {
    let writes = plan(Some(&endpoints(|_| {})), Some(&service(Value::Null)), &[]);
    let existing: Vec<Arc<EndpointSlice>> =
        made(&writes).into_iter().map(|slice| Arc::new(slice.clone())).collect();
    let writes = plan(None, Some(&service(Value::Null)), &existing);
    assert_eq!(writes.len(), 2);
    assert!(writes.iter().all(|write| matches!(write, Write::Delete { .. })), "{writes:?}");
}
