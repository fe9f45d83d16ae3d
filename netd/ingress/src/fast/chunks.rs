//! Where a body in chunks ends (RFC 9112, 7.1).
//!
//! Pure. Reads along without changing anything, or takes the content out, and accepts only the strict form: CRLF at the end
//! of each line, hexadecimal digits, no more than a few kilobytes beside the content.

use bytes::{Buf, Bytes, BytesMut};

/// Bytes of sizes, extensions and trailers in a row that are let through.
const MOST_BESIDE: u32 = 16 << 10;
/// Digits of a chunk's size: more would not fit into 64 bits.
const MOST_DIGITS: u8 = 15;

/// How far a body has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunks {
    state: State,
    size: u64,
    digits: u8,
    beside: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    Extension,
    SizeEnd,
    Content,
    ContentCr,
    ContentLf,
    /// At the beginning of a line after the last chunk.
    LineStart,
    Line,
    LineEnd,
    LastLf,
    Done,
}

/// The bytes are no chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

impl Chunks {
    pub(crate) fn new() -> Self {
        Self { state: State::Size, size: 0, digits: 0, beside: 0 }
    }

    /// Was the end seen?
    pub(crate) fn done(&self) -> bool {
        self.state == State::Done
    }

    /// Reads on; says how many of the bytes belong to the body.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        let mut at = 0;
        while at < bytes.len() && !self.done() {
            if self.state == State::Content {
                let rest = (bytes.len() - at) as u64;
                let part = self.size.min(rest);
                self.size -= part;
                at += usize::try_from(part).map_err(|_| Broken)?;
                if self.size == 0 {
                    self.state = State::ContentCr;
                }
                continue;
            }
            self.step(bytes[at])?;
            at += 1;
        }
        Ok(at)
    }

    /// Takes the next content out of the bytes; nothing if it takes more of them, or at the end. What
    /// comes after the last chunk is appended to the trailers, the empty line included.
    pub(crate) fn take(
        &mut self,
        bytes: &mut BytesMut,
        trailers: &mut Vec<u8>,
    ) -> Result<Bytes, Broken> {
        let mut beside = 0;
        while beside < bytes.len() && !self.done() && self.state != State::Content {
            if matches!(self.state, State::LineStart | State::Line | State::LineEnd | State::LastLf)
            {
                trailers.push(bytes[beside]);
            }
            self.step(bytes[beside])?;
            beside += 1;
        }
        bytes.advance(beside);
        if self.state != State::Content {
            return Ok(Bytes::new());
        }
        let part = self.size.min(bytes.len() as u64);
        self.size -= part;
        if self.size == 0 {
            self.state = State::ContentCr;
        }
        Ok(bytes.split_to(usize::try_from(part).map_err(|_| Broken)?).freeze())
    }

    fn step(&mut self, byte: u8) -> Result<(), Broken> {
        self.beside += 1;
        if self.beside > MOST_BESIDE {
            return Err(Broken);
        }
        self.state = match (self.state, byte) {
            (State::Size, b'\r') if self.digits > 0 => State::SizeEnd,
            (State::Size, b';') if self.digits > 0 => State::Extension,
            (State::Size, digit) => {
                let digit = char::from(digit).to_digit(16).ok_or(Broken)?;
                self.digits += 1;
                if self.digits > MOST_DIGITS {
                    return Err(Broken);
                }
                self.size = self.size << 4 | u64::from(digit);
                State::Size
            }
            (State::Extension, b'\r') => State::SizeEnd,
            (State::Extension, b'\n') => return Err(Broken),
            (State::Extension, _) => State::Extension,
            (State::SizeEnd, b'\n') if self.size == 0 => State::LineStart,
            (State::SizeEnd, b'\n') => State::Content,
            (State::ContentCr, b'\r') => State::ContentLf,
            (State::ContentLf, b'\n') => {
                *self = Self::new();
                State::Size
            }
            (State::LineStart, b'\r') => State::LastLf,
            (State::LineStart | State::Line, b'\n') => return Err(Broken),
            (State::Line, b'\r') => State::LineEnd,
            (State::LineStart | State::Line, _) => State::Line,
            (State::LineEnd, b'\n') => State::LineStart,
            (State::LastLf, b'\n') => State::Done,
            _ => return Err(Broken),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Option<usize>, Broken> {
        let mut chunks = Chunks::new();
        let used = chunks.read(text.as_bytes())?;
        Ok(chunks.done().then_some(used))
    }

    #[test]
    fn the_end_is_where_the_rules_say() {
        for (text, expected) in [
            ("0\r\n\r\n", Ok(Some(5))),
            ("3\r\nabc\r\n0\r\n\r\nnext", Ok(Some(13))),
            ("A;x=y\r\n0123456789\r\n000\r\n\r\n", Ok(Some(26))),
            ("0\r\nx-sum: 1\r\n\r\n", Ok(Some(15))),
            ("3\r\nab", Ok(None)),
            ("", Ok(None)),
            ("\r\n", Err(Broken)),
            ("g\r\n", Err(Broken)),
            ("-1\r\n", Err(Broken)),
            (" 1\r\na\r\n", Err(Broken)),
            ("1\na\r\n", Err(Broken)),
            ("1\r\nab\r\n", Err(Broken)),
            ("1;x\n", Err(Broken)),
            ("10000000000000000\r\n", Err(Broken)),
            ("0\r\nx: 1\n\r\n", Err(Broken)),
            ("0\r\n\n", Err(Broken)),
        ] {
            assert_eq!(read(text), expected, "{text:?}");
        }
        assert_eq!(read(&format!("1;{}\r\n", "x".repeat(20_000))), Err(Broken));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_bytes_come(
            contents in proptest::collection::vec("[a-z0\\r\\n]{1,40}", 0..6),
            cuts in proptest::collection::vec(1_usize..7, 1..80),
        ) {
            let mut text: String =
                contents.iter().map(|one| format!("{:X}\r\n{one}\r\n", one.len())).collect();
            text.push_str("0\r\n\r\n");
            let whole = text.len();
            text.push_str("GET / HTTP/1.1\r\n");
            let (mut chunks, mut used, mut rest) = (Chunks::new(), 0, text.as_bytes());
            for cut in cuts.iter().cycle().take(1000) {
                let part = &rest[..(*cut).min(rest.len())];
                used += chunks.read(part).unwrap();
                rest = &rest[part.len()..];
            }
            prop_assert!(chunks.done());
            prop_assert_eq!(used, whole);
        }

        #[test]
        fn no_bytes_upset_it(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut chunks = Chunks::new();
            if let Ok(used) = chunks.read(&bytes) {
                prop_assert!(used <= bytes.len());
                prop_assert!(used == bytes.len() || chunks.done());
            }
        }
    }
}
