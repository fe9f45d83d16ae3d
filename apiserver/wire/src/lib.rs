//! What clients send and get, as data.
//!
//! Bodies ([`decode`], [`nulls`]), strict field checks ([`strict`]), patches ([`patch`]), selectors
//! ([`selector`]) and OpenAPI documents ([`openapi`]). Everything is a pure function over bytes and
//! JSON values; what the API's types look like stands in one table ([`schema`]).
//! Architecture invariant: no HTTP, no async runtime, no I/O, no clock; the caller decides what
//! status code an error becomes.

pub mod decode;
pub mod nulls;
pub mod openapi;
pub mod patch;
pub mod quote;
pub mod schema;
pub mod selector;
pub mod strict;
