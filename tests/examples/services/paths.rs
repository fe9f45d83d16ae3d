//! What the way by a virtual address costs, compared with the way to the pod itself.

use std::net::SocketAddr;
use std::time::Duration;

use e2e::bed::{NODE_1, POD_B, POD_C};
use e2e::figure::{Bound, Figure, certainty, median, spread};

use crate::Cluster;
use crate::load::{self, ECHO, IPERF, Pairs, SINK, as_client};

/// The addresses of the Services for load: a pod on the same node, and one on the other.
pub(crate) const NEAR: &str = "10.96.100.1";
/// See [`NEAR`].
pub(crate) const FAR: &str = "10.96.100.2";
/// The node ports of the Service on the same node begin here.
pub(crate) const NODE_PORT: u16 = 31000;

/// Pairs of runs of each ratio, and the time of one run: short and many, because what disturbs a
/// machine comes and goes in hundredths of a second.
const ROUNDS: usize = 601;
const SLOT: Duration = Duration::from_millis(8);
/// Pairs of runs of the second tool, a second each.
const SECOND_ROUNDS: usize = 5;

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
        let pairs = from.run(move || as_client(|| load::throughput(targets, ROUNDS, SLOT)));
        figures.push(ratio(&format!("throughput, {name}"), "Gbit/s", bound, &pairs));
        let targets = (at(pod, ECHO), at(address, ports.0));
        let calls = |to| load::connections(to, SLOT);
        let pairs = from.run(move || as_client(|| Pairs::of(ROUNDS, targets, calls)));
        figures.push(ratio(&format!("connections, {name}"), "/s", bound, &pairs));
    }
    figures
}

fn ratio(name: &str, unit: &str, bound: Bound, pairs: &Pairs) -> Figure {
    let ratios = pairs.ratios();
    let (direct, other) = (median(&pairs.base), median(&pairs.other));
    let digits = usize::from(direct < 1000.0);
    let note = format!(
        "{}, middle half {}; direct {direct:.digits$} {unit}, by the address {other:.digits$} {unit}",
        certainty(&ratios),
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
    let pairs = bed
        .pod_a
        .run(move || Pairs::of(SECOND_ROUNDS, (at(POD_B, IPERF), at(NEAR, IPERF)), load::by_iperf));
    drop(server);
    Some(ratio("throughput, ClusterIP, same node, by iperf3", "Gbit/s", Bound::None, &pairs))
}
