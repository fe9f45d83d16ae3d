//! The objects of a measurement, written and watched by the Kubernetes API.
//!
//! One thread with a runtime in the API server's namespace does it all.

use std::path::Path;
use std::time::{Duration, Instant};

use e2e::bed::{Bed, NODE_1, NODE_1_PODS, NODE_2, NODE_2_PODS};
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use http::Request;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

use crate::load::{ECHO, IPERF, SINK};

/// Requests under way at a time, so that the server's disk writes are shared.
const AT_A_TIME: usize = 64;
/// How long the server may take to answer at all, and to tell of a change.
const LIMIT: Duration = Duration::from_secs(20);
/// Endpoints of each Service.
const ENDPOINTS: u32 = 4;
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

/// A cluster's API, from the point of view of a measurement.
pub(crate) struct Api<'a> {
    bed: &'a Bed,
    kubeconfig: std::path::PathBuf,
}

impl<'a> Api<'a> {
    pub(crate) fn new(bed: &'a Bed, kubeconfig: &Path) -> Self {
        Self { bed, kubeconfig: kubeconfig.to_owned() }
    }

    /// Waits for the server, and makes the two nodes known to it.
    pub(crate) fn register_nodes(&self) {
        self.run(|client| async move {
            let end = Instant::now() + LIMIT;
            while let Err(error) = send(&client, "GET", "/readyz", None).await {
                assert!(Instant::now() < end, "the API server does not answer: {error}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            for (name, address, pods) in
                [("node-1", NODE_1, NODE_1_PODS), ("node-2", NODE_2, NODE_2_PODS)]
            {
                let node = json!({
                    "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
                    "spec": {"podCIDR": pods, "podCIDRs": [pods]},
                    "status": {"addresses": [{"type": "InternalIP", "address": address}]},
                });
                send(&client, "POST", "/api/v1/nodes", Some(node)).await.expect("a new node");
            }
        });
    }

    /// Runs something with a client, in the namespace of the server.
    fn run<T, F, J>(&self, job: J) -> T
    where
        T: Send + 'static,
        F: Future<Output = T>,
        J: FnOnce(Client) -> F + Send + 'static,
    {
        let file = self.kubeconfig.clone();
        self.bed.api.run(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let kubeconfig = Kubeconfig::read_from(file).expect("a kubeconfig");
                let options = KubeConfigOptions::default();
                let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await;
                let config = config.expect("a configuration");
                job(Client::try_from(config).expect("a client")).await
            })
        })
    }

    /// Creates an object.
    pub(crate) fn create(&self, path: &str, object: Value) {
        let path = path.to_owned();
        self.run(|client| async move {
            send(&client, "POST", &path, Some(object)).await.expect("a new object");
        });
    }

    /// Creates Services `from..to` of four endpoints each, all of them addresses of pod c.
    pub(crate) fn fill(&self, from: u32, to: u32) {
        self.run(move |client| async move {
            let objects = (from..to).flat_map(|n| {
                let services = "/api/v1/namespaces/default/services";
                [(services, service(n)), (SLICES, slice(n, n))]
            });
            let client = &client;
            futures::stream::iter(objects)
                .map(|(path, object)| send(client, "POST", path, Some(object)))
                .buffer_unordered(AT_A_TIME)
                .try_for_each(|_| async { Ok(()) })
                .await
                .expect("new objects");
        });
    }

    /// Gives Service `n` other endpoints. Returns when the change was sent, and when a watcher
    /// beside netd heard of it.
    pub(crate) fn change(&self, n: u32, seed: u32) -> (Instant, Instant) {
        self.run(move |client| async move {
            let path = format!("{SLICES}?watch=1&fieldSelector=metadata.name=service-{n}");
            let request = Request::get(path).body(Vec::new()).expect("a request");
            let mut events = client.request_stream(request).await.expect("a watch").lines();
            events.try_next().await.expect("a watch").expect("the object as it is");
            let sent = Instant::now();
            let path = format!("{SLICES}/service-{n}");
            let change = json!({"endpoints": slice(n, seed)["endpoints"]});
            let heard = async move {
                let event = tokio::time::timeout(LIMIT, events.try_next()).await;
                event.expect("an event, in time").expect("a watch").expect("an event");
                Instant::now()
            };
            let patch = send(&client, "PATCH", &path, Some(change));
            let (answer, heard) = tokio::join!(patch, heard);
            answer.expect("a changed slice");
            (sent, heard)
        })
    }
}

async fn send(
    client: &Client,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> Result<String, kube::Error> {
    let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    let request = Request::builder().method(method).uri(path).header("content-type", kind);
    client.request_text(request.body(body).expect("a request")).await
}

/// The address of Service `n`.
pub(crate) fn address(n: u32) -> std::net::IpAddr {
    // After the addresses that the server gives by itself, far from the band it prefers.
    std::net::Ipv4Addr::from_bits(0x0a61_0000 + n).into()
}

/// The address of endpoint `n` of all. Pod c answers at each of them.
pub(crate) fn endpoint(n: u32) -> std::net::IpAddr {
    std::net::Ipv4Addr::from_bits(0x0af5_0100 + n).into()
}

fn service(n: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("service-{n}")},
        "spec": {"clusterIP": address(n), "ports": [{"port": 80, "targetPort": ECHO}]},
    })
}

fn slice(n: u32, seed: u32) -> Value {
    let endpoints: Vec<Value> = (0..ENDPOINTS)
        .map(|i| {
            let address = endpoint(seed * ENDPOINTS + i);
            json!({"addresses": [address], "nodeName": "node-2", "conditions": {"ready": true}})
        })
        .collect();
    slice_of(&format!("service-{n}"), &json!([{"name": "", "port": ECHO}]), &json!(endpoints))
}

fn slice_of(service: &str, ports: &Value, endpoints: &Value) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": service, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
    })
}

/// A Service with one pod behind it, for load, on ports 80 (echo), 90 (sink) and `iperf3`'s, with
/// node ports from `node_port` on.
pub(crate) fn load_service(api: &Api, name: &str, address: &str, pod: &str, node_port: u16) {
    let port = |name: &str, port: u16, target: u16, node_port: u16| json!({"name": name, "port": port, "targetPort": target, "nodePort": node_port});
    let ports = [
        port("echo", 80, ECHO, node_port),
        port("sink", 90, SINK, node_port + 1),
        port("iperf", IPERF, IPERF, node_port + 2),
    ];
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"type": "NodePort", "clusterIP": address, "ports": ports},
    });
    api.create("/api/v1/namespaces/default/services", service);
    let ports = json!([
        {"name": "echo", "port": ECHO},
        {"name": "sink", "port": SINK},
        {"name": "iperf", "port": IPERF},
    ]);
    let endpoints = json!([{"addresses": [pod], "conditions": {"ready": true}}]);
    api.create(SLICES, slice_of(name, &ports, &endpoints));
}
