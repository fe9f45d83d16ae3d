//! Measures DNS as a node serves it, side by side with other servers on the same node.
//!
//! A real `minictl netd` against a real `minictl server`; the other servers know the same names.
//! Whoever asks is a pod, on a processor of its own; a server has the other one. `names FILE` writes
//! the table there, too.

#![expect(clippy::print_stdout, reason = "the table is what it is run for")]

mod ask;
mod change;
mod servers;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use e2e::bed::{API, Bed, NODE_1, NODE_2, Process};
use e2e::figure::{Bound, Figure, median, quantile, spread, table};
use e2e::{minictl, run, wait_for};

/// Services of the cluster, and names outside it.
const SERVICES: u32 = 1000;
const OUTSIDE: u32 = 100;
/// The cluster's name server, as Pods know it.
const CLUSTER_DNS: &str = "10.96.0.10:53";
/// Each server is asked for so long, so often, in turns.
const SLOT: Duration = Duration::from_secs(1);
const ROUNDS: usize = 5;
/// Changes of an endpoint, among [`SERVICES`] and among so many.
const CHANGES: u32 = 250;
const MANY: u32 = 10_000;
const LIMIT: Duration = Duration::from_secs(30);
/// The processors of whoever asks and of the server.
const CLIENT: &str = "0";
const SERVER: &str = "1";

/// A server under test.
struct Subject {
    name: &'static str,
    at: SocketAddr,
    process: Process,
}

fn main() {
    let bed = Bed::new();
    let _server = bed.start_server();
    let admin = bed.kubeconfig("admin", "system:masters");
    let apply = |what: &str, text: &str| {
        let file = bed.folder.path().join(what);
        std::fs::write(&file, text).expect("a writable folder");
        let args = format!("--kubeconfig {} apply -f {}", admin.display(), file.display());
        bed.api.command(&minictl().display().to_string(), &args);
    };
    wait_for("the API server", LIMIT, || {
        let asked = ["--kubeconfig".as_ref(), admin.as_os_str(), "get".as_ref(), "ns".as_ref()];
        let asked: Vec<_> = asked.iter().map(|arg| (*arg).to_owned()).collect();
        let answer = bed.api.run(move || run(minictl(), &asked));
        if answer.code == 0 { Ok(()) } else { Err(answer.to_string()) }
    });
    apply("cluster.yaml", &cluster());
    let subjects = start(&bed);
    for subject in &subjects {
        for name in [inside(SERVICES - 1), outside(OUTSIDE - 1)] {
            knows(&bed, subject, &name);
        }
    }
    let at = subjects[0].at;
    let mut changes = change::visible(&bed, &admin, at, SERVICES);
    let mut figures = rates(&bed, &subjects);
    figures.extend(delays(&bed, &subjects));
    change::grow(&bed, &admin, SERVICES, MANY);
    knows(&bed, &subjects[0], &inside(MANY - 1));
    changes.extend(change::visible(&bed, &admin, at, MANY));
    figures.append(&mut changes);
    let text = table(&figures);
    println!("{text}");
    if let Some(file) = std::env::args().nth(1) {
        std::fs::write(&file, &text).expect("a writable file");
    }
}

fn knows(bed: &Bed, subject: &Subject, name: &str) {
    wait_for(&format!("{} to know {name}", subject.name), LIMIT, || {
        let (at, name) = (subject.at, name.to_owned());
        let answer = bed.pod_a.run(move || ask::Asker::new(at).ask(&name));
        answer.map(drop).map_err(|error| format!("{error}\n{}", bed.logs()))
    });
}

fn inside(n: u32) -> String {
    format!("service-{n}.default.svc.cluster.local")
}

fn outside(n: u32) -> String {
    format!("name-{n}.test.example")
}

fn address(n: u32) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::from_bits(0x0a61_0000 + n)
}

/// The nodes, the Services that are asked for, and the headless one that changes.
fn cluster() -> String {
    let mut text = String::new();
    let mut object = |kind: &str, name: &str, rest: String| {
        let head = format!("apiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}}}");
        writeln!(text, "{head}\n{rest}\n---").expect("text grows");
    };
    for (name, address) in [("node-1", NODE_1), ("node-2", NODE_2)] {
        let addresses = format!("[{{type: InternalIP, address: {address}}}]");
        object("Node", name, format!("status: {{addresses: {addresses}}}"));
    }
    for n in 0..SERVICES {
        let spec = format!("spec: {{clusterIP: {}, ports: [{{port: 80}}]}}", address(n));
        object("Service", &format!("service-{n}"), spec);
    }
    text + change::OBJECTS
}

fn start(bed: &Bed) -> Vec<Subject> {
    let node = bed.kubeconfig("system:node:node-1", "system:nodes");
    servers::start_upstream(bed);
    let netd = bed.start_netd_with(&node, &["--dns-upstream", API]);
    let mut subjects = vec![Subject {
        name: "minictl",
        at: CLUSTER_DNS.parse().expect("an address"),
        process: netd,
    }];
    subjects.extend(servers::start_others(bed));
    for subject in &subjects {
        subject.process.stay_on(SERVER);
    }
    subjects
}

/// Answers a second, by `dnsperf`: all that a client on one processor gets, and what that makes of
/// each second that the server's processor was busy with it.
fn rates(bed: &Bed, subjects: &[Subject]) -> Vec<Figure> {
    let sets = [
        ("from the zone", (0..SERVICES).map(inside).collect::<Vec<_>>()),
        ("from the cache", (0..OUTSIDE).map(outside).collect()),
        (
            "of a name that is not there",
            (0..SERVICES).map(|n| format!("no-{}", inside(n))).collect(),
        ),
    ];
    let mut figures = Vec::new();
    for (what, names) in sets {
        let mut seen = vec![(Vec::new(), Vec::new()); subjects.len()];
        for _ in 0..ROUNDS {
            for (subject, (rates, shares)) in subjects.iter().zip(&mut seen) {
                let before = subject.process.processor_seconds();
                let (count, rate) = ask::by_dnsperf(bed, subject.at, &names, SLOT, None);
                let busy = subject.process.processor_seconds() - before;
                rates.push(rate);
                shares.push(count / busy.max(0.01));
            }
        }
        for (subject, (rates, shares)) in subjects.iter().zip(&seen) {
            let ours = subject.name == "minictl";
            let bound = if ours { Bound::Least(60_000.0) } else { Bound::None };
            let note = format!("{}; {:.0} /s to one client", spread(shares), median(rates));
            let name = format!("answers {what}, per core and second, {}", subject.name);
            println!("{name}: {:.0} ({note})", median(shares));
            figures.push(Figure::bounded(&name, median(shares), "", bound, note));
        }
    }
    figures
}

/// How long an answer from the zone takes, alone and beside others who ask a lot.
fn delays(bed: &Bed, subjects: &[Subject]) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (what, others) in [("alone", None), ("beside 20000 /s of others", Some(20_000))] {
        let mut seen = vec![Vec::new(); subjects.len()];
        for _ in 0..ROUNDS {
            for (subject, times) in subjects.iter().zip(&mut seen) {
                times.extend(ask::delays(bed, subject.at, SLOT, others));
            }
        }
        for (subject, times) in subjects.iter().zip(&seen) {
            let bound = if subject.name == "minictl" { Bound::Most(200.0) } else { Bound::None };
            let note = format!("median {:.0} µs", median(times));
            let name = format!("99 of 100 answers from the zone within, {what}, {}", subject.name);
            println!("{name}: {:.0} µs ({note})", quantile(times, 99, 100));
            figures.push(Figure::bounded(&name, quantile(times, 99, 100), " µs", bound, note));
        }
    }
    figures
}
