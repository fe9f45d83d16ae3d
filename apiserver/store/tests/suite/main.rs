//! The store's tests from outside: what any storage of the API server must do (`conformance`), what
//! this one makes of random work (`model`), of damaged files (`damage`) and of being killed
//! (`crash`). `bed` is what they stand on.

#![expect(clippy::unwrap_used, reason = "in a test a panic with its place is the message")]

mod bed;
mod conformance;
mod crash;
mod damage;
mod model;
