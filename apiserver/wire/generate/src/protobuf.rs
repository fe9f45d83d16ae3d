//! The numbers of protobuf fields: read in the sources of k8s-pb, which prost generated from
//! upstream's `generated.proto`, and in the hand table of fields that are newer.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

/// A field of a message.
#[derive(Clone, Debug)]
pub struct Field {
    /// Lower case without underscores: prost's spelling and JSON's meet there.
    pub key: String,
    pub number: u32,
    /// The message type of a single message, without its path.
    pub message: Option<String>,
}

/// Fields by folded definition name, such as `io.k8s.api.core.v1.pod`.
pub type Messages = BTreeMap<String, Vec<Field>>;

/// Spelling in which the names of both sources agree.
pub fn fold(name: &str) -> String {
    name.replace('_', "").to_lowercase()
}

pub fn read(source: &Path, hand_table: &Path) -> Result<Messages> {
    let mut messages = Messages::new();
    for (folder, prefix) in [
        ("api", "io.k8s.api"),
        ("apimachinery", "io.k8s.apimachinery"),
    ] {
        read_folder(&source.join(folder), prefix, &mut messages)?;
    }
    for line in std::fs::read_to_string(hand_table)?
        .lines()
        .filter(|l| !l.starts_with('#'))
    {
        let mut words = line.split_whitespace();
        let (Some(name), Some(field), Some(number)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        messages.entry(fold(name)).or_default().push(Field {
            key: fold(field),
            number: number.parse()?,
            message: None,
        });
    }
    Ok(messages)
}

fn read_folder(folder: &Path, prefix: &str, messages: &mut Messages) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .context("a name that is text")?;
        if path.is_dir() {
            read_folder(&path, &format!("{prefix}.{name}"), messages)?;
        } else {
            read_module(&std::fs::read_to_string(&path)?, prefix, messages);
        }
    }
    Ok(())
}

/// Reads `#[prost(…, tag = "N")]` and the field after it.
fn read_module(text: &str, prefix: &str, messages: &mut Messages) {
    let mut current = String::new();
    let mut lines = text.lines().map(str::trim).peekable();
    while let Some(line) = lines.next() {
        if let Some(rest) = line.strip_prefix("pub struct ") {
            current = fold(&format!(
                "{prefix}.{}",
                rest.trim_end_matches(" {").trim_end_matches(" {}")
            ));
            messages.entry(current.clone()).or_default();
        } else if let Some(attribute) = line.strip_prefix("#[prost(") {
            let Some(number) = attribute
                .split("tag = \"")
                .nth(1)
                .and_then(|r| r.split('"').next())
            else {
                continue;
            };
            let Some(declaration) = lines.next().and_then(|l| l.strip_prefix("pub ")) else {
                continue;
            };
            let (name, of) = declaration.split_once(':').unwrap_or((declaration, ""));
            // A long type stands on the next line.
            let of = if of.trim().is_empty() {
                lines.peek().copied().unwrap_or_default()
            } else {
                of
            };
            let single = attribute.starts_with("message, optional");
            let inner = of.trim().trim_end_matches(',').trim_end_matches('>');
            let message = single.then(|| {
                inner
                    .rsplit(['<', ':'])
                    .next()
                    .unwrap_or_default()
                    .to_owned()
            });
            messages.entry(current.clone()).or_default().push(Field {
                key: fold(name.trim_start_matches("r#")),
                number: number.parse().unwrap_or_default(),
                message,
            });
        }
    }
}
