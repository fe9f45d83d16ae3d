//! Counters of requests, in Prometheus' text format.
//!
//! Each worker counts for itself, so that no two cores write to the same place; a page is their
//! sum.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;

/// Upper bounds of the latency buckets in microseconds.
const BUCKETS: [u64; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 500_000, 2_500_000, 10_000_000];
/// The highest status code that is counted by itself, plus one.
const CODES: usize = 600;

/// How a backend failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection.
    Connect,
    /// It took the request and broke off.
    Broken,
    /// It did not begin to answer in time.
    Timeout,
}

const FAILURES: [(Failure, &str); 3] =
    [(Failure::Connect, "connect"), (Failure::Broken, "broken"), (Failure::Timeout, "timeout")];

/// What one worker counts.
#[derive(Debug)]
pub(crate) struct Counts {
    codes: Box<[AtomicU64; CODES]>,
    buckets: [AtomicU64; BUCKETS.len() + 1],
    microseconds: AtomicU64,
    failures: [AtomicU64; FAILURES.len()],
    connections: AtomicU64,
    open: AtomicU64,
    handshake_failures: AtomicU64,
    refused_connections: AtomicU64,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            codes: Box::new([const { AtomicU64::new(0) }; CODES]),
            buckets: [const { AtomicU64::new(0) }; BUCKETS.len() + 1],
            microseconds: AtomicU64::new(0),
            failures: [const { AtomicU64::new(0) }; FAILURES.len()],
            connections: AtomicU64::new(0),
            open: AtomicU64::new(0),
            handshake_failures: AtomicU64::new(0),
            refused_connections: AtomicU64::new(0),
        }
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counts {
    /// A request was answered, its answer began after this time.
    pub(crate) fn answered(&self, code: StatusCode, took: Duration) {
        if let Some(counter) = self.codes.get(usize::from(code.as_u16())) {
            add(counter);
        }
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        add(&self.buckets[BUCKETS.partition_point(|bound| *bound < took)]);
        self.microseconds.fetch_add(took, Ordering::Relaxed);
    }

    /// A backend failed.
    pub(crate) fn failed(&self, how: Failure) {
        let place = FAILURES.iter().position(|(one, _)| *one == how);
        add(&self.failures[place.expect("the table has every way to fail")]);
    }

    /// A client connected.
    pub(crate) fn opened(&self) {
        add(&self.connections);
        add(&self.open);
    }

    /// A client's connection ended.
    pub(crate) fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// A TLS handshake failed.
    pub(crate) fn handshake_failed(&self) {
        add(&self.handshake_failures);
    }

    /// A client had too many connections already.
    pub(crate) fn refused(&self) {
        add(&self.refused_connections);
    }
}

/// The page of all workers together.
#[must_use]
pub(crate) fn render(workers: &[Arc<Counts>]) -> String {
    let sum = |of: Which<'_>| -> u64 {
        workers.iter().map(|counts| of(counts).load(Ordering::Relaxed)).sum()
    };
    let mut page = String::new();
    let mut family = |name: &str, kind: &str, help: &str, lines: &[(String, String)]| {
        let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (label, value) in lines {
            let _ = writeln!(page, "{name}{label} {value}");
        }
    };
    let codes: Vec<_> = (100..CODES)
        .map(|code| (code, sum(&|counts| &counts.codes[code])))
        .filter(|(_, count)| *count > 0)
        .map(|(code, count)| (format!("{{code=\"{code}\"}}"), count.to_string()))
        .collect();
    let help = "Requests by the status of their answer.";
    family("minictl_ingress_requests_total", "counter", help, &codes);
    let failures: Vec<_> = FAILURES
        .iter()
        .enumerate()
        .map(|(n, (_, name))| {
            (format!("{{kind=\"{name}\"}}"), sum(&|counts| &counts.failures[n]).to_string())
        })
        .collect();
    let help = "Failures of backends.";
    family("minictl_ingress_backend_failures_total", "counter", help, &failures);
    let mut single = |name: &str, kind: &str, help: &str, of: Which<'_>| {
        family(name, kind, help, &[(String::new(), sum(of).to_string())]);
    };
    single("minictl_ingress_connections_total", "counter", "Connections of clients.", &|c| {
        &c.connections
    });
    single("minictl_ingress_connections", "gauge", "Open connections of clients.", &|c| &c.open);
    let help = "TLS handshakes that failed.";
    single("minictl_ingress_tls_failures_total", "counter", help, &|c| &c.handshake_failures);
    let help = "Connections refused because one client had too many.";
    single("minictl_ingress_refused_connections_total", "counter", help, &|c| {
        &c.refused_connections
    });
    page.push_str(&histogram(sum));
    page
}

/// Which counter is meant.
type Which<'a> = &'a dyn Fn(&Counts) -> &AtomicU64;

fn histogram(sum: impl Fn(Which<'_>) -> u64) -> String {
    let name = "minictl_ingress_response_seconds";
    let mut page = format!(
        "# HELP {name} Time from a request's head to that of its answer.\n# TYPE {name} histogram\n"
    );
    let mut total = 0;
    let seconds = |micros: u64| std::time::Duration::from_micros(micros).as_secs_f64();
    for n in 0..=BUCKETS.len() {
        total += sum(&|counts| &counts.buckets[n]);
        let bound = BUCKETS.get(n).map_or("+Inf".to_owned(), |bound| seconds(*bound).to_string());
        let _ = writeln!(page, "{name}_bucket{{le=\"{bound}\"}} {total}");
    }
    let spent = seconds(sum(&|counts| &counts.microseconds));
    let _ = writeln!(page, "{name}_sum {spent}\n{name}_count {total}");
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_the_sum_of_all_workers() {
        let workers = [Arc::new(Counts::default()), Arc::new(Counts::default())];
        workers[0].answered(StatusCode::OK, Duration::from_micros(90));
        workers[1].answered(StatusCode::OK, Duration::from_millis(3));
        workers[1].answered(StatusCode::NOT_FOUND, Duration::from_secs(60));
        workers[0].failed(Failure::Connect);
        let page = render(&workers);
        for line in [
            "minictl_ingress_requests_total{code=\"200\"} 2",
            "minictl_ingress_requests_total{code=\"404\"} 1",
            "minictl_ingress_backend_failures_total{kind=\"connect\"} 1",
            "minictl_ingress_response_seconds_bucket{le=\"0.0001\"} 1",
            "minictl_ingress_response_seconds_bucket{le=\"0.005\"} 2",
            "minictl_ingress_response_seconds_bucket{le=\"+Inf\"} 3",
            "minictl_ingress_response_seconds_count 3",
        ] {
            assert!(page.lines().any(|one| one == line), "{line} is not in\n{page}");
        }
    }
}
