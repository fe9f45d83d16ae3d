//! The other servers: what they know, and how they are told.

use std::fmt::Write as _;
use std::path::PathBuf;

use e2e::bed::{API, Bed, NODE_1};
use e2e::run;

use crate::{OUTSIDE, SERVICES, Subject, address, inside, outside};

const DNSMASQ_PORT: u16 = 5301;
const UNBOUND_PORT: u16 = 5302;

/// Starts the server of the names outside, on the API server's host, for as long as the bed lives.
pub(crate) fn start_upstream(bed: &Bed) {
    let hosts = (0..OUTSIDE).map(|n| (format!("203.0.113.{n}"), outside(n)));
    let file = hosts_file(bed, "outside", hosts);
    let args = dnsmasq(API, 53, &format!("--addn-hosts={}", file.display()), "--no-resolv");
    // Until this program ends.
    std::mem::forget(bed.api.start("dnsmasq".as_ref(), &args, &bed.folder.path().join("up.log")));
}

/// Starts those that are installed.
pub(crate) fn start_others(bed: &Bed) -> Vec<Subject> {
    let there = |program: &str| run("which", &[program]).code == 0;
    let mut subjects = Vec::new();
    if there("dnsmasq") {
        let hosts = (0..SERVICES).map(|n| (address(n).to_string(), inside(n)));
        let file = hosts_file(bed, "inside", hosts);
        let hosts = format!("--addn-hosts={}", file.display());
        let args = dnsmasq(NODE_1, DNSMASQ_PORT, &hosts, &format!("--server={API}"));
        let log = bed.folder.path().join("dnsmasq.log");
        let process = bed.node_1.start("dnsmasq".as_ref(), &args, &log);
        subjects.push(subject("dnsmasq", DNSMASQ_PORT, process));
    }
    if there("unbound") {
        let file = unbound(bed);
        let log = bed.folder.path().join("unbound.log");
        let args = ["-d", "-c", &file.display().to_string()];
        let process = bed.node_1.start("unbound".as_ref(), &args, &log);
        subjects.push(subject("unbound", UNBOUND_PORT, process));
    }
    subjects
}

fn subject(name: &'static str, port: u16, process: e2e::bed::Process) -> Subject {
    let at = format!("{NODE_1}:{port}").parse().expect("an address");
    Subject { name, at, process }
}

fn hosts_file(bed: &Bed, name: &str, hosts: impl Iterator<Item = (String, String)>) -> PathBuf {
    let file = bed.folder.path().join(format!("{name}.hosts"));
    let lines: String = hosts.map(|(address, name)| format!("{address} {name}\n")).collect();
    std::fs::write(&file, lines).expect("a writable folder");
    file
}

fn dnsmasq(address: &str, port: u16, hosts: &str, others: &str) -> Vec<String> {
    [
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--user=root",
        "--pid-file=",
        "--no-hosts",
        "--no-resolv",
        "--bind-interfaces",
        "--cache-size=10000",
        "--local-ttl=3600",
        "--dns-forward-max=1000",
        "--local=/cluster.local/",
        &format!("--listen-address={address}"),
        &format!("--port={port}"),
        hosts,
        others,
    ]
    .map(str::to_owned)
    .into()
}

/// Its configuration: one thread, nothing signed, the cluster's names as data of its own.
fn unbound(bed: &Bed) -> PathBuf {
    let mut text = format!(
        "server:\n  interface: {NODE_1}@{UNBOUND_PORT}\n  num-threads: 1\n  chroot: \"\"\n  \
         username: \"\"\n  pidfile: \"\"\n  use-syslog: no\n  do-daemonize: no\n  \
         module-config: \"iterator\"\n  access-control: 0.0.0.0/0 allow\n  \
         do-not-query-localhost: no\n  local-zone: \"cluster.local.\" static\n"
    );
    for n in 0..SERVICES {
        let data = format!("{}. 5 IN A {}", inside(n), address(n));
        writeln!(text, "  local-data: \"{data}\"").expect("text grows");
    }
    write!(text, "forward-zone:\n  name: \".\"\n  forward-addr: {API}\n").expect("text grows");
    text += "remote-control:\n  control-enable: no\n";
    let file = bed.folder.path().join("unbound.conf");
    std::fs::write(&file, text).expect("a writable folder");
    file
}
