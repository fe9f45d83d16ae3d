//! Secrets: `stringData`, types and the keys they require, size, immutability.
//!
//! Upstream: `pkg/registry/core/secret/strategy.go`, `pkg/apis/core/v1/defaults.go`,
//! `ValidateSecret` of `pkg/apis/core/validation/validation.go`.
//! Invariant: an error never shows a secret's contents.

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use crate::columns::{self, Cell, Column};
use crate::config_map::{IMMUTABLE, MAX_SIZE};
use crate::equality::same;
use crate::field::{FieldErrors, Path};
use crate::names;
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

    fn validate(&self, secret: &Secret) -> FieldErrors {
        let path = Path::new("data");
        let mut errors = FieldErrors::new();
        for key in secret.data.iter().flatten().map(|(key, _)| key) {
            errors.extend(path.key(key).invalid_for_each(key, names::config_key(key)));
        }
        let size: usize = secret.data.iter().flatten().map(|(_, value)| value.0.len()).sum();
        if size > MAX_SIZE {
            errors.push(path.too_long(MAX_SIZE));
        }
        errors.extend(validate_type(secret, &path));
        errors
    }

    fn validate_update(&self, new: &Secret, old: &Secret) -> FieldErrors {
        let mut errors: FieldErrors =
            Path::new("type").immutable(&new.type_, &old.type_).into_iter().collect();
        if old.immutable == Some(true) {
            if new.immutable != Some(true) {
                errors.push(Path::new("immutable").forbidden(IMMUTABLE));
            }
            if !same(&new.data, &old.data) {
                errors.push(Path::new("data").forbidden(IMMUTABLE));
            }
        }
        errors
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

/// Some types promise certain keys to their users.
fn validate_type(secret: &Secret, path: &Path) -> FieldErrors {
    let missing = |keys: &[&str]| -> FieldErrors {
        let missing = keys.iter().filter(|key| value(secret, key).is_none());
        missing.map(|key| path.key(key).required("")).collect()
    };
    match secret.type_.as_deref().unwrap_or_default() {
        "kubernetes.io/service-account-token" => service_account_name(secret),
        "kubernetes.io/dockercfg" => docker_config(secret, ".dockercfg", path),
        "kubernetes.io/dockerconfigjson" => docker_config(secret, ".dockerconfigjson", path),
        "kubernetes.io/basic-auth" => {
            // One of the two is enough.
            let absent = missing(&["username", "password"]);
            if absent.len() == 2 { absent } else { Vec::new() }
        }
        "kubernetes.io/ssh-auth" => {
            let key = value(secret, "ssh-privatekey").unwrap_or_default();
            if key.is_empty() { vec![path.key("ssh-privatekey").required("")] } else { Vec::new() }
        }
        "kubernetes.io/tls" => missing(&["tls.crt", "tls.key"]),
        _ => Vec::new(),
    }
}

fn service_account_name(secret: &Secret) -> FieldErrors {
    const KEY: &str = "kubernetes.io/service-account.name";
    let name = secret.metadata.annotations.as_ref().and_then(|a| a.get(KEY));
    if name.is_some_and(|n| !n.is_empty()) {
        return Vec::new();
    }
    vec![Path::new("metadata").child("annotations").key(KEY).required("")]
}

fn docker_config(secret: &Secret, key: &str, path: &Path) -> FieldErrors {
    let Some(json) = value(secret, key) else { return vec![path.key(key).required("")] };
    match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(json) {
        Ok(_) => Vec::new(),
        Err(error) => {
            vec![path.key(key).invalid("<secret contents redacted>", error.to_string())]
        }
    }
}

fn value<'a>(secret: &'a Secret, key: &str) -> Option<&'a [u8]> {
    secret.data.as_ref()?.get(key).map(|value| value.0.as_slice())
}

#[cfg(test)]
mod tests;
