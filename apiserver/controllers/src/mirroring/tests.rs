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
        "spec": { "selector": selector, "ipFamilies": ["IPv4", "IPv6"] },
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
    let writes = plan(Some(&endpoints(|_| {})), Some(&service(Value::Null)), &[], &[]);
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
    let left_behind = |e: &mut Value| {
        e["metadata"]["labels"][endpoints::MANAGED_BY] = endpoints::MANAGER.into();
    };
    let cut_off = |e: &mut Value| {
        left_behind(e);
        e["metadata"]["annotations"][endpoints::OVER_CAPACITY] = "truncated".into();
    };
    assert!(is_mirrored(&endpoints(|_| {}), &plain));
    assert!(!is_mirrored(&endpoints(skip), &plain));
    assert!(!is_mirrored(&endpoints(leader), &plain));
    assert!(is_mirrored(&endpoints(left_behind), &plain));
    assert!(!is_mirrored(&endpoints(cut_off), &plain), "its slices hold more than it does");
    assert!(!is_mirrored(&endpoints(|_| {}), &service(json!({ "app": "web" }))));
}

/// An empty slice of the endpoint slice controller.
fn placeholder(family: &str) -> Arc<EndpointSlice> {
    let slice = json!({ "metadata": {}, "addressType": family, "endpoints": [] });
    Arc::new(serde_json::from_value(slice).unwrap())
}

#[test]
fn mirrors_make_room_only_for_slices_that_are_there() {
    let original = endpoints(|_| {});
    let writes = plan(Some(&original), Some(&service(Value::Null)), &[], &[]);
    let mirrors: Vec<Arc<EndpointSlice>> =
        made(&writes).into_iter().map(|slice| Arc::new(slice.clone())).collect();
    let selecting = service(json!({ "app": "web" }));
    let with = |replacing: &[Arc<EndpointSlice>]| {
        plan(Some(&original), Some(&selecting), &mirrors, replacing).len()
    };
    assert_eq!(with(&[]), 0, "nobody has spoken for the Service yet");
    assert_eq!(with(&[placeholder("IPv4")]), 0, "nor for its second family");
    assert_eq!(with(&[placeholder("IPv4"), placeholder("IPv6")]), 2);
    let mut renamed = selecting.clone();
    renamed.spec.as_mut().unwrap().type_ = Some("ExternalName".to_owned());
    assert_eq!(plan(Some(&original), Some(&renamed), &mirrors, &[]).len(), 2);
}

#[test]
fn a_family_is_taken_over_when_all_ports_of_all_families_are_mirrored() {
    let two_ports = endpoints(|e| {
        e["subsets"] = json!([
            { "addresses": [{ "ip": "1.1.1.1" }], "ports": [{ "port": 80 }] },
            { "addresses": [{ "ip": "2.2.2.2" }], "ports": [{ "port": 90 }] },
        ]);
    });
    let writes = plan(Some(&two_ports), Some(&service(Value::Null)), &[], &[]);
    let mirrors: Vec<Arc<EndpointSlice>> =
        made(&writes).into_iter().map(|slice| Arc::new(slice.clone())).collect();
    assert_eq!(mirrors.len(), 2);
    assert_eq!(taken_over(&two_ports, &[]), Vec::<String>::new());
    assert_eq!(taken_over(&two_ports, &mirrors[..1]), Vec::<String>::new());
    assert_eq!(taken_over(&two_ports, &mirrors), ["IPv4", "IPv4"]);
    let empty = endpoints(|e| e["subsets"] = Value::Null);
    assert_eq!(taken_over(&empty, &mirrors), Vec::<String>::new());
}

#[test]
fn an_address_of_two_subsets_stands_once_and_not_ready_counts() {
    let twice = endpoints(|e| {
        e["subsets"] = json!([
            { "addresses": [{ "ip": "1.1.1.1" }, { "ip": "2.2.2.2" }], "ports": [{ "port": 80 }] },
            { "notReadyAddresses": [{ "ip": "2.2.2.2" }], "ports": [{ "port": 80 }] },
        ]);
    });
    let groups = Mirrored::of(&twice).groups;
    let [group] = groups.as_slice() else { panic!("{groups:?}") };
    let found: Vec<(&str, bool)> = group
        .endpoints
        .iter()
        .map(|e| (e.addresses[0].as_str(), e.conditions.as_ref().unwrap().ready.unwrap()))
        .collect();
    assert_eq!(found, [("1.1.1.1", true), ("2.2.2.2", false)]);
}

#[test]
fn what_cannot_be_mirrored_is_told_of_once_per_change() {
    let many = endpoints(|e| {
        let mut all: Vec<Value> =
            (0..1200).map(|n| json!({ "ip": format!("10.0.{}.{}", n / 250, n % 250) })).collect();
        all.push(json!({ "ip": "10.0.0.300" }));
        e["subsets"] = json!([{ "addresses": all, "ports": [{ "port": 80 }] }]);
    });
    let plain = service(Value::Null);
    let writes = plan(Some(&many), Some(&plain), &[], &[]);
    let told: Vec<String> = writes
        .iter()
        .filter_map(|write| match write {
            Write::Event(said) => Some(format!("{}: {}", said.reason, said.message)),
            _ => None,
        })
        .collect();
    assert_eq!(
        told,
        [
            "InvalidIPAddress: Skipped 1 invalid IP addresses when mirroring to EndpointSlices",
            "TooManyAddressesToMirror: A max of 1000 addresses can be mirrored to EndpointSlices \
             per Endpoints subset. 200 addresses were skipped",
        ]
    );
    let mirrors: Vec<Arc<EndpointSlice>> =
        made(&writes).into_iter().map(|slice| Arc::new(slice.clone())).collect();
    let [mirror] = mirrors.as_slice() else { panic!("one slice: {}", mirrors.len()) };
    assert_eq!(mirror.endpoints.as_ref().unwrap().len(), 1000);
    assert_eq!(plan(Some(&many), Some(&plain), &mirrors, &[]), []);
}

#[test]
fn an_annotation_that_goes_from_the_original_goes_from_the_mirror() {
    let plain = service(Value::Null);
    let writes = plan(Some(&endpoints(|_| {})), Some(&plain), &[], &[]);
    let mirrors: Vec<Arc<EndpointSlice>> =
        made(&writes).into_iter().map(|slice| Arc::new(slice.clone())).collect();
    let bare = endpoints(|e| e["metadata"]["annotations"] = Value::Null);
    let writes = plan(Some(&bare), Some(&plain), &mirrors, &[]);
    assert_eq!(writes.len(), 2);
    for write in &writes {
        let Write::Update(Object::EndpointSlice(slice)) = write else { panic!("{write:?}") };
        assert_eq!(slice.metadata.annotations, None);
    }
}

#[test]
fn a_mirror_without_original_goes() {
    let writes = plan(Some(&endpoints(|_| {})), Some(&service(Value::Null)), &[], &[]);
    let existing: Vec<Arc<EndpointSlice>> =
        made(&writes).into_iter().map(|slice| Arc::new(slice.clone())).collect();
    let writes = plan(None, Some(&service(Value::Null)), &existing, &[]);
    assert_eq!(writes.len(), 2);
    assert!(writes.iter().all(|write| matches!(write, Write::Delete { .. })), "{writes:?}");
}
