//! Counters of questions and answers, in Prometheus' text format.
//!
//! Named as CoreDNS' are, with a prefix of our own. Counting takes no lock.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::resolve::Source;

/// Kinds that are counted by name.
const KINDS: [RecordType; 7] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::SRV,
    RecordType::PTR,
    RecordType::TXT,
    RecordType::CNAME,
    RecordType::HTTPS,
];
/// Codes that are counted by name.
const CODES: [(ResponseCode, &str); 6] = [
    (ResponseCode::NoError, "NOERROR"),
    (ResponseCode::NXDomain, "NXDOMAIN"),
    (ResponseCode::ServFail, "SERVFAIL"),
    (ResponseCode::Refused, "REFUSED"),
    (ResponseCode::FormErr, "FORMERR"),
    (ResponseCode::NotImp, "NOTIMP"),
];
const SOURCES: [&str; 5] = ["zone", "cache", "stale", "upstream", "nobody"];
/// Upper bounds in microseconds.
const BUCKETS: [u64; 12] =
    [10, 20, 50, 100, 200, 500, 1_000, 5_000, 20_000, 100_000, 1_000_000, 5_000_000];

/// All counters.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    kinds: [AtomicU64; KINDS.len() + 1],
    codes: [AtomicU64; CODES.len() + 1],
    sources: [AtomicU64; SOURCES.len()],
    times: [AtomicU64; BUCKETS.len() + 1],
    microseconds: AtomicU64,
    completed: AtomicU64,
}

impl Counters {
    /// A question was answered.
    pub(crate) fn answered(
        &self,
        kind: RecordType,
        code: ResponseCode,
        source: Source,
        took: Duration,
    ) {
        let kind = KINDS.iter().position(|known| *known == kind).unwrap_or(KINDS.len());
        self.kinds[kind].fetch_add(1, Relaxed);
        self.code(code);
        let source = match source {
            Source::Zone => 0,
            Source::Cache => 1,
            Source::Stale => 2,
            Source::Upstream(_) => 3,
            Source::Nobody => 4,
        };
        self.sources[source].fetch_add(1, Relaxed);
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let fell = BUCKETS.iter().position(|bound| microseconds <= *bound);
        self.times[fell.unwrap_or(BUCKETS.len())].fetch_add(1, Relaxed);
        self.microseconds.fetch_add(microseconds, Relaxed);
    }

    /// Something was answered that was no question for us.
    pub(crate) fn code(&self, code: ResponseCode) {
        let code = CODES.iter().position(|(known, _)| *known == code).unwrap_or(CODES.len());
        self.codes[code].fetch_add(1, Relaxed);
    }

    /// A search path was completed.
    pub(crate) fn completed(&self) {
        self.completed.fetch_add(1, Relaxed);
    }

    /// The page; `asked` and `failed` are questions to other servers.
    pub(crate) fn render(&self, asked: u64, failed: u64) -> String {
        let mut page = String::new();
        let kinds = KINDS.iter().map(ToString::to_string).chain(["other".to_owned()]);
        let numbers = |counters: &[AtomicU64]| -> Vec<u64> {
            counters.iter().map(|counter| counter.load(Relaxed)).collect()
        };
        family(&mut page, "requests", "Questions by kind", "type", kinds, &numbers(&self.kinds));
        let codes = CODES.iter().map(|(_, name)| (*name).to_owned()).chain(["other".to_owned()]);
        family(&mut page, "responses", "Answers by code", "rcode", codes, &numbers(&self.codes));
        let sources = SOURCES.iter().map(ToString::to_string);
        let help = "Answers by who knew them";
        family(&mut page, "answers", help, "source", sources, &numbers(&self.sources));
        for (name, help, number) in [
            ("completed_searches", "Search paths completed here", self.completed.load(Relaxed)),
            ("forward_requests", "Questions put to other servers", asked),
            ("forward_failures", "Those that brought no answer", failed),
        ] {
            head(&mut page, &format!("{name}_total"), "counter", help);
            line(&mut page, &format!("{name}_total"), number);
        }
        self.render_times(&mut page);
        page
    }

    fn render_times(&self, page: &mut String) {
        let name = "request_duration_seconds";
        head(page, name, "histogram", "How long answers took");
        let mut below = 0;
        for (at, counter) in self.times.iter().enumerate() {
            below += counter.load(Relaxed);
            let bound = BUCKETS.get(at).map(|micros| seconds(*micros));
            let bound = bound.unwrap_or_else(|| "+Inf".to_owned());
            line(page, &format!("{name}_bucket{{le=\"{bound}\"}}"), below);
        }
        line(page, &format!("{name}_count"), below);
        let sum = seconds(self.microseconds.load(Relaxed));
        line(page, &format!("{name}_sum"), sum);
    }
}

/// Microseconds as seconds.
fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn head(page: &mut String, name: &str, kind: &str, help: &str) {
    let name = format!("minictl_dns_{name}");
    writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("a String takes all");
}

fn line(page: &mut String, name: &str, value: impl std::fmt::Display) {
    writeln!(page, "minictl_dns_{name} {value}").expect("a String takes all");
}

fn family(
    page: &mut String,
    name: &str,
    help: &str,
    label: &str,
    values: impl Iterator<Item = String>,
    numbers: &[u64],
) {
    let name = format!("{name}_total");
    head(page, &name, "counter", help);
    for (value, number) in values.zip(numbers) {
        line(page, &format!("{name}{{{label}=\"{value}\"}}"), number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_tells_what_was_counted() {
        let counters = Counters::default();
        let (found, none) = (ResponseCode::NoError, ResponseCode::NXDomain);
        counters.answered(RecordType::A, found, Source::Zone, Duration::from_micros(15));
        counters.answered(RecordType::MX, none, Source::Cache, Duration::from_secs(9));
        counters.code(ResponseCode::Refused);
        let page = counters.render(5, 2);
        for line in [
            "minictl_dns_requests_total{type=\"A\"} 1",
            "minictl_dns_requests_total{type=\"other\"} 1",
            "minictl_dns_responses_total{rcode=\"NXDOMAIN\"} 1",
            "minictl_dns_responses_total{rcode=\"REFUSED\"} 1",
            "minictl_dns_answers_total{source=\"cache\"} 1",
            "minictl_dns_forward_failures_total 2",
            "minictl_dns_request_duration_seconds_bucket{le=\"0.00001\"} 0",
            "minictl_dns_request_duration_seconds_bucket{le=\"0.00002\"} 1",
            "minictl_dns_request_duration_seconds_bucket{le=\"5\"} 1",
            "minictl_dns_request_duration_seconds_bucket{le=\"+Inf\"} 2",
            "minictl_dns_request_duration_seconds_sum 9.000015",
        ] {
            assert!(page.lines().any(|have| have == line), "{line} is missing in\n{page}");
        }
    }
}
