//! Tests of `memory`.
