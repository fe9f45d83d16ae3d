//! The objects of cluster DNS and Ingress: two Services that every node serves by itself, and the
//! class of Ingresses that name none.
//!
//! They are a convenience, not a condition: one that cannot be made (its address is taken in a
//! store that is older than it) is reported, and the server starts all the same. One that is there
//! stays as its users have made it.

use std::net::IpAddr;

use k8s_openapi::api::networking::v1::IngressClass;
use resources::families::Family;
use serde_json::{Value, json};

use super::{First, ensure};
use crate::allocate::cluster_ip;
use crate::api::Api;

/// The Service is not for kube-proxy, nor for netd's balancer: a process of each node serves it.
const PROXY_LABEL: &str = "service.kubernetes.io/service-proxy-name";
const NODE_LOCAL: &str = "minictl-node-local";
/// The number of the DNS address in each range of Services, by which kubelets know it.
const DNS_NUMBER: u64 = 10;
const INGRESS_CLASS: &str = "minictl";
const INGRESS_CONTROLLER: &str = "minictl.io/ingress";
const SYSTEM: &str = "kube-system";

/// Those that the server's configuration asks for.
pub(super) fn wanted(api: &Api) -> Vec<First> {
    let mut wanted = Vec::new();
    if api.features.dns {
        wanted.push(First {
            group: "",
            plural: "services",
            namespace: Some(SYSTEM),
            object: dns(api),
        });
    }
    if api.features.ingress {
        let service = ingress(&api.ranges.families());
        wanted.push(First {
            group: "",
            plural: "services",
            namespace: Some(SYSTEM),
            object: service,
        });
        let group = "networking.k8s.io";
        wanted.push(First { group, plural: "ingressclasses", namespace: None, object: class() });
    }
    wanted
}

/// Makes what is missing of them.
pub(super) async fn make(api: &Api) {
    let wanted = wanted(api);
    let made = wanted.iter().map(|first| ensure(api, first));
    for made in futures::future::join_all(made).await {
        if let Err(error) = made {
            tracing::warn!("the cluster goes without it: {error}");
        }
    }
}

fn dns(api: &Api) -> Value {
    let ranges = &api.ranges.service_cidrs;
    let addresses: Vec<IpAddr> =
        ranges.iter().map(|range| cluster_ip::address(*range, DNS_NUMBER - 1)).collect();
    let families: Vec<Family> = addresses.iter().map(|address| Family::from(*address)).collect();
    let port = |name: &str, protocol: &str| json!({ "name": name, "port": 53, "protocol": protocol, "targetPort": 53 });
    json!({
        "metadata": {
            "name": "kube-dns",
            "labels": {
                "k8s-app": "kube-dns",
                "kubernetes.io/cluster-service": "true",
                "kubernetes.io/name": "DNS",
                PROXY_LABEL: NODE_LOCAL,
            },
        },
        "spec": {
            "clusterIP": addresses.first().map(ToString::to_string),
            "clusterIPs": addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "ipFamilies": families.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "ipFamilyPolicy": policy(&families),
            "ports": [port("dns", "UDP"), port("dns-tcp", "TCP")],
        },
    })
}

fn ingress(families: &[Family]) -> Value {
    let port = |name: &str, port: u16| json!({ "name": name, "port": port, "protocol": "TCP", "targetPort": port });
    json!({
        "metadata": {
            "name": "minictl-ingress",
            "labels": { "app.kubernetes.io/name": "minictl-ingress", PROXY_LABEL: NODE_LOCAL },
        },
        "spec": {
            "type": "LoadBalancer",
            "ipFamilyPolicy": policy(families),
            // Nodes serve it themselves: a port of theirs would lead to the same place.
            "allocateLoadBalancerNodePorts": false,
            "ports": [port("http", 80), port("https", 443)],
        },
    })
}

/// As many families as the cluster has.
fn policy(families: &[Family]) -> &'static str {
    if families.len() > 1 { "PreferDualStack" } else { "SingleStack" }
}

fn class() -> Value {
    let class = json!({
        "metadata": {
            "name": INGRESS_CLASS,
            "annotations": { resources::ingress_class::DEFAULT_ANNOTATION: "true" },
        },
        "spec": { "controller": INGRESS_CONTROLLER },
    });
    debug_assert!(serde_json::from_value::<IngressClass>(class.clone()).is_ok());
    class
}
