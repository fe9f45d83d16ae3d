//! The report: what opening found and how the store is doing, as values for people and tests.
//!
//! Inputs are the facts that the threads note down; output is a [`Report`]. Nothing is decided here.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::log::LogError;
use crate::txn::Revision;

/// What the state was loaded from, before the records of the log were applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// Nothing: the log begins with the first revision, or the store is new.
    Nothing,
    /// The checkpoint of a revision.
    Checkpoint(Revision),
    /// The copy in sled, because log and checkpoints alone were not whole.
    Sled,
}

/// A torn last record that was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutTail {
    /// The segment.
    pub path: PathBuf,
    /// Where it ends now.
    pub at: u64,
    /// How much was cut.
    pub bytes: u64,
}

/// How the copy in sled is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SledState {
    /// Not opened yet; it is opened in the background.
    #[default]
    Waiting,
    /// Open, and flushed up to this revision.
    Flushed(Revision),
    /// Given up until the next start: log and checkpoints carry on alone.
    Stopped {
        /// Why.
        why: String,
    },
}

/// A copy in sled that was not usable and was made anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// What was wrong.
    pub why: String,
    /// Where the damaged folder is now, if it could be kept.
    pub aside: Option<PathBuf>,
}

/// What opening found, and sizes.
#[derive(Clone, Debug)]
pub struct Report {
    /// The newest revision.
    pub revision: Revision,
    /// The oldest revision from which a watch can begin.
    pub compacted: Revision,
    /// Keys.
    pub entries: usize,
    /// Bytes of all values.
    pub bytes: usize,
    /// Open watches.
    pub watches: usize,
    /// What the state was loaded from.
    pub base: Base,
    /// The torn tail that opening cut off, if any.
    pub cut: Option<CutTail>,
    /// The newest checkpoint written since opening.
    pub checkpoint: Option<Revision>,
    /// Why the last checkpoint failed, if it did; the log keeps growing until one succeeds.
    pub checkpoint_failed: Option<String>,
    /// The copy in sled.
    pub sled: SledState,
    /// Whether sled's copy was rebuilt since opening, and why.
    pub sled_rebuilt: Option<Rebuilt>,
    /// Why the store takes no more writes, if so.
    pub read_only: Option<Arc<LogError>>,
}

/// The facts that change while the store runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) checkpoint: Option<Revision>,
    pub(crate) checkpoint_failed: Option<String>,
    pub(crate) sled: SledState,
    pub(crate) sled_rebuilt: Option<Rebuilt>,
    pub(crate) read_only: Option<Arc<LogError>>,
}

/// The facts, shared by the threads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes(Arc<Mutex<Facts>>);

impl Notes {
    /// The facts, to read or to change. Held for single assignments only.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
