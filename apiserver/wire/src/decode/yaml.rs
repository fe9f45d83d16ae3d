//! YAML as kubectl and the API server read it (YAML 1.1 scalars, octal numbers with a leading 0).
//!
//! Input: one document or several; output: values as JSON would carry them. Not here: JSON.

use serde_json::Value;
use serde_saphyr::Options;
use serde_saphyr::options::DuplicateKeyPolicy;

use super::{Body, DecodeError};

/// Deeper documents are refused. No object of the API nests half as deep, and the parser, which
/// recurses, stays well within a thread's stack.
const MAX_DEPTH: usize = 64;

/// Whole numbers up to here are exact in a float.
const EXACT: f64 = 9_007_199_254_740_992.0;

fn options() -> Options {
    serde_saphyr::options! {
        // Duplicates are noted and reported by strict validation.
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        legacy_octal_numbers: true,
        budget: serde_saphyr::budget! { max_depth: MAX_DEPTH },
    }
}

/// Decodes one YAML document; JSON is YAML, too.
///
/// # Errors
/// [`DecodeError::Yaml`] with the parser's text, which names line and column.
pub fn from_yaml(bytes: &[u8]) -> Result<Body, DecodeError> {
    let text = text(bytes)?;
    let mut body: Body = serde_saphyr::from_str_with_options(text, options()).map_err(refused)?;
    shorten_numbers(&mut body.value);
    Ok(body)
}

/// Decodes all documents of a YAML file; empty ones are left out.
///
/// # Errors
/// [`DecodeError::Yaml`] with the parser's text, which names line and column.
pub fn yaml_documents(bytes: &[u8]) -> Result<Vec<Body>, DecodeError> {
    let text = text(bytes)?;
    let mut bodies: Vec<Body> =
        serde_saphyr::from_multiple_with_options(text, options()).map_err(refused)?;
    for body in &mut bodies {
        shorten_numbers(&mut body.value);
    }
    Ok(bodies)
}

fn text(bytes: &[u8]) -> Result<&str, DecodeError> {
    str::from_utf8(bytes).map_err(|e| DecodeError::Yaml(e.to_string()))
}

#[expect(clippy::needless_pass_by_value, reason = "the shape map_err wants")]
fn refused(error: serde_saphyr::Error) -> DecodeError {
    DecodeError::Yaml(error.to_string())
}

/// Writes floats without fraction as integers (`1e3` is 1000), as YAML becomes JSON upstream.
fn shorten_numbers(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let whole = number.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < EXACT);
            if let Some(whole) = whole {
                #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
                let integer = whole as i64;
                *value = Value::from(integer);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(shorten_numbers),
        Value::Object(fields) => fields.values_mut().for_each(shorten_numbers),
        _ => {}
    }
}
