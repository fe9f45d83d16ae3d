//! ServiceCIDRs: the ranges that cluster IPs are drawn from.
//!
//! Upstream: `pkg/registry/networking/servicecidr/strategy.go`, `ValidateServiceCIDR` of
//! `pkg/apis/networking/validation/validation.go`, `isReady` of
//! `pkg/registry/core/service/ipallocator/cidrallocator.go`.
//! Ranges may overlap, and so a range is made larger by another one around it: an address is taken
//! once, whichever range it is drawn from.
//! Deliberately not here: when a range may go (the controller that owns [`FINALIZER`]).

use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{ServiceCIDR, ServiceCIDRSpec, ServiceCIDRStatus};

use crate::addresses::validate_canonical_cidr;
use crate::columns::{self, Cell, Column};
use crate::families::Family;
use crate::field::{FieldErrors, Path};
use crate::strategy::Strategy;

/// The name of the ServiceCIDR that the API server makes of its flags.
pub const DEFAULT_NAME: &str = "kubernetes";
/// Keeps a range until no Service has an address of it that no other range has.
pub const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";

const READY: &str = "Ready";
const COLUMNS: &[Column] = &[Column::NAME, Column::text("CIDRs"), Column::AGE];

/// The behaviour of ServiceCIDRs.
pub(crate) struct ServiceCidrs;

impl Strategy for ServiceCidrs {
    type Object = ServiceCIDR;

    fn prepare_create(&self, range: &mut ServiceCIDR) {
        range.status = Some(ServiceCIDRStatus::default());
        // Upstream leaves this to its controller, which a quick deletion can overtake.
        let finalizers = range.metadata.finalizers.get_or_insert_default();
        if !finalizers.iter().any(|f| f == FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
        }
    }

    fn prepare_update(&self, new: &mut ServiceCIDR, old: &ServiceCIDR) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status_update(&self, new: &mut ServiceCIDR, old: &ServiceCIDR) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(&self, range: &ServiceCIDR) -> FieldErrors {
        validate_ranges(listed(range), range.spec.as_ref(), &cidrs_path())
    }

    fn validate_update(&self, new: &ServiceCIDR, old: &ServiceCIDR) -> FieldErrors {
        let (now, before) = (listed(new), listed(old));
        let fixed = "field is immutable";
        let path = cidrs_path();
        let changed = |i: usize| path.index(i).invalid(&now[i], fixed);
        match (before, now) {
            _ if before.len() == now.len() => {
                (0..now.len()).filter(|i| now[*i] != before[*i]).map(changed).collect()
            }
            // A range of the other family may be added.
            ([was], [is, _]) => (was != is).then(|| changed(0)).into_iter().collect(),
            _ => vec![path.invalid(now, fixed)],
        }
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, range: &ServiceCIDR, now: Timestamp) -> Vec<Cell> {
        let metadata = &range.metadata;
        let ranges = listed(range).join(",");
        vec![columns::name(metadata), ranges.into(), columns::age(metadata, now)]
    }
}

/// The ranges of the object.
#[must_use]
pub fn ranges(range: &ServiceCIDR) -> Vec<IpNet> {
    listed(range).iter().filter_map(|text| text.parse().ok()).collect()
}

/// Whether addresses may be drawn: it is not on its way out, and nobody says that it is not ready.
/// Without a controller nobody says anything, and a cluster shall have addresses all the same.
#[must_use]
pub fn is_ready(range: &ServiceCIDR) -> bool {
    let conditions = range.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let mut ready = conditions.filter(|c| c.type_ == READY);
    range.metadata.deletion_timestamp.is_none() && ready.next().is_none_or(|c| c.status == "True")
}

fn cidrs_path() -> Path {
    Path::new("spec").child("cidrs")
}

fn listed(range: &ServiceCIDR) -> &[String] {
    range.spec.as_ref().and_then(|s| s.cidrs.as_deref()).unwrap_or_default()
}

fn validate_ranges(ranges: &[String], spec: Option<&ServiceCIDRSpec>, path: &Path) -> FieldErrors {
    if ranges.is_empty() {
        return vec![path.required("at least one CIDR required")];
    }
    if ranges.len() > 2 {
        return vec![path.invalid(spec, "may only hold up to 2 values")];
    }
    let each = ranges.iter().enumerate();
    let mut errors: FieldErrors =
        each.flat_map(|(i, range)| validate_canonical_cidr(&path.index(i), range)).collect();
    let families: Vec<Family> =
        ranges.iter().filter_map(|r| Some(r.parse::<IpNet>().ok()?.into())).collect();
    if let [first, second] = families.as_slice()
        && first == second
    {
        let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and \
                      2001:db8::/64";
        errors.push(path.invalid(ranges, detail));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn range(cidrs: Value) -> ServiceCIDR {
        let object = json!({ "metadata": { "name": "x" }, "spec": { "cidrs": cidrs } });
        serde_json::from_value(object).expect("a ServiceCIDR")
    }

    fn texts(errors: FieldErrors) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ranges_are_one_of_each_family() {
        let problems = |cidrs: Value| texts(ServiceCidrs.validate(&range(cidrs)));
        assert_eq!(problems(json!(["10.0.0.0/24"])), [""; 0]);
        assert_eq!(problems(json!(["fd00::/112", "10.0.0.0/24"])), [""; 0]);
        assert_eq!(problems(json!([])), ["spec.cidrs: Required value: at least one CIDR required"]);
        assert_eq!(
            problems(json!(["10.0.0.0/24", "10.1.0.0/24", "fd00::/112"])),
            [concat!(
                r#"spec.cidrs: Invalid value: {"cidrs":["10.0.0.0/24","10.1.0.0/24","fd00::/112"]}"#,
                ": may only hold up to 2 values"
            )]
        );
        assert_eq!(
            problems(json!(["10.0.0.0/24", "10.1.0.0/24"])),
            [concat!(
                r#"spec.cidrs: Invalid value: ["10.0.0.0/24","10.1.0.0/24"]: may specify no more "#,
                "than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
            )]
        );
        assert_eq!(
            problems(json!(["10.0.0.1/24", "fd00:0::/112"])),
            [
                r#"spec.cidrs[0]: Invalid value: "10.0.0.1/24": must not have bits set beyond the prefix length"#,
                r#"spec.cidrs[1]: Invalid value: "fd00:0::/112": must be in canonical form ("fd00::/112")"#,
            ]
        );
    }

    #[test]
    fn a_range_stays_and_a_second_family_may_come() {
        let change =
            |new: Value, old: Value| texts(ServiceCidrs.validate_update(&range(new), &range(old)));
        let (v4, v6) = ("10.0.0.0/24", "fd00::/112");
        assert_eq!(change(json!([v4]), json!([v4])), [""; 0]);
        assert_eq!(change(json!([v4, v6]), json!([v4])), [""; 0]);
        assert_eq!(
            change(json!(["10.1.0.0/24"]), json!([v4])),
            [r#"spec.cidrs[0]: Invalid value: "10.1.0.0/24": field is immutable"#]
        );
        assert_eq!(
            change(json!([v6, v4]), json!([v4])),
            [r#"spec.cidrs[0]: Invalid value: "fd00::/112": field is immutable"#]
        );
        assert_eq!(
            change(json!([v4]), json!([v4, v6])),
            [r#"spec.cidrs: Invalid value: ["10.0.0.0/24"]: field is immutable"#]
        );
    }

    #[test]
    fn a_range_gives_addresses_unless_somebody_says_no() {
        let mut range = range(json!(["10.0.0.0/24"]));
        ServiceCidrs.prepare_create(&mut range);
        assert!(is_ready(&range), "nobody has looked at it yet");
        assert_eq!(range.metadata.finalizers, Some(vec![FINALIZER.to_owned()]));
        let condition = |status: &str| {
            let condition = json!({
                "type": "Ready", "status": status, "reason": "", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            });
            serde_json::from_value(json!({ "conditions": [condition] })).expect("a status")
        };
        range.status = Some(condition("False"));
        assert!(!is_ready(&range));
        range.status = Some(condition("True"));
        assert!(is_ready(&range));
        let now = serde_json::from_value(json!("2026-01-01T00:00:00Z")).expect("a time");
        range.metadata.deletion_timestamp = Some(now);
        assert!(!is_ready(&range), "on its way out");
    }
}
