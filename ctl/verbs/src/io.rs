//! Where a verb reads and writes.
//!
//! Owns: [`Io`], the three streams handed to every verb, so that tests capture them. Invariant: no
//! verb touches the process's own streams. A closed output pipe surfaces as [`Error::Output`].
//! Deliberately not here: raw mode (see `terminal`).

use std::fmt::Display;
use std::io::{Read, Write};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;

use crate::error::Error;

/// The streams of a verb.
pub struct Io {
    /// Standard output.
    pub out: Box<dyn Write + Send>,
    /// Standard error.
    pub err: Box<dyn Write + Send>,
    /// Standard input: manifests of `-f -`, or the input of exec, attach and run.
    pub input: Box<dyn AsyncRead + Send + Unpin>,
    /// Whether standard input is a terminal that can be switched to raw mode.
    pub interactive: bool,
}

impl Io {
    /// The process's own streams.
    #[must_use]
    pub fn standard() -> Self {
        use std::io::IsTerminal;
        Io {
            out: Box::new(std::io::stdout()),
            err: Box::new(std::io::stderr()),
            input: Box::new(standard_input()),
            interactive: std::io::stdin().is_terminal(),
        }
    }

    /// Writes a line to standard output.
    ///
    /// # Errors
    /// [`Error::Output`].
    pub fn say(&mut self, line: impl Display) -> Result<(), Error> {
        writeln!(self.out, "{line}").map_err(Error::Output)
    }

    /// Writes text to standard output as it is, and flushes.
    ///
    /// # Errors
    /// [`Error::Output`].
    pub fn print(&mut self, text: &str) -> Result<(), Error> {
        self.bytes(text.as_bytes())
    }

    /// Writes bytes to standard output as they are, and flushes.
    ///
    /// # Errors
    /// [`Error::Output`].
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(bytes).and_then(|()| self.out.flush()).map_err(Error::Output)
    }

    /// Writes a line to standard error. A closed standard error is nobody's loss.
    pub fn warn(&mut self, line: impl Display) {
        let _ = writeln!(self.err, "{line}");
    }

    /// Reads standard input to its end.
    ///
    /// # Errors
    /// [`Error::ReadInput`].
    pub async fn read_input(&mut self) -> Result<Vec<u8>, Error> {
        let mut all = Vec::new();
        self.input.read_to_end(&mut all).await.map_err(Error::ReadInput)?;
        Ok(all)
    }
}

/// Standard input on a thread of its own, started by the first read. The runtime's own reader sits
/// in its thread pool, which the runtime waits for when it ends: `exec` would then hang until the
/// person presses a key once more.
fn standard_input() -> impl AsyncRead + Send + Unpin {
    let mut receiver = None;
    StreamReader::new(futures::stream::poll_fn(move |cx| {
        receiver.get_or_insert_with(spawn_reader).poll_recv(cx)
    }))
}

fn spawn_reader() -> mpsc::Receiver<std::io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 32 * 1024];
        loop {
            let piece = match std::io::stdin().lock().read(&mut buffer) {
                Ok(0) => return,
                Ok(n) => Ok(Bytes::copy_from_slice(&buffer[..n])),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => Err(e),
            };
            if sender.blocking_send(piece).is_err() {
                return;
            }
        }
    });
    receiver
}
