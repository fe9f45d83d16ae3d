//! `-o custom-columns=NAME:.metadata.name,…`.
//!
//! Pure. Missing values print `<none>`, as kubectl's custom column printer does.

use serde_json::Value;

use super::jsonpath::{Template, plain};
use super::table::Layout;
use crate::error::Error;

/// Headings and the paths of their cells.
#[derive(Debug, PartialEq)]
pub(crate) struct Columns {
    columns: Vec<(String, Template)>,
}

impl Columns {
    /// Parses `HEADING:path,HEADING:path`.
    pub(crate) fn parse(spec: &str) -> Result<Columns, Error> {
        if spec.is_empty() {
            return Err(Error::refused(
                "custom-columns format specified but no custom columns given",
            ));
        }
        let columns = spec.split(',').map(|part| {
            let (heading, path) = part.split_once(':').ok_or_else(|| {
                Error::refused(format!(
                    "unexpected custom-columns spec: {part}, expected <header>:<json-path-expr>"
                ))
            })?;
            Ok((heading.to_owned(), Template::relaxed(path)?))
        });
        Ok(Columns { columns: columns.collect::<Result<_, Error>>()? })
    }

    /// Parses a file of two lines: headings, then paths.
    pub(crate) fn from_file(text: &str) -> Result<Columns, Error> {
        let mut lines = text.lines();
        let words = |line: Option<&str>| -> Vec<String> {
            line.unwrap_or("").split_whitespace().map(str::to_owned).collect()
        };
        let (headings, paths) = (words(lines.next()), words(lines.next()));
        if headings.is_empty() || headings.len() != paths.len() {
            return Err(Error::refused(format!(
                "number of headers ({}) and field specifications ({}) don't match",
                headings.len(),
                paths.len()
            )));
        }
        let columns = headings
            .into_iter()
            .zip(paths)
            .map(|(heading, path)| Ok((heading, Template::relaxed(&path)?)));
        Ok(Columns { columns: columns.collect::<Result<_, Error>>()? })
    }

    /// The table for one object or a `List`.
    pub(crate) fn print(&self, object: &Value, headings: bool) -> String {
        let items: Vec<&Value> = match object.get("items").and_then(Value::as_array) {
            Some(items) => items.iter().collect(),
            None => vec![object],
        };
        let mut lines = Vec::new();
        if headings {
            lines.push(self.columns.iter().map(|(h, _)| h.clone()).collect());
        }
        lines.extend(items.into_iter().map(|item| {
            let cell = |(_, path): &(String, Template)| {
                let found: Vec<String> = path
                    .find(item)
                    .into_iter()
                    .map(|v| if v.is_null() { "<none>".to_owned() } else { cell_text(v) })
                    .collect();
                if found.is_empty() { "<none>".to_owned() } else { found.join(",") }
            };
            self.columns.iter().map(cell).collect()
        }));
        Layout::default().format(&lines)
    }
}

/// Collections are printed as Go's `%v` prints them.
fn cell_text(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(cell_text).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let pairs: Vec<String> =
                map.iter().map(|(k, v)| format!("{k}:{}", cell_text(v))).collect();
            format!("map[{}]", pairs.join(" "))
        }
        other => plain(other),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_of_a_list_with_gaps() {
        let list = json!({"items": [
            {"metadata": {"name": "a"}, "spec": {"images": ["x", "y"]}, "m": {"k": [1]}},
            {"metadata": {"name": "b"}}]});
        let columns = Columns::parse("NAME:.metadata.name,IMG:spec.images[*],M:.m").unwrap();
        assert_eq!(
            columns.print(&list, true),
            "NAME   IMG      M\na      x,y      map[k:[1]]\nb      <none>   <none>\n"
        );
    }

    #[test]
    fn a_column_without_a_path_is_refused() {
        assert!(Columns::parse("NAME").is_err());
        assert!(Columns::parse("").is_err());
        assert!(Columns::from_file("A B\n.a").is_err());
    }
}
