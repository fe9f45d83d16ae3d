//! Rules of `clusterIPs`, `ipFamilies` and `ipFamilyPolicy` (upstream:
//! `ValidateServiceClusterIPsRelatedFields`, `validateUpgradeDowngrade*`, `initIPFamilyFields`).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use crate::addresses::{is_ipv6, validate_ip};
use crate::field::{FieldErrors, Path};
use crate::service::lifecycle::CLUSTER_FAMILIES;
use crate::service::{HEADLESS, is_headless, needs_cluster_ip, selects_nothing};

const FAMILIES: &[&str] = &["IPv4", "IPv6"];
const POLICIES: &[&str] = &["PreferDualStack", "RequireDualStack", "SingleStack"];

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
        errors.extend(configured_families(spec, path));
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

/// The cluster must have the families that the Service asks for. A headless Service without a
/// selector needs no address and may name any.
fn configured_families(spec: &ServiceSpec, path: &Path) -> FieldErrors {
    if spec.cluster_ip.as_deref() == Some(HEADLESS) && selects_nothing(spec) {
        return Vec::new();
    }
    let mut errors = FieldErrors::new();
    let policy = spec.ip_family_policy.as_deref();
    if policy == Some("RequireDualStack") && CLUSTER_FAMILIES.len() < 2 {
        let detail = "this cluster is not configured for dual-stack services";
        errors.push(path.child("ipFamilyPolicy").invalid(policy, detail));
    }
    for (i, family) in spec.ip_families.iter().flatten().enumerate() {
        let known = FAMILIES.contains(&family.as_str());
        if known && !CLUSTER_FAMILIES.contains(&family.as_str()) {
            let path = path.child("ipFamilies").index(i);
            errors.push(path.invalid(family, "not configured on this cluster"));
        }
    }
    errors
}

/// An address and a family stay what they are while the type has one.
pub(super) fn validate_change(new: &Service, old: &Service, path: &Path) -> FieldErrors {
    if !needs_cluster_ip(new) || !needs_cluster_ip(old) || (is_headless(new) && is_headless(old)) {
        return Vec::new();
    }
    let mut errors = FieldErrors::new();
    let (Some(new_spec), Some(old_spec)) = (&new.spec, &old.spec) else { return errors };
    errors.extend(first_stays(
        list(new_spec),
        list(old_spec),
        &path.child("clusterIPs").index(0),
        "primary clusterIP can not be unset",
    ));
    if is_headless(new) == is_headless(old) {
        errors.extend(first_stays(
            new_spec.ip_families.as_deref().unwrap_or_default(),
            old_spec.ip_families.as_deref().unwrap_or_default(),
            &path.child("ipFamilies").index(0),
            "primary ipFamily can not be unset",
        ));
    }
    errors
}

fn first_stays(new: &[String], old: &[String], path: &Path, unset: &str) -> FieldErrors {
    match (new.first(), old.first()) {
        (None, Some(_)) => vec![path.invalid(new, unset)],
        (Some(now), Some(before)) if now != before => {
            vec![path.invalid(new, "may not change once set")]
        }
        _ => Vec::new(),
    }
}

fn list(spec: &ServiceSpec) -> &[String] {
    spec.cluster_ips.as_deref().unwrap_or_default()
}
