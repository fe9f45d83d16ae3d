//! Measures the cluster's figures of `docs/benchmarks.md`: start, pods, memory, size, each beside
//! its limit.
//!
//! `make bench` runs it on the release binary. Each time is the median of several runs on a lab of
//! its own; `ctr run` on the same containerd in the same run is the yardstick for pods.
//! `figures FILE` writes the table there, too.

#![expect(clippy::print_stdout, reason = "the table is what it is run for")]

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use e2e::figure::{Bound, Figure, median, spread, table};
use e2e::{Lab, finish, minictl, run, wait_for};

const RUNS: usize = 5;
const LIMIT: Duration = Duration::from_secs(60);
const NETWORK: &str = "192.168.66.0/24";

fn main() {
    let mut figures = vec![binary_size(), api_start(), lab_start()];
    let lab = Lab::start("bench", NETWORK, 2);
    figures.extend(memory(&lab, "idle"));
    figures.push(pods(&lab, 1, "one pod, apply to Ready", 250.0));
    figures.push(pods(&lab, 10, "ten pods, apply to Ready", 1500.0));
    figures.push(ctr(&lab));
    figures.extend(memory(&lab, "after the pods"));
    let text = table(&figures);
    println!("{text}");
    if let Some(file) = std::env::args().nth(1) {
        std::fs::write(&file, &text).expect("a writable file");
    }
}

/// The median of several runs, beside its limit.
fn times(name: &str, times: &[Duration], bound: Bound) -> Figure {
    let millis: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
    Figure::bounded(name, median(&millis), " ms", bound, spread(&millis))
}

fn binary_size() -> Figure {
    let size = minictl().metadata().expect("the binary").len();
    let megabytes = f64::from(u32::try_from(size).expect("less than 4 GB")) / 1e6;
    Figure::bounded("size of the binary", megabytes, " MB", Bound::Most(30.0), String::new())
}

/// From the start of the process to the first answer of `/readyz`, on an empty store.
fn api_start() -> Figure {
    let runs: Vec<_> = (0..RUNS).map(|_| one_api_start()).collect();
    times("API answers after start", &runs, Bound::Most(300.0))
}

fn one_api_start() -> Duration {
    let folder = tempfile::tempdir().expect("a folder");
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("its address").to_string();
    drop(free);
    let started = Instant::now();
    let mut server = Command::new(minictl())
        .args(["server", "--bind", &address, "--advertise", &address])
        .arg("--data-dir")
        .arg(folder.path().join("data"))
        .arg("--pki-dir")
        .arg(folder.path().join("pki"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the server starts");
    let url = format!("https://{address}/readyz");
    wait_for("an answer", LIMIT, || {
        let answer = run("curl", &["-sk", "-m", "1", &url]);
        // Any answer will do: without a certificate it is a refusal, by the API.
        if answer.out.is_empty() { Err(answer.to_string()) } else { Ok(()) }
    });
    let time = started.elapsed();
    stop(&mut server);
    time
}

fn stop(child: &mut Child) {
    child.kill().expect("the server is ours");
    child.wait().expect("the server ends");
}

/// `minictl lab up` without images, two nodes, until both are Ready.
fn lab_start() -> Figure {
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        let state = tempfile::tempdir().expect("a folder");
        let lab = |args: &[&str]| {
            let mut command = Command::new(minictl());
            command.env("MINICTL_STATE_DIR", state.path());
            finish(command, args, None).ok()
        };
        let started = Instant::now();
        let _ = lab(&["lab", "up", "bench", "--no-images", "--network", NETWORK]);
        runs.push(started.elapsed());
        let _ = lab(&["lab", "down", "bench"]);
    }
    times("lab of two nodes Ready", &runs, Bound::Most(2000.0))
}

fn memory(lab: &Lab, when: &str) -> Vec<Figure> {
    let status = lab.minictl(&["lab", "status", &lab.name]).ok();
    let of = |what: &str, process: &str, limit| {
        let line = status.lines().find(|line| line.starts_with(process) && line.ends_with("MB"));
        let megabytes = line.and_then(|line| line.split_whitespace().nth(2)?.parse().ok());
        let megabytes = megabytes.unwrap_or_else(|| panic!("no {process} in {status}"));
        Figure::bounded(what, megabytes, " MB", Bound::Most(limit), when.to_owned())
    };
    vec![of("memory of the control plane", "server", 60.0), of("memory of a node", "node-1 ", 40.0)]
}

fn manifest(count: usize, round: usize) -> String {
    (0..count).fold(String::new(), |mut text, i| {
        write!(
            text,
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{round}-{i}, labels: {{round: r{round}}}}}\n\
             spec:\n  terminationGracePeriodSeconds: 0\n  containers:\n  - name: c\n    \
             image: busybox\n    command: [sleep, '1000']\n"
        )
        .expect("text grows");
        text
    })
}

/// From the start of `apply` until every pod is Ready, as a client sees it.
fn pods(lab: &Lab, count: usize, name: &str, limit: f64) -> Figure {
    let mut runs = Vec::new();
    for round in 0..RUNS {
        let text = manifest(count, round);
        let started = Instant::now();
        let _ = finish(lab.command("minictl", None), &["apply", "-f", "-"], Some(&text)).ok();
        let label = format!("round=r{round}");
        let ready = ["wait", "pod", "-l", &label, "--for=condition=Ready", "--timeout=60s"];
        let _ = lab.minictl(&ready).ok();
        runs.push(started.elapsed());
        let _ = lab.minictl(&["delete", "pod", "-l", &label, "--force", "--grace-period=0"]).ok();
    }
    times(name, &runs, Bound::Most(limit))
}

/// The yardstick: containerd's own client starts a container without any network.
fn ctr(lab: &Lab) -> Figure {
    let socket = lab.state().join("labs").join(&lab.name).join("containerd/containerd.sock");
    let image = "docker.io/library/busybox:latest";
    let one = |round| one_ctr(&socket, image, &format!("yard-{round}"));
    times("for comparison: ctr run", &(0..RUNS).map(one).collect::<Vec<_>>(), Bound::None)
}

fn one_ctr(socket: &Path, image: &str, id: &str) -> Duration {
    let socket = socket.display().to_string();
    let base = ["-a", &socket, "-n", "node-1"];
    let started = Instant::now();
    let _ = run("ctr", &[&base[..], &["run", "-d", image, id, "sleep", "1000"]].concat()).ok();
    let time = started.elapsed();
    let _ = run("ctr", &[&base[..], &["task", "rm", "-f", id]].concat()).ok();
    let _ = run("ctr", &[&base[..], &["container", "rm", id]].concat()).ok();
    time
}
