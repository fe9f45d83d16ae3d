//! What is said of a packet's way.

use proto::dataplane::{Origin, Passed, Step};

use super::super::ends::Wanted;
use super::super::ends::tests::cluster;
use super::*;

/// A packet in the cluster of the tests beside, and what its first node answers.
fn packet(from: &str, to: &str) -> (Packet, Cluster) {
    let cluster = cluster();
    let origin = cluster.origin(from, |_| None).unwrap();
    let destination = cluster.destination(&Wanted::parse(to, None).unwrap(), &origin).unwrap();
    let node = cluster.entry(&origin, &destination, None).unwrap();
    (Packet { origin, destination, node }, cluster)
}

fn reply(node: &str, place: &str, ends: &[(&str, &str, u32)]) -> TraceReply {
    TraceReply {
        node: node.to_owned(),
        engine: "nftables".to_owned(),
        passed_on_of: 64,
        steps: vec![Step { place: place.to_owned(), what: "a rule".to_owned() }],
        ends: ends
            .iter()
            .map(|(verdict, address, share)| End {
                verdict: (*verdict).to_owned(),
                address: (*address).to_owned(),
                share: *share,
                ..End::default()
            })
            .collect(),
        ..TraceReply::default()
    }
}

#[test]
fn shares_are_of_all_packets_wherever_they_end() {
    let (packet, cluster) = packet("203.0.113.7", "192.168.56.70:30080");
    let mut first = reply("node-1", "pick", &[("Delivered", "192.168.56.70:80", 2)]);
    let address = "192.168.56.71".to_owned();
    first.passed_on = vec![Passed { node: "node-2".to_owned(), address, share: 16 }];
    let second = reply(
        "node-2",
        "pick",
        &[("Delivered", "10.244.1.2:80", 1), ("Delivered", "203.0.113.9:80", 1)],
    );
    let seen = [
        Seen { reply: first, share: 0.75, silent: None },
        Seen { reply: second, share: 0.25, silent: None },
    ];
    let ends = ends(&seen, &cluster);
    let text = way(&packet, &seen, &ends, &notes(&packet, &seen, &cluster)).unwrap();
    let expected = "\
203.0.113.7 -> 192.168.56.70:30080/TCP

node-1 (nftables) gets it from the network
  ingress of the link: 16 of 64 slots, by a hash of the client's address and port, are node-2's: on to 192.168.56.71, unchanged
  pick: a rule

node-2 (nftables), to which node-1 passes it on
  pick: a rule

NODE     VERDICT     TO                 SHARE   SOURCE SEEN   WHO
node-1   Delivered   192.168.56.70:80   75%     203.0.113.7   a process of node-1 itself
node-2   Delivered   10.244.1.2:80      12%     203.0.113.7   pod default/web-1 on node-2
node-2   Delivered   203.0.113.9:80     12%     203.0.113.7   outside the cluster
";
    assert_eq!(text, expected);
}

#[test]
fn a_service_that_a_process_of_the_node_answers_for_says_so() {
    let (_, cluster) = packet("web-1", "web");
    let reply = reply("node-2", "input", &[("Delivered", "10.96.0.9:80", 1)]);
    let ends = ends(&[Seen { reply, share: 1.0, silent: None }], &cluster);
    assert_eq!(ends[0].who, "a process of node-2 itself");
}

#[test]
fn that_nobody_answers_has_a_reason() {
    for (from, to, verdict, why, says) in [
        (
            "web-1",
            "10.99.1.1:80",
            "Dropped",
            "NoService",
            "Dropped: no Service has 10.99.1.1:80/TCP.",
        ),
        (
            "web-1",
            "web:22",
            "Refused",
            "NoSuchPort",
            "Refused: default/web has the address fd00:10:96::9, but no port 22/TCP.",
        ),
        (
            "web-1",
            "web",
            "Refused",
            "NoEndpoint",
            "Refused: default/web has no ready endpoint: minictl get endpointslices -n default -l \
             kubernetes.io/service-name=web.",
        ),
        (
            "web-1",
            "web",
            "Dropped",
            "NotItsAddress",
            "Dropped: fd00:10:244:1::2 is not of the range of node-2's pods.",
        ),
        (
            "203.0.113.7",
            "192.168.56.71:30080",
            "Dropped",
            "NotAdmitted",
            "Dropped: spec.loadBalancerSourceRanges of default/web does not admit this client.",
        ),
        (
            "203.0.113.7",
            "192.168.56.71:30080",
            "Dropped",
            "NoEndpointHere",
            "Dropped: spec.externalTrafficPolicy of default/web is Local, and node-2 has no ready \
             endpoint of it.",
        ),
    ] {
        let (packet, cluster) = packet(from, to);
        let mut reply = reply("node-2", "a chain", &[(verdict, "", 1)]);
        why.clone_into(&mut reply.why);
        let (namespace, name) = ("default".to_owned(), "web".to_owned());
        reply.service = Some(Origin { namespace, name, ..Origin::default() });
        let notes = notes(&packet, &[Seen { reply, share: 1.0, silent: None }], &cluster);
        assert_eq!(notes, [says]);
    }
}

#[test]
fn what_shares_do_not_tell_is_said() {
    let (packet, cluster) = packet("web-1", "web");
    let mut sticky = reply("node-2", "pick", &[("Delivered", "10.244.1.2:8080", 1)]);
    sticky.affinity_seconds = 10800;
    let mut hashed = reply("node-2", "pick", &[("Delivered", "10.244.1.2:8080", 1)]);
    hashed.scheduler = "sh".to_owned();
    for (reply, says) in
        [(sticky, "within the last 10800 s keeps its pod"), (hashed, "scheduler sh")]
    {
        let notes = notes(&packet, &[Seen { reply, share: 1.0, silent: None }], &cluster);
        assert!(notes.len() == 1 && notes[0].contains(says), "{notes:?}");
    }
    let lost = TraceReply { node: "node-3".to_owned(), ..TraceReply::default() };
    let silent = Some("not connected".to_owned());
    let notes = notes(&packet, &[Seen { reply: lost, share: 0.25, silent }], &cluster);
    assert_eq!(notes, ["What becomes of 25% is not known: node-3: not connected"]);
}

#[test]
fn a_load_balancers_address_comes_to_the_node_that_answers_for_it() {
    let (packet, cluster) = packet("203.0.113.7", "192.168.56.200:80");
    assert!(cluster.may_come_to_any(&packet));
    let seen = |announcer: &str| {
        let mut reply = reply("node-1", "pick", &[("Delivered", "10.244.1.2:8080", 1)]);
        announcer.clone_into(&mut reply.announcer);
        [Seen { reply, share: 1.0, silent: None }]
    };
    let announced = notes(&packet, &seen("node-1"), &cluster);
    assert_eq!(announced, ["Note: node-1 answers for 192.168.56.200 on the nodes' network."]);
    let unknown = notes(&packet, &seen(""), &cluster);
    assert!(unknown[0].contains("it may come to any node"), "{unknown:?}");
}

#[test]
fn a_client_outside_is_told_that_cluster_addresses_are_not_for_it() {
    for to in ["web", "10.244.1.2:8080"] {
        let (packet, cluster) = packet("203.0.113.7", to);
        let reply = reply("node-1", "pick", &[("Delivered", "10.244.1.2:8080", 1)]);
        let notes = notes(&packet, &[Seen { reply, share: 1.0, silent: None }], &cluster);
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].contains("means something inside the cluster only"), "{notes:?}");
    }
}
