//! Where the files of a cluster live.
//!
//! ```text
//! /var/lib/minictl/labs/NAME/   (or DIR/labs/NAME with --state-dir DIR; machine/ for `up`)
//!   lab.json          what was asked for
//!   lock              held by the supervisor as long as it lives; its pid is inside
//!   processes.json    what the supervisor runs
//!   pki/              the cluster's authority
//!   kubeconfig        the administrator's; node-N.kubeconfig: the nodes'
//!   data/             the API server's store
//!   containerd/       root/, state/, containerd.sock, config.toml
//!   nodes/NAME/       what an agent must remember; logs/ of containers below it
//!   log/              output of each process
//! ```

use std::path::{Path, PathBuf};

/// The folder of all clusters unless told otherwise.
pub const STATE: &str = "/var/lib/minictl";
/// Where built images are kept between labs.
pub const IMAGE_CACHE: &str = "/var/cache/minictl/images";
/// Where `ip netns` looks for names.
pub const NETNS: &str = "/run/netns";

/// The files of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    dir: PathBuf,
}

impl Paths {
    /// The lab of that name below `state`.
    #[must_use]
    pub fn lab(state: &Path, name: &str) -> Self {
        Self { dir: state.join("labs").join(name) }
    }

    /// The cluster of the machine itself.
    #[must_use]
    pub fn machine(state: &Path) -> Self {
        Self { dir: state.join("machine") }
    }

    /// The cluster whose folder is known.
    #[must_use]
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The cluster's folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What was asked for.
    #[must_use]
    pub fn spec(&self) -> PathBuf {
        self.dir.join("lab.json")
    }

    /// Held by the supervisor.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }

    /// What the supervisor runs.
    #[must_use]
    pub fn processes(&self) -> PathBuf {
        self.dir.join("processes.json")
    }

    /// The authority.
    #[must_use]
    pub fn pki(&self) -> PathBuf {
        self.dir.join("pki")
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    /// A node's kubeconfig.
    #[must_use]
    pub fn node_kubeconfig(&self, node: &str) -> PathBuf {
        self.dir.join(format!("{node}.kubeconfig"))
    }

    /// The store of the API server.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Our own containerd.
    #[must_use]
    pub fn containerd(&self) -> PathBuf {
        self.dir.join("containerd")
    }

    /// The socket of our own containerd.
    #[must_use]
    pub fn containerd_socket(&self) -> PathBuf {
        self.containerd().join("containerd.sock")
    }

    /// What an agent must remember.
    #[must_use]
    pub fn node(&self, node: &str) -> PathBuf {
        self.dir.join("nodes").join(node)
    }

    /// The output of a process.
    #[must_use]
    pub fn log(&self, process: &str) -> PathBuf {
        self.dir.join("log").join(format!("{process}.log"))
    }
}

/// The pin of a lab host's namespace, where `ip netns` finds it.
#[must_use]
pub fn namespace(name: &str) -> PathBuf {
    Path::new(NETNS).join(name)
}
