//! Opening: from the files of the folder to the state, its history and the log's writing end.
//!
//! A base (nothing, a checkpoint, or the copy in sled) plus all records after it is the state. The
//! oldest base that works is taken, because it gives watchers the longest history; a damaged one
//! only means that the next is tried. Invariants: records are applied without a gap, and damage
//! matters exactly if it makes one; the state is never older than the newest checkpoint; nothing is
//! cut off but the torn end of the last segment, and that only once a base was accepted. If no base
//! works the store is not opened: guessing would lose acknowledged writes in silence.

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::backing;
use crate::checkpoint::{self, CheckpointError};
use crate::log::{self, Log, LogError, Segment};
use crate::memory::{self, State};
use crate::record::Record;
use crate::report::{Base, CutTail};
use crate::txn::Revision;
use crate::watch::{History, Limits};

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be used.
    #[error("{step} the store's folder {}", dir.display())]
    Folder {
        /// What was tried.
        step: &'static str,
        /// The folder.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("the store in {} is in use by another process", dir.display())]
    InUse {
        /// The folder.
        dir: PathBuf,
    },
    /// The log could not be read or made ready.
    #[error("the log of the store cannot be used")]
    Log(#[from] LogError),
    /// A checkpoint that is needed is not usable.
    #[error(
        "a checkpoint that is needed is not usable; \
         restore the store's folder, or this one file, from a backup"
    )]
    Checkpoint(#[from] CheckpointError),
    /// A record within the log is damaged: acknowledged writes follow it.
    #[error(
        "the log segment {} is damaged at byte {at}, with intact records behind it: \
         restore the store's folder from a backup, or go back to revision {intact_through} by moving \
         all segments after this one away and cutting this one with `truncate -s {at}`",
        path.display()
    )]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Offset of the damaged frame.
        at: u64,
        /// The last revision before it.
        intact_through: Revision,
    },
    /// Records are missing.
    #[error(
        "the log in {} lacks the revisions from {expected} on, it goes on with {found}: \
         restore the missing segment or the store's folder from a backup",
        dir.display()
    )]
    Gap {
        /// The folder.
        dir: PathBuf,
        /// The first missing revision.
        expected: Revision,
        /// The next one that is there.
        found: Revision,
    },
    /// The log is older than a checkpoint that was made from it.
    #[error(
        "the log in {} ends at revision {end}, before the checkpoint of {checkpoint}: \
         restore the missing segments or the store's folder from a backup",
        dir.display()
    )]
    EndsEarly {
        /// The folder.
        dir: PathBuf,
        /// Where the log ends.
        end: Revision,
        /// The newest checkpoint.
        checkpoint: Revision,
    },
    /// The committer's or the copies' thread could not be started.
    #[error("start a thread of the store")]
    Thread(#[source] io::Error),
    /// The thread that loads the store was interrupted.
    #[error("loading the store was interrupted")]
    Interrupted,
}

/// An opened folder.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) state: State,
    pub(crate) history: History,
    pub(crate) log: Log,
    pub(crate) base: Base,
    pub(crate) cut: Option<CutTail>,
    /// Held as long as the store is open.
    pub(crate) lock: File,
}

/// What the folder holds, by name.
#[derive(Debug)]
struct Files {
    dir: PathBuf,
    checkpoints: Vec<Revision>,
    segments: Vec<Revision>,
}

/// Makes the folder if need be, takes its lock and loads what is there.
pub(crate) fn load(dir: &Path, limits: Limits) -> Result<Loaded, OpenError> {
    let fail = |step| move |source| OpenError::Folder { step, dir: dir.to_owned(), source };
    // Secrets are among the values.
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(fail("create"))?;
    let lock = File::create(dir.join("lock")).map_err(fail("write to"))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => return Err(fail("lock")(source)),
    }
    let files = Files {
        dir: dir.to_owned(),
        checkpoints: checkpoint::checkpoints(dir).map_err(fail("list"))?,
        segments: log::segments(dir).map_err(fail("list"))?,
    };
    let replayed = replay_from_best_base(&files, limits)?;
    let cut = cut_torn_tail(replayed.last.as_ref())?;
    if replayed.base == Base::Sled {
        // The truth is whole again only with a checkpoint in place of what is damaged.
        checkpoint::write(dir, &replayed.state)?;
    }
    let log = writing_end(dir, replayed.last, replayed.state.revision)?;
    let Replayed { state, history, base, .. } = replayed;
    Ok(Loaded { state, history, log, base, cut, lock })
}

/// The bases to try, best first.
fn bases(checkpoints: &[Revision], segments: &[Revision]) -> Vec<Base> {
    let mut bases = Vec::new();
    let from_the_beginning = segments.first() == Some(&Revision(1));
    if from_the_beginning || (checkpoints.is_empty() && segments.is_empty()) {
        bases.push(Base::Nothing);
    }
    bases.extend(checkpoints.iter().map(|&revision| Base::Checkpoint(revision)));
    if !(checkpoints.is_empty() && segments.is_empty()) {
        bases.push(Base::Sled);
    }
    bases
}

/// A base with all records after it applied.
struct Replayed {
    state: State,
    history: History,
    base: Base,
    /// The last segment as it was read.
    last: Option<Segment>,
}

fn replay_from_best_base(files: &Files, limits: Limits) -> Result<Replayed, OpenError> {
    let mut first_error = None;
    for base in bases(&files.checkpoints, &files.segments) {
        match replay_from(files, base, limits) {
            Ok(Some(replayed)) => return Ok(replayed),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(?base, error = &error as &dyn std::error::Error, "cannot start so");
                first_error.get_or_insert(error);
            }
        }
    }
    Err(first_error.expect("each folder has at least one base, and Ok(None) is only sled's"))
}

/// `None` if the base has nothing to offer.
fn replay_from(files: &Files, base: Base, limits: Limits) -> Result<Option<Replayed>, OpenError> {
    let state = match base {
        Base::Nothing => State::default(),
        Base::Checkpoint(revision) => checkpoint::read(&files.dir, revision)?,
        Base::Sled => match backing::read_all(&files.dir) {
            Some(state) => state,
            None => return Ok(None),
        },
    };
    let history = History::starting_at(state.revision, limits);
    let mut replayed = Replayed { state, history, base, last: None };
    for (index, &first) in files.segments.iter().enumerate() {
        let next = files.segments.get(index + 1);
        if next.is_some_and(|&next| next <= replayed.state.revision.next()) {
            continue;
        }
        let mut segment = Segment::open(log::segment_path(&files.dir, first))?;
        let before = replayed.last.as_ref();
        let bad = before.and_then(|before| Some((&*before.path, before.first_bad()?)));
        expect_revision(files, &replayed.state, first, bad)?;
        while let Some(group) = segment.next_group() {
            for record in &group {
                replay_record(files, &mut replayed, record, &segment)?;
            }
        }
        replayed.last = Some(segment);
    }
    match files.checkpoints.last() {
        Some(&checkpoint) if checkpoint > replayed.state.revision => Err(OpenError::EndsEarly {
            dir: files.dir.clone(),
            end: replayed.state.revision,
            checkpoint,
        }),
        _ => Ok(Some(replayed)),
    }
}

fn replay_record(
    files: &Files,
    replayed: &mut Replayed,
    record: &Record,
    segment: &Segment,
) -> Result<(), OpenError> {
    let state = &mut replayed.state;
    if record.revision <= state.revision {
        return Ok(());
    }
    let bad = segment.damage.map(|at| (&*segment.path, at));
    expect_revision(files, state, record.revision, bad)?;
    let events = memory::apply(&mut state.map, record);
    state.revision = record.revision;
    replayed.history.push(record.revision, events);
    Ok(())
}

/// A revision may follow the state only if none lies in between. If some do, the bad bytes before
/// this revision, if there are any, are the better explanation than a missing segment.
fn expect_revision(
    files: &Files,
    state: &State,
    found: Revision,
    bad: Option<(&Path, u64)>,
) -> Result<(), OpenError> {
    let expected = state.revision.next();
    if found <= expected {
        return Ok(());
    }
    Err(match bad {
        Some((path, at)) => {
            let (path, intact_through) = (path.to_owned(), state.revision);
            OpenError::Damaged { path, at, intact_through }
        }
        None => OpenError::Gap { dir: files.dir.clone(), expected, found },
    })
}

fn cut_torn_tail(last: Option<&Segment>) -> Result<Option<CutTail>, OpenError> {
    let Some(segment) = last.filter(|segment| segment.is_torn()) else {
        return Ok(None);
    };
    log::cut(segment)?;
    let bytes = segment.len - segment.intact;
    tracing::warn!(
        path = %segment.path.display(), at = segment.intact, bytes,
        "cut a write off the log that a crash had interrupted; it was never acknowledged"
    );
    Ok(Some(CutTail { path: segment.path.clone(), at: segment.intact, bytes }))
}

/// Where the log goes on: in its last segment, unless there is none, it is damaged, or the base is
/// newer than its records (a restored checkpoint): then a gap must not arise within it.
fn writing_end(dir: &Path, last: Option<Segment>, revision: Revision) -> Result<Log, OpenError> {
    let Some(segment) = last.filter(|segment| segment.intact > 0 && segment.damage.is_none())
    else {
        return Ok(Log::starting_new(dir));
    };
    match segment.last {
        Some(last) if last < revision => Ok(Log::starting_new(dir)),
        _ => Ok(Log::resume(dir, segment.path, segment.intact)?),
    }
}

#[cfg(test)]
mod tests;
