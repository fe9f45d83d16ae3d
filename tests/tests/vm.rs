//! Services on Debian's own kernel, in a virtual machine: what a kernel without IPVS can't show.
//!
//! The checks themselves are shell in `tests/vm`, because they run where no test harness is; this
//! only starts them with the program under test, shows what they say, and fails when one of them
//! did. What is proved is listed in `docs/vm.md`.

use std::process::{Command, Stdio};

use e2e::{capable, minictl, run};

#[test]
fn services_work_on_debians_kernel_with_ipvs_and_with_nftables() {
    let there = |program: &str| run("which", &[program]).code == 0;
    if !capable("qemu-system-x86_64", there("qemu-system-x86_64")) {
        return;
    }
    // `cargo test` builds the examples, too.
    let test = std::env::current_exe().expect("the test's own path");
    let peer = test.ancestors().nth(2).expect("target/PROFILE").join("examples/peer");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/vm/run.sh");
    // Its words go straight to the terminal, line by line: a run takes minutes.
    let status = Command::new(script)
        .arg(minictl())
        .env("PEER_BIN", peer)
        .stdin(Stdio::null())
        .status()
        .expect("tests/vm/run.sh can be started");
    assert!(status.success(), "checks failed in the virtual machine: {status}");
}
