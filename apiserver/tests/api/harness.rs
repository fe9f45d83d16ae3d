//! A server of one's own, and clients of it.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use apiserver::{Config, Features, Server, User};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Nothing here takes a tenth of this, unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

const SERVICES: [&str; 2] = ["10.96.0.0/12", "fd00:10:96::/112"];
const ADVERTISED: &str = "192.168.56.70:6443";

pub(crate) struct Cluster {
    pub(crate) dir: Arc<tempfile::TempDir>,
    pub(crate) authority: pki::Authority,
    pub(crate) address: SocketAddr,
    pub(crate) router: axum::Router,
    stop: CancellationToken,
    serving: Option<JoinHandle<()>>,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap())).await
    }

    /// A server without Services of its own but that of the API server.
    pub(crate) async fn bare() -> Self {
        Self::with(Features { dns: false, ingress: false, ..Features::default() }).await
    }

    pub(crate) async fn with(features: Features) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        Self::start_as(dir, &SERVICES, ADVERTISED, features).await
    }

    pub(crate) async fn start_in(dir: Arc<tempfile::TempDir>) -> Self {
        Self::start_with(dir, &SERVICES, ADVERTISED).await
    }

    /// A server of these ranges of Services that tells pods this address.
    pub(crate) async fn start_with(
        dir: Arc<tempfile::TempDir>,
        services: &[&str],
        advertise: &str,
    ) -> Self {
        Self::start_as(dir, services, advertise, Features::default()).await
    }

    async fn start_as(
        dir: Arc<tempfile::TempDir>,
        services: &[&str],
        advertise: &str,
        features: Features,
    ) -> Self {
        // A second call in the same process finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let authority = pki::Authority::load_or_create(&dir.path().join("pki")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::start(Config {
            data_dir: dir.path().to_owned(),
            pki: authority.server_identity(&["127.0.0.1".into()]).unwrap(),
            listeners: vec![listener],
            advertise: advertise.parse().unwrap(),
            service_cidrs: services.iter().map(|range| range.parse().unwrap()).collect(),
            cluster_cidrs: ["10.244.0.0/16", "fd00:10:244::/56"].map(|r| r.parse().unwrap()).into(),
            node_cidr_prefix: 24,
            node_cidr_prefix_v6: 64,
            node_ports: 30000..=32767,
            features,
        })
        .await
        .unwrap();
        let router = server.router(User::controllers());
        let stop = CancellationToken::new();
        let serving = tokio::spawn({
            let stop = stop.clone();
            async move { server.serve(stop).await.unwrap() }
        });
        Self { dir, authority, address, router, stop, serving: Some(serving) }
    }

    /// Stops the server and hands back its folder.
    pub(crate) async fn stop(mut self) -> Arc<tempfile::TempDir> {
        self.stop.cancel();
        let serving = self.serving.take().unwrap();
        tokio::time::timeout(PATIENCE, serving).await.expect("the server stops").unwrap();
        self.dir.clone()
    }

    pub(crate) fn kubeconfig(&self, user: &str, groups: &[&str]) -> String {
        let identity = self.authority.client(user, groups).unwrap();
        let url = format!("https://{}", self.address);
        pki::kubeconfig("test", &url, None, self.authority.ca_pem(), user, &identity)
    }

    /// A kubeconfig of the administrator as a file.
    pub(crate) fn kubeconfig_file(&self) -> PathBuf {
        let path = self.dir.path().join("admin.kubeconfig");
        std::fs::write(&path, self.kubeconfig("admin", &["system:masters"])).unwrap();
        path
    }

    pub(crate) async fn client(&self) -> kube::Client {
        self.client_as("admin", &["system:masters"]).await
    }

    pub(crate) async fn client_as(&self, user: &str, groups: &[&str]) -> kube::Client {
        let config = Kubeconfig::from_yaml(&self.kubeconfig(user, groups)).unwrap();
        let options = KubeConfigOptions::default();
        let mut config = kube::Config::from_custom_kubeconfig(config, &options).await.unwrap();
        // "503" is what some tests ask for: no client shall try again in its stead.
        config.default_retry = false;
        kube::Client::try_from(config).unwrap()
    }

    /// One request; status and JSON (`Null` for what is none).
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &str,
    ) -> (u16, Value) {
        ask(&self.client().await, method, path, content_type, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.ask("GET", path, "", "").await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.ask("POST", path, "application/json", &body.to_string()).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> (u16, Value) {
        self.ask("PUT", path, "application/json", &body.to_string()).await
    }

    pub(crate) async fn merge(&self, path: &str, body: Value) -> (u16, Value) {
        self.ask("PATCH", path, "application/merge-patch+json", &body.to_string()).await
    }

    pub(crate) async fn delete(&self, path: &str, body: Value) -> (u16, Value) {
        self.ask("DELETE", path, "application/json", &body.to_string()).await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) async fn ask(
    client: &kube::Client,
    method: &str,
    path: &str,
    content_type: &str,
    body: &str,
) -> (u16, Value) {
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("Content-Type", content_type)
        .header("Accept", "application/json")
        .body(kube::client::Body::from(body.as_bytes().to_vec()))
        .unwrap();
    let response = client.send(request).await.unwrap();
    let code = response.status().as_u16();
    let bytes = response.into_body().collect_bytes().await.unwrap();
    (code, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

pub(crate) fn config_map(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "k": "v" } })
}

pub(crate) fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "labels": { "run": name } },
        "spec": { "containers": [{ "name": "c", "image": "nginx" }] },
    })
}

pub(crate) fn node(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name } })
}

/// The message of a Status.
pub(crate) fn message(status: &Value) -> &str {
    status["message"].as_str().unwrap_or_default()
}
