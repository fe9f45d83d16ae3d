//! Namespaces pinned by bind mounts: they live without a process in them.
//!
//! A namespace is unshared on a short-lived thread, which bind-mounts its own `/proc/thread-self/ns`
//! file over an empty file: no fork of a threaded process, no pause process (see `namespaces(7)`).

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::statfs;

/// `NSFS_MAGIC` of `linux/magic.h`: the file system of namespace files.
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// Why a namespace could not be made, opened or left behind clean.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The file to mount over could not be made.
    #[error("make the file {path} for a namespace")]
    CreateFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `unshare(2)` failed; needs `CAP_SYS_ADMIN`.
    #[error("unshare {kinds:?} (needs root)")]
    Unshare {
        /// What was to be unshared.
        kinds: Vec<Kind>,
        /// Why.
        #[source]
        source: Errno,
    },
    /// The hostname could not be set in the new UTS namespace.
    #[error("set the hostname {name}")]
    Hostname {
        /// The name.
        name: String,
        /// Why.
        #[source]
        source: Errno,
    },
    /// The bind mount failed.
    #[error("pin a namespace to {path}")]
    Pin {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Errno,
    },
    /// The path is no pinned namespace.
    #[error("{path} is not a pinned namespace")]
    NotPinned {
        /// The path.
        path: PathBuf,
    },
    /// The pinned file could not be opened.
    #[error("open the namespace {path}")]
    Open {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `setns(2)` failed.
    #[error("enter the namespace {path}")]
    Enter {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: Errno,
    },
    /// The pin could not be taken away.
    #[error("remove the namespace {path}")]
    Remove {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The thread that was to work in the namespace could not run to its end.
    #[error("the thread inside the namespace {path} panicked")]
    Panicked {
        /// The path.
        path: PathBuf,
    },
}

/// A kind of namespace that can be pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Network.
    Net,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Hostname.
    Uts,
}

impl Kind {
    fn flag(self) -> CloneFlags {
        match self {
            Self::Net => CloneFlags::CLONE_NEWNET,
            Self::Ipc => CloneFlags::CLONE_NEWIPC,
            Self::Uts => CloneFlags::CLONE_NEWUTS,
        }
    }

    fn proc_file(self) -> &'static str {
        match self {
            Self::Net => "/proc/thread-self/ns/net",
            Self::Ipc => "/proc/thread-self/ns/ipc",
            Self::Uts => "/proc/thread-self/ns/uts",
        }
    }
}

/// Makes new namespaces and pins each to its path; with `hostname`, sets it in the UTS one.
///
/// # Errors
/// The step that failed; what was pinned before it is removed again.
pub fn pin(pins: &[(Kind, &Path)], hostname: Option<&str>) -> Result<(), NamespaceError> {
    for (_, path) in pins {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(|source| NamespaceError::CreateFile { path: path.to_path_buf(), source })?;
    }
    let made = thread::scope(|scope| {
        scope.spawn(|| unshare_and_pin(pins, hostname)).join().unwrap_or_else(|_| {
            let path = pins.first().map_or_else(PathBuf::new, |(_, path)| path.to_path_buf());
            Err(NamespaceError::Panicked { path })
        })
    });
    if made.is_err() {
        for (_, path) in pins {
            // Best effort: the first error is the one worth telling.
            let _ = unpin(path);
        }
    }
    made
}

fn unshare_and_pin(pins: &[(Kind, &Path)], hostname: Option<&str>) -> Result<(), NamespaceError> {
    let flags = pins.iter().fold(CloneFlags::empty(), |flags, (kind, _)| flags | kind.flag());
    unshare(flags).map_err(|source| NamespaceError::Unshare {
        kinds: pins.iter().map(|(kind, _)| *kind).collect(),
        source,
    })?;
    if let Some(name) = hostname {
        nix::unistd::sethostname(name)
            .map_err(|source| NamespaceError::Hostname { name: name.to_owned(), source })?;
    }
    for (kind, path) in pins {
        mount(Some(kind.proc_file()), *path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(|source| NamespaceError::Pin { path: path.to_path_buf(), source })?;
    }
    Ok(())
}

/// Whether a namespace is pinned at this path.
#[must_use]
pub fn is_pinned(path: &Path) -> bool {
    statfs(path).is_ok_and(|fs| fs.filesystem_type().0 == NSFS_MAGIC)
}

/// Takes a pin away, however often it was mounted; an absent pin is no error. The namespace itself
/// lives on as long as a process or socket is in it.
///
/// # Errors
/// When the file cannot be unmounted or removed.
pub fn unpin(path: &Path) -> Result<(), NamespaceError> {
    let failed = |source: io::Error| NamespaceError::Remove { path: path.to_path_buf(), source };
    while is_pinned(path) {
        umount2(path, MntFlags::MNT_DETACH).map_err(|errno| failed(errno.into()))?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    }
}

/// A pinned network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    path: PathBuf,
}

impl Namespace {
    /// Makes a network namespace pinned at `path`; one that stands there already is opened. All
    /// links are down, the loopback too (see `Links::set_loopback_up`).
    ///
    /// # Errors
    /// See [`pin`].
    pub fn create(path: &Path) -> Result<Self, NamespaceError> {
        if !is_pinned(path) {
            pin(&[(Kind::Net, path)], None)?;
        }
        Self::open(path)
    }

    /// The namespace pinned at `path`.
    ///
    /// # Errors
    /// When nothing is pinned there.
    pub fn open(path: &Path) -> Result<Self, NamespaceError> {
        if is_pinned(path) {
            Ok(Self { path: path.to_owned() })
        } else {
            Err(NamespaceError::NotPinned { path: path.to_owned() })
        }
    }

    /// Where it is pinned.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The namespace as a file, for `setns(2)` and for moving links into it.
    ///
    /// # Errors
    /// When the pin is gone.
    pub fn file(&self) -> Result<File, NamespaceError> {
        File::open(&self.path)
            .map_err(|source| NamespaceError::Open { path: self.path.clone(), source })
    }

    /// Runs `work` inside the namespace, on a thread that ends with it. Sockets made there stay
    /// in the namespace. Blocks the caller: keep `work` short.
    ///
    /// # Errors
    /// When the namespace cannot be entered or `work` panics.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NamespaceError> {
        let file = self.file()?;
        thread::scope(|scope| {
            scope
                .spawn(move || {
                    setns(file, CloneFlags::CLONE_NEWNET).map_err(|source| {
                        NamespaceError::Enter { path: self.path.clone(), source }
                    })?;
                    Ok(work())
                })
                .join()
                .unwrap_or_else(|_| Err(NamespaceError::Panicked { path: self.path.clone() }))
        })
    }

    /// Takes the pin away; see [`unpin`].
    ///
    /// # Errors
    /// See [`unpin`].
    pub fn remove(self) -> Result<(), NamespaceError> {
        unpin(&self.path)
    }
}

/// Writes a sysctl of the current network namespace, `key` as in `net/ipv4/ip_forward`; writes
/// nothing if it has that value. Inside a pinned namespace: call it through [`Namespace::run`].
///
/// # Errors
/// When the file is absent or not writable.
pub fn set_sysctl(key: &str, value: &str) -> io::Result<()> {
    let path = Path::new("/proc/sys").join(key);
    if std::fs::read_to_string(&path)?.trim() == value {
        return Ok(());
    }
    std::fs::write(path, value)
}
