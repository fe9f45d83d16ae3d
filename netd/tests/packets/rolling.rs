//! A rolling update as netd sees it: endpoints come, terminate while they go on serving, and go.
//! Nobody who calls meanwhile notices.

use std::thread;
use std::time::{Duration, Instant};

use netmodel::snapshot::Endpoint;

use crate::cluster::{Netd, add, both_nodes, cluster, ready, set_endpoints};
use crate::net::{Hammer, Host, Net, Outcome, Server, root, serve};
use crate::{answered, at, isolated, web};

/// For how long a pod that is deleted serves on, at least: as the agent has it
/// (`agent/src/pod/drain.rs`). On a machine that is busy with other things it goes on until each
/// call that had begun is over, because there an agent would be late, too.
const DRAIN: Duration = Duration::from_millis(500);
const LIMIT: Duration = Duration::from_secs(60);
/// Updates of all pods.
const UPDATES: u8 = 2;

/// A pod's address in both families; its server ends when this is dropped.
struct Pod<'a> {
    host: &'a Host,
    addresses: [String; 2],
    servers: Vec<Server>,
}

impl<'a> Pod<'a> {
    /// Address `last` of pod `host`, which is on node `n`.
    fn start(host: &'a Host, n: u8, last: u8) -> Self {
        let addresses = [format!("10.244.{n}.{last}"), format!("fd44:{n}::{last}")];
        host.ip(&format!("address add {}/32 dev eth0", addresses[0]));
        host.ip(&format!("address add {}/128 dev eth0 nodad", addresses[1]));
        let here = [format!("{}:8080", addresses[0]), format!("[{}]:8080", addresses[1])];
        let servers = here.iter().map(|address| serve(host, "pod", at(address))).collect();
        Self { host, addresses, servers }
    }

    fn endpoints(&self, terminating: bool) -> impl Iterator<Item = Endpoint> {
        let of =
            move |address: &String| Endpoint { ready: !terminating, terminating, ..ready(address) };
        self.addresses.iter().map(of)
    }

    fn end(self) {
        drop(self.servers);
        for (address, length) in self.addresses.iter().zip([32, 128]) {
            self.host.ip(&format!("address del {address}/{length} dev eth0"));
        }
    }
}

#[test]
fn nobody_notices_a_rolling_update() {
    if !root() {
        return;
    }
    let net = isolated();
    let mut snapshot = cluster();
    let doors = |service: &mut netmodel::snapshot::Service| {
        web("10.96.0.41,fd96::41")(service);
        service.ports.iter_mut().for_each(|port| port.node_port = Some(30041));
    };
    let name = add(&mut snapshot, "rolling", doors, &[]);
    route_to_more_pods(&net);
    let places = [(&net.b, 1), (&net.c, 2)];
    let mut pods: Vec<Pod> = places.map(|(host, n)| Pod::start(host, n, 20)).into();
    let all = |pods: &[Pod], terminating: Option<&Pod>| -> Vec<Endpoint> {
        let going = terminating.into_iter().flat_map(|pod| pod.endpoints(true));
        pods.iter().flat_map(|pod| pod.endpoints(false)).chain(going).collect()
    };
    set_endpoints(&mut snapshot, &name, &all(&pods, None));
    let mut netds = both_nodes(&net, &snapshot);
    let mut program = |endpoints: Vec<Endpoint>| {
        set_endpoints(&mut snapshot, &name, &endpoints);
        let [netd1, netd2]: &mut [Netd; 2] = &mut netds;
        netd1.sync_some(&net.node1, &snapshot, Some(&name));
        netd2.sync_some(&net.node2, &snapshot, Some(&name));
    };
    let callers = [
        ("a pod", &net.a, "10.96.0.41:80"),
        ("a pod by IPv6", &net.a, "[fd96::41]:80"),
        ("node 1", &net.node1, "10.96.0.41:80"),
        ("outside", &net.client, "192.168.56.70:30041"),
        ("outside by IPv6", &net.client, "[fd56::71]:30041"),
    ];
    let hammers = callers.map(|(who, host, to)| (who, host.hammer(at(to))));
    for last in 21..21 + UPDATES {
        for (host, n) in places {
            // One more, then one less: `maxSurge: 1`, `maxUnavailable: 0`.
            pods.push(Pod::start(host, n, last));
            program(all(&pods, None));
            let leaving = pods.remove(0);
            program(all(&pods, Some(&leaving)));
            drain(&hammers.each_ref().map(|(_, hammer)| hammer));
            leaving.end();
            program(all(&pods, None));
        }
    }
    for (who, hammer) in hammers {
        let outcomes = hammer.stop();
        let bad: Vec<&Outcome> = outcomes.iter().filter(|o| !answered(o, &["pod"], &[])).collect();
        assert!(bad.is_empty(), "{who}: {} of {} calls: {bad:?}", bad.len(), outcomes.len());
        assert!(outcomes.len() > 20, "{who}: only {} calls", outcomes.len());
    }
}

fn drain(hammers: &[&Hammer]) {
    let begun: Vec<usize> = hammers.iter().map(|hammer| hammer.made()).collect();
    let start = Instant::now();
    thread::sleep(DRAIN);
    // The first that ends may have begun before.
    while hammers.iter().zip(&begun).any(|(hammer, begun)| hammer.made() < begun + 2) {
        assert!(start.elapsed() < LIMIT, "callers wait for ever");
        thread::sleep(Duration::from_millis(10));
    }
}

/// More addresses of the pods that there are.
fn route_to_more_pods(net: &Net) {
    for last in 20..21 + UPDATES {
        net.node1.ip(&format!("route add 10.244.1.{last} via 10.244.1.6 dev mini0 onlink"));
        net.node1.ip(&format!("route add fd44:1::{last} via fd44:1::6 dev mini0 onlink"));
        net.node2.ip(&format!("route add 10.244.2.{last} via 10.244.2.5 dev mini0 onlink"));
        net.node2.ip(&format!("route add fd44:2::{last} via fd44:2::5 dev mini0 onlink"));
    }
}
