//! The three kinds of patches, and the patches that `apply` computes.
//!
//! Inputs and outputs are JSON values; every function leaves its inputs as they are. Errors are
//! upstream's texts. Not here: which content type means which patch, conflicts and retries.
//! Values nest at most as deep as the decoders allow (128), so recursion is bounded.

use serde_json::Value;

mod json;
mod strategic;
mod three_way;

pub use json::{JsonPatchError, MAX_OPERATIONS, json};
pub use strategic::{StrategicError, strategic};
pub use three_way::{diff_merge, diff_strategic, three_way_merge, three_way_strategic};

/// Applies a JSON merge patch (RFC 7386): objects merge, `null` removes, all else replaces.
#[must_use]
pub fn merge(current: &Value, patch: &Value) -> Value {
    let mut result = current.clone();
    json_patch::merge(&mut result, patch);
    result
}
