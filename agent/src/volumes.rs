//! Volumes: what a pod's containers find mounted besides their image.
//!
//! Flow: [`referenced`] names the objects needed (pure), [`payload`] makes files of them (pure),
//! [`set_up`] puts everything in place, [`bind_mounts`] says where it appears (pure but for looking
//! whether a path stays inside its volume). Kinds: emptyDir, hostPath, configMap, secret,
//! downwardAPI, projected (a service account token has no source yet: that file is left out).

mod payload;
mod projection;

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, HostPathVolumeSource, Pod, Volume,
};
use nix::mount::{MsFlags, mount};

pub(crate) use payload::{PayloadInput, payload};

use crate::{
    env::expand,
    quantity,
    sandbox::{self, PodFolder},
    spec::BindMount,
};

/// Why a volume is not there. The texts are kubelet's where it has one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    /// Something the volume is made of is missing.
    #[error("MountVolume.SetUp failed for volume {volume:?} : {reason}")]
    SetUp {
        /// The volume.
        volume: String,
        /// What is missing.
        reason: String,
    },
    /// A file or folder of the volume.
    #[error("MountVolume.SetUp failed for volume {volume:?} : {op} {}", path.display())]
    File {
        /// The volume.
        volume: String,
        /// What was done.
        op: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A kind of volume that this agent does not have.
    #[error("volume {volume:?} is of a kind that minictl does not have")]
    Unsupported {
        /// The volume.
        volume: String,
    },
    /// A mount without a volume.
    #[error("volume mount {volume:?} of container {container:?} has no volume")]
    NoVolume {
        /// The volume's name.
        volume: String,
        /// The container.
        container: String,
    },
    /// A `subPath` that leads out of its volume.
    #[error("subPath {path:?} leads out of volume {volume:?}")]
    Outside {
        /// The volume.
        volume: String,
        /// The path.
        path: String,
    },
}

/// ConfigMaps and Secrets by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Referenced {
    pub(crate) config_maps: BTreeSet<String>,
    pub(crate) secrets: BTreeSet<String>,
}

/// The objects that a pod's variables and volumes need.
pub(crate) fn referenced(pod: &Pod) -> Referenced {
    let mut names = Referenced::default();
    let Some(spec) = &pod.spec else { return names };
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        for source in container.env_from.iter().flatten() {
            names.config_maps.extend(source.config_map_ref.iter().map(|r| r.name.clone()));
            names.secrets.extend(source.secret_ref.iter().map(|r| r.name.clone()));
        }
        for source in container.env.iter().flatten().filter_map(|v| v.value_from.as_ref()) {
            names.config_maps.extend(source.config_map_key_ref.iter().map(|r| r.name.clone()));
            names.secrets.extend(source.secret_key_ref.iter().map(|r| r.name.clone()));
        }
    }
    for volume in spec.volumes.iter().flatten() {
        names.config_maps.extend(volume.config_map.iter().map(|source| source.name.clone()));
        let secret = volume.secret.as_ref().and_then(|source| source.secret_name.clone());
        names.secrets.extend(secret);
        let projected = volume.projected.as_ref().and_then(|source| source.sources.as_ref());
        for source in projected.into_iter().flatten() {
            names.config_maps.extend(source.config_map.iter().map(|source| source.name.clone()));
            names.secrets.extend(source.secret.iter().map(|source| source.name.clone()));
        }
    }
    names
}

fn failed(
    volume: &str,
    op: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> VolumeError + use<> {
    let (volume, path) = (volume.to_owned(), path.to_owned());
    move |source| VolumeError::File { volume, op, path, source }
}

/// Puts all volumes in place; repeating it renews the files of those made from objects.
///
/// # Errors
/// The first volume that cannot be made.
pub(crate) fn set_up(folder: &PodFolder, input: &PayloadInput<'_>) -> Result<(), VolumeError> {
    let spec = input.pod.spec.as_ref();
    let group = spec.and_then(|s| s.security_context.as_ref()).and_then(|s| s.fs_group);
    for volume in spec.and_then(|spec| spec.volumes.as_deref()).unwrap_or_default() {
        let place = folder.volumes().join(&volume.name);
        if let Some(source) = &volume.empty_dir {
            empty_dir(&volume.name, &place, source, group)?;
        } else if let Some(source) = &volume.host_path {
            host_path(&volume.name, source)?;
        } else if let Some(files) = payload(volume, input)? {
            fs::create_dir_all(&place).map_err(failed(&volume.name, "create", &place))?;
            projection::write(&place, &files, group).map_err(failed(
                &volume.name,
                "write",
                &place,
            ))?;
        } else {
            return Err(VolumeError::Unsupported { volume: volume.name.clone() });
        }
    }
    Ok(())
}

fn empty_dir(
    name: &str,
    place: &Path,
    source: &EmptyDirVolumeSource,
    group: Option<i64>,
) -> Result<(), VolumeError> {
    if place.exists() {
        return Ok(());
    }
    fs::create_dir_all(place).map_err(failed(name, "create", place))?;
    if source.medium.as_deref() == Some("Memory") {
        let limit = source.size_limit.as_ref().and_then(quantity::units);
        let options = limit.map(|bytes| format!("size={bytes}"));
        mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::empty(), options.as_deref())
            .map_err(|errno| failed(name, "mount memory on", place)(errno.into()))?;
    }
    // Everybody may write, as kubelet's: containers run as anybody.
    fs::set_permissions(place, fs::Permissions::from_mode(0o777))
        .map_err(failed(name, "open up", place))?;
    if let Some(group) = group.and_then(|group| u32::try_from(group).ok()) {
        chown(place, None, Some(group)).map_err(failed(name, "give to its group", place))?;
        fs::set_permissions(place, fs::Permissions::from_mode(0o2777))
            .map_err(failed(name, "open up", place))?;
    }
    Ok(())
}

/// Upstream: `pkg/volume/hostpath/host_path.go`.
fn host_path(name: &str, source: &HostPathVolumeSource) -> Result<(), VolumeError> {
    let path = Path::new(&source.path);
    let wrong = |what: &str| VolumeError::SetUp {
        volume: name.to_owned(),
        reason: format!("hostPath type check failed: {} is not a {what}", source.path),
    };
    match source.type_.as_deref().unwrap_or_default() {
        // Without a type the path is taken as it is; runc needs something to bind.
        "" | "DirectoryOrCreate" if !path.exists() => {
            fs::create_dir_all(path).map_err(failed(name, "create", path))
        }
        "DirectoryOrCreate" | "Directory" if !path.is_dir() => Err(wrong("directory")),
        "FileOrCreate" if !path.exists() => {
            fs::write(path, []).map_err(failed(name, "create", path))
        }
        "FileOrCreate" | "File" if !path.is_file() => Err(wrong("file")),
        "Socket" | "CharDevice" | "BlockDevice" if !path.exists() => Err(wrong("file")),
        _ => Ok(()),
    }
}

/// Where a container's volumes appear.
///
/// # Errors
/// A mount without a volume, or one that leads out of it.
pub(crate) fn bind_mounts(
    folder: &PodFolder,
    pod: &Pod,
    container: &Container,
    env: &[(String, String)],
) -> Result<Vec<BindMount>, VolumeError> {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    let mut mounts = Vec::new();
    for wanted in container.volume_mounts.iter().flatten() {
        let volume = volumes.iter().find(|volume| volume.name == wanted.name).ok_or_else(|| {
            let (volume, container) = (wanted.name.clone(), container.name.clone());
            VolumeError::NoVolume { volume, container }
        })?;
        let lookup =
            |name: &str| env.iter().find(|(known, _)| known == name).map(|(_, v)| v.clone());
        let below = match (&wanted.sub_path, &wanted.sub_path_expr) {
            (Some(path), _) if !path.is_empty() => Some(path.clone()),
            (_, Some(text)) if !text.is_empty() => Some(expand(text, lookup)),
            _ => None,
        };
        let root = match &volume.host_path {
            Some(source) => PathBuf::from(&source.path),
            None => folder.volumes().join(&volume.name),
        };
        mounts.push(BindMount {
            source: match below {
                Some(below) => inside(&volume.name, &root, &below)?,
                None => root,
            },
            target: absolute(&wanted.mount_path),
            read_only: wanted.read_only == Some(true) || is_read_only(volume),
            propagation: match wanted.mount_propagation.as_deref() {
                Some("HostToContainer") => "rslave",
                Some("Bidirectional") => "rshared",
                _ => "rprivate",
            },
        });
    }
    Ok(mounts)
}

/// Volumes made from objects belong to the objects.
fn is_read_only(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.projected.is_some()
        || volume.downward_api.is_some()
}

fn absolute(path: &str) -> PathBuf {
    Path::new("/").join(path)
}

/// A path inside a volume; a folder is made where nothing is.
fn inside(volume: &str, root: &Path, below: &str) -> Result<PathBuf, VolumeError> {
    let outside = || VolumeError::Outside { volume: volume.to_owned(), path: below.to_owned() };
    let relative = Path::new(below);
    let is_plain =
        relative.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if !is_plain {
        return Err(outside());
    }
    let path = root.join(relative);
    if !path.exists() {
        fs::create_dir_all(&path).map_err(failed(volume, "create", &path))?;
    }
    let real = path.canonicalize().map_err(failed(volume, "resolve", &path))?;
    let real_root = root.canonicalize().map_err(failed(volume, "resolve", root))?;
    if real.starts_with(real_root) { Ok(real) } else { Err(outside()) }
}

/// Whether a pod has volumes that have to be renewed when their objects change.
pub(crate) fn has_objects(pod: &Pod) -> bool {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    volumes.iter().any(is_read_only)
}

/// Takes away a pod's volumes. Errors are collected, the rest goes on.
pub(crate) fn tear_down(folder: &PodFolder) -> Vec<String> {
    let mut errors = Vec::new();
    for entry in fs::read_dir(folder.volumes()).into_iter().flatten().flatten() {
        if let Err(error) = sandbox::unmount(&entry.path()) {
            errors.push(crate::error_chain(&error));
        }
    }
    // A mount that could not be taken away must not have its contents removed.
    if errors.is_empty()
        && let Err(error) = fs::remove_dir_all(folder.volumes())
        && error.kind() != io::ErrorKind::NotFound
    {
        errors.push(format!("remove {}: {error}", folder.volumes().display()));
    }
    errors
}

#[cfg(test)]
mod tests;
