//! Writes a folder as an OCI image archive (image-spec: image layout in a tar), one layer.
//!
//! The same folder always gives the same bytes: entries are sorted, times and owners are zero.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Uncompressed: the archive never travels far, and importing it costs no inflating.
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// What the image says of itself.
pub(super) struct Image<'a> {
    pub(super) reference: &'a str,
    pub(super) command: &'a [&'a str],
    pub(super) ports: &'a [u16],
    pub(super) stop_signal: &'a str,
}

struct Blob {
    digest: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        let hash: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        Self { digest: format!("sha256:{hash}"), bytes }
    }

    fn descriptor(&self, media_type: &str) -> serde_json::Value {
        json!({"mediaType": media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

/// Packs `root` into the archive `target`.
pub(super) fn write(image: &Image<'_>, root: &Path, target: &Path) -> Result<()> {
    let layer = Blob::new(layer(root).context("pack the layer")?);
    let ports: serde_json::Map<String, serde_json::Value> =
        image.ports.iter().map(|port| (format!("{port}/tcp"), json!({}))).collect();
    let config = Blob::new(serde_json::to_vec(&json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": image.command,
            "ExposedPorts": ports,
            "StopSignal": image.stop_signal,
        },
        "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
    }))?);
    let manifest = Blob::new(serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.descriptor(CONFIG),
        "layers": [layer.descriptor(LAYER)],
    }))?);
    let mut descriptor = manifest.descriptor(MANIFEST);
    descriptor["annotations"] = json!({
        "io.containerd.image.name": image.reference,
        "org.opencontainers.image.ref.name": image.reference,
    });
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor]});

    let mut archive = Builder::new(File::create(target)?);
    put(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    put(&mut archive, "index.json", &serde_json::to_vec(&index)?)?;
    for blob in [&manifest, &config, &layer] {
        let path = format!("blobs/{}", blob.digest.replace(':', "/"));
        put(&mut archive, &path, &blob.bytes)?;
    }
    archive.into_inner()?.flush()?;
    Ok(())
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn put<W: Write>(archive: &mut Builder<W>, path: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_entry_type(EntryType::Regular);
    archive.append_data(&mut header, path, bytes)
}

fn layer(root: &Path) -> io::Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    add_folder(&mut archive, root, Path::new(""))?;
    archive.into_inner()
}

fn add_folder(archive: &mut Builder<Vec<u8>>, root: &Path, below: &Path) -> io::Result<()> {
    let mut names: Vec<_> = std::fs::read_dir(root.join(below))?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<io::Result<_>>()?;
    names.sort();
    for name in names {
        add_entry(archive, root, &below.join(name))?;
    }
    Ok(())
}

fn add_entry(archive: &mut Builder<Vec<u8>>, root: &Path, path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let full = root.join(path);
    let metadata = full.symlink_metadata()?;
    let mut header = Header::new_gnu();
    header.set_mode(metadata.permissions().mode() & 0o7777);
    if metadata.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        return archive.append_link(&mut header, path, std::fs::read_link(&full)?);
    }
    if metadata.is_dir() {
        header.set_entry_type(EntryType::Directory);
        header.set_size(0);
        archive.append_data(&mut header, path, io::empty())?;
        return add_folder(archive, root, path);
    }
    let mut bytes = Vec::new();
    File::open(&full)?.read_to_end(&mut bytes)?;
    header.set_entry_type(EntryType::Regular);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, path, &*bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_a_layout_whose_index_leads_to_the_layer() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("bin")).unwrap();
        std::fs::write(root.join("bin/hello"), "hi").unwrap();
        std::os::unix::fs::symlink("hello", root.join("bin/hullo")).unwrap();
        let image = Image {
            reference: "hello",
            command: &["/bin/hello"],
            ports: &[80],
            stop_signal: "SIGTERM",
        };
        let (first, second) = (dir.path().join("a.tar"), dir.path().join("b.tar"));
        write(&image, &root, &first).unwrap();
        write(&image, &root, &second).unwrap();
        assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap());

        let out = dir.path().join("out");
        tar::Archive::new(File::open(&first).unwrap()).unpack(&out).unwrap();
        let read = |path: &str| -> serde_json::Value {
            serde_json::from_slice(&std::fs::read(out.join(path)).unwrap()).unwrap()
        };
        let blob = |descriptor: &serde_json::Value| {
            format!("blobs/{}", descriptor["digest"].as_str().unwrap().replace(':', "/"))
        };
        let index = read("index.json");
        assert_eq!(
            index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"],
            "hello"
        );
        let manifest = read(&blob(&index["manifests"][0]));
        assert_eq!(read(&blob(&manifest["config"]))["config"]["Cmd"][0], "/bin/hello");
        let layer = std::fs::read(out.join(blob(&manifest["layers"][0]))).unwrap();
        let mut archive = tar::Archive::new(&*layer);
        let paths: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(paths, ["bin", "bin/hello", "bin/hullo"]);
    }
}
