//! Endpoints and EndpointSlices written by hand: what may stand behind a Service.

use serde_json::{Value, json};

use crate::harness::{Cluster, ask, message, node};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const ENDPOINTS: &str = "/api/v1/namespaces/default/endpoints";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

fn endpoints(name: &str, address: &str, port: u16) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": { "name": name },
        "subsets": [{ "addresses": [{ "ip": address }], "ports": [{ "port": port }] }],
    })
}

fn slice(name: &str, kind: &str, address: &str, port: u16) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": name, "labels": { "kubernetes.io/service-name": "web" } },
        "addressType": kind, "endpoints": [{ "addresses": [address] }],
        "ports": [{ "name": "", "port": port, "protocol": "TCP" }],
    })
}

#[tokio::test]
async fn a_service_without_a_selector_has_the_backends_that_are_written_down() {
    let cluster = Cluster::start().await;
    let bare = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "external" },
        "spec": { "ports": [{ "port": 80 }] },
    });
    let (code, made) = cluster.post(SERVICES, bare).await;
    assert_eq!(code, 201, "{made}");
    let mut two = endpoints("external", "11.11.11.11", 80);
    two["subsets"][0]["addresses"] = json!([{ "ip": "11.11.11.11" }, { "ip": "22.22.22.22" }]);
    let (code, made) = cluster.post(ENDPOINTS, two).await;
    assert_eq!(code, 201, "{made}");
    // A selector comes and goes; what stands behind the Service is the controllers' part.
    let path = format!("{SERVICES}/external");
    let selector = json!({ "spec": { "selector": { "app": "web" } } });
    let (code, with) = cluster.merge(&path, selector).await;
    assert_eq!((code, &with["spec"]["selector"]["app"]), (200, &json!("web")));
    let (code, without) = cluster.merge(&path, json!({ "spec": { "selector": null } })).await;
    assert_eq!(code, 200, "{without}");
    assert!(without["spec"]["selector"].is_null(), "{without}");
    assert_eq!(without["spec"]["clusterIP"], with["spec"]["clusterIP"]);
    let (_, kept) = cluster.get(&format!("{ENDPOINTS}/external")).await;
    assert_eq!(kept["subsets"][0]["addresses"].as_array().map(Vec::len), Some(2), "{kept}");
}

#[tokio::test]
async fn addresses_that_are_no_backend_are_refused_by_field_and_reason() {
    let cluster = Cluster::start().await;
    let cases = [
        ("IPv4", "127.0.0.1", "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        (
            "IPv4",
            "169.254.169.254",
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        ),
        (
            "IPv4",
            "224.0.0.1",
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        ),
        ("IPv4", "239.0.0.1", "may not be in the multicast range (224.0.0.0/4, ff00::/8)"),
        ("IPv4", "0.0.0.0", "may not be unspecified (0.0.0.0)"),
        ("IPv6", "::1", "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        ("IPv6", "fe80::1", "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        (
            "IPv6",
            "ff02::1",
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        ),
        ("IPv6", "::", "may not be unspecified (::)"),
    ];
    for (kind, address, detail) in cases {
        let (code, refused) = cluster.post(ENDPOINTS, endpoints("bad", address, 80)).await;
        let text = format!(
            "Endpoints \"bad\" is invalid: subsets[0].addresses[0].ip: Invalid value: {address:?}: {detail}"
        );
        assert_eq!((code, message(&refused)), (422, text.as_str()));
        let (code, refused) = cluster.post(SLICES, slice("bad", kind, address, 80)).await;
        let text = format!(
            "EndpointSlice.discovery.k8s.io \"bad\" is invalid: endpoints[0].addresses[0]: Invalid value: {address:?}: {detail}"
        );
        assert_eq!((code, message(&refused)), (422, text.as_str()));
    }
}

#[tokio::test]
async fn the_api_server_is_no_backend_but_of_its_own_service() {
    let cluster = Cluster::start().await;
    let detail = "may not be the API server (192.168.56.70:6443); use the Service \
                  default/kubernetes to reach it";
    let (code, refused) = cluster.post(ENDPOINTS, endpoints("web", "192.168.56.70", 6443)).await;
    assert_eq!(code, 422, "{refused}");
    assert_eq!(
        message(&refused),
        format!(
            "Endpoints \"web\" is invalid: subsets[0].addresses[0].ip: Invalid value: \
             \"192.168.56.70\": {detail}"
        )
    );
    let (code, refused) = cluster.post(SLICES, slice("web", "IPv4", "192.168.56.70", 6443)).await;
    assert_eq!(code, 422, "{refused}");
    assert!(message(&refused).ends_with(detail), "{refused}");
    // Nor by a change.
    let (code, made) = cluster.post(ENDPOINTS, endpoints("web", "192.168.56.70", 8080)).await;
    assert_eq!(code, 201, "a pod in its network is: {made}");
    let (code, refused) =
        cluster.put(&format!("{ENDPOINTS}/web"), endpoints("web", "192.168.56.70", 6443)).await;
    assert_eq!(code, 422, "{refused}");
    let ports = json!([{ "port": 80, "name": "web" }, { "port": 6443, "name": "api" }]);
    let subset = json!({ "notReadyAddresses": [{ "ip": "192.168.56.70" }], "ports": ports });
    let patch = json!({ "subsets": [subset] });
    let (code, refused) = cluster.merge(&format!("{ENDPOINTS}/web"), patch).await;
    assert_eq!(code, 422, "{refused}");
    let causes = json!([{
        "reason": "FieldValueInvalid", "field": "subsets[0].notReadyAddresses[0].ip",
        "message": format!("Invalid value: \"192.168.56.70\": {detail}"),
    }]);
    assert_eq!(refused["details"]["causes"], causes, "{refused}");
    let (code, made) = cluster.post(SLICES, slice("web", "IPv4", "192.168.56.70", 8080)).await;
    assert_eq!(code, 201, "{made}");
    let path = format!("{SLICES}/web");
    let (code, refused) = cluster.put(&path, slice("web", "IPv4", "192.168.56.70", 6443)).await;
    assert_eq!(code, 422, "{refused}");
    let patch = json!({ "ports": [{ "name": "", "port": 6443, "protocol": "TCP" }] });
    let (code, refused) = cluster.merge(&path, patch).await;
    assert_eq!(code, 422, "{refused}");
    let (_, kept) = cluster.get(&path).await;
    assert_eq!(kept["ports"][0]["port"], 8080, "{kept}");
}

#[tokio::test]
async fn what_belongs_to_the_api_servers_own_service_does_not_move_to_another() {
    let cluster = Cluster::start().await;
    let labels = json!({ "metadata": { "labels": { "a": "b" } } });
    let (code, own) = cluster.merge(&format!("{ENDPOINTS}/kubernetes"), labels.clone()).await;
    assert_eq!(code, 200, "{own}");
    let path = format!("{SLICES}/kubernetes");
    let (code, own) = cluster.merge(&path, labels).await;
    assert_eq!(code, 200, "{own}");
    let moved = json!({ "metadata": { "labels": { "kubernetes.io/service-name": "web" } } });
    let (code, refused) = cluster.merge(&path, moved).await;
    assert_eq!(code, 422, "{refused}");
    assert!(message(&refused).contains("endpoints[0].addresses[0]: Invalid value"), "{refused}");
    let elsewhere = SLICES.replace("default", "kube-system");
    let mut own = slice("kubernetes", "IPv4", "192.168.56.70", 6443);
    own["metadata"]["labels"] = json!({ "kubernetes.io/service-name": "kubernetes" });
    let (code, refused) = cluster.post(&elsewhere, own).await;
    assert_eq!(code, 422, "a Service of the same name: {refused}");
}

#[tokio::test]
async fn the_api_server_has_all_addresses_of_its_node() {
    let cluster = Cluster::start().await;
    let internal = |address: &str| json!({ "type": "InternalIP", "address": address });
    let six = |name: &str, address: &str| slice(name, "IPv6", address, 6443);
    for (name, four, address) in [
        ("node-1", "192.168.56.70", "fd00:192:168:56::70"),
        ("node-2", "192.168.56.71", "fd00:192:168:56::71"),
    ] {
        let (code, made) = cluster.post("/api/v1/nodes", node(name)).await;
        assert_eq!(code, 201, "{made}");
        let status = json!({ "status": { "addresses": [internal(four), internal(address)] } });
        let (code, told) = cluster.merge(&format!("/api/v1/nodes/{name}/status"), status).await;
        assert_eq!(code, 200, "{told}");
    }
    let (code, refused) = cluster.post(SLICES, six("web", "fd00:192:168:56::70")).await;
    assert_eq!(code, 422, "{refused}");
    assert_eq!(
        message(&refused),
        "EndpointSlice.discovery.k8s.io \"web\" is invalid: endpoints[0].addresses[0]: Invalid \
         value: \"fd00:192:168:56::70\": may not be the API server \
         ([fd00:192:168:56::70]:6443); use the Service default/kubernetes to reach it"
    );
    let (code, made) = cluster.post(SLICES, six("other", "fd00:192:168:56::71")).await;
    assert_eq!(code, 201, "another node: {made}");
}

#[tokio::test]
async fn controllers_write_down_whatever_pods_there_are() {
    let cluster = Cluster::start().await;
    let controllers = kube::Client::new(cluster.router.clone(), "default");
    let mut pods = slice("web", "IPv4", "10.244.1.2", 6443);
    let host = json!({ "addresses": ["192.168.56.70"], "conditions": { "ready": false } });
    pods["endpoints"].as_array_mut().unwrap().push(host);
    let (code, refused) = cluster.post(SLICES, pods.clone()).await;
    assert_eq!(code, 422, "by hand: {refused}");
    for (path, object) in [(SLICES, pods), (ENDPOINTS, endpoints("web", "192.168.56.70", 6443))] {
        let body = object.to_string();
        let (code, made) = ask(&controllers, "POST", path, "application/json", &body).await;
        assert_eq!(code, 201, "{made}");
    }
}

#[tokio::test]
async fn a_slice_keeps_its_family_and_may_hold_names() {
    let cluster = Cluster::start().await;
    let (code, made) = cluster.post(SLICES, slice("six", "IPv6", "fd00::5", 80)).await;
    assert_eq!(code, 201, "{made}");
    let (code, made) = cluster.post(SLICES, slice("name", "FQDN", "a.example", 80)).await;
    assert_eq!(code, 201, "{made}");
    let (code, refused) =
        cluster.put(&format!("{SLICES}/six"), slice("six", "IPv4", "10.0.0.5", 80)).await;
    assert_eq!(code, 422);
    assert!(
        message(&refused).contains(r#"addressType: Invalid value: "IPv4": field is immutable"#),
        "{refused}"
    );
}

#[tokio::test]
async fn no_service_takes_the_api_servers_address_away() {
    let cluster = Cluster::start().await;
    let at = |name: &str, port: u16| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
            "spec": { "externalIPs": ["192.168.56.70"], "ports": [{ "port": port }] },
        })
    };
    let (code, refused) = cluster.post(SERVICES, at("thief", 6443)).await;
    assert_eq!(code, 422, "{refused}");
    assert_eq!(
        message(&refused),
        "Service \"thief\" is invalid: spec.externalIPs[0]: Invalid value: \"192.168.56.70\": may \
         not be the API server (192.168.56.70:6443): nobody could reach it any more"
    );
    let (code, made) = cluster.post(SERVICES, at("web", 80)).await;
    assert_eq!(code, 201, "{made}");
    let (code, refused) = cluster.put(&format!("{SERVICES}/web"), at("web", 6443)).await;
    assert_eq!(code, 422, "{refused}");
    let balanced = json!({ "spec": {
        "type": "LoadBalancer", "externalIPs": null, "ports": [{ "port": 6443 }],
    } });
    let (code, changed) = cluster.merge(&format!("{SERVICES}/web"), balanced).await;
    assert_eq!(code, 200, "{changed}");
    let ingress = |ip: &str| json!({ "status": { "loadBalancer": { "ingress": [{ "ip": ip }] } } });
    let status = format!("{SERVICES}/web/status");
    let (code, refused) = cluster.merge(&status, ingress("192.168.56.70")).await;
    assert_eq!(code, 422, "{refused}");
    assert!(message(&refused).contains("status.loadBalancer.ingress[0].ip"), "{refused}");
    let (code, balanced) = cluster.merge(&status, ingress("192.168.56.90")).await;
    assert_eq!(code, 200, "{balanced}");
}
