//! Containers and their snapshots: create, list, read back, delete.
//!
//! Invariants: [`Containerd::create_container`] leaves either a container with its snapshot or
//! nothing; deleting what is gone already succeeds.

use std::collections::HashMap;

use containerd_client::{
    services::v1::{
        Container, CreateContainerRequest, DeleteContainerRequest, GetContainerRequest,
        ListContainersRequest,
        container::Runtime,
        containers_client::ContainersClient,
        snapshots::{
            PrepareSnapshotRequest, RemoveSnapshotRequest, ViewSnapshotRequest,
            snapshots_client::SnapshotsClient,
        },
    },
    types::Mount,
};
use oci_spec::runtime::Spec;
use prost_types::Any;

use super::{Containerd, RuntimeError, SNAPSHOTTER, SPEC_TYPE, call};

/// What a new container is made of.
#[derive(Debug)]
pub(crate) struct NewContainer<'a> {
    /// Its id; the snapshot has the same key.
    pub(crate) id: &'a str,
    /// The image's full name.
    pub(crate) image: &'a str,
    /// The image's top layer: the parent of the snapshot.
    pub(crate) chain_id: &'a str,
    /// How to run it.
    pub(crate) spec: &'a Spec,
    /// Labels that tell us later whose it is.
    pub(crate) labels: HashMap<String, String>,
}

impl Containerd {
    pub(crate) fn snapshots(&self) -> SnapshotsClient<tonic::transport::Channel> {
        SnapshotsClient::new(self.channel.clone())
    }

    fn containers(&self) -> ContainersClient<tonic::transport::Channel> {
        ContainersClient::new(self.channel.clone()).max_decoding_message_size(64 << 20)
    }

    /// Makes the writable snapshot and the container record; returns the mounts of its root.
    ///
    /// # Errors
    /// The step that containerd refused; nothing is left then.
    pub(crate) async fn create_container(
        &self,
        new: &NewContainer<'_>,
    ) -> Result<Vec<Mount>, RuntimeError> {
        self.leased("create", async |leased: Self| {
            let mounts = leased.prepare(new.id, new.chain_id).await?;
            if let Err(error) = leased.record_container(new).await {
                self.remove_snapshot(new.id).await?;
                return Err(error);
            }
            Ok(mounts)
        })
        .await
    }

    async fn prepare(&self, key: &str, parent: &str) -> Result<Vec<Mount>, RuntimeError> {
        let prepare = PrepareSnapshotRequest {
            snapshotter: SNAPSHOTTER.to_owned(),
            key: key.to_owned(),
            parent: parent.to_owned(),
            labels: HashMap::new(),
        };
        let answer = self.snapshots().prepare(self.request(prepare)).await;
        Ok(answer.map_err(call("prepare the root of", key))?.into_inner().mounts)
    }

    async fn record_container(&self, new: &NewContainer<'_>) -> Result<(), RuntimeError> {
        let spec = serde_json::to_vec(new.spec)
            .map_err(|source| RuntimeError::Spec { subject: new.id.to_owned(), source })?;
        let container = Container {
            id: new.id.to_owned(),
            image: new.image.to_owned(),
            labels: new.labels.clone(),
            snapshotter: SNAPSHOTTER.to_owned(),
            snapshot_key: new.id.to_owned(),
            runtime: Some(Runtime { name: "io.containerd.runc.v2".to_owned(), options: None }),
            spec: Some(Any { type_url: SPEC_TYPE.to_owned(), value: spec }),
            ..Container::default()
        };
        let create = CreateContainerRequest { container: Some(container) };
        self.containers()
            .create(self.request(create))
            .await
            .map_err(call("create container", new.id))?;
        Ok(())
    }

    /// The ids of all containers of this namespace.
    pub(crate) async fn list_containers(&self) -> Result<Vec<String>, RuntimeError> {
        let answer = self
            .containers()
            .list(self.request(ListContainersRequest { filters: Vec::new() }))
            .await
            .map_err(call("list", "containers"))?;
        Ok(answer.into_inner().containers.into_iter().map(|container| container.id).collect())
    }

    async fn container(&self, id: &str) -> Result<Container, RuntimeError> {
        let get = self.request(GetContainerRequest { id: id.to_owned() });
        let answer = self.containers().get(get).await.map_err(call("read container", id))?;
        Ok(answer.into_inner().container.unwrap_or_default())
    }

    /// The labels a container was made with.
    pub(crate) async fn container_labels(
        &self,
        id: &str,
    ) -> Result<HashMap<String, String>, RuntimeError> {
        Ok(self.container(id).await?.labels)
    }

    /// The spec a container was made with.
    pub(crate) async fn container_spec(&self, id: &str) -> Result<Spec, RuntimeError> {
        let spec = self.container(id).await?.spec.ok_or_else(|| RuntimeError::Incomplete {
            op: "read container",
            subject: id.to_owned(),
            missing: "a spec",
        })?;
        serde_json::from_slice(&spec.value)
            .map_err(|source| RuntimeError::Spec { subject: id.to_owned(), source })
    }

    /// Removes the container's record and snapshot. Its task must be gone.
    pub(crate) async fn delete_container(&self, id: &str) -> Result<(), RuntimeError> {
        let delete = DeleteContainerRequest { id: id.to_owned() };
        let answer = self.containers().delete(self.request(delete)).await;
        tolerate_missing(answer.map(|_| ()).map_err(call("delete container", id)))?;
        self.remove_snapshot(id).await
    }

    /// Removes a snapshot. The collector may have been faster: that is no error.
    pub(crate) async fn remove_snapshot(&self, key: &str) -> Result<(), RuntimeError> {
        let remove =
            RemoveSnapshotRequest { snapshotter: SNAPSHOTTER.to_owned(), key: key.to_owned() };
        let answer = self.snapshots().remove(self.request(remove)).await;
        tolerate_missing(answer.map(|_| ()).map_err(call("remove snapshot", key)))
    }

    /// The folders of an image's layers, as the mounts of a view that is removed again.
    pub(crate) async fn view_mounts(
        &self,
        key: &str,
        chain_id: &str,
    ) -> Result<Vec<Mount>, RuntimeError> {
        let view = ViewSnapshotRequest {
            snapshotter: SNAPSHOTTER.to_owned(),
            key: key.to_owned(),
            parent: chain_id.to_owned(),
            labels: HashMap::new(),
        };
        self.leased("view", async |leased: Self| {
            let answer = leased.snapshots().view(leased.request(view)).await;
            let mounts = answer.map_err(call("look into image", chain_id))?.into_inner().mounts;
            leased.remove_snapshot(key).await?;
            Ok(mounts)
        })
        .await
    }
}

/// Teardown converges: what is gone already is a success.
pub(super) fn tolerate_missing(outcome: Result<(), RuntimeError>) -> Result<(), RuntimeError> {
    match outcome {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}
