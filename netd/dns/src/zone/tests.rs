//! The specification, row by row, and what CoreDNS tests beside it.

use std::collections::BTreeMap;

use hickory_proto::rr::{Name, RecordType};
use proptest::prelude::*;

use super::*;

fn port(name: &str, protocol: &'static str, number: u16) -> Port {
    Port { name: name.into(), protocol, number }
}

fn ips(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|ip| ip.parse().unwrap()).collect()
}

fn endpoint(addr: &str, hostname: Option<&str>, ready: bool) -> Endpoint {
    Endpoint { addr: addr.parse().unwrap(), hostname: hostname.map(Into::into), ready }
}

fn headless() -> Option<Service> {
    Some(Service::Headless { publish_not_ready: false })
}

fn cluster() -> Zone {
    let ranges = ["10.96.0.0/12", "10.244.0.0/16", "fd00:10:96::/112", "fd00:10:244::/56"];
    let ranges = ranges.iter().map(|range| range.parse().unwrap()).collect();
    let mut zone = Zone::new(&"Cluster.local.".parse().unwrap(), ranges);
    zone.set_servers(ips(&["10.96.0.10", "fd00:10:96::a"]));
    let kubernetes =
        Service::Addresses { ips: ips(&["10.96.0.1"]), ports: vec![port("https", "tcp", 443)] };
    zone.set_service("default", "kubernetes", Some(kubernetes));
    let dual = Service::Addresses {
        ips: ips(&["10.96.0.20", "fd00:10:96::14"]),
        ports: vec![port("http", "tcp", 80), port("dns", "udp", 53)],
    };
    zone.set_service("shop", "web", Some(dual));
    let six = Service::Addresses { ips: ips(&["fd00:10:96::6"]), ports: vec![] };
    zone.set_service("shop", "six", Some(six));
    let external = Service::External(Box::new("www.Example.com.".parse().unwrap()));
    zone.set_service("shop", "outside", Some(external));
    zone.set_service("shop", "db", headless());
    let endpoints = vec![
        endpoint("10.244.1.6", None, true),
        endpoint("10.244.1.5", Some("db-0"), true),
        endpoint("10.244.1.7", Some("db-2"), false),
    ];
    let ports = vec![port("sql", "tcp", 5432), port("stats", "tcp", 9090)];
    zone.set_slice("shop", "db-x", Some(("db", Slice { ports, endpoints })));
    let endpoints = vec![endpoint("fd00:10:244::5", Some("db-0"), true)];
    let ports = vec![port("sql", "tcp", 5432)];
    zone.set_slice("shop", "db-6", Some(("db", Slice { ports, endpoints })));
    zone.set_service("shop", "empty", headless());
    zone.set_service("shop", "starting", Some(Service::Headless { publish_not_ready: true }));
    let endpoints = vec![endpoint("10.244.1.8", None, false)];
    zone.set_slice("shop", "s", Some(("starting", Slice { ports: vec![], endpoints })));
    let pod = Pod {
        namespace: "shop".into(),
        name: "web-1".into(),
        ips: ips(&["10.244.0.9", "fd00:10:244::9"]),
        host_network: false,
        config: None,
    };
    zone.set_pod("shop", "web-1", Some(pod));
    zone
}

/// An answer in words: records without their owner, or why there is none.
fn ask(zone: &Zone, name: &str, kind: RecordType) -> Vec<String> {
    let name = Name::from_ascii(format!("{name}.")).unwrap();
    let Some(lookup) = zone.lookup(&name, kind) else { return vec!["elsewhere".into()] };
    let word = |word: &str| {
        let soa = lookup.soa.as_ref().expect("a negative answer has a start of authority");
        assert_eq!(soa.record_type(), RecordType::SOA);
        assert!(lookup.answers.is_empty() && lookup.additionals.is_empty());
        vec![word.to_owned()]
    };
    match lookup.outcome {
        Outcome::NoName => word("no name"),
        Outcome::NoData => word("no data"),
        Outcome::Records => {
            assert!(lookup.answers.iter().all(|record| record.name.eq_case(&name)));
            let all = lookup.answers.iter().map(|record| (record, ""));
            let all = all.chain(lookup.additionals.iter().map(|record| (record, "+")));
            let text = |(record, sign): (&hickory_proto::rr::Record, &str)| {
                let owner =
                    if sign.is_empty() { String::new() } else { format!("{} ", record.name) };
                format!("{sign}{owner}{} {}", record.record_type(), record.data)
            };
            all.map(text).collect()
        }
    }
}

/// A name, a kind of records, and the answer.
type Row = (&'static str, RecordType, &'static [&'static str]);

/// The version, and the addresses of Services.
const VERSION_AND_ADDRESSES: &[Row] = &[
    // 2.2: the version of the schema.
    ("dns-version.cluster.local", RecordType::TXT, &["TXT 1.1.0"]),
    ("dns-version.cluster.local", RecordType::A, &["no data"]),
    // 2.3.1: addresses of a Service, of either family.
    ("kubernetes.default.svc.cluster.local", RecordType::A, &["A 10.96.0.1"]),
    ("kubernetes.default.svc.cluster.local", RecordType::AAAA, &["no data"]),
    ("KuberNetes.Default.SVC.Cluster.Local", RecordType::A, &["A 10.96.0.1"]),
    ("web.shop.svc.cluster.local", RecordType::A, &["A 10.96.0.20"]),
    ("web.shop.svc.cluster.local", RecordType::AAAA, &["AAAA fd00:10:96::14"]),
    ("web.shop.svc.cluster.local", RecordType::MX, &["no data"]),
    ("six.shop.svc.cluster.local", RecordType::A, &["no data"]),
    ("six.shop.svc.cluster.local", RecordType::AAAA, &["AAAA fd00:10:96::6"]),
    ("none.shop.svc.cluster.local", RecordType::A, &["no name"]),
    ("web.default.svc.cluster.local", RecordType::A, &["no name"]),
];

/// Ports of Services.
const PORTS: &[Row] = &[
    // 2.3.2: ports.
    (
        "_https._tcp.kubernetes.default.svc.cluster.local",
        RecordType::SRV,
        &[
            "SRV 0 100 443 kubernetes.default.svc.cluster.local.",
            "+kubernetes.default.svc.cluster.local. A 10.96.0.1",
        ],
    ),
    (
        "_dns._udp.web.shop.svc.cluster.local",
        RecordType::SRV,
        &[
            "SRV 0 100 53 web.shop.svc.cluster.local.",
            "+web.shop.svc.cluster.local. A 10.96.0.20",
            "+web.shop.svc.cluster.local. AAAA fd00:10:96::14",
        ],
    ),
    (
        "web.shop.svc.cluster.local",
        RecordType::SRV,
        &[
            "SRV 0 50 80 web.shop.svc.cluster.local.",
            "SRV 0 50 53 web.shop.svc.cluster.local.",
            "+web.shop.svc.cluster.local. A 10.96.0.20",
            "+web.shop.svc.cluster.local. AAAA fd00:10:96::14",
        ],
    ),
    ("_dns._tcp.web.shop.svc.cluster.local", RecordType::SRV, &["no name"]),
    ("http._tcp.web.shop.svc.cluster.local", RecordType::SRV, &["no name"]),
    ("_http._tcp.web.shop.svc.cluster.local", RecordType::A, &["no data"]),
    ("six.shop.svc.cluster.local", RecordType::SRV, &["no data"]),
];

/// The way back from addresses of Services.
const NAMES_OF_ADDRESSES: &[Row] = &[
    // 2.3.3: names of addresses.
    ("1.0.96.10.in-addr.arpa", RecordType::PTR, &["PTR kubernetes.default.svc.cluster.local."]),
    ("1.0.96.10.in-addr.arpa", RecordType::A, &["no data"]),
    ("2.0.96.10.in-addr.arpa", RecordType::PTR, &["no name"]),
    ("96.10.in-addr.arpa", RecordType::PTR, &["no data"]),
    ("1.56.168.192.in-addr.arpa", RecordType::PTR, &["elsewhere"]),
    ("10.in-addr.arpa", RecordType::PTR, &["elsewhere"]),
    ("1.2.3.4.5.in-addr.arpa", RecordType::PTR, &["elsewhere"]),
    ("x.0.96.10.in-addr.arpa", RecordType::PTR, &["elsewhere"]),
    (
        "4.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa",
        RecordType::PTR,
        &["PTR web.shop.svc.cluster.local."],
    ),
    ("6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa", RecordType::PTR, &["elsewhere"]),
];

/// Headless Services.
const ENDPOINTS: &[Row] = &[
    // 2.4.1: endpoints.
    ("db.shop.svc.cluster.local", RecordType::A, &["A 10.244.1.5", "A 10.244.1.6"]),
    ("db.shop.svc.cluster.local", RecordType::AAAA, &["AAAA fd00:10:244::5"]),
    ("empty.shop.svc.cluster.local", RecordType::A, &["no name"]),
    ("starting.shop.svc.cluster.local", RecordType::A, &["A 10.244.1.8"]),
    ("db-0.db.shop.svc.cluster.local", RecordType::A, &["A 10.244.1.5"]),
    ("DB-0.db.shop.svc.cluster.local", RecordType::AAAA, &["AAAA fd00:10:244::5"]),
    ("db-2.db.shop.svc.cluster.local", RecordType::A, &["no name"]),
    ("10-244-1-6.db.shop.svc.cluster.local", RecordType::A, &["A 10.244.1.6"]),
    ("10-244-1-6.db.shop.svc.cluster.local", RecordType::AAAA, &["no data"]),
    ("10-244-1-5.db.shop.svc.cluster.local", RecordType::A, &["no name"]),
    ("10-244-1-6.web.shop.svc.cluster.local", RecordType::A, &["no name"]),
    // 2.4.2: endpoints times ports.
    (
        "_stats._tcp.db.shop.svc.cluster.local",
        RecordType::SRV,
        &[
            "SRV 0 50 9090 db-0.db.shop.svc.cluster.local.",
            "SRV 0 50 9090 10-244-1-6.db.shop.svc.cluster.local.",
            "+db-0.db.shop.svc.cluster.local. A 10.244.1.5",
            "+10-244-1-6.db.shop.svc.cluster.local. A 10.244.1.6",
        ],
    ),
    ("_tcp.db.shop.svc.cluster.local", RecordType::SRV, &["no data"]),
    ("_udp.db.shop.svc.cluster.local", RecordType::SRV, &["no name"]),
    ("_tcp.web.shop.svc.cluster.local", RecordType::SRV, &["no data"]),
    // 2.4.3: names of endpoints.
    ("5.1.244.10.in-addr.arpa", RecordType::PTR, &["PTR db-0.db.shop.svc.cluster.local."]),
    ("6.1.244.10.in-addr.arpa", RecordType::PTR, &["PTR 10-244-1-6.db.shop.svc.cluster.local."]),
    ("7.1.244.10.in-addr.arpa", RecordType::PTR, &["no name"]),
];

/// Aliases, Pods, and names with nothing but names below them.
const OTHERS: &[Row] = &[
    // 2.5: other names.
    ("outside.shop.svc.cluster.local", RecordType::A, &["CNAME www.example.com."]),
    ("outside.shop.svc.cluster.local", RecordType::CNAME, &["CNAME www.example.com."]),
    ("outside.shop.svc.cluster.local", RecordType::TXT, &["CNAME www.example.com."]),
    ("_http._tcp.outside.shop.svc.cluster.local", RecordType::SRV, &["no name"]),
    // 2.6: Pods.
    ("10-244-0-9.shop.pod.cluster.local", RecordType::A, &["A 10.244.0.9"]),
    ("10-244-0-9.shop.pod.cluster.local", RecordType::AAAA, &["no data"]),
    ("fd00-10-244--9.shop.pod.cluster.local", RecordType::AAAA, &["AAAA fd00:10:244::9"]),
    ("10-244-0-9.default.pod.cluster.local", RecordType::A, &["no name"]),
    ("1-2-3-4.shop.pod.cluster.local", RecordType::A, &["no name"]),
    // Names with nothing but names below them.
    ("cluster.local", RecordType::A, &["no data"]),
    ("cluster.local", RecordType::NS, &["NS ns.dns.cluster.local."]),
    ("ns.dns.cluster.local", RecordType::A, &["A 10.96.0.10"]),
    ("dns.cluster.local", RecordType::A, &["no data"]),
    ("svc.cluster.local", RecordType::A, &["no data"]),
    ("pod.cluster.local", RecordType::A, &["no data"]),
    ("shop.svc.cluster.local", RecordType::A, &["no data"]),
    ("shop.pod.cluster.local", RecordType::A, &["no data"]),
    ("none.svc.cluster.local", RecordType::A, &["no name"]),
    ("web.cluster.local", RecordType::A, &["no name"]),
    // Names of others.
    ("local", RecordType::A, &["elsewhere"]),
    ("acluster.local", RecordType::A, &["elsewhere"]),
    ("example.com", RecordType::A, &["elsewhere"]),
];

#[test]
fn every_row_of_the_specification() {
    let zone = cluster();
    let all = [VERSION_AND_ADDRESSES, PORTS, NAMES_OF_ADDRESSES, ENDPOINTS, OTHERS];
    for (name, kind, wanted) in all.into_iter().flatten() {
        assert_eq!(ask(&zone, name, *kind), **wanted, "{name} {kind}");
    }
}

#[test]
fn n_endpoints_and_m_ports_make_their_product() {
    let mut zone = cluster();
    zone.set_slice("shop", "db-6", None);
    let all = ask(&zone, "db.shop.svc.cluster.local", RecordType::SRV);
    assert_eq!(all.iter().filter(|line| line.starts_with("SRV")).count(), 4, "{all:?}");
    assert!(all.iter().all(|line| line.starts_with('+') || line.contains(" 25 ")), "{all:?}");
}

#[test]
fn a_service_may_change_what_it_is() {
    let mut zone = cluster();
    let name = "db.shop.svc.cluster.local";
    let ptr = "5.1.244.10.in-addr.arpa";
    // Slices that came before their Service are not lost.
    zone.set_service("shop", "db", None);
    assert_eq!(ask(&zone, name, RecordType::A), ["no name"]);
    assert_eq!(ask(&zone, ptr, RecordType::PTR), ["no name"]);
    let addresses = Service::Addresses { ips: ips(&["10.96.0.30"]), ports: vec![] };
    zone.set_service("shop", "db", Some(addresses));
    assert_eq!(ask(&zone, name, RecordType::A), ["A 10.96.0.30"]);
    assert_eq!(ask(&zone, ptr, RecordType::PTR), ["no name"]);
    assert!(zone.set_service("shop", "db", headless()));
    assert!(!zone.set_service("shop", "db", headless()));
    assert_eq!(ask(&zone, name, RecordType::A), ["A 10.244.1.5", "A 10.244.1.6"]);
    assert_eq!(ask(&zone, "30.0.96.10.in-addr.arpa", RecordType::PTR), ["no name"]);
}

#[test]
fn a_slice_may_change_its_service() {
    let mut zone = cluster();
    zone.set_service("shop", "other", headless());
    let endpoints = vec![endpoint("10.244.1.5", None, true)];
    let slice = Slice { ports: vec![], endpoints };
    assert!(zone.set_slice("shop", "db-x", Some(("other", slice))));
    assert_eq!(ask(&zone, "other.shop.svc.cluster.local", RecordType::A), ["A 10.244.1.5"]);
    assert_eq!(ask(&zone, "db.shop.svc.cluster.local", RecordType::A), ["no data"]);
    let ptr = ["PTR 10-244-1-5.other.shop.svc.cluster.local."];
    assert_eq!(ask(&zone, "5.1.244.10.in-addr.arpa", RecordType::PTR), ptr);
    assert!(zone.set_slice("shop", "db-x", None));
    assert!(!zone.set_slice("shop", "db-x", None));
    assert_eq!(ask(&zone, "other.shop.svc.cluster.local", RecordType::A), ["no name"]);
}

#[test]
fn labels_made_of_addresses_can_be_read_back() {
    for ip in ips(&["10.244.1.5", "fd00:10:244::5", "::1", "fd00::", "::"]) {
        let label = dashed(ip);
        assert!(!label.starts_with('-') && !label.ends_with('-'), "{label}");
        assert_eq!(undashed(&label), Some(ip), "{label}");
    }
}

proptest! {
    /// Whatever comes and goes in whatever order, the zone is what it would be if made anew.
    #[test]
    fn changes_in_any_order_lead_to_the_same_zone(
        steps in proptest::collection::vec((0..3_u8, 0..3_u8, 0..6_u8, any::<bool>()), 0..40)
    ) {
        let names = ["a", "b", "c"];
        let mut zone = Zone::new(&"cluster.local.".parse().unwrap(), vec![]);
        let mut services: BTreeMap<&str, Service> = BTreeMap::new();
        let mut slices: BTreeMap<(&str, &str), Slice> = BTreeMap::new();
        for (which, slice, what, ready) in steps {
            let (name, slice_name) = (names[which as usize], names[slice as usize]);
            let ip: IpAddr = format!("10.0.0.{what}").parse().unwrap();
            match what {
                0 => { services.remove(name); }
                1 => { services.insert(name, Service::Headless { publish_not_ready: ready }); }
                2 => { services.insert(name, Service::Addresses { ips: vec![ip], ports: vec![] }); }
                3 => { slices.remove(&(name, slice_name)); }
                _ => {
                    let endpoints = vec![Endpoint { addr: ip, hostname: None, ready }];
                    slices.insert((name, slice_name), Slice { ports: vec![], endpoints });
                }
            }
            if what < 3 {
                zone.set_service("n", name, services.get(name).cloned());
            } else {
                let key = format!("{name}-{slice_name}");
                let slice = slices.get(&(name, slice_name)).cloned();
                zone.set_slice("n", &key, slice.map(|slice| (name, slice)));
            }
        }
        let mut fresh = Zone::new(&"cluster.local.".parse().unwrap(), vec![]);
        for ((service, slice), data) in &slices {
            fresh.set_slice("n", &format!("{service}-{slice}"), Some((service, data.clone())));
        }
        for (name, service) in &services {
            fresh.set_service("n", name, Some(service.clone()));
        }
        for name in names {
            let name = format!("{name}.n.svc.cluster.local");
            prop_assert_eq!(ask(&zone, &name, RecordType::A), ask(&fresh, &name, RecordType::A));
        }
        for what in 0..6 {
            let name = format!("{what}.0.0.10.in-addr.arpa");
            prop_assert_eq!(ask(&zone, &name, RecordType::PTR), ask(&fresh, &name, RecordType::PTR));
        }
        prop_assert_eq!(zone.namespaces.len(), fresh.namespaces.len());
        prop_assert_eq!(zone.by_address.len(), fresh.by_address.len());
    }

    #[test]
    fn no_name_makes_the_zone_stumble(labels in proptest::collection::vec("[ -~]{1,20}", 0..8)) {
        let zone = cluster();
        for end in ["", "svc.cluster.local", "cluster.local", "in-addr.arpa", "ip6.arpa"] {
            let all = labels.iter().map(String::as_bytes);
            let all = all.chain(end.split('.').filter(|l| !l.is_empty()).map(str::as_bytes));
            if let Ok(name) = Name::from_labels(all) {
                let _ = zone.lookup(&name, RecordType::SRV);
            }
        }
    }
}
