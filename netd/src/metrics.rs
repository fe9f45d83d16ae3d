//! Counters of the data plane in Prometheus' text format.
//!
//! Names are kube-proxy's where the meaning is the same (upstream: `pkg/proxy/metrics`), so that
//! its dashboards work; the rest is called `minictl_netd_…`. The loop counts; [`Metrics::render`]
//! writes a page of counts and of the loop's status. Deliberately not here: sockets.

use std::fmt::{self, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::control::Status;
use crate::wanted::engine_name;

/// Shared by the loop, which counts, and the listener, which shows.
#[derive(Debug, Default)]
pub(crate) struct Metrics(Mutex<Counts>);

#[derive(Debug)]
pub(crate) struct Counts {
    looks: Histogram,
    full_looks: Histogram,
    partial_looks: Histogram,
    network_programming: Histogram,
    last_look: Option<Timestamp>,
    last_queued: Option<Timestamp>,
    service_changes: u64,
    slice_changes: u64,
    healthz: [(u16, u64); 2],
    livez: [(u16, u64); 2],
}

/// Upstream's buckets: 1 ms, doubled fifteen times.
const LOOK_BUCKETS: [f64; 15] = [
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096,
    8.192, 16.384,
];

impl Default for Counts {
    fn default() -> Self {
        let looks = || Histogram::of(LOOK_BUCKETS.to_vec());
        Self {
            looks: looks(),
            full_looks: looks(),
            partial_looks: looks(),
            network_programming: Histogram::of(programming_buckets()),
            last_look: None,
            last_queued: None,
            service_changes: 0,
            slice_changes: 0,
            healthz: [(200, 0), (503, 0)],
            livez: [(200, 0), (503, 0)],
        }
    }
}

/// Upstream's buckets: ¼ s, ½ s, then each second of the first minute, and so on to five.
fn programming_buckets() -> Vec<f64> {
    let minutes = |from: u32, step: u32, to: u32| {
        (0..).map(move |n| from + n * step).take_while(move |at| *at <= to).map(f64::from)
    };
    [0.25, 0.5]
        .into_iter()
        .chain(minutes(1, 1, 59))
        .chain(minutes(60, 5, 115))
        .chain(minutes(120, 30, 300))
        .collect()
}

impl Metrics {
    /// A look was taken, and all went well or not.
    pub(crate) fn looked(&self, took: Duration, full: bool, well: bool, now: Timestamp) {
        self.change(|counts| {
            let seconds = took.as_secs_f64();
            counts.looks.observe(seconds);
            if full {
                counts.full_looks.observe(seconds);
            } else {
                counts.partial_looks.observe(seconds);
            }
            if well {
                counts.last_look = Some(now);
            }
        });
    }

    /// Changes of endpoints that happened at these times are in the kernel now.
    pub(crate) fn programmed(&self, happened: &[Timestamp], now: Timestamp) {
        self.change(|counts| {
            for at in happened {
                counts.network_programming.observe(now.duration_since(*at).as_secs_f64().max(0.0));
            }
        });
    }

    /// Changes came from the API.
    pub(crate) fn queued(&self, services: u64, slices: u64, now: Timestamp) {
        self.change(|counts| {
            counts.service_changes += services;
            counts.slice_changes += slices;
            counts.last_queued = Some(now);
        });
    }

    /// `/healthz` was answered.
    pub(crate) fn asked_for_health(&self, code: u16) {
        self.change(|counts| count(&mut counts.healthz, code));
    }

    /// `/livez` was answered.
    pub(crate) fn asked_for_life(&self, code: u16) {
        self.change(|counts| count(&mut counts.livez, code));
    }

    /// The whole page.
    pub(crate) fn render(&self, status: &Status, memory: Option<u64>) -> String {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut page = Page(String::with_capacity(16 << 10));
        counts.render(&mut page);
        render_status(&mut page, status);
        if let Some(bytes) = memory {
            page.one("process_resident_memory_bytes", "gauge", "Memory in use", bytes);
        }
        let started = seconds(status.activity.started);
        page.one("process_start_time_seconds", "gauge", "When the process started", started);
        page.0
    }

    fn change(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn count(codes: &mut [(u16, u64)], code: u16) {
    codes.iter_mut().filter(|(known, _)| *known == code).for_each(|(_, number)| *number += 1);
}

impl Counts {
    fn render(&self, page: &mut Page) {
        let rules = "kubeproxy_sync_proxy_rules";
        page.histogram(
            &format!("{rules}_duration_seconds"),
            "How long a look took that brought the kernel up to date",
            &self.looks,
        );
        page.histogram(
            "kubeproxy_sync_full_proxy_rules_duration_seconds",
            "The same, of looks that compared everything",
            &self.full_looks,
        );
        page.histogram(
            "kubeproxy_sync_partial_proxy_rules_duration_seconds",
            "The same, of looks at what had changed",
            &self.partial_looks,
        );
        page.histogram(
            "kubeproxy_network_programming_duration_seconds",
            "From a change of endpoints in the cluster to the kernel of this node",
            &self.network_programming,
        );
        for (what, at) in
            [("last_timestamp", self.last_look), ("last_queued_timestamp", self.last_queued)]
        {
            let help = "When the kernel was last up to date, or a change last came";
            page.one(&format!("{rules}_{what}_seconds"), "gauge", help, at.map_or(0.0, seconds));
        }
        for (what, number) in [("service", self.service_changes), ("endpoint", self.slice_changes)]
        {
            let help = "Changes that came from the API";
            page.one(&format!("{rules}_{what}_changes_total"), "counter", help, number);
        }
        for (what, codes) in [("healthz", self.healthz), ("livez", self.livez)] {
            let labelled = codes.map(|(code, number)| (format!("code=\"{code}\""), number));
            let name = format!("kubeproxy_proxy_{what}_total");
            page.family(&name, "counter", "Answers by code", labelled);
        }
    }
}

fn render_status(page: &mut Page, status: &Status) {
    let activity = &status.activity;
    let counters = [
        ("writes", "Changes made in the kernel", activity.writes),
        (
            "forgotten_flows",
            "Stale connections removed from the kernel's memory",
            activity.forgotten,
        ),
        ("failures", "Steps that failed", activity.failures),
    ];
    for (name, help, number) in counters {
        page.one(&format!("minictl_netd_{name}_total"), "counter", help, number);
    }
    page.family(
        "minictl_netd_repairs_total",
        "counter",
        "What others changed and netd put back, by what it is",
        activity.repairs.iter().map(|(kind, number)| (format!("kind=\"{kind}\""), *number)),
    );
    let gauges = [
        ("services", "Services with frontends on this node", status.counts.services),
        ("frontends", "Addresses, protocols and ports that are answered", status.counts.frontends),
        ("endpoints", "Backends over all frontends", status.counts.backends),
        ("routes", "Routes to the pods of other nodes", status.counts.routes),
        ("problems", "What Services ask for and this node cannot do", status.problems.len()),
        ("foreign_firewall_rules", "Rules of others that stand in the way", status.firewalls.len()),
    ];
    for (name, help, number) in gauges {
        page.one(&format!("minictl_netd_{name}"), "gauge", help, number as u64);
    }
    let engine = status.engine.map(|engine| (format!("engine=\"{}\"", engine_name(engine)), 1_u64));
    page.family("minictl_netd_engine", "gauge", "The engine in use", engine);
}

fn seconds(at: Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}

#[derive(Debug)]
struct Histogram {
    /// Upper bounds.
    bounds: Vec<f64>,
    /// How many fell below each bound and above the one before.
    fell: Vec<u64>,
    above: u64,
    sum: f64,
}

impl Histogram {
    fn of(bounds: Vec<f64>) -> Self {
        Self { fell: vec![0; bounds.len()], bounds, above: 0, sum: 0.0 }
    }

    fn observe(&mut self, value: f64) {
        self.sum += value;
        match self.bounds.iter().position(|bound| value <= *bound) {
            Some(at) => self.fell[at] += 1,
            None => self.above += 1,
        }
    }
}

/// A page under construction.
struct Page(String);

impl Page {
    fn line(&mut self, line: fmt::Arguments<'_>) {
        writeln!(self.0, "{line}").expect("a String takes everything");
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl fmt::Display) {
        self.head(name, kind, help);
        self.line(format_args!("{name} {value}"));
    }

    fn family(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        labelled: impl IntoIterator<Item = (String, u64)>,
    ) {
        self.head(name, kind, help);
        for (labels, value) in labelled {
            self.line(format_args!("{name}{{{labels}}} {value}"));
        }
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        let mut below = 0;
        for (bound, fell) in histogram.bounds.iter().zip(&histogram.fell) {
            below += fell;
            self.line(format_args!("{name}_bucket{{le=\"{bound}\"}} {below}"));
        }
        let all = below + histogram.above;
        self.line(format_args!("{name}_bucket{{le=\"+Inf\"}} {all}"));
        self.line(format_args!("{name}_sum {}", histogram.sum));
        self.line(format_args!("{name}_count {all}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Activity;
    use crate::engine::Mode;

    fn status() -> Status {
        let started = Timestamp::from_second(1000).unwrap();
        let mut activity = Activity { writes: 7, forgotten: 2, ..Activity::since(started) };
        activity.repairs.insert("route", 3);
        Status {
            node: "node-1".to_owned(),
            engine: Some(netmodel::nft::Engine::Nftables),
            reason: String::new(),
            wanted: Mode::Auto,
            refused: None,
            synced: true,
            activity,
            counts: crate::control::Counts { services: 5, ..Default::default() },
            problems: Vec::new(),
            firewalls: Vec::new(),
        }
    }

    #[test]
    fn a_page_shows_what_was_counted() {
        let metrics = Metrics::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        metrics.looked(Duration::from_millis(3), false, true, at(2000));
        metrics.looked(Duration::from_secs(60), true, false, at(2001));
        metrics.programmed(&[at(1998), at(2500)], at(2000));
        metrics.queued(1, 2, at(1999));
        metrics.asked_for_health(503);
        let page = metrics.render(&status(), Some(4096));
        for line in [
            "# TYPE kubeproxy_sync_proxy_rules_duration_seconds histogram",
            "kubeproxy_sync_proxy_rules_duration_seconds_bucket{le=\"0.002\"} 0",
            "kubeproxy_sync_proxy_rules_duration_seconds_bucket{le=\"0.004\"} 1",
            "kubeproxy_sync_proxy_rules_duration_seconds_bucket{le=\"16.384\"} 1",
            "kubeproxy_sync_proxy_rules_duration_seconds_bucket{le=\"+Inf\"} 2",
            "kubeproxy_sync_proxy_rules_duration_seconds_sum 60.003",
            "kubeproxy_sync_full_proxy_rules_duration_seconds_count 1",
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds 2000",
            "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds 1999",
            "kubeproxy_network_programming_duration_seconds_bucket{le=\"1\"} 1",
            "kubeproxy_network_programming_duration_seconds_bucket{le=\"2\"} 2",
            "kubeproxy_sync_proxy_rules_endpoint_changes_total 2",
            "kubeproxy_proxy_healthz_total{code=\"503\"} 1",
            "kubeproxy_proxy_livez_total{code=\"503\"} 0",
            "minictl_netd_writes_total 7",
            "minictl_netd_repairs_total{kind=\"route\"} 3",
            "minictl_netd_services 5",
            "minictl_netd_engine{engine=\"nftables\"} 1",
            "process_resident_memory_bytes 4096",
            "process_start_time_seconds 1000",
        ] {
            assert!(page.lines().any(|have| have == line), "{line} is missing in\n{page}");
        }
    }

    #[test]
    fn buckets_are_upstreams() {
        let buckets = programming_buckets();
        assert_eq!(buckets.len(), 2 + 59 + 12 + 7);
        assert_eq!(buckets.last(), Some(&300.0));
    }

    #[test]
    fn every_line_is_in_prometheus_text_format() {
        let page = Metrics::default().render(&status(), None);
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            let bare = name.split('{').next().unwrap();
            assert!(bare.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{line}");
        }
    }
}
