//! What the way by a virtual address costs, compared with the way to the pod itself.

use std::net::SocketAddr;
use std::time::Duration;

use e2e::bed::{NODE_1, POD_B, POD_C};
use e2e::figure::{Bound, Figure, median, spread};

use crate::load::{self, ECHO, IPERF, Pairs, SINK};
use crate::{Cluster, FEW, MANY, api};

/// The addresses of the Services for load: a pod on the same node, and one on the other.
pub(crate) const NEAR: &str = "10.96.100.1";
/// See [`NEAR`].
pub(crate) const FAR: &str = "10.96.100.2";
/// The node ports of the Service on the same node begin here.
pub(crate) const NODE_PORT: u16 = 31000;

/// Pairs of runs of each ratio, and the time of one run.
const ROUNDS: usize = 101;
const SLOT: Duration = Duration::from_millis(50);
/// Pairs of runs of the second tool, a second each.
const SECOND_ROUNDS: usize = 5;
/// First packets in a row on one network before it is the other's turn, and turns.
const BLOCK: u32 = 100;
const BLOCKS: u32 = 61;

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().expect("an address"), port)
}

/// Throughput and connections by the address ÷ those to the pod itself.
pub(crate) fn by_address(cluster: &Cluster) -> Vec<Figure> {
    let bed = &cluster.bed;
    let (pod, outside, limit) = (&bed.pod_a, &bed.outside, Bound::Least(0.97));
    let (first, second) = (NODE_PORT, NODE_PORT + 1);
    let paths = [
        ("ClusterIP, same node", pod, POD_B, NEAR, (80, 90), limit),
        ("ClusterIP, other node", pod, POD_C, FAR, (80, 90), limit),
        // The way from outside to the pod itself leads by the same node.
        ("nodePort, same node", outside, POD_B, NODE_1, (first, second), Bound::None),
    ];
    let mut figures = Vec::new();
    for (name, from, pod, address, ports, bound) in paths {
        let targets = (at(pod, SINK), at(address, ports.1));
        let pairs = from.run(move || Pairs::run(ROUNDS, targets, |to| load::throughput(to, SLOT)));
        figures.push(ratio(&format!("throughput, {name}"), "Gbit/s", bound, &pairs));
        let targets = (at(pod, ECHO), at(address, ports.0));
        let pairs = from.run(move || Pairs::run(ROUNDS, targets, |to| load::connections(to, SLOT)));
        figures.push(ratio(&format!("connections, {name}"), "/s", bound, &pairs));
    }
    figures
}

fn ratio(name: &str, unit: &str, bound: Bound, pairs: &Pairs) -> Figure {
    let ratios = pairs.ratios();
    let (direct, other) = (median(&pairs.base), median(&pairs.other));
    let digits = usize::from(direct < 1000.0);
    let note = format!(
        "{}; direct {direct:.digits$} {unit}, by the address {other:.digits$} {unit}",
        spread(&ratios)
    );
    println!("{name}: {:.3} ({note})", median(&ratios));
    Figure::bounded(&format!("{name} ÷ direct"), median(&ratios), "", bound, note)
}

/// The same by another tool, where it is installed.
pub(crate) fn second_opinion(cluster: &Cluster) -> Option<Figure> {
    if e2e::run("which", &["iperf3"]).code != 0 {
        return None;
    }
    let bed = &cluster.bed;
    let log = bed.folder.path().join("iperf3.log");
    let port = IPERF.to_string();
    let server = bed.pod_b.start("iperf3".as_ref(), &["-s", "-p", &port], &log);
    let pairs = bed.pod_a.run(move || {
        Pairs::run(SECOND_ROUNDS, (at(POD_B, IPERF), at(NEAR, IPERF)), load::by_iperf)
    });
    drop(server);
    Some(ratio("throughput, ClusterIP, same node, by iperf3", "Gbit/s", Bound::None, &pairs))
}

/// Time until the first packet's answer, many Services ÷ few.
///
/// Beside it the same without any Service, to as many addresses of one pod: what the caller itself
/// pays for calling somebody else each time.
pub(crate) fn first_packets(few: &Cluster, many: &Cluster) -> Figure {
    let by_address = |n| SocketAddr::new(api::address(n), 80);
    let (base, ratios) = turns(&[(few, FEW), (many, MANY)], by_address);
    let direct = |n| SocketAddr::new(api::endpoint(n), ECHO);
    let (_, control) = turns(&[(many, FEW), (many, MANY)], direct);
    let note = format!(
        "{}; {:.1} µs at {FEW}; without Services {:.3}",
        spread(&ratios),
        median(&base),
        median(&control)
    );
    let name = format!("first packet there and back, {MANY} Services ÷ {FEW}");
    println!("{name}: {:.3} ({note})", median(&ratios));
    Figure::bounded(&name, median(&ratios), "", Bound::Most(1.05), note)
}

/// Two sides take turns in blocks of calls, each to so many targets. Answers the microseconds of
/// each block of the first, and second ÷ first of each pair.
fn turns(sides: &[(&Cluster, u32); 2], target: fn(u32) -> SocketAddr) -> (Vec<f64>, Vec<f64>) {
    let block = |(cluster, targets): (&Cluster, u32), round: u32| {
        cluster.bed.pod_a.run(move || {
            let times: Vec<f64> = (0..BLOCK)
                .map(|i| {
                    // Another one each time, far from the last one.
                    let n = (round * BLOCK + i).wrapping_mul(7919) % targets;
                    let took = load::first_packet(target(n)).expect("somebody answers");
                    took.as_secs_f64() * 1e6
                })
                .collect();
            median(&times)
        })
    };
    (0..BLOCKS)
        .map(|round| {
            let (first, second) = if round % 2 == 0 {
                let first = block(sides[0], round);
                (first, block(sides[1], round))
            } else {
                let second = block(sides[1], round);
                (block(sides[0], round), second)
            };
            (first, second / first)
        })
        .unzip()
}
