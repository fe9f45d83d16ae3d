//! Import: an archive's images into containerd, unpacked and ready to run.
//!
//! Order: blobs, then config and manifest with the labels that hold their children, then the image
//! records, all under one lease; then the layers are unpacked. An image whose record has the same
//! digest and whose layers are unpacked is skipped.

use std::{collections::HashMap, io::Cursor, path::Path, sync::Arc};

use containerd_client::{
    services::v1::{
        CreateImageRequest, CreateNamespaceRequest, Image as Record, Namespace, UpdateImageRequest,
        namespaces_client::NamespacesClient,
    },
    types::Descriptor,
};
use oci_spec::image::ImageConfiguration;
use tonic::Code;

use super::{
    ImageError,
    archive::{Archive, ArchivedImage},
    blobs::{self, Blob},
    digest, parse,
    store::{self, chain_ids},
};
use crate::runtime::{Containerd, RuntimeError, SNAPSHOTTER, call};

/// Imports the images of an archive (an OCI layout or a docker-archive, as a plain tar file) into a
/// containerd namespace and unpacks them. Returns their full names, also of those that were there
/// already.
///
/// # Errors
/// No containerd, an archive that cannot be understood, or a refusal of containerd.
pub async fn import_image(
    socket: &Path,
    namespace: &str,
    archive: &Path,
) -> Result<Vec<String>, ImageError> {
    let containerd = Containerd::connect(socket, namespace).await?;
    ensure_namespace(&containerd, namespace).await?;
    let path = archive.to_owned();
    let opened = tokio::task::spawn_blocking(move || {
        let archive = Archive::open(&path)?;
        let images = archive.images()?;
        Ok::<_, ImageError>((archive, images))
    });
    let (archive, images) = opened.await.map_err(|source| ImageError::ReadArchive {
        archive: archive.to_owned(),
        source: std::io::Error::other(source),
    })??;
    let archive = Arc::new(archive);
    let mut names = Vec::new();
    for image in images {
        import(&containerd, &archive, &image).await?;
        names.extend(image.names);
    }
    Ok(names)
}

/// A containerd namespace has to be made once, before anything is put into it.
pub(crate) async fn ensure_namespace(
    containerd: &Containerd,
    name: &str,
) -> Result<(), RuntimeError> {
    let namespace = Namespace { name: name.to_owned(), labels: HashMap::new() };
    let create = CreateNamespaceRequest { namespace: Some(namespace) };
    let answer =
        NamespacesClient::new(containerd.channel.clone()).create(containerd.request(create)).await;
    match answer {
        Err(status) if status.code() == Code::AlreadyExists => Ok(()),
        other => other.map(|_| ()).map_err(call("create namespace", name)),
    }
}

async fn import(
    containerd: &Containerd,
    archive: &Arc<Archive>,
    image: &ArchivedImage,
) -> Result<(), ImageError> {
    let target = digest(&image.manifest_bytes);
    containerd
        .leased("import", async |leased: Containerd| {
            if !all_recorded(&leased, &image.names, &target).await? {
                store_blobs(&leased, archive, image, &target).await?;
                for name in &image.names {
                    record(&leased, name, image, &target).await?;
                }
            }
            if let Some(name) = image.names.first() {
                store::unpack(&leased, name, &image.manifest).await?;
            }
            Ok::<(), ImageError>(())
        })
        .await
}

async fn all_recorded(
    containerd: &Containerd,
    names: &[String],
    target: &str,
) -> Result<bool, ImageError> {
    for name in names {
        if store::target(containerd, name).await?.as_deref() != Some(target) {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn store_blobs(
    containerd: &Containerd,
    archive: &Arc<Archive>,
    image: &ArchivedImage,
    target: &str,
) -> Result<(), ImageError> {
    let config = image.manifest.config().digest().to_string();
    let mut references =
        HashMap::from([("containerd.io/gc.ref.content.config".to_owned(), config.clone())]);
    for (position, layer) in image.manifest.layers().iter().enumerate() {
        let layer = layer.digest().to_string();
        store_archived(containerd, archive, image, &layer, HashMap::new()).await?;
        references.insert(format!("containerd.io/gc.ref.content.l.{position}"), layer);
    }
    let labels = config_labels(archive, image, &config)?;
    store_archived(containerd, archive, image, &config, labels).await?;
    let bytes = image.manifest_bytes.clone();
    let size = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    let manifest = Blob { digest: target.to_owned(), size, labels: references };
    let from = move |offset| {
        let mut cursor = Cursor::new(bytes);
        cursor.set_position(offset);
        Ok(cursor)
    };
    blobs::write(containerd, manifest, from).await?;
    Ok(())
}

/// The config holds the image's unpacked layers.
fn config_labels(
    archive: &Archive,
    image: &ArchivedImage,
    config: &str,
) -> Result<HashMap<String, String>, ImageError> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    if let Some(extent) = image.blobs.get(config) {
        archive.reader(*extent).and_then(|mut reader| reader.read_to_end(&mut bytes)).map_err(
            |source| ImageError::ReadArchive { archive: archive.path().to_owned(), source },
        )?;
    }
    let document: ImageConfiguration = parse(config, &bytes)?;
    let top = chain_ids(document.rootfs().diff_ids()).pop();
    let key = format!("containerd.io/gc.ref.snapshot.{SNAPSHOTTER}");
    Ok(top.map(|top| (key, top)).into_iter().collect())
}

async fn store_archived(
    containerd: &Containerd,
    archive: &Arc<Archive>,
    image: &ArchivedImage,
    digest: &str,
    labels: HashMap<String, String>,
) -> Result<(), ImageError> {
    let Some(extent) = image.blobs.get(digest).copied() else {
        return Err(ImageError::MissingEntry {
            archive: archive.path().to_owned(),
            entry: digest.to_owned(),
        });
    };
    let size = i64::try_from(extent.size).unwrap_or(i64::MAX);
    let blob = Blob { digest: digest.to_owned(), size, labels };
    let archive = Arc::clone(archive);
    blobs::write(containerd, blob, move |offset| archive.reader(extent.after(offset))).await?;
    Ok(())
}

async fn record(
    containerd: &Containerd,
    name: &str,
    image: &ArchivedImage,
    target: &str,
) -> Result<(), ImageError> {
    let record = Record {
        name: name.to_owned(),
        target: Some(Descriptor {
            media_type: image.media_type.clone(),
            digest: target.to_owned(),
            size: i64::try_from(image.manifest_bytes.len()).unwrap_or(i64::MAX),
            annotations: HashMap::new(),
        }),
        ..Record::default()
    };
    let mut images = store::images(containerd);
    let create = CreateImageRequest { image: Some(record.clone()), source_date_epoch: None };
    match images.create(containerd.request(create)).await {
        Err(status) if status.code() == Code::AlreadyExists => {
            let update = UpdateImageRequest {
                image: Some(record),
                update_mask: None,
                source_date_epoch: None,
            };
            images.update(containerd.request(update)).await.map_err(call("update image", name))?;
        }
        other => {
            other.map_err(call("record image", name))?;
        }
    }
    Ok(())
}
