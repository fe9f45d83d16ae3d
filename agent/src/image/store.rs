//! Images that containerd has: lookup, list, unpacking into snapshots.

use std::time::Duration;

use containerd_client::{
    services::v1::{
        ApplyRequest, GetImageRequest, ListImagesRequest, SubscribeRequest,
        diff_client::DiffClient,
        events_client::EventsClient,
        images_client::ImagesClient,
        snapshots::{
            CommitSnapshotRequest, PrepareSnapshotRequest, RemoveSnapshotRequest,
            StatSnapshotRequest,
        },
    },
    types::Descriptor,
};
use oci_spec::image::{Config, Descriptor as Layer, ImageConfiguration, ImageManifest};
use tokio::sync::watch;
use tonic::Code;

use super::{ImageError, blobs, digest, parse};
use crate::runtime::{Containerd, RuntimeError, SNAPSHOTTER, call, uuid_like};

/// An image that is ready to run.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// Full name.
    pub(crate) name: String,
    /// Digest of its manifest.
    pub(crate) digest: String,
    /// Key of the snapshot with all of its layers.
    pub(crate) chain_id: String,
    /// What it says about running it.
    pub(crate) config: Config,
}

/// An image as the node's status lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedImage {
    /// Full name.
    pub(crate) name: String,
    /// Digest of its manifest.
    pub(crate) digest: String,
    /// Bytes of its manifest's target.
    pub(crate) size: i64,
}

pub(super) fn images(containerd: &Containerd) -> ImagesClient<tonic::transport::Channel> {
    ImagesClient::new(containerd.channel.clone())
}

/// The digest an image name points to; `None` if there is no such image.
pub(super) async fn target(
    containerd: &Containerd,
    name: &str,
) -> Result<Option<String>, RuntimeError> {
    let get = GetImageRequest { name: name.to_owned() };
    match images(containerd).get(containerd.request(get)).await {
        Ok(answer) => {
            Ok(answer.into_inner().image.and_then(|image| image.target).map(|target| target.digest))
        }
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(call("look up image", name)(status)),
    }
}

/// The image of a full name, unpacked; `None` if containerd does not have it.
///
/// # Errors
/// An image that is damaged, or a refusal of containerd.
pub(crate) async fn lookup(
    containerd: &Containerd,
    name: &str,
) -> Result<Option<Image>, ImageError> {
    let Some(digest) = target(containerd, name).await? else { return Ok(None) };
    let manifest: ImageManifest = parse(&digest, &blobs::read(containerd, &digest).await?)?;
    let config = configuration(containerd, &manifest).await?;
    let chain = chain_ids(config.rootfs().diff_ids());
    let chain_id = chain.last().cloned().unwrap_or_default();
    if !has_snapshot(containerd, &chain_id).await {
        let unpacking = async |leased| unpack(&leased, name, &manifest).await;
        containerd.leased("unpack", unpacking).await?;
    }
    let config = config.config().clone().unwrap_or_default();
    Ok(Some(Image { name: name.to_owned(), digest, chain_id, config }))
}

/// Every image of the namespace.
pub(crate) async fn list_images(containerd: &Containerd) -> Result<Vec<ListedImage>, RuntimeError> {
    let answer = images(containerd)
        .list(containerd.request(ListImagesRequest { filters: Vec::new() }))
        .await
        .map_err(call("list", "images"))?;
    let listed = answer.into_inner().images.into_iter().filter_map(|image| {
        let target = image.target?;
        Some(ListedImage { name: image.name, digest: target.digest, size: target.size })
    });
    Ok(listed.collect())
}

/// Tells whenever containerd gets an image, so that pods need not wait for their next try.
pub(crate) async fn watch_imports(containerd: Containerd, imports: watch::Sender<()>) {
    const RETRY: Duration = Duration::from_secs(1);
    let filters = vec![r#"topic=="/images/create""#.to_owned()];
    loop {
        let subscribe = containerd.request(SubscribeRequest { filters: filters.clone() });
        // Answers only with the first event: a server in Go sends its headers no sooner.
        let mut events = EventsClient::new(containerd.channel.clone());
        if let Ok(stream) = events.subscribe(subscribe).await {
            let mut stream = stream.into_inner();
            imports.send_replace(());
            while let Ok(Some(_)) = stream.message().await {
                imports.send_replace(());
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn configuration(
    containerd: &Containerd,
    manifest: &ImageManifest,
) -> Result<ImageConfiguration, ImageError> {
    let name = manifest.config().digest().to_string();
    parse(&name, &blobs::read(containerd, &name).await?)
}

async fn has_snapshot(containerd: &Containerd, key: &str) -> bool {
    let stat = StatSnapshotRequest { snapshotter: SNAPSHOTTER.to_owned(), key: key.to_owned() };
    containerd.snapshots().stat(containerd.request(stat)).await.is_ok()
}

/// Unpacks the layers that are not unpacked yet. The caller holds a lease.
pub(super) async fn unpack(
    containerd: &Containerd,
    name: &str,
    manifest: &ImageManifest,
) -> Result<(), ImageError> {
    let config = configuration(containerd, manifest).await?;
    let diff_ids = config.rootfs().diff_ids();
    let chain = chain_ids(diff_ids);
    let mut parent = String::new();
    for ((layer, diff_id), key) in manifest.layers().iter().zip(diff_ids).zip(&chain) {
        if !has_snapshot(containerd, key).await {
            tracing::debug!(image = name, layer = %layer.digest(), "unpack");
            unpack_layer(containerd, layer, diff_id, &parent, key).await?;
        }
        parent.clone_from(key);
    }
    Ok(())
}

async fn unpack_layer(
    containerd: &Containerd,
    layer: &Layer,
    diff_id: &str,
    parent: &str,
    chain_id: &str,
) -> Result<(), ImageError> {
    let key = format!("extract-{}-{chain_id}", uuid_like());
    let outcome = apply(containerd, layer, diff_id, parent, &key).await;
    if outcome.is_ok() {
        let commit = CommitSnapshotRequest {
            snapshotter: SNAPSHOTTER.to_owned(),
            name: chain_id.to_owned(),
            key: key.clone(),
            ..CommitSnapshotRequest::default()
        };
        match containerd.snapshots().commit(containerd.request(commit)).await {
            // Somebody else unpacked the same layer meanwhile: theirs is as good, ours goes.
            Err(status) if status.code() == Code::AlreadyExists => {}
            other => {
                other.map_err(call("commit layer", chain_id)).map_err(ImageError::Runtime)?;
                return Ok(());
            }
        }
    }
    let remove = RemoveSnapshotRequest { snapshotter: SNAPSHOTTER.to_owned(), key };
    // Best effort: the first error is the one worth telling, and the collector comes after us.
    let _ = containerd.snapshots().remove(containerd.request(remove)).await;
    outcome
}

async fn apply(
    containerd: &Containerd,
    layer: &Layer,
    diff_id: &str,
    parent: &str,
    key: &str,
) -> Result<(), ImageError> {
    let digest = layer.digest().to_string();
    let prepare = PrepareSnapshotRequest {
        snapshotter: SNAPSHOTTER.to_owned(),
        key: key.to_owned(),
        parent: parent.to_owned(),
        ..PrepareSnapshotRequest::default()
    };
    let prepared = containerd.snapshots().prepare(containerd.request(prepare)).await;
    let mounts = prepared.map_err(call("prepare layer", &digest))?.into_inner().mounts;
    let diff = Descriptor {
        media_type: layer.media_type().to_string(),
        digest: digest.clone(),
        size: i64::try_from(layer.size()).unwrap_or(i64::MAX),
        ..Descriptor::default()
    };
    let apply = ApplyRequest { diff: Some(diff), mounts, ..ApplyRequest::default() };
    let applied = DiffClient::new(containerd.channel.clone())
        .apply(containerd.request(apply))
        .await
        .map_err(call("unpack layer", &digest))?;
    let got = applied.into_inner().applied.map(|applied| applied.digest).unwrap_or_default();
    if got == diff_id {
        Ok(())
    } else {
        Err(ImageError::WrongLayer { layer: digest, expected: diff_id.to_owned(), got })
    }
}

/// The snapshot keys of a stack of layers, bottom first (OCI image spec, "Layer ChainID").
pub(super) fn chain_ids(diff_ids: &[String]) -> Vec<String> {
    let mut chain: Vec<String> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let id = match chain.last() {
            None => diff_id.clone(),
            Some(parent) => digest(format!("{parent} {diff_id}").as_bytes()),
        };
        chain.push(id);
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::chain_ids;

    #[test]
    fn a_chain_id_names_a_layer_with_all_below_it() {
        let ids = chain_ids(&["sha256:a".to_owned(), "sha256:b".to_owned()]);
        assert_eq!(ids[0], "sha256:a");
        assert_eq!(ids[1], super::digest(b"sha256:a sha256:b"));
    }
}
