//! Whatever a client sends: no panic, no answer that is too long, no answer to an answer.
#![no_main]

use std::sync::LazyLock;

use dns::zone::Service;
use dns::{Dns, DomainName};
use libfuzzer_sys::fuzz_target;

static DNS: LazyLock<Dns> = LazyLock::new(|| {
    let domain: DomainName = "cluster.local.".parse().expect("it is a name");
    let dns = Dns::new("node-1", &domain, vec!["10.96.0.0/12".parse().expect("it is a range")]);
    let web = Service::Addresses { ips: vec![[10, 96, 0, 20].into()], ports: Vec::new() };
    dns.change(|zone| zone.set_service("shop", "web", Some(web)));
    dns
});

fuzz_target!(|packet: &[u8]| {
    let from = ([127, 0, 0, 1], 5000).into();
    if let Some(answer) = DNS.answer(packet, from) {
        assert!(packet[2] & 0x80 == 0, "an answer was answered");
        assert!(answer.len() >= 12 && answer.len() <= 1232);
        assert!(answer[2] & 0x80 != 0);
        assert_eq!(answer[..2], packet[..2]);
    }
});
