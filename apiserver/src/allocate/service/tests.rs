//! Plans against a store of one's own: what is drawn, refused, kept and given back.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};
use store::{Check, Config, Store};

async fn store(dir: &tempfile::TempDir) -> Store {
    Store::open(Config { dir: dir.path().to_owned(), history: 10 }).await.unwrap()
}

fn ranges() -> Ranges {
    Ranges {
        service_cidrs: vec!["10.96.0.0/28".parse().unwrap()],
        cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
        node_prefix: 24,
        node_prefix_v6: 64,
        node_ports: 30000..=30009,
    }
}

fn service(name: &str, spec: Value) -> Service {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name, "namespace": "d" }, "spec": spec,
    }))
    .unwrap()
}

fn keys(txn: &Txn) -> (Vec<String>, Vec<String>) {
    let taken = txn.checks.iter().map(|c| match c {
        Check::Absent(key) => key.clone(),
        other => panic!("{other:?}"),
    });
    let given = txn.ops.iter().filter_map(|o| match o {
        Op::Delete { key, .. } => Some(key.clone()),
        Op::Put { .. } => None,
    });
    (taken.collect(), given.collect())
}

#[tokio::test]
async fn ranges_run_dry_with_a_word_about_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let ranges = ranges();
    for i in 0..14 {
        let mut new = service(&format!("s{i}"), json!({ "type": "ClusterIP" }));
        let txn = create(&ranges, &store.snapshot(), &mut new).unwrap();
        store.commit(txn).await.unwrap();
    }
    let mut new = service("more", json!({ "type": "ClusterIP" }));
    let error = create(&ranges, &store.snapshot(), &mut new).unwrap_err();
    assert!(error.to_string().contains("failed to allocate a serviceIP"), "{error}");
}

#[tokio::test]
async fn an_update_takes_only_what_is_new_and_gives_back_what_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let ranges = ranges();
    let mut old = service(
        "a",
        json!({ "type": "NodePort", "ports": [
            { "name": "x", "port": 80, "nodePort": 30001 },
            { "name": "y", "port": 81, "nodePort": 30002 },
        ] }),
    );
    let txn = create(&ranges, &store.snapshot(), &mut old).unwrap();
    assert_eq!(keys(&txn).0.len(), 3);
    store.commit(txn).await.unwrap();

    let mut new = old.clone();
    let ports = new.spec.as_mut().unwrap().ports.as_mut().unwrap();
    ports[1].node_port = Some(30003);
    let txn = update(&ranges, &store.snapshot(), &mut new, &old).unwrap();
    assert_eq!(
        keys(&txn),
        (vec!["/allocations/nodeports/30003".into()], vec!["/allocations/nodeports/30002".into()])
    );
    store.commit(txn).await.unwrap();

    // All goes back with the object.
    let ops = release(&new);
    assert_eq!(ops.len(), 3);
    store.commit(Txn { checks: Vec::new(), ops }).await.unwrap();
    assert_eq!(store.snapshot().range("/allocations/").count(), 0);
}

#[tokio::test]
async fn a_load_balancer_with_local_traffic_has_a_port_for_health() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let mut new = service(
        "a",
        json!({
            "type": "LoadBalancer", "externalTrafficPolicy": "Local",
            "allocateLoadBalancerNodePorts": false, "ports": [{ "port": 80 }],
        }),
    );
    let txn = create(&ranges(), &store.snapshot(), &mut new).unwrap();
    store.commit(txn).await.unwrap();
    let spec = new.spec.as_ref().unwrap();
    assert!(spec.health_check_node_port.is_some_and(|p| (30000..=30009).contains(&p)));
    assert_eq!(spec.ports.as_ref().unwrap()[0].node_port, None);
    assert_eq!(release(&new).len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Whatever happens to Services, the keys are exactly what the Services hold.
    #[test]
    fn allocations_are_what_services_hold(steps in proptest::collection::vec((0usize..4, 0u8..4), 1..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let store = store(&dir).await;
            let ranges = ranges();
            let mut services: [Option<Service>; 4] = Default::default();
            for (slot, action) in steps {
                let old = services[slot].take();
                let kind = ["ClusterIP", "NodePort", "ExternalName"].get(usize::from(action));
                let (txn, new) = match (old, kind) {
                    (None, None) => continue,
                    (Some(old), None) => (Txn { ops: release(&old), ..Txn::default() }, None),
                    (old, Some(kind)) => {
                        let ports = json!([{ "port": 80 }, { "port": 81 }]);
                        let spec = json!({ "type": kind, "ports": ports });
                        let mut new = service(&format!("s{slot}"), spec);
                        let snapshot = store.snapshot();
                        let txn = match &old {
                            None => create(&ranges, &snapshot, &mut new),
                            Some(old) => {
                                let services = table::by_path("", "v1", "services").unwrap();
                                services.strategy.prepare_update(&mut new, old);
                                update(&ranges, &snapshot, &mut new, old)
                            }
                        };
                        (txn.unwrap(), Some(new))
                    }
                };
                store.commit(txn).await.unwrap();
                services[slot] = new;
                let held: usize = services.iter().flatten().map(|s| release(s).len()).sum();
                prop_assert_eq!(store.snapshot().range("/allocations/").count(), held);
            }
            Ok(())
        })?;
    }
}
