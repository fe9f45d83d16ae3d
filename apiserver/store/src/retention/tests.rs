//! Tests of `retention`.
