//! The live feed: the helper process's socket, from both ends.
//!
//! A frame is one byte for the stream (1 standard output, 2 standard error), four bytes of length
//! (big-endian) and the bytes. The first frame is empty: it says that the helper knows the reader. The
//! end of the connection is the end of the container's output.

use std::{io, path::Path};

use tokio::{io::AsyncReadExt, net::UnixStream};

use super::Stream;

/// The socket's name in a container's I/O folder.
pub(super) const SOCKET: &str = "feed.sock";

/// Bytes that a container has just written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Where to.
    pub(crate) stream: Stream,
    /// What.
    pub(crate) bytes: Vec<u8>,
}

/// A connection to the helper process of a running container.
#[derive(Debug)]
pub(crate) struct Feed {
    connection: UnixStream,
}

impl Feed {
    /// Connects; what is written from now on will be heard.
    ///
    /// # Errors
    /// When the container's output has ended.
    pub(crate) async fn connect(io: &Path) -> io::Result<Self> {
        let connection = by_short_path(&io.join(SOCKET), |short| {
            let connection = std::os::unix::net::UnixStream::connect(short)?;
            connection.set_nonblocking(true)?;
            UnixStream::from_std(connection)
        })?;
        let mut feed = Self { connection };
        // Connecting takes only the kernel: the helper may still have to accept.
        let known = feed.next().await.map(|_| feed);
        known.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// The next bytes; `None` when the output has ended.
    pub(crate) async fn next(&mut self) -> Option<Chunk> {
        let stream = match self.connection.read_u8().await.ok()? {
            1 => Stream::Stdout,
            _ => Stream::Stderr,
        };
        let length = self.connection.read_u32().await.ok()?;
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        self.connection.read_exact(&mut bytes).await.ok()?;
        Some(Chunk { stream, bytes })
    }
}

/// Writes a frame.
pub(super) fn frame(stream: Stream, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("a read of at most 32 KiB");
    let mut frame = Vec::with_capacity(bytes.len() + 5);
    frame.push(match stream {
        Stream::Stdout => 1,
        Stream::Stderr => 2,
    });
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(bytes);
    frame
}

/// Runs `work` with a spelling of `path` that fits into a socket address (107 bytes), by way of
/// the folder's descriptor.
pub(super) fn by_short_path<T>(
    path: &Path,
    work: impl FnOnce(&Path) -> io::Result<T>,
) -> io::Result<T> {
    use std::os::fd::AsRawFd as _;
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a socket needs a folder"));
    };
    let folder = std::fs::File::open(folder)?;
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    work(&short)
}
