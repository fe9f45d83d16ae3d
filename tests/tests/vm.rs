//! Services on Debian's own kernel, in a virtual machine: what a kernel without IPVS can't show.
//!
//! The checks themselves are shell in `tests/vm`, because they run where no test harness is; this
//! only starts them with the program under test, shows what they say, and fails when one of them
//! did. What is proved is listed in `docs/vm.md`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use e2e::{capable, minictl, run};

#[test]
fn services_work_on_debians_kernel_with_ipvs_and_with_nftables() {
    let there = |program: &str| run("which", &[program]).code == 0;
    if !capable("qemu-system-x86_64", there("qemu-system-x86_64")) {
        return;
    }
    // `cargo test` builds the examples, too, and netd's tests with real packets beside this one.
    let test = std::env::current_exe().expect("the test's own path");
    let profile = test.ancestors().nth(2).expect("target/PROFILE");
    let newest = |test| newest_program(&profile.join("deps"), test);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/vm/run.sh");
    // Its words go straight to the terminal, line by line: a run takes minutes.
    let status = Command::new(script)
        .arg(minictl())
        .env("PEER_BIN", profile.join("examples/peer"))
        .env("PACKETS_BIN", newest("packets"))
        .env("LOOP_BIN", newest("loop"))
        .stdin(Stdio::null())
        .status()
        .expect("tests/vm/run.sh can be started");
    assert!(status.success(), "checks failed in the virtual machine: {status}");
}

/// The newest of the programs that cargo made of a test of netd's: it names them by hashes, and
/// keeps old ones.
fn newest_program(folder: &Path, test: &str) -> PathBuf {
    let entries = std::fs::read_dir(folder).expect("the folder of this test");
    let is_program = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&format!("{test}-")) && path.extension().is_none()
    };
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| is_program(path))
        .max_by_key(|path| path.metadata().and_then(|m| m.modified()).ok())
        .unwrap_or_else(|| panic!("cargo test --no-run -p netd --test {test}"))
}
