//! Columns and cells of server-side Tables (upstream: `pkg/printers/internalversion/printers.go`).
//!
//! Owns: the vocabulary in which each kind describes its row. Each kind's own columns stand in its file.
//! Deliberately not here: the Table object and its JSON, which the HTTP pipeline builds.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use crate::duration;

/// Shown where a value may be absent.
pub(crate) const NONE: &str = "<none>";
/// Shown where a value should be there but is not known.
pub(crate) const UNKNOWN: &str = "<unknown>";
/// Shown where a value may be set on purpose and is not.
pub(crate) const UNSET: &str = "<unset>";

/// A printer column of a Table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// As printed, e.g. `Cluster-IP`.
    pub name: &'static str,
    /// `string`, `integer`, …
    pub kind: &'static str,
    /// `name` for the column of the object's name, else empty.
    pub format: &'static str,
    /// 0 always shown, 1 with `-o wide`.
    pub priority: i32,
}

impl Column {
    /// The object's name.
    pub const NAME: Self = Self { name: "Name", kind: "string", format: "name", priority: 0 };
    /// The time since the object was created.
    pub const AGE: Self = Self::text("Age");

    /// A column of text that is always shown.
    #[must_use]
    pub const fn text(name: &'static str) -> Self {
        Self { name, kind: "string", format: "", priority: 0 }
    }

    /// A column of numbers that is always shown.
    #[must_use]
    pub const fn integer(name: &'static str) -> Self {
        Self { name, kind: "integer", format: "", priority: 0 }
    }

    /// A column of text that only `-o wide` shows.
    #[must_use]
    pub const fn wide(name: &'static str) -> Self {
        Self { name, kind: "string", format: "", priority: 1 }
    }
}

/// A value in a Table row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Cell {
    /// Text.
    Text(String),
    /// A number.
    Number(i64),
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for Cell {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<i32> for Cell {
    fn from(number: i32) -> Self {
        Self::Number(number.into())
    }
}

/// The object's name.
pub(crate) fn name(metadata: &ObjectMeta) -> Cell {
    Cell::Text(metadata.name.clone().unwrap_or_default())
}

/// The object's age.
pub(crate) fn age(metadata: &ObjectMeta, now: Timestamp) -> Cell {
    Cell::Text(duration::since(metadata.creation_timestamp.as_ref(), now))
}

/// How many entries a map or list has.
pub(crate) fn count(entries: usize) -> Cell {
    Cell::Number(i64::try_from(entries).unwrap_or(i64::MAX))
}

/// The text, or `<none>` when it is empty.
pub(crate) fn or_none(text: Option<&str>) -> &str {
    text.filter(|t| !t.is_empty()).unwrap_or(NONE)
}
