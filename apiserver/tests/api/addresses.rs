//! ServiceCIDRs and IPAddresses: what is taken can be seen, and what can be seen is taken.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::{Cluster, ask, message};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";
const RANGES: &str = "/apis/networking.k8s.io/v1/servicecidrs";

fn service(name: &str, spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
        "spec": { "ports": [{ "port": 80 }] },
    });
    for (field, value) in spec.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    object
}

fn address(name: &str, owner: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress", "metadata": { "name": name },
        "spec": { "parentRef": { "resource": "services", "namespace": "default", "name": owner } },
    })
}

fn range(name: &str, cidrs: Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": { "name": name },
        "spec": { "cidrs": cidrs },
    })
}

/// The names of a collection's objects.
async fn names(cluster: &Cluster, path: &str) -> Vec<String> {
    let (_, list) = cluster.get(path).await;
    let items = list["items"].as_array().unwrap_or_else(|| panic!("{list}"));
    items.iter().map(|i| i["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn an_address_of_a_service_is_an_object_as_long_as_the_service_has_it() {
    let cluster = Cluster::bare().await;
    assert_eq!(names(&cluster, ADDRESSES).await, ["10.96.0.1"], "that of the API server");
    let both = json!({ "ipFamilyPolicy": "RequireDualStack" });
    let (code, made) = cluster.post(SERVICES, service("a", both)).await;
    assert_eq!(code, 201, "{made}");
    let addresses = made["spec"]["clusterIPs"].as_array().unwrap();
    assert_eq!(made["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    for (address, family) in addresses.iter().zip(["IPv4", "IPv6"]) {
        let (code, object) =
            cluster.get(&format!("{ADDRESSES}/{}", address.as_str().unwrap())).await;
        assert_eq!(code, 200, "{object}");
        assert_eq!(object["metadata"]["labels"]["ipaddress.kubernetes.io/ip-family"], family);
        assert_eq!(object["spec"]["parentRef"]["name"], "a");
        let version = |o: &Value| o["metadata"]["resourceVersion"].clone();
        assert_eq!(version(&object), version(&made), "one transaction");
    }
    // The second family is given up, and its address with it.
    let single = json!({ "spec": { "ipFamilyPolicy": "SingleStack" } });
    let (code, shrunk) = cluster.merge(&format!("{SERVICES}/a"), single).await;
    assert_eq!((code, &shrunk["spec"]["clusterIPs"]), (200, &json!([addresses[0]])), "{shrunk}");
    assert_eq!(names(&cluster, ADDRESSES).await.len(), 2);
    let grown = json!({ "spec": { "ipFamilyPolicy": "PreferDualStack" } });
    let (code, grown) = cluster.merge(&format!("{SERVICES}/a"), grown).await;
    assert_eq!((code, &grown["spec"]["clusterIPs"][0]), (200, &addresses[0]), "{grown}");
    assert!(grown["spec"]["clusterIPs"][1].as_str().unwrap().starts_with("fd00:10:96::"));
    cluster.delete(&format!("{SERVICES}/a"), json!({})).await;
    assert_eq!(names(&cluster, ADDRESSES).await, ["10.96.0.1"]);
}

#[tokio::test]
async fn nobody_takes_an_address_by_the_back_door() {
    let cluster = Cluster::start().await;
    let asked = json!({ "clusterIP": "10.96.0.9" });
    let (code, made) = cluster.post(SERVICES, service("a", asked.clone())).await;
    assert_eq!(code, 201, "{made}");
    // Neither by making the object …
    let (code, refused) = cluster.post(ADDRESSES, address("10.96.0.9", "thief")).await;
    assert_eq!(code, 409, "{refused}");
    assert_eq!(message(&refused), r#"ipaddresses.networking.k8s.io "10.96.0.9" already exists"#);
    // … nor by removing it …
    let path = format!("{ADDRESSES}/10.96.0.9");
    let dry = cluster.delete(&path, json!({ "dryRun": ["All"] })).await;
    assert_eq!(dry.0, 403, "{}", dry.1);
    let (code, refused) = cluster.delete(&path, json!({})).await;
    assert_eq!(code, 403, "{refused}");
    assert!(message(&refused).contains("the Service default/a has this address"), "{refused}");
    // … nor by giving it to somebody else.
    let other = json!({ "spec": { "parentRef": { "name": "thief" } } });
    let (code, refused) = cluster.merge(&path, other).await;
    assert_eq!(code, 422, "{refused}");
    assert!(message(&refused).contains("spec.parentRef: Invalid value: "), "{refused}");
    assert!(message(&refused).ends_with("field is immutable"), "{refused}");
}

#[tokio::test]
async fn an_object_made_by_hand_reserves_its_address() {
    let cluster = Cluster::start().await;
    let (code, made) = cluster.post(ADDRESSES, address("10.96.0.9", "later")).await;
    assert_eq!(code, 201, "{made}");
    let asked = json!({ "clusterIP": "10.96.0.9" });
    let (code, refused) = cluster.post(SERVICES, service("a", asked.clone())).await;
    assert_eq!(code, 422, "{refused}");
    assert!(message(&refused).contains("provided IP is already allocated (IP "), "{refused}");
    let causes = refused["details"]["causes"].to_string();
    let note = "IP 10.96.0.9 is held by the IPAddress 10.96.0.9 (for services/default/later)";
    assert!(causes.contains(note), "{causes}");
    // The reservation is not the Service's: it is free when it is taken away.
    let (code, _) = cluster.delete(&format!("{ADDRESSES}/10.96.0.9"), json!({})).await;
    assert_eq!(code, 200);
    let (code, made) = cluster.post(SERVICES, service("a", asked)).await;
    assert_eq!(code, 201, "{made}");
}

#[tokio::test]
async fn the_ranges_of_the_flags_are_an_object_and_users_add_more() {
    let cluster = Cluster::start().await;
    let (_, default) = cluster.get(&format!("{RANGES}/kubernetes")).await;
    assert_eq!(default["spec"]["cidrs"], json!(["10.96.0.0/12", "fd00:10:96::/112"]), "{default}");
    let finalizer = json!(["networking.k8s.io/service-cidr-finalizer"]);
    assert_eq!(default["metadata"]["finalizers"], finalizer);

    let asked = json!({ "clusterIP": "172.30.0.5" });
    let (code, refused) = cluster.post(SERVICES, service("a", asked.clone())).await;
    assert_eq!(code, 422, "{refused}");
    let (code, made) = cluster.post(RANGES, range("more", json!(["172.30.0.0/24"]))).await;
    assert_eq!(code, 201, "{made}");
    let (code, made) = cluster.post(SERVICES, service("a", asked)).await;
    assert_eq!((code, &made["spec"]["clusterIP"]), (201, &json!("172.30.0.5")), "{made}");

    // On its way out it gives no more, and what it has given stays.
    let (code, leaving) = cluster.delete(&format!("{RANGES}/more"), json!({})).await;
    assert_eq!(code, 200, "{leaving}");
    assert!(leaving["metadata"]["deletionTimestamp"].is_string(), "{leaving}");
    let other = json!({ "clusterIP": "172.30.0.6" });
    let (code, refused) = cluster.post(SERVICES, service("b", other)).await;
    assert_eq!(code, 422, "{refused}");
    let (code, kept) = cluster
        .merge(&format!("{SERVICES}/a"), json!({ "metadata": { "labels": { "x": "y" } } }))
        .await;
    assert_eq!((code, &kept["spec"]["clusterIP"]), (200, &json!("172.30.0.5")), "{kept}");
    let (code, refused) =
        cluster.post(SERVICES, service("c", json!({ "clusterIP": "172.30.0.5" }))).await;
    assert_eq!(code, 422, "still taken: {refused}");
}

#[tokio::test]
async fn a_controller_says_which_ranges_are_ready() {
    let cluster = Cluster::start().await;
    cluster.post(RANGES, range("more", json!(["172.30.0.0/24"]))).await;
    let ready = |status: &str| {
        json!({ "status": { "conditions": [{
        "type": "Ready", "status": status, "reason": "Tested", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }] } })
    };
    let status = format!("{RANGES}/more/status");
    for (word, code) in [("False", 422), ("True", 201)] {
        let (patched, object) = cluster.merge(&status, ready(word)).await;
        assert_eq!(patched, 200, "{object}");
        assert_eq!(object["status"]["conditions"][0]["status"], word);
        let asked = json!({ "clusterIP": "172.30.0.5" });
        let (found, answer) = cluster.post(SERVICES, service("a", asked)).await;
        assert_eq!(found, code, "{word}: {answer}");
    }
}

#[tokio::test]
async fn a_bad_range_is_refused_in_upstreams_words() {
    let cluster = Cluster::start().await;
    let cases = [
        (json!([]), "spec.cidrs: Required value: at least one CIDR required"),
        (
            json!(["172.30.0.1/24"]),
            r#"spec.cidrs[0]: Invalid value: "172.30.0.1/24": must not have bits set beyond the prefix length"#,
        ),
    ];
    for (cidrs, expected) in cases {
        let (code, refused) = cluster.post(RANGES, range("bad", cidrs)).await;
        let text = format!(r#"ServiceCIDR.networking.k8s.io "bad" is invalid: {expected}"#);
        assert_eq!((code, message(&refused)), (422, text.as_str()));
    }
    let changed = json!({ "spec": { "cidrs": ["10.0.0.0/8", "fd00:10:96::/112"] } });
    let (code, refused) = cluster.merge(&format!("{RANGES}/kubernetes"), changed).await;
    assert_eq!(code, 422);
    assert!(message(&refused).ends_with(r#""10.0.0.0/8": field is immutable"#), "{refused}");
    let (code, refused) = cluster.post(ADDRESSES, address("10.096.0.9", "a")).await;
    assert_eq!(code, 422);
    assert!(message(&refused).ends_with("must not have leading 0s"), "{refused}");
}

#[tokio::test]
async fn addresses_outlive_the_server() {
    let cluster = Cluster::start().await;
    let (_, made) = cluster.post(SERVICES, service("a", json!({}))).await;
    let before = names(&cluster, ADDRESSES).await;
    let (_, range) = cluster.get(&format!("{RANGES}/kubernetes")).await;
    let cluster = Cluster::start_in(cluster.stop().await).await;
    assert_eq!(names(&cluster, ADDRESSES).await, before);
    assert_eq!(cluster.get(&format!("{RANGES}/kubernetes")).await.1, range, "left alone");
    let asked = json!({ "clusterIP": made["spec"]["clusterIP"] });
    let (code, refused) = cluster.post(SERVICES, service("b", asked)).await;
    assert_eq!(code, 422, "{refused}");
}

#[tokio::test]
async fn a_cluster_of_ipv6_has_everything_in_ipv6() {
    let dir = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let ranges = ["fd00:10:96::/112"];
    let cluster = Cluster::start_with(dir, &ranges, "[fd00:192:168:56::70]:6443").await;
    let (_, own) = cluster.get(&format!("{SERVICES}/kubernetes")).await;
    assert_eq!(own["spec"]["clusterIPs"], json!(["fd00:10:96::1"]), "{own}");
    assert_eq!(own["spec"]["ipFamilies"], json!(["IPv6"]));
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";
    let (_, slice) = cluster.get(slices).await;
    assert_eq!(slice["addressType"], "IPv6", "{slice}");
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["fd00:192:168:56::70"]));
    let (code, made) = cluster.post(SERVICES, service("a", json!({}))).await;
    assert_eq!((code, &made["spec"]["ipFamilies"]), (201, &json!(["IPv6"])), "{made}");
    let v4 = json!({ "ipFamilies": ["IPv4"] });
    let (code, refused) = cluster.post(SERVICES, service("b", v4)).await;
    assert_eq!(code, 422);
    assert!(message(&refused).ends_with("not configured on this cluster"), "{refused}");
}

#[tokio::test]
async fn a_second_family_may_be_added_at_a_later_start() {
    let dir = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let (server, both) = ("192.168.56.70:6443", ["10.96.0.0/12", "fd00:10:96::/112"]);
    let cluster = Cluster::start_with(dir, &both[..1], server).await;
    let prefer = json!({ "ipFamilyPolicy": "PreferDualStack" });
    let (_, old) = cluster.post(SERVICES, service("old", prefer.clone())).await;
    assert_eq!(old["spec"]["ipFamilies"], json!(["IPv4"]), "{old}");
    let cluster = Cluster::start_with(cluster.stop().await, &both, server).await;
    let (_, range) = cluster.get(&format!("{RANGES}/kubernetes")).await;
    assert_eq!(range["spec"]["cidrs"], json!(both), "{range}");
    let (_, kept) = cluster.get(&format!("{SERVICES}/old")).await;
    assert_eq!(kept["spec"], old["spec"], "nobody asked for more");
    let (_, new) = cluster.post(SERVICES, service("new", prefer)).await;
    assert_eq!(new["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]), "{new}");
    let require = json!({ "spec": { "ipFamilyPolicy": "RequireDualStack" } });
    let (code, grown) = cluster.merge(&format!("{SERVICES}/old"), require).await;
    assert_eq!((code, &grown["spec"]["clusterIP"]), (200, &old["spec"]["clusterIP"]), "{grown}");
    assert_eq!(grown["spec"]["clusterIPs"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn whatever_happens_at_once_services_and_addresses_agree() {
    let cluster = Cluster::bare().await;
    // Few addresses, so that the Services are in each other's way.
    let small = range("small", json!(["172.30.0.0/28", "fd00:30::/124"]));
    assert_eq!(cluster.post(RANGES, small).await.0, 201);
    let client = cluster.client().await;
    let lives = (0..24).map(|i| {
        let client = client.clone();
        async move {
            let json = "application/json";
            let merge = "application/merge-patch+json";
            let path = format!("{SERVICES}/s{i}");
            let asked = json!({ "clusterIP": format!("172.30.0.{}", 1 + i % 14) });
            let made = service(&format!("s{i}"), asked).to_string();
            let (code, _) = ask(&client, "POST", SERVICES, json, &made).await;
            if code != 201 {
                assert_eq!(code, 422, "somebody was faster");
                let any = service(&format!("s{i}"), json!({})).to_string();
                assert_eq!(ask(&client, "POST", SERVICES, json, &any).await.0, 201);
            }
            for policy in ["RequireDualStack", "SingleStack", "PreferDualStack"] {
                let change = json!({ "spec": { "ipFamilyPolicy": policy } }).to_string();
                let (code, changed) = ask(&client, "PATCH", &path, merge, &change).await;
                assert_eq!(code, 200, "{changed}");
            }
            if i % 3 == 0 {
                assert_eq!(ask(&client, "DELETE", &path, json, "{}").await.0, 200);
            }
        }
    });
    // A range goes away meanwhile; what it has given stays given.
    let path = format!("{RANGES}/small");
    let leaving = cluster.delete(&path, json!({}));
    let (_, (code, _)) = futures::join!(futures::future::join_all(lives), leaving);
    assert_eq!(code, 200);

    let (_, list) = cluster.get(SERVICES).await;
    let mut held = BTreeMap::new();
    for service in list["items"].as_array().unwrap() {
        for address in service["spec"]["clusterIPs"].as_array().unwrap() {
            let name = service["metadata"]["name"].as_str().unwrap().to_owned();
            let before = held.insert(address.as_str().unwrap().to_owned(), name);
            assert_eq!(before, None, "{address} is held twice");
        }
    }
    let (_, list) = cluster.get(ADDRESSES).await;
    let objects = list["items"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let taken: BTreeMap<String, String> = objects
        .map(|o| (text(&o["metadata"]["name"]), text(&o["spec"]["parentRef"]["name"])))
        .collect();
    assert_eq!(held, taken);
    assert_eq!(held.len(), 2 * 16 + 1, "those that are left, and the API server's");
}
