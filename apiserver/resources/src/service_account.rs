//! ServiceAccounts.
//!
//! Upstream: `pkg/registry/core/serviceaccount/strategy.go`.
//! Deliberately not here: tokens.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ServiceAccount;

use crate::columns::{self, Cell, Column};
use crate::strategy::Strategy;

const COLUMNS: &[Column] = &[Column::NAME, Column::text("Secrets"), Column::AGE];

/// The behaviour of ServiceAccounts.
pub(crate) struct ServiceAccounts;

impl Strategy for ServiceAccounts {
    type Object = ServiceAccount;

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, account: &ServiceAccount, now: Timestamp) -> Vec<Cell> {
        let secrets = account.secrets.iter().flatten().count();
        let metadata = &account.metadata;
        vec![columns::name(metadata), columns::count(secrets), columns::age(metadata, now)]
    }
}
