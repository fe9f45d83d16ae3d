//! Announcers on real links: nodes, a client and others on one switch, each a network namespace made
//! by the test. What the kernels of the others believe is read with `ip neighbour`. Needs root.

#![expect(clippy::unwrap_used, reason = "a test stops at what must not happen")]
#![expect(clippy::print_stdout, reason = "skips and figures are told")]

#[path = "lan/net.rs"]
mod net;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use announce::frame::beat::{Beat, Grade, Message};
use announce::frame::{Content, EtherType, Frame, arp, ndp};
use announce::{Standing, Told};

use net::{FOUR, Lan, SIX, call, ip, is_root, until};

/// A long time even for a machine that has much else to do.
const LIMIT: Duration = Duration::from_secs(20);

macro_rules! root_or_skip {
    () => {
        if !is_root() {
            return;
        }
    };
}

#[test]
fn a_client_reaches_the_elected_node_and_knows_its_ethernet_address() {
    root_or_skip!();
    let lan = Lan::new(3);
    let nodes = lan.announce_on_all();
    for address in [FOUR, SIX] {
        let answered = until(LIMIT, "the address answers", || call(&lan.client, address));
        let elected = until(LIMIT, "one announces", || lan.only(&nodes, address));
        assert_eq!(answered, lan.nodes[elected].name, "{address}");
        let believed = until(LIMIT, "the client has resolved it", || lan.client.neighbour(address));
        assert_eq!(believed, lan.nodes[elected].mac(), "{address}");
        // Asked anew, only one answers: the other nodes have the address, too, and keep silent.
        assert_eq!(lan.who_has(address), BTreeSet::from([lan.nodes[elected].mac()]));
    }
}

#[test]
fn a_node_that_dies_is_replaced_within_a_second() {
    root_or_skip!();
    let lan = Lan::new(3);
    let nodes = lan.announce_on_all();
    for address in [FOUR, SIX] {
        until(LIMIT, "all nodes are heard by all", || lan.all_candidates(&nodes, address, 3));
        let elected = until(LIMIT, "one announces", || lan.only(&nodes, address));
        until(LIMIT, "it answers", || call(&lan.client, address));
        // No farewell: the cable is cut.
        lan.nodes[elected].host.ip("link set eth0 down");
        let died = Instant::now();
        let successor = until(LIMIT, "another one answers", || {
            call(&lan.client, address).filter(|name| *name != lan.nodes[elected].name)
        });
        let took = died.elapsed();
        println!("figure: {address} answered by {successor} {took:?} after its node died");
        lan.nodes[elected].host.ip("link set eth0 up");
        lan.nodes[elected].restore_address();
        until(LIMIT, "it serves again", || {
            lan.only(&nodes, address).filter(|again| *again == elected)
        });
    }
}

#[test]
fn a_node_that_is_stopped_says_farewell() {
    root_or_skip!();
    let lan = Lan::new(2);
    let mut nodes = lan.announce_on_all();
    until(LIMIT, "both are heard", || lan.all_candidates(&nodes, FOUR, 2));
    let elected = until(LIMIT, "one announces", || lan.only(&nodes, FOUR));
    until(LIMIT, "it answers", || call(&lan.client, FOUR));
    let stopped = Instant::now();
    nodes[elected].stop();
    let other = 1 - elected;
    until(LIMIT, "the other announces", || lan.only(&nodes, FOUR).filter(|one| *one == other));
    println!("figure: taken over {:?} after a farewell", stopped.elapsed());
    let believed = until(LIMIT, "the client was told", || {
        lan.client.neighbour(FOUR).filter(|mac| *mac == lan.nodes[other].mac())
    });
    assert_eq!(believed, lan.nodes[other].mac());
    assert_eq!(lan.nodes[elected].packet_sockets(), 0, "it closed its sockets");
}

#[test]
fn halves_of_a_network_agree_again_when_it_heals() {
    root_or_skip!();
    let lan = Lan::new(3);
    let nodes = lan.announce_on_all();
    until(LIMIT, "all are heard", || lan.all_candidates(&nodes, FOUR, 3));
    let elected = until(LIMIT, "one announces", || lan.only(&nodes, FOUR));
    lan.unplug(elected);
    until(LIMIT, "both halves serve", || (lan.announcing(&nodes, FOUR).len() == 2).then_some(()));
    lan.plug(elected);
    until(LIMIT, "one serves", || lan.only(&nodes, FOUR).filter(|one| *one == elected));
    let mac = lan.nodes[elected].mac();
    until(LIMIT, "only one answers", || (lan.who_has(FOUR) == BTreeSet::from([mac])).then_some(()));
    until(LIMIT, "the client reaches it", || {
        call(&lan.client, FOUR).filter(|name| *name == lan.nodes[elected].name)
    });
}

#[test]
fn a_stranger_that_has_the_address_is_found_and_told_of() {
    root_or_skip!();
    let lan = Lan::new(1);
    let stranger = lan.add_host("stranger", 9);
    stranger.ip(&format!("address add {FOUR}/24 dev eth0"));
    stranger.ip(&format!("address add {SIX}/64 dev eth0 nodad"));
    let nodes = lan.announce_on_all();
    let mac = stranger.mac("eth0");
    for address in [FOUR, SIX] {
        let told = |told: &Told| matches!(told, Told::Conflict { address: a, mac: m, .. } if *a == ip(address) && *m == mac);
        until(LIMIT, "the conflict is told", || nodes[0].has_told(told));
        assert_eq!(lan.only(&nodes, address), Some(0), "it serves on");
    }
}

#[test]
fn what_a_pod_says_of_an_address_changes_nothing() {
    root_or_skip!();
    let lan = Lan::new(2);
    let pod = lan.nodes[0].add_pod();
    let nodes = lan.announce_on_all();
    until(LIMIT, "both are heard", || lan.all_candidates(&nodes, FOUR, 2));
    let addresses = [FOUR, SIX];
    let before = addresses.map(|address| {
        until(LIMIT, "it answers", || call(&lan.client, address));
        until(LIMIT, "one announces", || lan.only(&nodes, address))
    });
    let from = pod.mac("eth0");
    let offers = addresses.map(ip).to_vec();
    let message = Message::Alive { grade: Grade::Full, part: 0, parts: 1, offers };
    let mut frames = arp::Arp::announcement(FOUR.parse().unwrap(), from).to_vec();
    frames.push(ndp::Ndp::announcement(SIX.parse().unwrap(), from));
    let beats = ["node-1", "node-2", "zz"].map(|node| {
        let beat = Beat {
            cluster: net::CLUSTER,
            node: node.into(),
            sequence: u64::MAX,
            message: message.clone(),
        };
        beat.frame(from)
    });
    frames.extend(beats);
    for _ in 0..20 {
        pod.send(frames.clone());
        std::thread::sleep(Duration::from_millis(20));
    }
    for (address, elected) in addresses.into_iter().zip(before) {
        assert_eq!(lan.only(&nodes, address), Some(elected), "the election");
        let believed = lan.client.neighbour(address);
        assert_eq!(believed, Some(lan.nodes[elected].mac()), "the client's neighbours");
        assert_eq!(call(&lan.client, address), Some(lan.nodes[elected].name.clone()));
        for node in &lan.nodes {
            assert_eq!(node.host.neighbour(address), None, "the nodes' neighbours");
        }
    }
    let spoof = |told: &Told| matches!(told, Told::Conflict { .. });
    assert!(nodes.iter().all(|node| node.has_told(spoof).is_none()));
    assert!(nodes.iter().all(|node| !node.view().links.iter().any(|l| l.peers.contains_key("zz"))));
}

#[test]
fn without_addresses_no_socket_is_open_and_no_frame_is_sent() {
    root_or_skip!();
    let lan = Lan::new(1);
    let sniffer = lan.add_host("sniffer", 9);
    let nodes = lan.announce_on_all();
    until(LIMIT, "it announces", || lan.only(&nodes, FOUR));
    assert_eq!(lan.nodes[0].packet_sockets(), EtherType::ALL.len());
    nodes[0].order(&[]);
    until(LIMIT, "it closes", || (lan.nodes[0].packet_sockets() == 0).then_some(()));
    let heard = sniffer.listen(Duration::from_millis(500));
    let own: Vec<&Frame> = heard.iter().filter(|f| matches!(f.content, Content::Beat(_))).collect();
    assert!(own.is_empty(), "{own:?}");
    assert!(nodes[0].view().addresses.is_empty());
}

#[test]
fn a_link_that_comes_later_is_found() {
    root_or_skip!();
    let lan = Lan::new(1);
    lan.nodes[0].host.ip("link set eth0 down");
    let nodes = lan.announce_on_all();
    let lost = |told: &Told| matches!(told, Told::NotOnLink { .. });
    until(LIMIT, "it tells that it has no link for it", || nodes[0].has_told(lost));
    assert!(matches!(
        nodes[0].view().addresses[&ip(FOUR)].standing,
        Standing::Declines(announce::offer::Declined::NotOnLink)
    ));
    lan.nodes[0].host.ip("link set eth0 up");
    lan.nodes[0].restore_address();
    until(LIMIT, "it answers", || call(&lan.client, FOUR));
}
