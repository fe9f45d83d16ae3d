//! A small network of namespaces made by the test: two nodes with pods on a bridge, and a client
//! outside the cluster, on one switch.
//!
//! A namespace is a thread that left all others; it goes when the thread and the sockets opened in
//! it are gone. Nothing of the machine's own network is touched.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use netmodel::address::Protocol;
use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, Socket, Type};

/// How long an answer may take before it counts as none: less than the second after which TCP
/// repeats its call. On an emulated machine, by `MINICTL_TEST_PATIENCE`, so many milliseconds.
pub(crate) fn patience() -> Duration {
    static MILLISECONDS: OnceLock<u64> = OnceLock::new();
    Duration::from_millis(*MILLISECONDS.get_or_init(|| {
        let asked = std::env::var("MINICTL_TEST_PATIENCE").ok();
        asked.map_or(700, |text| text.parse().expect("a number of milliseconds"))
    }))
}

/// How many calls a host makes at the same time.
const AT_A_TIME: usize = 24;

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
        let host = Self { jobs, task: told.recv().expect("the thread entered its namespace") };
        host.ip("link set lo up");
        // Addresses are usable at once: duplicate detection would take a second each.
        host.write("/proc/sys/net/ipv6/conf/default/accept_dad", "0");
        // A kernel tells one client only once a second that a datagram was refused. Who asks many
        // things in a second wants to be told each time.
        host.write("/proc/sys/net/ipv4/icmp_ratelimit", "0");
        host.write("/proc/sys/net/ipv6/icmp/ratelimit", "0");
        host
    }

    /// Runs something in the namespace.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = channel();
        self.jobs.send(Box::new(move || drop(tell.send(job())))).unwrap();
        told.recv().expect("the job in the namespace did not panic")
    }

    /// Calls again and again by TCP, beside everything else that the host does, until told to stop.
    pub(crate) fn hammer(&self, to: SocketAddr) -> Hammer {
        let stop = Arc::new(AtomicBool::new(false));
        let made = Arc::new(AtomicUsize::new(0));
        let (halt, count) = (stop.clone(), made.clone());
        let calls = self.run(move || {
            thread::spawn(move || {
                let mut outcomes = Vec::new();
                while !halt.load(Ordering::Relaxed) {
                    outcomes.push(tcp_here(None, to));
                    count.fetch_add(1, Ordering::Relaxed);
                }
                outcomes
            })
        });
        Hammer { stop, made, calls }
    }

    /// Runs a command in the namespace and returns what it prints.
    pub(crate) fn command(&self, program: &str, args: &str) -> String {
        let (program, args) = (program.to_owned(), args.to_owned());
        self.run(move || {
            let output = Command::new(&program).args(args.split_whitespace()).output().unwrap();
            assert!(
                output.status.success(),
                "{program} {args}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
    }

    pub(crate) fn ip(&self, args: &str) -> String {
        self.command("ip", args)
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let (path, text) = (path.to_owned(), text.to_owned());
        self.run(move || std::fs::write(&path, text).unwrap_or_else(|e| panic!("{path}: {e}")));
    }

    /// A virtual cable: `name` here, `other_name` in the other namespace.
    pub(crate) fn cable(&self, name: &str, other: &Self, other_name: &str) {
        let task = other.task;
        self.ip(&format!("link add {name} type veth peer name {other_name} netns {task}"));
        self.ip(&format!("link set {name} up"));
        other.ip(&format!("link set {other_name} up"));
    }
}

/// Calls that are being made.
pub(crate) struct Hammer {
    stop: Arc<AtomicBool>,
    made: Arc<AtomicUsize>,
    calls: thread::JoinHandle<Vec<Outcome>>,
}

impl Hammer {
    /// How many are over.
    pub(crate) fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }

    /// What came of all of them.
    pub(crate) fn stop(self) -> Vec<Outcome> {
        self.stop.store(true, Ordering::Relaxed);
        self.calls.join().unwrap()
    }
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Somebody answered: its name, and the client's address as it saw it.
    Answer(String, IpAddr),
    /// Told at once that nobody is there.
    Refused,
    /// Somebody took the call, and then it ended.
    Reset,
    /// Told nothing.
    Silence,
    /// There is no way to that address at all.
    Unreachable,
}

impl Outcome {
    /// The name of who answered.
    #[track_caller]
    pub(crate) fn name(self) -> String {
        match self {
            Self::Answer(name, _) => name,
            other => panic!("nobody answered: {other:?}"),
        }
    }
}

/// Listens on a port of a host, TCP and UDP, and answers `name client-address`.
pub(crate) fn serve(host: &Host, name: &'static str, at: SocketAddr) -> Server {
    let (tcp, udp) =
        host.run(move || (TcpListener::bind(at).unwrap(), UdpSocket::bind(at).unwrap()));
    let stop = Arc::new(AtomicBool::new(false));
    let halt = stop.clone();
    udp.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let udp_thread = thread::spawn(move || {
        let mut buffer = [0; 64];
        while !halt.load(Ordering::Relaxed) {
            if let Ok((_, client)) = udp.recv_from(&mut buffer) {
                // The client may be gone.
                let _ = udp.send_to(format!("{name} {}", client.ip()).as_bytes(), client);
            }
        }
    });
    let tcp_thread = stream_server(name, tcp, stop.clone());
    Server { stop, threads: vec![udp_thread, tcp_thread] }
}

/// Serves on a listener whose connections read and write like TCP's.
pub(crate) fn serve_stream(name: &'static str, listener: TcpListener) -> Server {
    let stop = Arc::new(AtomicBool::new(false));
    let thread = stream_server(name, listener, stop.clone());
    Server { stop, threads: vec![thread] }
}

fn stream_server(
    name: &'static str,
    listener: TcpListener,
    halt: Arc<AtomicBool>,
) -> thread::JoinHandle<()> {
    listener.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        while !halt.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((stream, client)) => drop(thread::spawn(move || converse(name, stream, client))),
                Err(_) => thread::park_timeout(Duration::from_millis(1)),
            }
        }
    })
}

/// A connection stays open and answers again at each byte.
fn converse(name: &str, mut stream: TcpStream, client: SocketAddr) {
    stream.set_nonblocking(false).unwrap();
    let mut byte = [0];
    while stream.read(&mut byte).is_ok_and(|n| n == 1) {
        if stream.write_all(format!("{name} {}", client.ip()).as_bytes()).is_err() {
            break;
        }
    }
}

/// Stops listening when dropped.
pub(crate) struct Server {
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

pub(crate) fn answer(text: &str) -> Outcome {
    let (name, client) = text.trim().split_once(' ').expect("a server's answer");
    Outcome::Answer(name.to_owned(), client.parse().unwrap())
}

pub(crate) fn failure(error: &io::Error) -> Outcome {
    match error.kind() {
        ErrorKind::ConnectionRefused => Outcome::Refused,
        ErrorKind::ConnectionReset => Outcome::Reset,
        ErrorKind::TimedOut | ErrorKind::WouldBlock => Outcome::Silence,
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable => Outcome::Unreachable,
        _ => panic!("{error}"),
    }
}

/// Calls by TCP.
pub(crate) fn tcp(host: &Host, to: SocketAddr) -> Outcome {
    host.run(move || tcp_here(None, to))
}

/// Calls by UDP from a new socket.
pub(crate) fn udp(host: &Host, to: SocketAddr) -> Outcome {
    host.run(move || udp_here(None, to))
}

/// A call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) protocol: Protocol,
    /// The address to speak from; the kernel's choice where there is none.
    pub(crate) source: Option<IpAddr>,
    pub(crate) to: SocketAddr,
}

/// Makes many calls of one host, several at a time: those that nobody answers take long.
pub(crate) fn calls(host: &Host, calls: Vec<(Protocol, SocketAddr)>) -> Vec<Outcome> {
    let from_anywhere = |(protocol, to)| Call { protocol, source: None, to };
    calls_from(host, calls.into_iter().map(from_anywhere).collect())
}

/// The same from given addresses of the host.
pub(crate) fn calls_from(host: &Host, calls: Vec<Call>) -> Vec<Outcome> {
    host.run(move || {
        let share = calls.len().div_ceil(AT_A_TIME).max(1);
        // Threads start in their parent's namespace.
        thread::scope(|scope| {
            let workers: Vec<_> = calls
                .chunks(share)
                .map(|part| scope.spawn(move || part.iter().map(call_here).collect::<Vec<_>>()))
                .collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        })
    })
}

fn call_here(call: &Call) -> Outcome {
    match call.protocol {
        Protocol::Tcp => tcp_here(call.source, call.to),
        Protocol::Udp => udp_here(call.source, call.to),
        Protocol::Sctp => super::sctp::call_here(call.source, call.to),
    }
}

/// Calls of one host by TCP and UDP, all at the same time.
pub(crate) fn both_to(host: &Host, to: &[&str]) -> Vec<(String, Outcome)> {
    let each: Vec<(Protocol, SocketAddr)> = to
        .iter()
        .map(|to| to.parse().unwrap_or_else(|error| panic!("{to}: {error}")))
        .flat_map(|to| [(Protocol::Tcp, to), (Protocol::Udp, to)])
        .collect();
    let names: Vec<String> = each.iter().map(|(protocol, to)| format!("{protocol} {to}")).collect();
    names.into_iter().zip(calls(host, each)).collect()
}

fn tcp_here(source: Option<IpAddr>, to: SocketAddr) -> Outcome {
    match stream_here(source, to, socket2::Protocol::TCP) {
        Ok(mut stream) => ask(&mut stream),
        Err(error) => failure(&error),
    }
}

/// Opens a connection that reads and writes like TCP's.
pub(crate) fn stream_here(
    source: Option<IpAddr>,
    to: SocketAddr,
    protocol: socket2::Protocol,
) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(protocol))?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    socket.connect_timeout(&to.into(), patience())?;
    Ok(socket.into())
}

fn udp_here(source: Option<IpAddr>, to: SocketAddr) -> Outcome {
    match udp_socket_here(source, to) {
        Ok(socket) => udp_ask(&socket),
        Err(error) => failure(&error),
    }
}

/// Opens a TCP connection that stays.
pub(crate) fn connect(host: &Host, to: SocketAddr) -> TcpStream {
    host.run(move || TcpStream::connect_timeout(&to, patience()).expect("a connection"))
}

/// Asks over an open connection.
pub(crate) fn ask(stream: &mut TcpStream) -> Outcome {
    stream.set_read_timeout(Some(patience())).unwrap();
    let mut text = [0; 64];
    match stream.write_all(b"?").and_then(|()| patiently(|| stream.read(&mut text))) {
        Ok(0) => Outcome::Silence,
        Ok(n) => answer(std::str::from_utf8(&text[..n]).unwrap()),
        Err(error) => failure(&error),
    }
}

/// Waits again when a machine that was suspended cut the wait short.
fn patiently(mut wait: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match wait() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// A UDP socket that keeps its port.
pub(crate) fn udp_socket(host: &Host, to: SocketAddr) -> UdpSocket {
    host.run(move || udp_socket_here(None, to).unwrap())
}

fn udp_socket_here(source: Option<IpAddr>, to: SocketAddr) -> io::Result<UdpSocket> {
    let any =
        if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((source.unwrap_or(any), 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(patience()))?;
    Ok(socket)
}

/// Asks over a UDP socket.
pub(crate) fn udp_ask(socket: &UdpSocket) -> Outcome {
    match socket.send(b"?") {
        // A node is told so of its own datagram that must not leave, be it rejected or dropped;
        // of one that is rejected it is told that, too.
        Err(error) if error.kind() != ErrorKind::PermissionDenied => return failure(&error),
        _ => {}
    }
    let mut text = [0; 64];
    match patiently(|| socket.recv(&mut text)) {
        Ok(n) => answer(std::str::from_utf8(&text[..n]).unwrap()),
        Err(error) => failure(&error),
    }
}

/// Two nodes with pods, a client outside, and the switch between them.
pub(crate) struct Net {
    pub(crate) node1: Host,
    pub(crate) node2: Host,
    /// Pods of node 1.
    pub(crate) a: Host,
    pub(crate) b: Host,
    /// A pod of node 2.
    pub(crate) c: Host,
    pub(crate) client: Host,
    _switch: Host,
}

/// How the bridge treats what crosses it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BridgeStyle {
    /// `net.bridge.bridge-nf-call-iptables`.
    pub(crate) netfilter: bool,
    /// A bridge that isn't ours is in the same namespace.
    pub(crate) foreign_bridge: bool,
    /// Pods' ports are isolated from each other.
    pub(crate) isolated: bool,
    /// A pod's port may get back what came from it.
    pub(crate) hairpin: bool,
}

impl Net {
    pub(crate) fn new(style: BridgeStyle) -> Self {
        let switch = Host::new();
        switch.ip("link add br0 type bridge");
        switch.ip("link set br0 up");
        let on_switch = |port: &str, addr: &str| {
            let host = Host::new();
            switch.cable(port, &host, "eth0");
            switch.ip(&format!("link set {port} master br0"));
            host.ip(&format!("address add {addr}/24 dev eth0"));
            host.ip(&format!("address add fd56::{}/64 dev eth0 nodad", &addr[11..]));
            host
        };
        let node1 = on_switch("n1", "192.168.56.70");
        let node2 = on_switch("n2", "192.168.56.71");
        let client = on_switch("client", "192.168.56.10");
        // External addresses are node 1's business, as a router outside would have it. The cluster's
        // own addresses are nobody's business out there.
        for (network, gateway) in [
            ("172.30.1.0/24", "192.168.56.70"),
            ("203.0.113.0/24", "192.168.56.70"),
            ("2001:db8:1::/48", "fd56::70"),
            ("2001:db8:2::/48", "fd56::70"),
        ] {
            client.ip(&format!("route add {network} via {gateway}"));
        }
        for (node, n) in [(&node1, 1), (&node2, 2)] {
            node.ip("link add mini0 type bridge");
            node.ip(&format!("address add 10.244.{n}.1/24 dev mini0"));
            node.ip(&format!("address add fd44:{n}::1/64 dev mini0 nodad"));
            node.ip("link set mini0 up");
            // So that there is somewhere to send what is not translated; nobody there forwards it.
            node.ip("route add default via 192.168.56.10");
            node.ip("route add default via fd56::10");
            if style.foreign_bridge {
                node.ip("link add docker0 type bridge");
            }
            if std::path::Path::new("/proc/sys/net/bridge").exists() {
                let value = if style.netfilter { "1" } else { "0" };
                node.write("/proc/sys/net/bridge/bridge-nf-call-iptables", value);
                node.write("/proc/sys/net/bridge/bridge-nf-call-ip6tables", value);
            }
        }
        let a = pod(&node1, "pod-a", 1, 5, style);
        let b = pod(&node1, "pod-b", 1, 6, style);
        let c = pod(&node2, "pod-c", 2, 5, style);
        Self { node1, node2, a, b, c, client, _switch: switch }
    }
}

fn pod(node: &Host, port: &str, n: u8, last: u8, style: BridgeStyle) -> Host {
    let pod = Host::new();
    node.cable(port, &pod, "eth0");
    node.ip(&format!("link set {port} master mini0"));
    let switch = |on: bool| if on { "on" } else { "off" };
    let (isolated, hairpin) = (switch(style.isolated), switch(style.hairpin));
    node.ip(&format!("link set {port} type bridge_slave isolated {isolated} hairpin {hairpin}"));
    pod.ip(&format!("address add 10.244.{n}.{last}/32 dev eth0"));
    pod.ip(&format!("route add 10.244.{n}.1 dev eth0"));
    pod.ip(&format!("route add default via 10.244.{n}.1"));
    pod.ip(&format!("address add fd44:{n}::{last}/128 dev eth0 nodad"));
    pod.ip(&format!("route add fd44:{n}::1 dev eth0"));
    pod.ip(&format!("route add default via fd44:{n}::1"));
    pod
}

/// Real packets need root. Without it: a loud skip, which is a failure in CI.
pub(crate) fn root() -> bool {
    static SAID: OnceLock<()> = OnceLock::new();
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "CI must run the packet tests as root");
    SAID.get_or_init(|| {
        let _ = writeln!(io::stderr(), "SKIPPED: tests with real packets need root");
    });
    false
}
