//! ConfigMaps: keys, size, immutability.
//!
//! Upstream: `pkg/registry/core/configmap/strategy.go`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;

use crate::columns::{self, Cell, Column};
use crate::strategy::Strategy;

const COLUMNS: &[Column] = &[Column::NAME, Column::text("Data"), Column::AGE];

/// The behaviour of ConfigMaps.
pub(crate) struct ConfigMaps;

impl Strategy for ConfigMaps {
    type Object = ConfigMap;

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, map: &ConfigMap, now: Timestamp) -> Vec<Cell> {
        let entries = map.data.iter().flatten().count() + map.binary_data.iter().flatten().count();
        let metadata = &map.metadata;
        vec![columns::name(metadata), columns::count(entries), columns::age(metadata, now)]
    }
}
