//! Removes pods that nobody else will remove (upstream: `pkg/controller/podgc`).
//!
//! Inputs: pods and nodes. Outputs: pods marked failed and removed.
//! What it removes: pods that are to go but were never bound to a node; pods of nodes that are gone
//! for 40 s; pods that are to go on nodes declared out of service.
//! Deliberately not here: the limit of 12,500 ended pods; a course does not get there.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

use crate::api::{self, Api};
use crate::cache::Key;
use crate::clock;
use crate::controllers::{self, Context};
use crate::meta;
use crate::pod;
use crate::queue::Queue;
use crate::view::{Kind, View};
use crate::worker::Recheck;
use crate::write::{PatchKind, Plan, Propagation, Target, Write};

/// How long a node must be gone (upstream: `quarantineTime`).
const QUARANTINE: Duration = Duration::from_secs(40);
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
const PARALLEL: usize = 5;

/// A pod to look at now, or a node that was missing a while ago.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    Pod(Key),
    Missing(String),
}

/// Registers the controller's handlers and returns its loop.
pub(crate) fn run(context: &Context) -> impl Future<Output = ()> + Send + use<> {
    let queue = Arc::new(Queue::default());
    register(&context.view, &queue);
    let look_at = |Context { api, view, .. }: Context, subject| async move {
        reconcile(&api, &view, &subject).await
    };
    controllers::serve("podgc", context.clone(), queue, PARALLEL, look_at)
}

fn register(view: &Arc<View>, queue: &Arc<Queue<Subject>>) {
    let (sink, source) = (queue.clone(), Arc::downgrade(view));
    view.pods.on_change(move |change| {
        let (Some(pod), Some(view)) = (&change.new, source.upgrade()) else { return };
        if meta::is_deleted(&**pod) {
            sink.add(Subject::Pod(meta::key(&**pod)));
        }
        if let Some(node) = pod::node_name(pod)
            && view.nodes.get(&Key::new("", node)).is_none()
        {
            sink.add_after(Subject::Missing(node.to_owned()), QUARANTINE);
        }
    });
    let (sink, source) = (queue.clone(), Arc::downgrade(view));
    view.nodes.on_change(move |change| {
        let Some(view) = source.upgrade() else { return };
        let node = meta::name(change.latest());
        match &change.new {
            None => sink.add_after(Subject::Missing(node.to_owned()), QUARANTINE),
            Some(held) if is_out_of_service(held) => {
                for pod in view.pods.all().iter().filter(|p| pod::node_name(p) == Some(node)) {
                    sink.add(Subject::Pod(meta::key(&**pod)));
                }
            }
            Some(_) => {}
        }
    });
}

async fn reconcile(api: &Api, view: &View, subject: &Subject) -> Result<Recheck, api::Error> {
    match subject {
        Subject::Pod(key) => {
            let Some(pod) = view.pods.get(key) else { return Ok(None) };
            let node = pod::node_name(&pod).and_then(|name| view.nodes.get(&Key::new("", name)));
            api.run(plan_pod(&pod, node.as_deref(), clock::now())).await
        }
        Subject::Missing(node) => {
            let key = Key::new("", node.clone());
            if view.nodes.get(&key).is_some() || node_exists(api, &key).await? {
                return Ok(None);
            }
            for pod in view.pods.all().iter().filter(|pod| pod::node_name(pod) == Some(node)) {
                let why = Some("PodGC: node no longer exists");
                api.run(Plan::of(fail_and_remove(pod, why, clock::now()))).await?;
            }
            Ok(None)
        }
    }
}

/// Asks the server itself: the removal is not to be taken back.
async fn node_exists(api: &Api, key: &Key) -> Result<bool, api::Error> {
    Ok(api.uid_of(&Node::resource(), key).await?.is_some())
}

fn is_out_of_service(node: &Node) -> bool {
    let ready = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = ready.filter(|c| c.type_ == "Ready").any(|c| c.status == "True");
    let mut taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    !ready && taints.any(|taint| taint.key == OUT_OF_SERVICE)
}

/// What a pod that is to go needs, if its node will not see to it.
fn plan_pod(pod: &Pod, node: Option<&Node>, now: Timestamp) -> Plan {
    let unbound = pod::node_name(pod).is_none();
    if !meta::is_deleted(pod) || !(unbound || node.is_some_and(is_out_of_service)) {
        return Plan::default();
    }
    Plan::of(fail_and_remove(pod, None, now))
}

/// Marks the pod failed, so that its owner sees how it ended, and removes it at once.
fn fail_and_remove(pod: &Pod, why: Option<&str>, now: Timestamp) -> Vec<Write> {
    let mut writes = Vec::new();
    if !pod::is_terminal(pod) {
        let mut status = json!({ "phase": "Failed" });
        if let Some(why) = why {
            status["conditions"] = json!([{
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "DeletionByPodGC",
                "message": why,
                "lastTransitionTime": meta::seconds(now),
            }]);
        }
        writes.push(Write::Patch {
            target: Target::of(pod),
            subresource: Some("status"),
            kind: PatchKind::Strategic,
            body: json!({ "status": status }),
        });
    }
    writes.push(Write::Delete {
        target: Target::of(pod),
        grace: Some(0),
        propagation: Propagation::Default,
    });
    writes
}

#[cfg(test)]
mod tests;
