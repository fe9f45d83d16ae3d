//! A pod's sandbox: pinned namespaces, its link on the node's bridge, its files.
//!
//! There is no pause process: namespaces are pinned by bind mounts in the pod's folder, containers
//! join them by path. Invariants: what stands is found by its path or name, so that every step can
//! be repeated; removal goes on past errors and reports them all. Deliberately not here: which
//! pods get one, volumes, containers.

mod addresses;
mod files;
mod network;
mod repair;

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::Pod;
use netns::{Kind, NamespaceError, namespace};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

pub(crate) use addresses::AddressPools;
pub(crate) use files::{DnsFacts, host_name};
pub(crate) use network::{NodeNetwork, Wired};
pub(crate) use repair::keep;

use crate::spec::NamespacePaths;

/// Size of a pod's `/dev/shm`, as containerd's CRI plugin.
const SHM_OPTIONS: &str = "mode=1777,size=65536k";

/// The step of making or removing a sandbox that failed.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A file or folder of the pod.
    #[error("{op} {}", path.display())]
    File {
        /// What was done to it.
        op: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A namespace.
    #[error("pin the pod's namespaces")]
    Namespace(#[source] NamespaceError),
    /// A link, address or route.
    #[error("connect the pod to the node's bridge")]
    Link(#[source] netns::LinkError),
    /// No address is free.
    #[error("no free address is left in {cidr}")]
    NoAddress {
        /// The node's pod CIDR.
        cidr: ipnet::IpNet,
    },
}

pub(crate) fn file_error(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SandboxError {
    let path = path.to_owned();
    move |source| SandboxError::File { op, path, source }
}

/// The places of one pod on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodFolder {
    root: PathBuf,
}

impl PodFolder {
    /// The folder of all pods.
    pub(crate) fn all(state_dir: &Path) -> PathBuf {
        state_dir.join("pods")
    }

    pub(crate) fn new(state_dir: &Path, uid: &str) -> Self {
        Self { root: Self::all(state_dir).join(uid) }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn net(&self) -> PathBuf {
        self.root.join("net")
    }

    pub(crate) fn shm(&self) -> PathBuf {
        self.root.join("shm")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// FIFOs and sockets of one run of a container.
    pub(crate) fn io(&self, container: &str, attempt: u32) -> PathBuf {
        self.root.join("io").join(format!("{container}-{attempt}"))
    }

    /// The file behind a container's termination message.
    pub(crate) fn termination_log(&self, container: &str, attempt: u32) -> PathBuf {
        self.io(container, attempt).join("termination-log")
    }

    /// Where the pod's namespaces are pinned.
    pub(crate) fn namespaces(&self, pod: &Pod, host_net: &Path) -> NamespacePaths {
        let net = if on_host_network(pod) { host_net.to_owned() } else { self.net() };
        NamespacePaths { net, ipc: self.root.join("ipc"), uts: self.root.join("uts") }
    }
}

/// Whether a pod uses the node's own network.
pub(crate) fn on_host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true)
}

/// The same, of a pod whose spec is not at hand: it has a sandbox, but no address of its own.
pub(crate) fn on_host_network_record(record: &crate::pod::PodRecord) -> bool {
    record.sandbox.as_ref().is_some_and(|sandbox| sandbox.ips.is_empty())
}

/// Pins the network namespace of this thread, the node's own, so that containers can join it
/// whatever namespace containerd itself runs in.
pub(crate) fn pin_host_network(state_dir: &Path) -> Result<PathBuf, SandboxError> {
    let path = state_dir.join("host-net");
    fs::create_dir_all(state_dir).map_err(file_error("create", state_dir))?;
    // A pin of an earlier life may show another namespace.
    namespace::unpin(&path).map_err(SandboxError::Namespace)?;
    fs::write(&path, []).map_err(file_error("create", &path))?;
    let own = Some("/proc/thread-self/ns/net");
    mount(own, &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(|errno| file_error("pin the node's network to", &path)(errno.into()))?;
    Ok(path)
}

/// Makes namespaces, shared memory and files of a pod. One with addresses is connected to the
/// bridge, one without is on the node's network. What an earlier try left is replaced.
pub(crate) async fn create(
    folder: &PodFolder,
    pod: &Pod,
    addresses: &[IpAddr],
    network: &NodeNetwork,
    dns: &DnsFacts<'_>,
) -> Result<(), SandboxError> {
    fs::create_dir_all(folder.root()).map_err(file_error("create", folder.root()))?;
    let hostname = host_name(pod, dns.node_name);
    let (net, ipc, uts) = (folder.net(), folder.file("ipc"), folder.file("uts"));
    for pin in [&net, &ipc, &uts] {
        namespace::unpin(pin).map_err(SandboxError::Namespace)?;
    }
    let mut pins = vec![(Kind::Ipc, ipc.as_path()), (Kind::Uts, uts.as_path())];
    if !addresses.is_empty() {
        pins.push((Kind::Net, net.as_path()));
    }
    netns::pin(&pins, Some(&hostname)).map_err(SandboxError::Namespace)?;
    mount_shm(&folder.shm())?;
    files::write(folder, pod, &hostname, addresses, dns)?;
    if !addresses.is_empty() {
        network.connect(pod, &net, addresses).await?;
    }
    Ok(())
}

fn mount_shm(path: &Path) -> Result<(), SandboxError> {
    unmount(path)?;
    fs::create_dir_all(path).map_err(file_error("create", path))?;
    let flags = MsFlags::MS_NOEXEC | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("shm"), path, Some("tmpfs"), flags, Some(SHM_OPTIONS))
        .map_err(|errno| file_error("mount shared memory on", path)(errno.into()))
}

/// Takes a mount away, however often it was made; an absent one is no error.
pub(crate) fn unmount(path: &Path) -> Result<(), SandboxError> {
    loop {
        match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            // Not a mount point, or nothing there: done.
            Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(file_error("unmount", path)(errno.into())),
        }
    }
}

/// Removes link, namespaces and mounts of a pod. The folder stays, for the record.
pub(crate) async fn remove(
    folder: &PodFolder,
    uid: &str,
    network: Option<&NodeNetwork>,
) -> Vec<SandboxError> {
    let mut errors = Vec::new();
    if let Some(network) = network
        && let Err(error) = network.disconnect(uid).await
    {
        errors.push(error);
    }
    for pin in ["net", "ipc", "uts"] {
        if let Err(error) = namespace::unpin(&folder.file(pin)) {
            errors.push(SandboxError::Namespace(error));
        }
    }
    if let Err(error) = unmount(&folder.shm()) {
        errors.push(error);
    }
    errors
}

/// Whether the sandbox of a record still stands: not after a reboot of the machine.
pub(crate) fn stands(folder: &PodFolder, host_network: bool) -> bool {
    namespace::is_pinned(&folder.file("uts"))
        && (host_network || namespace::is_pinned(&folder.net()))
}
