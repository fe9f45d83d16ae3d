//! Tests of image archives in both formats.

use super::*;
use serde_json::{Value, json};

/// A tar file with the given entries; a content that starts with `->` is a symbolic link.
fn archive(entries: &[(&str, &[u8])]) -> (tempfile::TempDir, Archive) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.tar");
    let mut builder = tar::Builder::new(File::create(&path).unwrap());
    for (name, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        if let Some(target) = content.strip_prefix(b"->") {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            let target = std::str::from_utf8(target).unwrap();
            builder.append_link(&mut header, name, target).unwrap();
        } else {
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, name, *content).unwrap();
        }
    }
    builder.finish().unwrap();
    let archive = Archive::open(&path).unwrap();
    (folder, archive)
}

fn config(layer: &[u8]) -> Vec<u8> {
    json!({
        "architecture": architecture(), "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer)]}, "history": [],
    })
    .to_string()
    .into_bytes()
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}

fn blob_path(bytes: &[u8]) -> String {
    format!("./blobs/{}", digest(bytes).replace(':', "/"))
}

fn manifest(config: &[u8], layer: &[u8]) -> Vec<u8> {
    json!({
        "schemaVersion": 2, "mediaType": MANIFEST_TYPE,
        "config": descriptor(CONFIG_TYPE, config), "layers": [descriptor(LAYER_TYPE, layer)],
    })
    .to_string()
    .into_bytes()
}

#[test]
fn an_oci_layout_is_read_by_its_index() {
    let layer = b"a layer";
    let config = config(layer);
    let manifest = manifest(&config, layer);
    let mut entry = descriptor(MANIFEST_TYPE, &manifest);
    entry["annotations"] = json!({"io.containerd.image.name": "nginx"});
    let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
    let (_folder, archive) = archive(&[
        ("index.json", index.as_bytes()),
        (&blob_path(layer), layer),
        (&blob_path(&config), &config),
        (&blob_path(&manifest), &manifest),
    ]);
    let images = archive.images().unwrap();
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].names, ["docker.io/library/nginx:latest"]);
    let extent = images[0].blobs[&digest(layer)];
    assert_eq!(archive.read(extent).unwrap(), layer);
}

#[test]
fn an_index_for_other_machines_is_refused_by_name() {
    let mut entry = descriptor(MANIFEST_TYPE, b"x");
    entry["platform"] = json!({"os": "linux", "architecture": "s390x"});
    let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
    let (_folder, archive) = archive(&[("index.json", index.as_bytes())]);
    let error = archive.images().unwrap_err();
    assert!(matches!(error, ImageError::NoPlatform { .. }), "{error}");
}

#[test]
fn a_docker_archive_gets_the_manifest_it_stands_for() {
    let layer = b"a layer";
    let config = config(layer);
    let docker = json!([{
        "Config": "abc.json", "RepoTags": ["httpd:2", "httpd:latest"], "Layers": ["l/layer.tar"],
    }])
    .to_string();
    let entries: &[(&str, &[u8])] = &[
        ("manifest.json", docker.as_bytes()),
        ("abc.json", &config),
        ("l/layer.tar", b"->../real/layer.tar"),
        ("real/layer.tar", layer),
    ];
    let (_folder, first) = archive(entries);
    let image = first.images().unwrap().remove(0);
    assert_eq!(image.names, ["docker.io/library/httpd:2", "docker.io/library/httpd:latest"]);
    assert_eq!(image.manifest.layers()[0].digest().to_string(), digest(layer));
    let (_folder, second) = archive(entries);
    assert_eq!(second.images().unwrap()[0].manifest_bytes, image.manifest_bytes, "idempotent");
}

#[test]
fn something_else_is_refused_with_what_was_looked_for() {
    let (_folder, archive) = archive(&[("hello.txt", b"hi")]);
    let message = archive.images().unwrap_err().to_string();
    assert!(message.contains("no index.json, no manifest.json"), "{message}");
}

#[test]
fn reading_goes_on_after_what_was_sent_already() {
    let (_folder, archive) = archive(&[("blob", b"0123456789")]);
    let extent = archive.find("blob").unwrap();
    for (sent, left) in [(0, "0123456789"), (7, "789"), (10, ""), (11, "")] {
        let rest = archive.read(extent.after(sent)).unwrap();
        assert_eq!(String::from_utf8(rest).unwrap(), left, "after {sent}");
    }
}
