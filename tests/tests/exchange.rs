//! Parts are exchanged for Kubernetes' own: each proxy on each API server must do the same.
//!
//! The same objects and the same calls run on four clusters: our API server or `kube-apiserver`,
//! with `minictl netd` or `kube-proxy`. The one that is all Kubernetes shows that the expectations
//! are Kubernetes' and not ours. What it needs that we cannot bring along is named by the variables
//! `KUBE_APISERVER`, `ETCD` and `KUBE_PROXY` (`docs/exchange.md`); the cluster that is all ours
//! always runs.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use e2e::bed::{
    API, API_URL, Bed, Host, NODE_1, NODE_1_PODS, NODE_2, NODE_2_PODS, POD_A, POD_B, POD_C,
    Process, SERVICE_CIDR,
};
use e2e::{Answer, capable, finish, run, wait_for};

/// A machine that builds something at the same time is slow.
const LIMIT: Duration = Duration::from_secs(90);
/// How long an answer may take before it counts as none.
const PATIENCE: Duration = Duration::from_millis(700);
const PORT: u16 = 8080;
const OUTSIDE: &str = "192.168.56.10";
const EXTERNAL: &str = "172.30.1.44";
const SERVICES: &str = include_str!("../exchange/services.yaml");

#[test]
fn all_ours() {
    if !capable("root", run("id", &["-u"]).out.trim() == "0") {
        return;
    }
    let mut cluster = Cluster::of_ours();
    let _proxy = cluster.netd("system:node:node-1", "system:nodes");
    cluster.check();
}

#[test]
#[ignore = "needs Kubernetes' own programs: make exchange"]
fn kube_proxy_on_our_api_server() {
    let Some(kube_proxy) = program("KUBE_PROXY") else { return };
    let mut cluster = Cluster::of_ours();
    let _proxy = cluster.kube_proxy(&kube_proxy);
    cluster.check();
    cluster.kube_proxy_is_content();
}

#[test]
#[ignore = "needs Kubernetes' own programs: make exchange"]
fn netd_on_kube_apiserver() {
    let Some(mut cluster) = Cluster::of_kubernetes() else { return };
    // No more rights than Kubernetes gives its own proxy.
    let _proxy = cluster.netd("system:kube-proxy", "nobody");
    cluster.check();
}

#[test]
#[ignore = "needs Kubernetes' own programs: make exchange"]
fn all_kubernetes() {
    let Some(kube_proxy) = program("KUBE_PROXY") else { return };
    let Some(mut cluster) = Cluster::of_kubernetes() else { return };
    let _proxy = cluster.kube_proxy(&kube_proxy);
    cluster.check();
    cluster.kube_proxy_is_content();
}

/// A program that a variable names.
fn program(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    let there = path.as_ref().is_some_and(|path| path.is_file());
    if capable(&format!("a program named by {variable}"), there) { path } else { None }
}

/// A network with an API server, whichever.
struct Cluster {
    bed: Bed,
    admin: PathBuf,
    /// Kubernetes' API server, unless it is ours.
    kube_apiserver: Option<PathBuf>,
    server: Option<Process>,
    _etcd: Option<Process>,
}

impl Cluster {
    fn of_ours() -> Self {
        let bed = Bed::new();
        let admin = bed.kubeconfig("admin", "system:masters");
        Self { bed, admin, kube_apiserver: None, server: None, _etcd: None }.ready()
    }

    fn of_kubernetes() -> Option<Self> {
        let (kube_apiserver, etcd) = (program("KUBE_APISERVER")?, program("ETCD")?);
        let bed = Bed::new();
        let admin = bed.kubeconfig("admin", "system:masters");
        let file = |name: &str| bed.folder.path().join(name).display().to_string();
        let _ = run("openssl", &["genrsa", "-out", &file("sa.key"), "2048"]).ok();
        let log = bed.folder.path().join("etcd.log");
        let etcd = bed.api.start(&etcd, &["--data-dir", &file("etcd")], &log);
        let kube_apiserver = Some(kube_apiserver);
        Some(Self { bed, admin, kube_apiserver, server: None, _etcd: Some(etcd) }.ready())
    }

    /// Starts the API server, on what it may have stored before, and waits until it answers.
    fn start_server(&mut self) {
        let folder = self.bed.folder.path();
        self.server = Some(match &self.kube_apiserver {
            None => self.bed.start_server(),
            Some(program) => {
                let args = kube_apiserver_args(folder);
                self.bed.api.start(program, &args, &folder.join("server.log"))
            }
        });
        if self.kube_apiserver.is_some() {
            wait_for("kube-apiserver's certificate", LIMIT, || {
                if self.serving_ca().is_file() { Ok(()) } else { Err(self.bed.logs()) }
            });
            self.trust(&self.admin);
        }
        wait_for("the API server", LIMIT, || {
            let answer = self.try_kubectl(&["get", "namespace", "default", "-o", "name"], None);
            if answer.code == 0 { Ok(()) } else { Err(format!("{answer}\n{}", self.bed.logs())) }
        });
    }

    /// The authority that kube-apiserver makes up for its own certificate.
    fn serving_ca(&self) -> PathBuf {
        self.bed.folder.path().join("serving/apiserver.crt")
    }

    /// With a running API server, its nodes, and servers in the pods.
    fn ready(mut self) -> Self {
        self.start_server();
        for (name, address, pods) in
            [("node-1", NODE_1, NODE_1_PODS), ("node-2", NODE_2, NODE_2_PODS)]
        {
            let node = format!(
                "apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\n\
                 spec: {{podCIDR: {pods}, podCIDRs: [{pods}]}}\n\
                 status: {{addresses: [{{type: InternalIP, address: {address}}}]}}\n"
            );
            self.kubectl(&["create", "-f", "-"], Some(&node));
        }
        for (name, pod) in [("pod-b", &self.bed.pod_b), ("pod-c", &self.bed.pod_c)] {
            pod.run(move || serve(name));
        }
        self.bed.outside.ip(&format!("route add {EXTERNAL} via {NODE_1}"));
        self
    }

    /// A stock client, which must succeed.
    fn kubectl(&self, args: &[&str], input: Option<&str>) {
        let _ = self.try_kubectl(args, input).ok();
    }

    /// A stock client, in the API server's namespace.
    fn try_kubectl(&self, args: &[&str], input: Option<&str>) -> Answer {
        let mut command = Command::new("kubectl");
        command.env("KUBECONFIG", &self.admin);
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let input = input.map(str::to_owned);
        self.bed.api.run(move || finish(command, &args, input.as_deref()))
    }

    /// Puts the authority that signed the server's certificate into a kubeconfig.
    fn trust(&self, kubeconfig: &Path) {
        if self.kube_apiserver.is_none() {
            return;
        }
        let data = run("base64", &[Path::new("-w0"), &self.serving_ca()]).ok();
        let text = std::fs::read_to_string(kubeconfig).expect("a kubeconfig");
        let text: String = text
            .lines()
            .map(|line| match line.split_once("certificate-authority-data:") {
                Some((indent, _)) => format!("{indent}certificate-authority-data: {data}\n"),
                None => format!("{line}\n"),
            })
            .collect();
        std::fs::write(kubeconfig, text).expect("a writable kubeconfig");
    }

    fn netd(&self, user: &str, group: &str) -> Process {
        let kubeconfig = self.bed.kubeconfig(user, group);
        self.trust(&kubeconfig);
        self.bed.start_netd(&kubeconfig)
    }

    fn kube_proxy(&self, program: &Path) -> Process {
        let kubeconfig = self.bed.kubeconfig("system:kube-proxy", "nobody");
        self.trust(&kubeconfig);
        self.bed.start_kube_proxy(program, &kubeconfig)
    }
}

/// No more than it takes to serve Services; anything else keeps its default.
fn kube_apiserver_args(folder: &Path) -> Vec<String> {
    let file = |name: &str| folder.join(name).display().to_string();
    [
        ("etcd-servers", "http://127.0.0.1:2379".to_owned()),
        ("bind-address", API.to_owned()),
        ("advertise-address", API.to_owned()),
        ("cert-dir", file("serving")),
        ("client-ca-file", file("pki/ca.crt")),
        ("authorization-mode", "Node,RBAC".to_owned()),
        ("service-cluster-ip-range", SERVICE_CIDR.to_owned()),
        ("service-account-issuer", API_URL.to_owned()),
        ("service-account-key-file", file("sa.key")),
        ("service-account-signing-key-file", file("sa.key")),
    ]
    .map(|(name, value)| format!("--{name}={value}"))
    .to_vec()
}

/// What came of a call: who answered and whom it saw, or how it failed.
type Outcome = Result<(String, String), &'static str>;

const REFUSED: &str = "refused";
const SILENCE: &str = "silence";

/// Answers `NAME CLIENT` by TCP and UDP in the calling thread's namespace.
fn serve(name: &'static str) {
    let tcp = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).expect("a free port");
    let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).expect("a free port");
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            if let Ok(client) = stream.peer_addr() {
                // The caller may be gone.
                let _ = stream.write_all(format!("{name} {}", client.ip()).as_bytes());
            }
        }
    });
    std::thread::spawn(move || {
        let mut ignored = [0; 8];
        while let Ok((_, client)) = udp.recv_from(&mut ignored) {
            let _ = udp.send_to(format!("{name} {}", client.ip()).as_bytes(), client);
        }
    });
}

fn call(from: &Host, to: &'static str) -> Outcome {
    from.run(move || {
        let (protocol, address) = to.split_once('/').expect("tcp/ADDRESS:PORT");
        let address: SocketAddr = address.parse().expect("an address");
        let answer = if protocol == "udp" { udp(address) } else { tcp(address) };
        match answer {
            Ok(text) => {
                let (name, client) = text.split_once(' ').expect("NAME CLIENT");
                Ok((name.to_owned(), client.to_owned()))
            }
            Err(error) => match error.kind() {
                ErrorKind::ConnectionRefused => Err(REFUSED),
                ErrorKind::TimedOut | ErrorKind::WouldBlock => Err(SILENCE),
                _ => panic!("{to}: {error}"),
            },
        }
    })
}

fn tcp(to: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn udp(to: SocketAddr) -> std::io::Result<String> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(b"?")?;
    let mut text = [0; 64];
    let length = socket.recv(&mut text)?;
    Ok(String::from_utf8_lossy(&text[..length]).into_owned())
}

/// Who may answer a call, and whom they must see; or how it has to fail.
type Expected = Result<(&'static [&'static str], &'static [&'static str]), &'static str>;

const BOTH: &[&str] = &["pod-b", "pod-c"];
const NEAR: &[&str] = &["pod-b"];

impl Cluster {
    /// Creates the Services, calls them, changes them, and calls them again.
    fn check(&mut self) {
        self.kubectl(&["apply", "-f", "-"], Some(SERVICES));
        for (from, to, expected) in first_calls(&self.bed) {
            self.expect(from, to, expected);
        }
        self.one_client_keeps_its_pod();
        self.answers_come_from(BOTH);
        self.server.take().expect("it runs").stop();
        self.expect(&self.bed.pod_a, "tcp/10.96.100.1:80", Ok((BOTH, &[POD_A])));
        self.start_server();
        self.changes_are_followed();
    }

    fn changes_are_followed(&self) {
        let bed = &self.bed;
        let only_near = r#"[{"op":"remove","path":"/endpoints/1"}]"#;
        let slice = ["patch", "endpointslice", "web-1", "--type=json", "-p", only_near];
        self.kubectl(&slice, None);
        // A pod that is its own backend sees its node.
        self.expect(&bed.pod_b, "tcp/10.96.100.1:80", Ok((NEAR, &[NODE_1])));
        self.answers_come_from(NEAR);

        self.kubectl(&["delete", "endpointslice", "web-1"], None);
        self.expect(&bed.pod_a, "tcp/10.96.100.1:80", Err(REFUSED));
        self.expect(&bed.pod_a, "udp/10.96.100.1:80", Err(REFUSED));

        let ours = r#"{"metadata":{"labels":{"service.kubernetes.io/service-proxy-name":null}}}"#;
        self.kubectl(&["patch", "service", "foreign", "--type=merge", "-p", ours], None);
        self.expect(&bed.pod_a, "tcp/10.96.100.6:80", Ok((NEAR, &[POD_A])));

        self.kubectl(&["delete", "service", "local"], None);
        self.expect(&bed.pod_a, "tcp/10.96.100.3:80", Err(SILENCE));
        self.expect(&bed.outside, "tcp/192.168.56.70:31003", Err(REFUSED));
    }

    /// What kube-proxy says of itself, and what it told the API server.
    fn kube_proxy_is_content(&self) {
        let healthz = ["-s", "-o", "/dev/null", "-w", "%{http_code}"];
        let url = "http://127.0.0.1:10256/healthz";
        let answer = self.bed.node_1.command("curl", &[&healthz[..], &[url]].concat().join(" "));
        assert_eq!(answer, "200", "{}", self.bed.logs());
        let events = self.try_kubectl(&["get", "events", "-A"], None).ok();
        assert!(events.contains("Starting"), "no event of kube-proxy's start in {events}");
        if self.kube_apiserver.is_some() {
            // It refuses everybody until it has read its own roles.
            return;
        }
        let log = std::fs::read_to_string(self.bed.folder.path().join("kube-proxy.log"));
        let log = log.expect("its log");
        let refused = ["forbidden", "could not find the requested resource", "unable to decode"];
        let complaints: Vec<&str> =
            log.lines().filter(|line| refused.iter().any(|word| line.contains(word))).collect();
        assert!(complaints.is_empty(), "{complaints:#?}");
    }

    /// Waits until a call has the outcome; a proxy needs a moment to follow.
    fn expect(&self, from: &Host, to: &'static str, expected: Expected) {
        wait_for(to, LIMIT, || {
            let outcome = call(from, to);
            let right = match (&outcome, expected) {
                (Ok((name, client)), Ok((names, seen))) => {
                    names.contains(&name.as_str()) && seen.contains(&client.as_str())
                }
                (Err(one), Err(other)) => *one == other,
                _ => false,
            };
            let seen = || format!("{outcome:?} and not {expected:?}\n{}", self.bed.logs());
            if right { Ok(()) } else { Err(seen()) }
        });
    }

    fn one_client_keeps_its_pod(&self) {
        let one = || call(&self.bed.pod_a, "tcp/10.96.100.5:80").expect("sticky answers").0;
        let names: BTreeSet<String> = (0..20).map(|_| one()).collect();
        assert_eq!(names.len(), 1, "one client was sent to {names:?}");
    }

    /// Soon each of these pods gets some of many calls, and no other pod gets any.
    fn answers_come_from(&self, pods: &[&str]) {
        let one = || call(&self.bed.pod_a, "tcp/10.96.100.1:80").map(|(name, _)| name);
        wait_for("the right pods", LIMIT, || {
            // A fair coin does not fall on one side 40 times in a row.
            let names: Result<BTreeSet<String>, _> = (0..40).map(|_| one()).collect();
            let names = names?;
            let right = names.iter().map(String::as_str).eq(pods.iter().copied());
            if right { Ok(()) } else { Err(format!("{names:?} and not {pods:?}")) }
        });
    }
}

/// Who calls whom right after the Services were created.
fn first_calls(bed: &Bed) -> Vec<(&Host, &'static str, Expected)> {
    let (pod, node, outside) = (&bed.pod_a, &bed.node_1, &bed.outside);
    let balanced: Expected = Ok((BOTH, &[POD_A]));
    let near: Expected = Ok((NEAR, &[OUTSIDE]));
    // Nothing leads back to a node but its own address, so that is what a pod elsewhere sees.
    let masqueraded: Expected = Ok((BOTH, &[NODE_1]));
    vec![
        (pod, "tcp/10.96.100.1:80", balanced),
        (pod, "udp/10.96.100.1:80", balanced),
        (node, "tcp/10.96.100.1:80", masqueraded),
        (outside, "tcp/192.168.56.70:31000", masqueraded),
        (outside, "udp/192.168.56.70:31000", masqueraded),
        // kube-proxy hides a pod that calls its own node; netd does not need to.
        (pod, "tcp/192.168.56.70:31000", Ok((BOTH, &[POD_A, NODE_1]))),
        (node, "tcp/192.168.56.70:31000", masqueraded),
        (outside, "tcp/172.30.1.44:80", masqueraded),
        // A port that the address does not serve, and an address that nobody has.
        (pod, "tcp/10.96.100.1:81", Err(REFUSED)),
        (pod, "tcp/10.96.200.200:80", Err(SILENCE)),
        // No endpoint.
        (pod, "tcp/10.96.100.2:80", Err(REFUSED)),
        (pod, "udp/10.96.100.2:80", Err(REFUSED)),
        (outside, "tcp/192.168.56.70:31002", Err(REFUSED)),
        // Policy Local: the client is seen, and only pods of this node answer.
        (outside, "tcp/192.168.56.70:31003", near),
        (pod, "tcp/10.96.100.3:80", balanced),
        (outside, "tcp/192.168.56.70:31004", Err(SILENCE)),
        (pod, "tcp/10.96.100.4:80", Err(SILENCE)),
        // Another proxy's.
        (pod, "tcp/10.96.100.6:80", Err(SILENCE)),
        // The pods themselves are where they were.
        (pod, "tcp/10.244.0.6:8080", Ok((NEAR, &[POD_A]))),
        (outside, "tcp/10.245.0.5:8080", Ok((&["pod-c"], &[OUTSIDE]))),
    ]
}

/// The addresses that the objects name are those of the bed.
#[test]
fn the_objects_name_the_pods_of_the_bed() {
    assert!(SERVICES.contains(&format!("[{POD_B}]")) && SERVICES.contains(&format!("[{POD_C}]")));
}
