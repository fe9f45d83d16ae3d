//! The life of pods on this node.
//!
//! Flow: one watch of this node's pods feeds one worker task per pod; a worker observes, plans
//! ([`plan`], pure), executes, reports ([`status`], pure) and waits. Invariants: workers share
//! nothing but the address pool; what a worker must not forget is in its [`record`]; nothing is
//! removed for want of a pod before the watch has listed all pods once.

mod backoff;
mod drain;
mod facts;
#[cfg(test)]
mod fixture;
mod host;
mod observe;
mod plan;
mod record;
mod report;
mod start;
mod status;
mod stop;
mod worker;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    core::ObjectMeta,
    runtime::{WatchStreamExt, watcher},
};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

pub(crate) use host::{Host, last_addresses};
pub(crate) use observe::{kill_cgroup, remove_cgroup};
pub(crate) use record::{PodRecord, RunState};
pub(crate) use start::{STDIN_ONCE, remove_container};

use worker::{Desired, Worker};

/// All pods of the node.
pub(crate) struct Pods {
    host: Arc<Host>,
    wishes: BTreeMap<String, watch::Sender<Desired>>,
    workers: JoinSet<String>,
    /// Records of an earlier agent that no worker has taken up yet.
    left: BTreeMap<String, PodRecord>,
}

impl Pods {
    /// Pods with what an earlier agent recorded of them.
    pub(crate) fn new(host: Arc<Host>, records: Vec<PodRecord>) -> Self {
        let left = records.into_iter().map(|record| (record.uid.clone(), record)).collect();
        Self { host, wishes: BTreeMap::new(), workers: JoinSet::new(), left }
    }

    /// Works until `stop`; containers run on.
    pub(crate) async fn run(mut self, client: Client, stop: CancellationToken) {
        self.remove_strays().await;
        let mine = format!("spec.nodeName={}", self.host.config.node_name);
        let pods = watcher(Api::<Pod>::all(client), watcher::Config::default().fields(&mine));
        let mut events = pods.default_backoff().boxed();
        let mut listed = HashSet::new();
        loop {
            // All arms are cancel-safe.
            tokio::select! {
                () = stop.cancelled() => return,
                Some(done) = self.workers.join_next() => self.forget(done),
                event = events.next() => match event {
                    Some(Ok(event)) => self.hear(event, &mut listed),
                    Some(Err(error)) => {
                        let error = crate::error_chain(&error);
                        tracing::warn!(error, "the watch of pods is interrupted");
                    }
                    None => return,
                }
            }
        }
    }

    fn hear(&mut self, event: watcher::Event<Pod>, listed: &mut HashSet<String>) {
        match event {
            watcher::Event::Init => listed.clear(),
            watcher::Event::InitApply(pod) => {
                listed.extend(pod.metadata.uid.clone());
                self.wish(pod, false);
            }
            watcher::Event::Apply(pod) => self.wish(pod, false),
            watcher::Event::Delete(pod) => self.wish(pod, true),
            watcher::Event::InitDone => self.end_unlisted(listed),
        }
    }

    /// Hands a pod to its worker, and makes the worker if there is none.
    fn wish(&mut self, pod: Pod, gone: bool) {
        let Some(uid) = pod.metadata.uid.clone() else { return };
        let desired = Desired { pod: Arc::new(pod), gone };
        if let Some(worker) = self.wishes.get(&uid) {
            worker.send_replace(desired);
            return;
        }
        let record = self.left.remove(&uid);
        if gone && record.is_none() {
            return;
        }
        let (sender, receiver) = watch::channel(desired);
        let worker = Worker::new(Arc::clone(&self.host), receiver, record);
        self.wishes.insert(uid.clone(), sender);
        self.workers.spawn(async move {
            worker.run().await;
            uid
        });
    }

    /// After a full list: whatever was not in it no longer exists.
    fn end_unlisted(&mut self, listed: &HashSet<String>) {
        for (uid, wish) in &self.wishes {
            if !listed.contains(uid) {
                wish.send_modify(|desired| desired.gone = true);
            }
        }
        let unlisted: Vec<PodRecord> = self.left.values().cloned().collect();
        for record in unlisted {
            let metadata = ObjectMeta {
                name: Some(record.name),
                namespace: Some(record.namespace),
                uid: Some(record.uid),
                ..ObjectMeta::default()
            };
            self.wish(Pod { metadata, ..Pod::default() }, true);
        }
    }

    fn forget(&mut self, done: Result<String, tokio::task::JoinError>) {
        match done {
            Ok(uid) => {
                self.wishes.remove(&uid);
            }
            Err(error) if error.is_cancelled() => {}
            Err(error) => tracing::error!(%error, "a pod's worker panicked"),
        }
    }

    /// Containers that no record knows: made by an agent that died before it could note them.
    async fn remove_strays(&self) {
        let known: HashSet<&str> = self
            .left
            .values()
            .flat_map(|record| record.containers.values())
            .flat_map(|container| &container.runs)
            .map(|run| run.id.as_str())
            .collect();
        match self.host.containerd.list_containers().await {
            Ok(containers) => {
                for id in containers.iter().filter(|id| !known.contains(id.as_str())) {
                    tracing::info!(id, "remove a container without a record");
                    remove_container(&self.host.containerd, id).await;
                }
            }
            Err(error) => {
                let error = crate::error_chain(&error);
                tracing::warn!(error, "cannot look for containers without a record");
            }
        }
    }
}
