//! Verbs that change objects: apply, create, delete, expose, scale, label, patch, run.

use serde_json::{Value, json};

use super::fake::{Fake, not_found};
use crate::three_way::{LAST_APPLIED, annotated};

const SERVICES: &str = "/api/v1/namespaces/default/services";

fn service(port: u16) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a",
        "namespace": "default"}, "spec": {"ports": [{"port": port}]}})
}

/// As the server stores and defaults it.
fn stored(applied: &Value) -> Value {
    let mut live = annotated(applied);
    live["metadata"]["resourceVersion"] = json!("5");
    live["spec"]["clusterIP"] = json!("10.96.0.7");
    live["spec"]["ports"][0]["protocol"] = json!("TCP");
    live["spec"]["ports"][0]["targetPort"] = live["spec"]["ports"][0]["port"].clone();
    live
}

const APPLY: &str = "fieldManager=kubectl-client-side-apply&fieldValidation=Strict";

#[tokio::test]
async fn apply_creates_what_is_missing_and_records_it() {
    let fake = Fake::start()
        .await
        .on(&format!("GET {SERVICES}/a"), not_found("services", "a"))
        .on(&format!("POST {SERVICES}?{APPLY}"), stored(&service(80)));
    let done = fake.run_with("apply -f -", &service(80).to_string()).await;
    assert_eq!((done.code, done.out.as_str()), (0, "service/a created\n"), "{}", done.err);
    let sent = &fake.seen()[1].body;
    let record = sent["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap();
    assert!(record.ends_with("\n") && record.contains("\"port\":80"), "{record}");
}

#[tokio::test]
async fn apply_leaves_an_unchanged_object_alone() {
    let fake = Fake::start().await.on(&format!("GET {SERVICES}/a"), stored(&service(80)));
    let done = fake.run_with("apply -f -", &service(80).to_string()).await;
    assert_eq!(done.out, "service/a unchanged\n");
    assert_eq!(fake.lines(), [format!("GET {SERVICES}/a")]);
}

#[tokio::test]
async fn apply_patches_a_changed_object() {
    let mut after = stored(&service(81));
    after["metadata"]["resourceVersion"] = json!("6");
    let fake = Fake::start()
        .await
        .on(&format!("GET {SERVICES}/a"), stored(&service(80)))
        .on(&format!("PATCH {SERVICES}/a?{APPLY}"), after);
    let done = fake.run_with("apply -f -", &service(81).to_string()).await;
    assert_eq!(done.out, "service/a configured\n", "{}", done.err);
    let seen = &fake.seen()[1];
    assert_eq!(seen.content_type, "application/strategic-merge-patch+json");
    assert_eq!(seen.body["spec"]["ports"][0]["port"], 81);
}

#[tokio::test]
async fn apply_over_an_exposed_service_warns_of_the_missing_annotation() {
    let mut live = stored(&service(80));
    live["metadata"]["annotations"] = json!({});
    let mut after = live.clone();
    after["metadata"]["resourceVersion"] = json!("6");
    let fake = Fake::start()
        .await
        .on(&format!("GET {SERVICES}/a"), live)
        .on(&format!("PATCH {SERVICES}/a?{APPLY}"), after);
    let done = fake.run_with("apply -f -", &service(80).to_string()).await;
    assert_eq!(done.out, "service/a configured\n");
    assert!(
        done.err.starts_with(
            "Warning: resource services/a is missing the \
             kubectl.kubernetes.io/last-applied-configuration annotation which is required by \
             kubectl apply."
        ),
        "{}",
        done.err
    );
}

#[tokio::test]
async fn apply_goes_on_after_a_bad_document_and_fails_in_the_end() {
    let text = format!(
        "{}\n---\napiVersion: apps/v1\nkind: deployment\nmetadata: {{name: b}}\n---\n{}",
        "apiVersion: v1\nkind: Nothing\nmetadata: {name: x}",
        serde_json::to_string(&service(80)).unwrap()
    );
    let fake = Fake::start().await.on(&format!("GET {SERVICES}/a"), stored(&service(80)));
    let done = fake.run_with("apply -f -", &text).await;
    assert_eq!((done.code, done.out.as_str()), (1, "service/a unchanged\n"));
    assert!(done.err.contains("no matches for kind \"Nothing\" in version \"v1\""), "{}", done.err);
    assert!(done.err.contains("no matches for kind \"deployment\" in version \"apps/v1\""));
}

#[tokio::test]
async fn a_refusal_of_the_server_names_the_file() {
    let status = json!({"kind": "Status", "code": 400, "reason": "BadRequest",
        "message": "strict decoding error: unknown field \"spec.bogus\""});
    let fake = Fake::start()
        .await
        .on(&format!("GET {SERVICES}/a"), not_found("services", "a"))
        .on(&format!("POST {SERVICES}?{APPLY}"), status);
    let done = fake.run_with("apply -f -", &service(80).to_string()).await;
    assert_eq!(done.code, 1);
    assert_eq!(
        done.err,
        "Error from server (BadRequest): error when creating \"STDIN\": strict decoding error: \
         unknown field \"spec.bogus\"\n"
    );
}

#[tokio::test]
async fn create_from_flags_is_one_request() {
    let fake = Fake::start().await.on(
        "POST /apis/apps/v1/namespaces/default/deployments?fieldManager=kubectl-create",
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "httpd"}}),
    );
    let done = fake.run("create deployment httpd --image=httpd").await;
    assert_eq!(done.out, "deployment.apps/httpd created\n");
    assert_eq!(fake.seen().len(), 1);
    assert_eq!(fake.seen()[0].body["spec"]["selector"]["matchLabels"]["app"], "httpd");
}

#[tokio::test]
async fn creating_what_exists_fails_as_kubectl_does() {
    let status = json!({"kind": "Status", "code": 409, "reason": "AlreadyExists",
                        "message": "services \"a\" already exists"});
    let create = "fieldManager=kubectl-create&fieldValidation=Strict";
    let fake = Fake::start().await.on(&format!("POST {SERVICES}?{create}"), status);
    let done = fake.run_with("create -f -", &service(80).to_string()).await;
    assert_eq!(
        done.err,
        "Error from server (AlreadyExists): error when creating \"STDIN\": services \"a\" already \
         exists\n"
    );
}

#[tokio::test]
async fn delete_waits_until_the_object_is_gone() {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "uid": "u"}});
    let pods = "/api/v1/namespaces/default/pods";
    let query = "fieldSelector=metadata.name%3Dp";
    let list = json!({"kind": "PodList", "metadata": {"resourceVersion": "5"}, "items": [pod]});
    let event = json!({"type": "DELETED", "object": pod}).to_string() + "\n";
    let fake = Fake::start()
        .await
        .on(&format!("DELETE {pods}/p"), pod.clone())
        .on(&format!("GET {pods}?{query}"), list)
        .raw(&format!("GET {pods}?{query}&watch=true&resourceVersion=5"), 200, &[], &event);
    let done = fake.run("delete pod p --grace-period=1").await;
    assert_eq!(done.out, "pod \"p\" deleted from default namespace\n", "{}", done.err);
    assert_eq!(
        fake.seen()[0].body,
        json!({"propagationPolicy": "Background", "gracePeriodSeconds": 1})
    );
    assert_eq!(fake.lines().len(), 3);
}

#[tokio::test]
async fn expose_copies_port_and_selector() {
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": {"run": "web"}},
        "template": {"spec": {"containers": [{"ports": [{"containerPort": 80}]}]}}}});
    let fake = Fake::start()
        .await
        .on("GET /apis/apps/v1/namespaces/default/deployments/web", deployment)
        .on(&format!("POST {SERVICES}?fieldManager=kubectl-expose"), service(80));
    let done = fake.run("expose deployment/web").await;
    assert_eq!(done.out, "service/a exposed\n", "{}", done.err);
    assert_eq!(
        fake.seen()[1].body["spec"],
        json!({"ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
               "selector": {"run": "web"}})
    );
}

#[tokio::test]
async fn scale_patches_the_scale_subresource() {
    let path = "/apis/apps/v1/namespaces/default/deployments/web/scale";
    let scale = json!({"kind": "Scale", "metadata": {}, "spec": {"replicas": 2}});
    let fake = Fake::start()
        .await
        .on(&format!("GET {path}"), scale.clone())
        .on(&format!("PATCH {path}"), scale);
    let done = fake.run("scale deploy/web --replicas=4").await;
    assert_eq!(done.out, "deployment.apps/web scaled\n");
    assert_eq!(fake.seen()[0].body, json!({"spec": {"replicas": 4}}));
    let done = fake.run("scale deploy/web --replicas=4 --current-replicas=3").await;
    assert_eq!(done.err, "error: Expected replicas to be 3, was 2\n");
}

#[tokio::test]
async fn label_sends_a_merge_patch() {
    let fake = Fake::start()
        .await
        .on(&format!("GET {SERVICES}/a"), service(80))
        .on(&format!("PATCH {SERVICES}/a?fieldManager=kubectl-label"), service(80));
    let done = fake.run("label svc a x=y").await;
    assert_eq!(done.out, "service/a labeled\n", "{}", done.err);
    let seen = &fake.seen()[1];
    assert_eq!(seen.content_type, "application/merge-patch+json");
    assert_eq!(seen.body, json!({"metadata": {"labels": {"x": "y"}}}));
}

#[tokio::test]
async fn without_a_server_generators_still_print() {
    let fake = Fake::start().await;
    let done = fake.run("create service clusterip a --tcp=80 --dry-run=client -o name").await;
    assert_eq!(done.out, "service/a\n");
    let done = fake.run("run a --image=x -n foo --dry-run=client -o jsonpath={.metadata}").await;
    assert_eq!(done.out, "{\"labels\":{\"run\":\"a\"},\"name\":\"a\",\"namespace\":\"foo\"}");
    assert!(fake.lines().is_empty());
}
