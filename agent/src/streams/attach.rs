//! Joining the streams of a container's first process: output by way of its log helper's live
//! feed, input by way of its FIFO. Both outlive the agent.

use std::{io, path::Path};

use tokio::net::unix::pipe;

use super::fifo;
use crate::{log::Feed, runtime::Containerd};

/// A joined container.
pub(crate) struct Attachment {
    /// What the container writes from now on.
    pub(crate) feed: Feed,
    /// Its input, if it has one and it was asked for.
    pub(crate) input: AttachedInput,
}

/// The input and terminal of a joined container.
pub(crate) struct AttachedInput {
    containerd: Containerd,
    container: String,
    stdin: Option<pipe::Sender>,
    once: bool,
}

impl Attachment {
    /// Joins a container whose FIFOs are in `io`; `once` ends its input with this client's.
    ///
    /// # Errors
    /// When the container's output has ended.
    pub(crate) async fn join(
        containerd: &Containerd,
        container: &str,
        io: &Path,
        stdin: bool,
        once: bool,
    ) -> io::Result<Self> {
        let feed = Feed::connect(io).await?;
        let path = io.join("stdin");
        let stdin = if stdin && path.exists() { Some(fifo::writer(&path)?) } else { None };
        let (containerd, container) = (containerd.clone(), container.to_owned());
        Ok(Self { feed, input: AttachedInput { containerd, container, stdin, once } })
    }
}

impl AttachedInput {
    /// Writes to the container's standard input.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        use tokio::io::AsyncWriteExt as _;
        if let Some(stdin) = &mut self.stdin
            && stdin.write_all(bytes).await.is_err()
        {
            self.stdin = None;
        }
    }

    /// The client has no more input. Unless the container asked for one client only, the next
    /// client goes on.
    pub(crate) async fn close(&mut self) {
        if self.stdin.take().is_some() && self.once {
            // The container may be over already.
            let _ = self.containerd.close_stdin(&self.container, "").await;
        }
    }

    /// Tells the terminal its size.
    pub(crate) async fn resize(&self, width: u32, height: u32) {
        let resized = self.containerd.resize(&self.container, "", width, height).await;
        if let Err(error) = resized {
            tracing::debug!(error = crate::error_chain(&error), "resize a terminal");
        }
    }
}
