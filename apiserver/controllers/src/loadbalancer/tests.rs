//! What people are told of a Service's addresses.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;

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
