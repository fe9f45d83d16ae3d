//! How fast the kernel follows the API, what is written when nothing changes, and the memory.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use e2e::bed::{Bed, Process};
use e2e::figure::{Bound, Figure, median, spread};

use crate::kernel::Changes;
use crate::{Cluster, MANY};

/// With how many Services the small memory is measured.
const SOME: u32 = 100;
/// Changes of one Service's endpoints.
const CHANGES: u32 = 51;
/// The same of kube-proxy, which takes longer.
const SLOW_CHANGES: u32 = 11;
/// A start from nothing is repeated this often.
const STARTS: usize = 3;
/// How long a proxy may take to begin, and how long a pause tells that it is done.
const PATIENCE: Duration = Duration::from_secs(120);
const QUIET: Duration = Duration::from_secs(3);
/// How long until netd has given back what only its start needed, and until it has compared
/// everything with the kernel.
const SETTLED: Duration = Duration::from_secs(3);
const COMPARED: Duration = Duration::from_secs(65);
/// How long nothing may be written when nothing changes.
const IDLE: Duration = Duration::from_secs(10);

/// Starts a proxy; answers how long it took to its last change of the kernel.
pub(crate) fn start(bed: &Bed, proxy: impl FnOnce() -> Process) -> (Process, Duration) {
    let changes = bed.node_1.run(Changes::of_tables);
    let begin = Instant::now();
    let proxy = proxy();
    let Some(last) = changes.last(PATIENCE, QUIET) else {
        panic!("nothing is programmed\n{}", bed.logs())
    };
    (proxy, last - begin)
}

/// With many Services: netd, and kube-proxy beside it.
pub(crate) fn many(cluster: Cluster) -> Vec<Figure> {
    let (from_event, from_request) = changes(&cluster, CHANGES, 1000);
    let name = format!("one endpoint change at {MANY} Services");
    let times = |what: &str, times: &[f64], bound| {
        Figure::bounded(&format!("{name}, {what}"), median(times), " ms", bound, spread(times))
    };
    let mut figures = vec![
        times("watch event to kernel", &from_event, Bound::Most(5.0)),
        times("request to kernel", &from_request, Bound::None),
        idle(&cluster),
        memory("netd", MANY, &cluster.netd, Bound::Most(80.0)),
    ];
    let Cluster { services, bed, admin, node, netd, _server } = cluster;
    netd.stop();
    let (mut starts, mut looks) = (Vec::new(), Vec::new());
    let mut last = None;
    for _ in 0..STARTS {
        drop(last);
        bed.node_1.command("nft", "delete table inet minictl");
        let (netd, took) = start(&bed, || bed.start_netd(&node));
        starts.push(millis(took));
        looks.push(full_looks(&bed));
        last = Some(netd);
    }
    let name = format!("cold: {MANY} Services × 4 endpoints, from the lists to the kernel");
    let bound = Bound::Most(1000.0);
    figures.push(Figure::bounded(&name, median(&looks), " ms", bound, spread(&looks)));
    let name = "the same from the start of the process, with login and lists";
    let note = spread(&starts);
    figures.push(Figure::bounded(name, median(&starts), " ms", Bound::None, note));
    let Some((program, netd)) = kube_proxy().zip(last) else { return figures };
    netd.stop();
    bed.node_1.command("nft", "delete table inet minictl");
    let user = bed.kubeconfig("system:kube-proxy", "nobody");
    let (proxy, took) = start(&bed, || bed.start_kube_proxy(&program, &user));
    let name = format!("for comparison: start of kube-proxy, {MANY} Services");
    figures.push(Figure::bounded(&name, millis(took), " ms", Bound::None, String::new()));
    let cluster = Cluster { services, bed, admin, node, netd: proxy, _server };
    let (from_event, _) = changes(&cluster, SLOW_CHANGES, 2000);
    figures.push(Figure::bounded(
        "for comparison: one endpoint change, kube-proxy",
        median(&from_event),
        " ms",
        Bound::None,
        spread(&from_event),
    ));
    figures.push(memory("kube-proxy", MANY, &cluster.netd, Bound::None));
    figures
}

/// Milliseconds that netd's full looks took, in the first of which all is programmed; by its own
/// account.
fn full_looks(bed: &Bed) -> f64 {
    let metrics = bed.node_1.command("curl", "-s http://127.0.0.1:10249/metrics");
    let name = "kubeproxy_sync_full_proxy_rules_duration_seconds_sum ";
    let seconds = metrics.lines().find_map(|line| line.strip_prefix(name)?.parse::<f64>().ok());
    seconds.unwrap_or_else(|| panic!("{metrics}")) * 1e3
}

/// Kubernetes' own proxy, if there is one.
fn kube_proxy() -> Option<PathBuf> {
    std::env::var_os("KUBE_PROXY").map(PathBuf::from).filter(|path| path.is_file())
}

/// Milliseconds from the watch event and from the request to the kernel, of many changes.
///
/// `seed` makes endpoints of its own: what is there already would be no change.
fn changes(cluster: &Cluster, count: u32, seed: u32) -> (Vec<f64>, Vec<f64>) {
    let api = cluster.api();
    let kernel = cluster.bed.node_1.run(Changes::of_tables);
    (0..count)
        .map(|round| {
            let n = round * 193 % cluster.services;
            let (sent, heard) = api.change(n, seed + n);
            let programmed = kernel.next(PATIENCE).expect("the change reaches the kernel");
            // What a change takes is over before the next one: kube-proxy cleans up later.
            while kernel.next(QUIET / 10).is_some() {}
            let event = programmed.saturating_duration_since(heard);
            (millis(event), millis(programmed - sent))
        })
        .unzip()
}

/// Counts what is written while nothing changes.
fn idle(cluster: &Cluster) -> Figure {
    let kernel = cluster.bed.node_1.run(Changes::of_everything);
    let end = Instant::now() + IDLE;
    let mut writes = 0.0;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        writes += f64::from(u8::from(kernel.next(left).is_some()));
    }
    let name = format!("writes to the kernel in {} s without a change", IDLE.as_secs());
    Figure::bounded(&name, writes, "", Bound::Most(0.0), format!("{MANY} Services"))
}

/// The memory of a netd that started with many Services: soon afterwards, and when it has followed
/// changes and compared everything with the kernel.
pub(crate) fn much_memory(cluster: &Cluster) -> [Figure; 2] {
    std::thread::sleep(SETTLED);
    let soon = memory("netd", MANY, &cluster.netd, Bound::Most(80.0));
    changes(cluster, SLOW_CHANGES, 1000);
    std::thread::sleep(COMPARED);
    [soon, memory("netd", MANY, &cluster.netd, Bound::Most(80.0))]
}

/// The memory of a netd that started with some Services.
pub(crate) fn little_memory(cluster: Cluster) -> Figure {
    cluster.api().fill(cluster.services, SOME);
    cluster.netd.stop();
    let bed = &cluster.bed;
    bed.node_1.command("nft", "delete table inet minictl");
    let (netd, _) = start(bed, || bed.start_netd(&cluster.node));
    memory("netd", SOME, &netd, Bound::Most(15.0))
}

fn memory(program: &str, services: u32, process: &Process, bound: Bound) -> Figure {
    let megabytes = |what: &str| {
        let kilobytes = u32::try_from(process.kilobytes(what)).expect("less than four terabytes");
        f64::from(kilobytes) / 1024.0
    };
    let name = format!("memory of {program} at {services} Services");
    // The rest is the program's own file, which all its processes share.
    let (own, most) = (megabytes("RssAnon"), megabytes("VmHWM"));
    let note = format!("{own:.1} MB its own; at most {most:.0} MB since its start");
    Figure::bounded(&name, megabytes("VmRSS"), " MB", bound, note)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
