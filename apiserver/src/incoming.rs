//! Request bodies as typed objects: format, kind, unknown fields, types.
//!
//! Inputs: a body and the resource it was sent to. Outputs: the object, with warnings about fields
//! that were dropped. Upstream: apiserver `pkg/endpoints/handlers/{create,update,rest}.go`.

use resources::object::Object;
use resources::table::{self, Resource};
use serde_json::Value;

use crate::http::query::FieldValidation;
use crate::status::ApiError;
use crate::verbs::Body;

const MEDIA_TYPES: &str =
    "application/json, application/yaml, application/vnd.kubernetes.protobuf, application/cbor";

/// A decoded object.
pub(crate) struct Incoming {
    pub(crate) object: Box<dyn Object>,
    pub(crate) warnings: Vec<String>,
}

/// Decodes a body that must hold an object of `resource`.
///
/// # Errors
/// 415 for a format nobody reads; 400 for what is malformed, of another kind, or strictly invalid.
pub(crate) fn object(
    resource: &'static Resource,
    body: &Body,
    validation: FieldValidation,
) -> Result<Incoming, ApiError> {
    let decoded = value(body, resource.kind)?;
    check_kind(resource, &decoded.value)?;
    let problems = wire::strict::check(&resource.api_version(), resource.kind, &decoded);
    let warnings = judge(problems, validation).map_err(|e| unfit(resource, &e.to_string()))?;
    Ok(Incoming { object: typed(resource, decoded.value)?, warnings })
}

/// Decodes a body of any kind, such as options.
pub(crate) fn value(body: &Body, kind: &str) -> Result<wire::decode::Body, ApiError> {
    use wire::decode::DecodeError;
    wire::decode::body(&body.content_type, &body.bytes).map_err(|error| match error {
        DecodeError::UnknownMediaType => ApiError::UnsupportedMediaType(MEDIA_TYPES),
        other => ApiError::BadRequest(format!(
            "the object provided is unrecognized (must be of type {kind}): {other} ({})",
            summary(&body.bytes)
        )),
    })
}

/// The first bytes of a body in hexadecimal (upstream: `summarizeData`).
fn summary(bytes: &[u8]) -> String {
    const SHOWN: usize = 30;
    if bytes.is_empty() {
        return "<empty>".to_owned();
    }
    let hex: String = bytes.iter().take(SHOWN).map(|b| format!("{b:02x}")).collect();
    if bytes.len() > SHOWN { format!("{hex} ...") } else { hex }
}

/// Refuses an object of another version or kind; fills in what is missing, as upstream does.
fn check_kind(resource: &Resource, value: &Value) -> Result<(), ApiError> {
    let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let expected = resource.api_version();
    if !value.is_object() {
        return Err(ApiError::BadRequest(format!(
            "the object provided is unrecognized (must be of type {}): couldn't get version/kind; \
             json parse error: cannot unmarshal into an object",
            resource.kind
        )));
    }
    if !api_version.is_empty() && api_version != expected {
        return Err(ApiError::BadRequest(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({expected})"
        )));
    }
    if !kind.is_empty() && kind != resource.kind {
        let (version, wanted) = (resource.version, resource.kind);
        let reason = not_converted(resource, kind);
        return Err(ApiError::BadRequest(format!(
            "{kind} in version {version:?} cannot be handled as a {wanted}: {reason}"
        )));
    }
    Ok(())
}

/// Why an object of another kind does not become one of `resource` (upstream:
/// `runtime.NewNotRegisteredErrForKind`, `conversion.Converter.Convert`). A kind written in lower
/// case gets here, because kubectl finds its resource all the same.
fn not_converted(resource: &Resource, kind: &str) -> String {
    let version = resource.version;
    let api_version = resource.api_version();
    if table::by_kind(&api_version, kind).is_none() {
        return format!(
            "no kind {kind:?} is registered for version {api_version:?} in scheme \
             \"pkg/api/legacyscheme/scheme.go:30\""
        );
    }
    let package = match resource.group.split('.').next() {
        None | Some("") => "core",
        Some(package) => package,
    };
    let wanted = resource.kind;
    format!("converting ({version}.{kind}) to ({package}.{wanted}): unknown conversion")
}

/// The typed object of a JSON value.
pub(crate) fn typed(
    resource: &'static Resource,
    mut value: Value,
) -> Result<Box<dyn Object>, ApiError> {
    if let Value::Object(fields) = &mut value {
        fields.entry("apiVersion").or_insert_with(|| resource.api_version().into());
        fields.entry("kind").or_insert_with(|| resource.kind.into());
        fields.entry("metadata").or_insert_with(|| serde_json::json!({}));
    }
    wire::nulls::fill(&resource.api_version(), resource.kind, &mut value);
    if let Some(mismatch) = wire::strict::mismatch(&resource.api_version(), resource.kind, &value) {
        return Err(unfit(resource, &mismatch));
    }
    let bytes = serde_json::to_vec(&value)
        .map_err(|e| ApiError::Internal(format!("encode a value: {e}")))?;
    resource.strategy.decode(&bytes).map_err(|e| unfit(resource, &without_position(&e)))
}

/// Upstream: `transformDecodeError`.
fn unfit(resource: &Resource, reason: &str) -> ApiError {
    ApiError::BadRequest(format!(
        "{kind} in version {:?} cannot be handled as a {kind}: {reason}",
        resource.version,
        kind = resource.kind,
    ))
}

/// serde's text without the place, which lies in our own encoding and not in the client's.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// What to do with problems strict decoding found: refuse, warn or keep silent.
pub(crate) fn judge(
    problems: Vec<String>,
    validation: FieldValidation,
) -> Result<Vec<String>, ApiError> {
    match validation {
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Warn => Ok(problems),
        FieldValidation::Strict if problems.is_empty() => Ok(Vec::new()),
        FieldValidation::Strict => {
            Err(ApiError::BadRequest(format!("strict decoding error: {}", problems.join(", "))))
        }
    }
}
