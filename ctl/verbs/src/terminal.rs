//! The person's terminal while a container's terminal is shown in it.
//!
//! Owns: raw mode with its undoing on every way out (return, error, panic), and the window's size.
//! Deliberately not here: bytes.

use kube::api::TerminalSize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::Error;

/// Raw mode, ended by drop.
pub(crate) struct RawMode(());

impl RawMode {
    /// Hands keys on at once, unechoed, Ctrl-C included.
    pub(crate) fn enter() -> Result<Self, Error> {
        crossterm::terminal::enable_raw_mode().map_err(Error::Terminal)?;
        Ok(RawMode(()))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = crossterm::terminal::disable_raw_mode();
    }
}

/// The window's size now.
pub(crate) fn size() -> Option<TerminalSize> {
    let (width, height) = crossterm::terminal::size().ok()?;
    (width > 0 && height > 0).then_some(TerminalSize { width, height })
}

/// Tells when the window's size changes.
pub(crate) fn window_changes() -> Result<Signal, Error> {
    signal(SignalKind::window_change()).map_err(Error::Terminal)
}

/// The signals that end a session, with the exit codes that shells give them.
pub(crate) struct Interrupts {
    signals: [(i32, Signal); 3],
}

impl Interrupts {
    /// Starts listening; from then on these signals no longer kill the process.
    pub(crate) fn listen() -> Result<Self, Error> {
        let on = |kind| signal(kind).map_err(Error::Terminal);
        Ok(Interrupts {
            signals: [
                (129, on(SignalKind::hangup())?),
                (130, on(SignalKind::interrupt())?),
                (143, on(SignalKind::terminate())?),
            ],
        })
    }

    /// Waits for one of them.
    pub(crate) async fn next(&mut self) -> i32 {
        let [(hup, a), (int, b), (term, c)] = &mut self.signals;
        tokio::select! {
            _ = a.recv() => *hup,
            _ = b.recv() => *int,
            _ = c.recv() => *term,
        }
    }
}
