//! What is known of a data plane, as messages.

use std::sync::Arc;

use netmodel::address::Protocol;
use netmodel::inspect::Member;

use super::*;

fn owner(port: &str) -> Owner {
    Owner { service: ServiceName::new("shop", "web"), port: port.into() }
}

fn row(address: &str, answer: Answer) -> Row {
    Row {
        frontend: Frontend { addr: address.parse().unwrap(), protocol: Protocol::Tcp, port: 80 },
        kind: Kind::ClusterIp,
        owner: owner("http"),
        resource_version: Some(Arc::from("42")),
        answer,
        outside: None,
        affinity_seconds: None,
        source_ranges: Vec::new(),
        scheduler: None,
        objects: vec!["an element".to_owned()],
    }
}

#[test]
fn a_frontend_names_its_service_and_its_backends() {
    let members = vec![Member {
        backend: Backend { addr: "fd00::1".parse().unwrap(), port: 8080 },
        weight: 1,
        connections: Some(3),
    }];
    let mut row = row("fd00:10:96::1", Answer::Backends(members));
    row.outside = Some(Answer::Dropped);
    row.affinity_seconds = Some(10800);
    let told = frontend(&row);
    assert_eq!((told.address.as_str(), told.protocol.as_str()), ("[fd00:10:96::1]:80", "TCP"));
    assert_eq!(told.kind, "ClusterIP");
    let service = told.service.unwrap();
    assert_eq!((service.namespace.as_str(), service.name.as_str()), ("shop", "web"));
    assert_eq!((service.port.as_str(), service.resource_version.as_str()), ("http", "42"));
    let answer = told.answer.unwrap();
    assert_eq!(answer.verdict, "Backends");
    assert_eq!(answer.backends[0].address, "[fd00::1]:8080");
    assert_eq!(answer.backends[0].connections, Some(3));
    assert_eq!(told.outside.unwrap().verdict, "Dropped");
    assert_eq!(told.affinity_seconds, 10800);
}

#[test]
fn a_difference_carries_the_version_of_its_service() {
    let rows = [row("10.96.0.9", Answer::Refused)];
    let versions = versions(&rows);
    let missing =
        Difference { what: "an element".to_owned(), how: How::Missing, owner: Some(owner("http")) };
    let told = difference(&missing, &versions);
    assert_eq!((told.change.as_str(), told.object.as_str()), ("Missing", "an element"));
    assert_eq!(told.service.unwrap().resource_version, "42");
    let how = How::Different { wanted: "1".to_owned() };
    let setting = Difference { what: "a setting is 0".to_owned(), how, owner: None };
    let told = difference(&setting, &versions);
    assert_eq!((told.change.as_str(), told.wanted.as_str()), ("Different", "1"));
    assert!(told.service.is_none());
}

#[test]
fn who_asks_too_early_is_told_so() {
    let status = refusal(ControlError::NotSynced);
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert_eq!(status.message(), "netd has not read the cluster yet");
}
