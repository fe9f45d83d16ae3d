//! Watches: the ring of past events, and the fan-out of new ones.
//!
//! Inputs are the events of each committed transaction, in revision order; outputs are [`Watch`]
//! streams. Invariants: a watch sees each event of its prefix once and in order, without a gap, or
//! it ends with an error that says so; a publisher never waits for a watcher. Each watcher has its
//! own bounded queue and is woken only for its own prefix, so a thousand idle watches cost nothing.
//! Which bytes an event carries is decided elsewhere (`memory`).

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use tokio::sync::{mpsc, watch as progress};

use crate::txn::{Entry, Revision};

/// Something that happened to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The transaction. Several events can share it; they arrive in the order of its writes.
    pub revision: Revision,
    /// The key.
    pub key: Arc<str>,
    /// What happened.
    pub change: Change,
}

/// What happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A value was written.
    Put {
        /// The new entry; the key is new if `entry.created == event.revision`.
        entry: Entry,
        /// What was there before.
        previous: Option<Entry>,
    },
    /// The key was removed.
    Delete {
        /// The final state: what the transaction gave as such, else the last value.
        last: Bytes,
        /// What was there before.
        previous: Entry,
    },
}

impl Change {
    fn bytes(&self) -> usize {
        match self {
            Change::Put { entry, .. } => entry.value.len(),
            Change::Delete { last, .. } => last.len(),
        }
    }
}

/// Why a watch cannot begin or go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// Events after the wanted revision are gone: list again and watch from there. A running watch
    /// ends so if its reader falls behind by more than the history.
    #[error("the history before revision {compacted} is gone")]
    Compacted {
        /// The oldest revision from which a watch can begin.
        compacted: Revision,
    },
    /// No such revision was given out yet: it comes from another store.
    #[error("revision {wanted} is in the future, the store is at {current}")]
    Future {
        /// The revision asked for.
        wanted: Revision,
        /// The store's.
        current: Revision,
    },
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

/// How much of the past is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Revisions.
    pub(crate) revisions: usize,
    /// Bytes of values, so that a few large objects cannot fill the memory.
    pub(crate) bytes: usize,
}

/// The ring of past events: all events with a revision in `compacted < revision <= current`.
#[derive(Debug)]
pub(crate) struct History {
    events: VecDeque<Event>,
    bytes: usize,
    compacted: Revision,
    current: Revision,
    limits: Limits,
}

impl History {
    /// An empty history of a store at `revision`.
    pub(crate) fn starting_at(revision: Revision, limits: Limits) -> History {
        let events = VecDeque::new();
        History { events, bytes: 0, compacted: revision, current: revision, limits }
    }

    /// Adds the events of the transaction `revision` and forgets what is too old.
    pub(crate) fn push(&mut self, revision: Revision, events: impl IntoIterator<Item = Event>) {
        self.current = revision;
        for event in events {
            self.bytes += event.change.bytes();
            self.events.push_back(event);
        }
        let oldest = revision.0.saturating_sub(self.limits.revisions as u64);
        while self.compacted.0 < oldest || self.bytes > self.limits.bytes {
            let Some(front) = self.events.front() else { break };
            self.forget_revision(front.revision);
        }
    }

    /// Transactions are forgotten whole: half of one would be a gap.
    fn forget_revision(&mut self, revision: Revision) {
        while let Some(event) = self.events.pop_front_if(|event| event.revision == revision) {
            self.bytes -= event.change.bytes();
        }
        self.compacted = revision;
    }

    /// The revision before the oldest event.
    pub(crate) fn compacted(&self) -> Revision {
        self.compacted
    }

    /// Events of `prefix` after a revision.
    pub(crate) fn after(
        &self,
        prefix: &str,
        after: Revision,
    ) -> Result<VecDeque<Event>, WatchError> {
        if after > self.current {
            return Err(WatchError::Future { wanted: after, current: self.current });
        }
        if after < self.compacted {
            return Err(WatchError::Compacted { compacted: self.compacted });
        }
        let from = self.events.partition_point(|event| event.revision <= after);
        Ok(self
            .events
            .range(from..)
            .filter(|event| event.key.starts_with(prefix))
            .cloned()
            .collect())
    }
}

/// The history and everybody who follows it.
#[derive(Debug)]
pub(crate) struct Hub {
    inner: Mutex<Inner>,
    progress: progress::Sender<Revision>,
}

#[derive(Debug)]
struct Inner {
    history: History,
    watchers: BTreeMap<u64, Watcher>,
    next_id: u64,
    closed: bool,
}

/// The sending half of one watch.
#[derive(Debug)]
struct Watcher {
    prefix: Box<str>,
    queue: mpsc::Sender<Event>,
    lagged: Arc<AtomicBool>,
}

impl Watcher {
    /// Queues the event if it is of this watch; `false` if the watch is over.
    fn offer(&self, event: &Event) -> bool {
        if !event.key.starts_with(&*self.prefix) {
            return true;
        }
        match self.queue.try_send(event.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.lagged.store(true, Ordering::Release);
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }
}

impl Hub {
    pub(crate) fn new(history: History) -> Hub {
        let (progress, _) = progress::channel(history.current);
        let watchers = BTreeMap::new();
        Hub { inner: Mutex::new(Inner { history, watchers, next_id: 0, closed: false }), progress }
    }

    /// No code panics while it holds the lock; if it did, the data would still be whole.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes durable events visible: runs `show` (which swaps the snapshot), then remembers and
    /// hands out the events, then moves the progress, all before any new watch can register. So
    /// whoever sees an event finds it in the snapshot, and whoever sees a revision as progress has
    /// all events up to it in its queue.
    pub(crate) fn publish(&self, revision: Revision, events: Vec<Event>, show: impl FnOnce()) {
        let mut inner = self.lock();
        show();
        for event in &events {
            inner.watchers.retain(|_, watcher| watcher.offer(event));
        }
        let mut events = events.into_iter().peekable();
        while let Some(revision) = events.peek().map(|event| event.revision) {
            let of_one = std::iter::from_fn(|| events.next_if(|event| event.revision == revision));
            inner.history.push(revision, of_one);
        }
        self.progress.send_replace(revision);
    }

    /// A watch of `prefix` that begins after a revision.
    pub(crate) fn watch(
        self: &Arc<Hub>,
        prefix: &str,
        after: Revision,
    ) -> Result<Watch, WatchError> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(WatchError::Closed);
        }
        let backlog = inner.history.after(prefix, after)?;
        // The channel allocates as it fills: room for the whole history costs nothing up front.
        let (queue, receiver) = mpsc::channel(inner.history.limits.revisions.max(1));
        let lagged = Arc::new(AtomicBool::new(false));
        let id = inner.next_id;
        inner.next_id += 1;
        inner.watchers.insert(id, Watcher { prefix: prefix.into(), queue, lagged: lagged.clone() });
        let progress = self.progress.subscribe();
        Ok(Watch { hub: self.clone(), id, backlog, receiver, lagged, progress, ended: false })
    }

    /// The newest published revision, as a channel.
    pub(crate) fn progress(&self) -> progress::Receiver<Revision> {
        self.progress.subscribe()
    }

    /// The revision before the oldest event that is kept.
    pub(crate) fn compacted(&self) -> Revision {
        self.lock().history.compacted()
    }

    /// Open watches.
    pub(crate) fn watchers(&self) -> usize {
        self.lock().watchers.len()
    }

    /// Ends all watches after what they have queued.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.watchers.clear();
    }
}

/// A stream of events of one prefix. It ends when the store is closed, and after one error.
#[derive(Debug)]
pub struct Watch {
    hub: Arc<Hub>,
    id: u64,
    backlog: VecDeque<Event>,
    receiver: mpsc::Receiver<Event>,
    lagged: Arc<AtomicBool>,
    progress: progress::Receiver<Revision>,
    ended: bool,
}

impl Watch {
    /// The next event; `None` when the store is closed. An error is the last item: the reader was
    /// slower than the history is long. Cancel-safe: no event is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Result<Event, WatchError>> {
        std::future::poll_fn(|context| self.poll_event(context)).await
    }

    /// If every event up to now has been taken from this watch, the revision that this covers: what
    /// a bookmark may say. `None` while events wait.
    pub fn caught_up(&self) -> Option<Revision> {
        // First the revision, then the queue: events are queued before progress moves.
        let revision = *self.progress.borrow();
        let idle = self.backlog.is_empty() && self.receiver.is_empty() && !self.ended;
        idle.then_some(revision)
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Event, WatchError>>> {
        if let Some(event) = self.backlog.pop_front() {
            return Poll::Ready(Some(Ok(event)));
        }
        match self.receiver.poll_recv(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(event)) => Poll::Ready(Some(Ok(event))),
            Poll::Ready(None) if self.lagged.load(Ordering::Acquire) && !self.ended => {
                self.ended = true;
                let compacted = self.hub.compacted();
                Poll::Ready(Some(Err(WatchError::Compacted { compacted })))
            }
            Poll::Ready(None) => {
                self.ended = true;
                Poll::Ready(None)
            }
        }
    }
}

impl Stream for Watch {
    type Item = Result<Event, WatchError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_event(context)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.hub.lock().watchers.remove(&self.id);
    }
}

#[cfg(test)]
mod tests;
