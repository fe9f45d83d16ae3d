//! What a node's name server tells, asked by way of the server.

use serde_json::json;

use crate::agent;
use crate::harness::{Cluster, ask};

fn path(question: &str) -> String {
    proto::dns_path("n1", question)
}

#[tokio::test]
async fn a_node_without_a_name_server_is_named() {
    let cluster = Cluster::start().await;
    let (code, refused) = cluster.get(&path("log")).await;
    assert_eq!((code, &refused["message"]), (404, &json!("nodes \"n1\" not found")));
    agent::connect(&cluster, "n1").await;
    for question in ["log", "trace?name=web&namespace=d&pod=p"] {
        let (code, refused) = cluster.get(&path(question)).await;
        let expected = "no netd runs beside the agent of node \"n1\"";
        assert_eq!((code, &refused["message"]), (503, &json!(expected)));
    }
    assert_eq!(cluster.get(&path("bogus")).await.0, 404);
    let (code, _) = cluster.post(&path("log"), json!({})).await;
    assert_eq!(code, 405, "there is nothing to change");
    cluster.stop().await;
}

#[tokio::test]
async fn only_administrators_may_read_what_pods_asked() {
    let cluster = Cluster::start().await;
    agent::connect(&cluster, "n1").await;
    for (user, group) in [("system:node:n1", "system:nodes"), ("jane", "dev")] {
        let client = cluster.client_as(user, &[group]).await;
        let (code, refused) = ask(&client, "GET", &path("log"), "", "").await;
        let expected = format!("forbidden: User {user:?} cannot get path {:?}", path("log"));
        assert_eq!((code, &refused["message"]), (403, &json!(expected)));
    }
    cluster.stop().await;
}
