//! The replica set controller: keeps as many pods as the spec says (upstream:
//! `pkg/controller/replicaset`).
//!
//! Inputs: replica sets and pods. Outputs: pods created, removed, adopted and released; the status.
//! Invariants: never creates beyond `spec.replicas` (own writes are in the cache at once, so there
//! is nothing to expect); creates in batches of 1, 2, 4 … so that a template which is refused
//! costs one request and not a thousand; removes the least useful pods first ([`rank`]).

mod plan;
mod rank;

use std::collections::HashSet;
use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;

use crate::api::{self, Api};
use crate::cache::{Cache, Change, Key};
use crate::clock;
use crate::controllers::{self, Context};
use crate::event::{Occurrence, Severity};
use crate::meta;
use crate::queue::Queue;
use crate::view::{Object, View};
use crate::worker::Recheck;
use crate::write::Write;

use plan::Failure;

const COMPONENT: &str = "replicaset-controller";
/// Upstream's `--concurrent-replicaset-syncs`.
const PARALLEL: usize = 5;
/// The most pods created or removed for one look (upstream: `BurstReplicas`).
const BURST: usize = 500;

/// Registers the controller's handlers and returns its loop.
pub(crate) fn run(context: &Context) -> impl Future<Output = ()> + Send + use<> {
    let queue = Arc::new(Queue::default());
    register(&context.view, &queue);
    let look_at =
        |Context { api, view, .. }: Context, key| async move { reconcile(&api, &view, &key).await };
    controllers::serve("replicaset", context.clone(), queue, PARALLEL, look_at)
}

fn register(view: &Arc<View>, queue: &Arc<Queue<Key>>) {
    let sink = queue.clone();
    view.replica_sets.on_change(move |change| sink.add(meta::key(change.latest())));
    let (sink, source) = (queue.clone(), Arc::downgrade(view));
    view.pods.on_change(move |change| {
        if let Some(view) = source.upgrade() {
            for key in sets_of(change, &view.replica_sets) {
                sink.add(key);
            }
        }
    });
}

/// The replica sets that a pod's change concerns: its owners, or those that may adopt it.
fn sets_of(change: &Change<Pod>, sets: &Cache<ReplicaSet>) -> HashSet<Key> {
    let mut keys = HashSet::new();
    for pod in change.sides() {
        match meta::controller_of(&pod.metadata) {
            Some(owner) if owner.kind == "ReplicaSet" => {
                keys.insert(Key::new(meta::namespace(&**pod), owner.name.clone()));
            }
            Some(_) => {}
            None if meta::is_deleted(&**pod) => {}
            None => keys.extend(
                sets.in_namespace(meta::namespace(&**pod))
                    .iter()
                    .filter(|set| plan::selects(set, pod))
                    .map(|set| meta::key(&**set)),
            ),
        }
    }
    keys
}

async fn reconcile(api: &Api, view: &View, key: &Key) -> Result<Recheck, api::Error> {
    let Some(set) = view.replica_sets.get(key) else { return Ok(None) };
    for write in plan::claim(&set, &view.pods.in_namespace(&key.namespace)) {
        api.execute(write).await?;
    }
    let pods = view.pods.in_namespace(&key.namespace);
    let related = view.replica_sets.in_namespace(&key.namespace);
    let mut failure = None;
    let mut error = None;
    match plan::manage(&set, &pods, &related, BURST, clock::now()) {
        plan::Step::Nothing => {}
        plan::Step::Create(pod, count) => {
            if let Err(refused) = create(api, &set, &pod, count).await {
                failure = Some(Failure { creating: true, message: refused.message() });
                error = Some(refused);
            }
        }
        plan::Step::Remove(surplus) => {
            if let Err(refused) = remove(api, &set, &surplus).await {
                failure = Some(Failure { creating: false, message: refused.message() });
                error = Some(refused);
            }
        }
    }
    let now = clock::now();
    // Counted from what was there before: the new pods' own changes bring us back.
    let set = view.replica_sets.get(key).unwrap_or(set);
    if let Some(write) = plan::status(&set, &pods, failure.as_ref(), now) {
        api.execute(write).await?;
    }
    match error {
        Some(error) => Err(error),
        None => Ok(plan::recheck(&set, &pods, now)),
    }
}

/// Creates pods in batches that double as long as all goes well (upstream: `slowStartBatch`).
async fn create(api: &Api, set: &ReplicaSet, pod: &Pod, count: usize) -> Result<(), api::Error> {
    let mut left = count;
    let mut batch = 1;
    while left > 0 {
        let now = batch.min(left);
        let answers = join_all((0..now).map(|_| api.execute(Write::create(pod.clone())))).await;
        for answer in answers {
            match answer {
                Ok(Some(Object::Pod(pod))) => {
                    let message = format!("Created pod: {}", meta::name(&*pod));
                    tell(api, set, Severity::Normal, "SuccessfulCreate", message).await?;
                }
                Ok(_) => {}
                Err(error) => {
                    // A namespace that goes away takes the replica set with it: no news.
                    if !error.is_namespace_terminating() {
                        let message = format!("Error creating: {}", error.message());
                        tell(api, set, Severity::Warning, "FailedCreate", message).await?;
                    }
                    return Err(error);
                }
            }
        }
        left -= now;
        batch *= 2;
    }
    Ok(())
}

async fn remove(api: &Api, set: &ReplicaSet, surplus: &[Arc<Pod>]) -> Result<(), api::Error> {
    let answers = join_all(surplus.iter().map(|pod| api.execute(Write::delete(&**pod)))).await;
    let mut outcome = Ok(());
    for (pod, answer) in surplus.iter().zip(answers) {
        let name = meta::name(&**pod);
        match answer {
            Ok(_) => {
                let message = format!("Deleted pod: {name}");
                tell(api, set, Severity::Normal, "SuccessfulDelete", message).await?;
            }
            Err(error) => {
                let message = format!("Error deleting: {}", error.message());
                tell(api, set, Severity::Warning, "FailedDelete", message).await?;
                outcome = Err(error);
            }
        }
    }
    outcome
}

async fn tell(
    api: &Api,
    set: &ReplicaSet,
    severity: Severity,
    reason: &'static str,
    message: String,
) -> Result<(), api::Error> {
    let occurrence = Occurrence::new(COMPONENT, set, severity, reason, message);
    api.execute(Write::Event(occurrence)).await.map(|_| ())
}
