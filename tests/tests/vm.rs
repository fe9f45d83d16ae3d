//! Services on Debian's own kernel, in virtual machines: what a kernel without IPVS can't show.
//!
//! The checks themselves are elsewhere, in `tests/vm` as shell and in the tests of the rows: this
//! only starts them with the program under test, shows what they say, and fails when one of them
//! did. What is proved is listed in `docs/vm.md`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use e2e::{can_run_labs, capable, minictl, run};

/// One machine at a time: each has as many processors as the machine under it.
static ONE: Mutex<()> = Mutex::new(());

/// Tests of rows that together see what is special about pods on IPVS: each pod gets its share,
/// clients keep theirs, and the list of endpoints decides. All rows are `make vm-rows`.
const FILES: [&str; 2] = ["services_paths", "services_endpoints"];
const TESTS: &str = "calls_are_spread a_client_keeps the_list_decides";

#[test]
fn services_work_on_debians_kernel_with_ipvs_and_with_nftables() {
    if !has_qemu() {
        return;
    }
    // `cargo test` builds the examples, too, and netd's tests with real packets beside this one.
    let profile = profile();
    let newest = |test| newest_program(&profile.join("deps"), test);
    let mut command = script("run.sh");
    command.arg(minictl());
    command.env("PEER_BIN", profile.join("examples/peer"));
    command.env("PACKETS_BIN", newest("packets"));
    command.env("LOOP_BIN", newest("loop"));
    succeeds(command);
}

#[test]
fn pods_are_served_by_ipvs_in_a_lab_on_debians_kernel() {
    if !has_qemu() || !can_run_labs() {
        return;
    }
    let mut command = script("rows.sh");
    command.args(FILES).env("MINICTL_BIN", minictl()).env("VM_TESTS", TESTS);
    command.env("CARGO_TARGET_DIR", profile().parent().expect("target"));
    succeeds(command);
}

fn has_qemu() -> bool {
    capable("qemu-system-x86_64", run("which", &["qemu-system-x86_64"]).code == 0)
}

/// The folder of what cargo has built beside this test.
fn profile() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    test.ancestors().nth(2).expect("target/PROFILE").to_owned()
}

fn script(name: &str) -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("vm").join(name))
}

/// Runs a script that starts a virtual machine; its words go straight to the terminal, line by
/// line, because a run takes minutes.
fn succeeds(mut command: Command) {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let status = command.stdin(Stdio::null()).status().expect("the script can be started");
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
