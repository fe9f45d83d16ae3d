//! The scheduler: finds a node for each pod that has none (upstream: `pkg/scheduler`).
//!
//! Inputs: pods and nodes. Outputs: bindings, `Scheduled` and `FailedScheduling` events, the
//! `PodScheduled` condition.
//! Invariants: decisions are made one after the other, each seeing the former ones (a pod that is
//! decided on counts as bound at once, see [`Assumed`]); bindings are written concurrently.
//! Deliberately not here: preemption, pod affinity, topology spread constraints, volumes.

mod decide;
mod filter;
mod request;
mod score;
mod state;

use std::collections::HashMap;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::{Node, Pod};

use crate::api::{self, Api};
use crate::cache::{Change, Key};
use crate::clock;
use crate::controllers::{self, Context};
use crate::meta;
use crate::pod;
use crate::queue::Queue;
use crate::view::View;
use crate::write::Write;

use decide::Decision;
use state::Cluster;

pub(crate) use filter::tolerates;

const COMPONENT: &str = "default-scheduler";

/// Pods that are decided on while their bindings are under way or not yet heard of.
#[derive(Default)]
struct Assumed {
    by_uid: HashMap<String, (Arc<Pod>, String)>,
}

impl Assumed {
    /// Forgets pods whose binding the view shows, and pods that are gone.
    fn settle(&mut self, view: &View) {
        self.by_uid.retain(|uid, (pod, _)| {
            view.pods
                .get_by_uid(meta::namespace(&**pod), meta::name(&**pod), uid)
                .is_some_and(|seen| pod::node_name(&seen).is_none())
        });
    }
}

/// Registers the scheduler's handlers and returns its loop.
pub(crate) fn run(context: &Context) -> impl Future<Output = ()> + Send + use<> {
    let queue = Arc::new(Queue::default());
    register(&context.view, &queue);
    let context = context.clone();
    async move {
        if controllers::ready(&context).await {
            schedule(&context, &queue).await;
        }
    }
}

fn register(view: &Arc<View>, queue: &Arc<Queue<Key>>) {
    let (sink, source) = (queue.clone(), Arc::downgrade(view));
    view.pods.on_change(move |change| {
        if change.new.as_deref().is_some_and(waits) {
            // Our own note that the pod cannot be placed is no reason to look again.
            if !only_status_changed(change) {
                sink.add(meta::key(change.latest()));
            }
        } else if makes_room(change)
            && let Some(view) = source.upgrade()
        {
            add_waiting(&view, &sink);
        }
    });
    let (sink, source) = (queue.clone(), Arc::downgrade(view));
    view.nodes.on_change(move |change| {
        if matters(change)
            && let Some(view) = source.upgrade()
        {
            add_waiting(&view, &sink);
        }
    });
}

/// Whether the pod is this scheduler's to place.
fn waits(pod: &Pod) -> bool {
    let Some(spec) = pod::spec(pod) else { return false };
    let ours = spec.scheduler_name.as_deref().is_none_or(|name| name == COMPONENT);
    ours && pod::node_name(pod).is_none()
        && pod::is_active(pod)
        && spec.scheduling_gates.as_ref().is_none_or(Vec::is_empty)
}

fn only_status_changed(change: &Change<Pod>) -> bool {
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => {
            old.spec == new.spec && old.metadata.labels == new.metadata.labels
        }
        _ => false,
    }
}

/// Whether a bound pod ended or went, so that others may fit now.
fn makes_room(change: &Change<Pod>) -> bool {
    let holds = |pod: &Arc<Pod>| pod::node_name(pod).is_some() && !pod::is_terminal(pod);
    change.old.as_ref().is_some_and(holds) && !change.new.as_ref().is_some_and(holds)
}

/// Whether a node changed in a way that a decision looks at; heartbeats do not count.
fn matters(change: &Change<Node>) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return true };
    let allocatable = |node: &Node| node.status.as_ref().and_then(|s| s.allocatable.clone());
    old.spec != new.spec
        || old.metadata.labels != new.metadata.labels
        || allocatable(old) != allocatable(new)
}

fn add_waiting(view: &View, queue: &Queue<Key>) {
    for pod in view.pods.all().iter().filter(|pod| waits(pod)) {
        queue.add(meta::key(&**pod));
    }
}

async fn schedule(context: &Context, queue: &Queue<Key>) {
    let Context { api, view, stop } = context;
    let mut assumed = Assumed::default();
    let mut writing = FuturesUnordered::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            first = queue.next() => {
                let mut keys = vec![first];
                keys.extend(queue.take_ready());
                assumed.settle(view);
                let mut cluster =
                    Cluster::new(&view.nodes.all(), &view.pods.all(), assumed.by_uid.values());
                for key in keys {
                    match decide_one(view, &key, &mut cluster, &mut assumed) {
                        Some(writes) => writing.push(carry_out(api, key, writes)),
                        None => {
                            queue.forget(&key);
                            queue.done(&key);
                        }
                    }
                }
            }
            Some((key, uid, outcome)) = writing.next() => {
                finish(queue, &mut assumed, &key, &uid, outcome);
            }
        }
    }
}

struct Writes {
    uid: String,
    writes: Vec<Write>,
}

fn decide_one(
    view: &View,
    key: &Key,
    cluster: &mut Cluster,
    assumed: &mut Assumed,
) -> Option<Writes> {
    let pod = view.pods.get(key).filter(|pod| waits(pod))?;
    let uid = meta::uid(&*pod).to_owned();
    if assumed.by_uid.contains_key(&uid) {
        return None;
    }
    let decision = decide::schedule(&pod, cluster);
    if let Decision::Bind(node) = &decision {
        cluster.place(&pod, node);
        assumed.by_uid.insert(uid.clone(), (pod.clone(), node.clone()));
    }
    Some(Writes { uid, writes: decide::writes(&pod, &decision, clock::now()) })
}

async fn carry_out(
    api: &Arc<Api>,
    key: Key,
    writes: Writes,
) -> (Key, String, Result<(), api::Error>) {
    for write in writes.writes {
        if let Err(error) = api.execute(write).await {
            return (key, writes.uid, Err(error));
        }
    }
    (key, writes.uid, Ok(()))
}

fn finish(
    queue: &Queue<Key>,
    assumed: &mut Assumed,
    key: &Key,
    uid: &str,
    outcome: Result<(), api::Error>,
) {
    match outcome {
        Ok(()) => queue.forget(key),
        Err(error) => {
            assumed.by_uid.remove(uid);
            if error.is_not_found() {
                tracing::debug!(?key, "pod went away while it was being bound");
            } else {
                tracing::warn!(?key, error = error.chain(), "pod not bound, will try again");
                queue.retry(key.clone());
            }
        }
    }
    queue.done(key);
}

#[cfg(test)]
mod tests;
