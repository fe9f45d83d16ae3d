//! Defaults of volumes: file modes, and an empty directory where no source is named.

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, PodSpec, Volume, VolumeProjection};

use super::{pull_policy, set_if_empty};

/// `rw-r--r--`
const FILE_MODE: i32 = 0o644;
/// How long a projected token is good, in seconds.
const TOKEN_SECONDS: i64 = 3600;

pub(super) fn apply(spec: &mut PodSpec) {
    spec.volumes.iter_mut().flatten().for_each(default_volume);
}

fn default_volume(volume: &mut Volume) {
    let bare = Volume { name: volume.name.clone(), ..Volume::default() };
    if *volume == bare {
        volume.empty_dir = Some(k8s_openapi::api::core::v1::EmptyDirVolumeSource::default());
    }
    if let Some(secret) = &mut volume.secret {
        secret.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(map) = &mut volume.config_map {
        map.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(downward) = &mut volume.downward_api {
        downward.default_mode.get_or_insert(FILE_MODE);
        downward.items.iter_mut().flatten().for_each(default_file);
    }
    if let Some(projected) = &mut volume.projected {
        projected.default_mode.get_or_insert(FILE_MODE);
        projected.sources.iter_mut().flatten().for_each(default_projection);
    }
    if let Some(path) = &mut volume.host_path {
        path.type_.get_or_insert_default();
    }
    if let Some(image) = &mut volume.image {
        let policy = pull_policy(image.reference.as_deref().unwrap_or_default());
        set_if_empty(&mut image.pull_policy, policy);
    }
}

fn default_projection(source: &mut VolumeProjection) {
    if let Some(token) = &mut source.service_account_token {
        token.expiration_seconds.get_or_insert(TOKEN_SECONDS);
    }
    if let Some(downward) = &mut source.downward_api {
        downward.items.iter_mut().flatten().for_each(default_file);
    }
}

fn default_file(file: &mut DownwardAPIVolumeFile) {
    if let Some(field) = &mut file.field_ref {
        set_if_empty(&mut field.api_version, "v1");
    }
}
