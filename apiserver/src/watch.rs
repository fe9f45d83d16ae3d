//! Watches: what happened to objects after a revision, as a stream of JSON lines.
//!
//! Inputs: the store's events under a prefix, and the selectors of the request. Output: a body.
//! Invariants: events come in the order of revisions, without gaps, or the stream ends with an
//! ERROR event; a bookmark's revision is never ahead of the events that were sent. Upstream:
//! apiserver `pkg/storage/cacher`, `pkg/endpoints/handlers/watch.go`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use resources::table::Resource;
use store::{Change, Event, Revision, Snapshot, Watch, WatchError};
use tokio::time::{Instant, MissedTickBehavior};

use crate::api::Api;
use crate::http::query::ListOptions;
use crate::key;
use crate::present::{self, View};
use crate::selection::Selection;
use crate::status::ApiError;
use crate::stored;
use crate::verbs::Call;

/// Upstream's interval between bookmarks.
const BOOKMARKS: Duration = Duration::from_secs(60);
/// Upstream ends watches after 30 to 60 minutes, so that clients spread out again.
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// What a client sees of a change (upstream's `watch.EventType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Added,
    Modified,
    Deleted,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }

    /// An object that comes to match a selector is added, one that ceases to is deleted.
    fn of(before: bool, after: bool) -> Option<Self> {
        match (before, after) {
            (false, true) => Some(Self::Added),
            (true, true) => Some(Self::Modified),
            (true, false) => Some(Self::Deleted),
            (false, false) => None,
        }
    }
}

/// Opens a watch.
///
/// # Errors
/// What is wrong with the options. A revision that is too old is told in the stream, as upstream does.
pub(crate) fn open(
    api: &Arc<Api>,
    call: &Call,
    view: View,
) -> Result<impl futures::Stream<Item = Result<Bytes, std::io::Error>> + Send + use<>, ApiError> {
    let options = ListOptions::parse(&call.query, true)?;
    let resource = call.resource();
    let selection = Selection::parse(resource, &options)?;
    let name = call.target.name.clone().or_else(|| selection.name().map(str::to_owned));
    let prefix = match (&name, resource.namespaced, call.namespace()) {
        (Some(name), true, Some(namespace)) => key::object(resource, Some(namespace), name),
        (Some(name), false, _) => key::object(resource, None, name),
        _ => key::prefix(resource, call.namespace()),
    };
    let snapshot = api.store.snapshot();
    let initial = Initial::of(&options);
    let from = match initial {
        Initial::Nothing => Revision(options.resource_version.unwrap_or(0)),
        Initial::Objects { .. } => snapshot.revision(),
    };
    let filter = Filter { resource, selection, name: call.target.name.clone(), view };
    let mut stream = Stream {
        filter,
        pending: VecDeque::new(),
        watch: None,
        progress: api.store.progress(),
        bookmarks: options.bookmarks,
        next_bookmark: tokio::time::interval_at(Instant::now() + BOOKMARKS, BOOKMARKS),
        ends: Instant::now()
            + options.timeout_seconds.map_or(LONGEST, Duration::from_secs).min(LONGEST * 2),
        first: true,
    };
    stream.next_bookmark.set_missed_tick_behavior(MissedTickBehavior::Delay);
    match api.store.watch(&prefix, from) {
        Ok(watch) => {
            if let Initial::Objects { end_mark } = initial {
                stream.queue_initial(&snapshot, &prefix, end_mark && options.bookmarks)?;
            }
            stream.watch = Some(watch);
        }
        Err(error) => stream.queue_error(&refusal(&error, from)),
    }
    Ok(futures::stream::unfold(stream, |mut stream| async move {
        let line = stream.next().await?;
        Some((Ok(line), stream))
    }))
}

/// What a watch begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Initial {
    /// The changes after the revision that the client has.
    Nothing,
    /// All objects as they are, and perhaps a mark after the last.
    Objects { end_mark: bool },
}

impl Initial {
    fn of(options: &ListOptions) -> Self {
        let unversioned = options.resource_version.unwrap_or(0) == 0;
        match options.send_initial_events {
            Some(true) => Self::Objects { end_mark: true },
            Some(false) if !unversioned => Self::Nothing,
            None if !unversioned => Self::Nothing,
            // Upstream: unset or 0 means "start with what there is".
            Some(false) | None => Self::Objects { end_mark: false },
        }
    }
}

/// Why there is nothing (more) to watch.
fn refusal(error: &WatchError, asked: Revision) -> ApiError {
    match error {
        WatchError::Compacted { compacted } => {
            ApiError::Expired { asked: asked.0, oldest: compacted.0 }
        }
        WatchError::Future { wanted, current } => {
            ApiError::FutureVersion { asked: wanted.0, current: current.0 }
        }
        WatchError::Closed => ApiError::Unavailable("the server is shutting down".into()),
    }
}

/// What a client wants to see, and how.
struct Filter {
    resource: &'static Resource,
    selection: Selection,
    name: Option<String>,
    view: View,
}

impl Filter {
    fn wants(&self, key: &str, json: &[u8]) -> bool {
        let named = self.name.as_deref().is_none_or(|n| n == key::names(self.resource, key).1);
        named && self.selection.wants(self.resource, key, json)
    }

    /// What the client sees of an event, and the object it sees.
    fn see(&self, event: &Event) -> Result<Option<(Kind, Bytes)>, ApiError> {
        let wants = |value: &Bytes| -> Result<(bool, Bytes), ApiError> {
            let json = stored::json(self.resource, value)?;
            Ok((self.wants(&event.key, &json), json))
        };
        let seen = match &event.change {
            Change::Put { entry, previous } => {
                let (after, json) = wants(&entry.value)?;
                let before = match previous {
                    Some(previous) => wants(&previous.value)?.0,
                    None => false,
                };
                Kind::of(before, after).map(|kind| (kind, json))
            }
            Change::Delete { last, previous } => {
                let before = wants(&previous.value)?.0;
                let json = stored::json(self.resource, last)?;
                Kind::of(before, false).map(|kind| (kind, json))
            }
        };
        Ok(seen)
    }
}

struct Stream {
    filter: Filter,
    /// Lines to send before anything else.
    pending: VecDeque<Bytes>,
    /// `None` when the stream ends after the pending lines.
    watch: Option<Watch>,
    progress: tokio::sync::watch::Receiver<Revision>,
    bookmarks: bool,
    next_bookmark: tokio::time::Interval,
    ends: Instant,
    /// Whether no object was sent yet.
    first: bool,
}

impl Stream {
    /// Queues all objects as they are, and the mark that says so.
    fn queue_initial(
        &mut self,
        snapshot: &Snapshot,
        prefix: &str,
        end_mark: bool,
    ) -> Result<(), ApiError> {
        for (key, entry) in snapshot.range(prefix) {
            let json = stored::json(self.filter.resource, &entry.value)?;
            if self.filter.wants(key, &json) {
                self.queue(Kind::Added, &json)?;
            }
        }
        if end_mark {
            self.queue_bookmark(snapshot.revision(), true)?;
        }
        Ok(())
    }

    fn queue(&mut self, kind: Kind, json: &Bytes) -> Result<(), ApiError> {
        let Filter { resource, view, .. } = self.filter;
        let object = present::event(resource, json, view, self.first, Timestamp::now())?;
        self.first = false;
        self.pending.push_back(line(kind.as_str(), &object));
        Ok(())
    }

    fn queue_bookmark(&mut self, revision: Revision, initial_end: bool) -> Result<(), ApiError> {
        let Filter { resource, view, .. } = self.filter;
        let object = present::bookmark(resource, revision.0, initial_end, view)?;
        self.pending.push_back(line("BOOKMARK", &object));
        Ok(())
    }

    /// The last thing that is sent.
    fn queue_error(&mut self, error: &ApiError) {
        let status = serde_json::to_vec(&error.status()).unwrap_or_default();
        self.pending.push_back(line("ERROR", &status));
        self.watch = None;
    }

    /// The next line, or the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.pending.pop_front() {
                return Some(line);
            }
            let watch = self.watch.as_mut()?;
            tokio::select! {
                biased;
                event = watch.next() => match event {
                    Some(event) => self.take(event),
                    None => return None,
                },
                _ = self.next_bookmark.tick(), if self.bookmarks => self.bookmark(),
                () = tokio::time::sleep_until(self.ends) => return None,
            }
        }
    }

    fn take(&mut self, event: Result<Event, WatchError>) {
        let seen = match event {
            Ok(event) => self.filter.see(&event),
            Err(error) => {
                let at = *self.progress.borrow();
                return self.queue_error(&refusal(&error, at));
            }
        };
        let queued = match seen {
            Ok(Some((kind, json))) => self.queue(kind, &json),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = queued {
            self.queue_error(&error);
        }
    }

    /// A bookmark, unless events wait: then the next tick is early enough.
    fn bookmark(&mut self) {
        let Some(reached) = self.watch.as_ref().and_then(Watch::caught_up) else { return };
        if let Err(error) = self.queue_bookmark(reached, false) {
            self.queue_error(&error);
        }
    }
}

fn line(kind: &str, object: &[u8]) -> Bytes {
    let parts: [&[u8]; 5] = [br#"{"type":""#, kind.as_bytes(), br#"","object":"#, object, b"}\n"];
    parts.concat().into()
}

#[cfg(test)]
mod tests;
