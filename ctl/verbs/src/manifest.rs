//! Manifests: files, directories and standard input into objects.
//!
//! Owns: the `-f` and `-R` flags, reading, splitting into documents, and flattening `List`s.
//! Outputs: [`Manifest`]s in file order. Invariant: a syntax error names file, line and column of
//! the *file*, not of the document. YAML scalars are read as kubectl reads them (YAML 1.1).
//! Deliberately not here: whether the fields make sense (the server's strict decoding says it).

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::Error;
use crate::io::Io;

/// Which manifests to read.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Files {
    /// File name or directory with the configuration; "-" reads standard input
    #[arg(short, long, value_name = "FILE", value_delimiter = ',')]
    pub filename: Vec<String>,
    /// Process the directory used in -f, --filename recursively
    #[arg(short = 'R', long)]
    pub recursive: bool,
}

impl Files {
    pub(crate) fn is_empty(&self) -> bool {
        self.filename.is_empty()
    }

    /// Reads every object. Fails on the first file that cannot be read or parsed.
    pub(crate) async fn read(&self, io: &mut Io) -> Result<Vec<Manifest>, Error> {
        let mut all = Vec::new();
        for name in &self.filename {
            if name == "-" {
                let text = io.read_input().await?;
                all.extend(parse("STDIN", &text)?);
                continue;
            }
            if name.starts_with("http://") || name.starts_with("https://") {
                return Err(Error::refused(format!(
                    "{name:?} is a URL, and manifests are only read from files here: download it \
                     first, or pipe it into -f -"
                )));
            }
            for path in expand(Path::new(name), self.recursive)? {
                let text = std::fs::read(&path)
                    .map_err(|source| Error::ReadFile { path: path.clone(), source })?;
                all.extend(parse(&path.display().to_string(), &text)?);
            }
        }
        if all.is_empty() {
            return Err(Error::refused("no objects passed to the command"));
        }
        Ok(all)
    }
}

const EXTENSIONS: [&str; 3] = ["json", "yaml", "yml"];

/// The files that a name stands for: itself, or a directory's manifests in order of their names.
fn expand(path: &Path, recursive: bool) -> Result<Vec<PathBuf>, Error> {
    let metadata = std::fs::metadata(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Error::refused(format!("the path {:?} does not exist", path.display().to_string()))
        }
        _ => Error::ReadFile { path: path.to_owned(), source: e },
    })?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    list(path, recursive, &mut found)?;
    if found.is_empty() {
        return Err(Error::refused(format!(
            "error reading [{}]: recognized file extensions are [.json .yaml .yml]",
            path.display()
        )));
    }
    Ok(found)
}

fn list(dir: &Path, recursive: bool, found: &mut Vec<PathBuf>) -> Result<(), Error> {
    let failed = |source| Error::ReadFile { path: dir.to_owned(), source };
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        entries.push(entry.map_err(failed)?.path());
    }
    entries.sort();
    for path in entries {
        if path.is_dir() {
            if recursive {
                list(&path, recursive, found)?;
            }
        } else if path.extension().is_some_and(|e| EXTENSIONS.iter().any(|x| *x == e)) {
            found.push(path);
        }
    }
    Ok(())
}

/// One object and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Manifest {
    /// File name or `STDIN`, for messages.
    pub(crate) origin: String,
    pub(crate) value: Value,
}

impl Manifest {
    fn text(&self, pointer: &str) -> &str {
        self.value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
    }

    pub(crate) fn api_version(&self) -> &str {
        self.text("/apiVersion")
    }

    pub(crate) fn kind(&self) -> &str {
        self.text("/kind")
    }

    pub(crate) fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    pub(crate) fn namespace(&self) -> &str {
        self.text("/metadata/namespace")
    }
}

/// Parses a file's text: JSON if it starts with a brace, YAML otherwise.
pub(crate) fn parse(origin: &str, text: &[u8]) -> Result<Vec<Manifest>, Error> {
    let at = |line: u64, column: u64, detail: String| Error::Manifest {
        origin: origin.to_owned(),
        line,
        column,
        detail,
    };
    let text = std::str::from_utf8(text).map_err(|e| {
        let good = &text[..e.valid_up_to()];
        let line = good.iter().filter(|b| **b == b'\n').count() as u64 + 1;
        at(line, 1, "not UTF-8 text".to_owned())
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut found = Vec::new();
    if text.trim_start().starts_with('{') {
        for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
            let value =
                value.map_err(|e| at(e.line() as u64, e.column() as u64, json_cause(&e)))?;
            flatten(origin, value, &mut found)?;
        }
        return Ok(found);
    }
    for document in documents(text).map_err(|(line, detail)| at(line, 1, detail))? {
        // Empty lines in front make the parser count lines from the start of the file.
        let padded = "\n".repeat(document.first_line) + &document.text;
        let options = serde_saphyr::options! { legacy_octal_numbers: true };
        let value: Value = serde_saphyr::from_str_with_options(&padded, options).map_err(|e| {
            let (line, column) = e.location().map_or((0, 0), |l| (l.line(), l.column()));
            let cause = yaml_cause(&e);
            match tab_in_indentation(&padded, line).filter(|_| speaks_of_tabs(&cause)) {
                Some((line, column)) => at(line, column, TAB.to_owned()),
                None => at(line, column, cause),
            }
        })?;
        if !value.is_null() {
            flatten(origin, value, &mut found)?;
        }
    }
    Ok(found)
}

/// Parses one value that need not be an object: a patch.
pub(crate) fn parse_value(text: &str) -> Result<Value, Error> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|e| {
        let (line, column) = e.location().map_or((0, 0), |l| (l.line(), l.column()));
        Error::Manifest { origin: "the patch".to_owned(), line, column, detail: yaml_cause(&e) }
    })
}

fn json_cause(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(cause, _)| cause.to_owned())
}

/// The first line of the parser's message, without its own mention of the place.
fn yaml_cause(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let first = text.lines().next().unwrap_or("").trim();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let first = match first.strip_prefix("line ") {
        Some(rest) => rest.split_once(": ").map_or(first, |(_, cause)| cause),
        None => first,
    };
    first.split(" at line ").next().unwrap_or(first).to_owned()
}

const TAB: &str = "a tab is used for indentation; YAML allows only spaces";

fn speaks_of_tabs(cause: &str) -> bool {
    cause.split(|c: char| !c.is_alphanumeric()).any(|word| matches!(word, "tab" | "tabs"))
}

/// Line and column of the first tab before a line's content, at or after a line. The parser names
/// the line that it was reading, and that may be the one before.
fn tab_in_indentation(text: &str, from: u64) -> Option<(u64, u64)> {
    let mut lines = (1..).zip(text.lines()).skip_while(|(number, _)| *number < from);
    lines.find_map(|(number, line)| {
        let indentation = line.len() - line.trim_start().len();
        let column = line[..indentation].find('\t')?;
        Some((number, column as u64 + 1))
    })
}

struct Document {
    /// How many lines of the file stand before the text.
    first_line: usize,
    text: String,
}

/// Splits at lines that are `---`, as kubectl's YAML reader does; a separator with more dashes or
/// text behind it is refused (apimachinery `pkg/util/yaml/decoder.go`).
fn documents(text: &str) -> Result<Vec<Document>, (u64, String)> {
    let mut all = vec![Document { first_line: 0, text: String::new() }];
    for (i, line) in text.split_inclusive('\n').enumerate() {
        if let Some(rest) = line.strip_prefix("---") {
            let rest = rest.trim();
            if !rest.is_empty() && !rest.starts_with('#') {
                return Err((i as u64 + 1, format!("invalid Yaml document separator: {rest}")));
            }
            all.push(Document { first_line: i + 1, text: String::new() });
        } else if let Some(last) = all.last_mut() {
            last.text.push_str(line);
        }
    }
    let content = |l: &str| !l.trim().is_empty() && !l.trim_start().starts_with('#');
    all.retain(|d| d.text.lines().any(content));
    Ok(all)
}

/// Adds an object, or the objects of a `List` kind.
fn flatten(origin: &str, value: Value, found: &mut Vec<Manifest>) -> Result<(), Error> {
    if !value.is_object() {
        let what = match &value {
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Bool(_) => "bool",
            _ => "number",
        };
        return Err(Error::refused(format!(
            "error parsing {origin}: an object with apiVersion and kind is expected, but the \
             document is of type {what}"
        )));
    }
    let is_list = value.get("kind").and_then(Value::as_str).is_some_and(|k| k.ends_with("List"));
    match value.get("items").and_then(Value::as_array) {
        Some(items) if is_list => {
            for item in items {
                flatten(origin, item.clone(), found)?;
            }
        }
        _ => found.push(Manifest { origin: origin.to_owned(), value }),
    }
    Ok(())
}

/// Refuses an object without kind or version, in kubectl's words.
pub(crate) fn require_type(manifest: &Manifest) -> Result<(), Error> {
    let mut missing = Vec::new();
    if manifest.api_version().is_empty() {
        missing.push("apiVersion not set");
    }
    if manifest.kind().is_empty() {
        missing.push("kind not set");
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::refused(format!(
        "error validating {:?}: error validating data: [{}]; if you choose to ignore these errors, \
         turn validation off with --validate=false",
        manifest.origin,
        missing.join(", ")
    )))
}

#[cfg(test)]
#[path = "manifest/tests.rs"]
mod tests;
