//! Measures Services: what a virtual address costs, and how fast the kernel follows the API.
//!
//! A real `minictl netd` against a real `minictl server`, on networks of namespaces made for it:
//! one with 10 Services, one with 10,000 of four endpoints each. Figures are ratios of runs that
//! take turns, or medians. `services FILE` writes the table there, too.

#![expect(clippy::print_stdout, reason = "the table is what it is run for")]

mod api;
mod kernel;
mod load;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use e2e::bed::{Bed, Host, NODE_1, POD_B, POD_C, Process};
use e2e::figure::{Bound, Figure, median, spread, table};

use api::Api;
use kernel::Changes;
use load::{ECHO, Pairs, SINK};

/// How many Services the two networks have.
const FEW: u32 = 10;
const SOME: u32 = 100;
const MANY: u32 = 10_000;
/// Pairs of runs of each ratio, and the time of one run.
const ROUNDS: usize = 101;
const SLOT: Duration = Duration::from_millis(50);
/// First packets in a row on one network before it is the other's turn, and turns.
const BLOCK: u32 = 100;
const BLOCKS: u32 = 61;
/// Changes of one Service's endpoints.
const CHANGES: u32 = 51;
/// A start from nothing is repeated this often.
const STARTS: usize = 3;
/// How long netd may take to begin, and how long a pause tells that it is done.
const PATIENCE: Duration = Duration::from_secs(60);
const QUIET: Duration = Duration::from_millis(1500);
/// How long nothing may be written when nothing changes.
const IDLE: Duration = Duration::from_secs(10);

fn main() {
    let few = Cluster::start(FEW);
    let mut figures = few.paths();
    let many = Cluster::start(MANY);
    figures.push(first_packets(&few, &many));
    figures.extend(many.program());
    figures.extend(few.memory());
    let text = table(&figures);
    println!("{text}");
    if let Some(file) = std::env::args().nth(1) {
        std::fs::write(&file, &text).expect("a writable file");
    }
}

/// A network with an API server and netd.
struct Cluster {
    services: u32,
    bed: Bed,
    kubeconfig: std::path::PathBuf,
    netd: Process,
    _server: Process,
}

impl Cluster {
    fn start(services: u32) -> Self {
        let bed = Bed::new();
        let server = bed.start_server();
        let admin = bed.kubeconfig("admin", "system:masters");
        let api = Api::new(&bed, &admin);
        api.register_nodes();
        api::load_service(&api, "near", "10.96.100.1", POD_B, 31000);
        api::load_service(&api, "far", "10.96.100.2", POD_C, 31010);
        api.fill(0, services);
        for pod in [&bed.pod_b, &bed.pod_c] {
            pod.run(load::serve);
        }
        let kubeconfig = bed.kubeconfig("system:node:node-1", "system:nodes");
        let (netd, took) = cold_start(&bed, &kubeconfig);
        println!("{services} Services served after {} ms", took.as_millis());
        Self { services, bed, kubeconfig, netd, _server: server }
    }

    fn api(&self) -> Api<'_> {
        Api::new(&self.bed, &self.bed.kubeconfig("admin", "system:masters"))
    }
}

/// From the start of the process to its last change of the kernel.
fn cold_start(bed: &Bed, kubeconfig: &std::path::Path) -> (Process, Duration) {
    let changes = bed.node_1.run(Changes::of_tables);
    let start = Instant::now();
    let netd = bed.start_netd(kubeconfig);
    let Some(last) = changes.last(PATIENCE, QUIET) else {
        panic!("netd programs nothing\n{}", bed.logs())
    };
    (netd, last - start)
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().expect("an address"), port)
}

impl Cluster {
    /// What the way by a virtual address costs, compared with the way to the pod itself.
    fn paths(&self) -> Vec<Figure> {
        let bed = &self.bed;
        let mut figures = Vec::new();
        let paths = [
            ("ClusterIP, same node", &bed.pod_a, POD_B, "10.96.100.1", (80, 90), true),
            ("ClusterIP, other node", &bed.pod_a, POD_C, "10.96.100.2", (80, 90), true),
            // The way to the pod itself leads by the same node.
            ("nodePort, same node", &bed.outside, POD_B, NODE_1, (31000, 31001), false),
        ];
        for (name, from, pod, address, ports, bounded) in paths {
            let bound = if bounded { Bound::Least(0.97) } else { Bound::None };
            let bulk = (at(pod, SINK), at(address, ports.1));
            figures.push(ratio(from, &format!("throughput, {name} ÷ direct"), bound, bulk, |to| {
                load::throughput(to, SLOT)
            }));
            let calls = (at(pod, ECHO), at(address, ports.0));
            let name = format!("connections/s, {name} ÷ direct");
            figures.push(ratio(from, &name, bound, calls, |to| load::connections(to, SLOT)));
        }
        figures
    }

    /// How netd follows the API with many Services.
    fn program(self) -> Vec<Figure> {
        let mut figures = self.changes();
        figures.push(self.idle());
        let rss = self.netd.kilobytes("VmRSS");
        let peak = self.netd.kilobytes("VmHWM");
        figures.push(megabytes(self.services, rss, peak, 80.0));
        let Self { bed, kubeconfig, netd, .. } = self;
        netd.stop();
        let mut starts = Vec::new();
        for _ in 0..STARTS {
            bed.node_1.command("nft", "delete table inet minictl");
            let (netd, took) = cold_start(&bed, &kubeconfig);
            starts.push(millis(took));
            netd.stop();
        }
        let name =
            format!("{MANY} Services × 4 endpoints, start of netd to the last in the kernel");
        let note = spread(&starts);
        figures.push(Figure::bounded(&name, median(&starts), " ms", Bound::Most(1000.0), note));
        figures
    }

    fn changes(&self) -> Vec<Figure> {
        let api = self.api();
        let kernel = self.bed.node_1.run(Changes::of_tables);
        let (mut from_event, mut from_request) = (Vec::new(), Vec::new());
        for round in 0..CHANGES {
            let n = round * 193 % self.services;
            let (sent, heard) = api.change(n, 1000 + n);
            let programmed = kernel.next(PATIENCE).expect("the change reaches the kernel");
            from_event.push(millis(programmed.saturating_duration_since(heard)));
            from_request.push(millis(programmed - sent));
        }
        let of = |what: &str| format!("one endpoint change at {} Services, {what}", self.services);
        let figure = |what: &str, times: &[f64], bound| {
            Figure::bounded(&of(what), median(times), " ms", bound, spread(times))
        };
        vec![
            figure("watch event to kernel", &from_event, Bound::Most(5.0)),
            figure("request to kernel", &from_request, Bound::None),
        ]
    }

    /// Counts what is written while nothing changes.
    fn idle(&self) -> Figure {
        let kernel = self.bed.node_1.run(Changes::of_everything);
        let end = Instant::now() + IDLE;
        let mut writes = 0.0;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            writes += f64::from(u8::from(kernel.next(left).is_some()));
        }
        let name = format!("writes to the kernel in {} s without a change", IDLE.as_secs());
        Figure::bounded(&name, writes, "", Bound::Most(0.0), format!("{} Services", self.services))
    }

    /// Memory with some Services, of a netd that started with them.
    fn memory(self) -> Vec<Figure> {
        self.api().fill(self.services, SOME);
        let Self { bed, kubeconfig, netd, .. } = self;
        netd.stop();
        let (netd, _) = cold_start(&bed, &kubeconfig);
        vec![megabytes(SOME, netd.kilobytes("VmRSS"), netd.kilobytes("VmHWM"), 15.0)]
    }
}

fn ratio(
    from: &Host,
    name: &str,
    bound: Bound,
    targets: (SocketAddr, SocketAddr),
    measure: impl Fn(SocketAddr) -> f64 + Send + 'static,
) -> Figure {
    let pairs = from.run(move || Pairs::run(ROUNDS, targets, measure));
    let ratios = pairs.ratios();
    let note = format!(
        "{}; direct {:.1}, by the address {:.1}",
        spread(&ratios),
        median(&pairs.base),
        median(&pairs.other)
    );
    println!("{name}: {:.3} ({note})", median(&ratios));
    Figure::bounded(name, median(&ratios), "", bound, note)
}

/// Time until the first packet's answer, many Services ÷ few, block by block.
fn first_packets(few: &Cluster, many: &Cluster) -> Figure {
    let block = |cluster: &Cluster, round: u32| {
        let services = cluster.services;
        cluster.bed.pod_a.run(move || {
            let times: Vec<f64> = (0..BLOCK)
                .map(|i| {
                    // Another Service each time, far from the last one.
                    let n = (round * BLOCK + i).wrapping_mul(7919) % services;
                    let took = load::first_packet(SocketAddr::new(api::address(n), 80));
                    took.expect("a Service answers").as_secs_f64() * 1e6
                })
                .collect();
            median(&times)
        })
    };
    let (mut base, mut ratios) = (Vec::new(), Vec::new());
    for round in 0..BLOCKS {
        let (little, much) = if round % 2 == 0 {
            let little = block(few, round);
            (little, block(many, round))
        } else {
            let much = block(many, round);
            (block(few, round), much)
        };
        base.push(little);
        ratios.push(much / little);
    }
    let note = format!("{}; {:.1} µs at {FEW}", spread(&ratios), median(&base));
    let name = format!("first packet there and back, {MANY} Services ÷ {FEW}");
    Figure::bounded(&name, median(&ratios), "", Bound::Most(1.05), note)
}

fn megabytes(services: u32, rss: u64, peak: u64, limit: f64) -> Figure {
    let megabytes = |kilobytes: u64| {
        f64::from(u32::try_from(kilobytes).expect("less than four terabytes")) / 1024.0
    };
    let name = format!("memory of netd at {services} Services");
    let note = format!("at most {:.0} MB since its start", megabytes(peak));
    Figure::bounded(&name, megabytes(rss), " MB", Bound::Most(limit), note)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
