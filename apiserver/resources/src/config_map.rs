//! ConfigMaps: keys, size, immutability.
//!
//! Upstream: `pkg/registry/core/configmap/strategy.go`, `ValidateConfigMap` of
//! `pkg/apis/core/validation/validation.go`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;

use crate::columns::{self, Cell, Column};
use crate::equality::same;
use crate::field::{FieldErrors, Path};
use crate::names;
use crate::strategy::Strategy;

/// How many bytes the values of a ConfigMap, or of a Secret, may have together.
pub(crate) const MAX_SIZE: usize = 1024 * 1024;

/// What a client is told that changes what was declared immutable.
pub(crate) const IMMUTABLE: &str = "field is immutable when `immutable` is set";

const COLUMNS: &[Column] = &[Column::NAME, Column::text("Data"), Column::AGE];

/// The behaviour of ConfigMaps.
pub(crate) struct ConfigMaps;

impl Strategy for ConfigMaps {
    type Object = ConfigMap;

    fn validate(&self, map: &ConfigMap) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let mut size = 0;
        for (key, value) in map.data.iter().flatten() {
            let path = Path::new("data").key(key);
            errors.extend(path.invalid_for_each(key, names::config_key(key)));
            if map.binary_data.as_ref().is_some_and(|b| b.contains_key(key)) {
                errors.push(path.invalid(key, "duplicate of key present in binaryData"));
            }
            size += value.len();
        }
        for (key, value) in map.binary_data.iter().flatten() {
            let path = Path::new("binaryData").key(key);
            errors.extend(path.invalid_for_each(key, names::config_key(key)));
            size += value.0.len();
        }
        if size > MAX_SIZE {
            errors.push(Path::new("").too_long(MAX_SIZE));
        }
        errors
    }

    fn validate_update(&self, new: &ConfigMap, old: &ConfigMap) -> FieldErrors {
        if old.immutable != Some(true) {
            return Vec::new();
        }
        let changes = [
            ("immutable", new.immutable != Some(true)),
            ("data", !same(&new.data, &old.data)),
            ("binaryData", !same(&new.binary_data, &old.binary_data)),
        ];
        let changed = changes.into_iter().filter(|(_, changed)| *changed);
        changed.map(|(field, _)| Path::new(field).forbidden(IMMUTABLE)).collect()
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, map: &ConfigMap, now: Timestamp) -> Vec<Cell> {
        let entries = map.data.iter().flatten().count() + map.binary_data.iter().flatten().count();
        let metadata = &map.metadata;
        vec![columns::name(metadata), columns::count(entries), columns::age(metadata, now)]
    }
}

#[cfg(test)]
mod tests;
