//! The two ends of a call under load, and pairs of runs whose ratio is the figure.
//!
//! Everything runs in the calling thread's network namespace. Noise of the machine hits both runs
//! of a pair alike, because they are short, follow one another at once and change their order every
//! time; and each end has a processor of its own, so that the scheduler does not move them about.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::Pid;

/// Answers a byte to each connection, and ends it.
pub(crate) const ECHO: u16 = 8080;
/// Swallows whatever it is sent.
pub(crate) const SINK: u16 = 9090;
/// Where `iperf3` listens, and its Service, too.
pub(crate) const IPERF: u16 = 5201;

const BLOCK: usize = 128 * 1024;
/// Turns before those that count.
const WARM_UP: usize = 20;
/// How long an answer may take before the measurement is worth nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// Listens on both ports of this namespace, for as long as the program runs.
pub(crate) fn serve() {
    let listen = |port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("a free port");
    let (echo, sink) = (listen(ECHO), listen(SINK));
    thread::spawn(move || {
        stay_on(End::Server);
        for mut stream in echo.incoming().flatten() {
            let mut byte = [0];
            // A caller that only wanted to be let in has gone.
            if stream.read(&mut byte).is_ok_and(|n| n == 1) {
                let _ = stream.write_all(&byte);
                let _ = stream.read(&mut byte);
            }
        }
    });
    thread::spawn(move || {
        for mut stream in sink.incoming().flatten() {
            thread::spawn(move || {
                stay_on(End::Server);
                let mut block = vec![0; BLOCK];
                while stream.read(&mut block).is_ok_and(|n| n > 0) {}
            });
        }
    });
}

/// Who calls, and who is called.
#[derive(Clone, Copy)]
enum End {
    Client,
    Server,
}

/// Binds the calling thread to the processor of its end; where there is only one, both have it.
fn stay_on(end: End) {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let mut set = CpuSet::new();
    let own = match end {
        End::Client => 0,
        End::Server => 1.min(processors - 1),
    };
    set.set(own).expect("a processor's number");
    sched_setaffinity(Pid::from_raw(0), &set).expect("a thread may stay where it is");
}

/// Runs a client on its processor, in the namespace of the calling thread.
pub(crate) fn as_client<T: Send>(job: impl FnOnce() -> T + Send) -> T {
    let client = || {
        stay_on(End::Client);
        job()
    };
    // A thread of its own: what the caller starts later is not bound.
    thread::scope(|scope| scope.spawn(client).join().expect("the client did not panic"))
}

/// A connection that leaves nothing behind when it is dropped: it ends with a reset.
fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    let at_once = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(&stream, sockopt::Linger, &at_once)?;
    Ok(stream)
}

/// How long it takes to be let in: the first packet's way there and back.
pub(crate) fn first_packet(to: SocketAddr) -> io::Result<Duration> {
    let start = Instant::now();
    let stream = connect(to)?;
    let took = start.elapsed();
    drop(stream);
    Ok(took)
}

/// Connections per second, each with a byte there and a byte back.
pub(crate) fn connections(to: SocketAddr, time: Duration) -> f64 {
    let start = Instant::now();
    let mut count = 0.0;
    while start.elapsed() < time {
        let mut stream = connect(to).unwrap_or_else(|error| panic!("{to}: {error}"));
        let mut byte = [b'?'];
        stream.write_all(&byte).expect("an open connection");
        stream.read_exact(&mut byte).expect("an answer");
        count += 1.0;
    }
    count / start.elapsed().as_secs_f64()
}

/// Gigabits per second of two connections that take turns.
///
/// Both stay open, so that windows are, too, before the first turn.
pub(crate) fn throughput(
    targets: (SocketAddr, SocketAddr),
    rounds: usize,
    time: Duration,
) -> Pairs {
    let open = |to| connect(to).unwrap_or_else(|error| panic!("{to}: {error}"));
    let mut streams = (open(targets.0), open(targets.1));
    for _ in 0..WARM_UP {
        send(&mut streams.0, time);
        send(&mut streams.1, time);
    }
    Pairs::run(rounds, &mut streams, |(first, second), other| {
        send(if other { second } else { first }, time)
    })
}

fn send(stream: &mut TcpStream, time: Duration) -> f64 {
    let block = [0; BLOCK];
    let start = Instant::now();
    let mut blocks = 0.0;
    while start.elapsed() < time {
        stream.write_all(&block).expect("an open connection");
        blocks += 1.0;
    }
    let bits = blocks * f64::from(u32::try_from(BLOCK * 8).expect("a small block"));
    bits / start.elapsed().as_secs_f64() / 1e9
}

/// Gigabits per second as `iperf3` counts them, in a second.
pub(crate) fn by_iperf(to: SocketAddr) -> f64 {
    let (address, port) = (to.ip().to_string(), to.port().to_string());
    let args = ["-c", &address, "-p", &port, "-t", "1", "-J"];
    // Its server needs a moment to be ready for the next one.
    e2e::wait_for("a run of iperf3", PATIENCE, || {
        let answer = e2e::run("iperf3", &args);
        let report: serde_json::Value = serde_json::from_str(&answer.out).unwrap_or_default();
        let bits = report["end"]["sum_sent"]["bits_per_second"].as_f64();
        bits.map(|bits| bits / 1e9).ok_or_else(|| answer.to_string())
    })
}

/// Pairs of runs, in turns.
pub(crate) struct Pairs {
    /// Each run of the yardstick.
    pub(crate) base: Vec<f64>,
    /// Each run of what is measured.
    pub(crate) other: Vec<f64>,
}

impl Pairs {
    /// Takes turns between two sides: A B, B A, A B, … `measure` is told whether it is the other's.
    pub(crate) fn run<S>(
        rounds: usize,
        sides: &mut S,
        mut measure: impl FnMut(&mut S, bool) -> f64,
    ) -> Self {
        let (mut base, mut other) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            if round % 2 == 0 {
                base.push(measure(sides, false));
                other.push(measure(sides, true));
            } else {
                other.push(measure(sides, true));
                base.push(measure(sides, false));
            }
        }
        Self { base, other }
    }

    /// The same between two addresses.
    pub(crate) fn of(
        rounds: usize,
        targets: (SocketAddr, SocketAddr),
        mut measure: impl FnMut(SocketAddr) -> f64,
    ) -> Self {
        Self::run(rounds, &mut (), |(), other| measure(if other { targets.1 } else { targets.0 }))
    }

    /// Other ÷ base, of each pair.
    pub(crate) fn ratios(&self) -> Vec<f64> {
        self.other.iter().zip(&self.base).map(|(other, base)| other / base).collect()
    }
}
