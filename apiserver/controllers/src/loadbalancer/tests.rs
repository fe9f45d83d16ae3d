//! What people are told of a Service's addresses, and which Services the server is to look at again.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::*;
use crate::fake::{self, FakeApi};
use crate::view::Kind;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn service(condition: Option<(bool, &str, &str)>, second: i64) -> Arc<Service> {
    let mut service = Service::default();
    service.metadata.name = Some("a".to_owned());
    let condition = condition.map(|(holds, reason, text)| (holds, reason, text.to_owned()));
    balancer::set_condition(&mut service, condition, Time(at(second)));
    let address = "10.0.0.1".parse().expect("an address");
    service.status.get_or_insert_default().load_balancer = Some(balancer::status(&[address]));
    Arc::new(service)
}

fn told(old: Option<Arc<Service>>, new: Option<Arc<Service>>) -> Option<(&'static str, String)> {
    let said = super::told(&Change { old, new }, at(100))?;
    Some((said.reason, said.message))
}

#[test]
fn a_change_is_told_once() {
    let full = || Some(service(Some((false, "PoolExhausted", "it is full")), 200));
    let failed = Some(("AllocationFailed", "Failed to allocate IP: it is full".to_owned()));
    assert_eq!(told(None, full()), failed);
    assert_eq!(told(Some(service(None, 0)), full()), failed);
    assert_eq!(told(full(), full()), None);
    let given = || Some(service(Some((true, "FromPool", "default")), 300));
    let assigned = Some(("IPAllocated", r#"Assigned IP ["10.0.0.1"]"#.to_owned()));
    assert_eq!(told(full(), given()), assigned);
    assert_eq!(told(given(), Some(service(None, 0))), None, "it is no load balancer any more");
    assert_eq!(told(given(), None), None);
}

#[test]
fn what_was_before_we_started_is_old_news() {
    let old = Some(service(Some((true, "FromPool", "default")), 99));
    assert_eq!(told(None, old), None);
}

fn read<K: Kind>(value: Value) -> K {
    serde_json::from_value(value).expect("an object")
}

/// A Service that would have both families and has these addresses of a pool.
fn dual(name: &str, wish: &str, addresses: &[&str]) -> Service {
    let mut service: Service = read(json!({
        "metadata": {
            "name": name, "namespace": "default",
            "annotations": { balancer::ADDRESSES: wish },
        },
        "spec": {
            "type": "LoadBalancer", "ipFamilyPolicy": "PreferDualStack",
            "ipFamilies": ["IPv4", "IPv6"], "ports": [{ "port": 80 }],
        },
    }));
    let has: Vec<IpAddr> = addresses.iter().map(|a| a.parse().expect("an address")).collect();
    let condition = (!has.is_empty(), balancer::FROM_POOL, String::new());
    balancer::set_condition(&mut service, Some(condition), Time(at(0)));
    service.status.get_or_insert_default().load_balancer = Some(balancer::status(&has));
    service
}

#[test]
fn a_free_address_is_for_those_who_lack_its_family_and_do_not_name_another() {
    for (wish, has, freed, could) in [
        ("", &["10.9.0.1"][..], "10.9.0.2", false),
        ("", &["10.9.0.1"], "fd00:9::1", true),
        ("", &[], "10.9.0.2", true),
        ("", &["10.9.0.1", "fd00:9::1"], "fd00:9::2", false),
        ("10.9.0.2", &[], "10.9.0.2", true),
        ("10.9.0.2", &[], "10.9.0.3", false),
        ("10.9.0.2", &["10.9.0.2"], "fd00:9::1", true),
    ] {
        let service = dual("a", wish, has);
        let free = [freed.parse().expect("an address")];
        assert_eq!(pools::could_use(&service, &free), could, "{wish:?} {has:?} {freed}");
    }
}

/// A node with these addresses.
fn node(addresses: &[&str]) -> Node {
    let list = addresses.iter().map(|at| json!({ "type": "InternalIP", "address": at }));
    read(json!({
        "metadata": { "name": "node-1" },
        "status": { "addresses": list.collect::<Vec<_>>() },
    }))
}

#[tokio::test(start_paused = true)]
async fn an_address_that_a_node_gives_up_is_offered_to_who_waits_for_it() {
    let api = FakeApi::default();
    api.create::<AddressPool>(&read(json!({
        "metadata": { "name": "four" }, "spec": { "addresses": ["10.9.0.0/24"] },
    })));
    api.create(&node(&["10.9.0.1", "10.9.0.2"]));
    api.create(&dual("first", "10.9.0.1", &[]));
    api.create(&dual("second", "10.9.0.2", &[]));
    let patched = |api: &FakeApi| {
        ["first", "second"].map(|name| {
            let path = format!("PATCH /api/v1/namespaces/default/services/{name}");
            api.writes().iter().filter(|write| write.starts_with(&path)).count()
        })
    };
    let resources = [fake::resources(), vec![AddressPool::resource()]].concat();
    let _controllers = api.run_controllers_of(resources);
    api.eventually("a first look at both", |api| patched(api) == [1, 1]).await;
    let moved = node(&["10.9.0.2", "10.9.0.3"]).status;
    api.change("", "node-1", |node: &mut Node| node.status = moved);
    api.eventually("the first's address is free", |api| patched(api) == [2, 1]).await;
    api.take::<Node>("", "node-1");
    api.eventually("the second's is, too", |api| patched(api) == [2, 2]).await;
}

/// Of a pool of one family, all Services that would have both lack something for ever.
#[tokio::test(start_paused = true)]
async fn an_address_that_nobody_else_could_use_is_freed_without_a_write_to_any_service() {
    const COUNT: usize = 40;
    let api = FakeApi::default();
    api.create::<AddressPool>(&read(json!({
        "metadata": { "name": "four" }, "spec": { "addresses": ["10.9.0.0/24"] },
    })));
    for n in 1..=COUNT {
        api.create(&dual(&format!("s{n}"), "", &[&format!("10.9.0.{n}")]));
    }
    api.create(&dual("waits", "10.9.0.1", &[]));
    let patched = |api: &FakeApi, name: &str| {
        let path = format!("PATCH /api/v1/namespaces/default/services/{name}");
        api.writes().iter().filter(|write| write.starts_with(&path)).count()
    };
    let resources = [fake::resources(), vec![AddressPool::resource()]].concat();
    let _controllers = api.run_controllers_of(resources);
    let taken = |api: &FakeApi| {
        let pool = api.get::<AddressPool>("", "four").and_then(|pool| pool.status);
        pool.map(|status| status.assigned)
    };
    // Who was there before the controller is looked at once.
    api.eventually("a first look at all", |api| {
        patched(api, "") == COUNT + 1 && taken(api) == Some(40)
    })
    .await;
    api.take::<Service>("default", "s2");
    api.eventually("the pool to be counted again", |api| taken(api) == Some(39)).await;
    api.take::<Service>("default", "s1");
    api.eventually("who names the address to be looked at", |api| patched(api, "waits") == 2).await;
    api.eventually("the pool to be counted again", |api| taken(api) == Some(38)).await;
    assert_eq!(patched(&api, ""), COUNT + 2, "nobody else");
}
