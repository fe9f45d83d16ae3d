//! Where a container mounts volumes (upstream: `ValidateVolumeMounts`, `ValidateVolumeDevices`).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, VolumeMount};

use super::{Surroundings, descending_path};
use crate::field::{FieldErrors, Path};

const PROPAGATIONS: &[&str] = &["Bidirectional", "HostToContainer", "None"];
const RECURSIVE: &[&str] = &["Disabled", "Enabled", "IfPossible"];

pub(super) fn validate(
    container: &Container,
    around: &Surroundings<'_>,
    path: &Path,
) -> FieldErrors {
    let list = path.child("volumeMounts");
    let mut errors = FieldErrors::new();
    let mut places = BTreeSet::new();
    for (i, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let path = list.index(i);
        if mount.name.is_empty() {
            errors.push(path.child("name").required(""));
        }
        if !around.volumes.contains_key(mount.name.as_str()) {
            errors.push(path.child("name").not_found(&mount.name));
        }
        if mount.mount_path.is_empty() {
            errors.push(path.child("mountPath").required(""));
        }
        if !places.insert(mount.mount_path.as_str()) {
            errors.push(path.child("mountPath").invalid(&mount.mount_path, "must be unique"));
        }
        errors.extend(sub_paths(mount, &path, &list));
        errors.extend(propagation(mount, container, &list));
        errors.extend(recursive_read_only(mount, &list.child("recursiveReadOnly")));
    }
    let devices = path.child("volumeDevices");
    for (i, device) in container.volume_devices.iter().flatten().enumerate() {
        if !around.volumes.contains_key(device.name.as_str()) {
            errors.push(devices.index(i).child("name").not_found(&device.name));
        }
        if device.device_path.is_empty() {
            errors.push(devices.index(i).child("devicePath").required(""));
        }
    }
    errors
}

/// Upstream blames the list, not the mount, for a path that leads out of the volume.
fn sub_paths(mount: &VolumeMount, path: &Path, list: &Path) -> FieldErrors {
    let sub_path = mount.sub_path.as_deref().unwrap_or_default();
    let expression = mount.sub_path_expr.as_deref().unwrap_or_default();
    let mut errors = descending_path(&list.child("subPath"), sub_path);
    if !sub_path.is_empty() && !expression.is_empty() {
        let detail = "subPathExpr and subPath are mutually exclusive";
        errors.push(path.child("subPathExpr").invalid(expression, detail));
    }
    errors.extend(descending_path(&list.child("subPathExpr"), expression));
    errors
}

fn propagation(mount: &VolumeMount, container: &Container, list: &Path) -> FieldErrors {
    let path = list.child("mountPropagation");
    let privileged = container.security_context.as_ref().and_then(|s| s.privileged) == Some(true);
    match mount.mount_propagation.as_deref() {
        Some("Bidirectional") if !privileged => vec![path.forbidden(
            "Bidirectional mount propagation is available only to privileged containers",
        )],
        Some(other) if !PROPAGATIONS.contains(&other) => {
            vec![path.not_supported(other, PROPAGATIONS)]
        }
        _ => Vec::new(),
    }
}

fn recursive_read_only(mount: &VolumeMount, path: &Path) -> FieldErrors {
    let read_only = mount.read_only == Some(true);
    match mount.recursive_read_only.as_deref() {
        Some("Enabled" | "IfPossible") if !read_only => {
            vec![path.forbidden("may only be specified when readOnly is true")]
        }
        Some(other) if !RECURSIVE.contains(&other) => vec![path.not_supported(other, RECURSIVE)],
        _ => Vec::new(),
    }
}
