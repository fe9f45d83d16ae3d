//! Objects of the API in, and what the name server is told.

use std::collections::BTreeMap;

use dns::pods::Policy;
use dns::zone::{Lookup, Outcome};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::*;
use crate::inputs::slices::Changed;

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

pub(crate) fn config() -> Config {
    Config {
        node_name: "node-1".to_owned(),
        mode: crate::Mode::Nftables,
        cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
        service_cidrs: vec!["10.96.0.0/12".parse().unwrap()],
        node_ports: 30000..=32767,
        bridge: "mini0".to_owned(),
        scheduler: "rr".to_owned(),
        dns_upstreams: Vec::new(),
        ingress: false,
        metrics_address: None,
        health_address: None,
    }
}

fn feed() -> (Feed, Dns) {
    let dns = server(&config());
    (Feed::new(dns.clone(), Slices::default(), &config()), dns)
}

/// What the zone says of the addresses of a name.
fn addresses(dns: &Dns, name: &str) -> Vec<String> {
    let mut found: Option<Lookup> = None;
    let name = DomainName::from_ascii(name).unwrap();
    dns.change(|zone| {
        found = zone.lookup(&name, dns::RecordType::A);
        false
    });
    match found {
        Some(lookup) if lookup.outcome == Outcome::Records => {
            lookup.answers.iter().map(|record| record.data.to_string()).collect()
        }
        Some(lookup) => vec![format!("{:?}", lookup.outcome)],
        None => vec!["elsewhere".to_owned()],
    }
}

fn name(namespace: &str, name: &str) -> ServiceName {
    ServiceName::new(namespace, name)
}

fn cluster_dns(served_by: &str) -> core::Service {
    object(json!({
        "metadata": {"labels": {"service.kubernetes.io/service-proxy-name": served_by}},
        "spec": {"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10", "fd00:10:96::a"]},
    }))
}

fn slice_of(service: &str, address: &str) -> EndpointSlice {
    object(json!({
        "metadata": {"labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "endpoints": [{"addresses": [address]}],
    }))
}

/// The feed is told of a slice as it is told by the watches.
fn told(feed: &mut Feed, slice: &str, object: Option<&EndpointSlice>) {
    let slice = name("shop", slice);
    if let Some(Changed { before, now }) = feed.slices.set(&slice, object) {
        feed.slice(&slice, before.as_ref(), now.as_ref());
    }
}

#[test]
fn it_listens_at_the_services_addresses_once_all_is_known() {
    let (mut feed, dns) = feed();
    feed.service(&name("kube-system", "kube-dns"), Some(&cluster_dns("minictl-node-local")));
    assert!(dns.addresses().is_empty(), "what it has not heard of yet, it would deny");
    feed.synced();
    let listening = || dns.addresses().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(listening(), ["10.96.0.10:53", "[fd00:10:96::a]:53"]);
    // Pods serve it, as in clusters of others.
    feed.service(&name("kube-system", "kube-dns"), Some(&cluster_dns("kube-proxy")));
    assert!(listening().is_empty());
    feed.service(&name("kube-system", "kube-dns"), Some(&cluster_dns("minictl-node-local")));
    feed.service(&name("other", "kube-dns"), Some(&cluster_dns("minictl-node-local")));
    assert_eq!(listening().len(), 2);
    feed.service(&name("kube-system", "kube-dns"), None);
    assert!(listening().is_empty());
}

#[test]
fn services_of_each_kind_have_their_names() {
    let (mut feed, dns) = feed();
    let specs: BTreeMap<&str, Value> = BTreeMap::from([
        ("plain", json!({"clusterIP": "10.96.0.20", "clusterIPs": ["10.96.0.20"]})),
        ("bare", json!({"clusterIP": "None", "clusterIPs": ["None"]})),
        ("outside", json!({"type": "ExternalName", "externalName": "www.example.com"})),
        ("waiting", json!({"type": "ClusterIP"})),
    ]);
    for (service, spec) in &specs {
        feed.service(&name("shop", service), Some(&object(json!({"spec": spec}))));
    }
    let slice = object(json!({
        "metadata": {"labels": {"kubernetes.io/service-name": "bare"}},
        "addressType": "IPv4", "ports": [{"name": "SQL", "port": 5432}],
        "endpoints": [
            {"addresses": ["10.244.0.7"], "hostname": "db-0"},
            {"addresses": ["10.244.0.8"], "conditions": {"ready": false}},
        ],
    }));
    told(&mut feed, "bare-x", Some(&slice));
    let of = |service: &str| addresses(&dns, &format!("{service}.shop.svc.cluster.local."));
    assert_eq!(of("plain"), ["10.96.0.20"]);
    assert_eq!(of("bare"), ["10.244.0.7"]);
    assert_eq!(of("db-0.bare"), ["10.244.0.7"]);
    assert_eq!(of("outside"), ["www.example.com."]);
    assert_eq!(of("waiting"), ["NoName"]);
    told(&mut feed, "bare-x", None);
    assert_eq!(of("bare"), ["NoName"]);
}

#[test]
fn a_service_that_becomes_headless_finds_its_slices() {
    let (mut feed, dns) = feed();
    let db = name("shop", "db");
    let of = |service: &str| addresses(&dns, &format!("{service}.shop.svc.cluster.local."));
    told(&mut feed, "db-x", Some(&slice_of("db", "10.244.0.7")));
    assert_eq!(of("db"), ["NoName"], "its Service is not known yet");
    let headless = object(json!({"spec": {"clusterIP": "None"}}));
    let plain = object(json!({"spec": {"clusterIP": "10.96.0.30", "clusterIPs": ["10.96.0.30"]}}));
    feed.service(&db, Some(&headless));
    assert_eq!(of("db"), ["10.244.0.7"]);
    feed.service(&db, Some(&plain));
    assert_eq!(of("db"), ["10.96.0.30"]);
    assert_eq!(addresses(&dns, "10-244-0-7.db.shop.svc.cluster.local."), ["NoName"]);
    told(&mut feed, "db-y", Some(&slice_of("db", "10.244.0.8")));
    feed.service(&db, Some(&headless));
    assert_eq!(of("db"), ["10.244.0.7", "10.244.0.8"]);
    feed.service(&db, None);
    assert_eq!(of("db"), ["NoName"]);
    feed.service(&db, Some(&headless));
    assert_eq!(of("db"), ["10.244.0.7", "10.244.0.8"]);
}

#[test]
fn a_slice_may_go_from_a_headless_service_to_another() {
    let (mut feed, dns) = feed();
    let of = |service: &str| addresses(&dns, &format!("{service}.shop.svc.cluster.local."));
    for service in ["a", "b"] {
        let headless = object(json!({"spec": {"clusterIP": "None"}}));
        feed.service(&name("shop", service), Some(&headless));
    }
    told(&mut feed, "x", Some(&slice_of("a", "10.244.0.7")));
    told(&mut feed, "x", Some(&slice_of("b", "10.244.0.7")));
    assert_eq!((of("a"), of("b")), (vec!["NoName".into()], vec!["10.244.0.7".to_owned()]));
    told(&mut feed, "x", Some(&slice_of("nobody", "10.244.0.7")));
    assert_eq!(of("b"), ["NoName"]);
}

#[test]
fn pods_have_names_while_they_live() {
    let (mut feed, dns) = feed();
    let pod = |phase: &str| -> core::Pod {
        object(json!({
            "spec": {"containers": []},
            "status": {"phase": phase, "podIPs": [{"ip": "10.244.0.9"}]},
        }))
    };
    let of = || addresses(&dns, "10-244-0-9.shop.pod.cluster.local.");
    feed.pod(&name("shop", "a"), Some(&pod("Running")));
    assert_eq!(of(), ["10.244.0.9"]);
    feed.pod(&name("shop", "a"), Some(&pod("Succeeded")));
    assert_eq!(of(), ["NoName"]);
}

#[test]
fn a_pods_resolver_is_known_where_it_is_not_the_usual_one() {
    let config = |spec: Value| {
        let pod = object(json!({"spec": spec, "status": {"podIP": "10.244.0.9"}}));
        let pod = cut::pod(&name("shop", "a"), &pod).unwrap();
        pod.config
            .map(|wishes| (wishes.policy, wishes.servers.len(), wishes.searches, wishes.ndots))
    };
    let spec = |more: Value| {
        let mut spec = json!({"containers": []});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    assert_eq!(config(spec(json!({}))), None);
    assert_eq!(config(spec(json!({"dnsPolicy": "ClusterFirst"}))), None);
    let of_node = Some((Policy::Node, 0, vec![], None));
    assert_eq!(config(spec(json!({"dnsPolicy": "Default"}))), of_node);
    assert_eq!(config(spec(json!({"hostNetwork": true}))), of_node);
    let with_host = json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"});
    assert_eq!(config(spec(with_host)), None);
    let dns_config = json!({
        "nameservers": ["192.0.2.1", "nonsense"], "searches": ["corp.example"],
        "options": [{"name": "edns0"}, {"name": "ndots", "value": "2"}],
    });
    let searches = vec!["corp.example".to_owned()];
    assert_eq!(
        config(spec(json!({"dnsConfig": dns_config}))),
        Some((Policy::Cluster, 1, searches.clone(), Some(2)))
    );
    assert_eq!(
        config(spec(json!({"dnsPolicy": "None", "dnsConfig": dns_config}))),
        Some((Policy::Nothing, 1, searches, Some(2)))
    );
}
