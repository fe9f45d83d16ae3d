//! How many answers one core gives, and how long one takes: `cargo bench -p dns`.
//!
//! The server runs on one thread, clients on another; the server's own time on a processor is what
//! counts, so that the figure is the same on a machine that is busy otherwise.
#![expect(clippy::print_stdout, reason = "figures are what this program is for")]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use dns::zone::Service;
use dns::{Dns, DomainName};

/// Services in the zone.
const SERVICES: u32 = 10_000;
/// Clients that ask one question after the other.
const CLIENTS: usize = 8;
/// How long each load lasts.
const WHILE: Duration = Duration::from_secs(3);

fn main() {
    let (at, server) = start();
    println!("{SERVICES} Services, {CLIENTS} clients, UDP on loopback, one server thread");
    for (what, names) in [
        ("one name", vec!["svc-7.default.svc.cluster.local".to_owned()]),
        ("1,000 names", names("svc", 1000)),
        ("10,000 names", names("svc", SERVICES)),
        ("names that are not there", names("none", 1000)),
    ] {
        let packets: Vec<Vec<u8>> = names.iter().map(|name| packet(name)).collect();
        let before = time_of(&server);
        let mut times = load(at, &packets);
        let busy = time_of(&server) - before;
        times.sort_unstable();
        let p = |share: usize| times[(times.len() * share / 1000).min(times.len() - 1)];
        println!(
            "{what}: {:.0} answers/s per core ({:.2} µs each), {:.0} answers/s here; p50 {:?}, p99 {:?}, p99.9 {:?}",
            times.len() as f64 / busy.as_secs_f64(),
            busy.as_secs_f64() * 1e6 / times.len() as f64,
            times.len() as f64 / WHILE.as_secs_f64(),
            p(500),
            p(990),
            p(999),
        );
    }
}

/// Starts a server on a thread of its own; gives its address and the name of its thread in `/proc`.
fn start() -> (SocketAddr, String) {
    let domain: DomainName = "cluster.local.".parse().expect("a name");
    let dns = Dns::new("node-1", &domain, vec!["10.96.0.0/12".parse().expect("a range")]);
    dns.change(|zone| {
        for number in 0..SERVICES {
            let ip = IpAddr::from((0x0a60_0000 + number).to_be_bytes());
            let service = Service::Addresses { ips: vec![ip], ports: Vec::new() };
            zone.set_service("default", &format!("svc-{number}"), Some(service));
        }
        true
    });
    let at = UdpSocket::bind("127.0.0.1:0").and_then(|s| s.local_addr()).expect("a free port");
    dns.listen(vec![at]);
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let thread = std::fs::read_link("/proc/thread-self").expect("the name of this thread");
        let _ = tell.send(format!("/proc/{}/schedstat", thread.display()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(dns.run());
    });
    let thread = told.recv().expect("the server's thread");
    while std::net::TcpStream::connect(at).is_err() {
        std::thread::yield_now();
    }
    (at, thread)
}

/// How long a thread has been on a processor.
fn time_of(thread: &str) -> Duration {
    let text = std::fs::read_to_string(thread).expect("the thread's times");
    let nanoseconds = text.split_whitespace().next().and_then(|word| word.parse().ok());
    Duration::from_nanos(nanoseconds.expect("a number"))
}

/// Asks for a while; gives how long each answer took.
fn load(at: SocketAddr, packets: &[Vec<u8>]) -> Vec<Duration> {
    let end = Instant::now() + WHILE;
    let client = |client: usize| {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect(at).expect("a connected socket");
        socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a limit");
        let (mut times, mut buffer) = (Vec::new(), [0; 1500]);
        let mut turn = client * packets.len() / CLIENTS;
        while Instant::now() < end {
            turn += 1;
            let packet = &packets[turn % packets.len()];
            let began = Instant::now();
            socket.send(packet).expect("a question");
            if socket.recv(&mut buffer).is_ok() {
                times.push(began.elapsed());
            }
        }
        times
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..CLIENTS).map(|number| scope.spawn(move || client(number))).collect();
        clients.into_iter().flat_map(|client| client.join().expect("a client")).collect()
    })
}

fn names(stem: &str, count: u32) -> Vec<String> {
    (0..count).map(|number| format!("{stem}-{number}.default.svc.cluster.local")).collect()
}

/// A question for the addresses of a name.
fn packet(name: &str) -> Vec<u8> {
    let mut packet = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        packet.push(u8::try_from(label.len()).expect("a short label"));
        packet.extend_from_slice(label.as_bytes());
    }
    packet.extend_from_slice(&[0, 0, 1, 0, 1]);
    packet
}
