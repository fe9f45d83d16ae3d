//! Kubernetes' objects as people write them.

use netmodel::address::{Family, Protocol};
use netmodel::snapshot::{ByNode, ServiceName};
use serde_json::{Value, from_value, json};

use crate::inputs::intern::Interner;
use crate::inputs::slices::Kept;

fn service(spec: Value) -> Option<netmodel::snapshot::Service> {
    let object = json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec});
    super::service(&from_value(object).unwrap()).0
}

fn slice(object: Value) -> Option<Kept> {
    let name = ServiceName::new("default", "x");
    super::slice(&name, &from_value(object).unwrap(), &mut Interner::default())
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
    let service = super::service(&from_value(object).unwrap()).0.unwrap();
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
fn a_service_of_another_proxy_is_left_to_it_and_one_that_nodes_answer_is_ours() {
    let by_node = |namespace: &str, name: &str, proxy: &str| {
        let object = json!({
            "metadata": {
                "name": name, "namespace": namespace,
                "labels": {"service.kubernetes.io/service-proxy-name": proxy},
            },
            "spec": {"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"]},
        });
        super::service(&from_value(object).unwrap()).0.map(|service| service.by_node)
    };
    let own = "minictl-node-local";
    let untracked = |untracked| Some(Some(ByNode { untracked }));
    assert_eq!(by_node("kube-system", "kube-dns", own), untracked(true), "the cluster's DNS");
    assert_eq!(by_node("kube-system", "minictl-ingress", own), untracked(false));
    assert_eq!(by_node("default", "kube-dns", own), untracked(false), "somebody else's");
    assert_eq!(by_node("kube-system", "kube-dns", "cilium"), None);
    assert_eq!(service(json!({"clusterIP": "10.96.0.9"})).unwrap().by_node, None);
}

#[test]
fn what_is_told_about_a_service() {
    let facts = |kind: &str, policy: &str, status: &str| {
        let object = json!({
            "metadata": {"name": "web", "uid": "u-1", "resourceVersion": "17"},
            "spec": {
                "type": kind, "clusterIP": "10.96.0.9", "externalTrafficPolicy": policy,
                "healthCheckNodePort": 31000,
            },
            "status": {"conditions": [
                {"type": "Other", "status": "False", "message": "no", "reason": "",
                 "lastTransitionTime": "2026-01-01T00:00:00Z"},
                {"type": "minictl.io/Programmed", "status": status, "message": "node-1: why",
                 "reason": "Conflict", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            ]},
        });
        super::service(&from_value(object).unwrap()).1
    };
    let local = facts("LoadBalancer", "Local", "False");
    assert_eq!((&*local.uid, &*local.resource_version), ("u-1", "17"));
    assert_eq!(local.complaint.as_deref(), Some("node-1: why"));
    assert_eq!(local.health_check_port, Some(31000));
    assert_eq!(facts("LoadBalancer", "Cluster", "True").complaint, None);
    assert_eq!(facts("LoadBalancer", "Cluster", "True").health_check_port, None);
    assert_eq!(facts("NodePort", "Local", "True").health_check_port, None);
}

#[test]
fn addresses_that_the_api_server_did_not_give_are_another_balancers() {
    let by_others = |assigned: Option<&str>, ingress: serde_json::Value| {
        let condition = |status: &str| {
            json!({"type": "minictl.io/AddressAssigned", "status": status, "message": "",
                   "reason": "FromPool", "lastTransitionTime": "2026-01-01T00:00:00Z"})
        };
        let conditions: Vec<_> = assigned.map(condition).into_iter().collect();
        let object = json!({
            "metadata": {"name": "web"},
            "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.9"},
            "status": {"conditions": conditions, "loadBalancer": {"ingress": ingress}},
        });
        super::service(&from_value(object).unwrap()).1.balanced_by_others
    };
    let given = || json!([{"ip": "192.168.56.200", "ipMode": "VIP"}]);
    assert!(!by_others(Some("True"), given()));
    assert!(by_others(None, given()), "a cloud's, or MetalLB's");
    assert!(by_others(Some("False"), given()));
    assert!(!by_others(None, json!([])), "it has none yet");
}

#[test]
fn a_slices_conditions_have_kubernetes_defaults() {
    let object = json!({
        "metadata": {
            "name": "web-x", "namespace": "default",
            "annotations": {
                "endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00.5Z",
            },
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
    });
    let triggered = super::triggered(&from_value(object.clone()).unwrap());
    let Kept { owner, slice, .. } = slice(object).unwrap();
    assert_eq!(owner.to_string(), "default/web");
    assert_eq!(triggered.unwrap().as_millisecond() % 1000, 500);
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

#[test]
fn what_the_node_itself_cares_about() {
    let node = |metadata: Value, spec: Value| {
        super::own_node(&from_value(json!({"metadata": metadata, "spec": spec})).unwrap())
    };
    let own = node(
        json!({"name": "n", "uid": "u", "annotations": {
            "minictl.io/dataplane": "ipvs (as asked)", "minictl.io/dataplane-engine": "ipvs",
        }}),
        json!({}),
    );
    assert_eq!((&*own.uid, own.leaving), ("u", false));
    assert_eq!(own.stated.as_deref(), Some("ipvs (as asked)"));
    assert_eq!(own.wanted.as_deref(), Some("ipvs"));
    let tainted = json!({"taints": [
        {"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"},
    ]});
    assert!(node(json!({"name": "n"}), tainted).leaving);
    let deleted = json!({"name": "n", "deletionTimestamp": "2026-01-01T00:00:00Z"});
    assert!(node(deleted, json!({})).leaving);
}

#[test]
fn the_ranges_of_services() {
    let object = json!({"metadata": {"name": "kubernetes"},
        "spec": {"cidrs": ["10.96.0.0/12", "fd00:10:96::/112", "nonsense"]}});
    assert_eq!(super::service_ranges(&from_value(object).unwrap()).len(), 2);
}
