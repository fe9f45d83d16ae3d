//! Objects as text: `-o yaml|json|name|jsonpath|custom-columns` and kubectl's one-line results.
//!
//! Owns: [`Format`] and printing of single objects. Pure but for the final write. Deliberately not
//! here: what is printed when no format is asked for (each verb knows).

pub(crate) mod columns;
pub(crate) mod jsonpath;
pub(crate) mod table;
pub(crate) mod yaml;

use serde_json::Value;

use crate::edit_value::{remove, short_name};
use crate::error::Error;
use columns::Columns;
use jsonpath::Template;

/// The output that `-o` asks for.
#[derive(Debug, PartialEq)]
pub(crate) enum Format {
    Table,
    Wide,
    Name,
    Json,
    Yaml,
    JsonPath(Template),
    JsonPathAsJson(Template),
    Columns(Columns),
}

impl Format {
    /// Parses the value of `-o`; empty means the default.
    pub(crate) fn parse(text: &str) -> Result<Format, Error> {
        let (name, argument) = text.split_once('=').unwrap_or((text, ""));
        Ok(match name {
            "" => Format::Table,
            "wide" => Format::Wide,
            "name" => Format::Name,
            "json" => Format::Json,
            "yaml" => Format::Yaml,
            "jsonpath-as-json" => Format::JsonPathAsJson(Template::parse(argument)?),
            "jsonpath" => Format::JsonPath(Template::parse(argument)?),
            "jsonpath-file" => Format::JsonPath(Template::parse(&read(argument)?)?),
            "custom-columns" => Format::Columns(Columns::parse(argument)?),
            "custom-columns-file" => Format::Columns(Columns::from_file(&read(argument)?)?),
            _ => {
                return Err(Error::refused(format!(
                    "unable to match a printer suitable for the output format {text:?}, allowed \
                     formats are: custom-columns,custom-columns-file,json,jsonpath,\
                     jsonpath-as-json,jsonpath-file,name,wide,yaml"
                )));
            }
        })
    }

    /// Whether the server's `Table` is what is printed.
    pub(crate) fn is_table(&self) -> bool {
        matches!(self, Format::Table | Format::Wide)
    }

    /// The text of one object, or of a `List` of them. `None` if the format is a table.
    pub(crate) fn object(&self, object: &Value) -> Option<String> {
        Some(match self {
            Format::Table | Format::Wide => return None,
            Format::Name => match object.get("items").and_then(Value::as_array) {
                Some(items) => items.iter().map(|i| short_name(i) + "\n").collect(),
                None => short_name(object) + "\n",
            },
            Format::Json => to_json(object) + "\n",
            Format::Yaml => yaml::to_yaml(object),
            Format::JsonPath(template) => template.render(object),
            Format::JsonPathAsJson(template) => {
                let found = template.find(object).into_iter().cloned().collect();
                to_json(&Value::Array(found)) + "\n"
            }
            Format::Columns(columns) => columns.print(object, true),
        })
    }
}

fn read(path: &str) -> Result<String, Error> {
    std::fs::read_to_string(path)
        .map_err(|source| Error::ReadFile { path: path.into(), source })
        .map(|text| text.trim_end_matches('\n').to_owned())
}

/// JSON as Go's `MarshalIndent` with four spaces prints it, `<`, `>` and `&` escaped.
pub(crate) fn to_json(value: &Value) -> String {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    serde::Serialize::serialize(value, &mut serializer).expect("a JSON value always serialises");
    go_escapes(&String::from_utf8(bytes).expect("serde_json writes UTF-8"))
}

/// Go's encoder escapes characters that HTML gives a meaning, also inside annotations.
pub(crate) fn go_escapes(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            c => out.push(c),
        }
    }
    out
}

/// Drops `managedFields`, which kubectl shows only on request.
pub(crate) fn hide_managed_fields(object: &mut Value) {
    remove(object, &["metadata", "managedFields"]);
    if let Some(items) = object.get_mut("items").and_then(Value::as_array_mut) {
        items.iter_mut().for_each(hide_managed_fields);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_indented_by_four_and_escaped_as_go_does() {
        let value = json!({"b": ["<none>", {}], "a": []});
        assert_eq!(
            to_json(&value),
            "{\n    \"a\": [],\n    \"b\": [\n        \"\\u003cnone\\u003e\",\n        {}\n    ]\n}"
        );
    }

    #[test]
    fn an_unknown_format_lists_the_known_ones() {
        let e = Format::parse("wied").unwrap_err().report();
        assert!(e.starts_with("error: unable to match a printer suitable for the output format"));
    }

    #[test]
    fn names_of_a_list_stand_one_per_line() {
        let list = json!({"items": [
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}},
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "b"}}]});
        assert_eq!(Format::Name.object(&list).unwrap(), "pod/a\ndeployment.apps/b\n");
    }
}
