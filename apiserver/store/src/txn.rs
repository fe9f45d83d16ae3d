//! Transactions: what a caller asks for, and the pure step from a request to a record of the log.
//!
//! Inputs are a [`Txn`] and the map as it stands; the output is a [`Record`] with every stamp filled
//! in, or the check that does not hold. Invariant: nothing here changes a map, so a group of
//! transactions can be evaluated before any of it is durable. Applying a record is `memory`'s.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::memory::Map;
use crate::record::{Record, Write};

/// The largest transaction in bytes of keys and values: far above any API object, far below what
/// would make one log frame a problem to read back.
pub const MAX_TXN_BYTES: usize = 64 << 20;

/// The state of the store after that many transactions; 0 is the empty store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision that the transaction after this one gets.
    pub(crate) fn next(self) -> Revision {
        Revision(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
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

impl Check {
    /// The key that is looked at.
    pub fn key(&self) -> &str {
        match self {
            Check::Absent(key) | Check::Unchanged(key, _) | Check::Present(key) => key,
        }
    }

    /// Whether it holds for a key that was last written at `actual`, or does not exist.
    fn holds(&self, actual: Option<Revision>) -> bool {
        match self {
            Check::Absent(_) => actual.is_none(),
            Check::Unchanged(_, expected) => actual == Some(*expected),
            Check::Present(_) => actual.is_some(),
        }
    }
}

/// Checks and writes that happen together or not at all.
#[derive(Clone, Debug, Default)]
pub struct Txn {
    /// All must hold.
    pub checks: Vec<Check>,
    /// Carried out in order.
    pub ops: Vec<Op>,
}

/// Why a transaction is refused whatever the state of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Failed { check: Check, index: usize, actual: Option<Revision> },
    BadStamp { key: String, offset: usize, len: usize },
    TooLarge { bytes: usize },
}

impl Txn {
    /// Bytes of all keys and values.
    pub(crate) fn bytes(&self) -> usize {
        self.ops
            .iter()
            .map(|op| match op {
                Op::Put { key, value, .. } => key.len() + value.len(),
                Op::Delete { key, last } => {
                    key.len() + last.as_ref().map_or(0, |(bytes, _)| bytes.len())
                }
            })
            .sum()
    }
}

/// Checks `txn` against `map` and, if all holds, writes it down as the record of `revision`.
pub(crate) fn evaluate(map: &Map, txn: &Txn, revision: Revision) -> Result<Record, Refusal> {
    for (index, check) in txn.checks.iter().enumerate() {
        let actual = map.get(check.key()).map(|entry| entry.modified);
        if !check.holds(actual) {
            return Err(Refusal::Failed { check: check.clone(), index, actual });
        }
    }
    let bytes = txn.bytes();
    if bytes > MAX_TXN_BYTES {
        return Err(Refusal::TooLarge { bytes });
    }
    let writes = txn.ops.iter().map(|op| write(op, revision)).collect::<Result<_, _>>()?;
    Ok(Record { revision, writes })
}

fn write(op: &Op, revision: Revision) -> Result<Write, Refusal> {
    match op {
        Op::Put { key, value, stamp } => Ok(Write::Put {
            key: Arc::from(key.as_str()),
            value: stamped(key, value, *stamp, revision)?,
        }),
        Op::Delete { key, last } => Ok(Write::Delete {
            key: Arc::from(key.as_str()),
            last: match last {
                Some((bytes, stamp)) => Some(stamped(key, bytes, *stamp, revision)?),
                None => None,
            },
        }),
    }
}

/// A copy of `bytes` with the decimal revision inserted. It is a copy without a stamp, too: the
/// caller's bytes may be a slice that would keep a whole request body alive in the map.
fn stamped(
    key: &str,
    bytes: &[u8],
    stamp: Option<usize>,
    revision: Revision,
) -> Result<Bytes, Refusal> {
    let Some(offset) = stamp else {
        return Ok(Bytes::copy_from_slice(bytes));
    };
    let Some((before, after)) = bytes.split_at_checked(offset) else {
        return Err(Refusal::BadStamp { key: key.to_owned(), offset, len: bytes.len() });
    };
    let digits = revision.to_string();
    Ok(Bytes::from([before, digits.as_bytes(), after].concat()))
}

#[cfg(test)]
mod tests;
