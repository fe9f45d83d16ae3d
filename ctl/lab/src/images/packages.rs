//! Debian packages with their dependencies, unpacked into a folder. Nothing is installed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// What no container of a course reads.
const PRUNED: &[&str] =
    &["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian", "usr/share/bug"];

/// Downloads `packages` and what they depend on into `cache` (kept, shared by all images), without
/// those whose name begins with one of `skip`, and unpacks them into `root`.
pub(super) fn install(packages: &[&str], skip: &[&str], cache: &Path, root: &Path) -> Result<()> {
    let files = download(packages, cache)?;
    for file in files.iter().filter(|file| !skipped(file, skip)) {
        let unpacked = Command::new("dpkg-deb")
            .arg("-x")
            .args([cache.join(file).as_path(), root])
            .status()
            .context("run dpkg-deb (Debian package dpkg)")?;
        if !unpacked.success() {
            bail!("dpkg-deb -x {file} failed: remove {} and try again", cache.display());
        }
    }
    for folder in PRUNED {
        // Absent in small packages.
        let _ = std::fs::remove_dir_all(root.join(folder));
    }
    Ok(())
}

fn skipped(file: &str, skip: &[&str]) -> bool {
    skip.iter().any(|prefix| file.starts_with(prefix))
}

/// Asks apt for the packages as if nothing were installed; answers the names of their files.
fn download(packages: &[&str], cache: &Path) -> Result<Vec<String>> {
    // apt lists only what is not in its cache, so the list is asked for with an empty one.
    let empty_cache = cache.join("empty");
    std::fs::create_dir_all(empty_cache.join("partial"))?;
    std::fs::create_dir_all(cache.join("partial"))?;
    let nothing_installed = cache.join("status");
    std::fs::write(&nothing_installed, "")?;
    let apt = |extra: &str, cache: &Path| {
        let mut command = Command::new("apt-get");
        command
            .args(["-y", "-q", "--no-install-recommends", "-o", "Debug::NoLocking=1"])
            .args(["-o", "APT::Sandbox::User=root"])
            .arg(option("Dir::State::status", &nothing_installed))
            .arg(option("Dir::Cache::archives", cache))
            .args([extra, "install"])
            .args(packages)
            .stdin(Stdio::null());
        command
    };
    let listed = apt("--print-uris", &empty_cache).output().context(
        "run apt-get: the course images are built from Debian's packages (use --no-images elsewhere)",
    )?;
    if !listed.status.success() {
        bail!(
            "apt-get does not know {}: run \"apt-get update\" and try again\n{}",
            packages.join(", "),
            String::from_utf8_lossy(&listed.stderr).trim()
        );
    }
    let files = file_names(&String::from_utf8_lossy(&listed.stdout));
    let present = |file: &String| cache.join(file).exists();
    if !files.iter().all(present) {
        let fetched = apt("--download-only", cache).output().context("run apt-get")?;
        if !fetched.status.success() {
            bail!("apt-get: {}", String::from_utf8_lossy(&fetched.stderr).trim());
        }
    }
    match files.iter().find(|file| !present(file)) {
        Some(file) => bail!("apt-get did not download {file} to {}", cache.display()),
        None => Ok(files),
    }
}

fn option(name: &str, path: &Path) -> String {
    format!("-o{name}={}", PathBuf::from(path).display())
}

/// The second column of `apt-get --print-uris`: the name of the file in the cache.
fn file_names(listing: &str) -> Vec<String> {
    listing
        .lines()
        .filter(|line| line.starts_with('\''))
        .filter_map(|line| line.split_whitespace().nth(1))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_read_from_the_listing() {
        let listing = "Reading package lists...\n\
            'http://deb.example/pool/z/zlib1g_1.2.13_amd64.deb' zlib1g_1%3a1.2.13_amd64.deb 86684 SHA256:aa\n\
            'http://deb.example/pool/n/nginx.deb' nginx_1.22_amd64.deb 531468 SHA256:bb\n";
        assert_eq!(file_names(listing), ["zlib1g_1%3a1.2.13_amd64.deb", "nginx_1.22_amd64.deb"]);
    }

    #[test]
    fn packages_are_skipped_by_the_beginning_of_their_name() {
        assert!(skipped("perl-base_5.36_amd64.deb", &["perl"]));
        assert!(!skipped("nginx_1.22_amd64.deb", &["perl"]));
    }
}
