//! What only a kernel with IPVS can show.

use std::collections::BTreeMap;

use crate::cluster::{add, both_nodes, cluster};
use crate::net::{root, serve, tcp};
use crate::{answered, at, isolated, web};
use netmodel::ipvs::SCHEDULERS;

#[test]
#[ignore = "needs IPVS; run in the virtual machine"]
fn the_kernel_takes_every_scheduler_and_each_serves() {
    assert!(root() && crate::engine() == netmodel::nft::Engine::Ipvs);
    let net = isolated();
    let _servers =
        [serve(&net.b, "b", at("10.244.1.6:8080")), serve(&net.c, "c", at("10.244.2.5:8080"))];
    let mut snapshot = cluster();
    let vips: BTreeMap<&str, String> =
        (60..).zip(SCHEDULERS).map(|(n, name)| (name, format!("10.96.0.{n}"))).collect();
    for (scheduler, vip) in &vips {
        let vip: &'static str = vip.clone().leak();
        let change = |service: &mut netmodel::snapshot::Service| {
            web(vip)(service);
            service.scheduler = Some((*scheduler).into());
        };
        add(&mut snapshot, &format!("by-{scheduler}"), change, &["10.244.1.6", "10.244.2.5"]);
    }
    let [mut netd1, _netd2] = both_nodes(&net, &snapshot);
    let seen = net.node1.command("ipvsadm", "-Ln");
    for (scheduler, vip) in &vips {
        for protocol in ["TCP", "UDP"] {
            let line = format!("{protocol}  {vip}:80 {scheduler} ");
            assert!(seen.lines().any(|l| format!("{l} ").starts_with(&line)), "{line}\n{seen}");
        }
        let outcome = tcp(&net.a, at(&format!("{vip}:80")));
        assert!(answered(&outcome, &["b", "c"], &["10.244.1.5"]), "{scheduler}: {outcome:?}");
    }
    assert_eq!(netd1.sync(&net.node1, &snapshot).writes, 0, "all read back as written");
}
