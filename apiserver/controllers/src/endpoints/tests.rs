//! How pods become subsets.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::subsets::Entry;
use super::*;
use crate::view::Object;

fn service(ports: Value) -> Service {
    serde_json::from_value(json!({
        "metadata": { "name": "web", "namespace": "shop", "labels": { "team": "a" } },
        "spec": { "clusterIP": "10.96.0.9", "selector": { "app": "web" }, "ports": ports },
    }))
    .unwrap()
}

fn pod(number: usize, ready: bool, named: Option<i32>) -> Arc<Pod> {
    let ports = named.map(|port| json!([{ "name": "web", "containerPort": port }]));
    Arc::new(
        serde_json::from_value(json!({
            "metadata": { "name": format!("p{number}"), "namespace": "shop", "uid": format!("u{number:04}") },
            "spec": { "nodeName": "n1", "containers": [{ "name": "c", "ports": ports }] },
            "status": {
                "phase": "Running", "podIP": format!("10.244.{}.{}", number / 250, number % 250),
                "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }],
            },
        }))
        .unwrap(),
    )
}

/// Ports, addresses, addresses that are not ready, of each subset.
fn shape(subsets: &[EndpointSubset]) -> Vec<(Vec<i32>, usize, usize)> {
    let count = |list: &Option<Vec<EndpointAddress>>| list.as_ref().map_or(0, Vec::len);
    subsets
        .iter()
        .map(|subset| {
            let ports = subset.ports.iter().flatten().map(|port| port.port).collect();
            (ports, count(&subset.addresses), count(&subset.not_ready_addresses))
        })
        .collect()
}

#[test]
fn pods_with_the_same_ports_share_a_subset() {
    let two_ports = service(json!([
        { "name": "http", "port": 80, "targetPort": 8080 }, { "name": "metrics", "port": 9100 },
    ]));
    let pods = [pod(1, true, None), pod(2, true, None), pod(3, false, None)];
    assert_eq!(shape(&subsets(&two_ports, &pods)), [(vec![8080, 9100], 2, 1)]);
}

#[test]
fn pods_with_different_ports_do_not() {
    let named = service(json!([{ "port": 80, "targetPort": "web" }]));
    let pods = [pod(1, true, Some(8080)), pod(2, true, Some(9090)), pod(3, true, None)];
    assert_eq!(shape(&subsets(&named, &pods)), [(vec![8080], 1, 0), (vec![9090], 1, 0)]);
}

#[test]
fn beyond_a_thousand_addresses_the_ready_ones_stay() {
    let one = service(json!([{ "port": 80 }]));
    let pods: Vec<Arc<Pod>> = (0..1200).map(|n| pod(n, n >= 300, None)).collect();
    let (cut, truncated) = truncate(subsets(&one, &pods));
    assert!(truncated);
    assert_eq!(shape(&cut), [(vec![80], 900, 100)]);
    let pods: Vec<Arc<Pod>> = (0..1200).map(|n| pod(n, n >= 100, None)).collect();
    assert_eq!(shape(&truncate(subsets(&one, &pods)).0), [(vec![80], 1000, 0)]);
    let pods: Vec<Arc<Pod>> = (0..1000).map(|n| pod(n, n >= 300, None)).collect();
    let (kept, truncated) = truncate(subsets(&one, &pods));
    assert!(!truncated);
    assert_eq!(shape(&kept), [(vec![80], 700, 300)]);
}

#[test]
fn each_subset_gives_its_share_of_what_is_cut_off() {
    let named = service(json!([{ "port": 80, "targetPort": "web" }]));
    let port = |n: usize| if n < 900 { 8080 } else { 9090 };
    let pods: Vec<Arc<Pod>> = (0..1200).map(|n| pod(n, true, Some(port(n)))).collect();
    let (cut, _) = truncate(subsets(&named, &pods));
    assert_eq!(shape(&cut), [(vec![8080], 750, 0), (vec![9090], 250, 0)]);
}

#[test]
fn the_services_first_family_is_the_one_that_counts() {
    let families = |families: Value| {
        let mut one = service(json!([{ "port": 80 }]));
        one.spec.as_mut().unwrap().ip_families = serde_json::from_value(families).unwrap();
        one
    };
    let mut both = (*pod(1, true, None)).clone();
    both.status.as_mut().unwrap().pod_ips =
        serde_json::from_value(json!([{ "ip": "10.244.0.1" }, { "ip": "fd00::1" }])).unwrap();
    let pods = [Arc::new(both), pod(2, true, None)];
    let ips = |service: &Service| -> Vec<String> {
        let addresses = subsets(service, &pods).into_iter().filter_map(|s| s.addresses).flatten();
        addresses.map(|address| address.ip).collect()
    };
    assert_eq!(ips(&families(json!(["IPv4", "IPv6"]))), ["10.244.0.1", "10.244.0.2"]);
    assert_eq!(ips(&families(json!(["IPv6", "IPv4"]))), ["fd00::1"]);
}

#[test]
fn a_headless_service_without_ports_still_has_addresses() {
    let mut headless = service(json!([]));
    headless.spec.as_mut().unwrap().cluster_ip = Some("None".to_owned());
    assert_eq!(shape(&subsets(&headless, &[pod(1, true, None)])), [(vec![], 1, 0)]);
}

#[test]
fn packing_what_was_unpacked_gives_it_back() {
    let two_ports = service(json!([
        { "name": "http", "port": 80, "targetPort": "web" }, { "name": "metrics", "port": 9100 },
    ]));
    let pods = [pod(1, true, Some(8080)), pod(2, false, Some(9090)), pod(3, true, None)];
    let packed = subsets(&two_ports, &pods);
    assert_eq!(packed.len(), 3, "{packed:?}");
    assert_eq!(pack(unpack(&packed)), packed);
}

#[test]
fn what_is_right_already_is_not_written() {
    let one = service(json!([{ "port": 80 }]));
    let pods = [pod(1, true, None)];
    let Some(Write::Create(Object::Endpoints(made))) = plan(&one, &pods, None, None) else {
        panic!()
    };
    assert_eq!(made.metadata.labels.as_ref().unwrap()[MANAGED_BY], MANAGER);
    assert_eq!(made.metadata.labels.as_ref().unwrap()["team"], "a");
    assert_eq!(plan(&one, &pods, Some(&made), Some("later".to_owned())), None);
    let changed = plan(&one, &[pod(1, false, None)], Some(&made), Some("later".to_owned()));
    let Some(Write::Update(Object::Endpoints(changed))) = changed else { panic!("{changed:?}") };
    assert_eq!(meta::annotation(&*changed, LAST_CHANGE), Some("later"));
}

/// What entries say: for each port of each address, whether it is ready; not ready prevails.
fn meaning(entries: &[Entry]) -> BTreeMap<(Option<Port>, String), bool> {
    let mut said = BTreeMap::new();
    for (port, address, ready) in entries {
        *said.entry((port.clone(), address.ip.clone())).or_insert(true) &= ready;
    }
    said
}

fn some_entry() -> impl Strategy<Value = Entry> {
    (prop::option::of(1_i32..4), 0_u8..6, any::<bool>()).prop_map(|(number, ip, ready)| {
        let port = number.map(|number| Port {
            name: String::new(),
            protocol: "TCP".to_owned(),
            number,
            app_protocol: None,
        });
        (port, EndpointAddress { ip: format!("10.0.0.{ip}"), ..EndpointAddress::default() }, ready)
    })
}

proptest! {
    #[test]
    fn packing_keeps_what_is_meant_whatever_the_order(
        entries in prop::collection::vec(some_entry(), 0..40),
    ) {
        let packed = pack(entries.clone());
        prop_assert_eq!(meaning(&unpack(&packed)), meaning(&entries));
        prop_assert_eq!(unpack(&packed).len(), meaning(&entries).len(), "said once");
        prop_assert_eq!(&pack(entries.into_iter().rev()), &packed);
        prop_assert_eq!(&pack(unpack(&packed)), &packed);
    }
}
