//! A session with a container: bytes both ways until it ends, and its exit code.
//!
//! Owns: the client's side of `v5.channel.k8s.io`, which carries `exec`, `attach` and `run` over a
//! WebSocket: the first byte of a frame is its channel. Inputs: the connection, the verb's streams.
//! Output: how it ended. Invariants: reading never waits for writing, so that a command that ends
//! before its input, or writes more than it reads, blocks nobody; all output stands before the exit
//! code counts; the first failure to write output ends the session; the terminal is restored on
//! every way out. Upstream: `client-go/tools/remotecommand/{websocket,v5}.go`.
//!
//! kube's `AttachedProcess` has no such pump: it does not read while it sends, and a failure to send
//! leaves its outputs open for ever.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use futures::{Sink, SinkExt, Stream, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::client::Connection;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::signal::unix::Signal;
use tokio_tungstenite::tungstenite::Message;

use crate::error::Error;
use crate::io::Io;
use crate::terminal::{self, Interrupts, RawMode};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
/// Carries one `Status`, the last frame of a session.
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
/// Followed by the channel that ends.
const CLOSE: u8 = 255;

/// How often a silent session shows proxies and firewalls that it is alive.
const PING: Duration = Duration::from_secs(60);

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The command ended with this code.
    Exit(i32),
    /// The server could not run or reach it.
    Failed(String),
    /// A signal ended our side; the code is the shell's for it.
    Interrupted(i32),
}

/// What is connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wiring {
    pub(crate) stdin: bool,
    pub(crate) tty: bool,
}

impl Wiring {
    /// What can be had of what was asked for: a terminal needs an input that is one.
    pub(crate) fn possible(stdin: bool, tty: bool, io: &mut Io) -> Self {
        if tty && stdin && !io.interactive {
            io.warn("Unable to use a TTY - input is not a terminal or the right kind of file");
        }
        Wiring { stdin, tty: tty && stdin && io.interactive }
    }

    /// Whether the person's terminal is switched to raw mode for the session.
    pub(crate) fn has_keys(self, io: &Io) -> bool {
        self.tty && self.stdin && io.interactive
    }
}

/// Shovels bytes until the container's side ends, the output's reader leaves or a signal comes.
pub(crate) async fn pump(
    io: &mut Io,
    connection: Connection,
    wiring: Wiring,
) -> Result<End, Error> {
    let mut interrupts = Interrupts::listen()?;
    let keys = wiring.has_keys(io);
    let _raw = if keys { Some(RawMode::enter()?) } else { None };
    let upstream = Upstream {
        open: wiring.stdin,
        closes: connection.supports_stream_close(),
        window: if keys { Some(terminal::window_changes()?) } else { None },
    };
    let (sink, stream) = connection.into_stream().split();
    let Io { out, err, input, .. } = io;
    tokio::select! {
        end = receive(stream, out.as_mut(), err.as_mut()) => end,
        never = upstream.send(sink, input) => match never {},
        code = interrupts.next() => Ok(End::Interrupted(code)),
    }
}

/// Hands out what comes until the status, which says how the command ended.
async fn receive<E: std::fmt::Display>(
    mut stream: impl Stream<Item = Result<Message, E>> + Unpin,
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
) -> Result<End, Error> {
    let write = |to: &mut (dyn Write + Send), data: &[u8]| {
        to.write_all(data).and_then(|()| to.flush()).map_err(Error::Output)
    };
    while let Some(message) = stream.next().await {
        let frame = match message {
            Ok(Message::Binary(frame)) => frame,
            Ok(_) => continue,
            Err(e) => return Ok(End::Failed(e.to_string())),
        };
        match frame.split_first() {
            Some((&STDOUT, data)) => write(out, data)?,
            Some((&STDERR, data)) => write(err, data)?,
            Some((&STATUS, data)) if !data.is_empty() => {
                return Ok(serde_json::from_slice(data).map_or_else(
                    |e| End::Failed(format!("the command's status cannot be read: {e}")),
                    |status| end(&status),
                ));
            }
            // Servers open a channel with an empty frame; there is nothing in it.
            _ => {}
        }
    }
    Ok(End::Exit(0))
}

/// What goes to the container.
struct Upstream {
    /// Whether there is input, and its end has not been told yet.
    open: bool,
    /// Whether the server knows the end of one channel; the older protocol ends the session.
    closes: bool,
    /// Tells when the window's size changes, if there is a window to tell of.
    window: Option<Signal>,
}

impl Upstream {
    /// Sends input, window sizes and pings. Never returns: a server that takes no more may still
    /// have output and a status for us.
    async fn send(
        mut self,
        mut sink: impl Sink<Message> + Unpin,
        input: &mut (dyn AsyncRead + Send + Unpin),
    ) -> std::convert::Infallible {
        let mut buffer = vec![0; 32 * 1024];
        let mut pings = tokio::time::interval_at(tokio::time::Instant::now() + PING, PING);
        let mut next = self.window.as_ref().and_then(|_| size());
        loop {
            if let Some(message) = next
                && sink.send(message).await.is_err()
            {
                return std::future::pending().await;
            }
            next = tokio::select! {
                read = input.read(&mut buffer), if self.open => {
                    Some(self.piece(&buffer[..read.unwrap_or(0)]))
                }
                () = changed(&mut self.window) => size(),
                _ = pings.tick() => Some(Message::Ping(Bytes::new())),
            };
        }
    }

    /// A piece of input; an empty one is its end.
    fn piece(&mut self, data: &[u8]) -> Message {
        self.open = !data.is_empty();
        match (self.open, self.closes) {
            (true, _) => frame(STDIN, data),
            (false, true) => frame(CLOSE, &[STDIN]),
            (false, false) => Message::Close(None),
        }
    }
}

async fn changed(window: &mut Option<Signal>) {
    match window {
        Some(window) => {
            window.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// The frame that tells the window's size, if it has one.
fn size() -> Option<Message> {
    let size = serde_json::to_vec(&terminal::size()?).ok()?;
    Some(frame(RESIZE, &size))
}

fn frame(channel: u8, data: &[u8]) -> Message {
    Message::Binary([&[channel], data].concat().into())
}

/// What the status on the error channel says.
fn end(status: &Status) -> End {
    if status.status.as_deref() == Some("Success") {
        return End::Exit(0);
    }
    let causes = status.details.as_ref().and_then(|d| d.causes.as_ref());
    let code = causes
        .into_iter()
        .flatten()
        .find(|c| c.reason.as_deref() == Some("ExitCode"))
        .and_then(|c| c.message.as_deref()?.parse().ok());
    match code {
        Some(code) if status.reason.as_deref() == Some("NonZeroExitCode") => End::Exit(code),
        _ => End::Failed(status.message.clone().unwrap_or_else(|| "unknown error".to_owned())),
    }
}

impl End {
    /// The verb's exit code, with what kubectl says about it.
    pub(crate) fn report(self, io: &mut Io) -> Result<i32, Error> {
        match self {
            End::Exit(0) => Ok(0),
            End::Exit(code) => {
                io.warn(format_args!("command terminated with exit code {code}"));
                Ok(code)
            }
            End::Interrupted(code) => Ok(code),
            End::Failed(message) => Err(Error::refused(message)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(value: serde_json::Value) -> End {
        end(&serde_json::from_value(value).unwrap())
    }

    #[test]
    fn the_exit_code_is_the_command_s() {
        assert_eq!(of(json!({"status": "Success"})), End::Exit(0));
        assert_eq!(
            of(json!({"status": "Failure", "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": "7"}]}})),
            End::Exit(7)
        );
        assert_eq!(
            of(json!({"status": "Failure", "reason": "InternalError", "message": "no such file"})),
            End::Failed("no such file".into())
        );
    }
}
