//! A session with a container: bytes both ways until it ends, and its exit code.
//!
//! Owns: the pump of `exec`, `attach` and `run`. Inputs: an attached process (WebSocket
//! `v5.channel.k8s.io`), the verb's streams. Output: how it ended. Invariants: standard output and
//! error stay apart unless there is a terminal; both are drained before the exit code counts; the
//! terminal is restored on every way out.

use futures::SinkExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::AttachedProcess;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use crate::error::Error;
use crate::io::Io;
use crate::terminal::{self, Interrupts, RawMode};

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

/// Shovels bytes until the container's side ends or a signal comes.
pub(crate) async fn pump(
    io: &mut Io,
    mut process: AttachedProcess,
    wiring: Wiring,
) -> Result<End, Error> {
    let mut interrupts = Interrupts::listen()?;
    let keys = wiring.has_keys(io);
    let raw = if keys { Some(RawMode::enter()?) } else { None };
    let status = process.take_status();
    let (stdin, stdout, stderr) = (process.stdin(), process.stdout(), process.stderr());
    let sizes = process.terminal_size().filter(|_| keys);
    let Io { out, err, input, .. } = io;
    let feed = async {
        if let Some(mut stdin) = stdin.filter(|_| wiring.stdin) {
            let _ = tokio::io::copy(input, &mut stdin).await;
            // Tells the container that there is no more; a dropped half would not.
            let _ = stdin.shutdown().await;
        }
        std::future::pending::<()>().await;
    };
    let resize = async {
        if let Some(mut sizes) = sizes {
            let mut changes = terminal::window_changes()?;
            loop {
                if let Some(size) = terminal::size()
                    && sizes.send(size).await.is_err()
                {
                    break;
                }
                changes.recv().await;
            }
        }
        std::future::pending::<Result<(), Error>>().await
    };
    let drain = async {
        let (a, b) = futures::join!(copy(stdout, out.as_mut()), copy(stderr, err.as_mut()));
        a.and(b)
    };
    let code = tokio::select! {
        drained = drain => { drained?; None }
        () = feed => None,
        resized = resize => { resized?; None }
        code = interrupts.next() => Some(code),
    };
    let status = match (code, status) {
        (Some(code), _) => {
            drop(raw);
            return Ok(End::Interrupted(code));
        }
        (None, Some(status)) => status.await,
        (None, None) => None,
    };
    drop(raw);
    match status {
        Some(status) => Ok(end(&status)),
        None => match process.join().await {
            Ok(()) => Ok(End::Exit(0)),
            Err(e) => Ok(End::Failed(e.to_string())),
        },
    }
}

async fn copy(
    from: Option<impl AsyncRead + Unpin>,
    to: &mut (dyn std::io::Write + Send),
) -> Result<(), Error> {
    let Some(mut from) = from else { return Ok(()) };
    let mut buffer = vec![0; 32 * 1024];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(n) => to.write_all(&buffer[..n]).and_then(|()| to.flush()).map_err(Error::Output)?,
        }
    }
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
