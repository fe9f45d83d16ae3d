//! Frames: the checked envelope of everything that the store writes to disk itself.
//!
//! Layout, little endian: mark u32, payload length u32, CRC-32 of length and payload u32, payload.
//! One frame is one commit group of the log or one chunk of a checkpoint. Invariant: a reader gets
//! a whole, checked payload or learns that the frame is bad; it never gets a part.

use std::io::{self, Read};

/// Begins each frame, so that intact frames can be found behind a damaged one. Its first byte never
/// occurs in UTF-8, so no text that is stored can look like a frame.
const MARK: [u8; 4] = *b"\xf5mc\x01";
/// Bytes before the payload.
const HEADER: usize = 12;
/// No group is larger: a few MiB of queue plus one transaction of the largest size, with room.
const MAX_PAYLOAD: usize = 256 << 20;

/// What stands at a reader's position.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A whole payload.
    Frame(Vec<u8>),
    /// The end, exactly.
    End,
    /// Anything else: torn, damaged or foreign bytes.
    Bad,
}

/// Appends one frame whose payload `fill` writes.
pub(crate) fn append(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&MARK);
    out.extend_from_slice(&[0; 8]);
    fill(out);
    let len = ((out.len() - start - HEADER) as u32).to_le_bytes();
    let crc = checksum(len, &out[start + HEADER..]).to_le_bytes();
    out[start + 4..start + 8].copy_from_slice(&len);
    out[start + 8..start + 12].copy_from_slice(&crc);
}

/// Reads the next frame. Errors are the reader's own; bad bytes are [`Next::Bad`].
pub(crate) fn read(reader: &mut impl Read) -> io::Result<Next> {
    let mut header = Vec::with_capacity(HEADER);
    reader.by_ref().take(HEADER as u64).read_to_end(&mut header)?;
    if header.is_empty() {
        return Ok(Next::End);
    }
    let Ok(header) = <[u8; HEADER]>::try_from(header) else {
        return Ok(Next::Bad);
    };
    let [m0, m1, m2, m3, l0, l1, l2, l3, c0, c1, c2, c3] = header;
    let len = [l0, l1, l2, l3];
    let size = u32::from_le_bytes(len) as usize;
    if [m0, m1, m2, m3] != MARK || size == 0 || size > MAX_PAYLOAD {
        return Ok(Next::Bad);
    }
    // `take` grows the buffer as bytes arrive: a damaged length must not allocate its worth.
    let mut payload = Vec::new();
    reader.by_ref().take(size as u64).read_to_end(&mut payload)?;
    if payload.len() < size || checksum(len, &payload) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Ok(Next::Bad);
    }
    Ok(Next::Frame(payload))
}

/// The bytes on disk of a frame with this payload.
pub(crate) fn size(payload: &[u8]) -> u64 {
    (HEADER + payload.len()) as u64
}

/// Where the first intact frame within `bytes` begins, at whatever offset.
pub(crate) fn find(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(MARK.len())
        .enumerate()
        .filter(|(_, window)| *window == MARK)
        .map(|(at, _)| at)
        .find(|&at| matches!(read(&mut &bytes[at..]), Ok(Next::Frame(_))))
}

fn checksum(len: [u8; 4], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&len);
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests;
