//! CRI's log format: `TIME STREAM TAG CONTENT`, where the tag is `F` for a full line and `P` for a
//! part of a longer one. Upstream: `kubernetes/pkg/kubelet/kuberuntime/logs`.

use jiff::{
    Timestamp,
    fmt::{StdFmtWrite, temporal::DateTimePrinter},
};

use super::Stream;

/// Lines are cut here, as containerd's CRI plugin does.
pub(crate) const MAX_LINE: usize = 16 * 1024;

/// One entry of a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    /// The time as written.
    pub(crate) time: &'a str,
    /// The content, with its newline if the line ended here.
    pub(crate) content: &'a [u8],
    /// Whether the next entry of the stream goes on with this line.
    pub(crate) partial: bool,
}

/// Turns output into entries; keeps the unfinished line between calls.
#[derive(Debug)]
pub(crate) struct LineCutter {
    stream: Stream,
    line: Vec<u8>,
}

impl LineCutter {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, line: Vec::new() }
    }

    /// Appends the entries that `output` completes.
    pub(crate) fn push(&mut self, mut output: &[u8], now: Timestamp, entries: &mut Vec<u8>) {
        while !output.is_empty() {
            let room = MAX_LINE - self.line.len();
            let window = &output[..room.min(output.len())];
            let newline = window.iter().position(|byte| *byte == b'\n');
            let taken = newline.unwrap_or(window.len());
            self.line.extend_from_slice(&window[..taken]);
            output = &output[taken + usize::from(newline.is_some())..];
            if newline.is_some() {
                self.emit(b"F", now, entries);
            } else if self.line.len() == MAX_LINE {
                self.emit(b"P", now, entries);
            }
        }
    }

    /// Appends what is left when the stream ends.
    pub(crate) fn finish(&mut self, now: Timestamp, entries: &mut Vec<u8>) {
        if !self.line.is_empty() {
            self.emit(b"F", now, entries);
        }
    }

    fn emit(&mut self, tag: &[u8], now: Timestamp, entries: &mut Vec<u8>) {
        entries.extend_from_slice(stamp(now).as_bytes());
        entries.extend_from_slice(match self.stream {
            Stream::Stdout => b" stdout ",
            Stream::Stderr => b" stderr ",
        });
        entries.extend_from_slice(tag);
        entries.push(b' ');
        entries.append(&mut self.line);
        entries.push(b'\n');
    }
}

/// RFC 3339 with nine digits, as CRI asks.
pub(crate) fn stamp(time: Timestamp) -> String {
    let mut text = String::with_capacity(30);
    let printer = DateTimePrinter::new().precision(Some(9));
    // Writing to a String cannot fail.
    let _ = printer.print_timestamp(&time, StdFmtWrite(&mut text));
    text
}

/// Reads one line of a log file, with its newline; `None` for what is no entry.
pub(crate) fn parse(line: &[u8]) -> Option<Entry<'_>> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(fields.next()?).ok()?;
    let _stream = fields.next()?;
    let partial = fields.next()?.split(|byte| *byte == b':').next()? == b"P";
    let content = fields.next()?;
    let content = if partial { content.strip_suffix(b"\n").unwrap_or(content) } else { content };
    Some(Entry { time, content, partial })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(parts: &[&[u8]]) -> String {
        let mut cutter = LineCutter::new(Stream::Stdout);
        let mut entries = Vec::new();
        let now: Timestamp = "2026-11-20T10:00:00.5Z".parse().unwrap();
        for part in parts {
            cutter.push(part, now, &mut entries);
        }
        cutter.finish(now, &mut entries);
        String::from_utf8(entries).unwrap()
    }

    #[test]
    fn lines_are_stamped_with_time_stream_and_tag() {
        assert_eq!(
            cut(&[b"he", b"llo\n\nend"]),
            "2026-11-20T10:00:00.500000000Z stdout F hello\n\
             2026-11-20T10:00:00.500000000Z stdout F \n\
             2026-11-20T10:00:00.500000000Z stdout F end\n"
        );
    }

    #[test]
    fn a_long_line_is_cut_into_parts() {
        let long = vec![b'x'; MAX_LINE + 1];
        let text = cut(&[&long, b"\n"]);
        let tags: Vec<bool> =
            text.split_inclusive('\n').map(|l| parse(l.as_bytes()).unwrap().partial).collect();
        assert_eq!(tags, [true, false]);
    }

    proptest! {
        #[test]
        fn reading_gives_back_what_was_written(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40_000), 0..4)
        ) {
            let mut cutter = LineCutter::new(Stream::Stderr);
            let mut entries = Vec::new();
            for part in &parts {
                cutter.push(part, Timestamp::UNIX_EPOCH, &mut entries);
            }
            cutter.finish(Timestamp::UNIX_EPOCH, &mut entries);
            let mut back = Vec::new();
            for line in entries.split_inclusive(|byte| *byte == b'\n') {
                back.extend_from_slice(parse(line).unwrap().content);
            }
            let mut written = parts.concat();
            if !written.is_empty() && written.last() != Some(&b'\n') {
                written.push(b'\n');
            }
            prop_assert_eq!(back, written);
        }
    }
}
