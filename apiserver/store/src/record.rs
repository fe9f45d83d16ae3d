//! A record: all writes of one transaction under its revision, and its bytes in the log.
//!
//! Layout, little endian: revision u64, number of writes u32, then per write a tag byte, the key
//! (length u32, UTF-8) and, by tag, a value (length u32, bytes). Integrity is the frame's business
//! (`frame`); decoding still trusts no length, because a decoder that can panic is a bug.

use std::sync::Arc;

use bytes::Bytes;

use crate::txn::{Entry, Revision};

/// All writes of one transaction, stamped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) revision: Revision,
    pub(crate) writes: Vec<Write>,
}

/// One stamped write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    Put { key: Arc<str>, value: Bytes },
    Delete { key: Arc<str>, last: Option<Bytes> },
}

const PUT: u8 = 1;
const DELETE: u8 = 2;
const DELETE_WITH_LAST: u8 = 3;

/// Appends the bytes of `record`.
pub(crate) fn encode(record: &Record, out: &mut Vec<u8>) {
    out.extend_from_slice(&record.revision.0.to_le_bytes());
    out.extend_from_slice(&(record.writes.len() as u32).to_le_bytes());
    for write in &record.writes {
        match write {
            Write::Put { key, value } => {
                out.push(PUT);
                put_bytes(key.as_bytes(), out);
                put_bytes(value, out);
            }
            Write::Delete { key, last: None } => {
                out.push(DELETE);
                put_bytes(key.as_bytes(), out);
            }
            Write::Delete { key, last: Some(last) } => {
                out.push(DELETE_WITH_LAST);
                put_bytes(key.as_bytes(), out);
                put_bytes(last, out);
            }
        }
    }
}

/// The records of one group, in order; `None` if the bytes are not what [`encode`] writes.
pub(crate) fn decode_all(mut bytes: &[u8]) -> Option<Vec<Record>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let revision = Revision(take_u64(&mut bytes)?);
        let count = take_u32(&mut bytes)?;
        let mut writes = Vec::new();
        for _ in 0..count {
            writes.push(take_write(&mut bytes)?);
        }
        records.push(Record { revision, writes });
    }
    Some(records)
}

fn take_write(bytes: &mut &[u8]) -> Option<Write> {
    let (&tag, rest) = bytes.split_first()?;
    *bytes = rest;
    let key = take_key(bytes)?;
    match tag {
        PUT => Some(Write::Put { key, value: take_value(bytes)? }),
        DELETE => Some(Write::Delete { key, last: None }),
        DELETE_WITH_LAST => Some(Write::Delete { key, last: Some(take_value(bytes)?) }),
        _ => None,
    }
}

/// Appends the bytes of one entry of a checkpoint: created, modified, key, value.
pub(crate) fn encode_entry(key: &str, entry: &Entry, out: &mut Vec<u8>) {
    out.extend_from_slice(&entry.created.0.to_le_bytes());
    out.extend_from_slice(&entry.modified.0.to_le_bytes());
    put_bytes(key.as_bytes(), out);
    put_bytes(&entry.value, out);
}

/// Takes one entry off the front; `None` if the bytes are not what [`encode_entry`] writes.
pub(crate) fn take_entry(bytes: &mut &[u8]) -> Option<(Arc<str>, Entry)> {
    let created = Revision(take_u64(bytes)?);
    let modified = Revision(take_u64(bytes)?);
    let key = take_key(bytes)?;
    let value = take_value(bytes)?;
    Some((key, Entry { value, created, modified }))
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Takes a little-endian number off the front.
pub(crate) fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u32::from_le_bytes(*number))
}

/// Takes a little-endian number off the front.
pub(crate) fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*number))
}

fn take_slice<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = take_u32(bytes)? as usize;
    let (slice, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(slice)
}

fn take_key(bytes: &mut &[u8]) -> Option<Arc<str>> {
    std::str::from_utf8(take_slice(bytes)?).ok().map(Arc::from)
}

/// A copy, so that one value never keeps the segment alive that it was read from.
fn take_value(bytes: &mut &[u8]) -> Option<Bytes> {
    take_slice(bytes).map(Bytes::copy_from_slice)
}

#[cfg(test)]
mod tests;
