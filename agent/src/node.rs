//! The node's own object: registration, lease, status.
//!
//! Flow: create the Node (the answer carries the pod CIDRs), then renew a Lease every ten seconds,
//! and write the status when it changed, at latest every five minutes. Upstream:
//! `pkg/kubelet/kubelet_node_status.go`, `pkg/kubelet/util/nodelease.go`. Deliberately not here:
//! what others decide about nodes that fall silent (the node lifecycle controller).

mod addresses;
mod machine;
mod status;

use std::{sync::Arc, time::Duration};

use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::{Node, NodeStatus},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
    core::ObjectMeta,
    runtime::{WatchStreamExt, watcher},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use addresses::follow_addresses;
pub(crate) use machine::Machine;

use crate::{config::Config, image, runtime::Containerd};

/// Time between two renewals of the lease.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How long the lease holds without renewal, in seconds.
const LEASE_SECONDS: i32 = 40;
/// The longest time between two writes of the status.
const REPORT: Duration = Duration::from_secs(300);
/// Time between two tries while the API server is away.
const RETRY: Duration = Duration::from_millis(500);

/// Whether the node can run pods; `Err` says why not.
pub(crate) type Readiness = Result<(), String>;

/// The node's object and what keeps it fresh.
pub(crate) struct NodeKeeper {
    client: Client,
    config: Arc<Config>,
    machine: Machine,
    containerd: Containerd,
    readiness: watch::Receiver<Readiness>,
}

impl NodeKeeper {
    pub(crate) fn new(
        client: Client,
        config: Arc<Config>,
        machine: Machine,
        containerd: Containerd,
        readiness: watch::Receiver<Readiness>,
    ) -> Self {
        Self { client, config, machine, containerd, readiness }
    }

    fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    /// Registers the node and waits for its pod CIDRs, one of each family; retries until the API
    /// server is there.
    pub(crate) async fn register(&self) -> Vec<IpNet> {
        loop {
            match self.register_once().await {
                Ok(node) => {
                    let cidrs = pod_cidrs(&node);
                    if !cidrs.is_empty() {
                        return cidrs;
                    }
                    return self.wait_for_pod_cidrs().await;
                }
                Err(error) => {
                    tracing::info!(
                        error = crate::error_chain(&error),
                        "cannot register the node yet"
                    );
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn register_once(&self) -> Result<Node, kube::Error> {
        let mut node = status::new_node(&self.config.node_name);
        node.status = Some(self.status(None).await);
        match self.nodes().create(&PostParams::default(), &node).await {
            Err(kube::Error::Api(answer)) if answer.code == 409 => {
                let labels = serde_json::json!({"metadata": {"labels": node.metadata.labels}});
                let name = &self.config.node_name;
                self.nodes().patch(name, &PatchParams::default(), &Patch::Merge(labels)).await
            }
            other => other,
        }
    }

    async fn wait_for_pod_cidrs(&self) -> Vec<IpNet> {
        use futures::StreamExt as _;
        let name = format!("metadata.name={}", self.config.node_name);
        let stream = watcher(self.nodes(), watcher::Config::default().fields(&name));
        let mut nodes = std::pin::pin!(stream.default_backoff().applied_objects());
        loop {
            match nodes.next().await {
                Some(Ok(node)) => {
                    let cidrs = pod_cidrs(&node);
                    if !cidrs.is_empty() {
                        return cidrs;
                    }
                }
                Some(Err(error)) => {
                    tracing::debug!(error = crate::error_chain(&error), "watch of the own node");
                }
                None => tokio::time::sleep(RETRY).await,
            }
        }
    }

    async fn status(&self, previous: Option<&NodeStatus>) -> NodeStatus {
        let images = image::list_images(&self.containerd).await;
        let mut readiness = self.readiness.borrow().clone();
        if let Err(error) = &images {
            readiness = Err(format!("container runtime is down: {}", crate::error_chain(error)));
        }
        status::node_status(&status::StatusInput {
            config: &self.config,
            machine: &self.machine,
            readiness: &readiness,
            images: &images.unwrap_or_default(),
            previous,
            now: Timestamp::now(),
        })
    }

    /// Keeps lease and status fresh until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut written: Option<(NodeStatus, tokio::time::Instant)> = None;
        let mut tick = tokio::time::interval(HEARTBEAT);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {
                    if let Err(error) = self.renew_lease().await {
                        let error = crate::error_chain(&error);
                        tracing::warn!(error, "cannot renew the node's lease");
                    }
                }
                // Becoming ready is told at once. A closed channel means that we are stopping.
                changed = self.readiness.changed() => if changed.is_err() { return },
            }
            let status = self.status(written.as_ref().map(|(status, _)| status)).await;
            let fresh = written.as_ref().is_some_and(|(known, at)| {
                at.elapsed() < REPORT && status::same_but_for_heartbeat(known, &status)
            });
            if fresh {
                continue;
            }
            match self.write(&status).await {
                Ok(()) => written = Some((status, tokio::time::Instant::now())),
                Err(error) => {
                    let error = crate::error_chain(&error);
                    tracing::warn!(error, "cannot write the node's status");
                }
            }
        }
    }

    async fn write(&self, status: &NodeStatus) -> Result<(), kube::Error> {
        let mut patch = serde_json::json!({"status": status});
        // Addresses are merged by their type, of which two may be the same: say the whole list, as
        // kubelet does. Upstream: `component-helpers/node/util/status.go`.
        if let Some(addresses) = patch["status"]["addresses"].as_array_mut() {
            addresses.push(serde_json::json!({"$patch": "replace"}));
        }
        let patch = Patch::Strategic(patch);
        let name = &self.config.node_name;
        match self.nodes().patch_status(name, &PatchParams::default(), &patch).await {
            // Somebody deleted our object while we live: it comes back.
            Err(kube::Error::Api(answer)) if answer.code == 404 => {
                self.register_once().await.map(|_| ())
            }
            other => other.map(|_| ()),
        }
    }

    async fn renew_lease(&self) -> Result<(), kube::Error> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), "kube-node-lease");
        let name = &self.config.node_name;
        let now = MicroTime(Timestamp::now());
        let renewal = serde_json::json!({"spec": {
            "holderIdentity": name,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": now,
        }});
        match leases.patch(name, &PatchParams::default(), &Patch::Merge(renewal)).await {
            Err(kube::Error::Api(answer)) if answer.code == 404 => {
                let uid = self.nodes().get(name).await?.metadata.uid.unwrap_or_default();
                leases.create(&PostParams::default(), &new_lease(name, uid, now)).await.map(|_| ())
            }
            other => other.map(|_| ()),
        }
    }
}

fn new_lease(node: &str, node_uid: String, now: MicroTime) -> Lease {
    Lease {
        metadata: ObjectMeta {
            name: Some(node.to_owned()),
            namespace: Some("kube-node-lease".to_owned()),
            // The lease goes with its node.
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Node".to_owned(),
                name: node.to_owned(),
                uid: node_uid,
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(node.to_owned()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }),
    }
}

/// A Node of a cluster with one family may have `podCIDR` alone.
fn pod_cidrs(node: &Node) -> Vec<IpNet> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let all = spec.pod_cidrs.iter().flatten();
    let mut cidrs: Vec<IpNet> = all.filter_map(|cidr| cidr.parse().ok()).collect();
    if cidrs.is_empty() {
        cidrs.extend(spec.pod_cidr.iter().filter_map(|cidr| cidr.parse::<IpNet>().ok()));
    }
    cidrs
}
