//! Request bodies as JSON values: JSON, YAML and Kubernetes' protobuf by content type.
//!
//! Input: the `Content-Type` and the bytes; output: the value and the paths of fields that stand
//! twice (strict validation reports them). Decoding never recurses deeper than its parsers' limits
//! (JSON and protobuf 128 levels, YAML 64). Not here: types, defaults, validation.

use serde_json::Value;

mod protobuf;
mod tracked;
mod yaml;

pub use protobuf::{ProtobufError, WireError};
pub use tracked::from_json;
pub use yaml::{from_yaml, yaml_documents};

/// A decoded body.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Body {
    /// The value; of fields that stand twice, the last.
    pub value: Value,
    /// Paths of fields that stand twice, such as `spec.containers[0].image`.
    pub duplicates: Vec<String>,
}

/// Why a body could not be decoded; the texts are upstream's as far as they do not come from a
/// parser.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A content type that nobody here reads: 415.
    #[error(
        "the body of the request was in an unknown format - accepted media types include: \
         application/json, application/yaml, application/vnd.kubernetes.protobuf"
    )]
    UnknownMediaType,
    /// Malformed JSON: 400.
    #[error("couldn't get version/kind; json parse error: {0}")]
    Json(String),
    /// Malformed YAML: 400. The text names line and column and shows the place.
    #[error("error converting YAML to JSON: {0}")]
    Yaml(String),
    /// Malformed protobuf, or a message of an unknown kind: 400.
    #[error("unable to decode the protobuf body")]
    Protobuf(#[from] ProtobufError),
}

/// The formats of bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `application/json` and `…+json`
    Json,
    /// `application/yaml` and `…+yaml`
    Yaml,
    /// `application/vnd.kubernetes.protobuf`
    Protobuf,
}

impl Format {
    /// The format a `Content-Type` names; a missing one (the empty text) means JSON.
    #[must_use]
    pub fn of(content_type: &str) -> Option<Self> {
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        match media_type.to_ascii_lowercase().as_str() {
            "" | "*/*" | "application/json" => Some(Self::Json),
            "application/yaml" => Some(Self::Yaml),
            "application/vnd.kubernetes.protobuf" => Some(Self::Protobuf),
            other if other.ends_with("+json") => Some(Self::Json),
            other if other.ends_with("+yaml") => Some(Self::Yaml),
            _ => None,
        }
    }
}

/// Decodes a request body. Patches count as JSON or YAML by the suffix of their content type.
///
/// # Errors
/// See [`DecodeError`].
pub fn body(content_type: &str, bytes: &[u8]) -> Result<Body, DecodeError> {
    match Format::of(content_type).ok_or(DecodeError::UnknownMediaType)? {
        Format::Json => from_json(bytes),
        Format::Yaml => from_yaml(bytes),
        Format::Protobuf => {
            let value = protobuf::decode(bytes)?;
            Ok(Body { value, duplicates: Vec::new() })
        }
    }
}

#[cfg(test)]
mod tests;
