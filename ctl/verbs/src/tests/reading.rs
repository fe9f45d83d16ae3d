//! Verbs that only read: get, describe, logs, wait, rollout status.

use serde_json::{Value, json};

use super::fake::{Fake, not_found};
use crate::Io;

const PODS: &str = "/api/v1/namespaces/default/pods";

fn table(rows: &[(&str, &str)]) -> Value {
    let rows: Vec<Value> = rows
        .iter()
        .map(|(name, status)| {
            json!({"cells": [name, status, "10.244.0.2"], "object": {"metadata":
                {"name": name, "namespace": "default"}}})
        })
        .collect();
    json!({"kind": "Table", "metadata": {"resourceVersion": "5"}, "rows": rows,
        "columnDefinitions": [{"name": "Name", "format": "name"}, {"name": "Status"},
                              {"name": "IP", "priority": 1}]})
}

#[tokio::test]
async fn get_prints_the_server_s_table() {
    let fake = Fake::start()
        .await
        .on(&format!("GET {PODS}?labelSelector=run%3Dweb&limit=500"), table(&[("web", "Running")]));
    let done = fake.run("get po -l run=web").await;
    assert_eq!((done.code, done.out.as_str()), (0, "NAME   STATUS\nweb    Running\n"));
    let wide = fake.run("get pods -l run=web -o wide --no-headers").await;
    assert_eq!(wide.out, "web   Running   10.244.0.2\n");
}

#[tokio::test]
async fn get_reads_all_pages() {
    let mut first = table(&[("a", "Running")]);
    first["metadata"]["continue"] = json!("next");
    let fake = Fake::start()
        .await
        .on(&format!("GET {PODS}?limit=500"), first)
        .on(&format!("GET {PODS}?limit=500&continue=next"), table(&[("b", "Pending")]));
    let done = fake.run("get pods").await;
    assert_eq!(done.out, "NAME   STATUS\na      Running\nb      Pending\n");
}

#[tokio::test]
async fn nothing_found_is_said_on_standard_error() {
    let fake = Fake::start().await.on(&format!("GET {PODS}?limit=500"), table(&[]));
    let done = fake.run("get pods").await;
    assert_eq!((done.code, done.out.as_str()), (0, ""));
    assert_eq!(done.err, "No resources found in default namespace.\n");
}

#[tokio::test]
async fn a_missing_object_is_exit_code_1() {
    let fake = Fake::start().await.on(&format!("GET {PODS}/x"), not_found("pods", "x"));
    let done = fake.run("get pod x").await;
    assert_eq!(done.code, 1);
    assert_eq!(done.err, "Error from server (NotFound): pods \"x\" not found\n");
    let ignored = fake.run("get pod x --ignore-not-found").await;
    assert_eq!((ignored.code, ignored.out.as_str(), ignored.err.as_str()), (0, "", ""));
}

#[tokio::test]
async fn several_types_have_their_own_tables_with_typed_names() {
    let fake = Fake::start()
        .await
        .on(&format!("GET {PODS}?limit=500"), table(&[("a", "Running")]))
        .on("GET /api/v1/namespaces/default/services?limit=500", table(&[("b", "x")]));
    let done = fake.run("get pods,svc").await;
    assert_eq!(done.out, "NAME    STATUS\npod/a   Running\n\nNAME        STATUS\nservice/b   x\n");
}

#[tokio::test]
async fn a_type_that_was_not_found_leaves_the_other_s_names_plain() {
    let fake = Fake::start()
        .await
        .on("GET /api/v1/namespaces/default/services/b", table(&[("b", "x")]))
        .on(&format!("GET {PODS}/a"), not_found("pods", "a"));
    let done = fake.run("get svc/b pod/a").await;
    assert_eq!((done.code, done.out.as_str()), (1, "NAME   STATUS\nb      x\n"));
}

#[tokio::test]
async fn get_as_yaml_json_name_and_jsonpath() {
    let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [
        {"metadata": {"name": "a", "managedFields": [{}]}}]});
    let fake = Fake::start().await.on(&format!("GET {PODS}?limit=500"), list);
    assert_eq!(fake.run("get pods -o name").await.out, "pod/a\n");
    assert_eq!(fake.run("get pods -o jsonpath={.items[0].metadata.name}").await.out, "a");
    let yaml = fake.run("get pods -o yaml").await.out;
    assert_eq!(
        yaml,
        "apiVersion: v1\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata:\n    name: a\nkind: \
         List\nmetadata:\n  resourceVersion: \"\"\n"
    );
    let json: Value = serde_json::from_str(&fake.run("get pods -o json").await.out).unwrap();
    assert_eq!(json["kind"], "List");
}

#[tokio::test]
async fn a_watch_prints_changes_below_the_list() {
    let event = |row: Value| json!({"type": "MODIFIED", "object": row}).to_string() + "\n";
    let fake = Fake::start().await.on(&format!("GET {PODS}"), table(&[("web", "Pending")])).raw(
        &format!("GET {PODS}?watch=true&resourceVersion=5"),
        200,
        &[],
        &event(table(&[("web", "Running")])),
    );
    let done = fake.run("get pods -w").await;
    assert_eq!(done.out, "NAME   STATUS\nweb    Pending\nweb    Running\n");
}

#[tokio::test]
async fn warnings_of_the_server_are_printed_once() {
    let warning = ("warning", "299 - \"v1 Endpoints is deprecated\"");
    let fake = Fake::start().await.raw(
        &format!("GET {PODS}/a"),
        200,
        &[warning],
        &table(&[("a", "x")]).to_string(),
    );
    let done = fake.run("get pods a a").await;
    assert_eq!(done.err, "Warning: v1 Endpoints is deprecated\n");
}

#[tokio::test]
async fn a_closed_pipe_ends_quietly() {
    struct Closed;
    impl std::io::Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let fake = Fake::start().await.on(&format!("GET {PODS}?limit=500"), table(&[("a", "x")]));
    let mut io = Io {
        out: Box::new(Closed),
        err: Box::new(std::io::sink()),
        input: Box::new(tokio::io::empty()),
        interactive: false,
    };
    assert_eq!(fake.run_on("get pods", &mut io).await.unwrap(), 0);
}

#[tokio::test]
async fn an_unknown_type_and_a_dead_server() {
    let fake = Fake::start().await;
    let done = fake.run("get foos").await;
    assert_eq!(done.err, "error: the server doesn't have a resource type \"foos\"\n");
    let done = fake.run("get pods -s 127.0.0.1:1").await;
    assert_eq!(
        done.err,
        "The connection to the server 127.0.0.1:1 was refused - did you specify the right host or \
         port?\n"
    );
}

#[tokio::test]
async fn a_raw_path_is_copied_as_it_is() {
    let fake = Fake::start().await.raw("GET /readyz?verbose=1", 200, &[], "ok");
    assert_eq!(fake.run("get --raw /readyz?verbose=1").await.out, "ok");
    assert_eq!(fake.run("get --raw readyz").await.code, 1);
}

#[tokio::test]
async fn logs_of_the_only_container() {
    let pod = json!({"metadata": {"name": "web", "namespace": "default"},
                     "spec": {"containers": [{"name": "c"}]}});
    let fake = Fake::start().await.on(&format!("GET {PODS}/web"), pod).raw(
        &format!("GET {PODS}/web/log?container=c&tailLines=1"),
        200,
        &[],
        "one\ntwo",
    );
    let done = fake.run("logs web --tail=1 --prefix").await;
    assert_eq!(done.out, "[pod/web/c] one\n[pod/web/c] two");
}

#[tokio::test]
async fn wait_watches_until_the_condition_holds() {
    let pod = |ready: &str| {
        json!({"metadata": {"name": "web", "resourceVersion": "6"}, "status":
            {"conditions": [{"type": "Ready", "status": ready}]}})
    };
    let query = "fieldSelector=metadata.name%3Dweb";
    let list = json!({"kind": "PodList", "metadata": {"resourceVersion": "5"},
                      "items": [pod("False")]});
    let event = json!({"type": "MODIFIED", "object": pod("True")}).to_string() + "\n";
    let fake = Fake::start()
        .await
        .on(&format!("GET {PODS}/web"), pod("False"))
        .on(&format!("GET {PODS}?{query}"), list)
        .raw(&format!("GET {PODS}?{query}&watch=true&resourceVersion=5"), 200, &[], &event);
    let done = fake.run("wait --for=condition=Ready pod/web").await;
    assert_eq!((done.code, done.out.as_str()), (0, "pod/web condition met\n"));
}

#[tokio::test]
async fn describe_finds_objects_by_the_start_of_their_name() {
    let service = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name,
            "namespace": "default"}, "spec": {"ports": []}})
    };
    let base = "/api/v1/namespaces/default/services";
    let list = json!({"kind": "ServiceList", "apiVersion": "v1", "metadata": {},
                      "items": [service("web-1"), service("other")]});
    let fake = Fake::start()
        .await
        .on(&format!("GET {base}/web"), not_found("services", "web"))
        .on(&format!("GET {base}?limit=500"), list);
    let done = fake.run("describe svc web").await;
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.out.starts_with("Name:              web-1\n"), "{}", done.out);
    assert!(!done.out.contains("other"));
    let none = fake.run("describe svc zzz").await;
    assert_eq!(none.code, 1);
}
