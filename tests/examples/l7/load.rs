//! Loads by other people's tools, and what they say of them.

use std::time::Duration;

use e2e::bed::Bed;

/// Connections that stay open.
const CONNECTIONS: u32 = 64;
/// Requests at a time over one connection of HTTP/2.
const STREAMS: u32 = 4;

/// A kind of load.
pub(crate) struct Load {
    pub(crate) name: &'static str,
    pub(crate) program: &'static str,
    pub(crate) tls: bool,
}

/// What a tool saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// Requests a second.
    pub(crate) rate: f64,
    /// Requests.
    pub(crate) count: f64,
    /// Milliseconds that 99 of 100 took at most.
    pub(crate) slowest: f64,
    /// Seconds of a processor that the proxy took.
    pub(crate) busy: f64,
}

/// All of them.
pub(crate) fn loads() -> [Load; 3] {
    [
        Load { name: "HTTP/1.1", program: "wrk", tls: false },
        Load { name: "HTTP/1.1 by TLS", program: "wrk", tls: true },
        Load { name: "HTTP/2 by TLS", program: "h2load", tls: true },
    ]
}

impl Load {
    /// From a pod, for so long.
    pub(crate) fn run(&self, bed: &Bed, url: &str, time: Duration) -> Seen {
        let seconds = time.as_secs();
        match self.program {
            "wrk" => {
                let args = format!("-t1 -c{CONNECTIONS} -d{seconds}s --latency {url}");
                by_wrk(&bed.pod_a.command("wrk", &args))
            }
            _ => {
                let log = bed.folder.path().join("h2load.log");
                let _ = std::fs::remove_file(&log);
                let args = format!(
                    "-t1 -c{} -m{STREAMS} -D{seconds} --log-file={} {url}",
                    CONNECTIONS / STREAMS,
                    log.display()
                );
                let text = bed.pod_a.command("h2load", &args);
                let times = std::fs::read_to_string(&log).expect("h2load writes its log");
                by_h2load(&text, &times, time)
            }
        }
    }
}

fn by_wrk(text: &str) -> Seen {
    let word = |what: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(what));
        line.and_then(|rest| rest.split_whitespace().next())
            .unwrap_or_else(|| panic!("{what}?\n{text}"))
    };
    assert!(!text.contains("Non-2xx"), "{text}");
    let count = text.lines().find_map(|line| line.trim().split_once(" requests in "));
    let (count, _) = count.unwrap_or_else(|| panic!("{text}"));
    Seen {
        rate: word("Requests/sec:").parse().expect("a number"),
        count: count.parse().expect("a number"),
        slowest: milliseconds(word("99%")),
        busy: 0.0,
    }
}

/// As wrk writes times: `834.00us`, `1.02ms`, `1.20s`.
fn milliseconds(text: &str) -> f64 {
    let units = [("us", 1e-3), ("ms", 1.0), ("s", 1e3)];
    let found = units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)));
    let (number, factor) = found.unwrap_or_else(|| panic!("{text}"));
    number.parse::<f64>().expect("a number") * factor
}

/// Each line of h2load's log: when a request began, its status, and microseconds until its end.
fn by_h2load(text: &str, log: &str, time: Duration) -> Seen {
    let requests = log.lines().map(|line| {
        let mut words = line.split('\t').skip(1);
        let mut word = || words.next().unwrap_or_else(|| panic!("{line}\n{text}"));
        assert_eq!(word(), "200", "{text}");
        word().parse::<f64>().expect("microseconds") / 1e3
    });
    let times: Vec<f64> = requests.collect();
    assert!(!times.is_empty(), "{text}");
    let count = f64::from(u32::try_from(times.len()).expect("not that many"));
    Seen {
        rate: count / time.as_secs_f64(),
        count,
        slowest: e2e::figure::quantile(&times, 99, 100),
        busy: 0.0,
    }
}
