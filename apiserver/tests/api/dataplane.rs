//! What a node tells about its data plane, asked by way of the server.

use serde_json::json;

use crate::agent;
use crate::harness::{Cluster, ask};

fn path(question: &str) -> String {
    proto::dataplane_path("n1", question)
}

#[tokio::test]
async fn a_connected_node_answers_in_json() {
    let cluster = Cluster::start().await;
    agent::connect(&cluster, "n1").await;
    let (code, status) = cluster.get(&path("status")).await;
    assert_eq!((code, &status["node"]), (200, &json!("n1")));
    let (_, dump) = cluster.get(&path("dump?namespace=d&service=web")).await;
    let service = &dump["frontends"][0]["service"];
    assert_eq!((&service["namespace"], &service["name"]), (&json!("d"), &json!("web")));
    assert_eq!(service["resourceVersion"], "42", "named as Kubernetes names fields");
    let packet =
        "trace?origin=Pod&source=fd00::2&destination=%5Bfd00::9%5D:53&protocol=UDP&handedOver=true";
    let (_, traced) = cluster.get(&path(packet)).await;
    assert_eq!(traced["steps"][0]["what"], "Pod fd00::2 [fd00::9]:53 UDP true");
    let (code, refused) = cluster.get(&path("diff")).await;
    assert_eq!((code, &refused["message"]), (503, &json!("netd has not looked yet")));
    assert_eq!(cluster.get(&path("bogus")).await.0, 404);
    let (code, _) = cluster.post(&path("status"), json!({})).await;
    assert_eq!(code, 405, "there is nothing to change");
    cluster.stop().await;
}

#[tokio::test]
async fn a_node_tells_what_it_knows_of_a_load_balancer_address() {
    let cluster = Cluster::start().await;
    agent::connect(&cluster, "n1").await;
    let path = |address: &str| format!("{}?address={address}", proto::load_balancer_path("n1"));
    let (code, reply) = cluster.get(&path("fd00::200")).await;
    assert_eq!((code, &reply["address"]), (200, &json!("fd00::200")));
    assert_eq!(reply["probeError"], "eth0 is down");
    let (code, refused) = cluster.get(&path("nonsense")).await;
    assert_eq!((code, &refused["message"]), (400, &json!("\"nonsense\" is no address")));
    let client = cluster.client_as("system:node:n1", &["system:nodes"]).await;
    assert_eq!(ask(&client, "GET", &path("fd00::200"), "", "").await.0, 403);
    cluster.stop().await;
}

#[tokio::test]
async fn a_node_that_cannot_be_asked_is_named() {
    let cluster = Cluster::start().await;
    let (code, refused) = cluster.get(&path("status")).await;
    assert_eq!((code, &refused["message"]), (404, &json!("nodes \"n1\" not found")));
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}});
    assert_eq!(cluster.post("/api/v1/nodes", node).await.0, 201);
    let (code, refused) = cluster.get(&path("status")).await;
    let expected = "node \"n1\" is not connected: its agent has no tunnel to the API server open";
    assert_eq!((code, &refused["message"]), (503, &json!(expected)));
    cluster.stop().await;
}

#[tokio::test]
async fn only_administrators_may_ask() {
    let cluster = Cluster::start().await;
    agent::connect(&cluster, "n1").await;
    for (user, group) in [("system:node:n1", "system:nodes"), ("jane", "dev")] {
        let client = cluster.client_as(user, &[group]).await;
        let (code, refused) = ask(&client, "GET", &path("status"), "", "").await;
        let expected = format!("forbidden: User {user:?} cannot get path {:?}", path("status"));
        assert_eq!((code, &refused["message"]), (403, &json!(expected)));
    }
    cluster.stop().await;
}
