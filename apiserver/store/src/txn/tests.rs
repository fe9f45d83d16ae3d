//! Tests of `txn`.
