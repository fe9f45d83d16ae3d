//! Whatever a client sends: no panic, no answer that is too long, no answer to an answer, and none
//! that names a number or a question that was not asked.
#![no_main]

use std::sync::LazyLock;

use dns::pods::Pod;
use dns::zone::{Endpoint, Port, Service, Slice, Zone};
use dns::{Dns, DomainName};
use libfuzzer_sys::fuzz_target;

/// A cluster with a Service of each kind, and a Pod whose search path is completed.
static DNS: LazyLock<Dns> = LazyLock::new(|| {
    let domain: DomainName = "cluster.local.".parse().expect("it is a name");
    let ranges = ["10.96.0.0/12", "fd00:10:96::/112"].map(|text| text.parse().expect("a range"));
    let dns = Dns::new("node-1", &domain, ranges.to_vec());
    dns.admit(vec!["10.244.0.0/16".parse().expect("a range")]);
    dns.change(fill);
    dns
});

fn fill(zone: &mut Zone) -> bool {
    let port = || Port { name: "http".into(), protocol: "tcp", number: 80 };
    let ips = ["10.96.0.20", "fd00:10:96::14"].map(|text| text.parse().expect("an address"));
    let web = Service::Addresses { ips: ips.to_vec().into(), ports: vec![port()].into() };
    zone.set_service("shop", "web", Some(web));
    let target: DomainName = "web.shop.svc.cluster.local.".parse().expect("a name");
    zone.set_service("shop", "site", Some(Service::External(target.into())));
    zone.set_service("shop", "db", Some(Service::Headless { publish_not_ready: false }));
    let endpoint = |last| Endpoint { addr: [10, 244, 0, last].into(), hostname: None, ready: true };
    let endpoints: Vec<Endpoint> = (1..100).map(endpoint).collect();
    let slice = Slice { ports: vec![port()].into(), endpoints: endpoints.into() };
    zone.set_slice("shop", "db-x", Some(("db", slice)));
    let pod = Pod {
        namespace: "shop".into(),
        name: "client".into(),
        ips: vec![[10, 244, 0, 5].into()].into(),
        host_network: false,
        config: None,
    };
    zone.set_pod("shop", "client", Some(pod))
}

fuzz_target!(|packet: &[u8]| {
    let from = ([10, 244, 0, 5], 5000).into();
    let Some(answer) = DNS.answer(packet, from) else { return };
    assert!(packet[2] & 0x80 == 0, "an answer was answered");
    assert!(answer.len() >= 12 && answer.len() <= 1232);
    assert!(answer[2] & 0x80 != 0);
    assert_eq!(answer[..2], packet[..2]);
    // Who is answered with a question gets his own, letter by letter.
    if answer[4..6] == [0, 1] {
        let name = packet[12..].split(|byte| *byte == 0).next().unwrap_or_default();
        assert!(answer[12..].starts_with(name));
    }
});
