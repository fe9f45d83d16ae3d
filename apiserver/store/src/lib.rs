//! The store: one revision counter, compare-and-swap transactions over several keys, ordered watch.
//!
//! Semantics are etcd's. Truth is an append-only log with checkpoints; sled behind it is rebuilt
//! from them if it is ever damaged. Knows nothing of HTTP or JSON.

use bytes::Bytes;
use std::path::PathBuf;

/// The state of the store after that many transactions; 0 is the empty store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// Where the log, checkpoints and sled live, and how much history watchers may ask for.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder; made if absent.
    pub dir: PathBuf,
    /// Revisions of history kept for watches; older ones answer [`WatchError::Compacted`].
    pub history: usize,
}

/// A value with the revisions that made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The bytes, with the revision stamped in (see [`Op::Put`]).
    pub value: Bytes,
    /// The transaction that created the key.
    pub created: Revision,
    /// The transaction that wrote the value last.
    pub modified: Revision,
}

/// A write.
#[derive(Clone, Debug)]
pub enum Op {
    /// Writes a value. With `stamp`, the committer inserts the decimal revision of the
    /// transaction at this byte offset, so that an object carries its own `resourceVersion`.
    Put {
        /// Key.
        key: String,
        /// Value.
        value: Bytes,
        /// Offset of the stamp in bytes.
        stamp: Option<usize>,
    },
    /// Removes a key; removing an absent key is no error. With `last`, watchers get these bytes
    /// (stamped likewise) as the object's final state instead of its last value.
    Delete {
        /// Key.
        key: String,
        /// The final state shown to watchers.
        last: Option<(Bytes, Option<usize>)>,
    },
}

/// What must hold for a transaction to commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// The key does not exist.
    Absent(String),
    /// The key exists and was last written at this revision.
    Unchanged(String, Revision),
    /// The key exists, whatever its revision.
    Present(String),
}

/// Checks and writes that happen together or not at all.
#[derive(Clone, Debug, Default)]
pub struct Txn {
    /// All must hold.
    pub checks: Vec<Check>,
    /// Carried out in order.
    pub ops: Vec<Op>,
}
