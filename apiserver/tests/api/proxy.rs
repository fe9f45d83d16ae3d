//! What a proxy of Services needs of the API: Kubernetes' own, and netd with what it reports.

use serde_json::{Value, json};

use crate::harness::{Cluster, ask, message, node, pod};
use crate::watches::Events;

const SERVICES: &str = "/api/v1/namespaces/default/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

fn service(name: &str, labels: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name, "labels": labels },
        "spec": { "type": "LoadBalancer", "ports": [{ "port": 80 }] },
    })
}

fn condition(kind: &str, status: &str) -> Value {
    json!({
        "type": kind, "status": status, "reason": "KernelLacksSctp",
        "message": "node-1: the kernel has no SCTP", "lastTransitionTime": "2026-01-01T00:00:00Z",
    })
}

/// The selector of kube-proxy, percent-encoded.
const NOT_HEADLESS: &str = "labelSelector=%21service.kubernetes.io%2Fheadless%2C%21service.kubernetes.io%2Fservice-proxy-name";

#[tokio::test]
async fn services_of_other_proxies_are_left_out_by_a_label_that_must_not_be_there() {
    let cluster = Cluster::start().await;
    let proxy = cluster.client_as("system:kube-proxy", &[]).await;
    cluster.post(SERVICES, service("mine", json!({}))).await;
    let foreign = json!({ "service.kubernetes.io/service-proxy-name": "other" });
    cluster.post(SERVICES, service("theirs", foreign)).await;
    let path = format!("/api/v1/services?{NOT_HEADLESS}&resourceVersion=0&limit=500");
    let (code, list) = ask(&proxy, "GET", &path, "", "").await;
    assert_eq!(code, 200, "{list}");
    let items = list["items"].as_array().unwrap().iter();
    let names: Vec<&str> = items.map(|i| i["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["kubernetes", "mine"]);
    // The reflector of today's client-go: one request, then changes.
    let streamed = format!(
        "/api/v1/services?{NOT_HEADLESS}&watch=true&allowWatchBookmarks=true\
         &sendInitialEvents=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=300"
    );
    let protobuf = "application/vnd.kubernetes.protobuf, application/json";
    let mut events = Events::with(&cluster, &streamed, protobuf).await;
    assert_eq!(events.brief().await, "ADDED kubernetes");
    assert_eq!(events.brief().await, "ADDED mine");
    let mark = events.next().await.unwrap();
    assert_eq!(mark["type"], "BOOKMARK", "{mark}");
    assert_eq!(mark["object"]["kind"], "Service", "{mark}");
    let foreign = json!({ "service.kubernetes.io/service-proxy-name": "other" });
    let labels = json!({ "metadata": { "labels": foreign } });
    cluster.merge(&format!("{SERVICES}/mine"), labels).await;
    assert_eq!(events.brief().await, "DELETED mine");
}

#[tokio::test]
async fn a_proxy_reads_slices_ranges_and_its_node_and_writes_events_in_both_groups() {
    let cluster = Cluster::start().await;
    cluster.post("/api/v1/nodes", node("n1")).await;
    let proxy = cluster.client_as("system:kube-proxy", &[]).await;
    let reads = [
        format!("{SLICES}?{NOT_HEADLESS}&resourceVersion=0&limit=500"),
        "/apis/networking.k8s.io/v1/servicecidrs?resourceVersion=0&limit=500".to_owned(),
        "/api/v1/nodes?fieldSelector=metadata.name%3Dn1&resourceVersion=0".to_owned(),
        "/api/v1/nodes/n1".to_owned(),
    ];
    for path in reads {
        let (code, answer) = ask(&proxy, "GET", &path, "", "").await;
        assert_eq!(code, 200, "{path}: {answer}");
    }
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": { "name": "n1.1", "namespace": "default" },
        "eventTime": "2026-01-01T00:00:00.000000Z", "action": "StartKubeProxy",
        "reason": "Starting", "type": "Normal", "note": "",
        "regarding": { "kind": "Node", "name": "n1", "uid": "n1" },
        "reportingController": "kube-proxy", "reportingInstance": "kube-proxy-n1",
    });
    let new = "/apis/events.k8s.io/v1/namespaces/default/events";
    let (code, made) = ask(&proxy, "POST", new, JSON, &event.to_string()).await;
    assert_eq!(code, 201, "{made}");
    let series = json!({
        "series": { "count": 2, "lastObservedTime": "2026-01-01T00:01:00.000000Z" },
    });
    let path = format!("{new}/n1.1");
    let (code, patched) = ask(&proxy, "PATCH", &path, STRATEGIC, &series.to_string()).await;
    assert_eq!((code, &patched["series"]["count"]), (200, &json!(2)), "{patched}");
    let (code, old) = cluster.get("/api/v1/namespaces/default/events/n1.1").await;
    assert_eq!((code, &old["involvedObject"]["name"]), (200, &json!("n1")), "{old}");
    assert_eq!(old["source"]["component"], Value::Null, "{old}");
    let (code, refused) = ask(&proxy, "GET", "/api/v1/secrets", "", "").await;
    assert_eq!(code, 403, "{refused}");
}

#[tokio::test]
async fn a_node_does_not_make_its_pod_a_backend_of_others() {
    let cluster = Cluster::start().await;
    let mut own = pod("web");
    own["spec"]["nodeName"] = json!("n1");
    let (code, made) = cluster.post("/api/v1/namespaces/default/pods", own).await;
    assert_eq!(code, 201, "{made}");
    let node = cluster.client_as("system:node:n1", &["system:nodes"]).await;
    let status = "/api/v1/namespaces/default/pods/web/status";
    let ready = json!({ "status": { "phase": "Running" } }).to_string();
    let (code, said) = ask(&node, "PATCH", status, MERGE, &ready).await;
    assert_eq!(code, 200, "{said}");
    let labels = json!({ "metadata": { "labels": { "app": "bank" } } }).to_string();
    let (code, refused) = ask(&node, "PATCH", status, MERGE, &labels).await;
    assert_eq!(code, 403, "{refused}");
    let said = r#"node "n1" cannot update labels through pod status"#;
    assert!(message(&refused).ends_with(said), "{refused}");
}

#[tokio::test]
async fn nodes_say_of_a_service_what_they_cannot_do_and_no_more() {
    let cluster = Cluster::start().await;
    cluster.post(SERVICES, service("web", json!({}))).await;
    let node = cluster.client_as("system:node:n1", &["system:nodes"]).await;
    let status = format!("{SERVICES}/web/status");
    let patch = |conditions: Value| json!({ "status": { "conditions": conditions } }).to_string();
    let ours = "minictl.io/Programmed";
    let (code, said) =
        ask(&node, "PATCH", &status, STRATEGIC, &patch(json!([condition(ours, "False")]))).await;
    assert_eq!(code, 200, "{said}");
    // A strategic patch merges by type, so that others' conditions stay.
    let (code, both) =
        ask(&node, "PATCH", &status, STRATEGIC, &patch(json!([condition("Other", "True")]))).await;
    assert_eq!(code, 200, "{both}");
    assert_eq!(both["status"]["conditions"].as_array().map(Vec::len), Some(2), "{both}");
    let (_, now) =
        ask(&node, "PATCH", &status, STRATEGIC, &patch(json!([condition(ours, "True")]))).await;
    let conditions = now["status"]["conditions"].as_array().unwrap();
    let found = conditions.iter().find(|c| c["type"] == ours).unwrap();
    assert_eq!((conditions.len(), &found["status"]), (2, &json!("True")), "{now}");
    // Neither the metadata, nor the rest of the status, nor the spec is a node's to write.
    let owner = json!([{ "apiVersion": "v1", "kind": "Pod", "name": "gone", "uid": "gone" }]);
    for metadata in [
        json!({ "ownerReferences": owner }),
        json!({ "labels": { "a": "b" } }),
        json!({ "annotations": { "minictl.io/ipvs-scheduler": "sh" } }),
        json!({ "finalizers": ["example.com/never"] }),
    ] {
        let patch = json!({ "metadata": metadata }).to_string();
        let (code, refused) = ask(&node, "PATCH", &status, MERGE, &patch).await;
        assert_eq!(code, 403, "{metadata}: {refused}");
    }
    let ingress = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "8.8.8.8" }] } } });
    let (code, refused) = ask(&node, "PATCH", &status, MERGE, &ingress.to_string()).await;
    assert_eq!(code, 403, "{refused}");
    assert!(message(&refused).contains("conditions of a Service"), "{refused}");
    let spec = json!({ "spec": { "externalIPs": ["8.8.8.8"] } }).to_string();
    let (code, same) = ask(&node, "PATCH", &status, MERGE, &spec).await;
    assert_eq!((code, &same["spec"]["externalIPs"]), (200, &Value::Null), "{same}");
    let (code, refused) = ask(&node, "PATCH", &format!("{SERVICES}/web"), MERGE, &spec).await;
    assert_eq!(code, 403, "{refused}");
    // A change of the Service by its owner leaves them alone.
    let labels = json!({ "metadata": { "labels": { "a": "b" } } });
    let (_, after) = cluster.merge(&format!("{SERVICES}/web"), labels).await;
    assert_eq!(after["status"]["conditions"].as_array().map(Vec::len), Some(2), "{after}");
}
