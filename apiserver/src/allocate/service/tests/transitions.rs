//! Every type of Service into every other: what is kept, what is given back, what is drawn anew.
//!
//! Each pair goes the two ways in which clients change a type: a patch of `spec.type` alone, which
//! leaves everything of the old object in place, and a PUT of a manifest that knows nothing of it.

use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};
use store::{Store, Txn};

use super::super::*;
use super::{ranges, service, store, taken};

const KINDS: [&str; 5] = ["ClusterIP", "Headless", "NodePort", "LoadBalancer", "ExternalName"];

/// The manifest of each kind.
fn manifest(kind: &str) -> Value {
    let mut spec = json!({ "type": kind, "selector": { "app": "web" }, "ports": [{ "port": 80 }] });
    match kind {
        "Headless" => {
            spec["type"] = json!("ClusterIP");
            spec["clusterIP"] = json!("None");
        }
        "LoadBalancer" => {
            spec["externalTrafficPolicy"] = json!("Local");
            spec["loadBalancerClass"] = json!("example.com/own");
            spec["sessionAffinity"] = json!("ClientIP");
            spec["trafficDistribution"] = json!("PreferSameNode");
        }
        "ExternalName" => spec["externalName"] = json!("a.example"),
        _ => {}
    }
    spec
}

/// What a Service has: its parts in the order of the tables below.
fn parts(service: &Service) -> Value {
    let spec = serde_json::to_value(service.spec.as_ref().unwrap()).unwrap();
    let status = service.status.clone().unwrap_or_default();
    let balanced = status.load_balancer.is_some_and(|b| b.ingress.is_some());
    json!({
        "address": spec["clusterIP"], "port": spec["ports"][0]["nodePort"],
        "health": spec["healthCheckNodePort"], "families": spec["ipFamilies"],
        "external": spec["externalTrafficPolicy"], "allocate": spec["allocateLoadBalancerNodePorts"],
        "class": spec["loadBalancerClass"], "affinity": spec["sessionAffinityConfig"],
        "distribution": spec["trafficDistribution"], "balanced": balanced,
    })
}

/// Sends a change through the strategy and the allocator, and commits it unless it is refused.
async fn change(store: &Store, spec: &Value, old: &Service) -> Result<Service, String> {
    let row = services_row().unwrap();
    let mut new = service("web", spec.clone());
    new.metadata.clone_from(&old.metadata);
    row.strategy.default(&mut new);
    row.strategy.prepare_update(&mut new, old);
    let txn = update(&ranges(), &store.snapshot(), &mut new, old).map_err(|e| e.to_string())?;
    let mut errors = row.strategy.validate(&new);
    errors.extend(row.strategy.validate_update(&new, old));
    if let Some(first) = errors.first() {
        return Err(first.to_string());
    }
    store.commit(txn).await.unwrap();
    Ok(new)
}

async fn stored(store: &Store, kind: &str) -> Service {
    let row = services_row().unwrap();
    let mut new = service("web", manifest(kind));
    row.strategy.default(&mut new);
    row.strategy.prepare_create(&mut new);
    let txn = create(&ranges(), &store.snapshot(), &mut new).unwrap();
    assert_eq!(row.strategy.validate(&new), [], "{kind}");
    store.commit(txn).await.unwrap();
    if kind == "LoadBalancer" {
        let status = json!({ "loadBalancer": { "ingress": [{ "ip": "10.9.0.1" }] } });
        new.status = serde_json::from_value(status).unwrap();
    }
    new
}

/// How many addresses and ports a kind holds.
fn holds(kind: &str) -> usize {
    match kind {
        "ClusterIP" => 1,
        "NodePort" => 2,
        "LoadBalancer" => 3,
        _ => 0,
    }
}

const HEADLESS_FOREVER: &str =
    r#"spec.clusterIPs[0]: Invalid value: ["None"]: may not change once set"#;

/// Why a pair is refused; upstream refuses the same ones.
fn refusal(from: &str, to: &str, patched: bool) -> Option<&'static str> {
    match (from, to) {
        ("ExternalName" | "Headless", "Headless") => None,
        (_, "Headless") if patched => None,
        (_, "Headless") => Some(HEADLESS_FOREVER),
        ("Headless", "NodePort") => Some(
            r#"spec.clusterIPs[0]: Invalid value: "None": may not be set to 'None' for NodePort services"#,
        ),
        ("Headless", "LoadBalancer") => Some(
            r#"spec.clusterIPs[0]: Invalid value: "None": may not be set to 'None' for LoadBalancer services"#,
        ),
        _ => None,
    }
}

/// What a pair makes of the parts of the old Service.
fn check(from: &str, to: &str, patched: bool, old: &Service, new: &Service) {
    let (before, after) = (parts(old), parts(new));
    let case =
        format!("{from} to {to}, {}: {before} to {after}", if patched { "patched" } else { "put" });
    let set = |part: &str| !after[part].is_null();
    let kept = |part: &str| after[part] == before[part];
    let has_ports = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");

    // The address stays as long as there is one; a type without one gives it back.
    match (from, to) {
        (_, "ExternalName") => assert!(!set("address") && !set("families"), "{case}"),
        ("ExternalName", "Headless") if patched => assert!(set("address"), "{case}"),
        ("ExternalName", "Headless") => assert_eq!(after["address"], "None", "{case}"),
        ("ExternalName", _) => assert!(set("address") && set("families"), "{case}"),
        _ => assert!(kept("address") && kept("families"), "{case}"),
    }
    // Node ports stay between the two types that have them.
    assert_eq!(set("port"), has_ports(to), "{case}");
    assert!(!(has_ports(from) && has_ports(to)) || kept("port"), "{case}");
    // What only a balancer has goes with it; nothing else of the Service does.
    let balancer = to == "LoadBalancer";
    let local = balancer && (from == to || !patched);
    assert_eq!(set("health"), local, "{case}");
    assert_eq!(set("allocate"), balancer, "{case}");
    assert_eq!(set("class"), local, "{case}");
    assert_eq!(after["balanced"] == true, balancer && from == "LoadBalancer", "{case}");
    assert_eq!(set("external"), has_ports(to), "{case}");
    let sticky = if patched { from } else { to } == "LoadBalancer";
    assert_eq!((set("affinity"), set("distribution")), (sticky, sticky), "{case}");
}

#[tokio::test]
async fn every_type_becomes_every_other() {
    for from in KINDS {
        for to in KINDS {
            for patched in [true, false] {
                let dir = tempfile::tempdir().unwrap();
                let store = store(&dir).await;
                let old = stored(&store, from).await;
                let spec = if patched {
                    let mut spec = serde_json::to_value(old.spec.as_ref().unwrap()).unwrap();
                    spec["type"] = manifest(to)["type"].clone();
                    spec["externalName"] = manifest(to)["externalName"].clone();
                    spec
                } else {
                    manifest(to)
                };
                let changed = change(&store, &spec, &old).await;
                let held = taken(&store);
                match (changed, refusal(from, to, patched)) {
                    (Err(error), Some(expected)) => {
                        assert_eq!(error, expected, "{from} to {to}");
                        assert_eq!(held, holds(from), "{from} to {to}: nothing moved");
                    }
                    (Ok(new), None) => {
                        check(from, to, patched, &old, &new);
                        let release = release(&store.snapshot(), &new).unwrap();
                        assert_eq!(held, release.len(), "{from} to {to}: nothing leaks");
                        let ops = Txn { checks: Vec::new(), ops: release };
                        store.commit(ops).await.unwrap();
                        assert_eq!(taken(&store), 0, "{from} to {to}: all goes with the Service");
                    }
                    (changed, expected) => {
                        panic!("{from} to {to}, patched {patched}: {changed:?}, not {expected:?}")
                    }
                }
            }
        }
    }
}
