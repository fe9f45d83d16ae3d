//! Patches: JSON patch, merge patch and strategic merge patch on the object as it stands.
//!
//! A patch is applied to the current JSON inside [`update::change`], so a lost race applies it
//! again. Upstream: apiserver `pkg/endpoints/handlers/patch.go`.

use resources::field::{ErrorKind, FieldError};
use resources::object::Object;
use resources::table::Resource;
use serde_json::Value;
use wire::decode::Format;
use wire::patch::JsonPatchError;

use crate::api::Api;
use crate::http::query::FieldValidation;
use crate::incoming;
use crate::status::ApiError;
use crate::stored::Current;
use crate::verbs::update::{self, Part};
use crate::verbs::{Answer, Body, Call};

const MEDIA_TYPES: &str = "application/json-patch+json, application/merge-patch+json, \
                           application/strategic-merge-patch+json";

/// The kinds of patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Json,
    Merge,
    Strategic,
}

/// A decoded patch.
pub(crate) struct Patch {
    kind: Kind,
    value: Value,
    text: String,
}

impl Patch {
    /// Reads a patch.
    ///
    /// # Errors
    /// 415 for a kind of patch that is not offered (server-side apply is one), 400 for malformed JSON.
    pub(crate) fn read(body: &Body) -> Result<Self, ApiError> {
        let media_type = body.content_type.split(';').next().unwrap_or_default().trim();
        let kind = match media_type {
            "application/json-patch+json" => Kind::Json,
            "application/merge-patch+json" => Kind::Merge,
            "application/strategic-merge-patch+json" => Kind::Strategic,
            _ => return Err(ApiError::UnsupportedMediaType(MEDIA_TYPES)),
        };
        debug_assert_eq!(Format::of(media_type), Some(Format::Json));
        let decoded = wire::decode::body("application/json", &body.bytes)
            .map_err(|e| ApiError::BadRequest(format!("error decoding patch: {e}")))?;
        let text = String::from_utf8_lossy(&body.bytes).into_owned();
        Ok(Self { kind, value: decoded.value, text })
    }

    /// The patched document.
    pub(crate) fn apply(
        &self,
        api_version: &str,
        kind: &str,
        current: &Value,
    ) -> Result<Value, ApiError> {
        match self.kind {
            Kind::Json => wire::patch::json(current, &self.value).map_err(|e| not_applied(&e)),
            Kind::Merge | Kind::Strategic if !self.value.is_object() => Err(ApiError::BadRequest(
                format!("error decoding patch: cannot unmarshal {} into an object", self.text),
            )),
            Kind::Merge => Ok(wire::patch::merge(current, &self.value)),
            Kind::Strategic => wire::patch::strategic(api_version, kind, current, &self.value)
                .map_err(|e| ApiError::BadRequest(e.to_string())),
        }
    }

    /// 422 with the patch as the culprit.
    fn refused(&self, resource: &'static Resource, name: &str, detail: String) -> ApiError {
        let quoted = Value::from(self.text.as_str()).to_string();
        let error = FieldError { path: "patch".into(), kind: ErrorKind::Invalid(quoted), detail };
        ApiError::invalid(resource, name, vec![error])
    }
}

/// Patches the object, or its status.
pub(crate) async fn patch(api: &Api, call: &Call, body: &Body) -> Result<Answer, ApiError> {
    let patch = Patch::read(body)?;
    let validation = call.query.field_validation()?;
    let mut unknown = Vec::new();
    let part = Part::of(call.target.subresource);
    let changed = update::change(api, call, part, |current| {
        let (object, warnings) = patched(call, &patch, current, validation)?;
        unknown = warnings;
        Ok(object)
    })
    .await?;
    unknown.extend(changed.warnings);
    Ok(Answer::Object { json: changed.json, created: false, warnings: unknown })
}

fn patched(
    call: &Call,
    patch: &Patch,
    current: &Current,
    validation: FieldValidation,
) -> Result<(Box<dyn Object>, Vec<String>), ApiError> {
    let resource = call.resource();
    let document: Value = serde_json::from_slice(&current.json)
        .map_err(|e| ApiError::Internal(format!("a stored object is malformed: {e}")))?;
    let patched = patch.apply(&resource.api_version(), resource.kind, &document)?;
    let patched = wire::decode::Body { value: patched, duplicates: Vec::new() };
    let problems = wire::strict::check(&resource.api_version(), resource.kind, &patched);
    let warnings = incoming::judge(problems, validation)
        .map_err(|e| patch.refused(resource, call.name(), e.to_string()))?;
    let object = incoming::typed(resource, patched.value)
        .map_err(|e| patch.refused(resource, call.name(), e.to_string()))?;
    let name = object.metadata().name.as_deref().unwrap_or_default();
    if name != call.name() {
        return Err(ApiError::BadRequest(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.name()
        )));
    }
    Ok((object, warnings))
}

/// Why a JSON patch was not applied, as the code that a client sees (upstream: `jsonPatcher`).
fn not_applied(error: &JsonPatchError) -> ApiError {
    let text = error.to_string();
    match error {
        JsonPatchError::TooManyOperations(_) | JsonPatchError::TooMuchCopied(_) => {
            ApiError::PatchTooLarge(text)
        }
        JsonPatchError::Malformed(_) => ApiError::BadRequest(text),
        _ => ApiError::Unprocessable(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content_type: &str, text: &'static str) -> Result<Patch, ApiError> {
        Patch::read(&Body { content_type: content_type.into(), bytes: text.into() })
    }

    #[test]
    fn a_failed_test_of_a_json_patch_is_unprocessable() {
        let patch = read(
            "application/json-patch+json",
            r#"[{"op":"test","path":"/a","value":2},{"op":"remove","path":"/a"}]"#,
        )
        .unwrap();
        let error = patch.apply("v1", "ConfigMap", &serde_json::json!({"a": 1})).unwrap_err();
        assert_eq!(error.code(), http::StatusCode::UNPROCESSABLE_ENTITY);
    }

    #[test]
    fn a_merge_patch_that_is_no_object_is_refused() {
        let patch = read("application/merge-patch+json", "[1]").unwrap();
        let error = patch.apply("v1", "ConfigMap", &serde_json::json!({})).unwrap_err();
        assert_eq!(error.code(), http::StatusCode::BAD_REQUEST);
    }

    #[test]
    fn server_side_apply_is_not_offered() {
        let error = read("application/apply-patch+yaml", "a: 1").err().unwrap();
        assert_eq!(error.code(), http::StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert!(error.to_string().contains("application/strategic-merge-patch+json"), "{error}");
    }
}
