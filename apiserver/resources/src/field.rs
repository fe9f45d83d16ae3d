//! Field errors in Kubernetes' own words (apimachinery `pkg/util/validation/field/errors.go`).
//!
//! Owns: the path of a field, the kinds of problems and their texts.
//! Inputs: a path, the bad value, upstream's explanation. Outputs: [`FieldError`]s.
//! Deliberately not here: what is checked; that stands with each kind.

use std::fmt;

use serde::Serialize;

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
                let items = if *max == 1 { "item" } else { "items" };
                return format!("Too many: {actual}: must have at most {max} {items}");
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

/// Where a field stands, such as `spec.ports[0].nodePort`; makes the errors of that field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    /// A top-level field.
    #[must_use]
    pub fn new(field: &str) -> Self {
        Self(field.to_owned())
    }

    /// A field of this object; `field` may hold several steps (`metadata.labels`).
    #[must_use]
    pub fn child(&self, field: &str) -> Self {
        Self(format!("{}.{field}", self.0))
    }

    /// An item of this list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// An entry of this map.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    /// The value must be there and is not.
    #[must_use]
    pub fn required(&self, detail: impl Into<String>) -> FieldError {
        self.error(ErrorKind::Required, detail)
    }

    /// The value is malformed.
    #[must_use]
    pub fn invalid(&self, value: impl Serialize, detail: impl Into<String>) -> FieldError {
        self.error(ErrorKind::Invalid(shown(&value)), detail)
    }

    /// The value is malformed in each of these ways.
    #[must_use]
    pub fn invalid_for_each(&self, value: impl Serialize, details: Vec<String>) -> FieldErrors {
        details.into_iter().map(|detail| self.invalid(&value, detail)).collect()
    }

    /// The value is none of the allowed ones.
    #[must_use]
    pub fn not_supported(&self, value: impl Serialize, allowed: &[&str]) -> FieldError {
        let allowed = allowed.iter().map(|&a| a.to_owned()).collect();
        self.error(ErrorKind::NotSupported(shown(&value), allowed), "")
    }

    /// The value may not be set here.
    #[must_use]
    pub fn forbidden(&self, detail: impl Into<String>) -> FieldError {
        self.error(ErrorKind::Forbidden, detail)
    }

    /// The value stands twice.
    #[must_use]
    pub fn duplicate(&self, value: impl Serialize) -> FieldError {
        self.error(ErrorKind::Duplicate(shown(&value)), "")
    }

    /// The value has more than `max` bytes.
    #[must_use]
    pub fn too_long(&self, max: usize) -> FieldError {
        self.error(ErrorKind::TooLong(max), format!("may not be more than {max} bytes"))
    }

    /// The list has more than `max` items.
    #[must_use]
    pub fn too_many(&self, actual: usize, max: usize) -> FieldError {
        self.error(ErrorKind::TooMany(actual, max), "")
    }

    /// A number that must not be negative.
    #[must_use]
    pub fn negative(&self, value: impl Into<i64>) -> Option<FieldError> {
        let value = value.into();
        (value < 0).then(|| self.invalid(value, "must be greater than or equal to 0"))
    }

    /// The value was changed and may not be.
    #[must_use]
    pub fn immutable<T: Serialize + PartialEq>(&self, new: &T, old: &T) -> Option<FieldError> {
        (new != old).then(|| self.invalid(new, "field is immutable"))
    }

    /// What the value names does not exist.
    #[must_use]
    pub fn not_found(&self, value: impl Serialize) -> FieldError {
        self.error(ErrorKind::NotFound(shown(&value)), "")
    }

    fn error(&self, kind: ErrorKind, detail: impl Into<String>) -> FieldError {
        FieldError { path: self.0.clone(), kind, detail: detail.into() }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A bad value as upstream prints it, which is JSON: strings quoted, numbers plain.
fn shown(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::Path;

    #[test]
    fn texts_are_upstreams() {
        let path = Path::new("spec").child("ports").index(0).child("port");
        let labels = BTreeMap::from([("app", "web")]);
        for (error, expected) in [
            (path.required(""), "spec.ports[0].port: Required value"),
            (path.required("must be set"), "spec.ports[0].port: Required value: must be set"),
            (path.invalid(0, "too small"), "spec.ports[0].port: Invalid value: 0: too small"),
            (path.invalid("a\"b", ""), r#"spec.ports[0].port: Invalid value: "a\"b""#),
            (path.invalid(&labels, "x"), r#"spec.ports[0].port: Invalid value: {"app":"web"}: x"#),
            (
                path.not_supported("tcp", &["SCTP", "TCP"]),
                r#"spec.ports[0].port: Unsupported value: "tcp": supported values: "SCTP", "TCP""#,
            ),
            (path.forbidden("no"), "spec.ports[0].port: Forbidden: no"),
            (path.duplicate("web"), r#"spec.ports[0].port: Duplicate value: "web""#),
            (path.too_long(63), "spec.ports[0].port: Too long: may not be more than 63 bytes"),
            (path.too_many(5, 3), "spec.ports[0].port: Too many: 5: must have at most 3 items"),
            (path.not_found("data"), r#"spec.ports[0].port: Not found: "data""#),
        ] {
            assert_eq!(error.to_string(), expected);
        }
        assert_eq!(Path::new("a").child("b").key("c/d").to_string(), "a.b[c/d]");
    }
}
