//! An explanation as text, laid out as kubectl does. Pure: a document and a path of fields in, text
//! out.

use serde_json::Value;

use crate::catalog::ApiResource;
use crate::error::Error;

/// How wide a paragraph is, with what it is indented by.
const WIDTH: usize = 80;
/// Values of an enumeration that a list of fields shows.
const FEW: usize = 4;

/// Explains a resource, or the field that `fields` leads to.
pub(super) fn explain(
    document: &Value,
    resource: &ApiResource,
    fields: &[String],
    recursive: bool,
) -> Result<String, Error> {
    let document = Document(document);
    let schema = document.kind(resource).ok_or_else(|| {
        let (version, plural) = (resource.api_version(), &resource.plural);
        Error::refused(format!("GVR ({version}, Resource={plural}) not found in OpenAPI schema"))
    })?;
    let mut out = String::new();
    if !resource.group.is_empty() {
        out.push_str(&format!("GROUP:      {}\n", resource.group));
    }
    out.push_str(&format!("KIND:       {}\nVERSION:    {}\n\n", resource.kind, resource.version));
    let mut found = schema;
    for (n, field) in fields.iter().enumerate() {
        found = document.field(found, field, &mut Vec::new()).ok_or_else(|| {
            // kubectl names the last one, whichever is missing.
            let last = fields.last().unwrap_or(field);
            Error::refused(format!("field {last:?} does not exist"))
        })?;
        if n + 1 == fields.len() {
            let kind = document.type_of(found);
            out.push_str(&format!("FIELD: {field} <{kind}>\n{}\n\n", all_values(found)));
        }
    }
    let description = match document.description(found) {
        none if none.is_empty() => "<empty>".to_owned(),
        some => some,
    };
    out.push_str(&format!("DESCRIPTION:\n{}\n", paragraph(&description, 4)));
    let mut list = String::new();
    document.list(found, 1, recursive, &mut Vec::new(), &mut list);
    if !list.is_empty() {
        out.push_str(&format!("FIELDS:\n{list}"));
    }
    Ok(out)
}

/// An OpenAPI document of version 3.
#[derive(Clone, Copy)]
struct Document<'a>(&'a Value);

impl<'a> Document<'a> {
    fn schemas(self) -> impl Iterator<Item = &'a Value> {
        let schemas = self.0.pointer("/components/schemas").and_then(Value::as_object);
        schemas.into_iter().flat_map(|schemas| schemas.values())
    }

    /// The schema of a kind.
    fn kind(self, resource: &ApiResource) -> Option<&'a Value> {
        self.schemas().find(|schema| {
            let kinds = schema["x-kubernetes-group-version-kind"].as_array();
            kinds.into_iter().flatten().any(|kind| {
                kind["group"] == resource.group.as_str()
                    && kind["version"] == resource.version.as_str()
                    && kind["kind"] == resource.kind.as_str()
            })
        })
    }

    /// The schema that a reference leads to, or the schema itself.
    fn resolve(self, schema: &'a Value) -> &'a Value {
        let named = |reference: &'a str| {
            let name = reference.rsplit('/').next().unwrap_or(reference);
            self.0.get("components")?.get("schemas")?.get(name)
        };
        schema["$ref"].as_str().and_then(named).unwrap_or(schema)
    }

    /// A field of a schema, of what a list or map of it contains, or of what it is made of.
    fn field(self, schema: &'a Value, name: &str, seen: &mut Vec<&'a str>) -> Option<&'a Value> {
        if !enter(schema, seen) {
            return None;
        }
        let resolved = self.resolve(schema);
        let found = resolved["properties"].get(name);
        found.or_else(|| below(resolved).find_map(|inner| self.field(inner, name, seen)))
    }

    /// What a schema says of itself and, behind it, what its parts say of themselves.
    fn description(self, schema: &'a Value) -> String {
        let resolved = self.resolve(schema);
        let mut text = resolved["description"].as_str().unwrap_or_default().to_owned();
        if !text.is_empty() {
            text.push('\n');
        }
        let inner = parts(resolved).chain(contents(resolved));
        inner.for_each(|inner| text.push_str(&self.description(inner)));
        text
    }

    /// `string`, `[]ServicePort`, `map[string]string`.
    fn type_of(self, schema: &'a Value) -> String {
        if let Some(items) = schema.get("items") {
            return format!("[]{}", self.type_of(items));
        }
        if let Some(values) = schema.get("additionalProperties").filter(|v| v.is_object()) {
            return format!("map[string]{}", self.type_of(values));
        }
        if let (None, Some([only])) =
            (schema.get("properties"), schema["allOf"].as_array().map(Vec::as_slice))
        {
            return self.type_of(only);
        }
        match (schema["$ref"].as_str(), self.resolve(schema)["type"].as_str()) {
            (Some(reference), None | Some("object")) => {
                reference.rsplit(['/', '.']).next().unwrap_or("Object").to_owned()
            }
            (None, None | Some("object")) => "Object".to_owned(),
            (_, Some(primitive)) => primitive.to_owned(),
        }
    }

    /// The fields of a schema, a paragraph each, or a line each with all fields below.
    fn list(
        self,
        schema: &'a Value,
        level: usize,
        recursive: bool,
        seen: &mut Vec<&'a str>,
        out: &mut String,
    ) {
        let depth = seen.len();
        if !enter(schema, seen) {
            return;
        }
        let resolved = self.resolve(schema);
        let fields = resolved["properties"].as_object();
        for (name, field) in fields.into_iter().flatten() {
            self.line(resolved, name, field, level, recursive, out);
            if recursive {
                self.list(field, level + 1, recursive, seen, out);
            }
        }
        below(resolved).for_each(|inner| self.list(inner, level, recursive, seen, out));
        seen.truncate(depth);
    }

    fn line(
        self,
        owner: &'a Value,
        name: &str,
        field: &'a Value,
        level: usize,
        short: bool,
        out: &mut String,
    ) {
        let indent = level * 2;
        let required = owner["required"].as_array().into_iter().flatten().any(|r| r == name);
        let required = if required { " -required-" } else { "" };
        let kind = self.type_of(field);
        let values = few_values(field, indent);
        out.push_str(&format!("{:indent$}{name}\t<{kind}>{required}{values}\n", ""));
        if !short {
            let description = field["description"].as_str().unwrap_or("<no description>");
            out.push_str(&paragraph(description, indent + 2));
            out.push_str("\n\n");
        }
    }
}

/// Notes a reference on the way; answers whether it is new, as schemas may contain themselves.
fn enter<'a>(schema: &'a Value, seen: &mut Vec<&'a str>) -> bool {
    match schema["$ref"].as_str() {
        Some(reference) if seen.contains(&reference) => false,
        Some(reference) => {
            seen.push(reference);
            true
        }
        None => true,
    }
}

/// What a schema is made of.
fn parts(schema: &Value) -> impl Iterator<Item = &Value> {
    schema["allOf"].as_array().into_iter().flatten()
}

/// What a list or a map contains.
fn contents(schema: &Value) -> impl Iterator<Item = &Value> {
    let values = schema.get("additionalProperties").filter(|values| values.is_object());
    schema.get("items").into_iter().chain(values)
}

fn below(schema: &Value) -> impl Iterator<Item = &Value> {
    parts(schema).chain(contents(schema))
}

/// The values of an enumeration, a line each.
fn all_values(schema: &Value) -> String {
    match schema["enum"].as_array() {
        Some(values) => {
            let lines: Vec<String> = values.iter().map(value).collect();
            format!("ENUM:\n    {}", lines.join("\n    "))
        }
        None => String::new(),
    }
}

/// The first values of an enumeration, on a line below.
fn few_values(schema: &Value, indent: usize) -> String {
    let Some(values) = schema["enum"].as_array() else { return String::new() };
    let shown: Vec<String> = values.iter().take(FEW).map(value).collect();
    let more = if values.len() > FEW { ", ...." } else { "" };
    format!("\n{:indent$}enum: {}{more}", "", shown.join(", "))
}

fn value(value: &Value) -> String {
    match value.as_str() {
        Some("") => "\"\"".to_owned(),
        Some(text) => text.to_owned(),
        None => value.to_string(),
    }
}

/// Lines of words, none longer than the page if its words are not, each indented.
pub(super) fn paragraph(text: &str, indent: usize) -> String {
    let lines = text.split('\n').flat_map(|line| wrap(line, WIDTH - indent));
    lines.map(|line| format!("{:indent$}{line}", "")).collect::<Vec<_>>().join("\n")
}

fn wrap(line: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut spaces = String::new();
    for word in line.split_inclusive(' ') {
        let bare = word.trim_end_matches(' ');
        let current = lines.last_mut().expect("a line to begin with");
        let length = current.chars().count() + spaces.len() + bare.chars().count();
        if length > width && !current.is_empty() {
            lines.push(bare.to_owned());
        } else {
            current.push_str(&spaces);
            current.push_str(bare);
        }
        spaces = " ".repeat(word.len() - bare.len());
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document() -> Value {
        let name = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
        json!({"components": {"schemas": {
            "io.k8s.v1.Service": {
                "description": "A service.",
                "type": "object",
                "required": ["spec"],
                "x-kubernetes-group-version-kind":
                    [{"group": "", "version": "v1", "kind": "Service"}],
                "properties": {
                    "kind": {"type": "string", "description": "What it is."},
                    "spec": {"allOf": [name("io.k8s.v1.Spec")], "description": "The wish."},
                }
            },
            "io.k8s.v1.Spec": {
                "description": "ServiceSpec describes.",
                "type": "object",
                "properties": {
                    "ports": {"type": "array", "items": {"allOf": [name("io.k8s.v1.Port")]}},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                    "type": {"type": "string", "enum": ["", "A", "B", "C", "D"]},
                    "again": {"allOf": [name("io.k8s.v1.Spec")]},
                    "quantity": name("io.k8s.Quantity"),
                }
            },
            "io.k8s.v1.Port": {"type": "object", "properties": {"port": {"type": "integer"}}},
            "io.k8s.Quantity": {"type": "string"},
        }}})
    }

    fn explained(fields: &[&str], recursive: bool) -> Result<String, String> {
        let resource = ApiResource {
            version: "v1".to_owned(),
            kind: "Service".to_owned(),
            plural: "services".to_owned(),
            ..ApiResource::default()
        };
        let fields: Vec<String> = fields.iter().map(|&field| field.to_owned()).collect();
        explain(&document(), &resource, &fields, recursive).map_err(|error| error.to_string())
    }

    #[test]
    fn a_resource_is_its_description_and_its_fields() {
        assert_eq!(
            explained(&[], false).unwrap(),
            "KIND:       Service\nVERSION:    v1\n\nDESCRIPTION:\n    A service.\n    \nFIELDS:\n  \
             kind\t<string>\n    What it is.\n\n  spec\t<Spec> -required-\n    The wish.\n\n"
        );
    }

    #[test]
    fn a_field_says_what_it_is_and_what_its_type_is() {
        let spec = explained(&["spec"], false).unwrap();
        let head = "FIELD: spec <Spec>\n\n\nDESCRIPTION:\n    The wish.\n    ServiceSpec describes.\n    \n";
        assert!(spec.contains(head), "{spec}");
        for line in ["ports\t<[]Port>", "labels\t<map[string]string>", "quantity\t<string>"] {
            assert!(spec.contains(line), "{line} in {spec}");
        }
        assert!(spec.contains("type\t<string>\n  enum: \"\", A, B, C, ....\n"), "{spec}");
        let port = explained(&["spec", "ports", "port"], false).unwrap();
        assert!(port.contains("FIELD: port <integer>\n\n\nDESCRIPTION:\n    <empty>\n"), "{port}");
        let kind = explained(&["spec", "type"], false).unwrap();
        assert!(kind.contains("ENUM:\n    \"\"\n    A\n    B\n    C\n    D\n\n"), "{kind}");
    }

    #[test]
    fn all_names_below_are_listed_once_where_schemas_contain_themselves() {
        let all = explained(&[], true).unwrap();
        assert!(all.contains("  spec\t<Spec> -required-\n    again\t<Spec>\n    labels"), "{all}");
        assert!(all.contains("    ports\t<[]Port>\n      port\t<integer>\n"), "{all}");
    }

    #[test]
    fn a_field_that_is_not_there_is_named() {
        let error = explained(&["spec", "nothing"], false).unwrap_err();
        assert!(error.ends_with("field \"nothing\" does not exist"), "{error}");
    }

    #[test]
    fn paragraphs_break_at_spaces_and_keep_their_own_lines() {
        let text = format!("{} end\n\nnext", "word ".repeat(20).trim());
        let lines: Vec<String> = paragraph(&text, 4).lines().map(str::to_owned).collect();
        assert!(lines.iter().all(|line| line.len() <= WIDTH && line.starts_with("    ")));
        assert_eq!(lines.last().map(String::as_str), Some("    next"));
        let long = "x".repeat(100);
        assert_eq!(paragraph(&long, 2), format!("  {long}"));
    }
}
