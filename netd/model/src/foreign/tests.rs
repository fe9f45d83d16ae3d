//! Listings as firewalls leave them, and what is said about them.

use super::*;
use crate::address::Protocol;
use crate::nft::Engine;

/// Handles (0: a policy), and whether they certainly block.
type Blocks = &'static [(u64, bool)];

fn node(engine: Engine) -> NodeView {
    NodeView {
        engine,
        bridge: "mini0".to_owned(),
        uplink: Some("eth0".to_owned()),
        cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap(), "fd00:10:244::/56".parse().unwrap()],
        pod_cidrs: vec!["10.244.0.0/24".parse().unwrap(), "fd00:10:244::/64".parse().unwrap()],
        service_cidrs: vec!["10.96.0.0/12".parse().unwrap()],
        addresses: vec!["192.168.56.70".parse().unwrap(), "fd00:192:168:56::70".parse().unwrap()],
        backend_ports: [(Protocol::Tcp, 80)].into(),
        node_ports: [(Protocol::Tcp, 30080)].into(),
        node_port_range: 30000..=32767,
    }
}

fn found(listing: &str, engine: Engine) -> Vec<Finding> {
    let mut ruleset = Ruleset::default();
    ruleset.read(listing);
    findings(&ruleset, &of_node(&node(engine)))
}

/// Handle (0: policy), whether it is certain.
fn brief(listing: &str, engine: Engine) -> Vec<(u64, bool)> {
    let found = found(listing, engine);
    found.iter().map(|f| (f.handle.unwrap_or(0), f.certain)).collect()
}

fn forward(policy: &str, rules: &[&str]) -> String {
    let mut text = format!(
        "table inet filter {{ # handle 1\n\tchain forward {{ # handle 1\n\
         \t\ttype filter hook forward priority filter; policy {policy};\n"
    );
    for (number, rule) in rules.iter().enumerate() {
        text.push_str(&format!("\t\t{rule} # handle {}\n", number + 2));
    }
    text.push_str("\t}\n}\n");
    text
}

#[test]
fn a_single_rule_is_found_exactly_when_it_blocks() {
    let cases: &[(&str, Blocks)] = &[
        // All of it, or one thing we need.
        ("drop", &[(2, true)]),
        ("counter packets 12 bytes 840 drop", &[(2, true)]),
        ("reject with icmpx admin-prohibited", &[(2, true)]),
        ("iifname \"mini0\" drop", &[(2, true)]),
        ("iifname \"mini*\" drop", &[(2, true)]),
        ("oifname { \"docker0\", \"mini0\" } log prefix \"no # way\" drop", &[(2, true)]),
        ("oifname != \"eth0\" drop", &[(2, true)]),
        ("ip daddr 10.244.0.0/16 drop", &[(2, true)]),
        ("ip6 saddr fd00::/8 ip6 daddr fd00::/8 drop", &[(2, true)]),
        ("meta nfproto ipv6 drop", &[(2, true)]),
        ("ct state new tcp dport 80 drop", &[(2, true)]),
        ("tcp dport { 22, 75-85 } drop", &[(2, true)]),
        ("ct state vmap { established : accept, related : accept, new : drop }", &[(2, true)]),
        ("iifname vmap { \"lo\" : accept, \"mini0\" : drop }", &[(2, true)]),
        ("meta l4proto { tcp, udp } drop", &[(2, true)]),
        ("ip saddr 10.244.0.0-10.245.255.255 drop", &[(2, true)]),
        // What does not concern us.
        ("accept", &[]),
        ("iifname \"docker0\" drop", &[]),
        ("ct state invalid drop", &[]),
        ("ct state { invalid, untracked } drop", &[]),
        ("ip saddr 203.0.113.9 drop", &[]),
        ("ip daddr 10.244.0.17 drop", &[]),
        ("tcp dport 22 drop", &[]),
        ("udp dport 80 drop", &[]),
        ("icmp type echo-request drop", &[]),
        ("meta pkttype broadcast drop", &[]),
        ("fib saddr . iif oif missing drop", &[]),
        ("fib daddr type local drop", &[]),
        ("ct state vmap { invalid : drop, established : accept }", &[]),
        ("log prefix \"drop\"", &[]),
        ("jump nowhere", &[]),
        // What cannot be told.
        ("limit rate over 3/second drop", &[(2, false)]),
        ("meta mark & 0x00004000 == 0x00004000 drop", &[(2, false)]),
        ("iifname . oifname { \"mini0\" . \"eth0\" } drop", &[(2, false)]),
        ("xt match \"string\" drop", &[(2, false)]),
        ("queue to 0", &[(2, false)]),
        ("meta mark 0x00000001 iifname \"docker0\" drop", &[]),
    ];
    for (rule, expected) in cases {
        assert_eq!(brief(&forward("accept", &[rule]), Engine::Nftables), *expected, "{rule}");
    }
}

#[test]
fn what_is_accepted_before_is_not_blocked() {
    let cases: &[(&[&str], Blocks)] = &[
        (&[], &[(0, true)]),
        (&["ct state established,related accept"], &[(0, true)]),
        (&["accept"], &[]),
        (&["iifname \"mini0\" accept", "oifname \"mini0\" accept"], &[(0, true)]),
        (
            &[
                "ct state vmap { established : accept, related : accept, invalid : drop }",
                "iifname \"mini0\" accept",
                "oifname \"mini0\" accept",
                "ip daddr 10.244.0.0/16 accept",
                "ip6 daddr fd00:10:244::/56 accept",
            ],
            &[],
        ),
        (&["ct state new accept"], &[(0, true)]),
        (&["ct state new accept", "ct direction reply accept"], &[]),
        // Perhaps.
        (&["meta mark & 0x1 == 0x1 accept"], &[(0, false)]),
    ];
    let by_state = ["ct state established,related accept", "ct state new accept"];
    assert_eq!(brief(&forward("drop", &by_state), Engine::Nftables), []);
    for (rules, expected) in cases {
        assert_eq!(brief(&forward("drop", rules), Engine::Nftables), *expected, "{rules:?}");
    }
    let translated = forward("drop", &["ct status dnat accept"]);
    let what = &found(&translated, Engine::Nftables)[0].blocks;
    assert!(!what.iter().any(|w| w.starts_with("clients outside")), "{what:?}");
    let what = &found(&translated, Engine::Ipvs)[0].blocks;
    assert!(what.iter().any(|w| w.starts_with("clients outside")), "{what:?}");
}

#[test]
fn jumps_come_back_and_gotos_do_not() {
    let chains = |first: &str, there: &str| {
        format!(
            "table inet t {{ # handle 1
    set bad {{ # handle 9
        type ipv4_addr
        flags interval
        elements = {{ 10.244.0.0/15,
                 203.0.113.9 }}
    }}
    map ways {{ # handle 8
        type ifname : verdict
        elements = {{ \"mini0\" : jump there }}
    }}
    chain there {{ # handle 2
        {there} # handle 20
    }}
    chain entry {{ # handle 3
        type filter hook forward priority filter; policy accept;
        {first} # handle 30
        drop # handle 31
    }}
}}"
        )
    };
    let cases: &[(&str, &str, Blocks)] = &[
        ("jump there", "accept", &[]),
        ("jump there", "return", &[(31, true)]),
        ("jump there", "drop", &[(20, true)]),
        ("goto there", "return", &[]),
        ("iifname vmap @ways", "accept", &[(31, true)]),
        ("ip saddr @bad jump there", "drop", &[(20, true), (31, true)]),
        ("meta mark 0x1 jump there", "drop", &[(20, false), (31, true)]),
        ("meta mark 0x1 jump there", "accept", &[(31, false)]),
    ];
    for (first, there, expected) in cases {
        let listing = chains(first, there);
        let mut found = brief(&listing, Engine::Nftables);
        found.sort_unstable();
        assert_eq!(found, *expected, "{first} / {there}");
    }
}

#[test]
fn ipvs_needs_the_way_in_to_the_node() {
    let listing = "table ip filter { # handle 1
    chain INPUT { # handle 1
        type filter hook input priority filter; policy drop;
        ct state related,established accept # handle 2
        iifname \"lo\" accept # handle 3
        tcp dport 22 accept # handle 4
    }
}";
    let found = found(listing, Engine::Ipvs);
    assert_eq!(found.len(), 1);
    assert_eq!(
        found[0].blocks,
        [
            "this node's pods to this node",
            "clients outside to node ports",
            "this node's pods to Services"
        ]
    );
    assert_eq!(
        found[0].fix,
        "iptables -I INPUT -i mini0 -j ACCEPT && \
         iptables -I INPUT -p tcp --dport 30000:32767 -j ACCEPT"
    );
}

#[test]
fn a_dormant_table_and_other_hooks_block_nothing() {
    let dormant =
        forward("drop", &[]).replace("# handle 1\n\tchain", "# handle 1\n\tflags dormant\n\tchain");
    assert!(dormant.contains("flags dormant"));
    assert!(found(&dormant, Engine::Nftables).is_empty());
    let nat = forward("drop", &[]).replace("type filter", "type nat");
    assert!(found(&nat, Engine::Nftables).is_empty());
    assert!(found("", Engine::Nftables).is_empty());
    assert!(found("table inet x { # handle 1\n}\n garbage { } } {", Engine::Nftables).is_empty());
}

#[test]
fn docker_on_the_machine_blocks_a_bridge_between_hosts_only_with_bridge_netfilter() {
    let docker = "table ip filter { # handle 1
    chain DOCKER-USER { # handle 2
        counter return # handle 9
    }
    chain FORWARD { # handle 1
        type filter hook forward priority filter; policy drop;
        counter jump DOCKER-USER # handle 10
        oifname \"docker0\" ct state related,established counter accept # handle 11
    }
}";
    let mut ruleset = Ruleset::default();
    ruleset.read(docker);
    let networks = ["192.168.56.0/24".parse().unwrap()];
    assert!(findings(&ruleset, &between_hosts("mlab", &networks, false)).is_empty());
    let found = findings(&ruleset, &between_hosts("mlab", &networks, true));
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].program.as_str(), found[0].certain), ("docker", true));
    assert_eq!(found[0].place, "ip filter FORWARD (hook forward)");
    assert_eq!(found[0].fix, "iptables -I DOCKER-USER -i mlab -o mlab -j ACCEPT");
}

#[test]
fn a_rule_of_the_older_iptables_is_read_by_its_translation() {
    let translated = "# Translated by iptables-restore-translate v1.8.9
add table ip filter
add chain ip filter INPUT { type filter hook input priority 0; policy accept; }
add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }
add chain ip filter ufw-before-forward
add rule ip filter FORWARD counter jump ufw-before-forward
add rule ip filter ufw-before-forward ct state related,established counter accept
";
    let mut ruleset = Ruleset::default();
    ruleset.read_legacy(translated);
    let found = findings(&ruleset, &of_node(&node(Engine::Nftables)));
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].program.as_str(), found[0].rule.as_str()), ("ufw", "policy drop"));
    assert_eq!(
        found[0].fix,
        "ufw route allow in on mini0 && ufw route allow out on mini0 && \
         ufw route allow to 10.244.0.0/16"
    );
}

#[test]
fn ufw_as_it_comes_is_named_and_passes_after_its_fix() {
    let found = found(include_str!("listings/ufw.txt"), Engine::Ipvs);
    let brief: Vec<(&str, &str, &str)> =
        found.iter().map(|f| (f.program.as_str(), f.place.as_str(), f.rule.as_str())).collect();
    assert_eq!(
        brief,
        [
            ("ufw", "ip filter FORWARD (hook forward)", "policy drop"),
            ("ufw", "ip filter INPUT (hook input)", "policy drop"),
        ]
    );
    assert_eq!(
        found[0].fix,
        "ufw route allow in on mini0 && ufw route allow out on mini0 && \
         ufw route allow to 10.244.0.0/16"
    );
    assert_eq!(found[1].fix, "ufw allow in on mini0 && ufw allow 30000:32767/tcp");
    assert!(found.iter().all(|f| f.certain));
    let allowed = include_str!("listings/ufw-allowed.txt");
    assert_eq!(self::found(allowed, Engine::Nftables), []);
}

#[test]
fn firewalld_as_it_comes_is_named_and_passes_after_its_fix() {
    let listing = include_str!("listings/firewalld.txt");
    let found = found(listing, Engine::Nftables);
    let places: Vec<&str> = found.iter().map(|f| f.place.as_str()).collect();
    assert_eq!(
        places,
        [
            "inet firewalld filter_FWD_public (hook forward, from filter_FORWARD)",
            "inet firewalld filter_IN_public (hook input, from filter_INPUT)",
        ]
    );
    assert!(found.iter().all(|f| f.certain && f.program == "firewalld"));
    assert_eq!(
        found[0].fix,
        "firewall-cmd --permanent --zone=trusted --add-interface=mini0 && \
         firewall-cmd --permanent --new-policy=minictl-in && \
         firewall-cmd --permanent --policy=minictl-in --add-ingress-zone=ANY && \
         firewall-cmd --permanent --policy=minictl-in --add-egress-zone=trusted && \
         firewall-cmd --permanent --policy=minictl-in --set-target=ACCEPT && \
         firewall-cmd --reload"
    );
    let ipvs: Vec<String> =
        self::found(listing, Engine::Ipvs).into_iter().map(|found| found.fix).collect();
    assert!(ipvs[0].contains("--zone=trusted --add-source=10.244.0.0/16"), "{}", ipvs[0]);
    assert!(ipvs[1].contains("--add-port=30000-32767/tcp"), "{}", ipvs[1]);
    let allowed = include_str!("listings/firewalld-allowed.txt");
    assert_eq!(self::found(allowed, Engine::Nftables), []);
    assert_eq!(self::found(allowed, Engine::Ipvs), []);
}

proptest::proptest! {
    /// A later nft may say what this one does not: it must not blind us to the rest.
    #[test]
    fn no_listing_panics_and_words_unknown_hide_no_rule(
        junk in "(meta |ct |tcp |[a-z]{1,6} |[0-9./:-]{1,8} |@|\\{ |\\} |\"|, |!= |vmap |jump |# handle ){0,12}",
    ) {
        let mut ruleset = Ruleset::default();
        ruleset.read(&junk);
        ruleset.read_legacy(&format!("add rule ip filter FORWARD {junk}"));
        let balanced = junk.replace(['"', '{', '}', '#'], "");
        let listing = forward("accept", &[&format!("wonder {balanced}"), "iifname \"mini0\" drop"]);
        let found = brief(&listing, Engine::Nftables);
        let passes = ["accept", "return", "goto"].iter().any(|word| balanced.contains(word));
        proptest::prop_assert!(passes || found.iter().any(|(handle, _)| *handle == 3), "{listing}");
    }
}
