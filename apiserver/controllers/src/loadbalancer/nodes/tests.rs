//! Who is served by the nodes' addresses, at which of them, and who comes too late.

use serde_json::{Value, json};

use super::*;

fn service(name: &str, second: u8, spec: Value) -> Arc<Service> {
    let mut object = json!({
        "metadata": {
            "name": name, "namespace": "d",
            "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z"),
        },
        "spec": {
            "type": "LoadBalancer", "ports": [{ "port": 80, "protocol": "TCP" }],
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
        },
        "status": { "loadBalancer": {} },
    });
    for (field, value) in spec.as_object().expect("an object") {
        object["spec"][field] = value.clone();
    }
    Arc::new(serde_json::from_value(object).expect("a Service"))
}

fn node(number: u8, ready: &str, labels: Value) -> Arc<Node> {
    let object = json!({
        "metadata": { "name": format!("node-{number}"), "labels": labels },
        "status": {
            "addresses": [
                { "type": "InternalIP", "address": format!("10.0.0.{number}") },
                { "type": "InternalIP", "address": format!("fd00::{number}") },
                { "type": "Hostname", "address": "x" },
            ],
            "conditions": [{ "type": "Ready", "status": ready }],
        },
    });
    Arc::new(serde_json::from_value(object).expect("a Node"))
}

fn cluster(services: &[Arc<Service>]) -> Cluster {
    Cluster {
        services: services.to_vec(),
        nodes: vec![
            node(2, "True", json!({})),
            node(1, "True", json!({})),
            node(3, "False", json!({})),
            node(4, "True", json!({ EXCLUDED: "" })),
        ],
        pods: Vec::new(),
        homes: BTreeMap::new(),
    }
}

/// Each Service that changes: its addresses, or why it has none.
fn planned(cluster: &Cluster) -> Vec<String> {
    let now = "2026-01-02T00:00:00Z".parse().expect("a time");
    let told = |service: Service| {
        let addresses: Vec<String> =
            balancer::served_at(&service).iter().map(ToString::to_string).collect();
        let condition = balancer::condition(&service).expect("a condition");
        format!("{} {}: {}", meta::name(&service), condition.reason, addresses.join(","))
    };
    plan(cluster, now).into_iter().map(told).collect()
}

#[test]
fn ready_nodes_serve_in_the_families_of_the_service() {
    let both = json!({ "ipFamilies": ["IPv6", "IPv4"], "ipFamilyPolicy": "PreferDualStack" });
    assert_eq!(
        planned(&cluster(&[service("a", 1, json!({}))])),
        ["a NodeAddresses: 10.0.0.1,10.0.0.2"]
    );
    assert_eq!(
        planned(&cluster(&[service("a", 1, both)])),
        ["a NodeAddresses: fd00::1,fd00::2,10.0.0.1,10.0.0.2"]
    );
    let mut none = cluster(&[service("a", 1, json!({}))]);
    none.nodes.clear();
    assert_eq!(planned(&none), ["a NoNode: "]);
}

#[test]
fn what_is_so_already_is_not_written() {
    let now = "2026-01-02T00:00:00Z".parse().expect("a time");
    let first = plan(&cluster(&[service("a", 1, json!({}))]), now).remove(0);
    assert_eq!(planned(&cluster(&[Arc::new(first)])), [""; 0]);
}

#[test]
fn the_oldest_has_a_port_and_the_later_ones_are_told() {
    let old = service("z", 1, json!({}));
    let new = service("a", 2, json!({}));
    let udp = service("u", 3, json!({ "ports": [{ "port": 80, "protocol": "UDP" }] }));
    let all = cluster(&[new, udp, old]);
    assert_eq!(
        planned(&all),
        [
            "z NodeAddresses: 10.0.0.1,10.0.0.2",
            "a PortConflict: ",
            "u NodeAddresses: 10.0.0.1,10.0.0.2",
        ]
    );
    let now = "2026-01-02T00:00:00Z".parse().expect("a time");
    let told = plan(&all, now).into_iter().find(|s| meta::name(s) == "a").expect("it is told");
    let message = &balancer::condition(&told).expect("a condition").message;
    assert!(
        message.starts_with("port TCP/80 of the nodes is that of the Service d/z;"),
        "{message}"
    );
}

#[test]
fn who_has_a_port_keeps_it_though_an_older_one_comes_to_want_it() {
    let now = "2026-01-02T00:00:00Z".parse().expect("a time");
    let young = plan(&cluster(&[service("young", 9, json!({}))]), now).remove(0);
    let all = cluster(&[service("old", 1, json!({})), Arc::new(young)]);
    assert_eq!(planned(&all), ["old PortConflict: "]);
}

#[test]
fn ports_of_nodes_and_pods_are_taken_before() {
    let node_port = json!({ "type": "NodePort", "ports": [{ "port": 1, "nodePort": 30080, "protocol": "TCP" }] });
    let clash = json!({ "ports": [{ "port": 30080, "protocol": "TCP" }] });
    let own = json!({ "ports": [{ "port": 30090, "nodePort": 30090, "protocol": "TCP" }] });
    let mut all =
        cluster(&[service("n", 9, node_port), service("a", 1, clash), service("b", 2, own)]);
    assert_eq!(planned(&all), ["a PortConflict: ", "b NodeAddresses: 10.0.0.1,10.0.0.2"]);
    let pod = json!({
        "metadata": { "name": "p", "namespace": "d" },
        "spec": { "containers": [{ "name": "c", "ports": [{ "containerPort": 1, "hostPort": 30090 }] }] },
    });
    all.pods = vec![Arc::new(serde_json::from_value(pod).expect("a Pod"))];
    assert_eq!(planned(&all), ["a PortConflict: ", "b PortConflict: "]);
}

#[test]
fn under_policy_local_only_nodes_with_endpoints_serve() {
    let local = || service("a", 1, json!({ "externalTrafficPolicy": "Local" }));
    let mut all = cluster(&[local()]);
    assert_eq!(planned(&all), ["a NoNode: "]);
    all.homes.insert("d/a".to_owned(), ["node-2".to_owned(), "node-3".to_owned()].into());
    assert_eq!(planned(&all), ["a NodeAddresses: 10.0.0.2"]);
}

#[test]
fn an_address_of_a_pool_outlives_it() {
    let mut held = (*service("a", 1, json!({}))).clone();
    let now = meta::seconds("2026-01-02T00:00:00Z".parse().expect("a time"));
    balancer::set_condition(&mut held, Some((true, balancer::FROM_POOL, String::new())), now);
    let other = service("b", 2, json!({}));
    let all = cluster(&[Arc::new(held), other]);
    assert_eq!(planned(&all), ["b NodeAddresses: 10.0.0.1,10.0.0.2"], "its port is free there");
}
