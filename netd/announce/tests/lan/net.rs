//! A switch with nodes, a client and whoever else, each in a network namespace of its own.
//!
//! A namespace belongs to a thread that left all others and waits; it goes with the thread and the
//! sockets opened in it. Nothing of the machine's own network is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use announce::frame::{EtherType, Frame, Mac};
use announce::offer::Wanted;
use announce::socket::{LONGEST, Wire};
use announce::{Handle, Orders, Told, View};
use netmodel::snapshot::ServiceName;
use nix::sched::{CloneFlags, unshare};
use tokio_util::sync::CancellationToken;

pub(crate) const FOUR: &str = "192.168.56.200";
pub(crate) const SIX: &str = "fd00:192:168:56::200";
pub(crate) const CLUSTER: u64 = 7;
const PORT: u16 = 80;

/// Root is needed, and in CI it must be there.
pub(crate) fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("SKIPPED: network namespaces need root");
        assert!(std::env::var_os("CI").is_none(), "CI must have root");
    }
    root
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Looks until something is so.
#[track_caller]
pub(crate) fn until<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < limit, "after {limit:?} not yet: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace with a thread in it.
pub(crate) struct Host {
    jobs: Sender<Job>,
    task: i32,
}

impl Host {
    pub(crate) fn new() -> Self {
        let (jobs, inbox) = channel::<Job>();
        let (tell, told) = channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
            tell.send(nix::unistd::gettid().as_raw()).unwrap();
            inbox.into_iter().for_each(|job| job());
        });
        let host = Self { jobs, task: told.recv().unwrap() };
        host.ip("link set lo up");
        host.write("net/ipv6/conf/default/accept_dad", "0");
        host
    }

    /// Runs something in the namespace; threads that it starts are in it, too.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = channel();
        self.jobs.send(Box::new(move || drop(tell.send(job())))).unwrap();
        told.recv().expect("the job did not panic")
    }

    pub(crate) fn ip(&self, args: &str) -> String {
        let args = args.to_owned();
        self.run(move || {
            let output = Command::new("ip").args(args.split_whitespace()).output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "ip {args}: {error}");
            String::from_utf8(output.stdout).unwrap()
        })
    }

    pub(crate) fn write(&self, setting: &str, value: &str) {
        let (path, value) = (format!("/proc/sys/{setting}"), value.to_owned());
        self.run(move || std::fs::write(&path, value).unwrap_or_else(|e| panic!("{path}: {e}")));
    }

    fn json(&self, args: &str) -> Vec<serde_json::Value> {
        serde_json::from_str(&self.ip(args)).unwrap_or_default()
    }

    pub(crate) fn mac(&self, link: &str) -> Mac {
        mac(self.json(&format!("-j link show {link}"))[0]["address"].as_str().unwrap())
    }

    fn index(&self, link: &str) -> u32 {
        let index = self.json(&format!("-j link show {link}"))[0]["ifindex"].as_u64().unwrap();
        u32::try_from(index).unwrap()
    }

    /// What the kernel believes of an address, on whatever link.
    pub(crate) fn neighbour(&self, address: &str) -> Option<Mac> {
        let all = self.json("-j neighbour show");
        let entry = all.iter().find(|entry| entry["dst"] == address)?;
        entry["lladdr"].as_str().map(mac)
    }

    /// Sends frames by the link `eth0`.
    pub(crate) fn send(&self, frames: Vec<Frame>) {
        let index = self.index("eth0");
        self.run(move || {
            runtime().block_on(async {
                for frame in frames {
                    let bytes = frame.bytes();
                    let kind = u16::from_be_bytes([bytes[12], bytes[13]]);
                    let kind = EtherType::ALL.into_iter().find(|k| k.number() == kind).unwrap();
                    Wire::open(index, kind).unwrap().send(&bytes).unwrap();
                }
            });
        });
    }

    /// All of our beats that come by `eth0` for a while.
    pub(crate) fn listen(&self, time: Duration) -> Vec<Frame> {
        let index = self.index("eth0");
        self.run(move || {
            runtime().block_on(async {
                let wire = Wire::open(index, EtherType::Beat).unwrap();
                let mut frames = Vec::new();
                let mut buffer = [0; LONGEST];
                let until = tokio::time::Instant::now() + time;
                while let Ok(read) = tokio::time::timeout_at(until, wire.receive(&mut buffer)).await
                {
                    frames.extend(Frame::read(&buffer[..read.unwrap()]));
                }
                frames
            })
        })
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn mac(text: &str) -> Mac {
    let bytes: Vec<u8> = text.split(':').map(|b| u8::from_str_radix(b, 16).unwrap()).collect();
    Mac::from_slice(&bytes).unwrap()
}

/// The switch and all on it.
pub(crate) struct Lan {
    switch: Host,
    pub(crate) nodes: Vec<Node>,
    pub(crate) client: Host,
}

/// A node: it has the addresses, as every node's data plane has, and answers with its name.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) host: Host,
}

impl Lan {
    pub(crate) fn new(nodes: u8) -> Self {
        let switch = Host::new();
        switch.ip("link add br0 type bridge");
        switch.ip("link set br0 up");
        let client = Host::new();
        let mut lan = Self { switch, nodes: Vec::new(), client };
        lan.connect(&lan.client, "client", 3);
        for number in 1..=nodes {
            let host = Host::new();
            lan.connect(&host, &format!("node-{number}"), 69 + number);
            lan.nodes.push(Node::new(format!("node-{number}"), host));
        }
        lan
    }

    /// One more host on the switch.
    pub(crate) fn add_host(&self, name: &str, number: u8) -> Host {
        let host = Host::new();
        self.connect(&host, name, number);
        host
    }

    fn connect(&self, host: &Host, name: &str, number: u8) {
        let task = host.task;
        self.switch.ip(&format!("link add p-{name} type veth peer name eth0 netns {task}"));
        self.switch.ip(&format!("link set p-{name} master br0 up"));
        host.ip("link set eth0 up");
        host.ip(&format!("address add 192.168.56.{number}/24 dev eth0"));
        host.ip(&format!("address add fd00:192:168:56::{number:x}/64 dev eth0 nodad"));
    }

    /// Takes a node's cable out of the switch.
    pub(crate) fn unplug(&self, node: usize) {
        self.switch.ip(&format!("link set p-{} nomaster", self.nodes[node].name));
    }

    pub(crate) fn plug(&self, node: usize) {
        self.switch.ip(&format!("link set p-{} master br0", self.nodes[node].name));
    }

    /// Starts an announcer on each node, for both addresses.
    pub(crate) fn announce_on_all(&self) -> Vec<Announcing> {
        self.nodes.iter().map(|node| Announcing::start(&node.name, &node.host)).collect()
    }

    /// Which nodes announce an address.
    pub(crate) fn announcing(&self, nodes: &[Announcing], address: &str) -> Vec<usize> {
        let announces = |node: &Announcing| node.view().announced().any(|held| held == ip(address));
        (0..nodes.len()).filter(|index| announces(&nodes[*index])).collect()
    }

    /// The one that does, if it is one.
    pub(crate) fn only(&self, nodes: &[Announcing], address: &str) -> Option<usize> {
        match self.announcing(nodes, address)[..] {
            [one] => Some(one),
            _ => None,
        }
    }

    /// Does every node hear of so many that would serve, none of them as a reserve?
    pub(crate) fn all_candidates(
        &self,
        nodes: &[Announcing],
        address: &str,
        count: usize,
    ) -> Option<()> {
        let full = |node: &Announcing| {
            let view = node.view();
            let grades = view.addresses.get(&ip(address)).map(|a| a.candidates.clone());
            let grades: BTreeMap<_, _> = grades.unwrap_or_default();
            grades.len() == count
                && grades.values().all(|grade| *grade == announce::frame::beat::Grade::Full)
        };
        nodes.iter().all(full).then_some(())
    }

    /// Who answers when the client asks for an address.
    pub(crate) fn who_has(&self, address: &str) -> BTreeSet<Mac> {
        let lan = announce::Lan {
            index: self.client.index("eth0"),
            name: "eth0".to_owned(),
            mac: self.client.mac("eth0"),
            nets: Vec::new(),
        };
        let address = ip(address);
        self.client.run(move || runtime().block_on(announce::probe(&lan, address)).unwrap())
    }
}

impl Node {
    fn new(name: String, host: Host) -> Self {
        // As netd sets it: addresses of other links are not answered for.
        for (setting, value) in [("arp_ignore", "1"), ("arp_announce", "2")] {
            host.write(&format!("net/ipv4/conf/all/{setting}"), value);
        }
        host.ip(&format!("address add {FOUR}/32 dev lo"));
        host.ip(&format!("address add {SIX}/128 dev lo nodad"));
        let said = name.clone();
        host.run(move || {
            for address in [FOUR, SIX] {
                let listener = TcpListener::bind(SocketAddr::new(ip(address), PORT)).unwrap();
                let said = said.clone();
                thread::spawn(move || {
                    for mut stream in listener.incoming().flatten() {
                        // The client may be gone.
                        let _ = stream.write_all(said.as_bytes());
                    }
                });
            }
        });
        Self { name, host }
    }

    pub(crate) fn mac(&self) -> Mac {
        self.host.mac("eth0")
    }

    /// A link that went down has lost its IPv6 address.
    pub(crate) fn restore_address(&self) {
        let number: u8 = self.name.trim_start_matches("node-").parse().unwrap();
        let address = format!("fd00:192:168:56::{:x}/64", 69 + number);
        self.host.ip(&format!("address replace {address} dev eth0 nodad"));
    }

    /// How many packet sockets are open in the namespace.
    pub(crate) fn packet_sockets(&self) -> usize {
        let file = format!("/proc/{}/net/packet", self.host.task);
        std::fs::read_to_string(file).unwrap().lines().count() - 1
    }

    /// A pod as minictl's agent connects it: routed, by a bridge of its own.
    pub(crate) fn add_pod(&self) -> Host {
        let pod = Host::new();
        let host = &self.host;
        host.ip("link add mini0 type bridge");
        host.ip("address add 10.244.0.1/32 dev mini0");
        host.ip("link set mini0 up");
        host.write("net/ipv4/ip_forward", "1");
        host.write("net/ipv6/conf/all/forwarding", "1");
        host.ip(&format!("link add pod type veth peer name eth0 netns {}", pod.task));
        host.ip("link set pod master mini0 up");
        host.ip("route add 10.244.0.5/32 dev mini0");
        pod.ip("link set eth0 up");
        pod.ip("address add 10.244.0.5/32 dev eth0");
        pod.ip("route add default dev eth0");
        pod
    }
}

/// What answers at an address: the name of a node.
pub(crate) fn call(from: &Host, address: &str) -> Option<String> {
    let to = SocketAddr::new(ip(address), PORT);
    from.run(move || {
        let patience = Duration::from_millis(200);
        let mut stream = TcpStream::connect_timeout(&to, patience).ok()?;
        stream.set_read_timeout(Some(patience)).unwrap();
        let mut name = String::new();
        stream.read_to_string(&mut name).ok()?;
        Some(name)
    })
}

/// A running announcer.
pub(crate) struct Announcing {
    handle: Handle,
    told: Arc<Mutex<Vec<Told>>>,
    stop: CancellationToken,
    done: Option<thread::JoinHandle<()>>,
}

impl Announcing {
    fn start(name: &str, host: &Host) -> Self {
        let (handle, inbox) = announce::start();
        let told = Arc::new(Mutex::new(Vec::new()));
        let stop = CancellationToken::new();
        let (name, said, halt) = (name.to_owned(), told.clone(), stop.clone());
        let done = host.run(move || {
            thread::spawn(move || {
                let tell = |told| said.lock().unwrap().push(told);
                let not_on = ["mini0".to_owned()];
                runtime().block_on(announce::run(&name, &not_on, inbox, tell, halt));
            })
        });
        let announcing = Self { handle, told, stop, done: Some(done) };
        announcing.order(&[FOUR, SIX]);
        announcing
    }

    pub(crate) fn order(&self, addresses: &[&str]) {
        let services = BTreeSet::from([ServiceName::new("default", "web")]);
        let wanted = addresses
            .iter()
            .map(|address| (ip(address), Wanted { services: services.clone(), declined: None }));
        self.handle.order(Orders { cluster: CLUSTER, wanted: wanted.collect(), sound: true });
    }

    pub(crate) fn view(&self) -> View {
        runtime().block_on(self.handle.view()).unwrap_or_default()
    }

    pub(crate) fn has_told(&self, what: impl Fn(&Told) -> bool) -> Option<()> {
        self.told.lock().unwrap().iter().any(what).then_some(())
    }

    /// Stops it in order, and waits until it has.
    pub(crate) fn stop(&mut self) {
        self.stop.cancel();
        self.done.take().unwrap().join().unwrap();
    }
}

impl Drop for Announcing {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(done) = self.done.take() {
            let _ = done.join();
        }
    }
}
