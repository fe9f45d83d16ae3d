//! Which families of addresses a Service has: what it asks for, what it had, what the cluster has.
//!
//! Upstream: `initIPFamilyFields` and `isMatchingPreferDualStackClusterIPFields` of
//! `pkg/registry/core/service/storage/alloc.go`.
//! Inputs: a Service after `prepare_*`, the one before, the cluster's families (the first is the
//! one that a Service gets which does not ask). Output: `ipFamilyPolicy` and `ipFamilies` filled
//! in, or upstream's errors.
//! Invariant: afterwards a Service with an address has a policy, and as many families as it is to
//! have addresses. Deliberately not here: drawing the addresses.

use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use super::{HEADLESS, validate};
use crate::families::Family;
use crate::field::{FieldErrors, Path};

const SINGLE: &str = "SingleStack";
const PREFER: &str = "PreferDualStack";
const REQUIRE: &str = "RequireDualStack";

/// See [`super::settle_families`].
pub(super) fn settle(
    service: &mut Service,
    old: Option<&Service>,
    cluster: &[Family],
) -> Result<(), FieldErrors> {
    if !super::needs_cluster_ip(service) || old.is_some_and(|old| stays_as_it_is(service, old)) {
        return Ok(());
    }
    settle_policy(service, old);
    refused(validate::cluster_ips(service))?;
    let path = Path::new("spec");
    let mut errors = FieldErrors::new();
    if let Some(old) = old {
        errors.extend(shrink(service, old, &path));
    }
    let spec = service.spec.get_or_insert_default();
    errors.extend(too_many_for_the_policy(spec, &path));
    errors.extend(infer_from_addresses(spec, cluster, &path));
    refused(errors)?;
    if spec.cluster_ip.as_deref() == Some(HEADLESS) && super::selects_nothing(spec) {
        // Its endpoints are written by hand and may be of any family.
        fill_up(spec, cluster, true);
        return Ok(());
    }
    refused(not_configured(spec, cluster, &path))?;
    fill_up(spec, cluster, cluster.len() == 2);
    Ok(())
}

fn refused(errors: FieldErrors) -> Result<(), FieldErrors> {
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// A Service that takes two families if it can get them is not changed because the cluster has:
/// only a change of its own makes it grow or shrink.
fn stays_as_it_is(new: &Service, old: &Service) -> bool {
    let (Some(new_spec), Some(old_spec)) = (&new.spec, &old.spec) else { return false };
    let prefers = |spec: &ServiceSpec| spec.ip_family_policy.as_deref() == Some(PREFER);
    super::type_of(new) == super::type_of(old)
        && prefers(new_spec)
        && (prefers(old_spec) || old_spec.ip_family_policy.is_none())
        && addresses(new_spec) == addresses(old_spec)
        && families(new_spec) == families(old_spec)
}

/// Who says nothing keeps the policy, so that no Service grows or shrinks by accident.
fn settle_policy(service: &mut Service, old: Option<&Service>) {
    let spec = service.spec.get_or_insert_default();
    if spec.ip_family_policy.is_some() {
        return;
    }
    let any = spec.cluster_ip.as_deref() == Some(HEADLESS) && super::selects_nothing(spec);
    let default = if any { REQUIRE } else { SINGLE };
    let before = old.and_then(|old| old.spec.as_ref()?.ip_family_policy.clone());
    spec.ip_family_policy = Some(before.unwrap_or_else(|| default.to_owned()));
}

/// `SingleStack` alone is a clear word to give up the second family; fewer addresses alone is not.
fn shrink(service: &mut Service, old: &Service, path: &Path) -> FieldErrors {
    let default = ServiceSpec::default();
    let old = old.spec.as_ref().unwrap_or(&default);
    let spec = service.spec.get_or_insert_default();
    if is_single(spec) {
        if addresses(spec) == addresses(old)
            && let Some(list) = &mut spec.cluster_ips
        {
            list.truncate(1);
        }
        if families(spec) == families(old)
            && let Some(list) = &mut spec.ip_families
        {
            list.truncate(1);
        }
        return FieldErrors::new();
    }
    let path = path.child("ipFamilyPolicy");
    let reduced = |new: &[String], old: &[String]| !new.is_empty() && new.len() < old.len();
    let mut errors = FieldErrors::new();
    if reduced(addresses(spec), addresses(old)) {
        let detail = "must be 'SingleStack' to release the secondary cluster IP";
        errors.push(path.invalid(&spec.ip_family_policy, detail));
    }
    if reduced(families(spec), families(old)) {
        let detail = "must be 'SingleStack' to release the secondary IP family";
        errors.push(path.invalid(&spec.ip_family_policy, detail));
    }
    errors
}

fn too_many_for_the_policy(spec: &ServiceSpec, path: &Path) -> FieldErrors {
    let path = path.child("ipFamilyPolicy");
    let lists = [(addresses(spec), "cluster IPs"), (families(spec), "IP families")];
    let two = lists.into_iter().filter(|(list, _)| is_single(spec) && list.len() == 2);
    two.map(|(_, what)| {
        path.invalid(
            &spec.ip_family_policy,
            format!(
                "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
            ),
        )
    })
    .collect()
}

/// An address says its family by itself.
fn infer_from_addresses(spec: &mut ServiceSpec, cluster: &[Family], path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let addresses = spec.cluster_ips.clone().unwrap_or_default();
    let families = spec.ip_families.get_or_insert_default();
    for (i, address) in addresses.iter().enumerate() {
        let Ok(address) = address.parse::<std::net::IpAddr>() else { break };
        if i < families.len() {
            continue;
        }
        let family = Family::from(address);
        if cluster.contains(&family) {
            families.push(family.to_string());
        } else {
            let detail = format!("{family} is not configured on this cluster");
            errors.push(path.child("clusterIPs").index(i).invalid(&addresses, detail));
        }
    }
    errors
}

fn not_configured(spec: &ServiceSpec, cluster: &[Family], path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if spec.ip_family_policy.as_deref() == Some(REQUIRE) && cluster.len() < 2 {
        let detail = "this cluster is not configured for dual-stack services";
        errors.push(path.child("ipFamilyPolicy").invalid(&spec.ip_family_policy, detail));
    }
    for (i, family) in families(spec).iter().enumerate() {
        if !Family::parse(family).is_some_and(|family| cluster.contains(&family)) {
            let path = path.child("ipFamilies").index(i);
            errors.push(path.invalid(family, "not configured on this cluster"));
        }
    }
    errors
}

/// Adds the family that the Service gets without asking, and the second one if it wants two.
fn fill_up(spec: &mut ServiceSpec, cluster: &[Family], second_possible: bool) {
    let single = is_single(spec);
    let families = spec.ip_families.get_or_insert_default();
    if families.is_empty() {
        families.extend(cluster.first().map(ToString::to_string));
    }
    if let [only] = families.as_slice()
        && let Some(first) = Family::parse(only)
        && second_possible
        && !single
    {
        families.push(first.other().to_string());
    }
}

fn is_single(spec: &ServiceSpec) -> bool {
    spec.ip_family_policy.as_deref().unwrap_or(SINGLE) == SINGLE
}

fn addresses(spec: &ServiceSpec) -> &[String] {
    spec.cluster_ips.as_deref().unwrap_or_default()
}

fn families(spec: &ServiceSpec) -> &[String] {
    spec.ip_families.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests;
