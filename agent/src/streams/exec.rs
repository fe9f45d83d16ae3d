//! A further process in a running container.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use oci_spec::runtime::Process;
use tokio::{io::AsyncReadExt as _, net::unix::pipe, sync::mpsc};

use super::fifo;
use crate::{
    log::{Chunk, Stream},
    runtime::{Containerd, ExecRequest, Exit, RuntimeError, Stdio, uuid_like},
};

/// How long output may still come after the process's end; longer only if something that it left
/// running keeps the streams open.
const DRAIN: Duration = Duration::from_secs(2);

/// Why a process could not be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecError {
    /// Its FIFOs could not be made.
    #[error("make FIFOs in {}", folder.display())]
    Fifo {
        /// Where.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// containerd refused.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

/// Which streams a process has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) stdin: bool,
    pub(crate) tty: bool,
}

/// A running process.
pub(crate) struct Session {
    containerd: Containerd,
    container: String,
    id: String,
    folder: PathBuf,
    stdin: Option<pipe::Sender>,
    outputs: Vec<(Stream, pipe::Receiver)>,
}

/// The writing side of a session: its input and its terminal.
pub(crate) struct Input {
    containerd: Containerd,
    container: String,
    id: String,
    stdin: Option<pipe::Sender>,
}

impl Session {
    /// Starts a process; `io` is a folder for its FIFOs.
    ///
    /// # Errors
    /// The step that failed; nothing is left then.
    pub(crate) async fn start(
        containerd: &Containerd,
        container: &str,
        process: &Process,
        wanted: Wanted,
        io: &Path,
    ) -> Result<Self, ExecError> {
        let id = format!("exec-{}", uuid_like());
        let folder = io.join(&id);
        let mut session = Self {
            containerd: containerd.clone(),
            container: container.to_owned(),
            id,
            folder,
            stdin: None,
            outputs: Vec::new(),
        };
        let stdio = session
            .make_fifos(wanted)
            .map_err(|source| ExecError::Fifo { folder: session.folder.clone(), source })?;
        let request =
            ExecRequest { container: &session.container, id: &session.id, process, stdio };
        containerd.create_exec(request).await?;
        if let Err(error) = containerd.start_process(&session.container, &session.id).await {
            containerd.delete_exec(&session.container, &session.id).await?;
            return Err(error.into());
        }
        Ok(session)
    }

    fn make_fifos(&mut self, wanted: Wanted) -> io::Result<Stdio> {
        std::fs::create_dir_all(&self.folder)?;
        let mut stdio = Stdio { terminal: wanted.tty, ..Stdio::default() };
        let text = |path: &Path| path.to_string_lossy().into_owned();
        if wanted.stdin {
            let path = self.folder.join("stdin");
            fifo::make_fifo(&path)?;
            self.stdin = Some(fifo::writer(&path)?);
            stdio.stdin = text(&path);
        }
        let stdout = self.folder.join("stdout");
        self.outputs.push((Stream::Stdout, fifo::reader(&stdout)?));
        stdio.stdout = text(&stdout);
        if !wanted.tty {
            let stderr = self.folder.join("stderr");
            self.outputs.push((Stream::Stderr, fifo::reader(&stderr)?));
            stdio.stderr = text(&stderr);
        }
        Ok(stdio)
    }

    /// Takes the writing side.
    pub(crate) fn input(&mut self) -> Input {
        Input {
            containerd: self.containerd.clone(),
            container: self.container.clone(),
            id: self.id.clone(),
            stdin: self.stdin.take(),
        }
    }

    /// Sends the output to `chunks` until the process is over; answers how it ended.
    ///
    /// # Errors
    /// When containerd cannot be asked for the exit code.
    pub(crate) async fn finish(mut self, chunks: mpsc::Sender<Chunk>) -> Result<Exit, ExecError> {
        let pumps: Vec<_> = std::mem::take(&mut self.outputs)
            .into_iter()
            .map(|(stream, source)| tokio::spawn(pump(stream, source, chunks.clone())))
            .collect();
        drop(chunks);
        let exit = self.containerd.wait(&self.container, &self.id).await;
        let drained = async {
            for pump in pumps {
                // A pump cannot panic, and if it did there would be no output left to wait for.
                let _ = pump.await;
            }
        };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::debug!(exec = self.id, "something keeps the streams of a dead process open");
        }
        self.containerd.delete_exec(&self.container, &self.id).await?;
        Ok(exit?)
    }

    /// A handle that kills the process.
    pub(crate) fn killer(&self) -> impl Future<Output = ()> + use<> {
        let (containerd, container, id) =
            (self.containerd.clone(), self.container.clone(), self.id.clone());
        async move {
            if let Err(error) = containerd.signal_exec(&container, &id, libc::SIGKILL).await {
                tracing::debug!(error = crate::error_chain(&error), "kill a process");
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // FIFOs only: nothing is lost if they stay until the pod goes.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Input {
    /// Writes to the process's standard input.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        use tokio::io::AsyncWriteExt as _;
        if let Some(stdin) = &mut self.stdin
            && stdin.write_all(bytes).await.is_err()
        {
            self.stdin = None;
        }
    }

    /// Ends the standard input.
    pub(crate) async fn close(&mut self) {
        if self.stdin.take().is_some() {
            // The process may be over already.
            let _ = self.containerd.close_stdin(&self.container, &self.id).await;
        }
    }

    /// Tells the terminal its size.
    pub(crate) async fn resize(&self, width: u32, height: u32) {
        let resized = self.containerd.resize(&self.container, &self.id, width, height).await;
        if let Err(error) = resized {
            tracing::debug!(error = crate::error_chain(&error), "resize a terminal");
        }
    }
}

async fn pump(stream: Stream, mut source: pipe::Receiver, chunks: mpsc::Sender<Chunk>) {
    let mut buffer = vec![0; 32 * 1024];
    while let Ok(length) = source.read(&mut buffer).await {
        let chunk = Chunk { stream, bytes: buffer[..length].to_vec() };
        if length == 0 || chunks.send(chunk).await.is_err() {
            break;
        }
    }
}

/// How a command without input ended, and what it wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Captured {
    pub(crate) code: i32,
    pub(crate) output: Vec<u8>,
}

/// Runs a command to its end; `None` if it took longer than `limit`, and was killed.
///
/// # Errors
/// When it could not be run.
pub(crate) async fn capture(
    containerd: &Containerd,
    container: &str,
    command: &[String],
    io: &Path,
    limit: Duration,
) -> Result<Option<Captured>, ExecError> {
    /// kubelet's limit of what it keeps of a probe's output.
    const MOST: usize = 10 * 1024;
    let spec = containerd.container_spec(container).await?;
    let process = crate::spec::exec_process(&spec, command, false);
    let session = Session::start(containerd, container, &process, Wanted::default(), io).await?;
    let killer = session.killer();
    let (sender, mut chunks) = mpsc::channel::<Chunk>(16);
    let run = tokio::spawn(session.finish(sender));
    let collect = async {
        let mut output = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            let room = MOST.saturating_sub(output.len());
            output.extend(chunk.bytes.into_iter().take(room));
        }
        output
    };
    match tokio::time::timeout(limit, async { (collect.await, run.await) }).await {
        Ok((output, Ok(exit))) => Ok(Some(Captured { code: exit?.code, output })),
        Ok((_, Err(_))) => Ok(None),
        Err(_) => {
            killer.await;
            Ok(None)
        }
    }
}
