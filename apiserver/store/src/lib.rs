//! The store: one revision counter, compare-and-swap transactions over several keys, ordered watch.
//!
//! Semantics are etcd's. Inputs are transactions; outputs are revisions, snapshots and watches.
//!
//! - *A commit is durable.* [`Store::commit`] answers `Ok` after the transaction is in the log and
//!   the disk was synced; commits that wait at the same time share one sync.
//! - *Reads come from memory.* A [`Snapshot`] is O(1), consistent and blocks nobody.
//! - *A watch has no gaps and no duplicates*, or ends with an error that says so.
//! - *Two copies.* The append-only log with its checkpoints is the truth. A copy in sled is written
//!   behind it, rebuilt from it if damaged, and stands in if the truth is damaged.
//!
//! Deliberately not here: HTTP, JSON, and any meaning of keys and values.
//!
//! See `log`, `checkpoint`, `load` for the disk, `committer` for the order of things, `watch` for
//! the fan-out, `copies` and `backing` for what happens in the background.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch as progress};

mod backing;
mod checkpoint;
mod committer;
mod copies;
mod frame;
mod load;
mod log;
mod memory;
mod record;
mod report;
mod retention;
mod txn;
mod watch;

pub use checkpoint::CheckpointError;
pub use committer::CommitError;
pub use load::OpenError;
pub use log::LogError;
pub use memory::Snapshot;
pub use report::{Base, CutTail, Rebuilt, Report, SledState};
pub use txn::{Check, Entry, MAX_TXN_BYTES, Op, Revision, Txn};
pub use watch::{Change, Event, Watch, WatchError};

use committer::{Committer, Request};
use copies::{Copies, Pace};
use load::Loaded;
use memory::State;
use report::Notes;
use watch::{Hub, Limits};

/// Where the log, checkpoints and sled live, and how much history watchers may ask for.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder; made if absent.
    pub dir: PathBuf,
    /// Revisions of history kept for watches; older ones answer [`WatchError::Compacted`].
    pub history: usize,
}

/// Sizes and pauses that suit a small cluster. Tests shrink them.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Bytes of values that the history may hold, whatever [`Config::history`] says.
    pub history_bytes: usize,
    /// Bytes of log after which a checkpoint is written, unless the last one was larger. A start
    /// replays up to twice as much.
    pub checkpoint_bytes: u64,
    /// From opening the store to opening sled, which syncs all disks of the machine.
    pub sled_after: Duration,
    /// From a change to its flush in sled; changes in between are gathered.
    pub sled_every: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning {
            history_bytes: 8 << 20,
            checkpoint_bytes: 8 << 20,
            sled_after: Duration::from_secs(5),
            sled_every: Duration::from_secs(2),
        }
    }
}

/// A handle to an open store; clones are handles to the same one. The store closes when
/// [`Store::close`] is called, or some time after the last handle is dropped.
#[derive(Clone, Debug)]
pub struct Store {
    queue: mpsc::Sender<Request>,
    state: Arc<ArcSwap<State>>,
    hub: Arc<Hub>,
    notes: Notes,
    base: Base,
    cut: Option<CutTail>,
}

impl Store {
    /// Opens the store in a folder, which is made if it is absent.
    ///
    /// # Errors
    /// If the folder cannot be used or is in use, or if its files are so damaged that acknowledged
    /// writes would be lost; the message says what to do.
    pub async fn open(config: Config) -> Result<Store, OpenError> {
        Store::open_with(config, Tuning::default()).await
    }

    /// As [`Store::open`], with other sizes and pauses.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_with(config: Config, tuning: Tuning) -> Result<Store, OpenError> {
        let limits = Limits { revisions: config.history, bytes: tuning.history_bytes };
        let dir = config.dir.clone();
        let loaded = tokio::task::spawn_blocking(move || load::load(&dir, limits))
            .await
            .map_err(|_| OpenError::Interrupted)??;
        Store::start(&config, tuning, loaded)
    }

    fn start(config: &Config, tuning: Tuning, loaded: Loaded) -> Result<Store, OpenError> {
        let Loaded { state, history, log, base, cut, lock } = loaded;
        let state = Arc::new(state);
        let notes = Notes::default();
        let pace = Pace { open_after: tuning.sled_after, write_after: tuning.sled_every };
        let copies = Copies::start(&config.dir, state.clone(), pace, notes.clone())
            .map_err(OpenError::Thread)?;
        let state = Arc::new(ArcSwap::new(state));
        let hub = Arc::new(Hub::new(history));
        let (sender, queue) = mpsc::channel(committer::QUEUE);
        let committer = Committer {
            queue,
            log,
            state: state.clone(),
            hub: hub.clone(),
            copies,
            notes: notes.clone(),
            checkpoint_bytes: tuning.checkpoint_bytes,
            lock,
        };
        std::thread::Builder::new()
            .name("store-commit".into())
            .spawn(move || committer.run())
            .map_err(OpenError::Thread)?;
        Ok(Store { queue: sender, state, hub, notes, base, cut })
    }

    /// Commits a transaction and returns its revision once it is durable and visible. One that
    /// changes nothing returns the present revision.
    ///
    /// Not cancel-safe: once the future was polled, the transaction may commit though nobody waits.
    ///
    /// # Errors
    /// [`CommitError::Failed`] if a check does not hold; the others say what is wrong with the
    /// transaction or with the store.
    pub async fn commit(&self, txn: Txn) -> Result<Revision, CommitError> {
        let (answer, outcome) = oneshot::channel();
        let request = Request::Commit { txn, answer };
        self.queue.send(request).await.map_err(|_| CommitError::Closed)?;
        outcome.await.map_err(|_| CommitError::Closed)?
    }

    /// The state now. It contains every commit that was acknowledged before this call.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.state.load_full())
    }

    /// All events of keys that begin with `prefix`, with a revision greater than `after`: the past
    /// ones first, then new ones as they are committed. With `after` taken from a snapshot's
    /// revision, snapshot and watch fit together without a gap.
    ///
    /// # Errors
    /// [`WatchError::Compacted`] if the history does not go back that far, [`WatchError::Future`]
    /// if this store has not come that far.
    pub fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, WatchError> {
        self.hub.watch(prefix, after)
    }

    /// The newest revision as a channel, for bookmarks: when it shows a revision, every watch has
    /// all events up to it in its queue (see [`Watch::caught_up`]).
    pub fn progress(&self) -> progress::Receiver<Revision> {
        self.hub.progress()
    }

    /// What opening found, and how the store is doing. Counts all values: not for every request.
    pub fn report(&self) -> Report {
        let state = self.state.load_full();
        let facts = self.notes.lock().clone();
        Report {
            revision: state.revision,
            compacted: self.hub.compacted(),
            entries: state.map.len(),
            bytes: state.map.values().map(|entry| entry.value.len()).sum(),
            watches: self.hub.watchers(),
            base: self.base,
            cut: self.cut.clone(),
            checkpoint: facts.checkpoint,
            checkpoint_failed: facts.checkpoint_failed,
            sled: facts.sled,
            sled_rebuilt: facts.sled_rebuilt,
            read_only: facts.read_only,
        }
    }

    /// Commits what is queued, ends all watches, brings sled up to date if it is open, and releases
    /// the folder. Other handles answer [`CommitError::Closed`] from then on.
    pub async fn close(self) {
        let (done, closed) = oneshot::channel();
        if self.queue.send(Request::Close { done }).await.is_ok() {
            // An error means that the thread is gone, which is what we want.
            let _ = closed.await;
        }
    }
}

/// An error and its sources in one line.
fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
