//! Questions: one after the other, and as many as `dnsperf` can.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use e2e::bed::Bed;

use crate::{CLIENT, SERVICES, inside};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Clients and outstanding questions of `dnsperf`.
const CLIENTS: &str = "8";
const OUTSTANDING: &str = "64";

/// Asks one question after the other.
pub(crate) struct Asker {
    socket: UdpSocket,
    id: u16,
}

impl Asker {
    /// In the calling thread's network namespace.
    pub(crate) fn new(to: SocketAddr) -> Self {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a free port");
        socket.connect(to).expect("a route");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        Self { socket, id: 1 }
    }

    /// The addresses of a name.
    pub(crate) fn ask(&mut self, name: &str) -> io::Result<Vec<Ipv4Addr>> {
        self.id = self.id.wrapping_add(1);
        self.socket.send(&question(self.id, name))?;
        let mut answer = [0; 4096];
        loop {
            let length = self.socket.recv(&mut answer)?;
            let answer = &answer[..length];
            // One that comes late belongs to an earlier question.
            if answer.starts_with(&self.id.to_be_bytes()) {
                return addresses(answer, name).ok_or_else(|| {
                    io::Error::other(format!("{name}: {:?}", &answer[..length.min(12)]))
                });
            }
        }
    }
}

fn question(id: u16, name: &str) -> Vec<u8> {
    let mut packet = id.to_be_bytes().to_vec();
    // Recursion desired; one question.
    packet.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        packet.push(u8::try_from(label.len()).expect("a short label"));
        packet.extend(label.as_bytes());
    }
    // The root; address; Internet.
    packet.extend([0, 0, 1, 0, 1]);
    packet
}

/// The addresses of an answer without an error. Names of records must be pointers, as all servers
/// write them.
fn addresses(answer: &[u8], name: &str) -> Option<Vec<Ipv4Addr>> {
    if answer.get(3)? & 0x0f != 0 {
        return None;
    }
    let count = u16::from_be_bytes([answer[6], answer[7]]);
    let mut rest = answer.get(12 + name.len() + 2 + 4..)?;
    let mut out = Vec::new();
    for _ in 0..count {
        let kind = u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]);
        let length = usize::from(u16::from_be_bytes([*rest.get(10)?, *rest.get(11)?]));
        let data = rest.get(12..12 + length)?;
        if kind == 1 {
            out.push(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?));
        }
        rest = &rest[12 + length..];
    }
    (!out.is_empty()).then_some(out)
}

/// Microseconds of questions one after the other; beside them so many a second of `dnsperf`.
pub(crate) fn delays(bed: &Bed, to: SocketAddr, time: Duration, others: Option<u32>) -> Vec<f64> {
    let one_after_the_other = move || {
        bind_to_processor(CLIENT);
        let mut asker = Asker::new(to);
        let end = Instant::now() + time;
        let mut times = Vec::new();
        while Instant::now() < end {
            let n =
                u32::try_from(times.len()).expect("few questions").wrapping_mul(7919) % SERVICES;
            let name = inside(n);
            let start = Instant::now();
            match asker.ask(&name) {
                Ok(_) => {}
                // A question that is lost is one that took as long as its client waits.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
        times
    };
    let Some(rate) = others else { return bed.pod_a.run(one_after_the_other) };
    let names: Vec<String> = (0..SERVICES).map(inside).collect();
    std::thread::scope(|scope| {
        let load = scope.spawn(|| by_dnsperf_from(&bed.pod_b, bed, to, &names, time, Some(rate)));
        let times = bed.pod_a.run(one_after_the_other);
        load.join().expect("dnsperf ran to its end");
        times
    })
}

fn bind_to_processor(number: &str) {
    let mut set = nix::sched::CpuSet::new();
    set.set(number.parse().expect("a number")).expect("a processor");
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set).expect("it is there");
}

/// How many answers `dnsperf` got, and how many a second.
pub(crate) fn by_dnsperf(
    bed: &Bed,
    to: SocketAddr,
    names: &[String],
    time: Duration,
    most: Option<u32>,
) -> (f64, f64) {
    by_dnsperf_from(&bed.pod_a, bed, to, names, time, most)
}

fn by_dnsperf_from(
    pod: &e2e::bed::Host,
    bed: &Bed,
    to: SocketAddr,
    names: &[String],
    time: Duration,
    most: Option<u32>,
) -> (f64, f64) {
    let file: PathBuf = bed.folder.path().join(format!("questions-{}", names[0]));
    let lines: String = names.iter().map(|name| format!("{name} A\n")).collect();
    std::fs::write(&file, lines).expect("a writable folder");
    let most = most.map(|rate| format!("-Q {rate}")).unwrap_or_default();
    let args = format!(
        "-c {CLIENT} dnsperf -s {} -p {} -d {} -l {} -c {CLIENTS} -q {OUTSTANDING} {most}",
        to.ip(),
        to.port(),
        file.display(),
        time.as_secs()
    );
    let text = pod.command("taskset", &args);
    let number = |what: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(what));
        let word = line.and_then(|rest| rest.split_whitespace().next());
        word.and_then(|n| n.parse::<f64>().ok()).unwrap_or_else(|| panic!("{what}?\n{text}"))
    };
    (number("Queries completed:"), number("Queries per second:"))
}
