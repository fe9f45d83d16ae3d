//! The field table: per type and field the JSON name, the protobuf number, the type, and how the
//! field merges. `src/schema.rs` of the crate reads it and describes the format.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::definitions::Definitions;
use crate::protobuf::{Messages, fold};

/// Fields in which zero is a value of its own: `definition field`.
pub type Zeros = BTreeSet<(String, String)>;

pub fn read_zeros(path: &Path) -> Result<Zeros> {
    let mut zeros = Zeros::new();
    for line in std::fs::read_to_string(path)?
        .lines()
        .filter(|l| !l.starts_with('#'))
    {
        let mut words = line.split_whitespace();
        let Some(definition) = words.next() else {
            continue;
        };
        zeros.extend(words.map(|field| (definition.to_owned(), field.to_owned())));
    }
    Ok(zeros)
}

struct Writer<'a> {
    messages: &'a Messages,
    zeros: &'a Zeros,
    out: String,
    /// Parts of messages that JSON does not know as types: name → its fields.
    inlined: BTreeMap<String, BTreeMap<String, Value>>,
}

pub fn write(definitions: &Definitions, messages: &Messages, zeros: &Zeros) -> Result<String> {
    let mut writer = Writer {
        messages,
        zeros,
        out: String::new(),
        inlined: BTreeMap::new(),
    };
    writer.out.push_str(
        "# Written by apiserver/wire/generate; the format is described in apiserver/wire/src/schema.rs.\n",
    );
    for (name, schema) in &definitions.schemas {
        if scalar(name).is_some() {
            continue;
        }
        let gvk = definitions
            .kinds
            .iter()
            .find(|k| k.definition == *name)
            .map(|k| {
                let slash = if k.group.is_empty() { "" } else { "/" };
                format!(" {}{slash}{} {}", k.group, k.version, k.kind)
            });
        writeln!(writer.out, "{name}{}", gvk.unwrap_or_default())?;
        let properties = schema["properties"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        writer.fields(name, properties.into_iter().collect())?;
    }
    let mut done = BTreeSet::new();
    while let Some(name) = writer.inlined.keys().find(|n| !done.contains(*n)).cloned() {
        done.insert(name.clone());
        if definitions.schemas.contains_key(&name) {
            continue;
        }
        writeln!(writer.out, "{name}")?;
        let properties = writer.inlined[&name].clone();
        writer.fields(&name, properties)?;
    }
    Ok(writer.out)
}

impl Writer<'_> {
    fn fields(&mut self, definition: &str, properties: BTreeMap<String, Value>) -> Result<()> {
        let fields = self
            .messages
            .get(&fold(definition))
            .cloned()
            .unwrap_or_default();
        if fields.is_empty() && !properties.is_empty() {
            println!("{definition}: no protobuf message");
        }
        let module = definition.rsplit_once('.').map_or("", |(module, _)| module);
        let known: BTreeMap<_, _> = properties.keys().map(|name| (fold(name), name)).collect();
        let mut inlined = BTreeSet::new();
        for field in fields.iter().filter(|f| !known.contains_key(&f.key)) {
            let part = match &field.message {
                Some(message) => self.part_of(module, message, &properties)?,
                None => None,
            };
            let Some(part) = part else {
                println!("{definition}: {} is not in JSON", field.key);
                continue;
            };
            writeln!(self.out, "\t\t{} {}", field.number, part.0)?;
            inlined.extend(part.1.keys().cloned());
            self.inlined.insert(part.0, part.1);
        }
        for (name, property) in &properties {
            let number = match fields.iter().find(|f| f.key == fold(name)) {
                Some(field) => field.number,
                None => {
                    if !inlined.contains(name) && name != "apiVersion" && name != "kind" {
                        println!("{definition}: {name} has no number");
                    }
                    0
                }
            };
            self.field(definition, name, number, property)?;
        }
        Ok(())
    }

    /// The name of an inlined message and the JSON fields it carries; `None` if it carries none.
    fn part_of(
        &self,
        module: &str,
        message: &str,
        properties: &BTreeMap<String, Value>,
    ) -> Result<Option<(String, BTreeMap<String, Value>)>> {
        let name = format!("{module}.{message}");
        let fields = self
            .messages
            .get(&fold(&name))
            .with_context(|| format!("no message {name}"))?;
        let own: BTreeMap<_, _> = properties
            .iter()
            .filter(|(json, _)| fields.iter().any(|f| f.key == fold(json)))
            .map(|(json, property)| (json.clone(), property.clone()))
            .collect();
        Ok((!own.is_empty()).then_some((name, own)))
    }

    fn field(&mut self, definition: &str, name: &str, number: u32, property: &Value) -> Result<()> {
        let shape = shape(property).with_context(|| format!("{definition} {name}: {property}"))?;
        write!(self.out, "\t{name} {number} {shape}")?;
        if self
            .zeros
            .contains(&(definition.to_owned(), name.to_owned()))
        {
            write!(self.out, " zero")?;
        }
        for (extension, word) in [
            ("x-kubernetes-patch-strategy", "strategy"),
            ("x-kubernetes-patch-merge-key", "key"),
        ] {
            if let Some(value) = property[extension].as_str() {
                write!(self.out, " {word}={value}")?;
            }
        }
        writeln!(self.out)?;
        Ok(())
    }
}

/// The words for types that are no messages to us.
fn scalar(definition: &str) -> Option<&'static str> {
    Some(match definition.rsplit('.').next()? {
        "Time" => "time",
        "MicroTime" => "microtime",
        "Quantity" => "quantity",
        "IntOrString" => "intorstring",
        "RawExtension" | "FieldsV1" => "raw",
        _ => return None,
    })
}

fn shape(property: &Value) -> Result<String> {
    let reference = property["$ref"]
        .as_str()
        .or_else(|| property["allOf"][0]["$ref"].as_str());
    if let Some(reference) = reference {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return Ok(scalar(name).unwrap_or(name).to_owned());
    }
    Ok(
        match (property["type"].as_str(), property["format"].as_str()) {
            (Some("array"), _) => format!("[]{}", shape(&property["items"])?),
            (Some("object"), _) if property["additionalProperties"].is_object() => {
                format!("{{}}{}", shape(&property["additionalProperties"])?)
            }
            (Some("string"), Some("byte")) => "bytes".to_owned(),
            (Some("string"), _) => "string".to_owned(),
            (Some("integer"), Some(format)) => format.to_owned(),
            (Some("boolean"), _) => "bool".to_owned(),
            (Some("number"), _) => "double".to_owned(),
            _ => bail!("a type that the table cannot express"),
        },
    )
}
