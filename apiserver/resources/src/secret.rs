//! Secrets: `stringData`, types and the keys they require, size, immutability.
//!
//! Upstream: `pkg/registry/core/secret/strategy.go`, `pkg/apis/core/v1/defaults.go`.

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use crate::columns::{self, Cell, Column};
use crate::strategy::Strategy;

const COLUMNS: &[Column] = &[Column::NAME, Column::text("Type"), Column::text("Data"), Column::AGE];

/// The behaviour of Secrets.
pub(crate) struct Secrets;

impl Strategy for Secrets {
    type Object = Secret;

    fn default(&self, secret: &mut Secret) {
        secret.type_.get_or_insert_with(|| "Opaque".to_owned());
        // `stringData` is a write-only convenience: it ends up in `data` and is never stored.
        for (key, text) in secret.string_data.take().into_iter().flatten() {
            secret.data.get_or_insert_default().insert(key, ByteString(text.into_bytes()));
        }
    }

    fn fields(&self, secret: &Secret) -> Vec<(&'static str, String)> {
        vec![("type", secret.type_.clone().unwrap_or_default())]
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, secret: &Secret, now: Timestamp) -> Vec<Cell> {
        let metadata = &secret.metadata;
        vec![
            columns::name(metadata),
            secret.type_.as_deref().unwrap_or_default().into(),
            columns::count(secret.data.iter().flatten().count()),
            columns::age(metadata, now),
        ]
    }
}
