//! Real packets through what the executor puts into the kernel: namespaces made by the test,
//! snapshots made by hand, sockets opened inside. Needs root.
//!
//! Each test runs on the engine under test: nftables, or IPVS by `MINICTL_TEST_ENGINE=ipvs` on a
//! kernel that has it. `tests/vm` runs all of them on both.

#![expect(clippy::unwrap_used, reason = "a test stops at what must not happen")]
#![expect(clippy::print_stdout, reason = "what a test found is to be read")]

#[path = "packets/choice.rs"]
mod choice;
#[path = "packets/cluster.rs"]
mod cluster;
#[path = "packets/engines.rs"]
mod engines;
#[path = "packets/everyday.rs"]
mod everyday;
#[path = "packets/firewalls.rs"]
mod firewalls;
#[path = "packets/flows.rs"]
mod flows;
#[path = "packets/handover.rs"]
mod handover;
#[path = "packets/hints.rs"]
mod hints;
#[path = "packets/lasting.rs"]
mod lasting;
#[path = "packets/links.rs"]
mod links;
#[path = "packets/local.rs"]
mod local;
#[path = "packets/matrix.rs"]
mod matrix;
#[path = "packets/net.rs"]
mod net;
#[path = "packets/policies.rs"]
mod policies;
#[path = "packets/ports.rs"]
mod ports;
#[path = "packets/refusals.rs"]
mod refusals;
#[path = "packets/repair.rs"]
mod repair;
#[path = "packets/rolling.rs"]
mod rolling;
#[path = "packets/sctp.rs"]
mod sctp;
#[path = "packets/silence.rs"]
mod silence;
#[path = "packets/table.rs"]
mod table;

use std::net::{IpAddr, SocketAddr};

use net::{BridgeStyle, Host, Net, Outcome, tcp, udp};
use netmodel::nft::Engine;
use netmodel::snapshot::Service;

/// The engine under test.
fn engine() -> Engine {
    match std::env::var("MINICTL_TEST_ENGINE").as_deref() {
        Ok("ipvs") => Engine::Ipvs,
        _ => Engine::Nftables,
    }
}

/// A network as minictl's agent makes it.
fn isolated() -> Net {
    Net::new(BridgeStyle {
        netfilter: false,
        foreign_bridge: false,
        isolated: true,
        hairpin: false,
    })
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Gives a Service these cluster addresses.
fn web(vips: &'static str) -> impl FnOnce(&mut Service) {
    move |service| service.cluster_ips = vips.split(',').map(ip).collect()
}

/// One of `by` answered, and saw one of `seen_as` (anyone, where that is empty).
fn answered(outcome: &Outcome, by: &[&str], seen_as: &[&str]) -> bool {
    match outcome {
        Outcome::Answer(name, client) => {
            by.contains(&name.as_str())
                && (seen_as.is_empty() || seen_as.iter().any(|seen| *client == ip(seen)))
        }
        _ => false,
    }
}

/// Calls by both protocols.
fn both(host: &Host, to: &str) -> [Outcome; 2] {
    [tcp(host, at(to)), udp(host, at(to))]
}

/// Everyone must be told at once, by a reset or by ICMP.
#[track_caller]
fn assert_refused(host: &Host, to: &str, what: &str) {
    assert_eq!(both(host, to), [Outcome::Refused, Outcome::Refused], "{what}: {to}, TCP and UDP");
}
