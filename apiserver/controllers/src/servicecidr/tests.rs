//! When a range may be used and when it may go.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::*;
use crate::view::Object;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn range(name: &str, prefixes: &[&str], change: impl FnOnce(&mut Value)) -> Arc<ServiceCIDR> {
    let mut range = json!({
        "metadata": { "name": name, "uid": name, "finalizers": [FINALIZER] },
        "spec": { "cidrs": prefixes },
    });
    change(&mut range);
    Arc::new(serde_json::from_value(range).unwrap())
}

/// Deleted at second 100.
fn going(name: &str, prefixes: &[&str]) -> Arc<ServiceCIDR> {
    range(name, prefixes, |r| {
        r["metadata"]["deletionTimestamp"] = "1970-01-01T00:01:40Z".into();
    })
}

fn address(ip: &str) -> Arc<IPAddress> {
    let address = json!({
        "metadata": { "name": ip, "labels": { MANAGED_BY: ALLOCATOR } },
        "spec": { "parentRef": { "resource": "services", "name": "web", "namespace": "shop" } },
    });
    Arc::new(serde_json::from_value(address).unwrap())
}

/// The range that a step writes.
fn written(step: &Step) -> &ServiceCIDR {
    match step {
        Step::Write(
            Write::Update(Object::ServiceCIDR(range))
            | Write::UpdateStatus(Object::ServiceCIDR(range)),
        ) => range,
        other => panic!("{other:?}"),
    }
}

fn ready(range: &ServiceCIDR) -> (&str, &str, &str) {
    let held = &range.status.as_ref().unwrap().conditions.as_ref().unwrap()[0];
    (&held.status, &held.reason, &held.message)
}

#[test]
fn a_new_range_is_protected_first_then_ready_then_left_alone() {
    let new = range("more", &["10.200.0.0/24"], |r| r["metadata"]["finalizers"] = Value::Null);
    let protected = written(&plan(&new, &[], &[], at(0))).clone();
    assert_eq!(protected.metadata.finalizers.as_ref().unwrap(), &[FINALIZER]);
    let done = written(&plan(&protected, &[], &[], at(0))).clone();
    assert_eq!(ready(&done), ("True", "", IS_READY));
    assert_eq!(plan(&done, &[], &[], at(9)), Step::Rest);
}

#[test]
fn a_range_goes_when_nothing_of_it_is_used() {
    let empty = going("more", &["10.200.0.0/24", "fd00:200::/112"]);
    let others = [address("10.96.0.1"), address("fd00:96::1")];
    assert_eq!(plan(&empty, std::slice::from_ref(&empty), &others, at(104)), Step::Release);
    let gone = Arc::new(released(&empty));
    assert_eq!(gone.metadata.finalizers.as_deref(), Some(&[][..]));
    assert_eq!(plan(&gone, std::slice::from_ref(&gone), &others, at(104)), Step::Rest);
}

#[test]
fn a_used_range_waits_until_its_addresses_have_another() {
    let used = going("more", &["10.200.0.0/24"]);
    let addresses = [address("10.200.0.7")];
    let with = |others: &[Arc<ServiceCIDR>]| {
        let all: Vec<_> = others.iter().cloned().chain([used.clone()]).collect();
        plan(&used, &all, &addresses, at(200))
    };
    let held_up = with(&[]);
    assert_eq!(ready(written(&held_up)), ("False", "Terminating", IS_USED));
    let beside = range("beside", &["10.201.0.0/24"], |_| {});
    assert_eq!(ready(written(&with(&[beside]))).0, "False");
    let covers_too = going("twin", &["10.200.0.0/16"]);
    assert_eq!(ready(written(&with(&[covers_too]))).0, "False", "the twin is going as well");
    let wider = range("wider", &["10.200.0.0/16"], |_| {});
    assert_eq!(with(&[wider]), Step::Release);
}

#[test]
fn an_address_that_somebody_else_keeps_holds_nothing_up() {
    let range = going("more", &["10.200.0.0/24"]);
    let mut strange = (*address("10.200.0.7")).clone();
    strange.metadata.labels = None;
    let step = plan(&range, std::slice::from_ref(&range), &[Arc::new(strange)], at(200));
    assert_eq!(step, Step::Release);
}

#[test]
fn since_when_it_is_ready_stays_as_long_as_it_is() {
    let held = range("more", &["10.200.0.0/24"], |r| {
        r["status"] = json!({ "conditions": [{
            "type": READY, "status": "True", "reason": "", "message": "of old",
            "lastTransitionTime": "1970-01-01T00:00:07Z",
        }]});
    });
    let reworded = plan(&held, &[], &[], at(50));
    let since = &written(&reworded).status.as_ref().unwrap().conditions.as_ref().unwrap()[0];
    assert_eq!(since.last_transition_time, Time(at(7)));
}
