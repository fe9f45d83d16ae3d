//! The log helper by itself, for the tests: `pod-log pod-log FILE`, as containerd's shim calls it.

fn main() -> std::io::Result<()> {
    agent::pod_log(std::env::args().skip(2))
}
