//! Security contexts (upstream: `ValidateSecurityContext`, `validatePodSpecSecurityContext`).

use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, PodSecurityContext, PodSpec, SeccompProfile,
};

use super::descending_path;
use crate::field::{FieldErrors, Path};
use crate::names;

const PROFILES: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];
const PROC_MOUNTS: &[&str] = &["Default", "Unmasked"];
const SYSCTL_REGEX: &str =
    r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
const SYSCTL_LENGTH: usize = 253;

pub(super) fn validate_pod(spec: &PodSpec, path: &Path) -> FieldErrors {
    let Some(context) = &spec.security_context else { return Vec::new() };
    let path = path.child("securityContext");
    let mut errors = FieldErrors::new();
    for (field, id) in [
        ("fsGroup", context.fs_group),
        ("runAsUser", context.run_as_user),
        ("runAsGroup", context.run_as_group),
    ] {
        errors.extend(unix_id(id, &path.child(field)));
    }
    for (i, group) in context.supplemental_groups.iter().flatten().enumerate() {
        errors.extend(unix_id(Some(*group), &path.child("supplementalGroups").index(i)));
    }
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(path.child("shareProcessNamespace").invalid(true, detail));
    }
    errors.extend(sysctls(context, &path.child("sysctls")));
    let policies = ["Always", "OnRootMismatch"];
    let policy = context.fs_group_change_policy.as_deref();
    if let Some(other) = policy.filter(|p| !policies.contains(p)) {
        errors.push(path.child("fsGroupChangePolicy").not_supported(other, &policies));
    }
    errors.extend(seccomp(context.seccomp_profile.as_ref(), &path.child("seccompProfile")));
    errors.extend(app_armor(context.app_armor_profile.as_ref(), &path.child("appArmorProfile")));
    let policies = ["Merge", "Strict"];
    let policy = context.supplemental_groups_policy.as_deref();
    if let Some(other) = policy.filter(|p| !policies.contains(p)) {
        errors.push(path.child("supplementalGroupsPolicy").not_supported(other, &policies));
    }
    errors
}

pub(super) fn validate_container(container: &Container, path: &Path) -> FieldErrors {
    let Some(context) = &container.security_context else { return Vec::new() };
    let mut errors = unix_id(context.run_as_user, &path.child("runAsUser"));
    errors.extend(unix_id(context.run_as_group, &path.child("runAsGroup")));
    let proc_mount = context.proc_mount.as_deref();
    if let Some(other) = proc_mount.filter(|p| !PROC_MOUNTS.contains(p)) {
        errors.push(path.child("procMount").not_supported(other, PROC_MOUNTS));
    }
    errors.extend(seccomp(context.seccomp_profile.as_ref(), &path.child("seccompProfile")));
    if context.allow_privilege_escalation == Some(false) {
        if context.privileged == Some(true) {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(path.invalid(context, detail));
        }
        let added = context.capabilities.iter().flat_map(|c| c.add.iter().flatten());
        for _ in added.filter(|capability| *capability == "CAP_SYS_ADMIN") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` \
                          CAP_SYS_ADMIN";
            errors.push(path.invalid(context, detail));
        }
    }
    errors.extend(app_armor(context.app_armor_profile.as_ref(), &path.child("appArmorProfile")));
    errors
}

fn unix_id(id: Option<i64>, path: &Path) -> FieldErrors {
    id.map(|id| path.invalid_for_each(id, names::unix_id(id))).unwrap_or_default()
}

fn sysctls(context: &PodSecurityContext, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let mut seen = std::collections::BTreeSet::new();
    for (i, sysctl) in context.sysctls.iter().flatten().enumerate() {
        let path = path.index(i).child("name");
        let name = &sysctl.name;
        if name.is_empty() {
            errors.push(path.required(""));
        } else if !is_sysctl(name) {
            let detail = format!(
                "must have at most {SYSCTL_LENGTH} characters and match regex {SYSCTL_REGEX}"
            );
            errors.push(path.invalid(name, detail));
        } else if !seen.insert(name) {
            errors.push(path.duplicate(name));
        }
    }
    errors
}

fn is_sysctl(name: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let segment = |s: &str| {
        s.starts_with(edge)
            && s.ends_with(edge)
            && s.chars().all(|c| edge(c) || c == '-' || c == '_')
    };
    name.len() <= SYSCTL_LENGTH && name.split(['.', '/']).all(segment)
}

fn seccomp(profile: Option<&SeccompProfile>, path: &Path) -> FieldErrors {
    let Some(profile) = profile else { return Vec::new() };
    let kind = path.child("type");
    let file = path.child("localhostProfile");
    let mut errors = FieldErrors::new();
    match profile.type_.as_str() {
        "" => errors.push(kind.required("type is required when seccompProfile is set")),
        known if PROFILES.contains(&known) => {}
        other => errors.push(kind.not_supported(other, PROFILES)),
    }
    match (&profile.localhost_profile, profile.type_ == "Localhost") {
        (None, true) => {
            errors.push(file.required("must be set when seccomp type is Localhost"));
        }
        (Some(name), true) => errors.extend(descending_path(&file, name)),
        (Some(_), false) => {
            errors.push(file.invalid(profile, "can only be set when seccomp type is Localhost"));
        }
        (None, false) => {}
    }
    errors
}

fn app_armor(profile: Option<&AppArmorProfile>, path: &Path) -> FieldErrors {
    let Some(profile) = profile else { return Vec::new() };
    let file = path.child("localhostProfile");
    let needed = "must be set when AppArmor type is Localhost";
    match (profile.type_.as_str(), profile.localhost_profile.as_deref()) {
        ("Localhost", None) => vec![file.required(needed)],
        ("Localhost", Some(name)) if name.trim() != name => {
            vec![file.invalid(name, "must not be padded with whitespace")]
        }
        ("Localhost", Some("")) => vec![file.required(needed)],
        ("RuntimeDefault" | "Unconfined", Some(name)) => {
            vec![file.invalid(name, "can only be set when AppArmor type is Localhost")]
        }
        ("Localhost" | "RuntimeDefault" | "Unconfined", _) => Vec::new(),
        ("", _) => {
            vec![path.child("type").required("type is required when appArmorProfile is set")]
        }
        (other, _) => vec![path.child("type").not_supported(other, PROFILES)],
    }
}
