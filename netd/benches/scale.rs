//! How long the kernel takes to follow: many Services at once, one endpoint, nothing.
//!
//! Prints a table with the limit beside each figure. Needs root; works in a network namespace of
//! its own.
#![expect(clippy::unwrap_used, reason = "a benchmark stops at what must not happen")]
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use netd::{Changes, Executor};
use netmodel::address::{Family, Protocol};
use netmodel::nft::Engine;
use netmodel::snapshot::{
    Endpoint, EndpointPort, EndpointSlice, Node, Service, ServiceName, ServicePort, Settings,
    Snapshot,
};
use nix::sched::{CloneFlags, unshare};

const ENDPOINTS: u32 = 4;

fn main() {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: needs root");
        return;
    }
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    ip("link add mini0 type bridge");
    ip("link set mini0 up");
    ip("link set lo up");
    println!("{:>9}  {:<42} {:>10}  limit", "Services", "what", "ms");
    for services in [100, 1_000, 10_000] {
        measure(services);
        assert!(netd::clean_up("mini0", &(30000..=32767)).is_empty());
    }
}

fn measure(services: u32) {
    let mut snapshot = cluster();
    for n in 0..services {
        add(&mut snapshot, n);
    }
    let row = |what: &str, took: Duration, limit: &str| {
        let ms = took.as_secs_f64() * 1e3;
        println!("{services:>9}  {what:<42} {ms:>10.2}  {limit}");
    };
    let mut executor = Executor::open(Engine::Nftables).unwrap();
    let (took, writes) = timed(&mut executor, &snapshot, Changes::All);
    assert!(writes > 0);
    row("all, into an empty kernel", took, "1000 at 10,000");
    let (took, writes) = timed(&mut executor, &snapshot, Changes::All);
    assert_eq!(writes, 0);
    row("a look at all, nothing to do", took, "");

    let rounds = 50;
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        let n = round * 7 % services;
        set_endpoints(&mut snapshot, n, 10_000 + round);
        let names = BTreeSet::from([name(n)]);
        let (took, writes) = timed(&mut executor, &snapshot, Changes::Services(&names));
        assert!(writes > 0);
        slowest = slowest.max(took);
    }
    row("one Service's endpoints, slowest of 50", slowest, "5");
    let mut again = Executor::open(Engine::Nftables).unwrap();
    let (took, writes) = timed(&mut again, &snapshot, Changes::All);
    assert_eq!(writes, 0);
    row("a restart, nothing to do", took, "");
    drop(again);
    let limit = if services <= 100 { "15 MB" } else { "80 MB at 10,000" };
    let held = format!("{:.1}", memory("VmRSS") / 1e3);
    println!(
        "{services:>9}  {:<42} {held:>7} MB  {limit}",
        "memory of the process, with its snapshot"
    );
    let peak = format!("{:.1}", memory("VmHWM") / 1e3);
    println!("{services:>9}  {:<42} {peak:>7} MB", "the same at its largest");
}

fn timed(executor: &mut Executor, snapshot: &Snapshot, changes: Changes<'_>) -> (Duration, usize) {
    let start = Instant::now();
    let report = executor.sync(snapshot, changes);
    let took = start.elapsed();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    (took, report.writes)
}

fn cluster() -> Snapshot {
    let mut snapshot = Snapshot::new(Settings {
        node_name: "node-1".into(),
        cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
        service_cidrs: vec!["10.96.0.0/12".parse().unwrap()],
        bridge: "mini0".into(),
        node_ports: 30000..=32767,
        default_scheduler: "rr".into(),
    });
    let node =
        Node { addresses: vec![], pod_cidrs: vec!["10.244.1.0/24".parse().unwrap()], zone: None };
    snapshot.nodes.insert("node-1".into(), Arc::new(node));
    snapshot
}

fn name(n: u32) -> ServiceName {
    ServiceName::new("bench", &format!("service-{n}"))
}

fn add(snapshot: &mut Snapshot, n: u32) {
    let port =
        ServicePort { name: "http".into(), protocol: Protocol::Tcp, port: 80, node_port: None };
    let service = Service {
        ports: vec![port],
        cluster_ips: vec![IpAddr::V4(Ipv4Addr::from_bits(0x0a60_0100 + n))],
        ..Service::default()
    };
    snapshot.services.insert(name(n), Arc::new(service));
    set_endpoints(snapshot, n, n);
}

fn set_endpoints(snapshot: &mut Snapshot, n: u32, seed: u32) {
    let endpoint = |i: u32| Endpoint {
        addresses: vec![IpAddr::V4(Ipv4Addr::from_bits(0x0af4_0000 + seed * ENDPOINTS + i))],
        node: Some("node-2".into()),
        ready: true,
        serving: true,
        ..Endpoint::default()
    };
    let slice = EndpointSlice {
        family: Family::V4,
        ports: vec![EndpointPort { name: "http".into(), protocol: Protocol::Tcp, port: 8080 }],
        endpoints: (0..ENDPOINTS).map(endpoint).collect(),
    };
    snapshot.slices.insert(name(n), [("slice".into(), Arc::new(slice))].into());
}

fn ip(args: &str) {
    let status = std::process::Command::new("ip").args(args.split(' ')).status().unwrap();
    assert!(status.success(), "ip {args}");
}

/// A line of the process's own status, in kB.
fn memory(name: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with(name)).unwrap_or_default();
    line.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap()
}
