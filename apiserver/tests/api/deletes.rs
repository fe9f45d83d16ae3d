//! Deleting: at once, gracefully, with finalizers, by collection; namespaces on their way out.

use serde_json::{Value, json};

use crate::harness::{Cluster, config_map, message, pod};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

#[tokio::test]
async fn a_plain_object_goes_at_once() {
    let cluster = Cluster::start().await;
    let (_, made) = cluster.post(MAPS, config_map("a")).await;
    let (code, status) = cluster.delete(&format!("{MAPS}/a"), json!({})).await;
    assert_eq!((code, &status["status"]), (200, &json!("Success")));
    assert_eq!(status["details"]["uid"], made["metadata"]["uid"]);
    let (code, _) = cluster.get(&format!("{MAPS}/a")).await;
    assert_eq!(code, 404);
    let (code, _) = cluster.delete(&format!("{MAPS}/a"), json!({})).await;
    assert_eq!(code, 404);
}

#[tokio::test]
async fn preconditions_protect_the_object_that_took_the_name() {
    let cluster = Cluster::start().await;
    cluster.post(MAPS, config_map("a")).await;
    let options = json!({ "preconditions": { "uid": "other" } });
    let (code, refused) = cluster.delete(&format!("{MAPS}/a"), options).await;
    assert_eq!(code, 409);
    assert!(message(&refused).contains("UID in precondition: other"), "{refused}");
}

#[tokio::test]
async fn a_running_pod_is_marked_and_goes_when_its_agent_says_so() {
    let cluster = Cluster::start().await;
    let mut object = pod("a");
    object["spec"]["nodeName"] = "n1".into();
    cluster.post(PODS, object).await;
    let path = format!("{PODS}/a");
    let (code, marked) = cluster.delete(&path, json!({})).await;
    assert_eq!((code, &marked["kind"]), (200, &json!("Pod")), "{marked}");
    assert!(marked["metadata"]["deletionTimestamp"].is_string(), "{marked}");
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    // A longer period changes nothing, a shorter one does.
    let (_, longer) = cluster.delete(&path, json!({ "gracePeriodSeconds": 60 })).await;
    assert_eq!(longer, marked);
    let (_, shorter) = cluster.delete(&path, json!({ "gracePeriodSeconds": 5 })).await;
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5, "{shorter}");
    let uid = marked["metadata"]["uid"].clone();
    let done = json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": uid } });
    let (code, gone) = cluster.delete(&path, done).await;
    assert_eq!(code, 200, "{gone}");
    let (code, _) = cluster.get(&path).await;
    assert_eq!(code, 404);
}

#[tokio::test]
async fn a_pod_without_a_node_goes_at_once() {
    let cluster = Cluster::start().await;
    cluster.post(PODS, pod("a")).await;
    cluster.delete(&format!("{PODS}/a"), json!({})).await;
    let (code, _) = cluster.get(&format!("{PODS}/a")).await;
    assert_eq!(code, 404);
}

#[tokio::test]
async fn finalizers_hold_an_object_until_the_last_is_gone() {
    let cluster = Cluster::start().await;
    let mut object = config_map("a");
    object["metadata"]["finalizers"] = json!(["example.com/hold"]);
    let (code, made) = cluster.post(MAPS, object).await;
    assert_eq!(code, 201, "{made}");
    let path = format!("{MAPS}/a");
    let (_, marked) = cluster.delete(&path, json!({ "propagationPolicy": "Foreground" })).await;
    assert_eq!(
        marked["metadata"]["finalizers"],
        json!(["example.com/hold", "foregroundDeletion"]),
        "{marked}"
    );
    let (code, refused) = cluster
        .merge(&path, json!({ "metadata": { "finalizers": ["example.com/hold", "new.io/x"] } }))
        .await;
    assert_eq!(code, 422, "no new finalizers on the way out: {refused}");
    let (_, left) =
        cluster.merge(&path, json!({ "metadata": { "finalizers": ["foregroundDeletion"] } })).await;
    assert!(left["metadata"]["deletionTimestamp"].is_string(), "{left}");
    let (code, last) = cluster.merge(&path, json!({ "metadata": { "finalizers": null } })).await;
    assert_eq!(code, 200, "{last}");
    let (code, _) = cluster.get(&path).await;
    assert_eq!(code, 404);
}

#[tokio::test]
async fn a_collection_goes_as_far_as_it_is_selected() {
    let cluster = Cluster::start().await;
    for name in ["a", "b", "c"] {
        cluster.post(PODS, pod(name)).await;
    }
    let path = format!("{PODS}?labelSelector=run+in+(a,b)");
    let (code, deleted) = cluster.delete(&path, json!({})).await;
    assert_eq!((code, deleted["items"].as_array().map(Vec::len)), (200, Some(2)), "{deleted}");
    let (_, left) = cluster.get(PODS).await;
    assert_eq!(left["items"][0]["metadata"]["name"], "c");
    assert_eq!(left["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn an_eviction_deletes() {
    let cluster = Cluster::start().await;
    cluster.post(PODS, pod("a")).await;
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": "a" },
    });
    let (code, done) = cluster.post(&format!("{PODS}/a/eviction"), eviction).await;
    assert_eq!((code, &done["status"]), (201, &json!("Success")), "{done}");
    let (code, _) = cluster.get(&format!("{PODS}/a")).await;
    assert_eq!(code, 404);
}

#[tokio::test]
async fn a_namespace_takes_nothing_new_while_it_goes() {
    let cluster = Cluster::start().await;
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "n" } });
    let (code, made) = cluster.post("/api/v1/namespaces", namespace).await;
    assert_eq!((code, &made["spec"]["finalizers"]), (201, &json!(["kubernetes"])), "{made}");
    let maps = "/api/v1/namespaces/n/configmaps";
    let (code, _) = cluster.post(maps, config_map("a")).await;
    assert_eq!(code, 201);
    let (_, going) = cluster.delete("/api/v1/namespaces/n", json!({})).await;
    assert_eq!(going["status"]["phase"], "Terminating", "{going}");
    let (code, refused) = cluster.post(maps, config_map("b")).await;
    assert_eq!(code, 403);
    assert_eq!(
        message(&refused),
        "configmaps \"b\" is forbidden: unable to create new content in namespace n because it is being terminated"
    );
    assert_eq!(refused["details"]["causes"][0]["reason"], "NamespaceTerminating");
    let mut finalized = going.clone();
    finalized["spec"]["finalizers"] = json!([]);
    let (code, gone) = cluster.put("/api/v1/namespaces/n/finalize", finalized).await;
    assert_eq!(code, 200, "{gone}");
    let (code, _) = cluster.get("/api/v1/namespaces/n").await;
    assert_eq!(code, 404);
    let (code, missing) = cluster.post(maps, config_map("c")).await;
    assert_eq!((code, message(&missing)), (404, r#"namespaces "n" not found"#));
}

#[tokio::test]
async fn the_first_namespaces_stay() {
    let cluster = Cluster::start().await;
    let (code, refused) = cluster.delete("/api/v1/namespaces/default", json!({})).await;
    assert_eq!(code, 403);
    assert_eq!(
        message(&refused),
        r#"namespaces "default" is forbidden: this namespace may not be deleted"#
    );
    let (_, list) = cluster.get("/api/v1/namespaces").await;
    let names: Vec<&Value> =
        list["items"].as_array().unwrap().iter().map(|n| &n["metadata"]["name"]).collect();
    assert_eq!(names, ["default", "kube-node-lease", "kube-public", "kube-system"]);
}
