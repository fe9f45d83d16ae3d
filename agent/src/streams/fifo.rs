//! Named pipes.

use std::{io, os::unix::fs::OpenOptionsExt as _, path::Path};

use nix::{sys::stat::Mode, unistd::mkfifo};
use tokio::net::unix::pipe;

/// Makes a FIFO, replacing what is there.
pub(crate) fn make_fifo(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).map_err(Into::into)
}

/// Makes a FIFO and opens its reading end. It reads as ended until a writer is there.
pub(super) fn reader(path: &Path) -> io::Result<pipe::Receiver> {
    make_fifo(path)?;
    pipe::OpenOptions::new().open_receiver(path)
}

/// Opens a FIFO for writing; as also this end is open for reading, it needs no reader yet.
pub(super) fn writer(path: &Path) -> io::Result<pipe::Sender> {
    pipe::OpenOptions::new().read_write(true).open_sender(path)
}

/// Lets go whoever waits for a writer that will never come.
pub(crate) fn release_readers(path: &Path) {
    let open = std::fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path);
    // No reader waits (ENXIO), or no FIFO is there: nobody to let go.
    drop(open);
}
