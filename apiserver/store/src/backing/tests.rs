//! Tests of `backing`.
