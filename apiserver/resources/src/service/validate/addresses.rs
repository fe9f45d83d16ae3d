//! Rules of `clusterIPs`, `ipFamilies` and `ipFamilyPolicy` (upstream:
//! `ValidateServiceClusterIPsRelatedFields`, `validateUpgradeDowngrade*`).
//! Deliberately not here: whether the cluster has a family (`crate::service::families`).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use crate::addresses::{is_ipv6, validate_ip};
use crate::field::{FieldError, FieldErrors, Path};
use crate::service::{HEADLESS, is_headless, needs_cluster_ip};

const FAMILIES: &[&str] = &["IPv4", "IPv6"];
const POLICIES: &[&str] = &["PreferDualStack", "RequireDualStack", "SingleStack"];
/// Upstream's words for a value that stays.
const FIXED: &str = "may not change once set";

pub(super) fn validate(service: &Service, path: &Path) -> FieldErrors {
    let Some(spec) = service.spec.as_ref().filter(|_| needs_cluster_ip(service)) else {
        return Vec::new();
    };
    let mut errors = agreement(spec, path);
    errors.extend(families(spec, &path.child("ipFamilies")));
    let policy = spec.ip_family_policy.as_deref();
    if let Some(other) = policy.filter(|p| !POLICIES.contains(p)) {
        errors.push(path.child("ipFamilyPolicy").not_supported(other, POLICIES));
    }
    let malformed = addresses(spec, &path.child("clusterIPs"));
    let well_formed = malformed.is_empty();
    errors.extend(malformed);
    if well_formed {
        errors.extend(families_of_addresses(service, spec, &path.child("clusterIPs")));
    }
    errors
}

/// `clusterIP` and the first of `clusterIPs` must be the same.
fn agreement(spec: &ServiceSpec, path: &Path) -> FieldErrors {
    let path = path.child("clusterIPs");
    let address = spec.cluster_ip.as_deref().unwrap_or_default();
    let addresses = list(spec);
    match (address, addresses.first()) {
        ("", None) => Vec::new(),
        ("", Some(_)) => {
            vec![path.invalid(addresses, "must be empty when `clusterIP` is not specified")]
        }
        (_, None) => vec![path.required("")],
        (address, Some(first)) if first != address => {
            vec![path.invalid(addresses, "first value must match `clusterIP`")]
        }
        _ => Vec::new(),
    }
}

fn families(spec: &ServiceSpec, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let mut seen = BTreeSet::new();
    for (i, family) in spec.ip_families.iter().flatten().enumerate() {
        if !FAMILIES.contains(&family.as_str()) {
            errors.push(path.index(i).not_supported(family, FAMILIES));
        }
        if !seen.insert(family) {
            errors.push(path.index(i).duplicate(family));
        }
    }
    errors
}

fn addresses(spec: &ServiceSpec, path: &Path) -> FieldErrors {
    let addresses = list(spec);
    let mut errors = FieldErrors::new();
    for (i, address) in addresses.iter().enumerate() {
        if i == 0 && address == HEADLESS {
            if addresses.len() > 1 {
                errors.push(path.invalid(addresses, "'None' must be the first and only value"));
            }
            continue;
        }
        errors.extend(validate_ip(&path.index(i), address));
    }
    if addresses.len() > 2 {
        errors.push(path.invalid(addresses, "may only hold up to 2 values"));
    }
    errors
}

fn families_of_addresses(service: &Service, spec: &ServiceSpec, path: &Path) -> FieldErrors {
    let addresses = list(spec);
    let mut errors = FieldErrors::new();
    if let [first, second] = addresses
        && is_ipv6(first) == is_ipv6(second)
    {
        let detail = "may specify no more than one IP for each IP family";
        errors.push(path.invalid(addresses, detail));
    }
    if is_headless(service) {
        return errors;
    }
    let families = spec.ip_families.iter().flatten();
    for (i, (address, family)) in addresses.iter().zip(families).enumerate() {
        if (family == "IPv6") != is_ipv6(address) {
            errors.push(path.index(i).invalid(
                address,
                format!("expected an {family} value as indicated by `ipFamilies[{i}]`"),
            ));
        }
    }
    errors
}

/// The first address and family stay what they are while the type has one; a second one may come,
/// and go when the policy says so.
pub(super) fn validate_change(new: &Service, old: &Service, path: &Path) -> FieldErrors {
    if !needs_cluster_ip(new) || !needs_cluster_ip(old) || (is_headless(new) && is_headless(old)) {
        return Vec::new();
    }
    let default = ServiceSpec::default();
    let new_spec = new.spec.as_ref().unwrap_or(&default);
    let old_spec = old.spec.as_ref().unwrap_or(&default);
    let mut errors = change_of_addresses(new_spec, old_spec, path);
    if is_headless(new) == is_headless(old) {
        errors.extend(change_of_families(new_spec, old_spec, path));
    }
    errors
}

fn change_of_addresses(new: &ServiceSpec, old: &ServiceSpec, path: &Path) -> FieldErrors {
    let (now, before) = (list(new), list(old));
    let field = path.child("clusterIPs");
    let mut errors = FieldErrors::new();
    if now.len() == before.len() {
        let pairs = now.iter().zip(before).enumerate();
        let changed = pairs.filter(|(_, (now, before))| now != before);
        errors.extend(changed.map(|(i, _)| field.index(i).invalid(now, FIXED)));
        return errors;
    }
    let first = field.index(0);
    match (now.first(), before.first()) {
        (None, Some(_)) => errors.push(first.invalid(now, "primary clusterIP can not be unset")),
        (Some(is), Some(was)) if is != was => errors.push(first.invalid(now, FIXED)),
        _ => {}
    }
    errors.extend(released_without_a_word(new, now, before, path, "clusterIP"));
    errors
}

fn change_of_families(new: &ServiceSpec, old: &ServiceSpec, path: &Path) -> FieldErrors {
    let now = new.ip_families.as_deref().unwrap_or_default();
    let before = old.ip_families.as_deref().unwrap_or_default();
    // Upstream reports every change at the first one.
    let first = path.child("ipFamilies").index(0);
    let mut errors = FieldErrors::new();
    if now.len() == before.len() {
        let changed = now.iter().zip(before).filter(|(now, before)| now != before);
        errors.extend(changed.map(|_| first.invalid(now, FIXED)));
        return errors;
    }
    if now.len() < before.len() && list(new).is_empty() {
        errors.push(first.invalid(now, "primary ipFamily can not be unset"));
    }
    if now.first().zip(before.first()).is_some_and(|(is, was)| is != was) {
        // Upstream shows the addresses here.
        errors.push(first.invalid(list(new), FIXED));
    }
    errors.extend(released_without_a_word(new, now, before, path, "ipFamily"));
    errors
}

/// The second of two goes only when the policy says that one is enough.
fn released_without_a_word(
    new: &ServiceSpec,
    now: &[String],
    before: &[String],
    path: &Path,
    what: &str,
) -> Option<FieldError> {
    let policy = new.ip_family_policy.as_deref();
    let refused = now.len() == 1 && before.len() > 1 && policy != Some("SingleStack");
    let detail = format!("must be set to 'SingleStack' when releasing the secondary {what}");
    refused.then(|| path.child("ipFamilyPolicy").invalid(policy, detail))
}

fn list(spec: &ServiceSpec) -> &[String] {
    spec.cluster_ips.as_deref().unwrap_or_default()
}
