//! Watches: order, selectors, bookmarks, streamed lists, and how they end.

use std::time::Duration;

use futures::{AsyncBufReadExt as _, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::harness::{Cluster, PATIENCE, config_map, pod};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// The events of a watch, one by one.
pub(crate) struct Events(std::pin::Pin<Box<dyn futures::Stream<Item = Value> + Send>>);

impl Events {
    pub(crate) async fn of(cluster: &Cluster, path: &str) -> Self {
        Self::with(cluster, path, "application/json").await
    }

    pub(crate) async fn with(cluster: &Cluster, path: &str, accept: &str) -> Self {
        let request = http::Request::get(path).header("Accept", accept).body(Vec::new()).unwrap();
        let lines = cluster.client().await.request_stream(request).await.unwrap().lines();
        let events = lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap());
        Self(Box::pin(events))
    }

    pub(crate) async fn next(&mut self) -> Option<Value> {
        tokio::time::timeout(PATIENCE, self.0.next()).await.expect("an event or the end in time")
    }

    /// Type and name of the next event.
    pub(crate) async fn brief(&mut self) -> String {
        let event = self.next().await.expect("an event");
        let text = |v: &Value| v.as_str().unwrap_or("-").to_owned();
        format!("{} {}", text(&event["type"]), text(&event["object"]["metadata"]["name"]))
    }
}

async fn version(cluster: &Cluster, path: &str) -> String {
    let (_, list) = cluster.get(path).await;
    list["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn changes_after_a_version_come_in_order_with_their_versions() {
    let cluster = Cluster::start().await;
    cluster.post(MAPS, config_map("before")).await;
    let from = version(&cluster, MAPS).await;
    cluster.post(MAPS, config_map("a")).await;
    let mut events = Events::of(&cluster, &format!("{MAPS}?watch=1&resourceVersion={from}")).await;
    cluster.merge(&format!("{MAPS}/a"), json!({ "data": { "k": "w" } })).await;
    cluster.delete(&format!("{MAPS}/a"), json!({})).await;
    assert_eq!(events.brief().await, "ADDED a");
    let modified = events.next().await.unwrap();
    assert_eq!(
        (&modified["type"], &modified["object"]["data"]["k"]),
        (&json!("MODIFIED"), &json!("w"))
    );
    let deleted = events.next().await.unwrap();
    assert_eq!(deleted["type"], "DELETED");
    let number = |e: &Value| -> u64 {
        e["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
    };
    assert!(number(&deleted) > number(&modified), "{deleted}");
}

#[tokio::test]
async fn without_a_version_a_watch_begins_with_what_there_is() {
    let cluster = Cluster::start().await;
    cluster.post(MAPS, config_map("a")).await;
    for query in ["watch=1", "watch=1&resourceVersion=0"] {
        let mut events = Events::of(&cluster, &format!("{MAPS}?{query}")).await;
        assert_eq!(events.brief().await, "ADDED a", "{query}");
        cluster.post(MAPS, config_map("b")).await;
        assert_eq!(events.brief().await, "ADDED b", "{query}");
        cluster.delete(&format!("{MAPS}/b"), json!({})).await;
    }
}

#[tokio::test]
async fn coming_to_match_adds_and_ceasing_to_match_deletes() {
    let cluster = Cluster::start().await;
    cluster.post(PODS, pod("a")).await;
    let from = version(&cluster, PODS).await;
    let path = format!(
        "{PODS}?watch=1&resourceVersion={from}&fieldSelector=status.phase%3DRunning&labelSelector=run"
    );
    let mut events = Events::of(&cluster, &path).await;
    let phase = |phase: &str| json!({ "status": { "phase": phase } });
    let status = format!("{PODS}/a/status");
    cluster.merge(&format!("{PODS}/a"), json!({ "metadata": { "labels": { "x": "1" } } })).await;
    cluster.merge(&status, phase("Running")).await;
    cluster.merge(&format!("{PODS}/a"), json!({ "metadata": { "labels": { "x": "2" } } })).await;
    cluster.merge(&status, phase("Failed")).await;
    assert_eq!(events.brief().await, "ADDED a");
    assert_eq!(events.brief().await, "MODIFIED a");
    let deleted = events.next().await.unwrap();
    assert_eq!(
        (&deleted["type"], &deleted["object"]["status"]["phase"]),
        (&json!("DELETED"), &json!("Failed"))
    );
}

#[tokio::test]
async fn one_name_is_watched_without_its_neighbours() {
    let cluster = Cluster::start().await;
    let from = version(&cluster, MAPS).await;
    let mut by_field = Events::of(
        &cluster,
        &format!("{MAPS}?watch=1&resourceVersion={from}&fieldSelector=metadata.name%3Da"),
    )
    .await;
    let mut by_path =
        Events::of(&cluster, &format!("{MAPS}/a?watch=1&resourceVersion={from}")).await;
    cluster.post(MAPS, config_map("ab")).await;
    cluster.post(MAPS, config_map("a")).await;
    assert_eq!(by_field.brief().await, "ADDED a");
    assert_eq!(by_path.brief().await, "ADDED a");
}

#[tokio::test]
async fn a_streamed_list_ends_with_its_mark() {
    let cluster = Cluster::start().await;
    cluster.post(MAPS, config_map("a")).await;
    let path = format!(
        "{MAPS}?watch=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=600"
    );
    let mut events = Events::of(&cluster, &path).await;
    assert_eq!(events.brief().await, "ADDED a");
    let mark = events.next().await.unwrap();
    assert_eq!(mark["type"], "BOOKMARK", "{mark}");
    assert_eq!(mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(mark["object"]["kind"], "ConfigMap");
    assert_eq!(
        mark["object"]["metadata"]["resourceVersion"].as_str(),
        Some(version(&cluster, MAPS).await.as_str())
    );
    cluster.post(MAPS, config_map("b")).await;
    assert_eq!(events.brief().await, "ADDED b");
}

#[tokio::test]
async fn a_watch_ends_after_its_time() {
    let cluster = Cluster::start().await;
    let from = version(&cluster, MAPS).await;
    let path = format!("{MAPS}?watch=1&resourceVersion={from}&timeoutSeconds=1");
    let mut events = Events::of(&cluster, &path).await;
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn a_version_from_another_life_is_told_so() {
    let cluster = Cluster::start().await;
    let mut events = Events::of(&cluster, &format!("{MAPS}?watch=1&resourceVersion=999999")).await;
    let error = events.next().await.unwrap();
    assert_eq!((&error["type"], &error["object"]["kind"]), (&json!("ERROR"), &json!("Status")));
    assert_eq!(events.next().await, None);
    // Not by kube, which would try again for minutes, as it should.
    let request = http::Request::get(format!("{MAPS}?resourceVersion=999999"));
    let request = request.body(axum::body::Body::empty()).unwrap();
    let response = cluster.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 504);
}

#[tokio::test]
async fn history_that_is_gone_after_a_restart_is_410() {
    let cluster = Cluster::start().await;
    for name in ["a", "b", "c"] {
        cluster.post(MAPS, config_map(name)).await;
    }
    let dir = cluster.stop().await;
    let cluster = Cluster::start_in(dir).await;
    let mut events = Events::of(&cluster, &format!("{MAPS}?watch=1&resourceVersion=1")).await;
    let first = events.next().await.unwrap();
    // The log may still hold the whole history; then nothing may be missing.
    if first["type"] == "ERROR" {
        assert_eq!(
            (&first["object"]["code"], &first["object"]["reason"]),
            (&json!(410), &json!("Expired"))
        );
    } else {
        assert_eq!(first["object"]["metadata"]["name"], "a");
    }
}

#[tokio::test]
async fn tables_are_watched_row_by_row_and_name_their_columns_once() {
    let cluster = Cluster::start().await;
    cluster.post(PODS, pod("a")).await;
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let mut events = Events::with(&cluster, &format!("{PODS}?watch=1"), accept).await;
    let first = events.next().await.unwrap();
    assert_eq!(first["object"]["kind"], "Table");
    assert_eq!(first["object"]["columnDefinitions"][0]["name"], "Name");
    assert_eq!(first["object"]["rows"][0]["cells"][0], "a");
    cluster.post(PODS, pod("b")).await;
    let second = events.next().await.unwrap();
    assert_eq!(second["object"]["columnDefinitions"], json!([]));
    assert_eq!(second["object"]["rows"][0]["cells"][0], "b");
}

#[tokio::test]
async fn the_reflector_of_kube_follows_with_either_way_of_listing() {
    let cluster = Cluster::start().await;
    cluster.post(MAPS, config_map("a")).await;
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let api: kube::Api<ConfigMap> = kube::Api::namespaced(cluster.client().await, "default");
        let mut stream = Box::pin(watcher(api, config));
        let mut seen = Vec::new();
        while !seen.contains(&"done".to_owned()) {
            let event = tokio::time::timeout(PATIENCE, stream.try_next())
                .await
                .expect("in time")
                .unwrap()
                .unwrap();
            seen.push(match event {
                watcher::Event::Init => "init".to_owned(),
                watcher::Event::InitApply(o) => format!("has {}", o.metadata.name.unwrap()),
                watcher::Event::InitDone => {
                    cluster.post(MAPS, config_map("late")).await;
                    "ready".to_owned()
                }
                watcher::Event::Apply(o) => {
                    let name = o.metadata.name.unwrap();
                    cluster.delete(&format!("{MAPS}/{name}"), json!({})).await;
                    format!("put {name}")
                }
                watcher::Event::Delete(_) => "done".to_owned(),
            });
        }
        assert_eq!(seen, ["init", "has a", "ready", "put late", "done"]);
    }
}

#[tokio::test]
async fn a_hundred_watches_on_one_connection_all_see_the_same() {
    let cluster = Cluster::start().await;
    let from = version(&cluster, MAPS).await;
    let client = cluster.client().await;
    let path = format!("{MAPS}?watch=1&resourceVersion={from}");
    let mut streams = Vec::new();
    for _ in 0..100 {
        let request = http::Request::get(&path).body(Vec::new()).unwrap();
        streams.push(client.request_stream(request).await.unwrap().lines());
    }
    for i in 0..5 {
        cluster.post(MAPS, config_map(&format!("m{i}"))).await;
    }
    for mut stream in streams {
        for i in 0..5 {
            let line = tokio::time::timeout(Duration::from_secs(10), stream.next()).await;
            let event: Value =
                serde_json::from_str(&line.expect("in time").unwrap().unwrap()).unwrap();
            assert_eq!(event["object"]["metadata"]["name"], format!("m{i}"));
        }
    }
}
