//! Writes the data of crate `wire`: the field table and the OpenAPI definitions.
//!
//! Inputs: the sources of k8s-openapi (kinds, JSON names, types, descriptions, merge strategies)
//! and of k8s-pb (protobuf field numbers), as cargo unpacked them, and the hand tables in this
//! folder. Outputs, deterministic for the versions in `Cargo.lock`: `../data/schema.txt` and
//! `../data/definitions.txt.gz`.

mod definitions;
mod kinds;
mod protobuf;
mod strategies;
mod table;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};

fn main() -> Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let openapi = source_of("k8s-openapi")?.join("src/v1_36");
    let strategies = strategies::read(&openapi)?;
    let definitions = definitions::collect(&strategies, &here.join("corrections.txt"))?;
    let messages = protobuf::read(&source_of("k8s-pb")?.join("src"), &here.join("numbers.txt"))?;
    let zeros = table::read_zeros(&here.join("zeros.txt"))?;
    let table = table::write(&definitions, &messages, &zeros)?;
    let data = here.join("../data");
    std::fs::create_dir_all(&data)?;
    std::fs::write(data.join("schema.txt"), table)?;
    let text = definitions::lines(&definitions)?;
    let file = std::fs::File::create(data.join("definitions.txt.gz"))?;
    let mut packer = GzBuilder::new().write(file, Compression::best());
    packer.write_all(text.as_bytes())?;
    packer.finish()?;
    println!(
        "{} definitions, {} bytes of text",
        definitions.schemas.len(),
        text.len()
    );
    Ok(())
}

/// Where cargo unpacked a dependency.
fn source_of(package: &str) -> Result<PathBuf> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .context("run cargo metadata")?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("read cargo's metadata")?;
    let packages = metadata["packages"]
        .as_array()
        .context("no packages in cargo's metadata")?;
    let manifest = packages
        .iter()
        .find(|p| p["name"] == package)
        .and_then(|p| p["manifest_path"].as_str())
        .with_context(|| format!("cargo knows no package {package}"))?;
    Ok(Path::new(manifest)
        .parent()
        .context("a manifest stands in a folder")?
        .to_owned())
}
