//! The OpenAPI v3 definitions of all kinds, with Kubernetes' extensions.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use crate::kinds::{self, Kind};
use crate::strategies::Strategies;

/// What was collected.
pub struct Definitions {
    /// By name, such as `io.k8s.api.core.v1.Pod`.
    pub schemas: BTreeMap<String, Value>,
    pub kinds: Vec<Kind>,
}

/// Collects the definitions of all kinds, adds the extensions and applies the corrections.
pub fn collect(strategies: &Strategies, corrections: &Path) -> Result<Definitions> {
    let mut generator = SchemaSettings::openapi3().into_generator();
    let kinds = kinds::add_all(&mut generator);
    let mut schemas: BTreeMap<String, Value> =
        generator.take_definitions(true).into_iter().collect();
    for kind in &kinds {
        let schema = schemas
            .get_mut(&kind.definition)
            .context(kind.definition.clone())?;
        schema["x-kubernetes-group-version-kind"] =
            json!([{"group": kind.group, "kind": kind.kind, "version": kind.version}]);
        // The Rust types always have metadata, clients need not send it.
        if let Some(required) = schema["required"].as_array_mut() {
            required.retain(|field| field != "metadata");
        }
    }
    for ((definition, field), extensions) in strategies {
        let Some(schema) = schemas.get_mut(definition) else {
            continue;
        };
        let property = schema["properties"]
            .get_mut(field)
            .context(format!("{definition} {field}"))?;
        for (name, value) in extensions {
            property[name] = value.clone();
        }
    }
    correct(&std::fs::read_to_string(corrections)?, &mut schemas)?;
    for (name, schema) in &mut schemas {
        fix_scalar_or_string(name, schema);
        let fields = schema
            .as_object_mut()
            .context("a definition is an object")?;
        if fields
            .get("required")
            .is_some_and(|r| r.as_array().is_none_or(Vec::is_empty))
        {
            fields.remove("required");
        }
    }
    Ok(Definitions { schemas, kinds })
}

/// Applies the lines of `corrections.txt`, which describes its format.
fn correct(lines: &str, schemas: &mut BTreeMap<String, Value>) -> Result<()> {
    for line in lines.lines().filter(|l| !l.starts_with('#')) {
        let mut words = line.split_whitespace();
        let (Some(definition), Some(field)) = (words.next(), words.next()) else {
            continue;
        };
        let schema = schemas
            .get_mut(definition)
            .with_context(|| format!("line {line}"))?;
        let target = if field == "-" {
            schema
        } else {
            &mut schema["properties"][field]
        };
        let target = target
            .as_object_mut()
            .with_context(|| format!("line {line}"))?;
        for word in words {
            let (name, value) = word
                .split_once('=')
                .with_context(|| format!("line {line}"))?;
            let is_list = name == "required" || name.ends_with("-keys");
            let name = if name == "required" {
                name.into()
            } else {
                format!("x-kubernetes-{name}")
            };
            if value.is_empty() {
                target.remove(&name);
            } else if is_list {
                target.insert(name, json!(value.split(',').collect::<Vec<_>>()));
            } else {
                target.insert(name, json!(value));
            }
        }
    }
    Ok(())
}

/// Types that are a number or a string: upstream says so in OpenAPI's own words.
fn fix_scalar_or_string(name: &str, schema: &mut Value) {
    let (number, format) = match name.rsplit('.').next() {
        Some("IntOrString") => ("integer", Some("int-or-string")),
        Some("Quantity") => ("number", None),
        _ => return,
    };
    let fields = schema.as_object_mut().expect("a definition is an object");
    fields.remove("x-kubernetes-int-or-string");
    // The string comes first for quantities, as upstream lists them.
    let variants = if number == "integer" {
        [number, "string"]
    } else {
        ["string", number]
    };
    fields.insert(
        "oneOf".to_owned(),
        json!(variants.map(|t| json!({"type": t}))),
    );
    if let Some(format) = format {
        fields.insert("format".to_owned(), json!(format));
    }
}

/// One line per definition: its name, a tab, its JSON.
pub fn lines(definitions: &Definitions) -> Result<String> {
    let mut text = String::new();
    for (name, schema) in &definitions.schemas {
        writeln!(text, "{name}\t{}", serde_json::to_string(schema)?)?;
    }
    Ok(text)
}
