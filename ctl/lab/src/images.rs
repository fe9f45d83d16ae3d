//! The course images, built from Debian's packages into OCI archives.
//!
//! A recipe names packages and a few files of our own; the packages' dependencies come from apt,
//! resolved against an empty machine. A user with a registry pulls the real images instead: the
//! names are theirs. How it is done step by step: `docs/images.md`.

mod oci;
mod packages;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::Progress;

/// How one image is made.
#[derive(Debug)]
pub struct Recipe {
    /// The name that manifests use.
    pub reference: &'static str,
    /// Debian packages; their dependencies come along.
    packages: &'static [&'static str],
    /// Dependencies that the program runs without: installers' tools and modules we don't load.
    skip: &'static [&'static str],
    /// Files of our own: path, content, mode.
    files: &'static [(&'static str, &'static str, u32)],
    /// Folders that the program writes to.
    folders: &'static [&'static str],
    /// What the container runs.
    command: &'static [&'static str],
    /// TCP ports that the program listens on.
    ports: &'static [u16],
    /// The signal that lets the program finish its requests before it ends.
    stop_signal: &'static str,
}

/// busybox's httpd has no handler for SIGTERM, which the first process of a container then never
/// gets; a shell that waits for it has.
const SERVE_8080: &[&str] = &["/bin/sh", "-c", "trap exit TERM; httpd -f -p 8080 -h /www & wait"];

const NOT_NEEDED: &[&str] =
    &["debconf", "dpkg", "perl", "libperl", "libgdbm", "tar", "gcc-12-base"];

const PASSWD: (&str, &str, u32) = (
    "etc/passwd",
    "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n",
    0o644,
);
const GROUP: (&str, &str, u32) = ("etc/group", "root:x:0:\nwww-data:x:33:\n", 0o644);

/// One worker is plenty for a course; the log goes where `kubectl logs` finds it.
const NGINX_CONF: &str = r"daemon off;
user www-data;
worker_processes 1;
pid /run/nginx.pid;
error_log /dev/stderr notice;
events { worker_connections 512; }
http {
    include /etc/nginx/mime.types;
    access_log /dev/stdout;
    server {
        listen 80;
        listen [::]:80;
        root /usr/share/nginx/html;
        index index.html;
    }
}
";

const HTTPD_CONF: &str = r#"ServerRoot /usr/lib/apache2
ServerName localhost
Listen 80
PidFile /run/httpd.pid
DefaultRuntimeDir /run
LoadModule mpm_event_module modules/mod_mpm_event.so
LoadModule authz_core_module modules/mod_authz_core.so
LoadModule dir_module modules/mod_dir.so
LoadModule mime_module modules/mod_mime.so
User www-data
Group www-data
StartServers 1
DocumentRoot /usr/local/apache2/htdocs
DirectoryIndex index.html
TypesConfig /etc/mime.types
LogFormat "%h %l %u %t \"%r\" %>s %b" common
CustomLog /dev/stdout common
ErrorLog /dev/stderr
<Directory />
    Require all granted
</Directory>
"#;

/// The images that the course notes name.
pub const RECIPES: &[Recipe] = &[
    Recipe {
        reference: "nginx",
        packages: &["nginx", "busybox-static"],
        skip: &["iproute2", "libbpf1", "libelf1", "libdb5.3", "libxtables12", "libcap2"],
        files: &[PASSWD, GROUP, ("etc/nginx/nginx.conf", NGINX_CONF, 0o644)],
        folders: &["var/log/nginx", "var/lib/nginx", "run", "tmp"],
        command: &["/usr/sbin/nginx"],
        ports: &[80],
        stop_signal: "SIGQUIT",
    },
    Recipe {
        reference: "busybox",
        packages: &["busybox-static"],
        skip: &[],
        files: &[PASSWD, GROUP],
        folders: &["tmp", "root", "var/www"],
        command: &["/bin/sh"],
        ports: &[],
        stop_signal: "SIGTERM",
    },
    Recipe {
        reference: "httpd",
        packages: &["apache2-bin", "busybox-static"],
        skip: &["libicu72", "libxml2", "libcurl4", "libaprutil1-", "libsqlite3", "liblua5.3"],
        files: &[
            PASSWD,
            GROUP,
            ("etc/httpd.conf", HTTPD_CONF, 0o644),
            ("etc/mime.types", "text/html html htm\n", 0o644),
            (
                "usr/local/apache2/htdocs/index.html",
                "<html><body><h1>It works!</h1></body></html>\n",
                0o644,
            ),
        ],
        folders: &["run", "tmp"],
        command: &["/usr/sbin/apache2", "-D", "FOREGROUND", "-f", "/etc/httpd.conf"],
        ports: &[80],
        stop_signal: "SIGWINCH",
    },
    Recipe {
        reference: "dalgudcks/http-go",
        packages: &["busybox-static", "curl"],
        skip: &[],
        files: &[
            PASSWD,
            GROUP,
            (
                "www/cgi-bin/index.cgi",
                "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\nWelcome! %s\\n' \"$(hostname)\"\n",
                0o755,
            ),
        ],
        folders: &["tmp"],
        command: SERVE_8080,
        ports: &[8080],
        stop_signal: "SIGTERM",
    },
    Recipe {
        reference: "gcr.io/google-samples/node-hello:1.0",
        packages: &["busybox-static"],
        skip: &[],
        files: &[PASSWD, GROUP, ("www/index.html", "Hello Kubernetes!", 0o644)],
        folders: &["tmp"],
        command: SERVE_8080,
        ports: &[8080],
        stop_signal: "SIGTERM",
    },
];

/// The archive of an image in a folder of images. Its name carries a fingerprint of the recipe, so
/// that a changed recipe is built again.
#[must_use]
pub fn archive(folder: &Path, recipe: &Recipe) -> PathBuf {
    let recipe_text = format!("{recipe:?}");
    let fingerprint: String =
        Sha256::digest(recipe_text).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    folder.join(format!("{}.{fingerprint}.tar", stem(recipe)))
}

fn stem(recipe: &Recipe) -> String {
    recipe.reference.replace(['/', ':'], "_")
}

/// Removes what an earlier version of a recipe made.
fn remove_outdated(folder: &Path, recipe: &Recipe) -> std::io::Result<()> {
    let current = archive(folder, recipe);
    let stem = format!("{}.", stem(recipe));
    for old in archives(folder).into_iter().filter(|path| *path != current) {
        let name = old.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(&stem) {
            std::fs::remove_file(old)?;
        }
    }
    Ok(())
}

/// The archives in a folder, sorted by name; none if the folder is absent.
#[must_use]
pub fn archives(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "tar"))
        .collect();
    found.sort();
    found
}

/// Builds the images whose archives are missing; answers how many were built.
///
/// # Errors
/// The first image that could not be built and why; no half-written archive is left.
pub fn build_missing(folder: &Path, progress: &dyn Progress) -> Result<usize> {
    std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let missing: Vec<&Recipe> =
        RECIPES.iter().filter(|recipe| !archive(folder, recipe).exists()).collect();
    for recipe in &missing {
        remove_outdated(folder, recipe)?;
        progress.step(&format!("building image {} from Debian's packages", recipe.reference));
        build(recipe, folder).with_context(|| format!("build image {}", recipe.reference))?;
    }
    Ok(missing.len())
}

fn build(recipe: &Recipe, folder: &Path) -> Result<()> {
    let work = folder.join(format!(".build-{}", std::process::id()));
    let result = assemble(recipe, folder, &work);
    // The scratch folder goes whether or not the image was built.
    let _ = std::fs::remove_dir_all(&work);
    result
}

fn assemble(recipe: &Recipe, folder: &Path, work: &Path) -> Result<()> {
    let root = work.join("root");
    std::fs::create_dir_all(&root)?;
    let skip: Vec<&str> = NOT_NEEDED.iter().chain(recipe.skip).copied().collect();
    packages::install(recipe.packages, &skip, &folder.join("packages"), &root)?;
    write_files(recipe, &root)?;
    link_busybox_applets(&root)?;
    let image = oci::Image {
        reference: recipe.reference,
        command: recipe.command,
        ports: recipe.ports,
        stop_signal: recipe.stop_signal,
    };
    let partial = work.join("image.tar");
    oci::write(&image, &root, &partial)?;
    std::fs::rename(&partial, archive(folder, recipe))?;
    Ok(())
}

fn write_files(recipe: &Recipe, root: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    for (path, content, mode) in recipe.files {
        let path = root.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(*mode))?;
    }
    for folder in recipe.folders {
        let folder = root.join(folder);
        std::fs::create_dir_all(&folder)?;
        if folder.ends_with("tmp") {
            std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o1777))?;
        }
    }
    Ok(())
}

/// Debian's busybox comes without the links by which its applets are called; what a package of its
/// own provides (curl) stays.
fn link_busybox_applets(root: &Path) -> Result<()> {
    let busybox = root.join("bin/busybox");
    if !busybox.exists() {
        return Ok(());
    }
    let output =
        std::process::Command::new(&busybox).arg("--list").output().context("list the applets")?;
    for applet in String::from_utf8_lossy(&output.stdout).lines() {
        let link = root.join("bin").join(applet);
        if applet != "busybox" && !link.exists() {
            std::os::unix::fs::symlink("busybox", &link)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_have_file_names_of_their_own() {
        let folder = Path::new("/images");
        let mut names: Vec<PathBuf> =
            RECIPES.iter().map(|recipe| archive(folder, recipe)).collect();
        let last = names[4].display().to_string();
        assert!(last.starts_with("/images/gcr.io_google-samples_node-hello_1.0."), "{last}");
        names.dedup();
        assert_eq!(names.len(), RECIPES.len());
    }

    #[test]
    fn what_an_earlier_recipe_made_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str| std::fs::write(dir.path().join(name), "").unwrap();
        write("nginx.0123456789ab.tar");
        write("nginx-of-mine.tar");
        let current = archive(dir.path(), &RECIPES[0]);
        std::fs::write(&current, "").unwrap();
        remove_outdated(dir.path(), &RECIPES[0]).unwrap();
        assert_eq!(archives(dir.path()), [dir.path().join("nginx-of-mine.tar"), current]);
    }

    #[test]
    fn a_folder_without_images_is_no_error() {
        assert_eq!(archives(Path::new("/nonexistent")), Vec::<PathBuf>::new());
    }
}
