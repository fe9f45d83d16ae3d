//! What the server says of itself.

use serde_json::{Value, json};

use crate::harness::Cluster;

async fn ask(cluster: &Cluster, path: &str, headers: &[(&str, &str)]) -> (u16, String, Value) {
    let mut request = http::Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let client = cluster.client().await;
    let response = client.send(request.body(Vec::new().into()).unwrap()).await.unwrap();
    let code = response.status().as_u16();
    let etag = response.headers().get("etag").map(|v| v.to_str().unwrap().to_owned());
    let bytes = response.into_body().collect_bytes().await.unwrap();
    (code, etag.unwrap_or_default(), serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

#[tokio::test]
async fn aggregated_discovery_lists_everything_in_two_requests_and_once() {
    let cluster = Cluster::start().await;
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
    let (code, etag, core) = ask(&cluster, "/api", &[("Accept", accept)]).await;
    assert_eq!((code, &core["kind"]), (200, &json!("APIGroupDiscoveryList")));
    let resources = &core["items"][0]["versions"][0]["resources"];
    let pods = resources.as_array().unwrap().iter().find(|r| r["resource"] == "pods").unwrap();
    assert_eq!(pods["scope"], "Namespaced");
    assert_eq!(pods["shortNames"], json!(["po"]));
    assert!(pods["subresources"].to_string().contains("\"exec\""), "{pods}");
    let headers = [("Accept", accept), ("If-None-Match", etag.as_str())];
    let (code, ..) = ask(&cluster, "/api", &headers).await;
    assert_eq!(code, 304);
    let (_, _, named) = ask(&cluster, "/apis", &[("Accept", accept)]).await;
    let groups: Vec<&str> = named["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|g| g["metadata"]["name"].as_str().unwrap())
        .collect();
    assert!(groups.contains(&"apps") && groups.contains(&"discovery.k8s.io"), "{groups:?}");
}

#[tokio::test]
async fn plain_discovery_is_what_kube_reads() {
    let cluster = Cluster::start().await;
    let discovery = kube::Discovery::new(cluster.client().await).run().await.unwrap();
    let kinds: Vec<String> = discovery
        .groups()
        .flat_map(|g| g.recommended_resources())
        .map(|(resource, _)| resource.kind)
        .collect();
    for kind in ["Pod", "Service", "Deployment", "EndpointSlice", "Lease"] {
        assert!(kinds.contains(&kind.to_owned()), "{kind} in {kinds:?}");
    }
    let (code, _, group) = ask(&cluster, "/apis/apps", &[]).await;
    assert_eq!((code, &group["preferredVersion"]["groupVersion"]), (200, &json!("apps/v1")));
    let (code, ..) = ask(&cluster, "/apis/no.such.group/v1", &[]).await;
    assert_eq!(code, 404);
}

#[tokio::test]
async fn version_and_health() {
    let cluster = Cluster::start().await;
    let version = cluster.client().await.apiserver_version().await.unwrap();
    assert_eq!(version.git_version, "v1.36.0+minictl");
    for path in ["/healthz", "/livez", "/readyz", "/readyz/ping", "/metrics"] {
        let (code, ..) = ask(&cluster, path, &[]).await;
        assert_eq!(code, 200, "{path}");
    }
    let (code, ..) = ask(&cluster, "/nothing/here", &[]).await;
    assert_eq!(code, 404);
}
