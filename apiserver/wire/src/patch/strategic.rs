//! Strategic merge patches (upstream: apimachinery `pkg/util/strategicpatch/patch.go`).
//!
//! Inputs: a kind, the current object and a patch, which may carry directives: `$patch: replace`
//! and `delete`, `$retainKeys`, `$deleteFromPrimitiveList/LIST`, `$setElementOrder/LIST`. Output:
//! the patched object or upstream's refusal. Which lists merge, and by which key, stands in the
//! field table ([`crate::schema`]). Lists that merge keep the patch's order among its own items
//! and the object's order among the rest.

use serde_json::{Map, Value};

use crate::schema;

mod diff;
mod error;
mod merge;
mod order;
mod view;

pub(super) use diff::{Differences, diff};
pub use error::StrategicError;
pub(super) use merge::{Purpose, merge};
pub(super) use view::View;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList";
const ELEMENT_ORDER: &str = "$setElementOrder";

/// Applies a strategic merge patch.
///
/// # Errors
/// See [`StrategicError`].
pub fn strategic(
    api_version: &str,
    kind: &str,
    current: &Value,
    patch: &Value,
) -> Result<Value, StrategicError> {
    let view = View::of_kind(schema::table(), api_version, kind)?;
    apply(view, current, patch)
}

/// [`strategic`] for any type.
pub(super) fn apply(view: View, current: &Value, patch: &Value) -> Result<Value, StrategicError> {
    let (current, patch) = (object(current)?, object(patch)?);
    merge(current, patch, view, Purpose::Apply).map(Value::Object)
}

/// A copy of an object's fields; `null` counts as an empty object.
pub(super) fn object(value: &Value) -> Result<Map<String, Value>, StrategicError> {
    match value {
        Value::Object(fields) => Ok(fields.clone()),
        Value::Null => Ok(Map::new()),
        _ => Err(StrategicError::BadDocument),
    }
}

#[cfg(test)]
mod tests;
