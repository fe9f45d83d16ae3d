//! Services: addresses and ports are taken and given back with the object.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{Cluster, PATIENCE, message};

const SERVICES: &str = "/api/v1/namespaces/default/services";

fn service(name: &str, spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
        "spec": { "selector": { "app": name }, "ports": [{ "port": 80 }] },
    });
    for (field, value) in spec.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    object
}

fn address(service: &Value) -> String {
    service["spec"]["clusterIP"].as_str().unwrap_or_else(|| panic!("{service}")).to_owned()
}

#[tokio::test]
async fn a_service_gets_an_address_of_the_range_and_keeps_it() {
    let cluster = Cluster::start().await;
    let (code, made) = cluster.post(SERVICES, service("a", json!({}))).await;
    assert_eq!(code, 201, "{made}");
    let net: ipnet::Ipv4Net = "10.96.0.0/12".parse().unwrap();
    let ip: std::net::Ipv4Addr = address(&made).parse().unwrap();
    assert!(net.contains(&ip), "{made}");
    assert_eq!(made["spec"]["clusterIPs"], json!([address(&made)]));
    assert_eq!(made["spec"]["ipFamilies"], json!(["IPv4"]));
    // A PUT of the manifest, as `kubectl replace` does it.
    let (code, replaced) =
        cluster.put(&format!("{SERVICES}/a"), service("a", json!({ "type": "NodePort" }))).await;
    assert_eq!((code, address(&replaced)), (200, address(&made)), "{replaced}");
    let port = replaced["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    assert!((30086..=32767).contains(&port), "above the reserved band: {port}");
}

#[tokio::test]
async fn every_field_is_kept_as_it_was_sent() {
    let cluster = Cluster::start().await;
    let spec = json!({
        "type": "LoadBalancer",
        "selector": { "app": "web", "tier": "front" },
        "ports": [
            { "name": "http", "port": 80, "targetPort": "web", "nodePort": 30080,
              "protocol": "TCP", "appProtocol": "kubernetes.io/h2c" },
            { "name": "dns", "port": 53, "targetPort": 5353, "nodePort": 30053, "protocol": "UDP" },
            { "name": "sigtran", "port": 2905, "targetPort": 2905, "nodePort": 30905,
              "protocol": "SCTP" },
        ],
        "clusterIP": "fd00:10:96::9", "clusterIPs": ["fd00:10:96::9", "10.96.0.9"],
        "ipFamilies": ["IPv6", "IPv4"], "ipFamilyPolicy": "RequireDualStack",
        "externalIPs": ["172.30.1.44", "fd00:30::44"],
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 60 } },
        "loadBalancerIP": "192.168.56.90", "loadBalancerClass": "example.com/own",
        "loadBalancerSourceRanges": ["192.168.56.0/24", "fd00::/8"],
        "allocateLoadBalancerNodePorts": false,
        "externalTrafficPolicy": "Local", "healthCheckNodePort": 30100,
        "internalTrafficPolicy": "Local",
        "publishNotReadyAddresses": true, "trafficDistribution": "PreferSameNode",
    });
    let object = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "all" }, "spec": spec,
    });
    let (code, made) = cluster.post(SERVICES, object).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["spec"], spec);
    let status = json!({ "status": {
        "loadBalancer": { "ingress": [
            { "ip": "192.168.56.90", "ipMode": "Proxy",
              "ports": [{ "port": 80, "protocol": "TCP", "error": "example.com/busy" }] },
            { "hostname": "lb.example" },
        ] },
        "conditions": [{ "type": "a.b/C", "status": "True", "reason": "R", "message": "m",
                         "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1 }],
    } });
    let (code, told) = cluster.merge(&format!("{SERVICES}/all/status"), status.clone()).await;
    assert_eq!((code, &told["status"]), (200, &status["status"]), "{told}");
    let (_, read) = cluster.get(&format!("{SERVICES}/all")).await;
    assert_eq!((&read["spec"], &read["status"]), (&spec, &status["status"]));
}

#[tokio::test]
async fn a_taken_address_is_refused_until_it_is_given_back() {
    let cluster = Cluster::start().await;
    let asked = json!({ "clusterIP": "10.96.0.11" });
    let (code, made) = cluster.post(SERVICES, service("a", asked.clone())).await;
    assert_eq!(code, 201, "{made}");
    let (code, refused) = cluster.post(SERVICES, service("b", asked.clone())).await;
    assert_eq!(code, 422);
    assert_eq!(
        message(&refused),
        "Service \"b\" is invalid: spec.clusterIPs: Invalid value: [\"10.96.0.11\"]: failed to \
         allocate IP 10.96.0.11: provided IP is already allocated (IP 10.96.0.11 is held by the \
         Service default/a)"
    );
    let causes = refused["details"]["causes"].to_string();
    assert!(causes.contains("IP 10.96.0.11 is held by the Service default/a"), "{causes}");
    cluster.delete(&format!("{SERVICES}/a"), json!({})).await;
    let (code, again) = cluster.post(SERVICES, service("b", asked)).await;
    assert_eq!(code, 201, "{again}");
    let outside = json!({ "clusterIP": "192.168.0.1" });
    let (code, refused) = cluster.post(SERVICES, service("c", outside)).await;
    assert_eq!(code, 422);
    assert!(
        message(&refused).contains(
            "failed to allocate IP 192.168.0.1: the provided network does not match the current range"
        ),
        "{refused}"
    );
    let causes = refused["details"]["causes"].to_string();
    assert!(causes.contains("those of its family are: 10.96.0.0/12"), "{causes}");
}

#[tokio::test]
async fn a_taken_node_port_is_refused_and_says_who_holds_it() {
    let cluster = Cluster::start().await;
    let port =
        |number: u32| json!({ "type": "NodePort", "ports": [{ "port": 80, "nodePort": number }] });
    let (code, made) = cluster.post(SERVICES, service("myapp", port(30008))).await;
    assert_eq!(code, 201, "{made}");
    let (code, refused) = cluster.post(SERVICES, service("other", port(30008))).await;
    assert_eq!(code, 422);
    assert_eq!(
        message(&refused),
        "Service \"other\" is invalid: spec.ports[0].nodePort: Invalid value: 30008: provided \
         port is already allocated (port 30008 is held by the Service default/myapp)"
    );
    let causes = refused["details"]["causes"].to_string();
    assert!(causes.contains("default/myapp"), "{causes}");
    let (code, refused) = cluster.post(SERVICES, service("other", port(80))).await;
    assert_eq!(code, 422);
    assert_eq!(
        message(&refused),
        "Service \"other\" is invalid: spec.ports[0].nodePort: Invalid value: 80: provided port \
         is not in the valid range. The range of valid ports is 30000-32767"
    );
    // A change of type gives the port back, the address stays.
    let changed = service("myapp", json!({ "type": "ClusterIP", "ports": [{ "port": 80 }] }));
    let (code, changed) = cluster.put(&format!("{SERVICES}/myapp"), changed).await;
    assert_eq!((code, address(&changed)), (200, address(&made)), "{changed}");
    assert!(changed["spec"]["ports"][0]["nodePort"].is_null(), "{changed}");
    let (code, made) = cluster.post(SERVICES, service("other", port(30008))).await;
    assert_eq!(code, 201, "{made}");
    // A refused object took nothing along.
    let (_, list) = cluster.get(SERVICES).await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(3), "{list}");
}

#[tokio::test]
async fn a_port_for_health_checks_is_a_node_port_like_others() {
    let cluster = Cluster::start().await;
    let local = |port: u32| {
        json!({
            "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": port,
            "ports": [{ "port": 80, "nodePort": 30008 }],
        })
    };
    let (code, first) = cluster.post(SERVICES, service("first", local(30100))).await;
    assert_eq!((code, &first["spec"]["healthCheckNodePort"]), (201, &json!(30100)), "{first}");
    // Another Service may have it neither for health checks nor for itself.
    let mut second = service("second", local(30100));
    second["spec"]["ports"] = json!([{ "port": 80 }]);
    let (code, refused) = cluster.post(SERVICES, second).await;
    assert_eq!(code, 422, "{refused}");
    assert_eq!(
        message(&refused),
        "Service \"second\" is invalid: spec.healthCheckNodePort: Invalid value: 30100: failed to \
         allocate requested HealthCheck NodePort 30100: provided port is already allocated (port 30100 \
         is held by the Service default/first)"
    );
    let held = "port 30100 is held by the Service default/first";
    assert!(refused["details"]["causes"].to_string().contains(held), "{refused}");
    let port = json!({ "type": "NodePort", "ports": [{ "port": 80, "nodePort": 30100 }] });
    let (code, refused) = cluster.post(SERVICES, service("second", port.clone())).await;
    assert_eq!(code, 422);
    assert!(refused["details"]["causes"].to_string().contains(held), "{refused}");
    // It stays as it is, and goes with the policy that needed it.
    let other = json!({ "spec": { "healthCheckNodePort": 30101 } });
    let (code, refused) = cluster.merge(&format!("{SERVICES}/first"), other).await;
    assert_eq!(code, 422);
    let fixed = "spec.healthCheckNodePort: Forbidden: field is immutable";
    assert!(message(&refused).ends_with(fixed), "{refused}");
    let cluster_wide = json!({ "spec": { "externalTrafficPolicy": "Cluster" } });
    let (code, changed) = cluster.merge(&format!("{SERVICES}/first"), cluster_wide).await;
    assert_eq!((code, &changed["spec"]["healthCheckNodePort"]), (200, &Value::Null), "{changed}");
    let (code, made) = cluster.post(SERVICES, service("second", port)).await;
    assert_eq!(code, 201, "it is free: {made}");
}

#[tokio::test]
async fn names_may_begin_with_a_digit_and_hold_no_capitals_or_dots() {
    let cluster = Cluster::start().await;
    let (code, made) = cluster.post(SERVICES, service("1-web", json!({}))).await;
    assert_eq!(code, 201, "{made}");
    for (name, detail) in [
        ("LB-Service", "a lowercase RFC 1123 label must consist of"),
        ("a.b", "must not contain dots"),
    ] {
        let (code, refused) = cluster.post(SERVICES, service(name, json!({}))).await;
        assert_eq!(code, 422, "{refused}");
        let text = format!("metadata.name: Invalid value: {name:?}: {detail}");
        assert!(message(&refused).contains(&text), "{refused}");
    }
}

#[tokio::test]
async fn an_external_name_has_no_address_and_becoming_one_gives_it_back() {
    let cluster = Cluster::start().await;
    let asked = json!({ "clusterIP": "10.96.0.20" });
    cluster.post(SERVICES, service("a", asked.clone())).await;
    let external = json!({ "type": "ExternalName", "externalName": "example.com" });
    let (code, changed) = cluster.put(&format!("{SERVICES}/a"), service("a", external)).await;
    assert_eq!(code, 200, "{changed}");
    assert!(changed["spec"]["clusterIP"].is_null(), "{changed}");
    let (code, made) = cluster.post(SERVICES, service("b", asked)).await;
    assert_eq!(code, 201, "the address is free again: {made}");
    let (code, back) =
        cluster.put(&format!("{SERVICES}/a"), service("a", json!({ "type": "ClusterIP" }))).await;
    assert_eq!(code, 200, "{back}");
    assert_ne!(address(&back), "10.96.0.20");
}

#[tokio::test]
async fn a_headless_service_takes_nothing() {
    let cluster = Cluster::start().await;
    let (code, made) = cluster.post(SERVICES, service("a", json!({ "clusterIP": "None" }))).await;
    assert_eq!((code, address(&made)), (201, "None".into()), "{made}");
    assert_eq!(made["spec"]["clusterIPs"], json!(["None"]));
    let (code, gone) = cluster.delete(&format!("{SERVICES}/a"), json!({})).await;
    assert_eq!(code, 200, "{gone}");
}

#[tokio::test]
async fn ports_of_one_number_share_a_node_port_over_protocols() {
    let cluster = Cluster::start().await;
    let spec = json!({ "type": "NodePort", "ports": [
        { "name": "t", "port": 53, "protocol": "TCP" },
        { "name": "u", "port": 53, "protocol": "UDP" },
        { "name": "w", "port": 80 },
    ] });
    let (code, made) = cluster.post(SERVICES, service("dns", spec)).await;
    assert_eq!(code, 201, "{made}");
    let port = |i: usize| made["spec"]["ports"][i]["nodePort"].as_u64().unwrap();
    assert_eq!(port(0), port(1));
    assert_ne!(port(0), port(2));
}

#[tokio::test]
async fn a_port_that_was_split_into_list_items_is_told_as_such() {
    let cluster = Cluster::start().await;
    let taken = json!({ "type": "NodePort", "ports": [{ "port": 80, "nodePort": 30008 }] });
    let (code, made) = cluster.post(SERVICES, service("first", taken)).await;
    assert_eq!(code, 201, "{made}");
    let split = json!([{ "targetPort": 80 }, { "port": 80 }, { "nodePort": 30008 }]);
    let split = json!({ "type": "NodePort", "ports": split });
    let (code, refused) = cluster.post(SERVICES, service("split", split)).await;
    assert_eq!(code, 422, "{refused}");
    let causes = refused["details"]["causes"].as_array().unwrap().iter();
    let told: Vec<(&str, &str)> =
        causes.map(|c| (c["field"].as_str().unwrap(), c["reason"].as_str().unwrap())).collect();
    assert_eq!(
        told,
        [
            ("spec.ports[0].name", "FieldValueRequired"),
            ("spec.ports[0].port", "FieldValueInvalid"),
            ("spec.ports[1].name", "FieldValueRequired"),
            ("spec.ports[2].name", "FieldValueRequired"),
            ("spec.ports[2].port", "FieldValueInvalid"),
            ("spec.ports[2].targetPort", "FieldValueInvalid"),
            // The first and the third are both port 0.
            ("spec.ports[2]", "FieldValueDuplicate"),
        ],
        "{refused}"
    );
    let number = "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive";
    assert!(message(&refused).contains(number), "{refused}");
}

#[tokio::test]
async fn many_services_at_once_never_share_anything() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    let made = (0..60).map(|i| {
        let client = client.clone();
        async move {
            let object = service(&format!("s{i}"), json!({ "type": "NodePort" })).to_string();
            crate::harness::ask(&client, "POST", SERVICES, "application/json", &object).await
        }
    });
    let made = futures::future::join_all(made).await;
    let mut addresses = BTreeSet::new();
    let mut ports = BTreeSet::new();
    for (code, object) in &made {
        assert_eq!(*code, 201, "{object}");
        addresses.insert(address(object));
        ports.insert(object["spec"]["ports"][0]["nodePort"].as_u64().unwrap());
    }
    assert_eq!((addresses.len(), ports.len()), (60, 60));
}

#[tokio::test]
async fn the_kubernetes_service_stands_at_the_first_address() {
    let cluster = Cluster::start().await;
    let (_, service) = cluster.get(&format!("{SERVICES}/kubernetes")).await;
    assert_eq!(address(&service), "10.96.0.1");
    let (_, endpoints) = cluster.get("/api/v1/namespaces/default/endpoints/kubernetes").await;
    assert_eq!(endpoints["subsets"][0]["addresses"][0]["ip"], "192.168.56.70");
    assert_eq!(endpoints["subsets"][0]["ports"][0]["port"], 6443);
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let (_, slice) = cluster.get(&format!("{slices}/kubernetes")).await;
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["192.168.56.70"]));
    let (code, refused) = cluster
        .post(SERVICES, {
            let mut s = service.clone();
            s["metadata"] = json!({ "name": "thief" });
            s
        })
        .await;
    assert_eq!(code, 422, "{refused}");
}

#[tokio::test]
async fn the_kubernetes_service_comes_back_when_it_is_deleted() {
    let cluster = Cluster::start().await;
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let endpoints = "/api/v1/namespaces/default/endpoints";
    for collection in [SERVICES, endpoints, slices] {
        let path = format!("{collection}/kubernetes");
        let (_, before) = cluster.get(&path).await;
        let (code, gone) = cluster.delete(&path, json!({})).await;
        assert_eq!(code, 200, "{gone}");
        let back = async {
            loop {
                let (code, now) = cluster.get(&path).await;
                if code == 200 && now["metadata"]["uid"] != before["metadata"]["uid"] {
                    return now;
                }
                tokio::task::yield_now().await;
            }
        };
        let now = tokio::time::timeout(PATIENCE, back)
            .await
            .unwrap_or_else(|_| panic!("{path} does not come back"));
        for part in ["spec", "subsets", "endpoints", "ports"] {
            assert_eq!(now[part], before[part], "{path}");
        }
    }
    let (_, service) = cluster.get(&format!("{SERVICES}/kubernetes")).await;
    assert_eq!(address(&service), "10.96.0.1");
}
