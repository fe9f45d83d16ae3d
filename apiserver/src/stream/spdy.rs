//! SPDY/3.1 framing, the server's side, as far as kubectl uses it (draft-mbelshe-httpbis-spdy-00).
//!
//! Pure: bytes in, [`Frame`]s out, and frames to send as bytes. Without flow control, as upstream's
//! library (moby/spdystream) has none. Invariant: a peer cannot make it hold more than one frame
//! and one header block of bounded size.

mod dictionary;
pub(crate) mod session;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use thiserror::Error;

const VERSION: u16 = 3;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const FLAG_FIN: u8 = 1;
const HEAD: usize = 8;
/// kubectl sends at most 32 KiB at once; this is far above and still little.
const LARGEST_FRAME: usize = 1024 * 1024;
const LARGEST_HEADERS: usize = 64 * 1024;

/// What a peer did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// It opened a stream; names are lower-case.
    Open { stream: u32, headers: Vec<(String, String)>, fin: bool },
    /// It sent data on a stream; `fin` says that no more will come.
    Data { stream: u32, data: Bytes, fin: bool },
    /// It gave a stream up.
    Reset { stream: u32 },
    /// It wants this frame back.
    Ping(Bytes),
    /// It will open no more streams.
    Goodbye,
}

/// What a peer must not send.
#[derive(Debug, Error)]
pub(crate) enum SpdyError {
    #[error("a frame of {0} bytes")]
    TooLarge(usize),
    #[error("a frame of version {0}")]
    Version(u16),
    #[error("a frame of type {0} that ends too early")]
    Short(u16),
    #[error("a header block that does not unpack")]
    Compression(#[from] flate2::DecompressError),
    #[error("a header block of more than {LARGEST_HEADERS} bytes")]
    LargeHeaders,
    #[error("a malformed header block")]
    Headers,
}

/// Reads frames.
pub(crate) struct Decoder {
    buffer: BytesMut,
    unpack: Decompress,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self { buffer: BytesMut::new(), unpack: Decompress::new(true) }
    }

    /// Takes bytes from the peer.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame.
    ///
    /// # Errors
    /// The peer does not speak SPDY/3.1 as we understand it; the connection is of no more use.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, SpdyError> {
        loop {
            let Some(head) = self.buffer.first_chunk::<HEAD>().copied() else { return Ok(None) };
            let length = usize::try_from(u32::from_be_bytes([0, head[5], head[6], head[7]]))
                .unwrap_or(usize::MAX);
            if length > LARGEST_FRAME {
                return Err(SpdyError::TooLarge(length));
            }
            if self.buffer.len() < HEAD + length {
                return Ok(None);
            }
            let frame = self.buffer.split_to(HEAD + length).freeze();
            let fin = head[4] & FLAG_FIN != 0;
            let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
            if first >> 31 == 0 {
                return Ok(Some(Frame::Data { stream: first, data: frame.slice(HEAD..), fin }));
            }
            let version = u16::from_be_bytes([head[0] & 0x7f, head[1]]);
            if version != VERSION {
                return Err(SpdyError::Version(version));
            }
            let kind = u16::from_be_bytes([head[2], head[3]]);
            if let Some(frame) = self.control(kind, fin, &frame)? {
                return Ok(Some(frame));
            }
        }
    }

    fn control(&mut self, kind: u16, fin: bool, frame: &Bytes) -> Result<Option<Frame>, SpdyError> {
        let mut body = frame.slice(HEAD..);
        match kind {
            SYN_STREAM => {
                // Stream, associated stream, priority and slot.
                if body.len() < 10 {
                    return Err(SpdyError::Short(kind));
                }
                let stream = body.get_u32() & 0x7fff_ffff;
                body.advance(6);
                let headers = self.headers(&body)?;
                Ok(Some(Frame::Open { stream, headers, fin }))
            }
            RST_STREAM if body.len() >= 8 => {
                Ok(Some(Frame::Reset { stream: body.get_u32() & 0x7fff_ffff }))
            }
            RST_STREAM => Err(SpdyError::Short(kind)),
            PING => Ok(Some(Frame::Ping(frame.clone()))),
            GOAWAY => Ok(Some(Frame::Goodbye)),
            // SETTINGS, WINDOW_UPDATE, HEADERS: nothing that matters here.
            _ => Ok(None),
        }
    }

    /// Unpacks a header block. All blocks of a connection are one zlib stream.
    fn headers(&mut self, packed: &[u8]) -> Result<Vec<(String, String)>, SpdyError> {
        let mut block = Vec::with_capacity(1024);
        let mut rest = packed;
        loop {
            if block.len() > LARGEST_HEADERS {
                return Err(SpdyError::LargeHeaders);
            }
            if block.len() == block.capacity() {
                block.reserve(1024);
            }
            let (before_in, before_out) = (self.unpack.total_in(), block.len());
            let result = self.unpack.decompress_vec(rest, &mut block, FlushDecompress::Sync);
            let used = usize::try_from(self.unpack.total_in() - before_in).unwrap_or(usize::MAX);
            rest = rest.get(used..).unwrap_or_default();
            match result {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.unpack.set_dictionary(&dictionary::V3)?;
                    continue;
                }
                Err(error) => return Err(error.into()),
                Ok(Status::StreamEnd) => break,
                Ok(Status::Ok | Status::BufError) => {}
            }
            let stuck = used == 0 && block.len() == before_out;
            // A full buffer may hide more output.
            if stuck || (rest.is_empty() && block.len() < block.capacity()) {
                break;
            }
        }
        parse_headers(&block).ok_or(SpdyError::Headers)
    }
}

fn parse_headers(mut block: &[u8]) -> Option<Vec<(String, String)>> {
    let number = |block: &mut &[u8]| {
        let (head, rest) = block.split_first_chunk::<4>()?;
        *block = rest;
        usize::try_from(u32::from_be_bytes(*head)).ok()
    };
    let text = |block: &mut &[u8]| {
        let length = number(block)?;
        let (head, rest) = block.split_at_checked(length)?;
        *block = rest;
        Some(String::from_utf8_lossy(head).into_owned())
    };
    let count = number(&mut block)?;
    let mut headers = Vec::new();
    for _ in 0..count {
        let name = text(&mut block)?.to_ascii_lowercase();
        headers.push((name, text(&mut block)?));
    }
    Some(headers)
}

/// Writes frames.
pub(crate) struct Encoder {
    pack: Compress,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        let mut pack = Compress::new(Compression::default(), true);
        // A fresh stream takes any dictionary; without it the peer could not unpack.
        pack.set_dictionary(&dictionary::V3).expect("a new zlib stream accepts a dictionary");
        Self { pack }
    }

    /// Accepts a stream, without headers.
    pub(crate) fn reply(&mut self, stream: u32) -> Bytes {
        let mut block = Vec::with_capacity(64);
        let none = 0u32.to_be_bytes();
        self.pack
            .compress_vec(&none, &mut block, FlushCompress::Sync)
            .expect("64 bytes hold 4 packed ones");
        let mut frame = BytesMut::with_capacity(HEAD + 4 + block.len());
        frame.put_u16(0x8000 | VERSION);
        frame.put_u16(SYN_REPLY);
        frame.put_u32(u32::try_from(4 + block.len()).unwrap_or(u32::MAX));
        frame.put_u32(stream);
        frame.put_slice(&block);
        frame.freeze()
    }
}

/// Data on a stream, in as many frames as it takes.
pub(crate) fn data(stream: u32, mut data: Bytes, fin: bool) -> Bytes {
    let frames = data.len() / LARGEST_FRAME + 1;
    let mut out = BytesMut::with_capacity(data.len() + frames * HEAD);
    loop {
        let part = data.split_to(data.len().min(LARGEST_FRAME));
        let flag = u32::from(fin && data.is_empty()) << 24;
        out.put_u32(stream & 0x7fff_ffff);
        // The length is below 2^24, the flags stand above it.
        out.put_u32(u32::try_from(part.len()).unwrap_or(0) | flag);
        out.put_slice(&part);
        if data.is_empty() {
            return out.freeze();
        }
    }
}

#[cfg(test)]
mod tests;
