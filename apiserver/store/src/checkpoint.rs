//! Checkpoints: the whole state at one revision in one checked file.
//!
//! Owns the files `checkpoint-REVISION`. Inputs are a state; output is the same state, entry by
//! entry. Layout: a header, frames of entries, and a last frame with the revision and the number of
//! entries, so that a file cut at a frame's border is noticed. Invariant: a file under its final
//! name was complete, synced and read back; a checkpoint alone is a whole store, so it is the
//! backup format, too.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::frame::{self, Next};
use crate::log::{numbered_files, sync_dir};
use crate::memory::{Map, State};
use crate::record::{encode_entry, take_entry, take_u64};
use crate::txn::{Entry, Revision};

const PREFIX: &str = "checkpoint-";
/// Written under this name first; left over only by a crash, then written over.
const UNFINISHED: &str = "checkpoint.unfinished";
const HEADER: &[u8; 8] = b"mctlchk1";
/// Payload after which a frame of entries is closed.
const CHUNK: usize = 256 << 10;
/// First byte of a frame of entries.
const ENTRIES: u8 = 1;
/// First byte of the last frame.
const END: u8 = 2;

/// A checkpoint that could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A step on the file failed.
    #[error("{step} the checkpoint {}", path.display())]
    File {
        /// What was tried.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not a whole checkpoint.
    #[error("the checkpoint {} is damaged at byte {at}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the first damaged frame begins.
        at: u64,
    },
    /// What was read back is not what was written.
    #[error("the checkpoint {} reads back differently", path.display())]
    Differs {
        /// The file.
        path: PathBuf,
    },
}

/// Writes the checkpoint of a state and reads it back. Returns its size in bytes.
pub(crate) fn write(dir: &Path, state: &State) -> Result<u64, CheckpointError> {
    let unfinished = dir.join(UNFINISHED);
    let fail = |step, path: &Path| {
        let path = path.to_owned();
        move |source| CheckpointError::File { step, path, source }
    };
    let written = write_file(&unfinished, state).map_err(fail("write", &unfinished));
    let verified = written.and_then(|len| verify(&unfinished, state).map(|()| len));
    if verified.is_err() {
        // On a full disk the unfinished file would only make things worse.
        let _ = fs::remove_file(&unfinished);
    }
    let len = verified?;
    let path = path(dir, state.revision);
    fs::rename(&unfinished, &path).map_err(fail("rename", &path))?;
    sync_dir(dir).map_err(fail("sync the folder of", &path))?;
    Ok(len)
}

fn write_file(path: &Path, state: &State) -> io::Result<u64> {
    let mut out = BufWriter::new(File::create(path)?);
    out.write_all(HEADER)?;
    let mut entries = state.map.iter().peekable();
    let mut frame = Vec::new();
    while entries.peek().is_some() {
        frame.clear();
        frame::append(&mut frame, |out| {
            out.push(ENTRIES);
            while out.len() < CHUNK
                && let Some((key, entry)) = entries.next()
            {
                encode_entry(key, entry, out);
            }
        });
        out.write_all(&frame)?;
    }
    frame.clear();
    frame::append(&mut frame, |out| {
        out.push(END);
        out.extend_from_slice(&state.revision.0.to_le_bytes());
        out.extend_from_slice(&(state.map.len() as u64).to_le_bytes());
    });
    out.write_all(&frame)?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

/// Reads a file back and compares it with the state entry by entry, without building a second map.
fn verify(path: &Path, state: &State) -> Result<(), CheckpointError> {
    let mut expected = state.map.iter();
    let mut same = true;
    let revision = read_file(path, |key, entry| {
        same &= expected.next() == Some((&key, &entry));
    })?;
    if same && expected.next().is_none() && revision == state.revision {
        Ok(())
    } else {
        Err(CheckpointError::Differs { path: path.to_owned() })
    }
}

/// The state of a checkpoint.
pub(crate) fn read(dir: &Path, revision: Revision) -> Result<State, CheckpointError> {
    let path = path(dir, revision);
    let mut map = Map::new();
    let found = read_file(&path, |key, entry| {
        map.insert(key, entry);
    })?;
    if found != revision {
        return Err(CheckpointError::Differs { path });
    }
    Ok(State { revision, map })
}

/// Hands each entry to `each` and returns the revision.
fn read_file(
    path: &Path,
    mut each: impl FnMut(Arc<str>, Entry),
) -> Result<Revision, CheckpointError> {
    let fail = |source| CheckpointError::File { step: "read", path: path.to_owned(), source };
    let mut reader = BufReader::new(File::open(path).map_err(fail)?);
    let mut at = 0;
    let mut header = Vec::new();
    reader.by_ref().take(HEADER.len() as u64).read_to_end(&mut header).map_err(fail)?;
    let damaged = |at| CheckpointError::Damaged { path: path.to_owned(), at };
    if header != HEADER {
        return Err(damaged(at));
    }
    at += HEADER.len() as u64;
    let mut count = 0;
    loop {
        let Next::Frame(payload) = frame::read(&mut reader).map_err(fail)? else {
            return Err(damaged(at));
        };
        match payload.split_first() {
            Some((&ENTRIES, mut entries)) => {
                while !entries.is_empty() {
                    let (key, entry) = take_entry(&mut entries).ok_or_else(|| damaged(at))?;
                    each(key, entry);
                    count += 1;
                }
            }
            Some((&END, mut end)) => {
                let numbers = take_u64(&mut end).zip(take_u64(&mut end));
                return match numbers {
                    Some((revision, total)) if total == count => Ok(Revision(revision)),
                    _ => Err(damaged(at)),
                };
            }
            _ => return Err(damaged(at)),
        }
        at += frame::size(&payload);
    }
}

/// The name of the checkpoint of a revision.
pub(crate) fn path(dir: &Path, revision: Revision) -> PathBuf {
    dir.join(format!("{PREFIX}{:020}", revision.0))
}

/// The revisions of all checkpoints of the folder, ascending.
pub(crate) fn checkpoints(dir: &Path) -> io::Result<Vec<Revision>> {
    numbered_files(dir, PREFIX)
}

#[cfg(test)]
mod tests;
