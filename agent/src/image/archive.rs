//! Archives: what images a tar file holds, and where in it their blobs are.
//!
//! Input: an OCI image layout (`index.json`) or a docker-archive (`manifest.json`) in a plain tar
//! file. Output: [`Archive`], a table of contents, and [`ArchivedImage`]s. Blobs are read straight
//! out of the archive by offset; nothing is unpacked to disk.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Take},
    path::{Component, Path, PathBuf},
};

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use serde::Deserialize;

use super::{ImageError, architecture, digest, parse, reference::normalize};

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";
const LAYER_GZIP_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A tar file and where its entries lie.
#[derive(Debug)]
pub(crate) struct Archive {
    path: PathBuf,
    entries: HashMap<PathBuf, Extent>,
    links: HashMap<PathBuf, PathBuf>,
}

/// A stretch of the archive: first byte and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// First byte.
    pub(crate) offset: u64,
    /// Length in bytes.
    pub(crate) size: u64,
}

impl Extent {
    /// What is left of it after its first bytes.
    pub(crate) fn after(self, bytes: u64) -> Self {
        let skipped = bytes.min(self.size);
        Self { offset: self.offset + skipped, size: self.size - skipped }
    }
}

/// One image of an archive, under all of its names.
#[derive(Debug)]
pub(crate) struct ArchivedImage {
    /// Full names.
    pub(crate) names: Vec<String>,
    /// The manifest's bytes; its digest is the image's.
    pub(crate) manifest_bytes: Vec<u8>,
    /// The same, parsed.
    pub(crate) manifest: ImageManifest,
    /// Media type of the manifest.
    pub(crate) media_type: String,
    /// Where each blob (layers and config) lies, by digest.
    pub(crate) blobs: HashMap<String, Extent>,
}

#[derive(Deserialize)]
struct DockerManifest {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "RepoTags", default)]
    repo_tags: Option<Vec<String>>,
    #[serde(rename = "Layers", default)]
    layers: Vec<String>,
}

impl Archive {
    /// Reads the table of contents.
    pub(crate) fn open(path: &Path) -> Result<Self, ImageError> {
        let failed = |source| ImageError::ReadArchive { archive: path.to_owned(), source };
        let mut archive =
            Self { path: path.to_owned(), entries: HashMap::new(), links: HashMap::new() };
        let file = File::open(path).map_err(failed)?;
        for entry in tar::Archive::new(file).entries_with_seek().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = clean(&entry.path().map_err(failed)?);
            if let Some(target) = entry.link_name().map_err(failed)? {
                let base = match entry.header().entry_type() {
                    tar::EntryType::Symlink => name.parent().unwrap_or(Path::new("")).to_owned(),
                    _ => PathBuf::new(),
                };
                archive.links.insert(name, clean(&base.join(target)));
            } else {
                let extent = Extent { offset: entry.raw_file_position(), size: entry.size() };
                archive.entries.insert(name, extent);
            }
        }
        Ok(archive)
    }

    /// Where the archive is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A reader of one stretch.
    pub(crate) fn reader(&self, extent: Extent) -> io::Result<Take<File>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(extent.offset))?;
        Ok(file.take(extent.size))
    }

    /// The images for this machine.
    pub(crate) fn images(&self) -> Result<Vec<ArchivedImage>, ImageError> {
        let docker = match self.find("manifest.json") {
            Some(extent) => {
                Some(parse::<Vec<DockerManifest>>("manifest.json", &self.read(extent)?)?)
            }
            None => None,
        };
        match (self.find("index.json"), docker) {
            (Some(index), docker) => self.oci_images(index, docker.as_deref().unwrap_or_default()),
            (None, Some(docker)) => {
                docker.iter().map(|manifest| self.docker_image(manifest)).collect()
            }
            (None, None) => Err(ImageError::UnknownFormat { archive: self.path.clone() }),
        }
    }

    fn oci_images(
        &self,
        index: Extent,
        docker: &[DockerManifest],
    ) -> Result<Vec<ArchivedImage>, ImageError> {
        let index: ImageIndex = parse("index.json", &self.read(index)?)?;
        let mut images: Vec<ArchivedImage> = Vec::new();
        for descriptor in index.manifests().iter().filter(|d| runs_here(d)) {
            let Some(mut image) = self.oci_image(descriptor)? else { continue };
            image.names = match named(descriptor)? {
                names if names.is_empty() => docker_names(docker)?,
                names => names,
            };
            let target = digest(&image.manifest_bytes);
            // Several index entries may name the same image.
            match images.iter_mut().find(|known| digest(&known.manifest_bytes) == target) {
                Some(known) => known.names.append(&mut image.names),
                None => images.push(image),
            }
        }
        if images.is_empty() {
            let what = format!("the image archive {}", self.path.display());
            return Err(ImageError::NoPlatform { what, architecture: architecture() });
        }
        if images.iter().any(|image| image.names.is_empty()) {
            return Err(ImageError::Unnamed { archive: self.path.clone() });
        }
        Ok(images)
    }

    /// The image of a descriptor; an index is followed to the entry for this machine.
    fn oci_image(&self, descriptor: &Descriptor) -> Result<Option<ArchivedImage>, ImageError> {
        let name = descriptor.digest().to_string();
        let bytes = self.read(self.blob(&name)?)?;
        let media_type = descriptor.media_type().to_string();
        if media_type.contains("index") || media_type.contains("manifest.list") {
            let index: ImageIndex = parse(&name, &bytes)?;
            return match index.manifests().iter().find(|d| runs_here(d)) {
                Some(inner) => self.oci_image(inner),
                None => Ok(None),
            };
        }
        let manifest: ImageManifest = parse(&name, &bytes)?;
        let mut blobs = HashMap::new();
        for part in manifest.layers().iter().chain([manifest.config()]) {
            let digest = part.digest().to_string();
            blobs.insert(digest.clone(), self.blob(&digest)?);
        }
        let names = Vec::new();
        Ok(Some(ArchivedImage { names, manifest_bytes: bytes, manifest, media_type, blobs }))
    }

    /// Docker's own format has no manifest in OCI's sense: make the one it stands for.
    fn docker_image(&self, docker: &DockerManifest) -> Result<ArchivedImage, ImageError> {
        let config = self.require(&docker.config)?;
        let config_bytes = self.read(config)?;
        let config_digest = digest(&config_bytes);
        let document: oci_spec::image::ImageConfiguration = parse(&docker.config, &config_bytes)?;
        let mut blobs = HashMap::from([(config_digest.clone(), config)]);
        let mut layers = Vec::new();
        for (path, diff_id) in docker.layers.iter().zip(document.rootfs().diff_ids()) {
            let extent = self.require(path)?;
            // A plain layer's digest is its diff id; a compressed one must be read.
            let (media_type, layer) = if self.is_gzip(extent)? {
                (LAYER_GZIP_TYPE, self.digest_of(extent)?)
            } else {
                (LAYER_TYPE, diff_id.clone())
            };
            layers.push(serde_json::json!({
                "mediaType": media_type, "digest": layer, "size": extent.size,
            }));
            blobs.insert(layer, extent);
        }
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {
                "mediaType": CONFIG_TYPE, "digest": config_digest, "size": config.size,
            },
            "layers": layers,
        });
        let manifest_bytes = manifest.to_string().into_bytes();
        let names = docker_names(std::slice::from_ref(docker))?;
        if names.is_empty() {
            return Err(ImageError::Unnamed { archive: self.path.clone() });
        }
        Ok(ArchivedImage {
            names,
            manifest: parse("the generated manifest", &manifest_bytes)?,
            manifest_bytes,
            media_type: MANIFEST_TYPE.to_owned(),
            blobs,
        })
    }

    fn find(&self, name: &str) -> Option<Extent> {
        let mut path = clean(Path::new(name));
        // Links may point to links; a cycle ends after a few steps.
        for _ in 0..8 {
            if let Some(extent) = self.entries.get(&path) {
                return Some(*extent);
            }
            path = self.links.get(&path)?.clone();
        }
        None
    }

    fn require(&self, name: &str) -> Result<Extent, ImageError> {
        self.find(name).ok_or_else(|| ImageError::MissingEntry {
            archive: self.path.clone(),
            entry: name.to_owned(),
        })
    }

    fn blob(&self, digest: &str) -> Result<Extent, ImageError> {
        self.require(&format!("blobs/{}", digest.replace(':', "/")))
    }

    fn read(&self, extent: Extent) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        self.reader(extent)
            .and_then(|mut reader| reader.read_to_end(&mut bytes))
            .map_err(|source| ImageError::ReadArchive { archive: self.path.clone(), source })?;
        Ok(bytes)
    }

    fn is_gzip(&self, extent: Extent) -> Result<bool, ImageError> {
        Ok(self.read(Extent { size: extent.size.min(2), ..extent })? == [0x1f, 0x8b])
    }

    fn digest_of(&self, extent: Extent) -> Result<String, ImageError> {
        Ok(digest(&self.read(extent)?))
    }
}

fn runs_here(descriptor: &Descriptor) -> bool {
    descriptor.platform().as_ref().is_none_or(|platform| {
        platform.os().to_string() == "linux"
            && platform.architecture().to_string() == architecture()
    })
}

/// The names that an entry of `index.json` carries; a bare tag is no name.
fn named(descriptor: &Descriptor) -> Result<Vec<String>, ImageError> {
    let annotations = descriptor.annotations().clone().unwrap_or_default();
    let full = annotations.get("io.containerd.image.name").or_else(|| {
        annotations
            .get("org.opencontainers.image.ref.name")
            .filter(|name| name.contains(['/', ':']))
    });
    full.map(|name| normalize(name)).transpose().map(|name| name.into_iter().collect())
}

fn docker_names(manifests: &[DockerManifest]) -> Result<Vec<String>, ImageError> {
    manifests
        .iter()
        .flat_map(|manifest| manifest.repo_tags.iter().flatten())
        .map(|name| normalize(name))
        .collect()
}

/// A path without `.`, `..` and a leading slash, as tar files spell one entry in several ways.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => clean.push(part),
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests;
