//! Reading logs: the files of one container run, oldest first, then live.
//!
//! Input: the log's path and [`ReadOptions`]. Output: chunks ready for the client, on a channel.
//! To follow, the reader connects to the live feed before it reads to the end of the file, so that
//! nothing falls between; the feed only says "look again", what is sent always comes from the file.
//! Upstream for the options' meaning: `kubernetes/pkg/kubelet/kuberuntime/logs/logs.go`.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::{feed::Feed, format};

/// What a client wants of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ReadOptions {
    /// Go on while the container runs.
    pub(crate) follow: bool,
    /// Put the time before each line.
    pub(crate) timestamps: bool,
    /// Only the last lines.
    pub(crate) tail_lines: Option<u64>,
    /// Stop after this many bytes.
    pub(crate) limit_bytes: Option<u64>,
    /// Only entries at or after this time.
    pub(crate) since: Option<Timestamp>,
}

/// The size at which collected entries are handed on.
const CHUNK: usize = 32 * 1024;

/// Sends the log to `chunks`. Ends at the log's end, when following at the end of the container's
/// output, or when the receiver is gone.
///
/// # Errors
/// When the log's files cannot be read.
pub(crate) async fn read_log(
    log: PathBuf,
    io: PathBuf,
    options: ReadOptions,
    chunks: mpsc::Sender<Vec<u8>>,
) -> io::Result<()> {
    let feed = if options.follow { Feed::connect(&io).await.ok() } else { None };
    let mut reader = LogReader::open(log, options)?;
    reader = read_blocking(reader, &chunks).await?;
    let Some(mut feed) = feed else { return Ok(()) };
    // Drained in a task of its own, so that a slow client never holds up the container.
    let (changed, mut changes) = tokio::sync::watch::channel(());
    let drain = tokio::spawn(async move {
        while feed.next().await.is_some() {
            changed.send_replace(());
        }
    });
    loop {
        let ended = tokio::select! {
            change = changes.changed() => change.is_err(),
            () = chunks.closed() => break,
        };
        reader = read_blocking(reader, &chunks).await?;
        if ended || reader.is_done() {
            break;
        }
    }
    drain.abort();
    Ok(())
}

async fn read_blocking(
    mut reader: LogReader,
    chunks: &mpsc::Sender<Vec<u8>>,
) -> io::Result<LogReader> {
    let chunks = chunks.clone();
    let read = tokio::task::spawn_blocking(move || {
        reader.read_to_end(|chunk| chunks.blocking_send(chunk).is_ok())?;
        Ok(reader)
    });
    read.await.map_err(io::Error::other)?
}

/// The files of a log, oldest first; the one being written is the last.
pub(super) fn files(log: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(folder), Some(name)) = (log.parent(), log.file_name()) else {
        return Ok(vec![log.to_owned()]);
    };
    let prefix = format!("{}.", name.to_string_lossy());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            files.push(entry.path());
        }
    }
    files.sort();
    files.push(log.to_owned());
    Ok(files)
}

/// The state of reading: which file, how far, and what the limits leave.
struct LogReader {
    log: PathBuf,
    files: Vec<PathBuf>,
    current: Option<BufReader<File>>,
    options: ReadOptions,
    remaining: Option<u64>,
    line: Vec<u8>,
    inside_line: bool,
}

impl LogReader {
    fn open(log: PathBuf, options: ReadOptions) -> io::Result<Self> {
        let mut files = files(&log)?;
        files.reverse();
        let remaining = options.limit_bytes;
        let mut reader = Self {
            log,
            files,
            current: None,
            options,
            remaining,
            line: Vec::new(),
            inside_line: false,
        };
        if let Some(lines) = reader.options.tail_lines {
            reader.skip_to_tail(lines)?;
        }
        Ok(reader)
    }

    fn is_done(&self) -> bool {
        self.remaining == Some(0)
    }

    /// Starts in the file, at the place, from which on there are `lines` lines.
    fn skip_to_tail(&mut self, mut lines: u64) -> io::Result<()> {
        // `files` is newest first here; keep what the tail needs.
        for position in 0..self.files.len() {
            let mut file = File::open(&self.files[position])?;
            let (offset, found) = tail_offset(&mut file, lines)?;
            lines -= found;
            if lines == 0 || position + 1 == self.files.len() {
                self.files.truncate(position);
                file.seek(SeekFrom::Start(offset))?;
                self.current = Some(BufReader::new(file));
                break;
            }
        }
        Ok(())
    }

    /// Reads what is there now; `send` answers whether to go on.
    fn read_to_end(&mut self, mut send: impl FnMut(Vec<u8>) -> bool) -> io::Result<()> {
        let mut chunk = Vec::new();
        while !self.is_done() && self.next_line()? {
            self.append(&mut chunk);
            if chunk.len() >= CHUNK && !send(std::mem::take(&mut chunk)) {
                return Ok(());
            }
        }
        if !chunk.is_empty() {
            send(chunk);
        }
        Ok(())
    }

    /// Reads one whole line into `self.line`, going from file to file.
    fn next_line(&mut self) -> io::Result<bool> {
        loop {
            if self.current.is_none() {
                let Some(next) = self.files.pop() else { return Ok(false) };
                self.current = Some(BufReader::new(File::open(next)?));
            }
            let Some(current) = self.current.as_mut() else { return Ok(false) };
            current.read_until(b'\n', &mut self.line)?;
            if self.line.ends_with(b"\n") {
                return Ok(true);
            }
            // Half a line stays in `self.line` until its rest is written.
            if !self.advance()? {
                return Ok(false);
            }
        }
    }

    /// At the end of a file: is there a next one?
    fn advance(&mut self) -> io::Result<bool> {
        if !self.files.is_empty() {
            self.current = None;
            return Ok(true);
        }
        let Some(current) = self.current.as_mut() else { return Ok(false) };
        let here = current.get_ref().metadata()?.ino();
        match std::fs::metadata(&self.log) {
            Ok(metadata) if metadata.ino() != here => {
                // The file was put aside. Entries may have come to it after our last look.
                let more = !current.fill_buf()?.is_empty();
                if !more {
                    self.current = Some(BufReader::new(File::open(&self.log)?));
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn append(&mut self, chunk: &mut Vec<u8>) {
        let line = std::mem::take(&mut self.line);
        let Some(entry) = format::parse(&line) else { return };
        if let Some(since) = self.options.since
            && entry.time.parse::<Timestamp>().is_ok_and(|time| time < since)
        {
            return;
        }
        let mut take = |bytes: &[u8]| {
            let length = match self.remaining.as_mut() {
                None => bytes.len(),
                Some(remaining) => {
                    let length = usize::try_from(*remaining).unwrap_or(usize::MAX).min(bytes.len());
                    *remaining -= length as u64;
                    length
                }
            };
            chunk.extend_from_slice(&bytes[..length]);
        };
        if self.options.timestamps && !self.inside_line {
            take(entry.time.as_bytes());
            take(b" ");
        }
        take(entry.content);
        self.inside_line = entry.partial;
    }
}

/// Where the last `lines` lines of a file begin, and how many there are.
fn tail_offset(file: &mut File, lines: u64) -> io::Result<(u64, u64)> {
    const BLOCK: u64 = 16 * 1024;
    let size = file.metadata()?.len();
    if lines == 0 {
        return Ok((size, 0));
    }
    let mut found = 0;
    let mut end = size;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let mut block = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        file.by_ref().take(end - start).read_to_end(&mut block)?;
        for (position, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let after = start + position as u64 + 1;
            if after == size {
                continue;
            }
            found += 1;
            if found == lines {
                return Ok((after, found));
            }
        }
        end = start;
    }
    Ok((0, if size > 0 { found + 1 } else { 0 }))
}

#[cfg(test)]
mod tests;
