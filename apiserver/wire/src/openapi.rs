//! OpenAPI documents of the served resources: v3 per group and version, v2 as JSON and as
//! protobuf (gnostic's, which kubectl up to 1.26 validates objects with).
//!
//! Input: the list of served resources; output: documents with a digest for ETags. Definitions
//! come from `data/definitions.txt.gz`, which is unpacked for each document and dropped again:
//! they are asked for rarely, and idle memory counts. Only v3's small index is remembered. Not
//! here: HTTP.

use sha2::{Digest, Sha256};

mod definitions;
mod gnostic;
mod operations;
mod v2;
mod v3;

pub use v2::{v2_json, v2_protobuf};
pub use v3::{v3_document, v3_index};

/// What the documents tell of a served resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceDoc {
    /// Group; empty for the core group.
    pub group: &'static str,
    /// Version.
    pub version: &'static str,
    /// Plural name, as in paths.
    pub plural: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Subresources by their path segment: `status`, `scale`, `log`, …
    pub subresources: Vec<&'static str>,
}

/// A document to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its media type.
    pub content_type: &'static str,
    /// Its text or message.
    pub bytes: Vec<u8>,
    /// Digest of the bytes in hexadecimal: the ETag (without quotes) and v3's `hash` parameter.
    pub etag: String,
}

impl Document {
    fn new(content_type: &'static str, bytes: Vec<u8>) -> Self {
        let digest = Sha256::digest(&bytes);
        let etag = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        Self { content_type, bytes, etag }
    }
}

/// The version that the documents state.
const VERSION: &str = "v1.36.0";

#[cfg(test)]
mod tests;
