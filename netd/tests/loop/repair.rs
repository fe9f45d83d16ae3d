//! What another hand breaks is put back within a second, told as an event, and counted: on both
//! engines, through netd's whole loop.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use netmodel::nft::Engine;

use crate::api::Api;
use crate::{Running, SOON, cluster, engine, net};

/// How long a repair may take: a second. Where all is emulated, as much longer as calls may take.
fn limit() -> Duration {
    Duration::from_secs(1).mul_f64(net::patience().as_secs_f64() / 0.7)
}

/// A machine that is busy with other things may miss the time; one that never holds it fails.
const TRIES: usize = 3;

/// What breaks, and the sorts of things that are put back, as events and metrics name them.
struct Damage {
    command: &'static str,
    kinds: &'static [&'static str],
}

const ON_BOTH: &[Damage] = &[
    Damage { command: "nft delete table inet minictl", kinds: &["table"] },
    Damage { command: "ip route del 10.244.2.0/24", kinds: &["route"] },
    Damage { command: "sysctl -q -w net.ipv4.ip_forward=0", kinds: &["setting"] },
];
const ON_NFTABLES: &[Damage] = &[
    Damage { command: "nft flush map inet minictl services4", kinds: &["element"] },
    Damage { command: "nft flush map inet minictl endpoints4", kinds: &["element"] },
    Damage {
        command: "nft flush chain inet minictl translate-arriving",
        kinds: &["table", "chain"],
    },
];
const ON_IPVS: &[Damage] = &[
    Damage { command: "nft flush map inet minictl balanced4", kinds: &["element"] },
    Damage { command: "ipvsadm -C", kinds: &["virtual-server"] },
    Damage { command: "ipvsadm -D -t 10.96.0.11:80", kinds: &["virtual-server"] },
    Damage { command: "ipvsadm -E -t 10.96.0.11:80 -s lc", kinds: &["virtual-server"] },
    Damage {
        command: "ipvsadm -d -t 10.96.0.11:80 -r 10.244.1.5:8080",
        kinds: &["destination", "virtual-server"],
    },
    Damage { command: "ip address del 10.96.0.11/32 dev mini-ipvs0", kinds: &["address"] },
    Damage { command: "ip link del mini-ipvs0", kinds: &["address"] },
    Damage { command: "sysctl -q -w net.ipv4.vs.conntrack=0", kinds: &["setting"] },
    Damage { command: "sysctl -q -w net.ipv4.vs.expire_nodest_conn=0", kinds: &["setting"] },
    Damage { command: "sysctl -q -w net.ipv4.vs.conn_reuse_mode=0", kinds: &["setting"] },
];

/// What a command shows, and what it says where what it shall show is gone.
fn shown(netd: &Running, command: &'static str) -> String {
    netd.host.run(move || {
        let (program, args) = command.split_once(' ').unwrap();
        let output = Command::new(program).args(args.split_whitespace()).output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    })
}

/// All that may be broken, in the words of the tools that show it.
fn state(netd: &Running) -> String {
    let everywhere = ["nft list table inet minictl", "ip route", "sysctl net.ipv4.ip_forward"];
    let with_ipvs = [
        "ipvsadm -Sn",
        "ip -oneline address show dev mini-ipvs0",
        "sysctl net.ipv4.vs.conntrack net.ipv4.vs.expire_nodest_conn net.ipv4.vs.conn_reuse_mode",
    ];
    let more = with_ipvs.into_iter().filter(|_| engine() == Engine::Ipvs);
    everywhere.into_iter().chain(more).map(|command| shown(netd, command)).collect()
}

/// Lines that others do not change, so that two looks can be compared: the kernel gives a link and
/// its IPv6 address another number each time.
fn comparable(state: &str) -> Vec<String> {
    let mut lines: Vec<String> = state
        .lines()
        .filter(|line| !line.contains("fe80::"))
        .map(|line| {
            let line = line.trim();
            line.split_once(": mini-ipvs0 ").map_or(line, |(_, rest)| rest).to_owned()
        })
        .collect();
    lines.sort();
    lines
}

fn counted(netd: &Running) -> BTreeMap<&'static str, u64> {
    netd.status().activity.repairs
}

/// Breaks something and waits until everything is as it was; how long that took, by netd's clock.
#[track_caller]
fn repaired(netd: &Running, command: &str, whole: &[String]) -> Duration {
    let broken = Timestamp::now();
    let (program, args) = command.split_once(' ').unwrap();
    netd.host.command(program, args);
    let start = Instant::now();
    loop {
        let seen = comparable(&state(netd));
        let repair = netd.status().activity.last_repair.filter(|at| *at > broken);
        if let Some(at) = repair.filter(|_| seen == whole) {
            // To look takes longer than to repair, where all is emulated.
            return at.duration_since(broken).unsigned_abs();
        }
        let missing: Vec<_> = whole.iter().filter(|line| !seen.contains(line)).collect();
        let more: Vec<_> = seen.iter().filter(|line| !whole.contains(line)).collect();
        let wanted = format!("{command}: not repaired; missing {missing:#?}, new {more:#?}");
        assert!(start.elapsed() < SOON, "{wanted}");
    }
}

fn told(api: &Api) -> usize {
    let events = api.0.lock().unwrap().events.clone();
    let repairs = events.iter().filter(|event| event["reason"] == "DataplaneRepaired");
    // An event that is told again is counted.
    repairs.map(|event| event["count"].as_u64().unwrap_or(1) as usize).sum()
}

#[test]
fn what_is_broken_by_hand_is_repaired_within_a_second_and_told() {
    if !net::root() {
        return;
    }
    let api = cluster();
    let netd = Running::start(&api);
    netd.wait_for(SOON, "the lists", |text| {
        crate::serves_web(text) && text.contains("10.244.2.0/24 via")
    });
    let whole = comparable(&state(&netd));
    let own = if engine() == Engine::Ipvs { ON_IPVS } else { ON_NFTABLES };
    for Damage { command, kinds } in ON_BOTH.iter().chain(own) {
        let mut times = Vec::new();
        while times.last().is_none_or(|time| *time > limit()) {
            assert!(times.len() < TRIES, "{command}: repaired only after {times:?}");
            let (events, before) = (told(&api), counted(&netd));
            times.push(repaired(&netd, command, &whole));
            println!("{command}: repaired after {:?}", times.last());
            let more = |count: &BTreeMap<&str, u64>| {
                kinds.iter().any(|kind| count.get(kind) > before.get(kind))
            };
            netd.until(
                &format!("{command}: counted as one of {kinds:?}, and told"),
                || format!("{:?} and {} events", counted(&netd), told(&api)),
                || (more(&counted(&netd)) && told(&api) > events).then_some(()),
            );
        }
    }
    let page = crate::listening::get(&netd.host, "127.0.0.1:10249", "/metrics");
    for (kind, number) in counted(&netd) {
        let line = format!("minictl_netd_repairs_total{{kind=\"{kind}\"}} {number}");
        assert!(page.contains(&line), "{line} is missing in\n{page}");
    }
    netd.end();
}

#[test]
fn damage_is_heard_of_after_more_was_told_than_a_socket_keeps() {
    if !net::root() {
        return;
    }
    let api = cluster();
    let netd = Running::start(&api);
    netd.wait_for(SOON, "the lists", |text| {
        crate::serves_web(text) && text.contains("10.244.2.0/24 via")
    });
    let whole = comparable(&state(&netd));
    // The kernel tells of all of them at once.
    let chains: String = (0..4000).map(|n| format!("add chain inet other c{n}\n")).collect();
    let flood = std::env::temp_dir().join(format!("flood-{}.nft", std::process::id()));
    std::fs::write(&flood, format!("add table inet other\n{chains}")).unwrap();
    netd.host.command("nft", &format!("-f {}", flood.display()));
    std::fs::remove_file(&flood).unwrap();
    repaired(&netd, "nft flush table inet minictl", &whole);
    repaired(&netd, "nft delete table inet minictl", &whole);
    netd.end();
}
