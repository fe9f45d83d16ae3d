//! Firewalls of others: what a finding names is what real packets do not pass, what it does not
//! name passes, the command it prints lets all of them pass, and looking changes nothing.

use netd::foreign;
use netmodel::foreign::Finding;
use netmodel::snapshot::Snapshot;

use crate::cluster::{add, both_nodes, cluster};
use crate::net::{Host, Net, Outcome, Server, root, serve, tcp};
use crate::{at, engine, isolated, web};

/// A firewall on node 1.
struct Firewall {
    name: &'static str,
    /// How it comes to be: commands of a shell.
    made_by: &'static str,
    program: &'static str,
    /// What the commands that a finding prints do, where their program is not on every machine:
    /// what they are, and what the program makes of them.
    fixed_by: Option<(&'static str, &'static str)>,
}

const FIREWALLS: &[Firewall] = &[
    Firewall {
        name: "a policy of nftables",
        made_by: "nft 'table inet guard { chain forward { \
                  type filter hook forward priority filter; policy drop; \
                  ct state established,related accept; }; }'",
        program: "nftables",
        fixed_by: None,
    },
    Firewall {
        name: "a rule that keeps pods in, even their answers",
        made_by: "nft 'table ip raw { chain early { \
                  type filter hook prerouting priority raw; iifname mini0 counter drop; }; }'",
        program: "nftables",
        fixed_by: None,
    },
    Firewall {
        name: "a rule about pods of other nodes",
        made_by: "nft 'table inet guard { chain there { ip saddr 10.244.2.0/24 jump here; }; \
                  chain here { reject with icmpx admin-prohibited; }; \
                  chain forward { type filter hook forward priority 10; \
                  ip saddr 10.244.0.0/16 iifname eth0 ct state new goto here; }; }'",
        program: "nftables",
        fixed_by: None,
    },
    Firewall {
        name: "a policy of iptables beside Docker's chains",
        made_by: "iptables -N DOCKER-USER && iptables -A DOCKER-USER -j RETURN && \
                  iptables -A FORWARD -j DOCKER-USER && iptables -P FORWARD DROP && \
                  iptables -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        program: "docker",
        fixed_by: None,
    },
    Firewall {
        name: "the older iptables",
        made_by: "iptables-legacy -A FORWARD -p tcp --dport 8080 -o mini0 -j REJECT",
        program: "iptables",
        fixed_by: None,
    },
    Firewall {
        name: "ufw as it comes",
        made_by: concat!("nft '", include_str!("../../model/src/foreign/listings/ufw.txt"), "'"),
        program: "ufw",
        fixed_by: Some((
            "ufw route allow in on mini0 && ufw route allow out on mini0",
            concat!(
                "nft delete table ip filter; nft '",
                include_str!("../../model/src/foreign/listings/ufw-allowed.txt"),
                "'"
            ),
        )),
    },
    Firewall {
        name: "firewalld as it comes",
        made_by: concat!(
            "nft '",
            include_str!("../../model/src/foreign/listings/firewalld.txt"),
            "'"
        ),
        program: "firewalld",
        fixed_by: Some((
            "firewall-cmd --permanent --zone=trusted --add-interface=mini0",
            concat!(
                "nft delete table inet firewalld; nft '",
                include_str!("../../model/src/foreign/listings/firewalld-allowed.txt"),
                "'"
            ),
        )),
    },
    Firewall {
        name: "a firewall that lets the cluster be",
        made_by: "nft 'table inet guard { chain forward { \
                  type filter hook forward priority filter; policy accept; \
                  ct state invalid drop; ip saddr 203.0.113.7 drop; tcp dport 22 drop; }; \
                  chain input { type filter hook input priority filter; policy accept; \
                  iifname eth0 tcp dport 9100 drop; }; }'",
        program: "",
        fixed_by: None,
    },
];

/// Who calls whom, and by which words a finding names it.
fn passages(net: &Net) -> Vec<(&'static str, Vec<&'static str>, Outcome)> {
    let calls = [
        (&net.a, "10.244.1.6:8080", vec!["this node's pods to each other"]),
        (&net.a, "10.244.2.5:8080", vec!["this node's pods to pods of other nodes"]),
        (&net.c, "10.244.1.6:8080", vec!["pods of other nodes to this node's pods"]),
        (&net.a, "192.168.56.10:8000", vec!["this node's pods to the world"]),
        (&net.a, "192.168.56.70:9000", vec!["this node's pods to this node"]),
        (&net.node1, "10.244.1.6:8080", vec!["this node to its pods"]),
        (
            &net.client,
            "192.168.56.70:30080",
            vec!["clients outside to Services' pods here", "clients outside to node ports"],
        ),
    ];
    calls.into_iter().map(|(from, to, names)| (to, names, tcp(from, at(to)))).collect()
}

fn shell(host: &Host, command: &str) {
    let command = command.to_owned();
    host.run(move || {
        let output = std::process::Command::new("sh").args(["-c", &command]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {said}");
    });
}

/// All rules of the node but netd's, whose counters and clients change by themselves.
fn rules(host: &Host) -> String {
    host.run(|| {
        let list = "for t in $(nft list tables | grep -v minictl | sed 's/table //; s/ /:/'); do \
                    nft -s list table $(echo $t | tr : ' '); done; iptables-legacy-save | grep -v '^#'; \
                    iptables-legacy-save -c >/dev/null";
        let output = std::process::Command::new("sh").args(["-c", list]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        // Chains of the older iptables carry counters in brackets.
        text.lines().map(|line| line.split(" [").next().unwrap_or(line)).collect::<Vec<_>>().join("\n")
    })
}

fn look(net: &Net, snapshot: &Snapshot) -> Vec<Finding> {
    let mut snapshot = snapshot.clone();
    snapshot.settings.node_name = "node-1".into();
    net.node1.run(move || foreign::on_node(&snapshot, engine()).unwrap())
}

/// Servers for all calls, and a Service with a node port.
fn world(net: &Net) -> (Snapshot, Vec<Server>) {
    let servers = vec![
        serve(&net.b, "b", at("10.244.1.6:8080")),
        serve(&net.c, "c", at("10.244.2.5:8080")),
        serve(&net.client, "client", at("192.168.56.10:8000")),
        serve(&net.node1, "node-1", at("192.168.56.70:9000")),
    ];
    let mut snapshot = cluster();
    let node_port = |service: &mut netmodel::snapshot::Service| {
        web("10.96.0.11")(service);
        service.ports[0].node_port = Some(30080);
    };
    add(&mut snapshot, "web", node_port, &["10.244.1.6"]);
    (snapshot, servers)
}

#[test]
fn what_is_named_is_what_blocks_and_its_fix_unblocks() {
    if !root() {
        return;
    }
    for firewall in FIREWALLS {
        let net = isolated();
        let (snapshot, _servers) = world(&net);
        let _netds = both_nodes(&net, &snapshot);
        let name = firewall.name;
        for (to, _, outcome) in passages(&net) {
            assert!(matches!(outcome, Outcome::Answer(..)), "before {name}: {to}: {outcome:?}");
        }
        assert_eq!(look(&net, &snapshot), [], "before {name}");

        shell(&net.node1, firewall.made_by);
        let before = rules(&net.node1);
        let found = look(&net, &snapshot);
        assert_eq!(rules(&net.node1), before, "{name}: a look changes nothing");
        let named = |names: &[&str]| {
            found.iter().any(|f| f.blocks.iter().any(|b| names.contains(&b.as_str())))
        };
        for (to, names, outcome) in passages(&net) {
            let passes = matches!(outcome, Outcome::Answer(..));
            assert_eq!(named(&names), !passes, "{name}: {names:?} {to}: {outcome:?}\n{found:#?}");
        }
        assert!(found.iter().all(|f| f.certain && f.program == firewall.program), "{found:#?}");
        assert_eq!(found.is_empty(), firewall.program.is_empty(), "{name}");

        match firewall.fixed_by {
            Some((printed, does)) => {
                let all: Vec<&str> = found.iter().map(|f| f.fix.as_str()).collect();
                assert!(all.iter().any(|fix| fix.contains(printed)), "{name}: {all:#?}");
                shell(&net.node1, does);
            }
            None => found.iter().for_each(|f| shell(&net.node1, &f.fix)),
        }
        for (to, _, outcome) in passages(&net) {
            assert!(matches!(outcome, Outcome::Answer(..)), "{name}, fixed: {to}: {outcome:?}");
        }
        assert_eq!(look(&net, &snapshot), [], "{name}, fixed");
    }
}
