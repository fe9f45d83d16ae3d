//! Create, read, update, patch, list.

use serde_json::{Value, json};

use crate::harness::{Cluster, config_map, message, node, pod};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn what_is_created_is_read_back_with_identity_and_version() {
    let cluster = Cluster::start().await;
    let (code, made) = cluster.post(MAPS, config_map("a")).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["metadata"]["namespace"], "default");
    assert!(made["metadata"]["uid"].as_str().is_some_and(|u| u.len() == 36), "{made}");
    assert!(made["metadata"]["creationTimestamp"].is_string(), "{made}");
    let (code, read) = cluster.get(&format!("{MAPS}/a")).await;
    assert_eq!((code, &read), (200, &made));
    let (code, again) = cluster.post(MAPS, config_map("a")).await;
    assert_eq!((code, message(&again)), (409, r#"configmaps "a" already exists"#));
    assert_eq!(again["reason"], "AlreadyExists");
    let (code, missing) = cluster.get(&format!("{MAPS}/b")).await;
    assert_eq!((code, message(&missing)), (404, r#"configmaps "b" not found"#));
    assert_eq!(missing["details"], json!({ "kind": "configmaps", "name": "b" }));
}

#[tokio::test]
async fn objects_survive_a_restart_with_their_versions() {
    let cluster = Cluster::start().await;
    let (_, made) = cluster.post(MAPS, config_map("a")).await;
    let dir = cluster.stop().await;
    let cluster = Cluster::start_in(dir).await;
    let (code, read) = cluster.get(&format!("{MAPS}/a")).await;
    assert_eq!((code, read), (200, made));
}

#[tokio::test]
async fn an_update_needs_the_latest_version_unless_it_names_none() {
    let cluster = Cluster::start().await;
    let (_, first) = cluster.post(MAPS, config_map("a")).await;
    let path = format!("{MAPS}/a");
    let mut changed = first.clone();
    changed["data"]["k"] = "w".into();
    let (code, second) = cluster.put(&path, changed.clone()).await;
    assert_eq!((code, &second["data"]["k"]), (200, &json!("w")), "{second}");
    assert_ne!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let (code, refused) = cluster.put(&path, changed).await;
    assert_eq!(code, 409);
    assert_eq!(
        message(&refused),
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; \
         please apply your changes to the latest version and try again"
    );
    let (code, third) = cluster.put(&path, config_map("a")).await;
    assert_eq!((code, &third["data"]["k"]), (200, &json!("v")), "{third}");
    let (code, missing) = cluster.put(&format!("{MAPS}/b"), config_map("b")).await;
    assert_eq!(code, 404, "{missing}");
    let (code, named) = cluster.put(&path, config_map("b")).await;
    assert_eq!(
        (code, message(&named)),
        (400, "the name of the object (b) does not match the name on the URL (a)")
    );
}

#[tokio::test]
async fn a_write_that_changes_nothing_makes_no_version() {
    let cluster = Cluster::start().await;
    let (_, first) = cluster.post(MAPS, config_map("a")).await;
    let path = format!("{MAPS}/a");
    let (_, second) = cluster.put(&path, config_map("a")).await;
    let (_, third) = cluster.merge(&path, json!({ "data": { "k": "v" } })).await;
    assert_eq!((&second, &third), (&first, &first));
}

#[tokio::test]
async fn the_three_patches_do_what_their_names_say() {
    let cluster = Cluster::start().await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let (code, made) = cluster.post(deployments, deployment("web", "a")).await;
    assert_eq!(code, 201, "{made}");
    let path = format!("{deployments}/web");
    let strategic = json!({ "spec": { "template": { "spec": { "containers": [
        { "name": "web", "image": "nginx:2" },
    ] } } } });
    let (code, patched) = cluster
        .ask("PATCH", &path, "application/strategic-merge-patch+json", &strategic.to_string())
        .await;
    assert_eq!(code, 200, "{patched}");
    let containers = &patched["spec"]["template"]["spec"]["containers"];
    assert_eq!(containers.as_array().map(Vec::len), Some(1));
    assert_eq!(containers[0]["image"], "nginx:2");
    assert_eq!(containers[0]["ports"][0]["containerPort"], 80, "kept: {containers}");
    assert_eq!(patched["metadata"]["generation"], 2);
    let (_, merged) = cluster.merge(&path, json!({ "metadata": { "labels": { "x": "y" } } })).await;
    assert_eq!(merged["metadata"]["labels"], json!({ "app": "a", "x": "y" }), "{merged}");
    let operations = r#"[{"op":"replace","path":"/spec/replicas","value":3}]"#;
    let (_, replaced) =
        cluster.ask("PATCH", &path, "application/json-patch+json", operations).await;
    assert_eq!(replaced["spec"]["replicas"], 3, "{replaced}");
    let (code, apply) = cluster.ask("PATCH", &path, "application/apply-patch+yaml", "a: b").await;
    assert_eq!(code, 415, "{apply}");
    let (code, failed) = cluster
        .ask(
            "PATCH",
            &path,
            "application/json-patch+json",
            r#"[{"op":"test","path":"/spec/replicas","value":7}]"#,
        )
        .await;
    assert_eq!(code, 422, "{failed}");
}

fn deployment(name: &str, app: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": name, "labels": { "app": app } },
        "spec": {
            "selector": { "matchLabels": { "app": app } },
            "template": {
                "metadata": { "labels": { "app": app } },
                "spec": { "containers": [
                    { "name": name, "image": "nginx:1", "ports": [{ "containerPort": 80 }] },
                ] },
            },
        },
    })
}

#[tokio::test]
async fn bad_objects_are_refused_in_upstreams_words_and_nothing_is_stored() {
    let cluster = Cluster::start().await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments?fieldValidation=Strict";
    let mut unknown = deployment("web", "a");
    unknown["spec"]["bogus"] = 1.into();
    let mut selector = deployment("web", "a");
    selector["spec"]["selector"]["matchLabels"]["app"] = "b".into();
    let mut wrong_type = deployment("web", "a");
    wrong_type["spec"]["replicas"] = "three".into();
    let mut kind = deployment("web", "a");
    kind["kind"] = "deployment".into();
    let mut other = deployment("web", "a");
    other["kind"] = "ReplicaSet".into();
    let mut name = deployment("Web", "a");
    name["metadata"]["name"] = "Web".into();
    let cases = [
        (
            unknown,
            400,
            "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: \
             unknown field \"spec.bogus\"",
        ),
        (selector, 422, "`selector` does not match template `labels`"),
        (
            wrong_type,
            400,
            "cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            kind,
            400,
            "deployment in version \"v1\" cannot be handled as a Deployment: no kind \"deployment\" \
             is registered for version \"apps/v1\" in scheme",
        ),
        (
            other,
            400,
            "ReplicaSet in version \"v1\" cannot be handled as a Deployment: converting \
             (v1.ReplicaSet) to (apps.Deployment): unknown conversion",
        ),
        (name, 422, "a lowercase RFC 1123 subdomain must consist of"),
    ];
    for (object, code, text) in cases {
        let (actual, status) = cluster.post(deployments, object).await;
        assert_eq!(actual, code, "{status}");
        assert!(message(&status).contains(text), "{text}: {status}");
    }
    let (_, list) = cluster.get("/apis/apps/v1/deployments").await;
    assert_eq!(list["items"], json!([]));
}

#[tokio::test]
async fn unknown_fields_are_dropped_with_a_warning() {
    let cluster = Cluster::start().await;
    let mut object = config_map("a");
    object["bogus"] = 1.into();
    let request = http::Request::post(MAPS)
        .header("Content-Type", "application/json")
        .body(object.to_string().into_bytes().into())
        .unwrap();
    let response = cluster.client().await.send(request).await.unwrap();
    assert_eq!(response.status(), 201);
    let warning = response.headers().get("Warning").unwrap().to_str().unwrap();
    assert_eq!(warning, r#"299 - "unknown field \"bogus\"""#);
    let (_, read) = cluster.get(&format!("{MAPS}/a")).await;
    assert!(read.get("bogus").is_none(), "{read}");
}

#[tokio::test]
async fn a_dry_run_checks_everything_and_stores_nothing() {
    let cluster = Cluster::start().await;
    let (code, made) = cluster.post(&format!("{MAPS}?dryRun=All"), config_map("a")).await;
    assert_eq!(code, 201, "{made}");
    assert!(made["metadata"]["uid"].is_string(), "{made}");
    assert!(made["metadata"]["resourceVersion"].is_null(), "{made}");
    let (code, _) = cluster.get(&format!("{MAPS}/a")).await;
    assert_eq!(code, 404);
    let (code, _) = cluster.post(&format!("{MAPS}?dryRun=Half"), config_map("a")).await;
    assert_eq!(code, 422);
}

#[tokio::test]
async fn names_are_generated_and_differ() {
    let cluster = Cluster::start().await;
    let mut object = config_map("");
    object["metadata"] = json!({ "generateName": "gen-" });
    let (code, first) = cluster.post(MAPS, object.clone()).await;
    assert_eq!(code, 201, "{first}");
    let (_, second) = cluster.post(MAPS, object).await;
    let name = |o: &Value| o["metadata"]["name"].as_str().unwrap().to_owned();
    assert!(name(&first).starts_with("gen-") && name(&first).len() == 9, "{first}");
    assert_ne!(name(&first), name(&second));
}

#[tokio::test]
async fn lists_select_by_labels_and_fields() {
    let cluster = Cluster::start().await;
    for name in ["a", "b", "c"] {
        let (code, made) = cluster.post("/api/v1/namespaces/default/pods", pod(name)).await;
        assert_eq!(code, 201, "{made}");
    }
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap_or_else(|| panic!("{list}"));
        items.iter().map(|i| i["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let cases = [
        ("", vec!["a", "b", "c"]),
        ("?labelSelector=run%3Da", vec!["a"]),
        ("?labelSelector=run+in+(a,c)", vec!["a", "c"]),
        ("?labelSelector=run!%3Da", vec!["b", "c"]),
        ("?fieldSelector=metadata.name%3Db", vec!["b"]),
        ("?fieldSelector=status.phase%3DPending,metadata.name!%3Db", vec!["a", "c"]),
        ("?fieldSelector=spec.nodeName%3Dx", vec![]),
    ];
    for (query, expected) in cases {
        let (_, list) = cluster.get(&format!("/api/v1/pods{query}")).await;
        assert_eq!(names(&list), expected, "{query}");
        assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("PodList"), &json!("v1")));
    }
    let (code, bad) = cluster.get("/api/v1/pods?fieldSelector=spec.bogus%3D1").await;
    assert_eq!((code, message(&bad)), (400, "field label not supported: spec.bogus"));
}

#[tokio::test]
async fn pages_of_a_list_show_one_state() {
    let cluster = Cluster::start().await;
    for name in ["a", "b", "c", "d", "e"] {
        cluster.post(MAPS, config_map(name)).await;
    }
    let (_, first) = cluster.get(&format!("{MAPS}?limit=2")).await;
    assert_eq!(first["metadata"]["remainingItemCount"], 3, "{first}");
    let token = first["metadata"]["continue"].as_str().unwrap().to_owned();
    // What happens in between is not seen.
    cluster.post(MAPS, config_map("c2")).await;
    cluster.delete(&format!("{MAPS}/d"), json!({})).await;
    let (_, second) = cluster.get(&format!("{MAPS}?limit=10&continue={token}")).await;
    let names: Vec<&str> = second["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| i["metadata"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["c", "d", "e"]);
    let version = |list: &Value| list["metadata"]["resourceVersion"].clone();
    assert_eq!(version(&second), version(&first));
    assert!(second["metadata"]["continue"].is_null());
    let (code, _) = cluster.get(&format!("/api/v1/secrets?continue={token}")).await;
    assert_eq!(code, 400, "a token of another resource");
}

#[tokio::test]
async fn tables_have_the_columns_and_cells_that_people_read() {
    let cluster = Cluster::start().await;
    cluster.post("/api/v1/namespaces/default/pods", pod("a")).await;
    let request = http::Request::get("/api/v1/namespaces/default/pods")
        .header("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")
        .body(Vec::new().into())
        .unwrap();
    let response = cluster.client().await.send(request).await.unwrap();
    let bytes = response.into_body().collect_bytes().await.unwrap();
    let table: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    assert_eq!(table["rows"][0]["cells"][0], "a");
    assert_eq!(table["rows"][0]["cells"][2], "Pending");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(table["rows"][0]["object"]["metadata"]["name"], "a");
}

#[tokio::test]
async fn status_and_spec_are_written_separately() {
    let cluster = Cluster::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    let (_, made) = cluster.post(pods, pod("a")).await;
    let mut wanted = made.clone();
    wanted["status"] = json!({ "phase": "Running", "podIP": "10.244.0.9" });
    wanted["metadata"]["labels"]["run"] = "b".into();
    let (code, main) = cluster.put(&format!("{pods}/a"), wanted.clone()).await;
    assert_eq!(code, 200, "{main}");
    assert_eq!(main["status"]["phase"], "Pending", "the status is not the client's: {main}");
    assert_eq!(main["metadata"]["labels"]["run"], "b");
    wanted["metadata"]["resourceVersion"] = Value::Null;
    wanted["spec"]["containers"][0]["image"] = "other".into();
    let (code, status) = cluster.put(&format!("{pods}/a/status"), wanted).await;
    assert_eq!(code, 200, "{status}");
    assert_eq!(status["status"]["phase"], "Running", "{status}");
    assert_eq!(status["spec"]["containers"][0]["image"], "nginx", "{status}");
}

#[tokio::test]
async fn scale_reads_and_writes_replicas() {
    let cluster = Cluster::start().await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    cluster.post(deployments, deployment("web", "a")).await;
    let path = format!("{deployments}/web/scale");
    let (code, scale) = cluster.get(&path).await;
    assert_eq!(
        (code, &scale["kind"], &scale["spec"]["replicas"]),
        (200, &json!("Scale"), &json!(1))
    );
    assert_eq!(scale["status"]["selector"], "app=a");
    let (code, scaled) = cluster.merge(&path, json!({ "spec": { "replicas": 4 } })).await;
    assert_eq!((code, &scaled["spec"]["replicas"]), (200, &json!(4)), "{scaled}");
    let (_, read) = cluster.get(&format!("{deployments}/web")).await;
    assert_eq!(
        (&read["spec"]["replicas"], &read["metadata"]["generation"]),
        (&json!(4), &json!(2))
    );
    let (code, stale) = cluster.put(&path, scale).await;
    assert_eq!(code, 409, "{stale}");
    let (code, negative) = cluster.merge(&path, json!({ "spec": { "replicas": -1 } })).await;
    assert_eq!(code, 422, "{negative}");
}

#[tokio::test]
async fn a_binding_gives_a_pod_its_node_once() {
    let cluster = Cluster::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    cluster.post(pods, pod("a")).await;
    let binding = |node: &str| {
        json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": { "name": "a" },
            "target": { "kind": "Node", "name": node },
        })
    };
    let (code, bound) = cluster.post(&format!("{pods}/a/binding"), binding("n1")).await;
    assert_eq!((code, &bound["status"]), (201, &json!("Success")), "{bound}");
    let (_, read) = cluster.get(&format!("{pods}/a")).await;
    assert_eq!(read["spec"]["nodeName"], "n1");
    assert_eq!(read["status"]["conditions"][0]["type"], "PodScheduled");
    let (code, again) = cluster.post(&format!("{pods}/a/binding"), binding("n2")).await;
    assert_eq!(code, 409, "{again}");
}

#[tokio::test]
async fn nodes_get_the_lowest_free_pod_range() {
    let cluster = Cluster::start().await;
    let range = |o: &Value| o["spec"]["podCIDR"].as_str().unwrap_or_default().to_owned();
    let (code, first) = cluster.post("/api/v1/nodes", node("n1")).await;
    assert_eq!(code, 201, "{first}");
    let (_, second) = cluster.post("/api/v1/nodes", node("n2")).await;
    assert_eq!((range(&first), range(&second)), ("10.244.0.0/24".into(), "10.244.1.0/24".into()));
    assert_eq!(second["spec"]["podCIDRs"], json!(["10.244.1.0/24", "fd00:10:244:1::/64"]));
    // An agent that does not know its range yet does not erase it.
    let (code, replaced) = cluster.put("/api/v1/nodes/n1", node("n1")).await;
    assert_eq!((code, range(&replaced)), (200, "10.244.0.0/24".into()), "{replaced}");
    let (code, _) = cluster.delete("/api/v1/nodes/n1", json!({})).await;
    assert_eq!(code, 200);
    let (_, third) = cluster.post("/api/v1/nodes", node("n3")).await;
    assert_eq!(range(&third), "10.244.0.0/24");
}

#[tokio::test]
async fn nodes_that_register_at_once_get_the_pod_ranges_of_their_numbers() {
    let cluster = Cluster::start().await;
    for (name, range) in [("node-3", "10.244.2.0/24"), ("node-1", "10.244.0.0/24")] {
        let (code, made) = cluster.post("/api/v1/nodes", node(name)).await;
        assert_eq!((code, &made["spec"]["podCIDR"]), (201, &json!(range)), "{made}");
    }
}

#[tokio::test]
async fn both_forms_of_events_show_the_same_events() {
    let cluster = Cluster::start().await;
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": { "name": "e", "namespace": "default" },
        "involvedObject": { "kind": "Pod", "name": "a", "namespace": "default" },
        "reason": "Started", "message": "Started container", "type": "Normal", "count": 1,
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z",
        "source": { "component": "agent" },
    });
    let (code, made) = cluster.post("/api/v1/namespaces/default/events", event).await;
    assert_eq!(code, 201, "{made}");
    let (code, new) = cluster.get("/apis/events.k8s.io/v1/namespaces/default/events/e").await;
    assert_eq!(code, 200, "{new}");
    assert_eq!(
        (&new["regarding"]["name"], &new["note"]),
        (&json!("a"), &json!("Started container"))
    );
    assert_eq!(new["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    let (_, list) = cluster
        .get("/api/v1/events?fieldSelector=involvedObject.name%3Da,involvedObject.kind%3DPod")
        .await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{list}");
}

#[tokio::test]
async fn a_deprecated_resource_is_told_as_such_at_every_request() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    let endpoints = "/api/v1/namespaces/default/endpoints";
    let one = format!("{endpoints}/kubernetes");
    let watch = format!("{endpoints}?watch=true");
    let missing = format!("{endpoints}/none");
    for (path, code) in [(endpoints, 200), (&one, 200), (&watch, 200), (&missing, 404)] {
        let request = http::Request::get(path).body(Vec::new().into()).unwrap();
        let response = client.send(request).await.unwrap();
        let warning = response.headers().get("Warning").map(|w| w.to_str().unwrap());
        assert_eq!(
            (response.status().as_u16(), warning),
            (
                code,
                Some(
                    r#"299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice""#
                )
            ),
            "{path}"
        );
    }
    let request = http::Request::get("/api/v1/services").body(Vec::new().into()).unwrap();
    let response = client.send(request).await.unwrap();
    assert_eq!(response.headers().get("Warning"), None);
}

#[tokio::test]
async fn an_empty_value_in_yaml_is_an_empty_text() {
    let cluster = Cluster::start().await;
    let yaml = "
apiVersion: v1
kind: ConfigMap
metadata:
  name: a
  labels: {app: }
data:
  k:
";
    let (code, made) = cluster.ask("POST", MAPS, "application/yaml", yaml).await;
    assert_eq!(code, 201, "{made}");
    let (_, read) = cluster.get(&format!("{MAPS}/a")).await;
    assert_eq!(read["metadata"]["labels"], json!({ "app": "" }), "{read}");
    assert_eq!(read["data"], json!({ "k": "" }), "{read}");
}

#[tokio::test]
async fn a_patch_of_too_many_operations_is_too_large() {
    let cluster = Cluster::start().await;
    cluster.post(MAPS, config_map("a")).await;
    let path = format!("{MAPS}/a");
    let patch = |count: usize| {
        let operation = r#"{"op":"test","path":"/data/k","value":"v"}"#;
        format!("[{}]", vec![operation; count].join(","))
    };
    let json_patch = "application/json-patch+json";
    let (code, kept) = cluster.ask("PATCH", &path, json_patch, &patch(10_000)).await;
    assert_eq!(code, 200, "{kept}");
    let (code, refused) = cluster.ask("PATCH", &path, json_patch, &patch(10_001)).await;
    assert_eq!((code, &refused["reason"]), (413, &json!("RequestEntityTooLarge")), "{refused}");
    assert_eq!(
        message(&refused),
        "The allowed maximum operations in a JSON patch is 10000, got 10001"
    );
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let cluster = Cluster::start().await;
    let mut object = config_map("a");
    object["data"]["k"] = "x".repeat(3 * 1024 * 1024).into();
    let (code, status) = cluster.post(MAPS, object).await;
    assert_eq!((code, message(&status)), (413, "Request entity too large: limit is 3145728"));
}

#[tokio::test]
async fn the_in_process_client_goes_through_the_same_pipeline() {
    let cluster = Cluster::start().await;
    let client = kube::Client::new(cluster.router.clone(), "default");
    let (code, made) = crate::harness::ask(
        &client,
        "POST",
        MAPS,
        "application/json",
        &config_map("a").to_string(),
    )
    .await;
    assert_eq!(code, 201, "{made}");
    let (code, read) = cluster.get(&format!("{MAPS}/a")).await;
    assert_eq!((code, read), (200, made));
}
