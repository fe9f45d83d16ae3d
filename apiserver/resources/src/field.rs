//! Field errors in Kubernetes' own words (apimachinery `pkg/util/validation/field/errors.go`).

use std::fmt;

/// What is wrong with a field; the variants and their texts are upstream's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// A value that must be there is not.
    Required,
    /// The value is malformed; carries the value as upstream prints it (JSON, strings quoted).
    Invalid(String),
    /// The value is not one of the allowed ones; carries the value and the allowed ones.
    NotSupported(String, Vec<String>),
    /// The value may not be set here.
    Forbidden,
    /// The value stands twice.
    Duplicate(String),
    /// The value is longer than the limit in the field's unit.
    TooLong(usize),
    /// The list has more items than the limit.
    TooMany(usize, usize),
    /// What the value names does not exist.
    NotFound(String),
    /// Something else went wrong while looking at the field.
    Internal,
}

/// One problem of one field. `Display` is upstream's text, such as
/// `spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Dotted path with indices, such as `spec.ports[0].nodePort`.
    pub path: String,
    /// What is wrong.
    pub kind: ErrorKind,
    /// Upstream's explanation; may be empty.
    pub detail: String,
}

impl FieldError {
    /// `Status.details.causes[].reason` of this error, such as `FieldValueInvalid`.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self.kind {
            ErrorKind::Required => "FieldValueRequired",
            ErrorKind::Invalid(_) => "FieldValueInvalid",
            ErrorKind::NotSupported(..) => "FieldValueNotSupported",
            ErrorKind::Forbidden => "FieldValueForbidden",
            ErrorKind::Duplicate(_) => "FieldValueDuplicate",
            ErrorKind::TooLong(_) => "FieldValueTooLong",
            ErrorKind::TooMany(..) => "FieldValueTooMany",
            ErrorKind::NotFound(_) => "FieldValueNotFound",
            ErrorKind::Internal => "InternalError",
        }
    }

    /// The text without the path: `Status.details.causes[].message`.
    #[must_use]
    pub fn body(&self) -> String {
        let head = match &self.kind {
            ErrorKind::Required => "Required value".to_owned(),
            ErrorKind::Invalid(value) => format!("Invalid value: {value}"),
            ErrorKind::NotSupported(value, allowed) => {
                let quoted: Vec<String> = allowed.iter().map(|a| format!("{a:?}")).collect();
                return format!(
                    "Unsupported value: {value}: supported values: {}",
                    quoted.join(", ")
                );
            }
            ErrorKind::Forbidden => "Forbidden".to_owned(),
            ErrorKind::Duplicate(value) => format!("Duplicate value: {value}"),
            ErrorKind::TooLong(_) => "Too long".to_owned(),
            ErrorKind::TooMany(actual, max) => {
                return format!("Too many: {actual}: must have at most {max} items");
            }
            ErrorKind::NotFound(value) => format!("Not found: {value}"),
            ErrorKind::Internal => "Internal error".to_owned(),
        };
        if self.detail.is_empty() { head } else { format!("{head}: {}", self.detail) }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

/// All problems of one object.
pub type FieldErrors = Vec<FieldError>;
