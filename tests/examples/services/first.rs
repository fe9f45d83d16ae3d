//! How long a first packet takes to its answer, and how little of that depends on how many Services
//! there are.
//!
//! One network, one caller on one processor, one table, which netd made: the elements that it has for
//! many Services and not for few are added and taken away in turns, so that nothing else differs.
//! netd is not there meanwhile; what it programmed serves on without it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use e2e::figure::{Bound, Figure, certainty, median, spread};

use crate::load::{self, ECHO, as_client};
use crate::{Cluster, FEW, MANY, api, follow};

/// How often each table is loaded.
const ROUNDS: u32 = 21;
/// First packets in a row. As many different targets fit into a round.
const CALLS: u32 = 1000;
/// The kernel takes apart what went after it answered.
const SETTLE: Duration = Duration::from_millis(300);

/// The medians of a round's calls, in microseconds.
struct Round {
    /// The first Services of all, with few and with many in the table.
    same: [f64; 2],
    /// With many in the table, each time a Service that was not called for thousands of calls.
    new: f64,
    /// Without a Service: as many pods as `same` has Services, and as many as `new`.
    direct: [f64; 2],
}

/// Measures on the network of `few`; its netd is a new one afterwards.
pub(crate) fn first_packets(few: Cluster, many: &Cluster) -> (Cluster, Vec<Figure>) {
    let more = difference(&table_of(&few), &table_of(many));
    let file = few.bed.folder.path().join("more.nft");
    let Cluster { services, bed, admin, node, netd, _server } = few;
    netd.stop();
    let change = |verb: &str| {
        let lines = more.iter().map(|(name, elements)| {
            format!("{verb} element inet minictl {name} {{ {} }}\n", elements.join(", "))
        });
        std::fs::write(&file, lines.collect::<String>()).expect("a writable folder");
        bed.node_1.command("nft", &format!("-f {}", file.display()));
        thread::sleep(SETTLE);
    };
    let service = |n| SocketAddr::new(api::address(n), 80);
    let pod = |n| SocketAddr::new(api::endpoint(n), ECHO);
    let calls = |round: u32, targets: u32, target: fn(u32) -> SocketAddr| {
        bed.pod_a.run(move || as_client(|| median(&times(round, targets, target))))
    };
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        // Each state begins every other round, so that what drifts favours neither.
        let before = (round % 2 == 0).then(|| calls(round, FEW, service));
        change("add");
        let many = calls(round, FEW, service);
        let new = calls(round, MANY, service);
        let direct = [calls(round, FEW, pod), calls(round, MANY, pod)];
        change("delete");
        let few = before.unwrap_or_else(|| calls(round, FEW, service));
        rounds.push(Round { same: [few, many], new, direct });
    }
    let figures = figures(&rounds);
    // A new netd that finds all in order would not be heard of.
    bed.node_1.command("nft", "delete table inet minictl");
    let (netd, _) = follow::start(&bed, || bed.start_netd(&node));
    (Cluster { services, bed, admin, node, netd, _server }, figures)
}

/// The elements of each set and map of a table, as nft writes them.
type Table = BTreeMap<String, BTreeSet<String>>;

fn table_of(cluster: &Cluster) -> Table {
    let text = cluster.bed.node_1.command("nft", "list table inet minictl");
    let mut table = Table::new();
    let mut name = String::new();
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("set ").or_else(|| line.strip_prefix("map ")) {
            name = rest.trim_end_matches(" {").to_owned();
        }
        let first = line.strip_prefix("elements = {");
        inside |= first.is_some();
        if !inside {
            continue;
        }
        let elements = first.unwrap_or(line);
        let last = elements.ends_with('}');
        // Only the Services' names may be longer than a line, and they have no commas.
        let elements =
            elements.trim_end_matches('}').split(", ").map(|e| e.trim().trim_end_matches(','));
        let set = table.entry(name.clone()).or_default();
        set.extend(elements.filter(|e| !e.is_empty()).map(str::to_owned));
        inside = !last;
    }
    table
}

/// What the second table has beyond the first.
fn difference(few: &Table, many: &Table) -> Vec<(String, Vec<String>)> {
    let none = BTreeSet::new();
    let more = many.iter().map(|(name, elements)| {
        let here = few.get(name).unwrap_or(&none);
        (name.clone(), elements.difference(here).cloned().collect::<Vec<_>>())
    });
    let more: Vec<_> = more.filter(|(_, elements)| !elements.is_empty()).collect();
    let count: usize = more.iter().map(|(_, elements)| elements.len()).sum();
    assert!(count >= (MANY - FEW) as usize * 5, "too few elements: {count}");
    println!("{count} elements in {:?}", more.iter().map(|(name, _)| name).collect::<Vec<_>>());
    more
}

/// Microseconds of calls to so many targets, each time another one, far from the last one.
fn times(round: u32, targets: u32, target: fn(u32) -> SocketAddr) -> Vec<f64> {
    let call = |i: u32| {
        let n = (round * CALLS + i).wrapping_mul(7919) % targets;
        load::first_packet(target(n)).expect("somebody answers").as_secs_f64() * 1e6
    };
    (0..CALLS).map(call).collect()
}

fn figures(rounds: &[Round]) -> Vec<Figure> {
    let few: Vec<f64> = rounds.iter().map(|round| round.same[0]).collect();
    let direct: Vec<f64> = rounds.iter().map(|round| round.direct[0]).collect();
    let times = format!("; {:.1} µs at {FEW}, {:.1} to the pod", median(&few), median(&direct));
    let name = format!("first packet there and back, {MANY} Services ÷ {FEW}");
    let figure = |name: &str, bound, ratio: fn(&Round) -> f64, more: &str| {
        let ratios: Vec<f64> = rounds.iter().map(ratio).collect();
        let note = format!("{}, middle half {}{more}", certainty(&ratios), spread(&ratios));
        println!("{name}: {:.3} ({note})", median(&ratios));
        Figure::bounded(name, median(&ratios), "", bound, note)
    };
    vec![
        figure(&name, Bound::Most(1.05), |r| r.same[1] / r.same[0], &times),
        figure("the same, each of them called in turn", Bound::None, |r| r.new / r.same[0], ""),
        figure(
            &format!("for comparison: {MANY} pods called in turn ÷ {FEW}, without a Service"),
            Bound::None,
            |r| r.direct[1] / r.direct[0],
            "",
        ),
        figure(
            "each called in turn by a Service ÷ without one, as a multiple of that with few",
            Bound::None,
            |r| (r.new / r.direct[1]) / (r.same[0] / r.direct[0]),
            "",
        ),
    ]
}
