//! Label and field selectors: parsed from query parameters, matched against objects.
//!
//! Inputs are selector texts and look-up functions, outputs are verdicts and upstream's error
//! texts. Nothing here knows which fields a kind offers: that is the resource table's.

mod field;
mod label;

pub use field::{FieldRequirement, FieldSelectorError, Fields};
pub use label::{LabelRequirement, LabelSelectorError, Labels, Operator};
