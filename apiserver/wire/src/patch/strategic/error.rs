//! Refusals of strategic merge patches, in upstream's words (apimachinery
//! `pkg/util/mergepatch/errors.go`), and values as Go's `%v` prints them.

use std::fmt::Write;

use serde_json::{Map, Value};

/// Why a strategic merge patch could not be applied or computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StrategicError {
    /// The kind has no strategies: such objects take JSON and merge patches only.
    #[error("strategic merge patch format is not supported for {api_version} {kind}")]
    UnknownKind {
        /// e.g. `example.com/v1`
        api_version: String,
        /// e.g. `Foo`
        kind: String,
    },
    /// Not a JSON object.
    #[error("invalid JSON document")]
    BadDocument,
    /// A field that the type does not have.
    #[error("unable to find api field in struct {of} for the json field {field:?}")]
    UnknownField {
        /// The type.
        of: &'static str,
        /// The field.
        field: String,
    },
    /// A value of another type than its place needs.
    #[error("expected a {expected}, but received a {received}")]
    BadType {
        /// Go's name of the type.
        expected: &'static str,
        /// Go's name of the type.
        received: &'static str,
    },
    /// An item of a merging list without the key that tells items apart.
    #[error("map: {item} does not contain declared merge key: {key}")]
    NoMergeKey {
        /// The item, as Go prints maps.
        item: String,
        /// The key.
        key: String,
    },
    /// A list of objects that should merge but has no key.
    #[error("cannot merge lists without merge key for {0}")]
    KeylessList(&'static str),
    /// `$patch` with an unknown value.
    #[error("unknown patch type: {directive} in map: {item}")]
    BadDirective {
        /// The value.
        directive: String,
        /// The object, as Go prints maps.
        item: String,
    },
    /// `$patch: merge` in an item of a list.
    #[error("merging lists cannot yet be specified in the patch")]
    MergeDirective,
    /// `$patch` in a document that is to be compared is no text.
    #[error("invalid value for special key: $patch")]
    BadDirectiveValue,
    /// A key that starts like `$deleteFromPrimitiveList` but names no list.
    #[error("invalid patch format of primitive list")]
    BadDeletionList,
    /// `$retainKeys` is no list, or the patch has fields that it does not name.
    #[error("invalid patch format of retainKeys")]
    BadRetainKeys,
    /// `$setElementOrder` is malformed.
    #[error("invalid patch format of setElementOrder list")]
    BadElementOrder,
    /// The items of the patch are not in the order of `$setElementOrder`.
    #[error("The order in patch list:\n{patch}\n doesn't match $setElementOrder list:\n{order}\n")]
    OrderMismatch {
        /// As Go prints lists.
        patch: String,
        /// As Go prints lists.
        order: String,
    },
    /// A list inside a merging list.
    #[error("lists of lists are not supported")]
    ListOfLists,
    /// Items of different types in a merging list.
    #[error("list element types are not identical: {0}")]
    MixedList(String),
    /// The patch would change what the object is.
    #[error("At least one of apiVersion, kind and name was changed")]
    IdentityChanged,
}

impl StrategicError {
    /// The error for a value that is no object.
    pub(super) fn not_an_object(value: &Value) -> Self {
        Self::BadType { expected: "map[string]interface {}", received: go_type(value) }
    }

    /// The error for a value that is no list.
    pub(super) fn not_a_list(value: &Value) -> Self {
        Self::BadType { expected: "[]interface {}", received: go_type(value) }
    }

    /// The error for an item without key.
    pub(super) fn no_merge_key(item: &Map<String, Value>, key: &str) -> Self {
        Self::NoMergeKey { item: go_map(item), key: key.to_owned() }
    }
}

/// The Go type that JSON decodes to.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// A value as Go's `%v` prints it: `map[a:1 b:[x y]]`.
pub(super) fn go_value(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => go_list(items),
        Value::Object(fields) => go_map(fields),
        scalar => scalar.to_string(),
    }
}

/// A list as Go's `%v` prints it.
pub(super) fn go_list(items: &[Value]) -> String {
    let items: Vec<String> = items.iter().map(go_value).collect();
    format!("[{}]", items.join(" "))
}

/// An object as Go's `%v` prints a map: sorted by key.
pub(super) fn go_map(fields: &Map<String, Value>) -> String {
    let mut sorted: Vec<_> = fields.iter().collect();
    sorted.sort_unstable_by_key(|(name, _)| *name);
    let mut out = "map[".to_owned();
    for (i, (name, value)) in sorted.into_iter().enumerate() {
        let space = if i == 0 { "" } else { " " };
        write!(out, "{space}{name}:{}", go_value(value)).expect("writing to a String cannot fail");
    }
    out.push(']');
    out
}
