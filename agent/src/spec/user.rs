//! Who a container runs as: ids from the pod, or from the image by way of its `/etc/passwd`.
//!
//! The image's files are looked up in the layers of its snapshot, top to bottom, without mounting
//! it. Upstream: containerd's `oci.WithUser`.

use std::{
    fs::OpenOptions,
    io::Read as _,
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use containerd_client::types::Mount;
use k8s_openapi::api::core::v1::{Container, Pod, PodSecurityContext};

use super::SpecError;

/// Numeric identity of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct UserIds {
    /// User.
    pub(crate) uid: u32,
    /// Primary group.
    pub(crate) gid: u32,
    /// Further groups.
    pub(crate) additional_gids: Vec<u32>,
}

/// `/etc/passwd` and `/etc/group` of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Accounts {
    pub(crate) passwd: String,
    pub(crate) group: String,
}

/// Decides who a container runs as.
///
/// # Errors
/// A user that the image does not know, or root where `runAsNonRoot` forbids it.
pub(crate) fn resolve(
    pod: &Pod,
    container: &Container,
    image_user: &str,
    accounts: impl FnOnce() -> Accounts,
) -> Result<UserIds, SpecError> {
    let pod_security = pod.spec.as_ref().and_then(|spec| spec.security_context.clone());
    let pod_security = pod_security.unwrap_or_default();
    let security = container.security_context.clone().unwrap_or_default();
    let wanted_user = security.run_as_user.or(pod_security.run_as_user);
    let wanted_group = security.run_as_group.or(pod_security.run_as_group);
    let user = wanted_user.map_or_else(|| image_user.to_owned(), |uid| uid.to_string());
    let mut ids = from_image(&user, accounts)?;
    if let Some(gid) = wanted_group {
        ids.gid = id(gid);
    }
    ids.additional_gids.extend(supplemental(&pod_security));
    let non_root = security.run_as_non_root.or(pod_security.run_as_non_root);
    if non_root == Some(true) && ids.uid == 0 {
        return Err(SpecError::Root);
    }
    Ok(ids)
}

fn supplemental(security: &PodSecurityContext) -> Vec<u32> {
    security
        .supplemental_groups
        .iter()
        .flatten()
        .chain(&security.fs_group)
        .map(|g| id(*g))
        .collect()
}

fn id(value: i64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// `user[:group]`, each a name or a number.
fn from_image(user: &str, accounts: impl FnOnce() -> Accounts) -> Result<UserIds, SpecError> {
    if user.is_empty() || user == "0" || user == "root" {
        return Ok(UserIds::default());
    }
    let accounts = accounts();
    let (name, group) = user.split_once(':').map_or((user, None), |(n, g)| (n, Some(g)));
    let unknown = |name: &str| SpecError::UnknownUser { user: name.to_owned() };
    let entry = accounts
        .passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.first() == Some(&name) || fields.get(2) == Some(&name));
    let field = |position: usize| -> Option<u32> { entry.as_ref()?.get(position)?.parse().ok() };
    let uid = field(2).or_else(|| name.parse().ok()).ok_or_else(|| unknown(name))?;
    let gid = match group {
        None => field(3).unwrap_or(0),
        Some(group) => group_id(&accounts, group).ok_or_else(|| unknown(group))?,
    };
    let login = entry.as_ref().and_then(|fields| fields.first()).copied().unwrap_or_default();
    Ok(UserIds { uid, gid, additional_gids: memberships(&accounts, login) })
}

fn group_id(accounts: &Accounts, group: &str) -> Option<u32> {
    let lines = accounts.group.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = lines.into_iter().find(|fields| fields.first() == Some(&group));
    found.and_then(|fields| fields.get(2)?.parse().ok()).or_else(|| group.parse().ok())
}

fn memberships(accounts: &Accounts, login: &str) -> Vec<u32> {
    let lines = accounts.group.lines().map(|line| line.split(':').collect::<Vec<_>>());
    lines
        .filter(|fields| {
            !login.is_empty()
                && fields.get(3).is_some_and(|list| list.split(',').any(|member| member == login))
        })
        .filter_map(|fields| fields.get(2)?.parse().ok())
        .collect()
}

/// Reads an image's accounts out of the layers of a snapshot.
pub(crate) fn read_accounts(mounts: &[Mount]) -> Accounts {
    let layers = layers(mounts);
    Accounts {
        passwd: read_file(&layers, "etc/passwd").unwrap_or_default(),
        group: read_file(&layers, "etc/group").unwrap_or_default(),
    }
}

/// The folders that a mount is stacked of, top first.
fn layers(mounts: &[Mount]) -> Vec<PathBuf> {
    let Some(mount) = mounts.first() else { return Vec::new() };
    // An image of one layer is a bind mount of its folder.
    if mount.r#type != "overlay" {
        return vec![PathBuf::from(&mount.source)];
    }
    let option = |name: &str| {
        mount.options.iter().find_map(|option| option.strip_prefix(name)).unwrap_or_default()
    };
    let folders = option("upperdir=").split(':').chain(option("lowerdir=").split(':'));
    folders.filter(|folder| !folder.is_empty()).map(PathBuf::from).collect()
}

fn read_file(layers: &[PathBuf], name: &str) -> Option<String> {
    // The file is the image's, so it may be anything: no links out of the layer, no huge reads.
    const MAX: u64 = 1 << 20;
    for layer in layers {
        let path = layer.join(name);
        let Ok(metadata) = path.symlink_metadata() else { continue };
        let is_whiteout = metadata.file_type().is_char_device();
        if is_whiteout || !metadata.is_file() || leaves(layer, &path) {
            return None;
        }
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path).ok()?;
        let mut text = String::new();
        file.take(MAX).read_to_string(&mut text).ok()?;
        return Some(text);
    }
    None
}

/// Whether a link on the way leads out of the layer.
fn leaves(layer: &Path, path: &Path) -> bool {
    match (layer.canonicalize(), path.canonicalize()) {
        (Ok(layer), Ok(path)) => !path.starts_with(layer),
        _ => true,
    }
}
