//! Takes keys from a queue and reconciles them, several at once.
//!
//! Input: a queue and a reconcile function. Output: none; failures are logged and retried.
//! Invariant: a key is reconciled by one task at a time (the queue sees to it).

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;

use crate::api;
use crate::queue::Queue;

/// When to look at a key again although nothing changed.
pub(crate) type Recheck = Option<Duration>;

/// Reconciles keys, at most `parallel` at once, until stopped.
pub(crate) async fn work<K, F, Fut>(
    name: &'static str,
    queue: Arc<Queue<K>>,
    parallel: usize,
    stop: CancellationToken,
    reconcile: F,
) where
    K: Clone + Eq + Hash + Debug,
    F: Fn(K) -> Fut,
    Fut: Future<Output = Result<Recheck, api::Error>>,
{
    let mut running = FuturesUnordered::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            key = queue.next(), if running.len() < parallel => {
                let work = reconcile(key.clone());
                running.push(async move { (key, work.await) });
            }
            Some((key, outcome)) = running.next() => finish(name, &queue, &key, outcome),
        }
    }
}

fn finish<K: Clone + Eq + Hash + Debug>(
    name: &'static str,
    queue: &Queue<K>,
    key: &K,
    outcome: Result<Recheck, api::Error>,
) {
    match outcome {
        Ok(recheck) => {
            queue.forget(key);
            if let Some(after) = recheck {
                queue.add_after(key.clone(), after);
            }
        }
        // Nothing new is let into a namespace that goes away; what is there goes with it.
        Err(error) if error.is_namespace_terminating() => {
            tracing::debug!(controller = name, ?key, error = error.chain(), "left alone");
            queue.forget(key);
        }
        Err(error) => {
            // Somebody else wrote first, or the object went: ordinary, the next look settles it.
            if error.is_conflict() || error.is_not_found() {
                tracing::debug!(controller = name, ?key, error = error.chain(), "will look again");
            } else {
                tracing::warn!(controller = name, ?key, error = error.chain(), "will try again");
            }
            queue.retry(key.clone());
        }
    }
    queue.done(key);
}
