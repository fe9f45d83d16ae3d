//! The committer: the one thread that writes.
//!
//! Inputs are transactions with a place to answer; each drained group of them becomes one append to
//! the log and one sync, then the new state and its events are published, then all are answered.
//! Invariants: nothing is visible or answered before it is durable, not even a failed check, which
//! may have failed against a write of the same group; after a failed append the store is read-only.
//! [`plan`] decides, [`Committer::run`] carries out. Without work the thread sleeps.

use std::fs::File;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};

use crate::copies::Copies;
use crate::log::{Log, LogError};
use crate::memory::{self, State};
use crate::record::Record;
use crate::report::Notes;
use crate::txn::{self, Check, Refusal, Revision, Txn};
use crate::watch::{Event, Hub};

/// Transactions per group at most.
const GROUP: usize = 512;
/// Bytes after which a group takes no further transaction.
const GROUP_BYTES: usize = 4 << 20;
/// Transactions that wait; beyond it, callers do.
pub(crate) const QUEUE: usize = 4096;

/// Why a transaction was not committed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// A check does not hold; nothing was written.
    #[error("{}: expected {}, but it {}", check.key(), expected(check), found(*actual))]
    Failed {
        /// The check.
        check: Check,
        /// Its place in [`Txn::checks`].
        index: usize,
        /// When the key was last written; `None` if it does not exist.
        actual: Option<Revision>,
    },
    /// A stamp lies outside its value; nothing was written.
    #[error("the stamp of {key} at byte {offset} lies outside its {len} bytes")]
    BadStamp {
        /// The key.
        key: String,
        /// The wanted offset.
        offset: usize,
        /// The size of the value.
        len: usize,
    },
    /// Too many bytes for one transaction; nothing was written.
    #[error("a transaction of {bytes} bytes is larger than {}", txn::MAX_TXN_BYTES)]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The log failed and the store takes no more writes until it is opened anew. If this very
    /// transaction met the failure, it is taken back as far as the disk lets us; only a start
    /// tells for sure.
    #[error("the store is read-only")]
    ReadOnly {
        /// The failure.
        source: Arc<LogError>,
    },
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

fn expected(check: &Check) -> String {
    match check {
        Check::Absent(_) => "that it does not exist".to_owned(),
        Check::Unchanged(_, revision) => format!("no change since revision {revision}"),
        Check::Present(_) => "that it exists".to_owned(),
    }
}

fn found(actual: Option<Revision>) -> String {
    match actual {
        Some(revision) => format!("was last written at {revision}"),
        None => "does not exist".to_owned(),
    }
}

impl From<Refusal> for CommitError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Failed { check, index, actual } => Self::Failed { check, index, actual },
            Refusal::BadStamp { key, offset, len } => Self::BadStamp { key, offset, len },
            Refusal::TooLarge { bytes } => Self::TooLarge { bytes },
        }
    }
}

/// Where the outcome of one transaction is told.
type Answer = oneshot::Sender<Result<Revision, CommitError>>;

/// Something for the committer to do.
#[derive(Debug)]
pub(crate) enum Request {
    Commit { txn: Txn, answer: Answer },
    Close { done: oneshot::Sender<()> },
}

/// What a group of transactions comes to, if it gets durable.
#[derive(Debug)]
pub(crate) struct Group {
    /// For the log; none if nothing changed.
    pub(crate) records: Vec<Record>,
    /// For the watchers, in order.
    pub(crate) events: Vec<Event>,
    /// One per transaction.
    pub(crate) outcomes: Vec<Result<Revision, Refusal>>,
    /// The state after it.
    pub(crate) next: State,
}

/// Evaluates transactions one after the other, each against the outcome of those before it. One
/// that changes nothing (no writes, or only removals of what is not there) takes no revision, as
/// in etcd.
pub(crate) fn plan<'a>(state: &State, txns: impl IntoIterator<Item = &'a Txn>) -> Group {
    let (records, events, outcomes) = (Vec::new(), Vec::new(), Vec::new());
    let mut group = Group { records, events, outcomes, next: state.clone() };
    for txn in txns {
        let revision = group.next.revision.next();
        let outcome = txn::evaluate(&group.next.map, txn, revision).map(|record| {
            let events = memory::apply(&mut group.next.map, &record);
            if !events.is_empty() {
                group.next.revision = revision;
                group.records.push(record);
                group.events.extend(events);
            }
            group.next.revision
        });
        group.outcomes.push(outcome);
    }
    group
}

/// The thread's belongings.
pub(crate) struct Committer {
    pub(crate) queue: mpsc::Receiver<Request>,
    pub(crate) log: Log,
    pub(crate) state: Arc<ArcSwap<State>>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) copies: Copies,
    pub(crate) notes: Notes,
    /// Log bytes after which a checkpoint is due, unless the state is larger.
    pub(crate) checkpoint_bytes: u64,
    /// The folder's lock, released when the thread ends.
    pub(crate) lock: File,
}

impl Committer {
    /// Works until the store is closed or every handle to it is gone.
    pub(crate) fn run(mut self) {
        let mut waiting = Vec::with_capacity(GROUP);
        let mut closing = None;
        while closing.is_none() {
            let Some(request) = self.queue.blocking_recv() else { break };
            closing = self.drain(request, &mut waiting);
            self.commit(&mut waiting);
        }
        self.queue.close();
        while let Some(request) = self.queue.blocking_recv() {
            match request {
                // Whoever waits may have gone away.
                Request::Commit { answer, .. } => drop(answer.send(Err(CommitError::Closed))),
                Request::Close { done } => drop(done.send(())),
            }
        }
        self.hub.close();
        self.copies.stop();
        // Closing the file is not enough: a child that is being forked elsewhere shares it.
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "cannot unlock the store's folder");
        }
        if let Some(done) = closing {
            let _ = done.send(());
        }
    }

    /// Moves what waits in the queue into the group, up to its limits or a request to close.
    fn drain(
        &mut self,
        first: Request,
        waiting: &mut Vec<(Txn, Answer)>,
    ) -> Option<oneshot::Sender<()>> {
        let mut request = first;
        let mut bytes = 0;
        loop {
            match request {
                Request::Close { done } => return Some(done),
                Request::Commit { txn, answer } => {
                    bytes += txn.bytes();
                    waiting.push((txn, answer));
                }
            }
            if waiting.len() >= GROUP || bytes >= GROUP_BYTES {
                return None;
            }
            request = self.queue.try_recv().ok()?;
        }
    }

    fn commit(&mut self, waiting: &mut Vec<(Txn, Answer)>) {
        if waiting.is_empty() {
            return;
        }
        let state = self.state.load_full();
        let group = plan(&state, waiting.iter().map(|(txn, _)| txn));
        let answers = waiting.drain(..).map(|(_, answer)| answer);
        match self.make_durable(&group.records) {
            Ok(()) => {
                let outcomes = self.publish(group);
                for (answer, outcome) in answers.zip(outcomes) {
                    let _ = answer.send(outcome.map_err(CommitError::from));
                }
            }
            Err(source) => {
                for answer in answers {
                    let _ = answer.send(Err(CommitError::ReadOnly { source: source.clone() }));
                }
            }
        }
    }

    fn make_durable(&mut self, records: &[Record]) -> Result<(), Arc<LogError>> {
        if let Some(failure) = &self.notes.lock().read_only {
            return Err(failure.clone());
        }
        if records.is_empty() {
            return Ok(());
        }
        self.log.append(records).map_err(|failure| {
            let failure = Arc::new(failure);
            tracing::error!(
                error = &*failure as &dyn std::error::Error,
                "the log failed: the store is read-only until it is opened anew"
            );
            self.notes.lock().read_only = Some(failure.clone());
            failure
        })
    }

    fn publish(&mut self, group: Group) -> Vec<Result<Revision, Refusal>> {
        if group.events.is_empty() {
            return group.outcomes;
        }
        let next = Arc::new(group.next);
        let due = self.log.active_len() >= self.checkpoint_bytes.max(self.copies.checkpoint_len());
        if due {
            self.log.rotate();
        }
        self.copies.note(&next, group.events.iter().map(|event| event.key.clone()), due);
        self.hub.publish(next.revision, group.events, || self.state.store(next.clone()));
        group.outcomes
    }
}

#[cfg(test)]
mod tests;
