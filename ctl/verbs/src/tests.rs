//! Whole verbs against a scripted API server on loopback.
//!
//! What is checked is what crosses the two borders: the requests that reach the server and the text
//! that reaches the person.

pub(crate) mod fake;
mod reading;
mod sessions;
mod writing;
