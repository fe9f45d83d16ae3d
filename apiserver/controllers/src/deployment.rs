//! The deployment controller: moves a Deployment's pods from one template to the next (upstream:
//! `pkg/controller/deployment`).
//!
//! Inputs: deployments, their replica sets, and (for `Recreate`) pods. Outputs: replica sets
//! created, scaled and removed; the Deployment's status and revision; `ScalingReplicaSet` events.
//! Invariants: all pods together never exceed `replicas + maxSurge`, and the available ones are
//! never brought below `replicas - maxUnavailable`, by what a plan asks for.
//! Deliberately not here: rollback. `kubectl rollout undo` writes the old template back, and this
//! controller finds the old replica set by its template.

mod adopt;
mod plan;
mod progress;
mod revision;
mod scale;

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;

use crate::api::{self, Api};
use crate::cache::{Change, Key};
use crate::clock;
use crate::controllers::{self, Context};
use crate::meta;
use crate::queue::Queue;
use crate::view::{Object, View};
use crate::worker::Recheck;
use crate::write::Write;

const COMPONENT: &str = "deployment-controller";
/// Upstream's `--concurrent-deployment-syncs`.
const PARALLEL: usize = 5;

/// Registers the controller's handlers and returns its loop.
pub(crate) fn run(context: &Context) -> impl Future<Output = ()> + Send + use<> {
    let queue = Arc::new(Queue::default());
    register(&context.view, &queue);
    let look_at =
        |Context { api, view, .. }: Context, key| async move { reconcile(&api, &view, &key).await };
    controllers::serve("deployment", context.clone(), queue, PARALLEL, look_at)
}

fn register(view: &Arc<View>, queue: &Arc<Queue<Key>>) {
    let sink = queue.clone();
    view.deployments.on_change(move |change| sink.add(meta::key(change.latest())));
    let (sink, source) = (queue.clone(), Arc::downgrade(view));
    view.replica_sets.on_change(move |change| {
        if let Some(view) = source.upgrade() {
            for key in deployments_of(change, &view) {
                sink.add(key);
            }
        }
    });
    let (sink, source) = (queue.clone(), Arc::downgrade(view));
    view.pods.on_change(move |change| {
        // Only `Recreate` waits for pods: until the last one of the old replica sets is gone.
        if let (None, Some(view)) = (&change.new, source.upgrade())
            && let Some(key) = deployment_of_pod(change.latest(), &view)
        {
            sink.add(key);
        }
    });
}

/// The Deployments that a replica set's change concerns: its owners, or those that may adopt it.
fn deployments_of(change: &Change<ReplicaSet>, view: &View) -> HashSet<Key> {
    let mut keys = HashSet::new();
    for set in change.sides() {
        let namespace = meta::namespace(&**set);
        match meta::controller_of(&set.metadata) {
            Some(owner) if owner.kind == "Deployment" => {
                keys.insert(Key::new(namespace, owner.name.clone()));
            }
            Some(_) => {}
            None => keys.extend(
                view.deployments
                    .in_namespace(namespace)
                    .iter()
                    .filter(|deployment| adopt::selects(deployment, set))
                    .map(|deployment| meta::key(&**deployment)),
            ),
        }
    }
    keys
}

fn deployment_of_pod(pod: &Pod, view: &View) -> Option<Key> {
    let namespace = meta::namespace(pod);
    let set = meta::controller_of(&pod.metadata).filter(|owner| owner.kind == "ReplicaSet")?;
    let set = view.replica_sets.get(&Key::new(namespace, set.name.clone()))?;
    let owner = meta::controller_of(&set.metadata).filter(|owner| owner.kind == "Deployment")?;
    let key = Key::new(namespace, owner.name.clone());
    view.deployments.get(&key).is_some_and(|d| plan::is_recreate(&d)).then_some(key)
}

async fn reconcile(api: &Api, view: &View, key: &Key) -> Result<Recheck, api::Error> {
    let Some(deployment) = view.deployments.get(key) else { return Ok(None) };
    for write in adopt::claim(&deployment, &view.replica_sets.in_namespace(&key.namespace)) {
        api.execute(write).await?;
    }
    let sets = view.replica_sets.in_namespace(&key.namespace);
    let pods = if plan::is_recreate(&deployment) {
        view.pods.in_namespace(&key.namespace)
    } else {
        Vec::new()
    };
    let now = clock::now();
    let plan = plan::plan(&deployment, &sets, &pods, now);
    for write in plan.writes {
        let creates = matches!(&write, Write::Create(Object::ReplicaSet(_)));
        if let Err(error) = api.execute(write).await {
            if creates && !error.is_already_exists() && !error.is_namespace_terminating() {
                for write in plan::creation_failed(&deployment, &error.message(), now) {
                    api.execute(write).await?;
                }
            }
            return Err(error);
        }
    }
    Ok(plan.recheck)
}
