//! A containerd of the cluster's own: its own root, state and socket, so that it touches no other.

use std::io;
use std::path::{Path, PathBuf};

use crate::paths::Paths;

/// The socket of a containerd that the machine runs as a service.
pub const MACHINE_SOCKET: &str = "/run/containerd/containerd.sock";

/// The configuration file of a cluster's own containerd.
#[must_use]
pub fn config_file(paths: &Paths) -> PathBuf {
    paths.containerd().join("config.toml")
}

/// Writes the configuration.
///
/// # Errors
/// When the folder or file cannot be written.
pub fn write_config(paths: &Paths) -> io::Result<()> {
    std::fs::create_dir_all(paths.containerd())?;
    std::fs::write(config_file(paths), config(&paths.containerd()))
}

/// Version 2 of the format is read by containerd 1.5 to 2.x. Plugins that we never call are off:
/// the CRI above all, and snapshotters that need other file systems.
fn config(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        r#"version = 2
root = "{dir}/root"
state = "{dir}/state"
disabled_plugins = [
  "io.containerd.grpc.v1.cri",
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
  address = "{dir}/containerd.sock"
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_of_containerd_lives_in_the_clusters_folder() {
        let config = config(Path::new("/state/labs/lab/containerd"));
        for line in [
            r#"root = "/state/labs/lab/containerd/root""#,
            r#"state = "/state/labs/lab/containerd/state""#,
            r#"  address = "/state/labs/lab/containerd/containerd.sock""#,
        ] {
            assert!(config.lines().any(|l| l == line), "{line} in\n{config}");
        }
    }
}
