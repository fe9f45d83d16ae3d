//! The log: append-only segments, one frame per commit group, made durable before anyone is told.
//!
//! Owns the files `log-REVISION`, named by the first revision they may hold. Inputs are groups of
//! records; outputs are those records at the next start. Invariants: [`Log::append`] returns `Ok`
//! only after `fdatasync`; after one error nothing is ever appended again, because after a failed
//! sync nobody knows what the disk holds; a torn tail can only be the last frame of the last
//! segment, since each group waits for the one before it. Which segments are still needed is
//! decided in `retention`, what a damaged one means in `load`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::frame::{self, Next};
use crate::record::{self, Record};
use crate::txn::Revision;

const PREFIX: &str = "log-";
/// Begins each segment: the format and its version.
const HEADER: &[u8; 8] = b"mctllog1";
/// The buffer that a group is encoded in is not kept if one large group made it larger than this.
const BUFFER_KEPT: usize = 256 << 10;

/// A step on the log's files that failed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A segment could not be made.
    #[error("create the log segment {}", path.display())]
    Create {
        /// The segment.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A group could not be written.
    #[error("write to the log segment {}", path.display())]
    Write {
        /// The segment.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A group was written but may not be on the disk.
    #[error("sync the log segment {}", path.display())]
    Sync {
        /// The segment.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A segment could not be read.
    #[error("read the log segment {}", path.display())]
    Read {
        /// The segment.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The torn end of a segment could not be cut off.
    #[error("cut the torn end of the log segment {}", path.display())]
    Cut {
        /// The segment.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The writing end.
#[derive(Debug)]
pub(crate) struct Log {
    dir: PathBuf,
    active: Option<Active>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Active {
    path: PathBuf,
    file: File,
    len: u64,
}

impl Log {
    /// A log that goes on in a new segment at its next append.
    pub(crate) fn starting_new(dir: &Path) -> Log {
        Log { dir: dir.to_owned(), active: None, buffer: Vec::new() }
    }

    /// A log that goes on at the end of an existing segment.
    pub(crate) fn resume(dir: &Path, path: PathBuf, len: u64) -> Result<Log, LogError> {
        let file = match OpenOptions::new().append(true).open(&path) {
            Ok(file) => file,
            Err(source) => return Err(LogError::Write { path, source }),
        };
        let active = Some(Active { path, file, len });
        Ok(Log { dir: dir.to_owned(), active, buffer: Vec::new() })
    }

    /// Writes one group and waits until the disk has it. `records` is not empty.
    pub(crate) fn append(&mut self, records: &[Record]) -> Result<(), LogError> {
        let Some(first) = records.first() else { return Ok(()) };
        if self.active.is_none() {
            self.active = Some(Active::create(&self.dir, first.revision)?);
        }
        let active = self.active.as_mut().expect("made above");
        frame::append(&mut self.buffer, |out| {
            for record in records {
                record::encode(record, out);
            }
        });
        let written = active.append(&self.buffer);
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_KEPT);
        written
    }

    /// Bytes in the active segment.
    pub(crate) fn active_len(&self) -> u64 {
        self.active.as_ref().map_or(0, |active| active.len)
    }

    /// Ends the active segment; the next append begins another.
    pub(crate) fn rotate(&mut self) {
        self.active = None;
    }
}

impl Active {
    fn create(dir: &Path, first: Revision) -> Result<Active, LogError> {
        let path = segment_path(dir, first);
        let make = || {
            let mut file = OpenOptions::new().append(true).create_new(true).open(&path)?;
            file.write_all(HEADER)?;
            file.sync_all()?;
            sync_dir(dir)?;
            Ok(file)
        };
        match make() {
            Ok(file) => Ok(Active { path, file, len: HEADER.len() as u64 }),
            Err(source) => Err(LogError::Create { path, source }),
        }
    }

    fn append(&mut self, frame: &[u8]) -> Result<(), LogError> {
        if let Err(source) = self.file.write_all(frame) {
            self.take_back();
            return Err(LogError::Write { path: self.path.clone(), source });
        }
        if let Err(source) = self.file.sync_data() {
            self.take_back();
            return Err(LogError::Sync { path: self.path.clone(), source });
        }
        self.len += frame.len() as u64;
        Ok(())
    }

    /// Best effort: a group whose commits were answered with an error should not be there after a
    /// restart. If this fails too, the outcome of those commits is unknown, as the API says.
    fn take_back(&self) {
        let cut = self.file.set_len(self.len).and_then(|()| self.file.sync_data());
        if let Err(error) = cut {
            tracing::warn!(path = %self.path.display(), %error, "cannot take back a failed write");
        }
    }
}

/// A segment that is being read, group by group: all its intact records, whatever lies between
/// them. The fields tell about what was read so far.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    /// The file, until all of it is read.
    bytes: Vec<u8>,
    /// Where reading goes on.
    at: usize,
    /// Where the last intact frame ends; 0 if there is none and the header is not intact either.
    pub(crate) intact: u64,
    /// The size of the file. What follows the last intact frame is a write that a crash
    /// interrupted, if this is the last segment.
    pub(crate) len: u64,
    /// Where the first bytes are that are no frame but have an intact frame behind them. Whether
    /// anything is missing there, the revisions tell.
    pub(crate) damage: Option<u64>,
    /// The last record's revision.
    pub(crate) last: Option<Revision>,
}

impl Segment {
    pub(crate) fn open(path: PathBuf) -> Result<Segment, LogError> {
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(source) => return Err(LogError::Read { path, source }),
        };
        // Without its header a segment may still hold frames: the search passes over the damage.
        let at = if bytes.starts_with(HEADER) { HEADER.len() } else { 0 };
        let len = bytes.len() as u64;
        Ok(Segment { path, bytes, at, intact: at as u64, len, damage: None, last: None })
    }

    /// The next group of records; `None` when nothing intact is left.
    pub(crate) fn next_group(&mut self) -> Option<Vec<Record>> {
        loop {
            let rest = self.bytes.get(self.at..)?;
            if let Some((group, len)) = take_group(rest) {
                self.at += len;
                self.intact = self.at as u64;
                self.last = group.last().map(|record| record.revision).or(self.last);
                return Some(group);
            }
            match rest.get(1..).and_then(frame::find) {
                Some(skipped) => {
                    self.damage.get_or_insert(self.at as u64);
                    self.at += 1 + skipped;
                }
                None => {
                    self.bytes = Vec::new();
                    return None;
                }
            }
        }
    }

    /// Where the first bytes are that are no frame, once all of it was read.
    pub(crate) fn first_bad(&self) -> Option<u64> {
        self.damage.or(self.is_torn().then_some(self.intact))
    }

    /// Whether the file ends with something that is no frame, once all of it was read.
    pub(crate) fn is_torn(&self) -> bool {
        self.intact < self.len || self.intact == 0
    }
}

/// The group of the frame at the beginning of `bytes`, and the frame's size.
fn take_group(bytes: &[u8]) -> Option<(Vec<Record>, usize)> {
    match frame::read(&mut &*bytes) {
        Ok(Next::Frame(payload)) => {
            Some((record::decode_all(&payload)?, frame::size(&payload) as usize))
        }
        _ => None,
    }
}

/// Cuts a torn tail off; a segment of which nothing is intact goes as a whole.
pub(crate) fn cut(segment: &Segment) -> Result<(), LogError> {
    let cut = || {
        if segment.intact == 0 {
            fs::remove_file(&segment.path)?;
            return sync_dir(segment.path.parent().unwrap_or(Path::new(".")));
        }
        let file = OpenOptions::new().write(true).open(&segment.path)?;
        file.set_len(segment.intact)?;
        file.sync_all()
    };
    cut().map_err(|source| LogError::Cut { path: segment.path.clone(), source })
}

/// The name of the segment that begins with a revision.
pub(crate) fn segment_path(dir: &Path, first: Revision) -> PathBuf {
    dir.join(format!("{PREFIX}{:020}", first.0))
}

/// The first revisions of all segments of the folder, ascending.
pub(crate) fn segments(dir: &Path) -> io::Result<Vec<Revision>> {
    numbered_files(dir, PREFIX)
}

/// The revisions in the names of files that begin with a prefix, ascending.
pub(crate) fn numbered_files(dir: &Path, prefix: &str) -> io::Result<Vec<Revision>> {
    let mut revisions = Vec::new();
    for file in fs::read_dir(dir)? {
        let name = file?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(prefix));
        revisions.extend(number.and_then(|number| number.parse().ok()).map(Revision));
    }
    revisions.sort_unstable();
    Ok(revisions)
}

/// Makes created, renamed and removed names of a folder durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests;
