//! JSON patches (RFC 6902) as upstream's library applies them (evanphx/json-patch v4): negative
//! indices count from the end, a `test` for `null` passes where nothing is.
//!
//! Input: the document and the list of operations; output: the new document or the first
//! operation's refusal in upstream's words. Bounds: the number of operations, the bytes that
//! copies add (else a short patch could double a document forty times), and the depth (else one
//! could nest a document deeper than a stack).

use serde::Deserialize;
use serde_json::Value;

/// Upstream's limit of operations in one patch.
pub const MAX_OPERATIONS: usize = 10_000;

/// Upstream's limit of bytes that copies of one patch may add.
pub const MAX_COPIED: usize = 3 * 1024 * 1024;

/// Deeper values are refused, as the decoders do.
const MAX_DEPTH: usize = 128;

/// Why a JSON patch was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonPatchError {
    /// More than [`MAX_OPERATIONS`] operations: 413.
    #[error("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {0}")]
    TooManyOperations(usize),
    /// Not a list of operations: 400.
    #[error("error decoding patch: {0}")]
    Malformed(String),
    /// Something on the way to an operation's place is not there: 422.
    #[error("{operation} operation does not apply: doc is missing {what}: {path}: missing value")]
    Missing {
        /// `add`, `remove`, …
        operation: &'static str,
        /// `path`, `key`, `from path` or `destination path`
        what: &'static str,
        /// JSON pointer; in quotes for some operations.
        path: String,
    },
    /// The field to remove is not there: 422.
    #[error(
        "error in {operation} for path: '{path}': \
         Unable to remove nonexistent key: {key}: missing value"
    )]
    NoSuchKey {
        /// `remove` or `move`
        operation: &'static str,
        /// JSON pointer.
        path: String,
        /// Last part of the path.
        key: String,
    },
    /// A place in a list that is not there: 422.
    #[error(
        "error in {operation} for path: '{path}': \
         Unable to access invalid index: {index}: invalid index referenced"
    )]
    NoSuchIndex {
        /// `add`, `remove`, …
        operation: &'static str,
        /// JSON pointer.
        path: String,
        /// The index.
        index: i64,
    },
    /// A place in a list that is no number: 422.
    #[error("error in {operation} for path: '{path}': value was not a proper array index: '{key}'")]
    NotAnIndex {
        /// `add`, `remove`, …
        operation: &'static str,
        /// JSON pointer.
        path: String,
        /// Last part of the path.
        key: String,
    },
    /// A `test` operation found something else: 422.
    #[error("testing value {0} failed: test failed")]
    TestFailed(String),
    /// Copies add more than [`MAX_COPIED`] bytes: 413.
    #[error(
        "Unable to complete the copy, the accumulated size increase of copy is {0}, \
         exceeding the limit {MAX_COPIED}"
    )]
    TooMuchCopied(usize),
    /// The document would nest deeper than the decoders read: 422.
    #[error("{path} nests deeper than {MAX_DEPTH} levels")]
    TooDeep {
        /// JSON pointer.
        path: String,
    },
}

/// One operation of a patch.
#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Operation {
    Add {
        path: String,
        value: Value,
    },
    Remove {
        path: String,
    },
    Replace {
        path: String,
        value: Value,
    },
    Move {
        from: String,
        path: String,
    },
    Copy {
        from: String,
        path: String,
    },
    Test {
        path: String,
        #[serde(default)]
        value: Value,
    },
}

/// Applies a JSON patch.
///
/// # Errors
/// See [`JsonPatchError`].
pub fn json(current: &Value, operations: &Value) -> Result<Value, JsonPatchError> {
    if let Some(count) = operations.as_array().map(Vec::len).filter(|&n| n > MAX_OPERATIONS) {
        return Err(JsonPatchError::TooManyOperations(count));
    }
    let operations = Vec::<Operation>::deserialize(operations)
        .map_err(|e| JsonPatchError::Malformed(e.to_string()))?;
    let mut document = current.clone();
    let mut copied = 0;
    for operation in operations {
        apply(&mut document, operation, &mut copied)?;
    }
    Ok(document)
}

fn apply(
    document: &mut Value,
    operation: Operation,
    copied: &mut usize,
) -> Result<(), JsonPatchError> {
    match operation {
        Operation::Add { path, value } => add(document, ("add", "path"), &path, value),
        Operation::Remove { path } => remove(document, ("remove", "path"), &path).map(drop),
        Operation::Replace { path, value } => {
            check_depth(&path, &value)?;
            *existing(document, &path)? = value;
            Ok(())
        }
        Operation::Move { from, path } => {
            let value = remove(document, ("move", "from path"), &from)?;
            add(document, ("move", "destination path"), &path, value)
        }
        Operation::Copy { from, path } => {
            let value =
                find(document, &from).ok_or_else(|| missing("copy", "from path", &from))?.clone();
            *copied += value.to_string().len();
            if *copied > MAX_COPIED {
                return Err(JsonPatchError::TooMuchCopied(*copied));
            }
            add(document, ("copy", "destination path"), &path, value)
        }
        Operation::Test { path, value } => {
            // Nothing equals null, as long as there is something that could hold it.
            let holds = match split(&path) {
                None => path.is_empty() && *document == value,
                Some((parent, _)) => {
                    find(document, parent).is_some()
                        && *find(document, &path).unwrap_or(&Value::Null) == value
                }
            };
            if holds { Ok(()) } else { Err(JsonPatchError::TestFailed(path)) }
        }
    }
}

fn missing(operation: &'static str, what: &'static str, path: &str) -> JsonPatchError {
    // Upstream quotes the path in some of its texts.
    let path = if what == "path" { format!("{path:?}") } else { path.to_owned() };
    JsonPatchError::Missing { operation, what, path }
}

/// The last part of a pointer, and the pointer to what holds it.
fn split(path: &str) -> Option<(&str, String)> {
    let (parent, last) = path.rsplit_once('/')?;
    Some((parent, last.replace("~1", "/").replace("~0", "~")))
}

/// The parts of a pointer; `None` if it is not one.
fn parts(path: &str) -> Option<impl Iterator<Item = String>> {
    let is_pointer = path.is_empty() || path.starts_with('/');
    is_pointer.then(|| path.split('/').skip(1).map(|p| p.replace("~1", "/").replace("~0", "~")))
}

/// The value at a pointer; list indices may be negative.
fn find<'v>(document: &'v Value, path: &str) -> Option<&'v Value> {
    parts(path)?.try_fold(document, |value, part| match value {
        Value::Object(fields) => fields.get(&part),
        Value::Array(items) => items.get(place(part.parse().ok()?, items.len())?),
        _ => None,
    })
}

fn find_mut<'v>(document: &'v mut Value, path: &str) -> Option<&'v mut Value> {
    parts(path)?.try_fold(document, |value, part| match value {
        Value::Object(fields) => fields.get_mut(&part),
        Value::Array(items) => {
            let place = place(part.parse().ok()?, items.len())?;
            items.get_mut(place)
        }
        _ => None,
    })
}

/// The place of an index in a list; negative ones count from the end.
fn place(index: i64, length: usize) -> Option<usize> {
    let length = i64::try_from(length).ok()?;
    let index = if index < 0 { index + length } else { index };
    usize::try_from(index).ok()
}

fn add(
    document: &mut Value,
    (operation, what): (&'static str, &'static str),
    path: &str,
    value: Value,
) -> Result<(), JsonPatchError> {
    check_depth(path, &value)?;
    let (parent, key) = split(path).ok_or_else(|| missing(operation, what, path))?;
    match find_mut(document, parent) {
        Some(Value::Object(fields)) => {
            fields.insert(key, value);
            Ok(())
        }
        Some(Value::Array(items)) if key == "-" => {
            items.push(value);
            Ok(())
        }
        Some(Value::Array(items)) => {
            let index = index(operation, path, &key)?;
            let place = place(index, items.len() + 1)
                .filter(|&place| place <= items.len())
                .ok_or_else(|| no_such_index(operation, path, index))?;
            items.insert(place, value);
            Ok(())
        }
        _ => Err(missing(operation, what, path)),
    }
}

fn remove(
    document: &mut Value,
    (operation, what): (&'static str, &'static str),
    path: &str,
) -> Result<Value, JsonPatchError> {
    let (parent, key) = split(path).ok_or_else(|| missing(operation, what, path))?;
    match find_mut(document, parent) {
        Some(Value::Object(fields)) => fields
            .remove(&key)
            .ok_or_else(|| JsonPatchError::NoSuchKey { operation, path: path.to_owned(), key }),
        Some(Value::Array(items)) => {
            let index = index(operation, path, &key)?;
            let place = place(index, items.len())
                .filter(|&place| place < items.len())
                .ok_or_else(|| no_such_index(operation, path, index))?;
            Ok(items.remove(place))
        }
        _ => Err(missing(operation, what, path)),
    }
}

/// The value that a `replace` replaces.
fn existing<'v>(document: &'v mut Value, path: &str) -> Result<&'v mut Value, JsonPatchError> {
    let what = match split(path) {
        Some((parent, _)) if find(document, parent).is_none() => "path",
        _ => "key",
    };
    find_mut(document, path).ok_or_else(|| JsonPatchError::Missing {
        operation: "replace",
        what,
        path: path.to_owned(),
    })
}

fn index(operation: &'static str, path: &str, key: &str) -> Result<i64, JsonPatchError> {
    key.parse().map_err(|_| JsonPatchError::NotAnIndex {
        operation,
        path: path.to_owned(),
        key: key.to_owned(),
    })
}

fn no_such_index(operation: &'static str, path: &str, index: i64) -> JsonPatchError {
    JsonPatchError::NoSuchIndex { operation, path: path.to_owned(), index }
}

fn check_depth(path: &str, value: &Value) -> Result<(), JsonPatchError> {
    if path.matches('/').count() + depth(value) > MAX_DEPTH {
        return Err(JsonPatchError::TooDeep { path: path.to_owned() });
    }
    Ok(())
}

/// Levels of lists and objects; a value of the document has at most [`MAX_DEPTH`].
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
