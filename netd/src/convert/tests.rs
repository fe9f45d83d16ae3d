//! Kubernetes' objects as people write them.

use netmodel::address::{Family, Protocol};
use serde_json::{Value, from_value, json};

fn service(spec: Value) -> Option<netmodel::snapshot::Service> {
    let object = json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec});
    super::service(&from_value(object).unwrap())
}

fn slice(
    object: Value,
) -> Option<(netmodel::snapshot::ServiceName, netmodel::snapshot::EndpointSlice)> {
    super::slice(&from_value(object).unwrap())
}

#[test]
fn a_service_with_everything() {
    let object = json!({
        "metadata": {
            "name": "web", "namespace": "default",
            "annotations": {"minictl.io/ipvs-scheduler": "lc"},
        },
        "spec": {
            "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd96::9"],
            "externalIPs": ["172.30.1.44"],
            "ports": [
                {"name": "http", "port": 80, "targetPort": 8080, "nodePort": 30080},
                {"name": "dns", "port": 53, "protocol": "UDP"},
            ],
            "sessionAffinity": "ClientIP",
            "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local",
            "loadBalancerSourceRanges": ["192.168.0.0/16", " 10.0.0.0/8 ", "nonsense"],
        },
        "status": {"loadBalancer": {"ingress": [
            {"ip": "203.0.113.1", "ipMode": "VIP"}, {"ip": "203.0.113.2", "ipMode": "Proxy"},
            {"hostname": "lb.example"},
        ]}},
    });
    let service = super::service(&from_value(object).unwrap()).unwrap();
    let ports: Vec<_> =
        service.ports.iter().map(|p| (&*p.name, p.protocol, p.port, p.node_port)).collect();
    assert_eq!(ports, [("http", Protocol::Tcp, 80, Some(30080)), ("dns", Protocol::Udp, 53, None)]);
    let text = |list: &[std::net::IpAddr]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(text(&service.cluster_ips), ["10.96.0.9", "fd96::9"]);
    assert_eq!(text(&service.external_ips), ["172.30.1.44"]);
    assert_eq!(text(&service.load_balancer_ips), ["203.0.113.1"]);
    assert_eq!(service.source_ranges.len(), 2);
    assert_eq!(service.affinity_seconds, Some(10_800), "Kubernetes' default");
    assert!(service.external_local && service.internal_local);
    assert_eq!(service.scheduler.as_deref(), Some("lc"));
}

#[test]
fn services_without_a_virtual_address_are_nothing_to_the_kernel() {
    assert_eq!(service(json!({"clusterIP": "None", "clusterIPs": ["None"]})), None);
    assert_eq!(service(json!({"type": "ExternalName", "externalName": "example.org"})), None);
    assert_eq!(service(json!({"ports": [{"port": 80}]})), None, "not allocated yet");
}

#[test]
fn another_proxys_service_is_left_to_it() {
    let object = json!({
        "metadata": {"name": "web", "labels": {"service.kubernetes.io/service-proxy-name": "x"}},
        "spec": {"clusterIPs": ["10.96.0.9"], "ports": [{"port": 80}]},
    });
    assert_eq!(super::service(&from_value(object).unwrap()), None);
}

#[test]
fn a_slices_conditions_have_kubernetes_defaults() {
    let (owner, slice) = slice(json!({
        "metadata": {
            "name": "web-x", "namespace": "default",
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}, {"name": "all"}],
        "endpoints": [
            {"addresses": ["10.244.1.5"], "nodeName": "node-1"},
            {"addresses": ["10.244.1.6"], "conditions": {"ready": false}},
            {"addresses": ["10.244.1.7"],
             "conditions": {"ready": false, "serving": true, "terminating": true}},
        ],
    }))
    .unwrap();
    assert_eq!(owner.to_string(), "default/web");
    assert_eq!(slice.family, Family::V4);
    assert_eq!(slice.ports.len(), 1, "a port without a number serves nothing");
    let states: Vec<_> =
        slice.endpoints.iter().map(|e| (e.ready, e.serving, e.terminating)).collect();
    assert_eq!(states, [(true, true, false), (false, false, false), (false, true, true)]);
    assert_eq!(slice.endpoints[0].node.as_deref(), Some("node-1"));
}

#[test]
fn slices_of_names_or_of_no_service_are_left_out() {
    let with = |kind: &str, labels: Value| {
        slice(json!({
            "metadata": {"name": "x", "namespace": "default", "labels": labels},
            "addressType": kind, "endpoints": [],
        }))
    };
    assert!(with("IPv6", json!({"kubernetes.io/service-name": "web"})).is_some());
    assert!(with("FQDN", json!({"kubernetes.io/service-name": "web"})).is_none());
    assert!(with("IPv4", json!({})).is_none());
}

#[test]
fn a_nodes_addresses_and_ranges() {
    let node = super::node(
        &from_value(json!({
            "metadata": {"name": "n", "labels": {"topology.kubernetes.io/zone": "a"}},
            "spec": {"podCIDR": "10.244.1.0/24"},
            "status": {"addresses": [
                {"type": "Hostname", "address": "n"},
                {"type": "InternalIP", "address": "192.168.56.70"},
                {"type": "ExternalIP", "address": "203.0.113.7"},
            ]},
        }))
        .unwrap(),
    );
    assert_eq!(node.addresses.len(), 2);
    assert_eq!(node.pod_cidrs, ["10.244.1.0/24".parse().unwrap()]);
    assert_eq!(node.zone.as_deref(), Some("a"));
}
