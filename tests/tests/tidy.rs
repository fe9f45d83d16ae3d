//! The rules of the house that a compiler does not check.
//!
//! Each rule lists every place that breaks it, so that one run shows all there is to mend.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Longest file in lines, tests and tables aside.
const FILE_LIMIT: usize = 500;
/// Files that are data in the form of code: long because there is much of it.
const TABLES: &[&str] = &["fields.rs", "merge_keys.rs"];
/// File names that say nothing of what is in them.
const EMPTY_NAMES: &[&str] =
    &["utils.rs", "util.rs", "common.rs", "helpers.rs", "misc.rs", "types.rs", "mod.rs"];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Every file that git tracks or would track, relative to the root.
fn files() -> Vec<PathBuf> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git is installed");
    assert!(output.status.success(), "git ls-files failed");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(PathBuf::from)
        .filter(|path| root().join(path).is_file())
        .collect()
}

fn rust_files() -> Vec<(PathBuf, String)> {
    files()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| {
            let text = std::fs::read_to_string(root().join(&path)).expect("a readable file");
            (path, text)
        })
        .collect()
}

/// Tests, examples and generators of tables: code that is not in the product.
fn is_test(path: &Path) -> bool {
    let folders = path.components().any(|part| {
        matches!(part.as_os_str().to_str(), Some("tests" | "examples" | "benches" | "generate"))
    });
    folders || path.file_name().is_some_and(|name| name == "tests.rs")
}

/// The lines before the first inline test module.
fn product_lines(text: &str) -> usize {
    let tests = text.lines().position(|line| line.trim_start().starts_with("#[cfg(test)]"));
    tests.unwrap_or_else(|| text.lines().count())
}

fn report(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn every_file_says_what_it_owns() {
    let broken: Vec<String> = rust_files()
        .iter()
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(path, _)| path.display().to_string())
        .collect();
    report("files without a //! header", &broken);
}

#[test]
fn files_are_short() {
    let broken: Vec<String> = rust_files()
        .iter()
        .filter(|(path, _)| !is_test(path))
        .filter(|(path, _)| {
            !path.file_name().is_some_and(|name| TABLES.iter().any(|table| name == *table))
        })
        .map(|(path, text)| (path, product_lines(text)))
        .filter(|(_, lines)| *lines > FILE_LIMIT)
        .map(|(path, lines)| format!("{} has {lines} lines", path.display()))
        .collect();
    report("files over 500 lines", &broken);
}

#[test]
fn file_names_mean_something() {
    let broken: Vec<String> = rust_files()
        .iter()
        .filter(|(path, _)| {
            path.file_name().is_some_and(|name| EMPTY_NAMES.iter().any(|empty| name == *empty))
        })
        .map(|(path, _)| path.display().to_string())
        .collect();
    report("files named after nothing", &broken);
}

#[test]
fn unsafe_code_lives_in_one_file_per_crate_and_says_why() {
    let mut by_crate: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut broken = Vec::new();
    for (path, text) in rust_files().iter().filter(|(path, _)| !path.ends_with("tidy.rs")) {
        let uses = text.lines().any(|line| {
            let code = line.trim_start();
            !code.starts_with("//") && (code.contains("unsafe {") || code.contains("unsafe fn"))
        });
        if uses {
            if !text.contains("unsafe_code, reason") && !text.contains("unsafe_code,\n") {
                broken.push(format!("{} gives no reason", path.display()));
            }
            let text = path.display().to_string();
            let owner = text.split("/src/").next().unwrap_or(&text).to_owned();
            by_crate.entry(owner).or_default().push(text);
        }
    }
    for (owner, files) in by_crate.iter().filter(|(_, files)| files.len() > 1) {
        broken.push(format!("{owner}: {}", files.join(", ")));
    }
    report("unsafe code", &broken);
}

#[test]
fn only_the_binary_prints_and_exits() {
    let words = ["println!(", "eprintln!(", "process::exit("];
    let broken: Vec<String> = rust_files()
        .iter()
        .filter(|(path, _)| !is_test(path) && !path.starts_with("ctl/src"))
        .flat_map(|(path, text)| {
            text.lines()
                .take(product_lines(text))
                .enumerate()
                .filter(|(_, line)| words.iter().any(|word| line.contains(word)))
                .filter(|(_, line)| !line.trim_start().starts_with("//"))
                .map(|(number, _)| format!("{}:{}", path.display(), number + 1))
                .collect::<Vec<_>>()
        })
        .collect();
    report("output or exit outside the binary", &broken);
}

/// Which crates may not know which: the arrows of ARCHITECTURE.md that must not exist.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("apiserver/store", &["axum", "http", "k8s-openapi", "kube", "serde_json"]),
    ("apiserver/controllers", &["axum", "sled", "store", "rtnetlink", "apiserver"]),
    ("apiserver/resources", &["axum", "tokio", "store", "kube"]),
    ("apiserver/wire", &["axum", "tokio", "store", "kube"]),
    ("apiserver", &["agent", "netd", "kube", "lab"]),
    ("agent", &["apiserver", "netd", "lab"]),
    ("netd/ingress", &["apiserver", "agent", "netd", "kube", "lab"]),
    ("netd/dns", &["apiserver", "agent", "netd", "kube", "k8s-openapi", "lab"]),
    ("netd/model", &["tokio", "kube", "rtnetlink", "netlink-sys", "nix", "libc"]),
    ("netd", &["apiserver", "agent", "lab"]),
    ("ctl/verbs", &["apiserver", "agent", "netd", "lab"]),
    ("ctl/lab", &["apiserver", "agent", "netd"]),
];

#[test]
fn crates_keep_to_their_layer() {
    let mut broken = Vec::new();
    for (folder, forbidden) in FORBIDDEN {
        let manifest = std::fs::read_to_string(root().join(folder).join("Cargo.toml"))
            .expect("each crate has a manifest");
        let dependencies = manifest
            .split("[dependencies]")
            .nth(1)
            .and_then(|rest| rest.split("\n[").next())
            .unwrap_or_default();
        for line in dependencies.lines() {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if forbidden.contains(&name) {
                broken.push(format!("{folder} depends on {name}"));
            }
        }
    }
    report("layering", &broken);
}

#[test]
fn markdown_names_only_files_that_exist() {
    let mut broken = Vec::new();
    for path in files().iter().filter(|path| path.extension().is_some_and(|e| e == "md")) {
        let text = std::fs::read_to_string(root().join(path)).expect("a readable file");
        for word in backticked(&text).filter(|word| looks_like_a_path(word)) {
            let beside = path.parent().unwrap_or(Path::new("")).join(word);
            if !root().join(word).exists() && !root().join(beside).exists() {
                broken.push(format!("{}: {word}", path.display()));
            }
        }
    }
    report("paths in Markdown that lead nowhere", &broken);
}

fn backticked(text: &str) -> impl Iterator<Item = &str> {
    text.split("```").step_by(2).flat_map(|prose| prose.split('`').skip(1).step_by(2))
}

/// Paths of the repository: with a folder of its top level and no placeholder in them.
fn looks_like_a_path(word: &str) -> bool {
    let top =
        ["apiserver/", "agent/", "netd/", "ctl/", "proto/", "tests/", "docs/", "examples/", ".ci/"];
    top.iter().any(|folder| word.starts_with(folder)) && !word.contains([' ', '*', '<', '{', '…'])
}
