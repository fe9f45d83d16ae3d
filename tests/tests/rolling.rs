//! A rolling update under load: nobody notices, though pods have no `preStop` hook.
//!
//! Requests come from a pod, a node and a host outside, by ClusterIP and node port, over a new
//! connection each and over connections that are kept, while the Deployment is restarted twice.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use e2e::{Lab, can_run_labs, patient, timeout, wait_for};
use nix::sched::{CloneFlags, setns};

const LIMIT: Duration = Duration::from_secs(60);
/// How long a single request may take: far longer than any that is not lost.
const PATIENCE: Duration = Duration::from_secs(5);
/// For how long a pod of a Service serves on, as nodes have it where nobody says otherwise.
const DRAIN: Duration = Duration::from_millis(500);
/// Pods are compared as often: a busy machine may be slow once.
const ROUNDS: usize = 3;
/// Pause between two requests of one client.
const PAUSE: Duration = Duration::from_millis(5);

const MANIFEST: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: nginx
        image: nginx
        ports: [{containerPort: 80}]
        readinessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, nodePort: 30080}]
";

/// What a client has seen.
#[derive(Default)]
struct Seen {
    requests: usize,
    failures: Vec<String>,
}

/// A client that asks again and again until it is told to stop.
struct Load {
    what: String,
    seen: JoinHandle<Seen>,
}

/// Starts a client in a network namespace.
fn load(from: &str, namespace: &Path, to: &str, kept: bool, stop: &Arc<AtomicBool>) -> Load {
    let manner = if kept { "kept connections" } else { "a connection each" };
    let target: SocketAddr = to.parse().expect("an address");
    let (namespace, stop) = (File::open(namespace).expect("the namespace"), Arc::clone(stop));
    let seen = std::thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).expect("enter the namespace");
        let started = Instant::now();
        let mut seen = Seen::default();
        let mut connection = None;
        while !stop.load(Ordering::Relaxed) {
            seen.requests += 1;
            if let Err(error) = ask(target, &mut connection) {
                seen.failures.push(format!("after {:?}: {error}", started.elapsed()));
                connection = None;
            }
            if !kept {
                connection = None;
            }
            std::thread::sleep(patient(PAUSE));
        }
        seen
    });
    Load { what: format!("from {from} to {to}, {manner}"), seen }
}

/// Asks for the page, over the known connection if it still stands. A server may close a connection
/// between two requests; whoever finds that out by an end before the first byte of the answer asks
/// again over a new one, as every client does (RFC 9112, 9.3.1).
fn ask(target: SocketAddr, connection: &mut Option<TcpStream>) -> io::Result<()> {
    if let Some(mut known) = connection.take() {
        match exchange(&mut known)? {
            Answer::Whole => {
                *connection = Some(known);
                return Ok(());
            }
            Answer::Closed => {}
        }
    }
    let mut fresh = TcpStream::connect_timeout(&target, patient(PATIENCE))?;
    fresh.set_read_timeout(Some(patient(PATIENCE)))?;
    match exchange(&mut fresh)? {
        Answer::Whole => {
            *connection = Some(fresh);
            Ok(())
        }
        Answer::Closed => Err(io::Error::other("a new connection was closed without an answer")),
    }
}

enum Answer {
    Whole,
    /// The connection ended before the answer began.
    Closed,
}

fn exchange(stream: &mut TcpStream) -> io::Result<Answer> {
    use io::ErrorKind::{BrokenPipe, ConnectionReset};
    let ended = |error: &io::Error| matches!(error.kind(), BrokenPipe | ConnectionReset);
    match stream.write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n") {
        Err(error) if ended(&error) => return Ok(Answer::Closed),
        other => other?,
    }
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = match stream.read(&mut buffer) {
            Ok(0) if text.is_empty() => return Ok(Answer::Closed),
            Err(error) if ended(&error) && text.is_empty() => return Ok(Answer::Closed),
            Ok(0) => return Err(io::Error::other("the answer ended in its middle")),
            other => other?,
        };
        text.extend_from_slice(&buffer[..count]);
        if is_whole(&text)? {
            return Ok(Answer::Whole);
        }
    }
}

/// Whether head and body are there; an answer that is no page is an error.
fn is_whole(answer: &[u8]) -> io::Result<bool> {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return Ok(false) };
    if !head.starts_with("HTTP/1.1 200") {
        return Err(io::Error::other(head.to_owned()));
    }
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let length: usize = length.and_then(|length| length.parse().ok()).expect("nginx tells");
    Ok(body.len() >= length)
}

/// Where the network namespace of a pod is pinned.
fn pod_namespace(lab: &Lab, pod: &str) -> PathBuf {
    let pod = lab.minictl(&["get", "pod", pod, "-o", "json"]).json();
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let (node, uid) = (text(&pod["spec"]["nodeName"]), text(&pod["metadata"]["uid"]));
    let nodes = lab.state().join("labs").join(&lab.name).join("nodes");
    nodes.join(node).join("pods").join(uid).join("net")
}

#[test]
fn a_rolling_update_under_load_fails_no_request() {
    if !can_run_labs() {
        return;
    }
    let lab = Lab::start("rolling", "192.168.82.0/24", 2);
    let file = lab.state().join("web.yaml");
    std::fs::write(&file, MANIFEST).expect("a manifest");
    let _ = lab.minictl(&["apply", "-f", &file.display().to_string()]).ok();
    let _ = lab.minictl(&["run", "load", "--image=busybox", "--command", "--", "sleep", "1d"]).ok();
    let limit = timeout(LIMIT);
    let _ = lab.minictl(&["wait", "pod/load", "--for=condition=Ready", &limit]).ok();
    let rolled = ["rollout", "status", "deployment/web", &limit];
    let _ = lab.minictl(&rolled).ok();
    let service = lab.minictl(&["get", "service", "web", "-o", "json"]).json();
    let cluster = format!("{}:80", service["spec"]["clusterIP"].as_str().expect("a ClusterIP"));
    wait_for("the Service to answer", LIMIT, || {
        let answer = lab.on("node-1", &["curl", "-s", "-m", "1", &format!("http://{cluster}")]);
        if answer.code == 0 { Ok(()) } else { Err(answer.to_string()) }
    });

    let host = |name: &str| PathBuf::from(format!("/run/netns/rolling-{name}"));
    let pod = pod_namespace(&lab, "load");
    let stop = Arc::new(AtomicBool::new(false));
    let mut loads = Vec::new();
    for kept in [false, true] {
        for (from, namespace, to) in [
            ("a pod", &pod, cluster.as_str()),
            ("a pod", &pod, "192.168.82.70:30080"),
            ("node-1", &host("node-1"), cluster.as_str()),
            ("node-2", &host("node-2"), "192.168.82.71:30080"),
            ("outside", &host("client"), "192.168.82.70:30080"),
            ("outside", &host("client"), "192.168.82.71:30080"),
        ] {
            loads.push(load(from, namespace, to, kept, &stop));
        }
    }
    for _ in 0..2 {
        let _ = lab.minictl(&["rollout", "restart", "deployment/web"]).ok();
        let _ = lab.minictl(&rolled).ok();
    }
    stop.store(true, Ordering::Relaxed);
    for Load { what, seen } in loads {
        let Seen { requests, failures } = seen.join().expect("the client ran to its end");
        assert!(requests > 100, "{what}: only {requests} requests");
        assert!(failures.is_empty(), "{what}: of {requests} requests failed: {failures:#?}");
    }
}

/// Deletes two pods at the same time; how long after it each of them was gone.
fn gone_after(lab: &Lab, pods: [&str; 2]) -> [Duration; 2] {
    let _ = lab.minictl(&["delete", "pod", pods[0], pods[1], "--wait=false"]).ok();
    let started = Instant::now();
    let mut gone = [None; 2];
    wait_for(&format!("{pods:?} to be gone"), LIMIT, || {
        let there = lab.minictl(&["get", "pods", "-o", "name"]).ok();
        for (pod, gone) in pods.iter().zip(&mut gone) {
            if !there.lines().any(|line| line == format!("pod/{pod}")) {
                gone.get_or_insert_with(|| started.elapsed());
            }
        }
        match gone {
            [Some(first), Some(second)] => Ok([first, second]),
            _ => Err(there),
        }
    })
}

#[test]
fn a_pod_of_no_service_goes_at_once() {
    if !can_run_labs() {
        return;
    }
    let lab = Lab::start("leaving", "192.168.84.0/24", 1);
    // A pod of a Service serves on for half a second; the other one is the same but for that.
    let service = ["create", "service", "clusterip", "served", "--tcp=80"];
    let _ = lab.minictl(&service).ok();
    let mut rounds: Vec<[Duration; 2]> = (0..ROUNDS)
        .map(|_| {
            for name in ["served", "alone"] {
                let label = format!("--labels=app={name}");
                let _ = lab.minictl(&["run", name, "--image=nginx", &label]).ok();
                let ready = format!("pod/{name}");
                let limit = timeout(LIMIT);
                let _ = lab.minictl(&["wait", &ready, "--for=condition=Ready", &limit]).ok();
            }
            gone_after(&lab, ["served", "alone"])
        })
        .collect();
    rounds.sort_by_key(|[served, alone]| served.saturating_sub(*alone));
    let [served, alone] = rounds[ROUNDS / 2];
    assert!(served >= DRAIN, "a pod of a Service serves on: {rounds:?}");
    assert!(served.saturating_sub(alone) >= DRAIN / 2, "the other one goes before it: {rounds:?}");
}
