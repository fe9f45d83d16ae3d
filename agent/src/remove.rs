//! Leaving nothing behind: containers, images, namespaces, mounts, cgroups and files of a node.
//!
//! Teardown goes on past errors and answers them all. Everything is found by our own names: the
//! containerd namespace, the state folder, the cgroup parent. With containerd away, processes are
//! found by their cgroup.

use std::{fs, io, path::PathBuf, time::Duration};

use containerd_client::services::v1::{
    CreateRequest, DeleteImageRequest, DeleteNamespaceRequest, DeleteRequest, ListImagesRequest,
    ListRequest, images_client::ImagesClient, leases_client::LeasesClient,
    namespaces_client::NamespacesClient,
};
use netns::{Links, namespace};

use crate::{
    config::Config,
    pod::{self, remove_container},
    runtime::{Containerd, RuntimeError, call, uuid_like},
    sandbox::{self, PodFolder, SandboxError},
    volumes,
};

/// How long processes may take to vanish after SIGKILL.
const VANISH: Duration = Duration::from_secs(5);

/// Where containerd's shims let runc keep its state, a folder per namespace.
const RUNC_ROOT: &str = "/run/containerd/runc";

/// What a node leaves, and where.
#[derive(Debug, Clone)]
pub struct Leftovers {
    /// containerd's socket; if nothing answers there, containers are ended by their cgroup.
    pub containerd_socket: PathBuf,
    /// The node's containerd namespace, which is removed with all that is in it.
    pub containerd_namespace: String,
    /// The agent's state, which is removed.
    pub state_dir: PathBuf,
    /// The containers' logs, which are removed.
    pub log_dir: PathBuf,
    /// The cgroup of the node's pods, which is removed.
    pub cgroup_parent: String,
    /// A bridge to remove from the calling thread's network namespace; `None` where that namespace
    /// is removed anyway.
    pub bridge: Option<String>,
}

impl From<&Config> for Leftovers {
    fn from(config: &Config) -> Self {
        Self {
            containerd_socket: config.containerd_socket.clone(),
            containerd_namespace: config.containerd_namespace.clone(),
            state_dir: config.state_dir.clone(),
            log_dir: config.log_dir.clone(),
            cgroup_parent: config.cgroup_parent.clone(),
            bridge: Some(config.bridge.clone()),
        }
    }
}

/// Something that could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// In containerd.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A namespace or mount of a pod.
    #[error("remove a pod's sandbox")]
    Sandbox(#[from] SandboxError),
    /// A volume's mount.
    #[error("{0}")]
    Volume(String),
    /// The bridge.
    #[error("remove the bridge")]
    Link(#[from] netns::LinkError),
    /// A folder.
    #[error("remove {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Removes everything that an agent has made. The agent must not be running. What is gone already
/// is no error; answers what stays, with why.
pub async fn remove_all(leftovers: &Leftovers) -> Vec<RemoveError> {
    let mut errors = Vec::new();
    let namespace = &leftovers.containerd_namespace;
    // With containerd away its records stay in its own folder, but no process of ours.
    if let Ok(containerd) = Containerd::connect(&leftovers.containerd_socket, namespace).await {
        errors.extend(empty_namespace(&containerd, namespace).await);
    }
    let cgroup = PathBuf::from("/").join(leftovers.cgroup_parent.trim_start_matches('/'));
    pod::kill_cgroup(&cgroup, VANISH).await;
    pod::remove_cgroup(&cgroup);
    errors.extend(remove_pods(leftovers).await);
    // runc's own folder of the namespace, which shims make and nobody removes. Another containerd
    // may have a namespace of the same name: then it is not empty and stays.
    let _ = fs::remove_dir(PathBuf::from(RUNC_ROOT).join(namespace));
    if let Some(bridge) = &leftovers.bridge {
        let removed = async { Links::here()?.delete(bridge).await };
        errors.extend(removed.await.err().map(RemoveError::from));
    }
    // A mount that stays must not have its contents removed.
    if errors.is_empty() {
        for path in [&leftovers.state_dir, &leftovers.log_dir] {
            match fs::remove_dir_all(path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    errors.push(RemoveError::Folder { path: path.clone(), source });
                }
                _ => {}
            }
        }
    }
    errors
}

async fn remove_pods(leftovers: &Leftovers) -> Vec<RemoveError> {
    let mut errors = Vec::new();
    let entries =
        fs::read_dir(PodFolder::all(&leftovers.state_dir)).into_iter().flatten().flatten();
    for entry in entries {
        let uid = entry.file_name().to_string_lossy().into_owned();
        let folder = PodFolder::new(&leftovers.state_dir, &uid);
        // Links go with the pods' namespaces.
        errors.extend(sandbox::remove(&folder, &uid, None).await.into_iter().map(Into::into));
        errors.extend(volumes::tear_down(&folder).into_iter().map(RemoveError::Volume));
    }
    let host_net = leftovers.state_dir.join("host-net");
    let unpinned = namespace::unpin(&host_net).map_err(SandboxError::Namespace);
    errors.extend(unpinned.err().map(RemoveError::from));
    errors
}

async fn empty_namespace(containerd: &Containerd, namespace: &str) -> Vec<RemoveError> {
    let mut errors: Vec<RemoveError> = Vec::new();
    match containerd.list_containers().await {
        Ok(ids) => {
            let removals = ids.iter().map(|id| remove_container(containerd, id));
            futures::future::join_all(removals).await;
        }
        Err(error) => errors.push(error.into()),
    }
    let steps = [
        remove_leases(containerd).await,
        remove_images(containerd).await,
        collect_garbage(containerd).await,
    ];
    errors.extend(steps.into_iter().filter_map(Result::err).map(RemoveError::from));
    let delete = DeleteNamespaceRequest { name: namespace.to_owned() };
    let deleted = NamespacesClient::new(containerd.channel.clone())
        .delete(containerd.request(delete))
        .await
        .map_err(call("delete namespace", namespace));
    errors.extend(gone_is_fine(deleted.map(|_| ())).err().map(RemoveError::from));
    errors
}

fn gone_is_fine(outcome: Result<(), RuntimeError>) -> Result<(), RuntimeError> {
    outcome.or_else(|error| if error.is_not_found() { Ok(()) } else { Err(error) })
}

async fn remove_images(containerd: &Containerd) -> Result<(), RuntimeError> {
    let mut images = ImagesClient::new(containerd.channel.clone());
    let list = images.list(containerd.request(ListImagesRequest { filters: Vec::new() })).await;
    let list = list.map_err(call("list", "images"))?.into_inner().images;
    for image in list {
        let delete = DeleteImageRequest { name: image.name.clone(), ..Default::default() };
        let deleted = images.delete(containerd.request(delete)).await;
        gone_is_fine(deleted.map(|_| ()).map_err(call("delete image", &image.name)))?;
    }
    Ok(())
}

async fn remove_leases(containerd: &Containerd) -> Result<(), RuntimeError> {
    let mut leases = LeasesClient::new(containerd.channel.clone());
    let list = leases.list(containerd.request(ListRequest { filters: Vec::new() })).await;
    let list = list.map_err(call("list", "leases"))?.into_inner().leases;
    for lease in list {
        let delete = DeleteRequest { id: lease.id.clone(), sync: false };
        let deleted = leases.delete(containerd.request(delete)).await;
        gone_is_fine(deleted.map(|_| ()).map_err(call("delete lease", &lease.id)))?;
    }
    Ok(())
}

/// Has containerd collect what nothing refers to any more: layers and blobs. Removing them one by
/// one would race with the collector, which forgets to tell a parent that its child is gone
/// (containerd 1.6, `metadata/gc.go`). The end of a lease is what one can wait on.
async fn collect_garbage(containerd: &Containerd) -> Result<(), RuntimeError> {
    let id = format!("minictl-collect-{}", uuid_like());
    let mut leases = LeasesClient::new(containerd.channel.clone());
    let create = CreateRequest { id: id.clone(), ..Default::default() };
    leases.create(containerd.request(create)).await.map_err(call("create lease", &id))?;
    let delete = DeleteRequest { id: id.clone(), sync: true };
    leases.delete(containerd.request(delete)).await.map_err(call("collect garbage by", &id))?;
    Ok(())
}
