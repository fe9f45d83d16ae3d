//! Volumes: one source each, well formed (upstream: `ValidateVolumes`).
//!
//! Output: the well-formed volumes by name, for the mounts to refer to, and the problems of the
//! others. Sources that no node here can provide are counted but not looked into.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, PodSpec, ProjectedVolumeSource,
    ServiceAccountTokenProjection, Volume, VolumeProjection,
};

use super::{environment, no_backsteps, unreserved_path};
use crate::field::{FieldErrors, Path};
use crate::names;
use crate::quantity::Quantity;

const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
/// Bounds of a projected token's life, in seconds.
const SHORTEST_TOKEN: i64 = 600;
const LONGEST_TOKEN: i64 = 1 << 32;
const HOST_PATH_TYPES: &[&str] = &[
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];
/// Fields of the pod that a file can show.
const FILE_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

pub(super) fn validate<'a>(
    spec: &'a PodSpec,
    path: &Path,
) -> (BTreeMap<&'a str, &'a Volume>, FieldErrors) {
    let mut good = BTreeMap::new();
    let mut errors = FieldErrors::new();
    for (i, volume) in spec.volumes.iter().flatten().enumerate() {
        let path = path.index(i);
        let name = volume.name.as_str();
        let mut problems = source(volume, &path);
        if name.is_empty() {
            problems.push(path.child("name").required(""));
        } else {
            problems.extend(path.child("name").invalid_for_each(name, names::dns_label(name)));
        }
        if good.contains_key(name) {
            problems.push(path.child("name").duplicate(name));
        }
        if problems.is_empty() {
            good.insert(name, volume);
        }
        errors.extend(problems);
    }
    (good, errors)
}

/// Names of the sources that are set, in upstream's order.
fn sources(v: &Volume) -> Vec<&'static str> {
    let sources = [
        ("emptyDir", v.empty_dir.is_some()),
        ("hostPath", v.host_path.is_some()),
        ("gitRepo", v.git_repo.is_some()),
        ("gcePersistentDisk", v.gce_persistent_disk.is_some()),
        ("awsElasticBlockStore", v.aws_elastic_block_store.is_some()),
        ("secret", v.secret.is_some()),
        ("nfs", v.nfs.is_some()),
        ("iscsi", v.iscsi.is_some()),
        ("glusterfs", v.glusterfs.is_some()),
        ("flocker", v.flocker.is_some()),
        ("persistentVolumeClaim", v.persistent_volume_claim.is_some()),
        ("rbd", v.rbd.is_some()),
        ("cinder", v.cinder.is_some()),
        ("cephFS", v.cephfs.is_some()),
        ("quobyte", v.quobyte.is_some()),
        ("downwarAPI", v.downward_api.is_some()),
        ("fc", v.fc.is_some()),
        ("flexVolume", v.flex_volume.is_some()),
        ("configMap", v.config_map.is_some()),
        ("azureFile", v.azure_file.is_some()),
        ("vsphereVolume", v.vsphere_volume.is_some()),
        ("photonPersistentDisk", v.photon_persistent_disk.is_some()),
        ("portworxVolume", v.portworx_volume.is_some()),
        ("azureDisk", v.azure_disk.is_some()),
        ("storageos", v.storageos.is_some()),
        ("projected", v.projected.is_some()),
        ("scaleIO", v.scale_io.is_some()),
        ("csi", v.csi.is_some()),
        ("ephemeral", v.ephemeral.is_some()),
        ("image", v.image.is_some()),
    ];
    sources.into_iter().filter_map(|(name, set)| set.then_some(name)).collect()
}

fn source(volume: &Volume, path: &Path) -> FieldErrors {
    let sources = sources(volume);
    let Some((first, others)) = sources.split_first() else {
        return vec![path.required("must specify a volume type")];
    };
    let mut errors = contents(volume, first, path);
    let detail = "may not specify more than 1 volume type";
    errors.extend(others.iter().map(|other| path.child(other).forbidden(detail)));
    errors
}

fn contents(volume: &Volume, source: &str, path: &Path) -> FieldErrors {
    let here = path.child(source);
    match source {
        "emptyDir" => empty_dir(volume, &here),
        "hostPath" => host_path(volume, &here),
        "secret" => secret(volume, &here),
        "configMap" => config_map(volume, &here),
        "downwarAPI" => downward_api(volume, &path.child("downwardAPI")),
        "projected" => volume.projected.as_ref().map(|p| projected(p, &here)).unwrap_or_default(),
        "persistentVolumeClaim" => {
            let claim = volume.persistent_volume_claim.as_ref().map(|c| c.claim_name.as_str());
            required(claim, &here.child("claimName"))
        }
        "nfs" => nfs(volume, &here),
        "image" => {
            let reference = volume.image.as_ref().and_then(|i| i.reference.as_deref());
            required(reference, &here.child("reference"))
        }
        _ => Vec::new(),
    }
}

fn required(value: Option<&str>, path: &Path) -> FieldErrors {
    if value.unwrap_or_default().is_empty() { vec![path.required("")] } else { Vec::new() }
}

fn empty_dir(volume: &Volume, path: &Path) -> FieldErrors {
    let limit = volume.empty_dir.as_ref().and_then(|d| d.size_limit.as_ref());
    let good = limit.is_none_or(|l| Quantity::parse(&l.0).is_ok_and(|q| !q.is_negative()));
    let detail = "SizeLimit field must be a valid resource quantity";
    if good { Vec::new() } else { vec![path.child("sizeLimit").forbidden(detail)] }
}

fn host_path(volume: &Volume, path: &Path) -> FieldErrors {
    let Some(host) = &volume.host_path else { return Vec::new() };
    if host.path.is_empty() {
        return vec![path.child("path").required("")];
    }
    let mut errors = no_backsteps(&path.child("path"), &host.path);
    let kind = host.type_.as_deref().unwrap_or_default();
    if !HOST_PATH_TYPES.contains(&kind) {
        errors.push(path.child("type").not_supported(kind, HOST_PATH_TYPES));
    }
    errors
}

fn secret(volume: &Volume, path: &Path) -> FieldErrors {
    let Some(secret) = &volume.secret else { return Vec::new() };
    let mut errors = required(secret.secret_name.as_deref(), &path.child("secretName"));
    errors.extend(mode(secret.default_mode, &path.child("defaultMode")));
    errors.extend(items(secret.items.as_deref(), &path.child("items")));
    errors
}

fn config_map(volume: &Volume, path: &Path) -> FieldErrors {
    let Some(map) = &volume.config_map else { return Vec::new() };
    let mut errors = required(Some(&map.name), &path.child("name"));
    errors.extend(mode(map.default_mode, &path.child("defaultMode")));
    errors.extend(items(map.items.as_deref(), &path.child("items")));
    errors
}

fn downward_api(volume: &Volume, path: &Path) -> FieldErrors {
    let Some(downward) = &volume.downward_api else { return Vec::new() };
    let mut errors = mode(downward.default_mode, &path.child("defaultMode"));
    errors.extend(downward.items.iter().flatten().flat_map(|f| downward_file(f, path)));
    errors
}

fn nfs(volume: &Volume, path: &Path) -> FieldErrors {
    let Some(nfs) = &volume.nfs else { return Vec::new() };
    let mut errors = required(Some(&nfs.server), &path.child("server"));
    errors.extend(required(Some(&nfs.path), &path.child("path")));
    if !nfs.path.starts_with('/') {
        errors.push(path.child("path").invalid(&nfs.path, "must be an absolute path"));
    }
    errors
}

fn projected(projected: &ProjectedVolumeSource, path: &Path) -> FieldErrors {
    let mut errors = mode(projected.default_mode, &path.child("defaultMode"));
    let mut taken = BTreeSet::new();
    for (i, source) in projected.sources.iter().flatten().enumerate() {
        let here = path.child("sources").index(i);
        let projection = Projection::of(source, &here);
        errors.extend(projection.errors);
        for name in projection.files.into_iter().filter(|f| !f.is_empty()) {
            if !taken.insert(name) {
                errors.push(path.invalid(name, "conflicting duplicate paths"));
            }
        }
        if projection.sources > 1 {
            errors.push(here.forbidden("may not specify more than 1 volume type per source"));
        }
    }
    errors
}

/// One entry of a projected volume, which must name one source.
#[derive(Default)]
struct Projection<'a> {
    sources: usize,
    /// Where its files go.
    files: Vec<&'a str>,
    errors: FieldErrors,
}

impl<'a> Projection<'a> {
    fn of(source: &'a VolumeProjection, path: &Path) -> Self {
        let mut projection = Self::default();
        if let Some(secret) = &source.secret {
            projection.keys(&secret.name, secret.items.as_deref(), &path.child("secret"));
        }
        if let Some(map) = &source.config_map {
            projection.keys(&map.name, map.items.as_deref(), &path.child("configMap"));
        }
        if let Some(downward) = &source.downward_api {
            projection.sources += 1;
            for file in downward.items.iter().flatten() {
                projection.errors.extend(downward_file(file, &path.child("downwardAPI")));
                projection.files.push(&file.path);
            }
        }
        if let Some(token) = &source.service_account_token {
            projection.sources += 1;
            projection.errors.extend(projected_token(token, &path.child("serviceAccountToken")));
        }
        projection.sources += usize::from(source.cluster_trust_bundle.is_some());
        projection
    }

    fn keys(&mut self, name: &str, keys: Option<&'a [KeyToPath]>, path: &Path) {
        self.sources += 1;
        self.errors.extend(required(Some(name), &path.child("name")));
        self.errors.extend(items(keys, &path.child("items")));
        self.files.extend(keys.into_iter().flatten().map(|k| k.path.as_str()));
    }
}

fn projected_token(token: &ServiceAccountTokenProjection, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let seconds = token.expiration_seconds.unwrap_or_default();
    let path_of_seconds = path.child("expirationSeconds");
    if seconds < SHORTEST_TOKEN {
        let detail = "may not specify a duration less than 10 minutes";
        errors.push(path_of_seconds.invalid(seconds, detail));
    } else if seconds > LONGEST_TOKEN {
        let detail = "may not specify a duration larger than 2^32 seconds";
        errors.push(path_of_seconds.invalid(seconds, detail));
    }
    errors.extend(required(Some(&token.path), &path.child("path")));
    errors.extend(unreserved_path(&path.child("path"), &token.path));
    errors
}

fn downward_file(file: &DownwardAPIVolumeFile, path: &Path) -> FieldErrors {
    let mut errors = required(Some(&file.path), &path.child("path"));
    errors.extend(unreserved_path(&path.child("path"), &file.path));
    match (&file.field_ref, &file.resource_field_ref) {
        (Some(field), resource) => {
            let here = path.child("fieldRef");
            errors.extend(environment::field_ref(field, FILE_FIELDS, &here));
            if resource.is_some() {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(path.invalid("resource", detail));
            }
        }
        (None, Some(resource)) => {
            let here = path.child("resourceFieldRef");
            errors.extend(environment::resource_ref(resource, true, &here));
        }
        (None, None) => {
            errors.push(path.required("one of fieldRef and resourceFieldRef is required"));
        }
    }
    errors.extend(mode(file.mode, &path.child("mode")));
    errors
}

fn items(items: Option<&[KeyToPath]>, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (i, item) in items.into_iter().flatten().enumerate() {
        let path = path.index(i);
        errors.extend(required(Some(&item.key), &path.child("key")));
        errors.extend(required(Some(&item.path), &path.child("path")));
        errors.extend(unreserved_path(&path.child("path"), &item.path));
        errors.extend(mode(item.mode, &path.child("mode")));
    }
    errors
}

fn mode(mode: Option<i32>, path: &Path) -> FieldErrors {
    match mode {
        Some(mode) if !(0..=0o777).contains(&mode) => vec![path.invalid(mode, FILE_MODE)],
        _ => Vec::new(),
    }
}
