//! The whole loop: watches of a scripted API, and a kernel that others tamper with. Needs root.
//!
//! Each test runs on the engine under test: nftables, or IPVS by `MINICTL_TEST_ENGINE=ipvs` on a
//! kernel that has it, which `tests/vm` does.
#![expect(clippy::unwrap_used, reason = "a test stops at what must not happen")]
#![expect(clippy::print_stdout, reason = "how long a repair took is a figure to be read")]

#[path = "loop/api.rs"]
mod api;
#[path = "loop/listening.rs"]
mod listening;
#[path = "loop/names.rs"]
mod names;
#[path = "packets/net.rs"]
#[expect(dead_code, reason = "only a namespace is needed here, no packets")]
mod net;
#[path = "loop/repair.rs"]
mod repair;
#[path = "loop/telling.rs"]
mod telling;
/// The network's tools call by SCTP, too; here nobody does.
mod sctp {
    use std::net::{IpAddr, SocketAddr};

    pub(crate) fn call_here(_: Option<IpAddr>, to: SocketAddr) -> crate::net::Outcome {
        panic!("nobody calls {to} by SCTP here")
    }
}

use std::time::{Duration, Instant};

use api::{Api, NODES, SERVICES, SLICES, node, service, slice};
use net::Host;
use netmodel::nft::Engine;
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// netd on a node in a namespace, until dropped.
struct Running {
    host: Host,
    stop: CancellationToken,
    ended: std::sync::mpsc::Receiver<()>,
    control: netd::Control,
}

impl Running {
    fn start(api: &Api) -> Self {
        Self::start_with(api, |_| ())
    }

    fn start_with(api: &Api, change: impl FnOnce(&mut netd::Config)) -> Self {
        Self::start_on(Self::node(), api, change)
    }

    /// A node's links and addresses.
    fn node() -> Host {
        let host = Host::new();
        host.ip("link add mini0 type bridge");
        host.ip("address add 10.244.1.1/24 dev mini0");
        host.ip("link set mini0 up");
        host.ip("link add up0 type bridge");
        host.ip("address add 192.168.56.70/24 dev up0");
        host.ip("link set up0 up");
        host
    }

    fn start_on(host: Host, api: &Api, change: impl FnOnce(&mut netd::Config)) -> Self {
        let stop = CancellationToken::new();
        let (tell, ended) = std::sync::mpsc::channel();
        let mut config = netd::Config {
            node_name: "node-1".to_owned(),
            mode: match engine() {
                Engine::Nftables => netd::Mode::Nftables,
                Engine::Ipvs => netd::Mode::Ipvs,
            },
            cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
            service_cidrs: vec!["10.96.0.0/12".parse().unwrap()],
            node_ports: 30000..=32767,
            bridge: "mini0".to_owned(),
            scheduler: "rr".to_owned(),
            dns_upstreams: vec!["127.0.0.1:5353".parse().unwrap()],
            ingress: false,
            metrics_address: Some("127.0.0.1:10249".parse().unwrap()),
            health_address: Some("0.0.0.0:10256".parse().unwrap()),
        };
        change(&mut config);
        let (api, token) = (api.clone(), stop.clone());
        let (control, questions) = netd::control();
        // A thread made in the namespace is in it, and so are the threads that tokio makes there.
        host.run(move || {
            std::thread::spawn(move || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    netd::run(api.client(), config, questions, token).await.unwrap()
                });
                let _ = tell.send(());
            });
        });
        Self { host, stop, ended, control }
    }

    /// Waits for something that is not in the kernel's tables.
    #[track_caller]
    fn until<T>(
        &self,
        what: &str,
        state: impl Fn() -> String,
        mut get: impl FnMut() -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(value) = get() {
                return value;
            }
            assert!(Instant::now() < deadline, "{what}; there is\n{}", state());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the kernel shows something, and prints what it shows instead if it never does.
    #[track_caller]
    fn wait_for(&self, within: Duration, what: &str, shown: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + within;
        loop {
            let forwarding = "/proc/sys/net/ipv4/ip_forward";
            let text = programmed(&self.host)
                + &self.host.ip("route")
                + "forwarding="
                + &self.host.command("cat", forwarding);
            if shown(&text) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}; the kernel has:\n{text}");
            std::thread::yield_now();
        }
    }

    fn status(&self) -> netd::Status {
        let control = self.control.clone();
        wait(async move { control.status().await }).expect("netd answers")
    }

    fn end(self) -> Host {
        self.stop.cancel();
        self.ended.recv_timeout(SOON).expect("netd ends when told to");
        self.host
    }
}

/// What the engines hold.
fn programmed(host: &Host) -> String {
    let table = host.command("nft", "list ruleset");
    if engine() == Engine::Nftables { table } else { table + &host.command("ipvsadm", "-Sn") }
}

/// Waits for an answer of netd, which runs on threads of its own.
fn wait<T>(answer: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(SOON, answer).await.expect("an answer") })
}

/// Far longer than anything takes, also on a machine that is emulated.
const SOON: Duration = Duration::from_secs(60);

fn cluster() -> Api {
    let api = Api::default();
    let mut script = api.0.lock().unwrap();
    script.lists.insert(
        NODES.to_owned(),
        vec![
            node("node-1", "192.168.56.70", "10.244.1.0/24"),
            node("node-2", "192.168.56.71", "10.244.2.0/24"),
        ],
    );
    // One that no client can read stands before the others.
    let bad = json!({"metadata": {"name": "bad", "namespace": "default"}, "spec": {"ports": 7}});
    script.lists.insert(SERVICES.to_owned(), vec![bad, service("web", "10.96.0.11")]);
    script.lists.insert(SLICES.to_owned(), vec![slice("web", &["10.244.1.5"])]);
    drop(script);
    api
}

/// The engine under test.
fn engine() -> Engine {
    match std::env::var("MINICTL_TEST_ENGINE").as_deref() {
        Ok("ipvs") => Engine::Ipvs,
        _ => Engine::Nftables,
    }
}

/// Its name, as netd says it.
fn engine_name() -> &'static str {
    if engine() == Engine::Ipvs { "ipvs" } else { "nftables" }
}

/// Whether the kernel sends connections to `10.96.0.{vip}:80` on to a backend.
fn serves(kernel: &str, vip: u8, backend: &str) -> bool {
    serves_by(engine(), kernel, vip, backend)
}

fn serves_by(engine: Engine, kernel: &str, vip: u8, backend: &str) -> bool {
    kernel.contains(&match engine {
        Engine::Nftables => format!("10.96.0.{vip} . tcp . 80 . 0 : {backend} . 8080"),
        Engine::Ipvs => format!("-a -t 10.96.0.{vip}:80 -r {backend}:8080 -m -w 1"),
    })
}

/// Whether the kernel serves the Service of [`cluster`].
fn serves_web(kernel: &str) -> bool {
    serves(kernel, 11, "10.244.1.5")
}

#[test]
fn lists_and_events_reach_the_kernel_and_stay_there_when_netd_ends() {
    if !net::root() {
        return;
    }
    let api = cluster();
    let netd = Running::start(&api);
    netd.wait_for(SOON, "the lists", |text| {
        serves_web(text) && text.contains("10.244.2.0/24 via 192.168.56.71 dev up0 proto 119")
    });
    api.event(SERVICES, "ADDED", &service("late", "10.96.0.12"));
    netd.wait_for(SOON, "a Service without endpoints", |text| {
        text.contains("10.96.0.12 . tcp . 80 comment \"default/late\" : goto refuse")
    });
    api.event(SLICES, "ADDED", &slice("late", &["10.244.1.7"]));
    netd.wait_for(SOON, "its endpoint", |text| serves(text, 12, "10.244.1.7"));
    api.event(SERVICES, "DELETED", &service("late", "10.96.0.12"));
    // Under IPVS its server waits for its last connections.
    netd.wait_for(SOON, "its end", |text| !text.contains("10.96.0.12 ."));
    api.event(NODES, "MODIFIED", &node("node-2", "192.168.56.72", "10.244.2.0/24"));
    netd.wait_for(SOON, "a node that moved", |text| text.contains("via 192.168.56.72"));

    let annotated = || {
        let script = api.0.lock().unwrap();
        let (path, patch) = script.patches.first().expect("the Node was annotated").clone();
        assert_eq!(path, "/api/v1/nodes/node-1");
        patch["metadata"]["annotations"]["minictl.io/dataplane"].clone()
    };
    assert_eq!(annotated(), format!("{} (as asked)", engine_name()));
    let host = netd.end();
    let kernel = programmed(&host);
    assert!(serves_web(&kernel), "connections go on without netd: {kernel}");
}

#[test]
fn nothing_is_touched_before_all_lists_are_there() {
    if !net::root() {
        return;
    }
    let api = cluster();
    {
        // A list that can't be read never completes.
        let mut script = api.0.lock().unwrap();
        script.lists.insert(NODES.to_owned(), vec![json!("nonsense")]);
    }
    let netd = Running::start(&api);
    let deadline = Instant::now() + SOON;
    while !(api.is_watched(SERVICES) && api.is_watched(SLICES)) {
        assert!(Instant::now() < deadline, "the other two lists were never complete");
        std::thread::yield_now();
    }
    let host = netd.end();
    assert!(!host.command("nft", "list ruleset").contains("minictl"));
}
