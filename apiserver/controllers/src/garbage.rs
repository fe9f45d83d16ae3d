//! The garbage collector: removes what lost its owners (upstream: `pkg/controller/garbagecollector`).
//!
//! Inputs: the metadata of everything ([`Census`]). Outputs: removals, and changes of owner
//! references and of the finalizers `foregroundDeletion` and `orphan`.
//! Invariants: an object is removed only when each of its owners is gone, which the server itself
//! is asked for when the graph does not know an owner; an owner of an unknown kind counts as there.

mod graph;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::{self, Api};
use crate::cache::Key;
use crate::census::{Census, Seen};
use crate::controllers::{self, Context, ResourceId};
use crate::queue::Queue;
use crate::worker::Recheck;

use graph::{Graph, Item};

/// Upstream's `--concurrent-gc-syncs`.
const PARALLEL: usize = 20;

/// Registers the collector's handlers and returns its loop.
pub(crate) fn run(
    context: &Context,
    census: &Arc<Census>,
) -> impl Future<Output = ()> + Send + use<> {
    let queue = Arc::new(Queue::default());
    let sink = queue.clone();
    census.on_change(move |resource, seen| {
        if matters(seen) {
            sink.add(item(resource, seen));
        }
    });
    let (context, census) = (context.clone(), census.clone());
    async move {
        if context.stop.run_until_cancelled(census.wait_listed()).await.is_none() {
            return;
        }
        let graph = Arc::new(Mutex::new(Graph::default()));
        let sink = queue.clone();
        let look_at = |Context { api, .. }: Context, item: Item| {
            let (census, graph, sink) = (census.clone(), graph.clone(), sink.clone());
            async move { reconcile(&api, &census, &graph, &sink, &item).await }
        };
        controllers::serve("garbagecollector", context, queue, PARALLEL, look_at).await;
    }
}

/// Whether a change concerns owners; most changes are of status and do not.
fn matters((old, new): Seen<'_>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => graph::facts(old) != graph::facts(new),
        _ => true,
    }
}

fn item(resource: ResourceId, (old, new): Seen<'_>) -> Item {
    let metadata = new.or(old);
    let text = |read: fn(&ObjectMeta) -> &Option<String>| {
        metadata.and_then(|metadata| read(metadata).clone()).unwrap_or_default()
    };
    Item { resource, key: Key::new(text(|m| &m.namespace), text(|m| &m.name)) }
}

async fn reconcile(
    api: &Api,
    census: &Census,
    graph: &Mutex<Graph>,
    queue: &Queue<Item>,
    item: &Item,
) -> Result<Recheck, api::Error> {
    let doubtful = {
        let mut graph = graph.lock().unwrap_or_else(PoisonError::into_inner);
        for concerned in graph.update(item, census.get(&item.resource, &item.key).as_ref()) {
            queue.add(concerned);
        }
        graph.unknown_owners(item)
    };
    let mut absent = HashSet::new();
    for owner in doubtful {
        let Some(resource) = census.resource_of(&owner.api_version, &owner.kind) else { continue };
        let namespace = if resource.namespaced { item.key.namespace.as_str() } else { "" };
        let key = Key::new(namespace, owner.name.clone());
        if api.uid_of(&resource, &key).await?.as_ref() != Some(&owner.uid) {
            absent.insert(owner.uid);
        }
    }
    let plan = {
        let mut graph = graph.lock().unwrap_or_else(PoisonError::into_inner);
        graph.refresh(item, |item| census.get(&item.resource, &item.key));
        graph.plan(item, &absent)
    };
    for concerned in plan.look_at {
        queue.add(concerned);
    }
    for write in plan.writes {
        api.execute(write).await?;
    }
    Ok(None)
}
