//! Leases: node heartbeats and leader election.
//!
//! Upstream: `pkg/registry/coordination/lease/strategy.go`, `pkg/apis/coordination/validation`.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;

use crate::columns::{self, Cell, Column};
use crate::field::{FieldErrors, Path};
use crate::names;
use crate::strategy::Strategy;

const COLUMNS: &[Column] = &[Column::NAME, Column::text("Holder"), Column::AGE];

/// The behaviour of Leases.
pub(crate) struct Leases;

impl Strategy for Leases {
    type Object = Lease;

    fn validate(&self, lease: &Lease) -> FieldErrors {
        let path = Path::new("spec");
        let Some(spec) = &lease.spec else { return Vec::new() };
        let mut errors = FieldErrors::new();
        if let Some(seconds) = spec.lease_duration_seconds.filter(|&s| s <= 0) {
            let path = path.child("leaseDurationSeconds");
            errors.push(path.invalid(seconds, "must be greater than 0"));
        }
        let transitions = spec.lease_transitions.unwrap_or_default();
        errors.extend(path.child("leaseTransitions").negative(transitions));
        let strategy = spec.strategy.as_deref();
        // Upstream's path has the step twice.
        let path_of_strategy = path.child("strategy").child("strategy");
        match strategy {
            None | Some("OldestEmulationVersion") => {}
            Some(name) if name.contains('/') => {
                let problems = names::qualified_name(name);
                errors.extend(path_of_strategy.invalid_for_each(name, problems));
            }
            Some(other) => {
                errors.push(path_of_strategy.not_supported(other, &["OldestEmulationVersion"]));
            }
        }
        let holder = spec.preferred_holder.as_deref().unwrap_or_default();
        if !holder.is_empty() && strategy.unwrap_or_default().is_empty() {
            let detail = "may only be specified if `strategy` is defined";
            errors.push(path.child("preferredHolder").forbidden(detail));
        }
        errors
    }

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

#[cfg(test)]
mod tests {
    use k8s_openapi::api::coordination::v1::Lease;
    use serde_json::json;

    use super::Leases;
    use crate::strategy::Strategy;

    #[test]
    fn numbers_make_sense() {
        let problems = |spec| {
            let lease: Lease = serde_json::from_value(json!({"spec": spec})).expect("a Lease");
            Leases.validate(&lease).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(problems(json!({"leaseDurationSeconds": 40, "holderIdentity": "n"})), [""; 0]);
        assert_eq!(
            problems(json!({"leaseDurationSeconds": 0, "leaseTransitions": -1})),
            [
                "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
                "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
            ]
        );
        assert_eq!(
            problems(json!({"preferredHolder": "a"})),
            ["spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined"]
        );
    }
}
