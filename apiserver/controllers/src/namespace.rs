//! The namespace controller: empties a namespace that is to go, then lets it go (upstream:
//! `pkg/controller/namespace`).
//!
//! Inputs: namespaces, the [`Census`] of what is in them. Outputs: removals, the namespace's
//! conditions, its finalisation.
//! Invariant: a namespace is finalised only when the server itself, asked resource by resource,
//! has nothing left in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::{self, Api};
use crate::cache::Key;
use crate::census::Census;
use crate::clock;
use crate::controllers::{self, Config, Context, ResourceId};
use crate::meta;
use crate::queue::Queue;
use crate::view::View;
use crate::worker::Recheck;
use crate::write::{Propagation, Target, Write};

/// The entry of `spec.finalizers` that is ours.
const FINALIZER: &str = "kubernetes";
/// Upstream's `--concurrent-namespace-syncs`.
const PARALLEL: usize = 10;
/// When to ask the server again about objects that the census has not heard of.
const UNHEARD: Duration = Duration::from_millis(100);
/// When to look again at what goes by itself; its going wakes us earlier.
const PATIENCE: Duration = Duration::from_secs(15);

/// Registers the controller's handlers and returns its loop.
pub(crate) fn run(
    context: &Context,
    config: &Config,
    census: &Arc<Census>,
) -> impl Future<Output = ()> + Send + use<> {
    let queue = Arc::new(Queue::default());
    let sink = queue.clone();
    context.view.namespaces.on_change(move |change| {
        if change.new.as_ref().is_some_and(|namespace| meta::is_deleted(&**namespace)) {
            sink.add(meta::name(change.latest()).to_owned());
        }
    });
    let (sink, source) = (queue.clone(), Arc::downgrade(&context.view));
    census.on_change(move |_, (old, new)| {
        let namespace = old.filter(|_| new.is_none()).and_then(|held| held.namespace.as_deref());
        if let (Some(namespace), Some(view)) = (namespace, source.upgrade())
            && view.namespaces.get(&Key::new("", namespace)).is_some_and(|n| meta::is_deleted(&*n))
        {
            sink.add(namespace.to_owned());
        }
    });
    let resources: Arc<[ResourceId]> =
        config.resources.iter().filter(|resource| resource.namespaced).copied().collect();
    let (context, census) = (context.clone(), census.clone());
    async move {
        if context.stop.run_until_cancelled(census.wait_listed()).await.is_none() {
            return;
        }
        let look_at = |Context { api, view, .. }: Context, name: String| {
            let (census, resources) = (census.clone(), resources.clone());
            async move { reconcile(&api, &view, &census, &resources, &name).await }
        };
        controllers::serve("namespace", context, queue, PARALLEL, look_at).await;
    }
}

async fn reconcile(
    api: &Api,
    view: &View,
    census: &Census,
    resources: &[ResourceId],
    name: &str,
) -> Result<Recheck, api::Error> {
    let key = Key::new("", name);
    let Some(namespace) = view.namespaces.get(&key).filter(|held| meta::is_deleted(&**held)) else {
        return Ok(None);
    };
    if !has_finalizer(&namespace) {
        return Ok(None);
    }
    remove_all(api, census.in_namespace(name)).await?;
    let mut recheck = PATIENCE;
    let mut left = census.in_namespace(name);
    if left.is_empty() {
        // Events are not in the census, and something may have come in just before the end.
        left = ask(api, resources, name).await?;
        remove_all(api, left.clone()).await?;
        left = if left.is_empty() { left } else { ask(api, resources, name).await? };
        recheck = UNHEARD;
    }
    if left.is_empty() {
        // The newest version: the conditions may have been written since.
        let namespace = view.namespaces.get(&key).unwrap_or(namespace);
        api.execute(Write::Finalize(Box::new(finalized(&namespace)))).await?;
        return Ok(None);
    }
    if let Some(write) = report(&namespace, &left, clock::now()) {
        api.execute(write).await?;
    }
    Ok(Some(recheck))
}

async fn ask(
    api: &Api,
    resources: &[ResourceId],
    namespace: &str,
) -> Result<Vec<(ResourceId, ObjectMeta)>, api::Error> {
    let lists = join_all(resources.iter().map(|resource| async move {
        let listed = api.list_metadata(resource, namespace).await?;
        Ok(listed.into_iter().map(|metadata| (*resource, metadata)).collect::<Vec<_>>())
    }));
    let lists: Result<Vec<Vec<_>>, api::Error> = lists.await.into_iter().collect();
    Ok(lists?.into_iter().flatten().collect())
}

/// Removes what is not yet on its way out.
async fn remove_all(api: &Api, objects: Vec<(ResourceId, ObjectMeta)>) -> Result<(), api::Error> {
    let present = objects.iter().filter(|(_, metadata)| metadata.deletion_timestamp.is_none());
    let removals = present.map(|(resource, metadata)| {
        api.execute(Write::Delete {
            target: Target::new(*resource, metadata),
            grace: None,
            propagation: Propagation::Background,
        })
    });
    join_all(removals).await.into_iter().try_for_each(|removal| removal.map(|_| ()))
}

fn has_finalizer(namespace: &Namespace) -> bool {
    let spec = namespace.spec.as_ref();
    spec.iter().flat_map(|spec| spec.finalizers.iter().flatten()).any(|held| held == FINALIZER)
}

fn finalized(namespace: &Namespace) -> Namespace {
    let mut updated = namespace.clone();
    if let Some(finalizers) = updated.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
        finalizers.retain(|held| held != FINALIZER);
    }
    updated
}

/// Says in the namespace's conditions what holds it up (upstream: `status_condition_utils.go`).
fn report(
    namespace: &Namespace,
    left: &[(ResourceId, ObjectMeta)],
    now: Timestamp,
) -> Option<Write> {
    let mut resources: BTreeMap<String, usize> = BTreeMap::new();
    let mut finalizers: BTreeMap<&str, usize> = BTreeMap::new();
    for (resource, metadata) in left {
        *resources.entry(format!("{}.{}", resource.plural, resource.group)).or_default() += 1;
        for finalizer in metadata.finalizers.iter().flatten() {
            *finalizers.entry(finalizer).or_default() += 1;
        }
    }
    let instances: Vec<String> =
        resources.iter().map(|(name, n)| format!("{name} has {n} resource instances")).collect();
    let holders: Vec<String> =
        finalizers.iter().map(|(name, n)| format!("{name} in {n} resource instances")).collect();
    let content = format!("Some resources are remaining: {}", instances.join(", "));
    let held =
        format!("Some content in the namespace has finalizers remaining: {}", holders.join(", "));
    let mut wanted = vec![
        (
            "NamespaceDeletionDiscoveryFailure",
            "False",
            "ResourcesDiscovered",
            DISCOVERED.to_owned(),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            "False",
            "ParsedGroupVersions",
            PARSED.to_owned(),
        ),
        ("NamespaceDeletionContentFailure", "False", "ContentDeleted", DELETED.to_owned()),
        ("NamespaceContentRemaining", "True", "SomeResourcesRemain", content),
    ];
    wanted.push(if holders.is_empty() {
        ("NamespaceFinalizersRemaining", "False", "ContentHasNoFinalizers", FREE.to_owned())
    } else {
        ("NamespaceFinalizersRemaining", "True", "SomeFinalizersRemain", held)
    });
    let mut updated = namespace.clone();
    let status = updated.status.get_or_insert_default();
    let old = status.conditions.take().unwrap_or_default();
    let conditions = wanted.into_iter().map(|(kind, value, reason, message)| {
        let present = old.iter().find(|condition| condition.type_ == kind);
        let since = present
            .filter(|condition| condition.status == value)
            .and_then(|condition| condition.last_transition_time.clone());
        NamespaceCondition {
            type_: kind.to_owned(),
            status: value.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(since.unwrap_or_else(|| meta::seconds(now))),
        }
    });
    let conditions: Vec<_> = conditions.collect();
    let changed = conditions != old;
    status.conditions = Some(conditions);
    changed.then(|| Write::update_status(updated))
}

const DISCOVERED: &str = "All resources successfully discovered";
const PARSED: &str = "All legacy kube types successfully parsed";
const DELETED: &str = "All content successfully deleted, may be waiting on finalization";
const FREE: &str = "All content-preserving finalizers finished";

#[cfg(test)]
mod tests;
