//! How lists and maps merge, per definition and field: read in the `DeepMerge` implementations of
//! k8s-openapi, which are generated from upstream's OpenAPI extensions.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use regex::Regex;
use serde_json::{Map, Value, json};

/// The extensions of a field, by definition and JSON name.
pub type Strategies = BTreeMap<(String, String), Map<String, Value>>;

/// Reads all files below `source`.
pub fn read(source: &Path) -> Result<Strategies> {
    let mut strategies = Strategies::new();
    read_folder(source, &mut strategies)?;
    Ok(strategies)
}

fn read_folder(folder: &Path, strategies: &mut Strategies) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            read_folder(&path, strategies)?;
        } else {
            let text = std::fs::read_to_string(&path)?;
            read_type(&text, strategies).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

fn read_type(text: &str, strategies: &mut Strategies) -> Result<()> {
    let name = Regex::new(r#"fn schema_name\(\).*?\{\s*"([^"]+)"\.into\(\)"#)?;
    let Some(name) = name.captures(text).map(|c| c[1].to_owned()) else {
        return Ok(());
    };
    // Rust name → JSON name.
    let names: BTreeMap<_, _> = Regex::new(r#""([^"]+)" => Field::Key_(\w+)"#)?
        .captures_iter(text)
        .map(|c| (c[2].to_owned(), c[1].to_owned()))
        .collect();
    let call = Regex::new(r"merge_strategies::(list|map)::(\w+)\(\s*&mut self\.(?:r#)?(\w+)")?;
    let key = Regex::new(r"lhs\.(?:r#)?(\w+) == rhs")?;
    for found in call.captures_iter(text) {
        let field = names
            .get(&found[3])
            .context("a merged field without JSON name")?;
        let rest = &text[found.get(0).expect("group 0 is the match").end()..];
        let keys: Vec<_> = key
            .captures_iter(&rest[..rest.find(']').unwrap_or(0)])
            .map(|c| {
                names
                    .get(&c[1])
                    .cloned()
                    .unwrap_or_else(|| json_name(&c[1]))
            })
            .collect();
        if &found[2] == "map" && &found[1] == "list" && keys.is_empty() {
            println!("{name}: {field} is a map without keys");
            continue;
        }
        let extensions = match (&found[1], &found[2]) {
            ("list", "atomic") => json!({"x-kubernetes-list-type": "atomic"}),
            ("list", "set") => json!({"x-kubernetes-list-type": "set"}),
            ("list", "map") => json!({
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": keys,
                "x-kubernetes-patch-merge-key": keys[0],
                "x-kubernetes-patch-strategy": "merge",
            }),
            ("map", "atomic") => json!({"x-kubernetes-map-type": "atomic"}),
            _ => continue,
        };
        let Value::Object(extensions) = extensions else {
            unreachable!("they are literals")
        };
        strategies.insert((name.clone(), field.clone()), extensions);
    }
    Ok(())
}

/// The item type's JSON name of a key: keys are never abbreviations.
fn json_name(rust: &str) -> String {
    let mut parts = rust.trim_end_matches('_').split('_');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        name.push_str(&part[..1].to_uppercase());
        name.push_str(&part[1..]);
    }
    name
}
