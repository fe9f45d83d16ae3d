//! Columns as kubectl aligns them.
//!
//! Owns: [`Layout`], which pads cells as Go's tabwriter does with kubectl's settings (minimum width
//! 6, padding 3, spaces; `cli-runtime/pkg/printers/tabwriter.go`), and [`Rows`], the text of a
//! server-side `Table`. Pure. Invariant: the last cell of a line is never padded. A layout keeps
//! its widths, so that rows printed later by a watch stay below their headings.

use serde_json::Value;

const MIN_WIDTH: usize = 6;
const PADDING: usize = 3;

/// Column widths that only grow.
#[derive(Default)]
pub(crate) struct Layout {
    widths: Vec<usize>,
}

impl Layout {
    /// The lines' text, padded so that columns align with each other and with earlier lines.
    pub(crate) fn format(&mut self, lines: &[Vec<String>]) -> String {
        for line in lines {
            let padded = line.len().saturating_sub(1);
            if self.widths.len() < padded {
                self.widths.resize(padded, MIN_WIDTH);
            }
            for (cell, width) in line[..padded].iter().zip(&mut self.widths) {
                *width = (*width).max(cell.chars().count() + PADDING);
            }
        }
        let mut text = String::new();
        for line in lines {
            for (i, cell) in line.iter().enumerate() {
                text.push_str(cell);
                if i + 1 < line.len() {
                    let fill = self.widths[i].saturating_sub(cell.chars().count());
                    text.extend(std::iter::repeat_n(' ', fill));
                }
            }
            text.push('\n');
        }
        text
    }
}

/// What to add to the server's columns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extras {
    /// Show priority-1 columns.
    pub(crate) wide: bool,
    /// Put NAMESPACE first.
    pub(crate) namespace: bool,
    /// Put all labels last.
    pub(crate) show_labels: bool,
    /// A column per label key.
    pub(crate) label_columns: Vec<String>,
    /// Print `pod/web` instead of `web`: several resources are listed.
    pub(crate) kind_prefix: Option<String>,
}

/// A table that a watch prints bit by bit.
pub(crate) struct Growing {
    extras: Extras,
    layout: Layout,
    columns: Value,
    /// Whether headings are still to be printed.
    headings: bool,
}

impl Growing {
    pub(crate) fn new(extras: Extras, headings: bool) -> Self {
        Growing { extras, layout: Layout::default(), columns: Value::Null, headings }
    }

    /// The text of a further `Table`; the first one with rows gets the headings. The server names
    /// the columns only in the first table of a stream.
    pub(crate) fn print(&mut self, mut table: Value) -> String {
        let columns = table.get("columnDefinitions").and_then(Value::as_array);
        if columns.is_some_and(|c| !c.is_empty()) {
            self.columns = table["columnDefinitions"].clone();
        } else {
            table["columnDefinitions"] = self.columns.clone();
        }
        let mut lines = rows(&table, &self.extras);
        if self.headings && !lines.is_empty() {
            lines.insert(0, headings(&table, &self.extras));
            self.headings = false;
        }
        self.layout.format(&lines)
    }
}

/// The headings of a server-side `Table`.
pub(crate) fn headings(table: &Value, extras: &Extras) -> Vec<String> {
    let mut line = Vec::new();
    if extras.namespace {
        line.push("NAMESPACE".to_owned());
    }
    for (_, column) in columns(table, extras.wide) {
        let name = column.get("name").and_then(Value::as_str).unwrap_or("");
        line.push(name.to_uppercase());
    }
    for key in &extras.label_columns {
        line.push(key.rsplit('/').next().unwrap_or(key).to_uppercase());
    }
    if extras.show_labels {
        line.push("LABELS".to_owned());
    }
    line
}

/// The rows of a server-side `Table`.
pub(crate) fn rows(table: &Value, extras: &Extras) -> Vec<Vec<String>> {
    table
        .get("rows")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|row| cells(table, row, extras))
        .collect()
}

fn cells(table: &Value, row: &Value, extras: &Extras) -> Vec<String> {
    let mut line = Vec::new();
    let meta = |p: &str| row.pointer(&format!("/object/metadata/{p}"));
    if extras.namespace {
        line.push(meta("namespace").and_then(Value::as_str).unwrap_or("").to_owned());
    }
    for (i, column) in columns(table, extras.wide) {
        let cell = row.pointer(&format!("/cells/{i}")).map(cell_text).unwrap_or_default();
        let is_name = column.get("format").and_then(Value::as_str) == Some("name") || i == 0;
        match &extras.kind_prefix {
            Some(kind) if is_name => line.push(format!("{kind}/{cell}")),
            _ => line.push(cell),
        }
    }
    let labels = meta("labels").and_then(Value::as_object);
    for key in &extras.label_columns {
        let value = labels.and_then(|l| l.get(key)).and_then(Value::as_str);
        line.push(value.unwrap_or("").to_owned());
    }
    if extras.show_labels {
        let pairs: Vec<String> = labels
            .into_iter()
            .flatten()
            .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or("")))
            .collect();
        line.push(if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(",") });
    }
    line
}

fn columns(table: &Value, wide: bool) -> impl Iterator<Item = (usize, &Value)> {
    table
        .get("columnDefinitions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .enumerate()
        .filter(move |(_, c)| wide || c.get("priority").and_then(Value::as_i64).unwrap_or(0) == 0)
}

/// Text cut at its first line break, as kubectl's printers cut it.
pub(crate) fn one_line(text: &str) -> String {
    match text.find(['\n', '\r', '\u{c}']) {
        Some(end) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn cell_text(cell: &Value) -> String {
    match cell {
        Value::String(s) => one_line(s),
        Value::Null => "<nil>".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn strings(line: &[&str]) -> Vec<String> {
        line.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn columns_are_padded_by_three_and_at_least_six_wide() {
        let lines = [strings(&["NAME", "AGE"]), strings(&["web", "5s"])];
        assert_eq!(Layout::default().format(&lines), "NAME   AGE\nweb    5s\n");
        let lines = [strings(&["A", "B", "C"]), strings(&["1", "2", "3"])];
        assert_eq!(Layout::default().format(&lines), "A     B     C\n1     2     3\n");
    }

    #[test]
    fn rows_of_a_watch_stay_below_their_headings() {
        let mut layout = Layout::default();
        layout.format(&[strings(&["NAME", "AGE"]), strings(&["a-long-name", "5s"])]);
        assert_eq!(layout.format(&[strings(&["b", "6s"])]), "b             6s\n");
    }

    #[test]
    fn wide_columns_labels_and_namespaces_are_added_on_request() {
        let table = json!({
            "columnDefinitions": [
                {"name": "Name", "format": "name"}, {"name": "Ready"}, {"name": "IP", "priority": 1}],
            "rows": [{"cells": ["web", 1, "10.244.0.2"],
                "object": {"metadata": {"namespace": "default", "labels": {"run": "web"}}}}]});
        let plain = Extras::default();
        assert_eq!(headings(&table, &plain), ["NAME", "READY"]);
        assert_eq!(rows(&table, &plain), [["web", "1"]]);
        let all = Extras {
            wide: true,
            namespace: true,
            show_labels: true,
            label_columns: vec!["x.io/run".into(), "run".into()],
            kind_prefix: Some("pod".into()),
        };
        assert_eq!(
            headings(&table, &all),
            ["NAMESPACE", "NAME", "READY", "IP", "RUN", "RUN", "LABELS"]
        );
        assert_eq!(
            rows(&table, &all),
            [["default", "pod/web", "1", "10.244.0.2", "", "web", "run=web"]]
        );
    }

    #[test]
    fn later_tables_of_a_watch_have_no_columns_of_their_own() {
        let mut growing = Growing::new(Extras::default(), true);
        let columns = json!([{"name": "Name"}, {"name": "Age"}]);
        let first = json!({"columnDefinitions": columns, "rows": [{"cells": ["a", "1s"]}]});
        assert_eq!(growing.print(first), "NAME   AGE\na      1s\n");
        for none in [
            json!({"rows": [{"cells": ["a", "2s"]}]}),
            json!({"columnDefinitions": [], "rows": [{"cells": ["a", "2s"]}]}),
        ] {
            assert_eq!(growing.print(none), "a      2s\n");
        }
    }

    #[test]
    fn a_cell_ends_at_its_first_line() {
        assert_eq!(cell_text(&json!("one\ntwo")), "one...");
    }
}
