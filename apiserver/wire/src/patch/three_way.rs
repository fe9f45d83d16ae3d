//! The patch that `apply` sends (upstream: `CreateThreeWayMergePatch` in apimachinery's
//! `strategicpatch` and `CreateThreeWayJSONMergePatch` in `jsonmergepatch`).
//!
//! Inputs: what was applied last, what is wanted, and what the server has; output: a patch that
//! removes what was applied and is not wanted any more, adds and changes what differs from the
//! server's, and leaves alone what others set. An empty object means that nothing is to do.

use serde_json::{Map, Value};

use crate::schema;

use super::strategic::{Differences, Purpose, StrategicError, View, diff, merge, object};

/// The strategic merge patch of an apply. Conflicts with others' changes are overwritten, as
/// kubectl does by default.
///
/// # Errors
/// [`StrategicError::IdentityChanged`] if the patch would change `apiVersion`, `kind` or
/// `metadata.name`; else see [`StrategicError`].
pub fn three_way_strategic(
    api_version: &str,
    kind: &str,
    original: Option<&Value>,
    modified: &Value,
    current: &Value,
) -> Result<Value, StrategicError> {
    let view = View::of_kind(schema::table(), api_version, kind)?;
    let patch = three_way(view, original.unwrap_or(&Value::Null), modified, current)?;
    keep_identity(&patch)?;
    Ok(patch)
}

/// [`three_way_strategic`] for any type.
pub(super) fn three_way(
    view: View,
    original: &Value,
    modified: &Value,
    current: &Value,
) -> Result<Value, StrategicError> {
    let (original, modified, current) = (object(original)?, object(modified)?, object(current)?);
    let delta = diff(&current, &modified, view, Differences::Additions)?;
    let deletions = diff(&original, &modified, view, Differences::Deletions)?;
    merge(deletions, delta, view, Purpose::Combine).map(Value::Object)
}

/// The JSON merge patch of an apply, for kinds without strategies.
///
/// # Errors
/// As [`three_way_strategic`].
pub fn three_way_merge(
    original: Option<&Value>,
    modified: &Value,
    current: &Value,
) -> Result<Value, StrategicError> {
    let original = original.unwrap_or(&Value::Null);
    let (original, modified, current) = (object(original)?, object(modified)?, object(current)?);
    let additions = additions(diff_plain(&current, &modified));
    let mut patch = Value::Object(deletions(diff_plain(&original, &modified)));
    super::merge_into(&mut patch, &Value::Object(additions));
    keep_identity(&patch)?;
    Ok(patch)
}

/// The strategic merge patch from `original` to `modified`.
///
/// # Errors
/// See [`StrategicError`].
pub fn diff_strategic(
    api_version: &str,
    kind: &str,
    original: &Value,
    modified: &Value,
) -> Result<Value, StrategicError> {
    let view = View::of_kind(schema::table(), api_version, kind)?;
    let (original, modified) = (object(original)?, object(modified)?);
    diff(&original, &modified, view, Differences::All).map(Value::Object)
}

/// The JSON merge patch from `original` to `modified`.
#[must_use]
pub fn diff_merge(original: &Value, modified: &Value) -> Value {
    match (original, modified) {
        (Value::Object(original), Value::Object(modified)) => {
            Value::Object(diff_plain(original, modified))
        }
        (_, modified) => modified.clone(),
    }
}

fn diff_plain(original: &Map<String, Value>, modified: &Map<String, Value>) -> Map<String, Value> {
    let mut patch = Map::new();
    for (name, new) in modified {
        match (original.get(name), new) {
            (Some(old), new) if old == new => {}
            (Some(Value::Object(old)), Value::Object(new)) => {
                patch.insert(name.clone(), Value::Object(diff_plain(old, new)));
            }
            (_, new) => {
                patch.insert(name.clone(), new.clone());
            }
        }
    }
    for name in original.keys().filter(|name| !modified.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    patch
}

/// A merge patch without its nulls.
fn additions(patch: Map<String, Value>) -> Map<String, Value> {
    let keep = |(name, value): (String, Value)| match value {
        Value::Null => None,
        Value::Object(fields) if !fields.is_empty() => {
            let kept = additions(fields);
            (!kept.is_empty()).then_some((name, Value::Object(kept)))
        }
        other => Some((name, other)),
    };
    patch.into_iter().filter_map(keep).collect()
}

/// A merge patch with nothing but its nulls.
fn deletions(patch: Map<String, Value>) -> Map<String, Value> {
    let keep = |(name, value): (String, Value)| match value {
        Value::Null => Some((name, Value::Null)),
        Value::Object(fields) => {
            let kept = deletions(fields);
            (!kept.is_empty()).then_some((name, Value::Object(kept)))
        }
        _ => None,
    };
    patch.into_iter().filter_map(keep).collect()
}

/// An apply may not turn an object into another one.
fn keep_identity(patch: &Value) -> Result<(), StrategicError> {
    let changed =
        ["/apiVersion", "/kind", "/metadata/name"].iter().any(|path| patch.pointer(path).is_some());
    if changed { Err(StrategicError::IdentityChanged) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
