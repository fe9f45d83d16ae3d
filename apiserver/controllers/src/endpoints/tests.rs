//! How pods become subsets.

use serde_json::{Value, json};

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
    let (kept, truncated) = truncate(subsets(&one, &pods[..1000]));
    assert!(!truncated);
    assert_eq!(shape(&kept), [(vec![80], 700, 300)]);
}

#[test]
fn what_is_right_already_is_not_written() {
    let one = service(json!([{ "port": 80 }]));
    let pods = [pod(1, true, None)];
    let Some(Write::Create(Object::Endpoints(made))) = plan(&one, &pods, None) else { panic!() };
    assert_eq!(made.metadata.labels.as_ref().unwrap()[MANAGED_BY], MANAGER);
    assert_eq!(made.metadata.labels.as_ref().unwrap()["team"], "a");
    assert_eq!(plan(&one, &pods, Some(&made)), None);
    let changed = plan(&one, &[pod(1, false, None)], Some(&made));
    assert!(matches!(changed, Some(Write::Update(_))), "{changed:?}");
}
