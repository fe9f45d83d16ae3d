//! What is said to which answers.

use proto::lb::{Door, Link, Peer};
use serde_json::json;

use super::*;

const VIP: &str = "192.168.56.201";

fn mac(node: usize) -> String {
    format!("02:00:00:00:00:0{node}")
}

/// Three nodes of which node-2 announces, and all is well.
fn well() -> Vec<CheckReply> {
    (1..=3)
        .map(|node| {
            let others = (1..=3).filter(|other| *other != node);
            CheckReply {
                node: format!("node-{node}"),
                address: VIP.to_owned(),
                services: vec!["default/web".to_owned()],
                standing: if node == 2 { "Announces" } else { "Waits" }.to_owned(),
                elected: "node-2".to_owned(),
                link: "eth0".to_owned(),
                links: vec![Link { name: "eth0".to_owned(), mac: mac(node) }],
                peers: others.map(|n| Peer { node: format!("node-{n}"), mac: mac(n) }).collect(),
                answers: if node == 2 { vec![] } else { vec![mac(2)] },
                doors: vec![Door {
                    port: 80,
                    service: "default/web".to_owned(),
                    outcome: "Open".to_owned(),
                }],
                ..CheckReply::default()
            }
        })
        .collect()
}

fn declined(reason: &str, message: &str) -> Vec<CheckReply> {
    let mut replies = well();
    for reply in &mut replies {
        reply.standing = "Declines".to_owned();
        reply.reason = reason.to_owned();
        reply.message = message.to_owned();
        reply.answers.clear();
    }
    replies
}

fn judge(replies: &[CheckReply]) -> Verdict {
    verdict(VIP.parse().unwrap(), replies, 0, None)
}

#[track_caller]
fn only(replies: &[CheckReply]) -> Bad {
    let mut bad = judge(replies).bad;
    assert_eq!(bad.len(), 1, "{bad:?}");
    bad.remove(0)
}

#[test]
fn one_announces_and_all_are_answered_by_it() {
    let verdict = judge(&well());
    assert_eq!(verdict.bad, []);
    assert_eq!(
        verdict.good,
        [
            "192.168.56.201 of default/web is announced by node-2 (02:00:00:00:00:02), and the 2 other \
          nodes are answered by it alone"
        ]
    );
    assert_eq!(verdict.table[0].join("|"), "NODE|LINK|STANDING|HEARS|ANSWERED BY|TCP 80");
    assert_eq!(verdict.table[1].join("|"), "node-1|eth0|Waits|node-2,node-3|node-2|Open");
    assert_eq!(verdict.table[2].join("|"), "node-2|eth0|Announces|node-1,node-3|<none>|Open");
}

#[test]
fn under_policy_local_without_endpoints_nobody_announces() {
    let message = "service default/web has externalTrafficPolicy Local and no ready endpoint here";
    let bad = only(&declined("NoLocalEndpoint", message));
    let who = "no node announces 192.168.56.201 (node-1, node-2, node-3: service default/web has";
    assert!(bad.what.starts_with(who), "{bad:?}");
    assert!(bad.fix.contains("make a pod of default/web ready"));
}

#[test]
fn an_address_of_no_network_is_not_announced() {
    let mut replies = declined("NotOnLink", "no network of the node has the address");
    replies.iter_mut().for_each(|reply| reply.link.clear());
    let bad = only(&replies);
    assert!(bad.what.contains("no network of the node has the address"), "{bad:?}");
    assert!(bad.fix.contains("give the pool addresses of the nodes' own network"));
}

#[test]
fn two_that_announce_do_not_hear_each_other() {
    let mut replies = well();
    replies[0].standing = "Announces".to_owned();
    replies[0].answers.clear();
    let bad = only(&replies);
    assert!(bad.what.starts_with("node-1 and node-2 both announce"), "{bad:?}");
    assert!(bad.fix.contains("0x88b5"));
}

#[test]
fn a_host_that_is_no_node_is_named() {
    let mut replies = well();
    replies[1].answers.push("de:ad:be:ef:00:01".to_owned());
    let bad = only(&replies);
    assert!(bad.what.contains("de:ad:be:ef:00:01"), "{bad:?}");
    assert_eq!(judge(&replies).table[2][4], "de:ad:be:ef:00:01 (no node)");
}

#[test]
fn another_nodes_kernel_that_answers_is_to_keep_silent() {
    let mut replies = well();
    replies[0].answers.push(mac(3));
    let bad = only(&replies);
    assert!(bad.what.starts_with("node-3 answers for 192.168.56.201, too"), "{bad:?}");
    assert!(bad.fix.contains("arp_ignore=1"));
}

#[test]
fn an_answer_that_does_not_come_through_is_a_problem_of_the_network() {
    let mut replies = well();
    replies[2].answers.clear();
    let bad = only(&replies);
    assert!(bad.what.contains("but node-3 hears no answer"), "{bad:?}");
}

#[test]
fn doors_that_do_not_open_are_told_with_the_nodes_that_knocked() {
    let mut replies = well();
    replies[0].doors[0].outcome = "Refused".to_owned();
    replies[2].doors[0].outcome = "Refused".to_owned();
    let bad = only(&replies);
    assert_eq!(
        bad.what,
        "a connection to 192.168.56.201:80 of default/web is refused from node-1, node-3"
    );
    replies[2].doors[0].outcome = "Silent".to_owned();
    assert_eq!(judge(&replies).bad.len(), 2);
}

#[test]
fn an_address_of_a_node_needs_nobody_to_announce_it() {
    let replies = declined("NodeAddress", "a node itself has the address and answers for it");
    let verdict = judge(&replies);
    assert_eq!(verdict.bad, []);
    assert!(verdict.good[0].contains("is an address of a node"));
}

#[test]
fn an_address_of_another_load_balancer_is_that_ones() {
    let replies = declined("OtherBalancer", "another load balancer gave the address");
    let bad = only(&replies);
    assert!(bad.what.contains("another load balancer gave the address"), "{bad:?}");
    assert!(bad.fix.starts_with("ask the load balancer that gave it to default/web"), "{bad:?}");
}

#[test]
fn an_address_that_no_service_has_is_looked_for_in_the_pools() {
    let mut replies = well();
    for reply in &mut replies {
        reply.services.clear();
        reply.standing.clear();
        reply.answers.clear();
        reply.doors.clear();
    }
    let pools = [json!({"metadata": {"name": "default"},
        "spec": {"addresses": ["192.168.56.200-192.168.56.249"]}})];
    let cluster = Cluster::read(VIP.parse().unwrap(), &[], &pools);
    let bad = verdict(VIP.parse().unwrap(), &replies, 0, Some(&cluster)).bad;
    assert_eq!(bad.len(), 1);
    assert_eq!(bad[0].what, "no service has 192.168.56.201");
    assert!(bad[0].fix.contains("default (192.168.56.200-192.168.56.249)"), "{bad:?}");
}

#[test]
fn without_any_node_nothing_can_be_told() {
    assert_eq!(only(&[]).what, "no node could be asked");
}

#[test]
fn services_are_found_by_their_address_in_any_spelling() {
    let service = json!({"metadata": {"namespace": "shop", "name": "web"},
        "spec": {"externalTrafficPolicy": "Local"},
        "status": {"loadBalancer": {"ingress": [{"ip": "fd00:0:0::200"}]}}});
    let cluster = Cluster::read("fd00::200".parse().unwrap(), &[service], &[]);
    assert_eq!(cluster.services, BTreeMap::from([("shop/web".to_owned(), true)]));
}
