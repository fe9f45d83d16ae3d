//! Sequences of Services against a store of one's own: nobody has what another has.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use store::{Config, Store};

use super::*;
use crate::stored::Encoded;

async fn store(dir: &tempfile::TempDir) -> Store {
    let store = Store::open(Config { dir: dir.path().to_owned(), history: 10 }).await.unwrap();
    let pool = json!({
        "metadata": { "name": "default" },
        "spec": { "addresses": ["10.0.0.1-10.0.0.3", "fd00::1-fd00::3"] },
    });
    let row = row("minictl.io", "addresspools").unwrap();
    let mut object = row.strategy.decode(pool.to_string().as_bytes()).unwrap();
    let put = Encoded::of(row, object.as_mut()).unwrap().put(key::object(row, None, "default"));
    store.commit(Txn { checks: Vec::new(), ops: vec![put] }).await.unwrap();
    store
}

fn service(name: &str, annotations: Value, ports: &[u16]) -> Service {
    let ports: Vec<Value> = ports
        .iter()
        .map(|p| json!({ "name": format!("p{p}"), "port": p, "protocol": "TCP" }))
        .collect();
    serde_json::from_value(json!({
        "metadata": { "name": name, "namespace": "d", "annotations": annotations },
        "spec": {
            "type": "LoadBalancer", "ports": ports,
            "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack",
        },
    }))
    .unwrap()
}

/// Writes a Service as the pipeline does.
async fn write(store: &Store, service: &mut Service, old: Option<&Service>) {
    let txn = settle(&store.snapshot(), service, old).unwrap();
    if !txn.ops.is_empty() {
        store.commit(txn).await.unwrap();
    }
}

fn addresses(service: &Service) -> String {
    let all = rules::served_at(service);
    all.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",")
}

fn taken(store: &Store) -> usize {
    store.snapshot().range("/allocations/").count()
}

#[tokio::test]
async fn addresses_come_with_the_type_and_go_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let mut made = service("a", json!({}), &[80]);
    write(&store, &mut made, None).await;
    assert_eq!(addresses(&made), "10.0.0.1,fd00::1");
    let said = rules::condition(&made).unwrap();
    assert_eq!(
        (said.reason.as_str(), said.message.as_str()),
        (
            "FromPool",
            r#"10.0.0.1 of the AddressPool "default"; fd00::1 of the AddressPool "default""#
        )
    );
    let again = settle(&store.snapshot(), &mut made.clone(), Some(&made)).unwrap();
    assert!(again.ops.is_empty() && again.checks.is_empty(), "{again:?}");

    let mut changed = made.clone();
    changed.spec.as_mut().unwrap().type_ = Some("NodePort".to_owned());
    write(&store, &mut changed, Some(&made)).await;
    assert_eq!((addresses(&changed).as_str(), taken(&store)), ("", 0));
    assert_eq!(rules::condition(&changed), None);
}

#[tokio::test]
async fn a_service_that_is_no_longer_ours_loses_its_address_though_nothing_is_said_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let mut made = service("a", json!({}), &[80]);
    write(&store, &mut made, None).await;
    // A write to the status took the condition away.
    rules::set_condition(&mut made, None, Time(now()));
    let mut changed = made.clone();
    changed.spec.as_mut().unwrap().type_ = Some("NodePort".to_owned());
    write(&store, &mut changed, Some(&made)).await;
    assert_eq!((addresses(&changed).as_str(), taken(&store)), ("", 0));
}

#[tokio::test]
async fn a_service_without_an_address_says_why_and_gets_one_when_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let mut first = service("a", json!({ rules::ADDRESSES: "10.0.0.2" }), &[80]);
    write(&store, &mut first, None).await;
    assert_eq!(addresses(&first), "10.0.0.2,fd00::1");
    let mut second = service("b", json!({ rules::ADDRESSES: "10.0.0.2" }), &[443]);
    write(&store, &mut second, None).await;
    assert_eq!(addresses(&second), "");
    let said = rules::condition(&second).unwrap().clone();
    assert_eq!((said.status.as_str(), said.reason.as_str()), ("False", "AddressInUse"));
    assert!(said.message.contains("held by the Service d/a"), "{}", said.message);

    store.commit(release(&store.snapshot(), &first).unwrap()).await.unwrap();
    let old = second.clone();
    write(&store, &mut second, Some(&old)).await;
    assert_eq!(addresses(&second), "10.0.0.2,fd00::1");
}

#[tokio::test]
async fn two_who_want_the_same_cannot_both_have_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let snapshot = store.snapshot();
    let [mut a, mut b] = ["a", "b"].map(|name| service(name, json!({}), &[80]));
    let first = settle(&snapshot, &mut a, None).unwrap();
    let second = settle(&snapshot, &mut b, None).unwrap();
    store.commit(first).await.unwrap();
    store.commit(second).await.unwrap_err();
    write(&store, &mut b, None).await;
    assert_eq!(addresses(&b), "10.0.0.2,fd00::2");
}

#[tokio::test]
async fn a_status_by_hand_says_what_is_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let mut made = service("a", json!({}), &[80]);
    write(&store, &mut made, None).await;
    let mut lying = made.clone();
    lying.status.as_mut().unwrap().load_balancer =
        Some(rules::status(&["10.0.0.9".parse().unwrap()]));
    keep_status(&store.snapshot(), &mut lying).unwrap();
    assert_eq!(addresses(&lying), "10.0.0.1,fd00::1");
    let mut other = service("b", json!({}), &[80]);
    other.status = lying.status.clone();
    other.status.as_mut().unwrap().load_balancer =
        Some(rules::status(&["10.0.0.9".parse().unwrap()]));
    keep_status(&store.snapshot(), &mut other).unwrap();
    assert_eq!(addresses(&other), "10.0.0.9", "not ours");
}

#[derive(Clone, Debug)]
enum Step {
    Write { name: u8, key: u8, asked: u8, ports: Vec<u16>, local: bool },
    Delete { name: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    let ports = proptest::collection::vec(80u16..83, 1..3);
    prop_oneof![
        4 => (0u8..6, 0u8..3, 0u8..5, ports, any::<bool>())
            .prop_map(|(name, key, asked, ports, local)| Step::Write { name, key, asked, ports, local }),
        1 => (0u8..6).prop_map(|name| Step::Delete { name }),
    ]
}

/// What every state must fulfil: no port of an address is two Services', keys and statuses agree.
fn check(store: &Store, services: &BTreeMap<u8, Service>) {
    let mut ports: BTreeMap<(IpAddr, String), String> = BTreeMap::new();
    let snapshot = store.snapshot();
    for service in services.values() {
        let name = name(service);
        assert_eq!(ledger::held(&snapshot, &name).unwrap(), rules::served_at(service));
        for address in rules::served_at(service) {
            for port in rules::wish(service).tenancy.ports {
                let before = ports.insert((address, port.clone()), name.clone());
                assert_eq!(before, None, "{address} {port} is {name}'s, too");
            }
        }
        let says = rules::condition(service).map(|c| c.status == "True");
        assert_eq!(says, Some(!rules::served_at(service).is_empty()));
    }
    let pairs: usize = services.values().map(|s| rules::served_at(s).len()).sum();
    let held: usize = services.values().filter(|s| !rules::served_at(s).is_empty()).count();
    let shared: BTreeMap<IpAddr, usize> =
        services.values().flat_map(rules::served_at).fold(BTreeMap::new(), |mut all, address| {
            *all.entry(address).or_default() += 1;
            all
        });
    assert!(shared.len() <= pairs);
    assert_eq!(taken(store), shared.len() + held, "nothing is left behind");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn no_two_services_have_one_port_of_an_address(
        steps in proptest::collection::vec(step(), 1..30),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let store = store(&dir).await;
            let mut services: BTreeMap<u8, Service> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Write { name, key, asked, mut ports, local } => {
                        ports.sort_unstable();
                        ports.dedup();
                        let key = ["", "k", "l"][usize::from(key)];
                        let asked = ["", "10.0.0.1", "10.0.0.2", "fd00::1", "10.9.9.9"][usize::from(asked)];
                        let annotations = json!({ rules::SHARING: key, rules::ADDRESSES: asked });
                        let mut new = service(&format!("s{name}"), annotations, &ports);
                        if local {
                            new.spec.as_mut().unwrap().external_traffic_policy = Some("Local".to_owned());
                        }
                        let old = services.get(&name);
                        new.status = old.and_then(|old| old.status.clone());
                        write(&store, &mut new, old).await;
                        services.insert(name, new);
                    }
                    Step::Delete { name } => {
                        if let Some(old) = services.remove(&name) {
                            let txn = release(&store.snapshot(), &old).unwrap();
                            if !txn.ops.is_empty() {
                                store.commit(txn).await.unwrap();
                            }
                        }
                    }
                }
                check(&store, &services);
            }
        });
    }
}
