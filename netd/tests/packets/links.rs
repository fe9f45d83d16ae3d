//! Virtual addresses are bound to a dummy link, or where the kernel has none, to a bridge without
//! ports.

use crate::cluster::{Netd, add, cluster};
use crate::net::{Host, root, serve};
use crate::{answered, assert_refused, at, both, isolated, web};
use netmodel::nft::Engine;

/// Whether the kernel can make a dummy link. `tests/vm` runs this with the module and without.
fn kernel_has_dummy() -> bool {
    Host::new().run(|| {
        let make = ["link", "add", "probe", "type", "dummy"];
        std::process::Command::new("ip").args(make).output().unwrap().status.success()
    })
}

#[test]
#[ignore = "needs IPVS; run in the virtual machine"]
fn virtual_addresses_are_bound_to_what_the_kernel_has() {
    assert!(root() && crate::engine() == Engine::Ipvs);
    let kind = if kernel_has_dummy() { "dummy" } else { "bridge" };
    let net = isolated();
    let _servers =
        [serve(&net.b, "b", at("10.244.1.6:8080")), serve(&net.b, "b", at("[fd44:1::6]:8080"))];
    // What must never be reached by the Service's address.
    let _host = serve(&net.node1, "node-1", at("[::]:22"));
    let mut snapshot = cluster();
    add(&mut snapshot, "web", web("10.96.0.42,fd96::42"), &["10.244.1.6", "fd44:1::6"]);
    let mut netd = Netd::new(&net.node1, "node-1", Engine::Ipvs);
    netd.sync(&net.node1, &snapshot);
    let served = |when: &str| {
        let link =
            net.node1.ip(&format!("-details -oneline link show {} type {kind}", netd::VIP_LINK));
        assert!(link.contains(netd::VIP_LINK), "{when}: wanted a {kind}, there is {link}");
        let bound = net.node1.ip(&format!("-oneline address show dev {}", netd::VIP_LINK));
        for address in ["10.96.0.42/32", "fd96::42/128"] {
            assert!(bound.contains(address), "{when}: {address} is not bound: {bound}");
        }
        for host in [&net.a, &net.node1] {
            for to in ["10.96.0.42:80", "[fd96::42]:80"] {
                for outcome in both(host, to) {
                    assert!(answered(&outcome, &["b"], &[]), "{when}: {to}: {outcome:?}");
                }
            }
            assert_refused(host, "10.96.0.42:22", when);
        }
    };
    served("at first");
    net.node1.ip(&format!("link del {}", netd::VIP_LINK));
    assert!(netd.sync(&net.node1, &snapshot).writes > 0, "the link is missing");
    served("after it was deleted");
    assert_eq!(netd.sync(&net.node1, &snapshot).writes, 0, "nothing is left to do");
    drop(netd);
    let failures = net.node1.run(|| netd::clean_up("mini0", &(30000..=32767)));
    assert!(failures.is_empty(), "{failures:?}");
    assert!(!net.node1.ip("-brief link").contains(netd::VIP_LINK), "it goes with the rest");
    println!("virtual addresses were bound to a {kind}");
}
