//! Plans against a store of one's own: what is drawn, refused, kept and given back.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};
use store::{Check, Config, Store};

use crate::stored::Encoded;

mod transitions;

/// A store with the ServiceCIDR of the ranges.
async fn store(dir: &tempfile::TempDir) -> Store {
    let store = Store::open(Config { dir: dir.path().to_owned(), history: 10 }).await.unwrap();
    let cidrs: Vec<String> = ranges().service_cidrs.iter().map(ToString::to_string).collect();
    put_cidr(&store, "kubernetes", json!({ "spec": { "cidrs": cidrs } })).await;
    store
}

async fn put_cidr(store: &Store, name: &str, mut object: Value) {
    object["metadata"]["name"] = json!(name);
    let row = table::by_path("networking.k8s.io", "v1", "servicecidrs").unwrap();
    let mut object = row.strategy.decode(object.to_string().as_bytes()).unwrap();
    let put = Encoded::of(row, object.as_mut()).unwrap().put(key::object(row, None, name));
    store.commit(Txn { checks: Vec::new(), ops: vec![put] }).await.unwrap();
}

/// What is taken: node ports and addresses.
fn taken(store: &Store) -> usize {
    let snapshot = store.snapshot();
    let addresses = snapshot.range("/registry/ipaddresses.networking.k8s.io/").count();
    snapshot.range("/allocations/").count() + addresses
}

fn ranges() -> Ranges {
    Ranges {
        service_cidrs: vec!["10.96.0.0/28".parse().unwrap(), "fd00:96::/124".parse().unwrap()],
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
    let taken = txn.checks.iter().filter_map(|c| match c {
        Check::Absent(key) => Some(key.clone()),
        Check::Unchanged(key, _) if key.contains("servicecidrs") => None,
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
    let ops = release(&store.snapshot(), &new).unwrap();
    assert_eq!(ops.len(), 3);
    store.commit(Txn { checks: Vec::new(), ops }).await.unwrap();
    assert_eq!(taken(&store), 0);
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
    assert_eq!(release(&store.snapshot(), &new).unwrap().len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Whatever happens to Services, the keys are exactly what the Services hold.
    #[test]
    fn allocations_are_what_services_hold(steps in proptest::collection::vec((0usize..4, 0usize..6), 1..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let store = store(&dir).await;
            let ranges = ranges();
            let row = table::by_path("", "v1", "services").unwrap();
            let mut services: [Option<Service>; 4] = Default::default();
            for (slot, action) in steps {
                let old = services[slot].take();
                let ports = json!([{ "port": 80 }, { "port": 81 }]);
                let mut spec = match action {
                    0 => json!({ "type": "ClusterIP" }),
                    1 => json!({ "type": "NodePort" }),
                    2 => json!({ "type": "ExternalName" }),
                    3 => json!({ "type": "ClusterIP", "ipFamilyPolicy": "RequireDualStack" }),
                    4 => json!({ "type": "NodePort", "ipFamilyPolicy": "SingleStack" }),
                    _ => Value::Null,
                };
                let snapshot = store.snapshot();
                let (txn, new) = match (old, spec.is_null()) {
                    (None, true) => continue,
                    (Some(old), true) => {
                        let ops = release(&snapshot, &old).unwrap();
                        (Txn { ops, ..Txn::default() }, None)
                    }
                    (old, false) => {
                        spec["ports"] = ports;
                        let mut new = service(&format!("s{slot}"), spec);
                        let txn = match &old {
                            None => create(&ranges, &snapshot, &mut new),
                            Some(old) => {
                                row.strategy.prepare_update(&mut new, old);
                                update(&ranges, &snapshot, &mut new, old)
                            }
                        };
                        (txn.unwrap(), Some(new))
                    }
                };
                store.commit(txn).await.unwrap();
                services[slot] = new;
                let now = store.snapshot();
                let held: usize =
                    services.iter().flatten().map(|s| release(&now, s).unwrap().len()).sum();
                prop_assert_eq!(taken(&store), held);
            }
            Ok(())
        })?;
    }
}

fn taken_by(store: &Store, address: &str) -> Value {
    let key = format!("/registry/ipaddresses.networking.k8s.io/{address}");
    let snapshot = store.snapshot();
    let entry = snapshot.get(&key).unwrap_or_else(|| panic!("{address} is free"));
    serde_json::from_slice(&entry.value).unwrap()
}

#[tokio::test]
async fn an_address_is_taken_by_an_object_of_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    // Written unusually on purpose.
    let spec = json!({
        "ipFamilyPolicy": "RequireDualStack", "clusterIP": "fd00:96:0::7",
        "clusterIPs": ["fd00:96:0::7"],
    });
    let mut new = service("a", spec);
    let txn = create(&ranges(), &store.snapshot(), &mut new).unwrap();
    store.commit(txn).await.unwrap();
    let object = taken_by(&store, "fd00:96::7");
    assert_eq!(
        object["spec"]["parentRef"],
        json!({
            "resource": "services", "namespace": "d", "name": "a",
        })
    );
    assert_eq!(
        object["metadata"]["labels"],
        json!({
            "ipaddress.kubernetes.io/ip-family": "IPv6",
            "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
        })
    );
    assert!(object["metadata"]["uid"].is_string() && object["metadata"]["resourceVersion"] != "");
    let addresses = new.spec.as_ref().unwrap().cluster_ips.clone().unwrap();
    assert_eq!(addresses[0], "fd00:96:0::7", "as its owner writes it");
    taken_by(&store, &addresses[1]);
    let ops = release(&store.snapshot(), &new).unwrap();
    store.commit(Txn { checks: Vec::new(), ops }).await.unwrap();
    assert_eq!(taken(&store), 0);
}

#[tokio::test]
async fn addresses_come_from_every_range_that_is_ready() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let condition = |status: &str| {
        json!([{
            "type": "Ready", "status": status, "reason": "r", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }])
    };
    let of = |cidr: &str, status: &str| {
        json!({
            "spec": { "cidrs": [cidr] }, "status": { "conditions": condition(status) },
        })
    };
    put_cidr(&store, "not-ready", of("10.1.0.0/24", "False")).await;
    put_cidr(&store, "more", of("10.2.0.0/24", "True")).await;
    let mut leaving = of("10.3.0.0/24", "True");
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    put_cidr(&store, "leaving", leaving).await;

    let ask = |address: &str| {
        let mut new = service("a", json!({ "clusterIP": address, "clusterIPs": [address] }));
        create(&ranges(), &store.snapshot(), &mut new).map_err(|e| e.to_string())
    };
    assert!(ask("10.2.0.77").is_ok());
    for address in ["10.1.0.77", "10.3.0.77", "192.168.0.1", "10.2.0.0", "10.2.0.255"] {
        let refused = ask(address).unwrap_err();
        assert!(
            refused.contains(": the provided network does not match the current range ("),
            "{refused}"
        );
    }

    // Fourteen addresses of the first range, then those of the next.
    for i in 0..20 {
        let mut new = service(&format!("s{i}"), json!({}));
        let txn = create(&ranges(), &store.snapshot(), &mut new).unwrap();
        store.commit(txn).await.unwrap();
        let address = new.spec.unwrap().cluster_ip.unwrap();
        let first: ipnet::IpNet = "10.96.0.0/28".parse().unwrap();
        assert_eq!(first.contains(&address.parse::<std::net::IpAddr>().unwrap()), i < 14);
    }
}

#[tokio::test]
async fn a_range_that_leaves_meanwhile_gives_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let mut new = service("a", json!({}));
    let txn = create(&ranges(), &store.snapshot(), &mut new).unwrap();
    let leaving = json!({
        "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" },
        "spec": { "cidrs": ["10.96.0.0/28"] },
    });
    put_cidr(&store, "kubernetes", leaving).await;
    assert!(store.commit(txn).await.is_err());
    let error = create(&ranges(), &store.snapshot(), &mut service("a", json!({}))).unwrap_err();
    assert!(error.to_string().contains("range is full"), "{error}");
}

#[tokio::test]
async fn services_of_an_older_store_get_the_objects_of_their_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let mut old = service(
        "a",
        json!({
            "type": "ClusterIP", "clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"],
        }),
    );
    let row = services_row().unwrap();
    let put = Encoded::of(row, &mut old).unwrap().put(key::object(row, Some("d"), "a"));
    let mut txn = Txn { checks: Vec::new(), ops: vec![put] };
    take(&mut txn, "clusterips", "10.96.0.5", "d/a");
    store.commit(txn).await.unwrap();
    let txn = missing_addresses(&store.snapshot()).unwrap();
    store.commit(txn).await.unwrap();
    assert_eq!(taken(&store), 1, "the old key is gone");
    assert_eq!(taken_by(&store, "10.96.0.5")["spec"]["parentRef"]["name"], "a");
    assert!(missing_addresses(&store.snapshot()).unwrap().ops.is_empty());
}
