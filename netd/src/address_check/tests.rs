//! What a node answers about an address, and what its network is found to say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, TcpListener};

use announce::Lan;
use announce::offer::Declined;
use netmodel::snapshot::ServiceName;

use super::*;

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 56, 200));
const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
const OTHER: Mac = Mac([2, 0, 0, 0, 0, 2]);

/// A node that hears another on its link, and what it does for the address.
fn view(standing: Standing) -> View {
    let lan = Lan {
        index: 7,
        name: "eth0".to_owned(),
        mac: OWN,
        nets: vec!["192.168.56.0/24".parse().unwrap()],
    };
    let candidates =
        BTreeMap::from([("node-1".to_owned(), Grade::Full), ("node-2".to_owned(), Grade::Reserve)]);
    let known = AddressView {
        services: BTreeSet::from([ServiceName::new("default", "web")]),
        link: Some("eth0".to_owned()),
        standing,
        candidates,
    };
    View {
        links: vec![LinkView { lan, peers: BTreeMap::from([("node-2".to_owned(), OTHER)]) }],
        addresses: BTreeMap::from([(ADDRESS, known)]),
        ..View::default()
    }
}

fn about(address: IpAddr, view: &View) -> message::CheckReply {
    reply("node-1".to_owned(), address, view, &Ok(Answers::from([OTHER])), Vec::new())
}

#[test]
fn each_standing_has_a_word_and_says_who_is_elected() {
    let waits = Standing::Waits { elected: "node-2".to_owned() };
    for (standing, word, elected) in [
        (Standing::Announces, "Announces", "node-1"),
        (Standing::Listens, "Listens", ""),
        (waits, "Waits", "node-2"),
        (Standing::Declines(Declined::Leaving), "Declines", ""),
    ] {
        let reply = about(ADDRESS, &view(standing));
        assert_eq!((&*reply.standing, &*reply.elected), (word, elected));
        assert_eq!(reply.services, ["default/web"]);
    }
}

#[test]
fn why_a_node_declines_is_a_reason_and_a_sentence() {
    let web = ServiceName::new("default", "web");
    for (declined, reason) in [
        (Declined::NotProgrammed, "NotProgrammed"),
        (Declined::NoLocalEndpoint(web), "NoLocalEndpoint"),
        (Declined::NotOnLink, "NotOnLink"),
    ] {
        let sentence = declined.to_string();
        let reply = about(ADDRESS, &view(Standing::Declines(declined)));
        assert_eq!((&*reply.reason, reply.message), (reason, sentence));
    }
    let reply = about(ADDRESS, &view(Standing::Announces));
    assert!(reply.reason.is_empty() && reply.message.is_empty());
}

#[test]
fn the_network_is_told_as_it_was_seen() {
    let reply = about(ADDRESS, &view(Standing::Announces));
    assert_eq!((&*reply.node, &*reply.address, &*reply.link), ("node-1", "192.168.56.200", "eth0"));
    assert_eq!(reply.answers, [OTHER.to_string()]);
    let [link] = &reply.links[..] else { panic!("{:?}", reply.links) };
    assert_eq!((&*link.name, &link.mac), ("eth0", &OWN.to_string()));
    let [peer] = &reply.peers[..] else { panic!("{:?}", reply.peers) };
    assert_eq!((&*peer.node, &peer.mac), ("node-2", &OTHER.to_string()));
    let candidates = reply.candidates.iter().map(|c| (&*c.node, c.reserve));
    assert_eq!(candidates.collect::<Vec<_>>(), [("node-1", false), ("node-2", true)]);
    assert!(reply.probe_error.is_empty());
}

#[test]
fn of_an_address_that_is_none_of_ours_only_the_network_is_told() {
    let near = about(IpAddr::from([192, 168, 56, 9]), &view(Standing::Announces));
    assert!(near.services.is_empty() && near.standing.is_empty() && near.elected.is_empty());
    assert_eq!((&*near.link, near.answers.len()), ("eth0", 1));
    let far = about(IpAddr::from([10, 0, 0, 9]), &view(Standing::Announces));
    assert!(far.link.is_empty(), "no network of this node has it");
}

#[tokio::test]
async fn a_door_is_open_or_its_call_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let door = || Door { port, service: ServiceName::new("default", "web") };
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let found = knock(local, door()).await;
    assert_eq!(
        (found.port, &*found.service, &*found.outcome),
        (port.into(), "default/web", "Open")
    );
    drop(listener);
    assert_eq!(knock(local, door()).await.outcome, "Refused");
}
