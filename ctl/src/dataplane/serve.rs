//! The socket of a netd that runs alone: whoever may open it is told about the data plane.
//!
//! Invariants: only its owner may open it; a socket that nobody answers at is replaced, one that
//! somebody answers at is not; it goes with the process.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

/// Read and write, for the owner.
const OWNER_ONLY: u32 = 0o600;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    #[error("another netd answers at {}", path.display())]
    Taken { path: PathBuf },
    #[error("make the folder of {}", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("listen at {}", path.display())]
    Listen {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("answer at {}", path.display())]
    Serve {
        path: PathBuf,
        #[source]
        source: tonic::transport::Error,
    },
}

/// A socket that is listened at; its file goes with it.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    listener: Option<UnixListener>,
}

impl Socket {
    /// Listens at a path.
    ///
    /// # Errors
    /// When another process answers there, or nothing can be made there.
    pub(crate) fn open(path: &Path) -> Result<Self, SocketError> {
        let path = path.to_owned();
        if std::os::unix::net::UnixStream::connect(&path).is_ok() {
            return Err(SocketError::Taken { path });
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|source| SocketError::Folder { path: path.clone(), source })?;
        }
        // What a netd that was killed left behind. If it is something else, listening says so.
        if is_socket(&path) {
            drop(std::fs::remove_file(&path));
        }
        let listener = UnixListener::bind(&path).and_then(|listener| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(OWNER_ONLY))?;
            Ok(listener)
        });
        match listener {
            Ok(listener) => Ok(Self { path, listener: Some(listener) }),
            Err(source) => Err(SocketError::Listen { path, source }),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // It may be gone already; then all is well.
        drop(std::fs::remove_file(&self.path));
    }
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
}

/// Answers at a socket until `stop`.
///
/// # Errors
/// When the listener fails.
pub(crate) async fn serve(
    mut socket: Socket,
    control: netd::Control,
    stop: CancellationToken,
) -> Result<(), SocketError> {
    let Some(listener) = socket.listener.take() else { return Ok(()) };
    Server::builder()
        .add_service(netd::dns_service(&control))
        .add_service(netd::load_balancer_service(control.clone()))
        .add_service(netd::service(control))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.cancelled_owned())
        .await
        .map_err(|source| SocketError::Serve { path: socket.path.clone(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_its_owners_and_goes_with_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/netd.sock");
        let socket = Socket::open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, OWNER_ONLY);
        let second = Socket::open(&path).unwrap_err();
        assert!(matches!(second, SocketError::Taken { .. }), "{second}");
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("netd.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a listener that is killed leaves its file");
        drop(Socket::open(&path).unwrap());
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(Socket::open(&path), Err(SocketError::Listen { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }
}
