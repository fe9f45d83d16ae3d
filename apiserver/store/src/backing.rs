//! The copy in sled: the whole state again, in the database that the store is named after.
//!
//! Log and checkpoints are the truth; this copy is written behind them, and takes their place only
//! if they are damaged ([`read_all`]). Inputs are states and the keys that changed between them.
//! Invariants: each write is one atomic batch that carries its revision, so the copy is always the
//! state of some revision; every call into sled is guarded, because a damaged sled panics; a sled
//! that failed once is never called again, not even to be dropped, since dropping would flush.
//! When to write is decided in `copies`.

use std::fs;
use std::io;
use std::iter::Peekable;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use imbl::ordmap::Iter;
use imbl::shared_ptr::DefaultSharedPtr;

use crate::memory::{Map, State};
use crate::record::{encode_entry, take_entry, take_u32};
use crate::report::Rebuilt;
use crate::txn::{Entry, Revision};

/// Entries per leaf. Writing one key costs a whole compressed leaf, so it is small: objects are
/// about 2 KB. Part of the format; another number is refused by sled.
const FANOUT: usize = 16;
type Db = sled::Db<FANOUT>;

/// The copy is written and scanned at start, not read in between: it needs next to no cache.
const CACHE_BYTES: usize = 4 << 20;
/// Before the key of an entry, so that no key can be that of the revision.
const ENTRY: u8 = b'k';
/// The key of the copy's revision.
const REVISION: &[u8] = b"revision";
/// How long sled's folder may stay locked after a close.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// Bytes per batch when the copy is made anew.
const BATCH_BYTES: usize = 4 << 20;

/// Why the copy cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SledError {
    #[error("{step} sled")]
    Failed { step: &'static str, source: io::Error },
    #[error("sled panicked when asked to {step}: {message}")]
    Panicked { step: &'static str, message: String },
    #[error("an earlier attempt to open sled never came to its end")]
    AbandonedOpening,
    #[error("sled holds no revision")]
    NoRevision,
    #[error("sled's entry {key:?} is damaged")]
    DamagedEntry { key: String },
    #[error("sled is at revision {copy}, the log ends at {log}: the log has lost its end")]
    Ahead { copy: Revision, log: Revision },
    #[error("{count} entries, {first} first, differ from the log's although sled claims them")]
    Differs { count: usize, first: Arc<str> },
}

/// An open copy that equals the state of its revision.
pub(crate) struct Sled {
    /// Boxed: it is 20 KB.
    db: Box<Db>,
}

impl Sled {
    /// Opens the copy in `dir`, checks it against `state` and brings it up to it. A copy that is
    /// not sound is set aside and made anew, which is told.
    pub(crate) fn open(dir: &Path, state: &State) -> Result<(Sled, Option<Rebuilt>), SledError> {
        let existed = folder(dir).exists();
        match open_checked(dir, state, existed) {
            Ok(sled) => Ok((sled, None)),
            Err(error) if existed => {
                let why = crate::error_chain(&error);
                let aside = set_aside(dir)?;
                let sled = open_checked(dir, state, false)?;
                Ok((sled, Some(Rebuilt { why, aside: Some(aside) })))
            }
            Err(error) => Err(error),
        }
    }

    /// Writes the present values of `keys` and the revision, atomically, and waits for the disk.
    pub(crate) fn write<'a>(
        self,
        state: &State,
        keys: impl IntoIterator<Item = &'a Arc<str>>,
    ) -> Result<Sled, SledError> {
        let mut batch = sled::Batch::default();
        for key in keys {
            match state.map.get(key) {
                Some(entry) => batch.insert(sled_key(key), sled_value(key, entry)),
                None => batch.remove(sled_key(key)),
            }
        }
        self.apply(batch, Some(state.revision))
    }

    /// Ends the use of this copy in good order.
    pub(crate) fn close(self) {
        if let Err(error) = guarded("close", || {
            drop(self.db);
            Ok(())
        }) {
            tracing::warn!(error = &error as &dyn std::error::Error, "cannot close sled");
        }
    }

    fn apply(self, mut batch: sled::Batch, revision: Option<Revision>) -> Result<Sled, SledError> {
        if let Some(revision) = revision {
            batch.insert(REVISION, revision.0.to_le_bytes());
        }
        let (sled, ()) = self.call("write to", |db| {
            db.apply_batch(batch)?;
            db.flush().map(drop)
        })?;
        Ok(sled)
    }

    /// Calls sled and gets it back, unless it failed: then it is leaked. Dropping it would flush,
    /// and a second panic in there, while the first unwinds, would abort the process.
    fn call<R>(
        self,
        step: &'static str,
        call: impl FnOnce(&Db) -> io::Result<R>,
    ) -> Result<(Sled, R), SledError> {
        let sled = ManuallyDrop::new(self);
        let result = guarded(step, || call(&sled.db))?;
        Ok((ManuallyDrop::into_inner(sled), result))
    }

    /// Writes all of `state`; the revision comes last, so that half a copy has none.
    fn fill(mut self, state: &State) -> Result<Sled, SledError> {
        let mut entries = state.map.iter().peekable();
        while entries.peek().is_some() {
            let mut batch = sled::Batch::default();
            let mut bytes = 0;
            while bytes < BATCH_BYTES
                && let Some((key, entry)) = entries.next()
            {
                bytes += key.len() + entry.value.len();
                batch.insert(sled_key(key), sled_value(key, entry));
            }
            self = self.apply(batch, None)?;
        }
        self.apply(sled::Batch::default(), Some(state.revision))
    }
}

/// The state that the copy holds, for the case that log and checkpoints are damaged. `None` if
/// there is no sound copy.
pub(crate) fn read_all(dir: &Path) -> Option<State> {
    if !folder(dir).exists() {
        return None;
    }
    let mut map = Map::new();
    let read = open(dir).and_then(|sled| {
        let (sled, revision) = scan(sled, |key, entry| drop(map.insert(key, entry)))?;
        sled.close();
        revision.ok_or(SledError::NoRevision)
    });
    match read {
        Ok(revision) => Some(State { revision, map }),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "no help from sled");
            None
        }
    }
}

fn open_checked(dir: &Path, state: &State, existed: bool) -> Result<Sled, SledError> {
    let sled = open(dir)?;
    if !existed {
        return sled.fill(state);
    }
    let mut comparison = Comparison::new(state);
    let (sled, revision) = scan(sled, |key, entry| comparison.stored(key, &entry))?;
    let keys = comparison.finish(revision.ok_or(SledError::NoRevision)?)?;
    sled.write(state, &keys)
}

/// Opens sled. The mark beside the folder outlives an abort in one of sled's own threads, which no
/// `catch_unwind` catches: the next start then does not walk into the same trap.
fn open(dir: &Path) -> Result<Sled, SledError> {
    let mark = dir.join("sled.opening");
    if mark.exists() {
        return Err(SledError::AbandonedOpening);
    }
    let failed = |step| move |source| SledError::Failed { step, source };
    fs::write(&mark, b"").map_err(failed("mark the opening of"))?;
    let opened = guarded("open", || open_unlocked(dir));
    fs::remove_file(&mark).map_err(failed("unmark the opening of"))?;
    Ok(Sled { db: Box::new(opened?) })
}

/// Opens sled once its folder is not locked. The store's own lock keeps others out, but while this
/// process forks a child elsewhere, that child holds the lock of a sled closed just now.
fn open_unlocked(dir: &Path) -> io::Result<Db> {
    let config = sled::Config::new()
        .path(folder(dir))
        .cache_capacity_bytes(CACHE_BYTES)
        // sled's own flusher wakes up five times a second, and aborts the process on an error.
        .flush_every_ms(None);
    let start = Instant::now();
    loop {
        match config.open() {
            Err(error)
                if error.kind() == io::ErrorKind::WouldBlock && start.elapsed() < LOCK_WAIT =>
            {
                thread::sleep(Duration::from_millis(10));
            }
            opened => return opened,
        }
    }
}

/// Hands each entry to `each`, in order of keys, and returns the revision.
fn scan(
    sled: Sled,
    mut each: impl FnMut(Arc<str>, Entry),
) -> Result<(Sled, Option<Revision>), SledError> {
    let (sled, found) = sled.call("scan", |db| scan_db(db, &mut each))?;
    Ok((sled, found?))
}

/// The outer result is sled's, the inner one is about what it holds.
fn scan_db(
    db: &Db,
    each: &mut impl FnMut(Arc<str>, Entry),
) -> io::Result<Result<Option<Revision>, SledError>> {
    let mut revision = None;
    for stored in db.iter() {
        let (key, value) = stored?;
        if &*key == REVISION {
            revision = <[u8; 8]>::try_from(&*value).ok().map(u64::from_le_bytes).map(Revision);
            continue;
        }
        match entry_of(&key, &value) {
            Some((key, entry)) => each(key, entry),
            None => {
                let key = String::from_utf8_lossy(&key).into_owned();
                return Ok(Err(SledError::DamagedEntry { key }));
            }
        }
    }
    Ok(Ok(revision))
}

/// Compares a scan with a state; both come in the order of keys.
struct Comparison<'a> {
    expected: Peekable<Iter<'a, Arc<str>, Entry, DefaultSharedPtr>>,
    state: &'a State,
    /// Keys whose values in the copy are not the state's.
    different: Vec<Arc<str>>,
}

impl<'a> Comparison<'a> {
    fn new(state: &'a State) -> Self {
        Comparison { expected: state.map.iter().peekable(), state, different: Vec::new() }
    }

    fn stored(&mut self, key: Arc<str>, entry: &Entry) {
        while let Some((missing, _)) = self.expected.next_if(|(expected, _)| **expected < key) {
            self.different.push(missing.clone());
        }
        match self.expected.next_if(|(expected, _)| **expected == key) {
            Some((_, expected)) if expected == entry => {}
            _ => self.different.push(key),
        }
    }

    /// The keys to write, if the copy is the state of its revision: then what differs was changed
    /// later. A key that is only in the copy was removed later.
    fn finish(mut self, copy: Revision) -> Result<Vec<Arc<str>>, SledError> {
        self.different.extend(self.expected.map(|(missing, _)| missing.clone()));
        if copy > self.state.revision {
            return Err(SledError::Ahead { copy, log: self.state.revision });
        }
        let mut unexplained = self
            .different
            .iter()
            .filter(|key| self.state.map.get(&***key).is_some_and(|entry| entry.modified <= copy));
        match unexplained.next() {
            None => Ok(self.different),
            Some(first) => {
                Err(SledError::Differs { first: first.clone(), count: 1 + unexplained.count() })
            }
        }
    }
}

/// Moves a damaged copy aside for whoever wants to look at it; one such folder is kept.
fn set_aside(dir: &Path) -> Result<PathBuf, SledError> {
    let aside = dir.join("sled.damaged");
    let failed = |step| move |source| SledError::Failed { step, source };
    for (step, removed) in [
        ("remove the mark of", fs::remove_file(dir.join("sled.opening"))),
        ("remove the older damaged", fs::remove_dir_all(&aside)),
    ] {
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(SledError::Failed { step, source: error });
            }
            _ => {}
        }
    }
    fs::rename(folder(dir), &aside).map_err(failed("set aside"))?;
    Ok(aside)
}

/// Runs a step of sled and turns a panic into an error.
fn guarded<R>(step: &'static str, run: impl FnOnce() -> io::Result<R>) -> Result<R, SledError> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result.map_err(|source| SledError::Failed { step, source }),
        Err(panic) => {
            let message = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_default();
            Err(SledError::Panicked { step, message })
        }
    }
}

fn folder(dir: &Path) -> PathBuf {
    dir.join("sled")
}

fn sled_key(key: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + key.len());
    bytes.push(ENTRY);
    bytes.extend_from_slice(key.as_bytes());
    bytes
}

/// An entry with its CRC-32: sled checks whole leaves, this checks that it returned the right one.
fn sled_value(key: &str, entry: &Entry) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    encode_entry(key, entry, &mut bytes);
    let crc = crc32fast::hash(&bytes[4..]).to_le_bytes();
    bytes[..4].copy_from_slice(&crc);
    bytes
}

fn entry_of(key: &[u8], value: &[u8]) -> Option<(Arc<str>, Entry)> {
    let mut bytes = value;
    let crc = take_u32(&mut bytes)?;
    if crc32fast::hash(bytes) != crc {
        return None;
    }
    let (name, entry) = take_entry(&mut bytes)?;
    (bytes.is_empty() && key == sled_key(&name)).then_some((name, entry))
}

#[cfg(test)]
mod tests;
