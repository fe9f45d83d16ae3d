//! A small cluster network without containers: two nodes with pods on a bridge, a host outside,
//! and the API server's host, each a network namespace of its own on one switch.
//!
//! For tests and measurements in which each part (API server, proxy, netd) is a process by itself.
//! A namespace is a thread that left all others; it goes when its thread, its processes and the
//! sockets opened in it are gone. Nothing of the machine's own network is touched.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use nix::sched::{CloneFlags, unshare};

use crate::minictl;

/// Where the API server of a bed listens.
pub const API: &str = "192.168.56.1";
/// The URL of the API server of a bed.
pub const API_URL: &str = "https://192.168.56.1:6443";
/// Ranges of a bed: all pods, and all cluster addresses.
pub const CLUSTER_CIDR: &str = "10.244.0.0/15";
/// See [`CLUSTER_CIDR`].
pub const SERVICE_CIDR: &str = "10.96.0.0/12";
/// The range of the pods of node-1.
pub const NODE_1_PODS: &str = "10.244.0.0/16";
/// The range of the pods of node-2; pod c answers at every address of it.
pub const NODE_2_PODS: &str = "10.245.0.0/16";
/// The addresses of the pods, and of the nodes.
pub const POD_A: &str = "10.244.0.5";
/// See [`POD_A`].
pub const POD_B: &str = "10.244.0.6";
/// See [`POD_A`].
pub const POD_C: &str = "10.245.0.5";
/// See [`POD_A`].
pub const NODE_1: &str = "192.168.56.70";
/// See [`POD_A`].
pub const NODE_2: &str = "192.168.56.71";

const KUBE_PROXY_CONFIG: &str = include_str!("../exchange/kube-proxy.yaml");

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace with a thread in it.
pub struct Host {
    jobs: Sender<Job>,
    task: i32,
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Host {
    /// A namespace with nothing but its loopback link.
    ///
    /// # Panics
    /// Without root.
    #[must_use]
    pub fn new() -> Self {
        let (jobs, inbox) = channel::<Job>();
        let (tell, told) = channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
            tell.send(nix::unistd::gettid().as_raw()).expect("somebody waits");
            inbox.into_iter().for_each(|job| job());
        });
        let host = Self { jobs, task: told.recv().expect("the thread entered its namespace") };
        host.ip("link set lo up");
        host.write("/proc/sys/net/ipv4/ip_forward", "1");
        // Connections that were reset shall not fill the table in a measurement.
        let closed = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close";
        if Path::new(closed).exists() {
            host.write(closed, "1");
        }
        host
    }

    /// Runs something in the namespace; threads and processes that it starts are in it, too.
    ///
    /// # Panics
    /// When the job does.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = channel();
        self.jobs.send(Box::new(move || drop(tell.send(job())))).expect("the thread lives");
        told.recv().expect("the job in the namespace did not panic")
    }

    /// Runs a command in the namespace and returns what it prints.
    ///
    /// # Panics
    /// When it fails.
    pub fn command(&self, program: &str, args: &str) -> String {
        let (program, args) = (program.to_owned(), args.to_owned());
        self.run(move || crate::run(program, &args.split_whitespace().collect::<Vec<_>>()).ok())
    }

    /// Runs `ip` in the namespace.
    ///
    /// # Panics
    /// When it fails.
    pub fn ip(&self, args: &str) -> String {
        self.command("ip", args)
    }

    /// Writes a setting of the namespace.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn write(&self, path: &str, text: &str) {
        let (path, text) = (path.to_owned(), text.to_owned());
        self.run(move || std::fs::write(&path, text).unwrap_or_else(|e| panic!("{path}: {e}")));
    }

    /// A virtual cable: `name` here, `other_name` in the other namespace.
    pub fn cable(&self, name: &str, other: &Self, other_name: &str) {
        let task = other.task;
        self.ip(&format!("link add {name} type veth peer name {other_name} netns {task}"));
        self.ip(&format!("link set {name} up"));
        other.ip(&format!("link set {other_name} up"));
    }

    /// Starts a program that lives no longer than this host, with its output in a file.
    ///
    /// # Panics
    /// When it can't be started.
    #[must_use]
    pub fn start<S: AsRef<std::ffi::OsStr>>(
        &self,
        program: &Path,
        args: &[S],
        log: &Path,
    ) -> Process {
        let file = std::fs::File::create(log).expect("a writable log");
        let copy = file.try_clone().expect("a second handle");
        // The kernel ends it with the host's thread, should this process be killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(args);
        command.stdin(Stdio::null()).stdout(file).stderr(copy);
        Process(self.run(move || command.spawn().expect("util-linux is installed")))
    }
}

/// A program that ends when this is dropped.
pub struct Process(Child);

impl Process {
    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// A line of `/proc/PID/status` in kilobytes, such as `VmRSS`.
    ///
    /// # Panics
    /// When the program has ended.
    #[must_use]
    pub fn kilobytes(&self, what: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))
            .expect("the program runs");
        let line = status.lines().find(|line| line.starts_with(what)).expect("a known line");
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
    }

    /// Seconds of a processor that it and its children took since their start, all their threads
    /// together.
    ///
    /// # Panics
    /// When the program has ended.
    #[must_use]
    pub fn processor_seconds(&self) -> f64 {
        let id = self.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        let children = children.unwrap_or_default();
        let all = children.split_whitespace().map(str::to_owned).chain([id.to_string()]);
        let of = |id: String| {
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat"));
            let stat = stat.expect("the program runs");
            // After the name in parentheses, the twelfth and the next: hundredths of a second in
            // the program and in the kernel (proc_pid_stat(5)).
            let (_, after) = stat.rsplit_once(") ").expect("a name in parentheses");
            let ticks = after.split(' ').skip(11).take(2);
            ticks.map(|number| number.parse::<u32>().expect("a number")).sum::<u32>()
        };
        f64::from(all.map(of).sum::<u32>()) / 100.0
    }

    /// Binds all its threads, and those that they start, to these processors, such as `0` or `0,1`.
    ///
    /// # Panics
    /// When there are none of these numbers.
    pub fn stay_on(&self, processors: &str) {
        let _ = crate::run("taskset", &["-a", "-p", "-c", processors, &self.id().to_string()]).ok();
    }

    /// Asks it to end, as a supervisor would, and waits.
    ///
    /// # Panics
    /// When it can't be waited for.
    pub fn stop(mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.id()).expect("a process id"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it is ours");
        self.0.wait().expect("it ends");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The hosts of a small cluster. Nothing runs on them yet.
pub struct Bed {
    /// The API server's host, which is the switch as well.
    pub api: Host,
    /// Nodes.
    pub node_1: Host,
    /// See `node_1`.
    pub node_2: Host,
    /// Pods of node-1.
    pub pod_a: Host,
    /// See `pod_a`.
    pub pod_b: Host,
    /// The pod of node-2.
    pub pod_c: Host,
    /// A host outside the cluster, with routes to the pods by their nodes.
    pub outside: Host,
    /// Files of whatever runs here.
    pub folder: tempfile::TempDir,
}

impl Default for Bed {
    fn default() -> Self {
        Self::new()
    }
}

impl Bed {
    /// Wires the hosts.
    ///
    /// # Panics
    /// Without root.
    #[must_use]
    pub fn new() -> Self {
        let api = Host::new();
        api.ip("link add br0 type bridge");
        api.ip(&format!("address add {API}/24 dev br0"));
        api.ip("link set br0 up");
        let on_switch = |port: &str, address: &str| {
            let host = Host::new();
            api.cable(port, &host, "eth0");
            api.ip(&format!("link set {port} master br0"));
            host.ip(&format!("address add {address}/24 dev eth0"));
            // As `lab up` and kubeadm leave a node: with a way out.
            host.ip(&format!("route add default via {API}"));
            host
        };
        let (node_1, node_2) = (on_switch("n1", NODE_1), on_switch("n2", NODE_2));
        let outside = on_switch("outside", "192.168.56.10");
        for (pods, node) in [(NODE_1_PODS, NODE_1), (NODE_2_PODS, NODE_2)] {
            outside.ip(&format!("route add {pods} via {node}"));
        }
        // netd routes node-1's way; node-2 has none of it, so that only one end is measured.
        node_2.ip(&format!("route add {NODE_1_PODS} via {NODE_1}"));
        for node in [&node_1, &node_2] {
            node.ip("link add mini0 type bridge");
            node.ip("link set mini0 up");
            // Packets between two pods leave by the link they came in by: that is meant.
            for link in ["all", "mini0"] {
                node.write(&format!("/proc/sys/net/ipv4/conf/{link}/send_redirects"), "0");
            }
        }
        let pod_a = pod(&node_1, "pod-a", NODE_1, POD_A);
        let pod_b = pod(&node_1, "pod-b", NODE_1, POD_B);
        let pod_c = pod(&node_2, "pod-c", NODE_2, POD_C);
        pod_c.ip(&format!("route add local {NODE_2_PODS} dev lo"));
        node_2.ip(&format!("route add {NODE_2_PODS} via {POD_C} dev mini0 onlink"));
        let folder = tempfile::Builder::new().prefix("mini-bed").tempdir().expect("a folder");
        Self { api, node_1, node_2, pod_a, pod_b, pod_c, outside, folder }
    }

    /// Starts our API server on its host.
    #[must_use]
    pub fn start_server(&self) -> Process {
        // Whoever is first makes the authority; the server shall not be half-way through it when
        // somebody asks for a certificate.
        let _ = self.kubeconfig("admin", "system:masters");
        let bind = format!("{API}:6443");
        let folder = |name: &str| self.folder.path().join(name).display().to_string();
        let args = [
            "server",
            "--bind",
            &bind,
            "--advertise",
            &bind,
            "--data-dir",
            &folder("data"),
            "--pki-dir",
            &folder("pki"),
            "--cluster-cidr",
            CLUSTER_CIDR,
            "--service-cidr",
            SERVICE_CIDR,
        ];
        self.api.start(&minictl(), &args, &self.folder.path().join("server.log"))
    }

    /// A kubeconfig of our API server.
    ///
    /// # Panics
    /// When it can't be written.
    #[must_use]
    pub fn kubeconfig(&self, user: &str, group: &str) -> std::path::PathBuf {
        let pki = self.folder.path().join("pki").display().to_string();
        let args = ["kubeconfig", "--pki-dir", &pki, "--as-user", user, "--as-group", group];
        let text = crate::run(minictl(), &[&args[..], &["--server", API_URL]].concat()).ok();
        let file = self.folder.path().join(format!("{}.kubeconfig", user.replace(':', "-")));
        std::fs::write(&file, text).expect("a writable kubeconfig");
        file
    }

    /// Starts netd for node-1.
    #[must_use]
    pub fn start_netd(&self, kubeconfig: &Path) -> Process {
        self.start_netd_with(kubeconfig, &[])
    }

    /// The same with more flags.
    #[must_use]
    pub fn start_netd_with(&self, kubeconfig: &Path, flags: &[&str]) -> Process {
        let kubeconfig = kubeconfig.display().to_string();
        let args = [
            "netd",
            "--kubeconfig",
            &kubeconfig,
            "--name",
            "node-1",
            "--cluster-cidr",
            CLUSTER_CIDR,
            "--service-cidr",
            SERVICE_CIDR,
        ];
        let args = [&args[..], flags].concat();
        self.node_1.start(&minictl(), &args, &self.folder.path().join("netd.log"))
    }

    /// Starts Kubernetes' own proxy for node-1, in its nftables mode.
    ///
    /// # Panics
    /// When its configuration can't be written.
    #[must_use]
    pub fn start_kube_proxy(&self, program: &Path, kubeconfig: &Path) -> Process {
        // Pods of other nodes are somebody else's business with kube-proxy, and netd's with netd.
        self.node_1.ip(&format!("route replace {NODE_2_PODS} via {NODE_2}"));
        // Where bridges ask netfilter, what kube-proxy redirects to a pod of the same bridge stays
        // on the bridge, and there pods are isolated.
        let bridged = "/proc/sys/net/bridge/bridge-nf-call-iptables";
        if Path::new(bridged).exists() {
            self.node_1.write(bridged, "0");
        }
        let kubeconfig = kubeconfig.to_str().expect("a plain path");
        let config = KUBE_PROXY_CONFIG.replace("KUBECONFIG", kubeconfig);
        let file = self.folder.path().join("kube-proxy.yaml");
        std::fs::write(&file, config).expect("a writable configuration");
        let args = ["--config".as_ref(), file.as_path(), "-v=2".as_ref()];
        self.node_1.start(program, &args, &self.folder.path().join("kube-proxy.log"))
    }

    /// The end of every log, for failures.
    #[must_use]
    pub fn logs(&self) -> String {
        let pattern = format!("tail -n 30 {}/*.log", self.folder.path().display());
        crate::run("sh", &["-c", &pattern]).out
    }
}

/// A pod on a node's bridge, with the node as its way out.
fn pod(node: &Host, port: &str, node_address: &str, address: &str) -> Host {
    let pod = Host::new();
    node.cable(port, &pod, "eth0");
    node.ip(&format!("link set {port} master mini0"));
    node.ip(&format!("link set {port} type bridge_slave isolated on"));
    node.ip(&format!("route add {address} dev mini0"));
    pod.ip(&format!("address add {address}/32 dev eth0"));
    pod.ip(&format!("route add default via {node_address} dev eth0 onlink"));
    pod
}
