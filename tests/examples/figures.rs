//! Measures the figures of `docs/benchmarks.md`: start, pods, memory, size, each beside its limit.
//!
//! `make bench` runs it on the release binary. Each time is the median of several runs on a lab of
//! its own; `ctr run` on the same containerd in the same run is the yardstick for pods.

#![expect(clippy::print_stdout, reason = "the table is what it is run for")]

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use e2e::{Lab, finish, minictl, run, wait_for};

const RUNS: usize = 5;
const LIMIT: Duration = Duration::from_secs(60);
const NETWORK: &str = "192.168.66.0/24";

/// One line of the table.
struct Figure {
    name: &'static str,
    measured: String,
    limit: &'static str,
    note: String,
}

fn main() {
    let mut figures = vec![binary_size(), api_start(), lab_start()];
    let lab = Lab::start("bench", NETWORK, 2);
    figures.extend(memory(&lab, "idle"));
    figures.push(pods(&lab, 1, "one pod, apply to Ready", "250 ms"));
    figures.push(pods(&lab, 10, "ten pods, apply to Ready", "1500 ms"));
    figures.push(ctr(&lab));
    figures.extend(memory(&lab, "after the pods"));
    let text = table(&figures);
    println!("{text}");
    if let Some(file) = std::env::args().nth(1) {
        std::fs::write(&file, document(&text)).expect("a writable document");
        println!("written to {file}");
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn millis(times: Vec<Duration>) -> (String, String) {
    let least = times.iter().min().expect("at least one run").as_millis();
    let most = times.iter().max().expect("at least one run").as_millis();
    (format!("{} ms", median(times).as_millis()), format!("{least} to {most} ms"))
}

fn binary_size() -> Figure {
    let size = minictl().metadata().expect("the binary").len();
    Figure {
        name: "size of the binary",
        measured: format!("{:.1} MB", f64::from(u32::try_from(size).unwrap_or(u32::MAX)) / 1e6),
        limit: "30 MB",
        note: String::new(),
    }
}

/// From the start of the process to the first answer of `/readyz`, on an empty store.
fn api_start() -> Figure {
    let times = (0..RUNS).map(|_| one_api_start()).collect();
    let (measured, note) = millis(times);
    Figure { name: "API answers after start", measured, limit: "300 ms", note }
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
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let state = tempfile::tempdir().expect("a folder");
        let lab = |args: &[&str]| {
            let mut command = Command::new(minictl());
            command.env("MINICTL_STATE_DIR", state.path());
            finish(command, args, None).ok()
        };
        let started = Instant::now();
        let _ = lab(&["lab", "up", "bench", "--no-images", "--network", NETWORK]);
        times.push(started.elapsed());
        let _ = lab(&["lab", "down", "bench"]);
    }
    let (measured, note) = millis(times);
    Figure { name: "lab of two nodes Ready", measured, limit: "2000 ms", note }
}

fn memory(lab: &Lab, when: &str) -> Vec<Figure> {
    let status = lab.minictl(&["lab", "status", &lab.name]).ok();
    let of = |process: &str| {
        let line = status.lines().find(|line| line.starts_with(process) && line.ends_with("MB"));
        line.and_then(|line| line.split_whitespace().nth(2)).unwrap_or("?").to_owned()
    };
    vec![
        Figure {
            name: "memory of the control plane",
            measured: format!("{} MB", of("server")),
            limit: "60 MB",
            note: when.to_owned(),
        },
        Figure {
            name: "memory of a node",
            measured: format!("{} MB", of("node-1 ")),
            limit: "40 MB",
            note: when.to_owned(),
        },
    ]
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
fn pods(lab: &Lab, count: usize, name: &'static str, limit: &'static str) -> Figure {
    let mut times = Vec::new();
    for round in 0..RUNS {
        let text = manifest(count, round);
        let started = Instant::now();
        let _ = finish(lab.command("minictl", None), &["apply", "-f", "-"], Some(&text)).ok();
        let label = format!("round=r{round}");
        let ready = ["wait", "pod", "-l", &label, "--for=condition=Ready", "--timeout=60s"];
        let _ = lab.minictl(&ready).ok();
        times.push(started.elapsed());
        let _ = lab.minictl(&["delete", "pod", "-l", &label, "--force", "--grace-period=0"]).ok();
    }
    let (measured, note) = millis(times);
    Figure { name, measured, limit, note }
}

/// The yardstick: containerd's own client starts a container without any network.
fn ctr(lab: &Lab) -> Figure {
    let socket = lab.state().join("labs").join(&lab.name).join("containerd/containerd.sock");
    let image = "docker.io/library/busybox:latest";
    let times = (0..RUNS).map(|round| one_ctr(&socket, image, &format!("yard-{round}"))).collect();
    let (measured, note) = millis(times);
    Figure { name: "for comparison: ctr run", measured, limit: "", note }
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

fn table(figures: &[Figure]) -> String {
    let mut text = String::from("| figure | median | limit | |\n|---|---|---|---|\n");
    for figure in figures {
        let line = [figure.name, &figure.measured, figure.limit, &figure.note].join(" | ");
        writeln!(text, "| {line} |").expect("text grows");
    }
    text
}

fn document(table: &str) -> String {
    let machine = run("sh", &["-c", "nproc; uname -r"]).out.replace('\n', " cores, Linux ");
    let machine = machine.trim_end_matches(" cores, Linux ");
    format!(
        "# Measured figures\n\nMade by `make bench` on a machine with {machine}; medians of {RUNS} runs. \
         The limits are those the project sets itself; a figure over its limit is a regression.\n\n{table}"
    )
}
