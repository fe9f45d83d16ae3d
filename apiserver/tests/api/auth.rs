//! Who gets in, and what nodes may do.

use tokio::process::Command;

use serde_json::json;

use crate::harness::{Cluster, ask, config_map, message, node, pod};

const JSON: &str = "application/json";

#[tokio::test]
async fn without_a_certificate_of_the_cluster_everything_but_health_is_401() {
    let cluster = Cluster::start().await;
    let foreign = tempfile::tempdir().unwrap();
    let foreign = pki::Authority::load_or_create(foreign.path()).unwrap();
    let stranger = foreign.client("admin", &["system:masters"]).unwrap();
    let url = format!("https://{}", cluster.address);
    let ca = cluster.authority.ca_pem();
    let config = pki::kubeconfig("test", &url, None, ca, "admin", &stranger);
    let config = kube::config::Kubeconfig::from_yaml(&config).unwrap();
    let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await.unwrap();
    let client = kube::Client::try_from(config).unwrap();
    let (code, status) = ask(&client, "GET", "/api/v1/namespaces", "", "").await;
    assert_eq!((code, message(&status)), (401, "Unauthorized"));
    let (code, _) = ask(&client, "GET", "/no/such/path", "", "").await;
    assert_eq!(code, 401);
    let (code, _) = ask(&client, "GET", "/readyz", "", "").await;
    assert_eq!(code, 200);
    // No certificate at all, by a client that knows nothing of Kubernetes.
    let output = Command::new("curl")
        .args(["-sk", "--max-time", "10", "-o", "/dev/null", "-w", "%{http_code}"])
        .arg(format!("{url}/api"))
        .output()
        .await;
    match output {
        Ok(output) => assert_eq!(String::from_utf8_lossy(&output.stdout), "401"),
        Err(error) => panic!("run curl: {error}"),
    }
}

#[tokio::test]
async fn a_user_without_a_group_may_do_nothing() {
    let cluster = Cluster::start().await;
    let client = cluster.client_as("jane", &["dev"]).await;
    let (code, status) = ask(&client, "GET", "/api/v1/namespaces/default/pods", "", "").await;
    assert_eq!(code, 403);
    assert_eq!(
        message(&status),
        "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    let (_, status) = ask(&client, "DELETE", "/api/v1/nodes/n1", JSON, "{}").await;
    assert_eq!(
        message(&status),
        "nodes \"n1\" is forbidden: User \"jane\" cannot delete resource \"nodes\" in API group \"\" at the cluster scope"
    );
}

#[tokio::test]
async fn a_node_manages_itself_and_its_pods() {
    let cluster = Cluster::start().await;
    let client = cluster.client_as("system:node:n1", &["system:nodes"]).await;
    let (code, _) = ask(&client, "POST", "/api/v1/nodes", JSON, &node("n1").to_string()).await;
    assert_eq!(code, 201);
    let (code, refused) =
        ask(&client, "POST", "/api/v1/nodes", JSON, &node("n2").to_string()).await;
    assert_eq!(code, 403);
    assert!(
        message(&refused).contains("node \"n1\" is not allowed to modify node \"n2\""),
        "{refused}"
    );
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "n1" },
        "spec": { "holderIdentity": "n1", "leaseDurationSeconds": 40 },
    });
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let (code, made) = ask(&client, "POST", leases, JSON, &lease.to_string()).await;
    assert_eq!(code, 201, "{made}");
    let pods = "/api/v1/namespaces/default/pods";
    for (name, on) in [("mine", "n1"), ("other", "n2")] {
        let mut object = pod(name);
        object["spec"]["nodeName"] = on.into();
        cluster.post(pods, object).await;
    }
    let merge = "application/merge-patch+json";
    let running = json!({ "status": { "phase": "Running" } }).to_string();
    let (code, _) = ask(&client, "PATCH", &format!("{pods}/mine/status"), merge, &running).await;
    assert_eq!(code, 200);
    let (code, refused) =
        ask(&client, "PATCH", &format!("{pods}/other/status"), merge, &running).await;
    assert_eq!(code, 403, "{refused}");
    let (code, _) = ask(&client, "DELETE", &format!("{pods}/other"), JSON, "{}").await;
    assert_eq!(code, 403);
    let (code, _) = ask(&client, "GET", pods, "", "").await;
    assert_eq!(code, 200);
    let maps = "/api/v1/namespaces/default/configmaps";
    let (code, _) = ask(&client, "POST", maps, JSON, &config_map("a").to_string()).await;
    assert_eq!(code, 403);
    let (code, _) = ask(&client, "GET", "/minictl.io/v1/nodes/n2/tunnel", "", "").await;
    assert_eq!(code, 403);
}

#[tokio::test]
async fn users_learn_who_they_are_and_what_they_may_do() {
    let cluster = Cluster::start().await;
    let who = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let (code, answer) = cluster.post(path, who).await;
    let user = json!({ "username": "admin", "groups": ["system:masters"] });
    assert_eq!((code, &answer["status"]["userInfo"]), (201, &user), "{answer}");
    let (code, _) = cluster.get(path).await;
    assert_eq!(code, 405);

    let review = |kind: &str, spec: serde_json::Value| {
        json!({ "apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec }).to_string()
    };
    let access = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let admin = cluster.client().await;
    let node = cluster.client_as("system:node:n1", &["system:nodes"]).await;
    let jane = cluster.client_as("jane", &["dev"]).await;
    let of = |verb: &str, resource: &str, part: &str, name: &str| {
        json!({ "resourceAttributes": {
            "verb": verb, "resource": resource, "subresource": part, "name": name,
            "namespace": "default",
        } })
    };
    let read = |path: &str| json!({ "nonResourceAttributes": { "verb": "get", "path": path } });
    let cases = [
        (of("create", "pods", "", ""), [true, false, false]),
        (of("list", "pods", "", ""), [true, true, false]),
        (of("create", "pods", "exec", "a"), [true, false, false]),
        (of("patch", "nodes", "status", "n1"), [true, true, false]),
        (of("patch", "nodes", "status", "n2"), [true, false, false]),
        (of("get", "unicorns", "", ""), [true, false, false]),
        (read("/version"), [true, true, true]),
        (read("/metrics"), [true, true, false]),
    ];
    for (spec, expected) in cases {
        let mut met = Vec::new();
        for client in [&admin, &node, &jane] {
            let body = review("SelfSubjectAccessReview", spec.clone());
            let (code, answer) = ask(client, "POST", access, JSON, &body).await;
            assert_eq!((code, &answer["spec"]), (201, &spec), "{answer}");
            met.push(answer["status"]["allowed"].as_bool().unwrap());
        }
        assert_eq!(met, expected, "{spec}");
    }
    let body = review("SelfSubjectAccessReview", json!({}));
    let (code, _) = ask(&admin, "POST", access, JSON, &body).await;
    assert_eq!(code, 422);

    let rules = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let body = review("SelfSubjectRulesReview", json!({ "namespace": "default" }));
    let (_, all) = ask(&admin, "POST", rules, JSON, &body).await;
    assert_eq!(all["status"]["resourceRules"][0]["resources"], json!(["*"]), "{all}");
    let (_, some) = ask(&node, "POST", rules, JSON, &body).await;
    let some = some["status"]["resourceRules"].to_string();
    let pods = r#"{"apiGroups":[""],"resources":["pods"],"verbs":["get","list","watch","delete"]}"#;
    assert!(some.contains(pods), "{some}");
    let (_, none) = ask(&jane, "POST", rules, JSON, &body).await;
    assert_eq!(none["status"]["resourceRules"], json!([]), "{none}");
}
