//! Fills a cache: one list, then a watch from there (upstream: `client-go/tools/cache/reflector`).
//!
//! Input: a path and a selector. Output: the cache's state and its handlers' calls.
//! Invariants: a watch that ends is resumed where it ended; a history that is gone (410) leads to
//! a new list; failures are retried with a growing pause and never end the reflector.
//! `kube::runtime::watcher` would do most of this, but does not tell the list's resource version,
//! by which the cache keeps our own writes (see `cache`).
//! Deliberately not here: what an event means.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, ObjectMeta};
use kube::core::params::WatchParams;
use kube::core::{Request, WatchEvent};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, parse_revision};
use crate::meta::Held;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What to reflect.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The path of the collection.
    pub(crate) path: String,
    /// A field selector, if not everything is wanted.
    pub(crate) fields: Option<&'static str>,
}

#[derive(Deserialize)]
struct List<K> {
    metadata: ListMeta,
    items: Vec<K>,
}

/// How a watch ended.
enum End {
    /// The server closed it; go on from the last event.
    Closed,
    /// What came after the last event is no longer known; list again.
    Expired,
}

/// Keeps `cache` at the state of `source` until stopped.
pub(crate) async fn reflect<K>(
    client: kube::Client,
    source: Source,
    cache: &Cache<K>,
    stop: CancellationToken,
) where
    K: Held + DeserializeOwned + Clone + Send + Sync + 'static,
{
    stop.run_until_cancelled(follow(&client, &source, cache)).await;
}

async fn follow<K>(client: &kube::Client, source: &Source, cache: &Cache<K>)
where
    K: Held + DeserializeOwned + Clone + Send + Sync + 'static,
{
    let mut pause = FIRST_PAUSE;
    let mut from: Option<String> = None;
    loop {
        let outcome = match &mut from {
            None => list(client, source, cache).await.map(|revision| {
                from = Some(revision);
                pause = FIRST_PAUSE;
            }),
            Some(revision) => match watch(client, source, cache, revision).await {
                Ok(End::Closed) => {
                    pause = FIRST_PAUSE;
                    Ok(())
                }
                Ok(End::Expired) => {
                    from = None;
                    Ok(())
                }
                Err(error) => Err(error),
            },
        };
        if let Err(error) = outcome {
            tracing::warn!(path = source.path, %error, "cannot follow, will try again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

async fn list<K>(
    client: &kube::Client,
    source: &Source,
    cache: &Cache<K>,
) -> Result<String, kube::Error>
where
    K: Held + DeserializeOwned,
{
    let params = kube::api::ListParams {
        field_selector: source.fields.map(str::to_owned),
        ..kube::api::ListParams::default()
    };
    let request = Request::new(&source.path).list(&params).map_err(kube::Error::BuildRequest)?;
    let list: List<K> = client.request(request).await?;
    let revision = list.metadata.resource_version.unwrap_or_default();
    cache.replace(list.items, parse_revision(Some(&revision)));
    Ok(revision)
}

async fn watch<K>(
    client: &kube::Client,
    source: &Source,
    cache: &Cache<K>,
    revision: &mut String,
) -> Result<End, kube::Error>
where
    K: Held + DeserializeOwned + Clone + 'static,
{
    let params = WatchParams {
        field_selector: source.fields.map(str::to_owned),
        bookmarks: true,
        ..WatchParams::default()
    };
    let request =
        Request::new(&source.path).watch(&params, revision).map_err(kube::Error::BuildRequest)?;
    let events = match client.request_events::<K>(request).await {
        Err(kube::Error::Api(status)) if status.code == 410 => return Ok(End::Expired),
        other => other?,
    };
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event? {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                remember(revision, object.meta());
                cache.observe(object);
            }
            WatchEvent::Deleted(object) => {
                remember(revision, object.meta());
                cache.observe_removed(&object);
            }
            WatchEvent::Bookmark(bookmark) => {
                cache.observe_progress(parse_revision(Some(&bookmark.metadata.resource_version)));
                *revision = bookmark.metadata.resource_version;
            }
            WatchEvent::Error(status) if status.code == 410 => return Ok(End::Expired),
            WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
        }
    }
    Ok(End::Closed)
}

fn remember(revision: &mut String, metadata: &ObjectMeta) {
    if let Some(seen) = &metadata.resource_version {
        revision.clone_from(seen);
    }
}
