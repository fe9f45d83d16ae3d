//! What the API serves, as data and pure functions: one row per resource, one strategy per kind.
//!
//! Owns: the resource table, defaulting, validation, warnings, field selectors, printer columns.
//! Inputs: typed objects (k8s-openapi). Outputs: typed objects, [`field::FieldError`]s, table cells.
//! Deliberately not here: HTTP, storage, allocation of addresses, clocks (`now` is an argument).

pub mod field;
pub mod object;
pub mod strategy;
pub mod table;
