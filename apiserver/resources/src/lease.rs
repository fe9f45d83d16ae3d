//! Leases: node heartbeats and leader election.
//!
//! Upstream: `pkg/registry/coordination/lease/strategy.go`, `pkg/apis/coordination/validation`.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;

use crate::columns::{self, Cell, Column};
use crate::strategy::Strategy;

const COLUMNS: &[Column] = &[Column::NAME, Column::text("Holder"), Column::AGE];

/// The behaviour of Leases.
pub(crate) struct Leases;

impl Strategy for Leases {
    type Object = Lease;

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, lease: &Lease, now: Timestamp) -> Vec<Cell> {
        let holder = lease.spec.as_ref().and_then(|s| s.holder_identity.as_deref());
        let metadata = &lease.metadata;
        vec![
            columns::name(metadata),
            holder.unwrap_or_default().into(),
            columns::age(metadata, now),
        ]
    }
}
