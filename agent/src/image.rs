//! Images: names, archives, import, unpacking, lookup.
//!
//! Inputs: names as people write them, archives on disk. Outputs: [`Image`]s that are ready to
//! run, that is unpacked into snapshots. Invariants: an image record exists only when all of its
//! blobs do; importing what is there already does nothing. Deliberately not here: pulling.

mod archive;
mod blobs;
mod import;
mod reference;
mod store;

use std::path::PathBuf;

pub(crate) use import::ensure_namespace;
pub use import::import_image;
pub(crate) use reference::normalize;
pub(crate) use store::{Image, ListedImage, list_images, lookup, watch_imports};

use crate::runtime::RuntimeError;

/// Why an image could not be read, imported or prepared.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The archive could not be read.
    #[error("read the image archive {}", archive.display())]
    ReadArchive {
        /// The archive.
        archive: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The archive lacks a file that it must have.
    #[error("the image archive {} has no {entry}", archive.display())]
    MissingEntry {
        /// The archive.
        archive: PathBuf,
        /// The file inside it.
        entry: String,
    },
    /// A document of the image is not what it should be.
    #[error("understand {document}")]
    Parse {
        /// Which document.
        document: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The archive has neither `index.json` nor `manifest.json`.
    #[error(
        "{} is neither an OCI image layout nor a docker-archive \
         (no index.json, no manifest.json)",
        archive.display()
    )]
    UnknownFormat {
        /// The archive.
        archive: PathBuf,
    },
    /// The archive has no image for this machine.
    #[error("{what} has no image for linux/{architecture}")]
    NoPlatform {
        /// The archive or index.
        what: String,
        /// What was looked for, in Go's words (`amd64`).
        architecture: &'static str,
    },
    /// The archive does not say what its image is called.
    #[error("the image archive {} does not name its image", archive.display())]
    Unnamed {
        /// The archive.
        archive: PathBuf,
    },
    /// The name is no image name.
    #[error("couldn't parse image name {name:?}: invalid reference format")]
    InvalidName {
        /// What was written.
        name: String,
    },
    /// A layer unpacked to something else than the image says.
    #[error("layer {layer} unpacked to {got}, the image says {expected}")]
    WrongLayer {
        /// Digest of the layer.
        layer: String,
        /// Digest that it should unpack to.
        expected: String,
        /// Digest that it unpacked to.
        got: String,
    },
    /// containerd refused.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

/// This machine's architecture in the words of image manifests.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

pub(crate) fn parse<T: serde::de::DeserializeOwned>(
    document: &str,
    bytes: &[u8],
) -> Result<T, ImageError> {
    serde_json::from_slice(bytes)
        .map_err(|source| ImageError::Parse { document: document.to_owned(), source })
}

/// `sha256:…` of some bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    use std::fmt::Write as _;
    let mut text = String::with_capacity(71);
    text.push_str("sha256:");
    for byte in sha2::Sha256::digest(bytes) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
