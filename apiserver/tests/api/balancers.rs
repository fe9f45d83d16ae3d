//! AddressPools and the Services that have their addresses, over the API.

use apiserver::Features;
use serde_json::{Value, json};

use crate::harness::{Cluster, ask, message, node};

const POOLS: &str = "/apis/minictl.io/v1/addresspools";
const SERVICES: &str = "/api/v1/namespaces/default/services";
const CONDITION: &str = "minictl.io/AddressAssigned";

fn pool(name: &str, addresses: Value) -> Value {
    json!({
        "apiVersion": "minictl.io/v1", "kind": "AddressPool",
        "metadata": { "name": name }, "spec": { "addresses": addresses },
    })
}

fn balanced(name: &str, annotations: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name, "annotations": annotations },
        "spec": { "type": "LoadBalancer", "ports": [{ "port": 80 }] },
    })
}

fn addresses(service: &Value) -> Vec<&str> {
    let ingress = service["status"]["loadBalancer"]["ingress"].as_array();
    ingress.into_iter().flatten().filter_map(|entry| entry["ip"].as_str()).collect()
}

/// The reason of the condition about addresses.
fn said(service: &Value) -> &str {
    let conditions = service["status"]["conditions"].as_array();
    let mut ours = conditions.into_iter().flatten().filter(|c| c["type"] == CONDITION);
    ours.next().and_then(|c| c["reason"].as_str()).unwrap_or_default()
}

#[tokio::test]
async fn a_pool_has_addresses_that_nobody_else_has() {
    let cluster = Cluster::start().await;
    let mut member = node("node-1");
    member["status"] =
        json!({ "addresses": [{ "type": "InternalIP", "address": "192.168.56.70" }] });
    let (code, made) = cluster.post("/api/v1/nodes", member).await;
    assert_eq!(code, 201, "{made}");
    let (code, made) = cluster.post(POOLS, pool("a", json!(["10.9.0.0/24", "fd00:9::/120"]))).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["spec"]["autoAssign"], true);
    assert_eq!(made["status"], json!({ "assigned": 0, "available": 512 }));
    for (range, owner) in [
        ("10.9.0.7-10.9.1.7", r#"10.9.0.0/24 of the AddressPool "a""#),
        ("10.96.0.0/24", r#"10.96.0.0/12 of the ServiceCIDR "kubernetes""#),
        ("10.244.9.0/24", "the range of pods 10.244.0.0/16"),
        ("192.168.56.0/24", r#"192.168.56.70, an address of the node "node-1""#),
    ] {
        let (code, refused) = cluster.post(POOLS, pool("b", json!([range]))).await;
        assert_eq!(code, 422, "{refused}");
        assert_eq!(
            message(&refused),
            format!(
                r#"AddressPool.minictl.io "b" is invalid: spec.addresses[0]: Invalid value: "{range}": overlaps with {owner}"#
            )
        );
    }
    let path = "/apis/networking.k8s.io/v1/servicecidrs";
    let range = json!({ "metadata": { "name": "more" }, "spec": { "cidrs": ["10.9.0.0/28"] } });
    let (code, refused) = cluster.post(path, range).await;
    assert_eq!(code, 422, "{refused}");
    let owner = r#"overlaps with 10.9.0.0/24 of the AddressPool "a""#;
    assert!(message(&refused).ends_with(owner), "{refused}");
    // It may be changed where it stands.
    let larger = json!({ "spec": { "addresses": ["10.9.0.0/23"] } });
    let (code, changed) = cluster.merge(&format!("{POOLS}/a"), larger).await;
    assert_eq!(code, 200, "{changed}");
    let (code, refused) =
        cluster.post(POOLS, json!({ "metadata": { "name": "c" }, "spec": { "ranges": [] } })).await;
    assert_eq!(code, 422, "{refused}");
}

#[tokio::test]
async fn unknown_fields_of_a_pool_are_seen() {
    let cluster = Cluster::start().await;
    let mut typo = pool("a", json!(["10.9.0.0/24"]));
    typo["spec"]["adresses"] = json!([]);
    let (code, refused) = cluster.post(&format!("{POOLS}?fieldValidation=Strict"), typo).await;
    assert_eq!(code, 400, "{refused}");
    assert!(message(&refused).contains(r#"unknown field "spec.adresses""#), "{refused}");
    let (code, document) = cluster.get("/openapi/v3/apis/minictl.io/v1").await;
    assert_eq!(code, 200);
    let known = &document["components"]["schemas"]["io.minictl.v1.AddressPoolSpec"]["properties"];
    assert!(known["serviceSelector"].is_object(), "{known}");
}

#[tokio::test]
async fn a_service_gets_its_address_with_its_creation_and_keeps_it() {
    let cluster = Cluster::start().await;
    cluster.post(POOLS, pool("a", json!(["10.9.0.1-10.9.0.2"]))).await;
    let (code, made) = cluster.post(SERVICES, balanced("web", json!({}))).await;
    assert_eq!((code, addresses(&made)), (201, vec!["10.9.0.1"]), "{made}");
    assert_eq!(made["status"]["loadBalancer"]["ingress"][0]["ipMode"], "VIP");
    assert_eq!(said(&made), "FromPool");
    let path = format!("{SERVICES}/web");
    let labelled = json!({ "metadata": { "labels": { "a": "b" } } });
    let (_, changed) = cluster.merge(&path, labelled).await;
    assert_eq!(addresses(&changed), ["10.9.0.1"]);
    // What it asks for, it gets; whatever a status says, it has.
    let asked =
        json!({ "metadata": { "annotations": { "minictl.io/load-balancer-ips": "10.9.0.2" } } });
    let (_, moved) = cluster.merge(&path, asked).await;
    assert_eq!(addresses(&moved), ["10.9.0.2"], "{moved}");
    let lie = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "192.168.56.70" }] } } });
    let (code, kept) = cluster.merge(&format!("{path}/status"), lie).await;
    assert_eq!((code, addresses(&kept)), (200, vec!["10.9.0.2"]), "{kept}");
    let (_, plain) = cluster.merge(&path, json!({ "spec": { "type": "ClusterIP" } })).await;
    assert_eq!((addresses(&plain).len(), said(&plain)), (0, ""), "{plain}");
    // A dry run takes nothing.
    let dry = format!("{SERVICES}?dryRun=All");
    for name in ["x", "y", "z"] {
        let (code, tried) = cluster.post(&dry, balanced(name, json!({}))).await;
        assert_eq!((code, addresses(&tried)), (201, vec!["10.9.0.1"]), "{tried}");
    }
}

#[tokio::test]
async fn without_a_pool_and_with_the_class_of_another_nothing_is_given() {
    let cluster = Cluster::start().await;
    let (code, pending) = cluster.post(SERVICES, balanced("a", json!({}))).await;
    assert_eq!((code, addresses(&pending).len(), said(&pending)), (201, 0, ""), "{pending}");
    cluster.post(POOLS, pool("a", json!(["10.9.0.1-10.9.0.2"]))).await;
    let mut other = balanced("b", json!({}));
    other["spec"]["loadBalancerClass"] = json!("example.com/other");
    let (_, made) = cluster.post(SERVICES, other).await;
    assert_eq!((addresses(&made).len(), said(&made)), (0, ""), "{made}");
    let theirs = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "10.7.7.7" }] } } });
    let (_, written) = cluster.merge(&format!("{SERVICES}/b/status"), theirs).await;
    assert_eq!(addresses(&written), ["10.7.7.7"], "their controller may write it");
}

#[tokio::test]
async fn a_server_may_leave_load_balancers_to_others() {
    let features = Features { load_balancer: false, ..Features::default() };
    let cluster = Cluster::with(features).await;
    cluster.post(POOLS, pool("a", json!(["10.9.0.1-10.9.0.2"]))).await;
    let (code, made) = cluster.post(SERVICES, balanced("web", json!({}))).await;
    assert_eq!((code, addresses(&made).len(), said(&made)), (201, 0, ""), "{made}");
    assert!(made["spec"]["ports"][0]["nodePort"].is_number(), "it has a nodePort: {made}");
    let theirs = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "10.7.7.7" }] } } });
    let (_, written) = cluster.merge(&format!("{SERVICES}/web/status"), theirs).await;
    assert_eq!(addresses(&written), ["10.7.7.7"]);
}

#[tokio::test]
async fn services_with_one_key_share_an_address_and_part_from_it() {
    let cluster = Cluster::start().await;
    cluster.post(POOLS, pool("a", json!(["10.9.0.1-10.9.0.3"]))).await;
    let with = |name: &str, key: &str, port: u16| {
        let mut service = balanced(name, json!({ "minictl.io/allow-shared-ip": key }));
        service["spec"]["ports"] = json!([{ "port": port }]);
        service
    };
    let (_, a) = cluster.post(SERVICES, with("a", "k", 80)).await;
    let (_, b) = cluster.post(SERVICES, with("b", "k", 443)).await;
    assert_eq!((addresses(&a), addresses(&b)), (vec!["10.9.0.1"], vec!["10.9.0.1"]));
    let (_, c) = cluster.post(SERVICES, with("c", "k", 80)).await;
    assert_eq!(addresses(&c), ["10.9.0.2"], "port 80 of the first is taken: {c}");
    // A port more moves the one that wants it, and nobody else.
    let more =
        json!({ "spec": { "ports": [{ "name": "s", "port": 443 }, { "name": "p", "port": 80 }] } });
    let (_, b) = cluster.merge(&format!("{SERVICES}/b"), more).await;
    assert_eq!(addresses(&b), ["10.9.0.3"], "{b}");
    cluster.delete(&format!("{SERVICES}/a"), json!({})).await;
    let (_, d) = cluster.post(SERVICES, balanced("d", json!({}))).await;
    assert_eq!(addresses(&d), ["10.9.0.1"], "all who had it are gone: {d}");
}

#[tokio::test]
async fn many_at_once_have_an_address_each() {
    let cluster = Cluster::start().await;
    cluster.post(POOLS, pool("a", json!(["10.9.0.1-10.9.0.24"]))).await;
    let client = cluster.client().await;
    let creations = (0..30).map(|i| {
        let (client, body) = (client.clone(), balanced(&format!("s{i}"), json!({})).to_string());
        async move { ask(&client, "POST", SERVICES, "application/json", &body).await }
    });
    let all = futures::future::join_all(creations).await;
    let mut given: Vec<&str> = Vec::new();
    let mut without = 0;
    for (code, made) in &all {
        assert_eq!(*code, 201, "{made}");
        given.extend(addresses(made));
        without += usize::from(said(made) == "PoolExhausted");
    }
    given.sort_unstable();
    given.dedup();
    assert_eq!((given.len(), without), (24, 6));
}

#[tokio::test]
async fn a_node_gives_itself_no_address() {
    let cluster = Cluster::start().await;
    cluster.post(POOLS, pool("a", json!(["10.9.0.1-10.9.0.2"]))).await;
    let node = cluster.client_as("system:node:node-1", &["system:nodes"]).await;
    let kind = "application/merge-patch+json";
    let body = json!({ "spec": { "addresses": ["10.8.0.0/24"] } }).to_string();
    let (code, _) = ask(&node, "PATCH", &format!("{POOLS}/a"), kind, &body).await;
    assert_eq!(code, 403);
    let (code, list) = ask(&node, "GET", POOLS, "", "").await;
    assert_eq!((code, list["items"].as_array().map(Vec::len)), (200, Some(1)), "it may look");
}

#[tokio::test]
async fn the_cluster_has_services_for_names_and_ingresses() {
    let cluster = Cluster::start().await;
    let (_, dns) = cluster.get("/api/v1/namespaces/kube-system/services/kube-dns").await;
    assert_eq!(dns["spec"]["clusterIPs"], json!(["10.96.0.10", "fd00:10:96::a"]), "{dns}");
    let label = "service.kubernetes.io/service-proxy-name";
    assert_eq!(dns["metadata"]["labels"][label], "minictl-node-local");
    let path = "/api/v1/namespaces/kube-system/services/minictl-ingress";
    let (_, proxies) = cluster.get(path).await;
    assert_eq!(proxies["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]), "{proxies}");
    assert_eq!(proxies["spec"]["ports"][0]["nodePort"], Value::Null);
    let (_, class) = cluster.get("/apis/networking.k8s.io/v1/ingressclasses/minictl").await;
    assert_eq!(class["spec"]["controller"], "minictl.io/ingress", "{class}");

    // What users make of it stays over a restart; what is deleted comes back at once.
    let theirs =
        json!({ "metadata": { "annotations": { "minictl.io/load-balancer-ips": "10.9.0.9" } } });
    cluster.merge(path, theirs).await;
    cluster.delete("/api/v1/namespaces/kube-system/services/kube-dns", json!({})).await;
    let start = std::time::Instant::now();
    while cluster.get("/api/v1/namespaces/kube-system/services/kube-dns").await.0 != 200 {
        assert!(start.elapsed() < crate::harness::PATIENCE, "it is not made again");
        tokio::task::yield_now().await;
    }
    let cluster = Cluster::start_in(cluster.stop().await).await;
    let (_, kept) = cluster.get(path).await;
    assert_eq!(kept["metadata"]["annotations"]["minictl.io/load-balancer-ips"], "10.9.0.9");
}
