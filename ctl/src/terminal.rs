//! The process's edges: messages, logs, signals, exit codes.

use std::io::Write;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Environment variable with the log filter, e.g. `debug` or `netd=trace`.
const LOG_VARIABLE: &str = "MINICTL_LOG";

/// What is logged unless told otherwise. The client library logs each failed request as an error,
/// and again by whoever made it.
const DEFAULT_FILTER: &str = "info,kube_client=off";

/// Prints a line; a closed pipe is no reason to complain.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints a line to standard error.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints an error with its causes; answers exit code 1.
pub(crate) fn fail(error: &anyhow::Error) -> ExitCode {
    note(&format!("minictl: {error:#}"));
    ExitCode::FAILURE
}

/// The exit code of a client verb, its error printed as kubectl prints it.
pub(crate) fn exit(result: Result<i32, verbs::Error>) -> ExitCode {
    match result {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        // Whoever read the output has seen enough.
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            note(&error.report());
            ExitCode::FAILURE
        }
    }
}

/// Logs go to standard error, which a supervisor puts into a file.
pub(crate) fn log() {
    let filter =
        EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    // A second subscriber could only come from a second call.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
}

/// A token that SIGTERM and SIGINT cancel.
pub(crate) fn stop_signal() -> std::io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        token.cancel();
    });
    Ok(stop)
}
