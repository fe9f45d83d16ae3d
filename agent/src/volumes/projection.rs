//! Files of a volume, replaced all at once.
//!
//! The files lie in a hidden folder of their own; `..data` is a link to it, and each visible name a
//! link through `..data`. So a reader sees either all old files or all new ones. Upstream:
//! `pkg/volume/util/atomic_writer.go`.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
};

use super::payload::{Files, VolumeFile};

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

/// Makes the volume hold exactly these files. Does nothing if it does already.
pub(super) fn write(place: &Path, files: &Files, group: Option<i64>) -> io::Result<()> {
    let current = fs::read_link(place.join(DATA)).ok().map(|name| place.join(name));
    if current.as_deref().is_some_and(|current| holds(current, files)) {
        return Ok(());
    }
    let name = format!("..{}", jiff::Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S.%9f"));
    let hidden = place.join(&name);
    fs::create_dir(&hidden)?;
    for (path, file) in files {
        write_file(&hidden.join(path), file, group)?;
    }
    let new_data = place.join(NEW_DATA);
    remove_if_there(&new_data)?;
    symlink(&name, &new_data)?;
    fs::rename(&new_data, place.join(DATA))?;
    link_visible(place, files)?;
    match current {
        Some(old) => fs::remove_dir_all(old),
        None => Ok(()),
    }
}

fn write_file(path: &Path, file: &VolumeFile, group: Option<i64>) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, &file.content)?;
    let mut mode = file.mode;
    if let Some(group) = group.and_then(|group| u32::try_from(group).ok()) {
        chown(path, None, Some(group))?;
        mode |= 0o040;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn holds(hidden: &Path, files: &Files) -> bool {
    let same = files
        .iter()
        .all(|(path, file)| fs::read(hidden.join(path)).is_ok_and(|known| known == file.content));
    same && tops(files) == names(hidden)
}

fn tops(files: &Files) -> BTreeSet<PathBuf> {
    let first =
        |path: &String| Path::new(path).components().next().map(|c| PathBuf::from(c.as_os_str()));
    files.keys().filter_map(first).collect()
}

fn names(folder: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| PathBuf::from(entry.file_name())).collect()
}

/// Visible names: one link per first part of a path; those that no longer lead anywhere go.
fn link_visible(place: &Path, files: &Files) -> io::Result<()> {
    let wanted = tops(files);
    for name in &wanted {
        let visible = place.join(name);
        if visible.symlink_metadata().is_err() {
            symlink(Path::new(DATA).join(name), visible)?;
        }
    }
    for name in names(place) {
        let hidden = name.to_string_lossy().starts_with("..");
        if !hidden && !wanted.contains(&name) {
            fs::remove_file(place.join(name))?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
