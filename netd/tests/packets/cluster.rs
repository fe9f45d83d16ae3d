//! Hand-made snapshots of the test's cluster, and the executors that program them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use netd::{Changes, Executor, Report};
use netmodel::address::{Family, Protocol};
use netmodel::nft::Engine;
use netmodel::snapshot::{
    Endpoint, EndpointPort, EndpointSlice, Node, Service, ServiceName, ServicePort, Settings,
    Slices, Snapshot,
};

use crate::net::{Host, Net};

/// A node's executor, which lives in the node's namespace.
pub(crate) struct Netd {
    executor: Option<Executor>,
    name: &'static str,
}

impl Netd {
    pub(crate) fn new(host: &Host, name: &'static str, engine: Engine) -> Self {
        let executor = host.run(move || Executor::open(engine).unwrap());
        Self { executor: Some(executor), name }
    }

    /// Programs a snapshot as this node sees it; every step must succeed.
    pub(crate) fn sync(&mut self, host: &Host, cluster: &Snapshot) -> Report {
        self.sync_some(host, cluster, None)
    }

    /// Makes another engine the one in use; the next look brings it about.
    pub(crate) fn switch(&mut self, host: &Host, engine: Engine) {
        let mut executor = self.executor.take().unwrap();
        self.executor = Some(host.run(move || {
            executor.switch(engine).unwrap();
            executor
        }));
    }

    /// A cheap look, as netd makes twice a second.
    pub(crate) fn audit(&mut self, host: &Host, cluster: &Snapshot) -> Report {
        self.look(host, cluster, Executor::audit)
    }

    fn look(
        &mut self,
        host: &Host,
        cluster: &Snapshot,
        look: impl FnOnce(&mut Executor, &Snapshot) -> Report + Send + 'static,
    ) -> Report {
        let mut executor = self.executor.take().unwrap();
        let mut snapshot = cluster.clone();
        snapshot.settings.node_name = self.name.into();
        let (executor, report) = host.run(move || {
            let report = look(&mut executor, &snapshot);
            (executor, report)
        });
        self.executor = Some(executor);
        report
    }

    /// What can't be honoured.
    pub(crate) fn problems(&self) -> Vec<netmodel::problem::Problem> {
        self.executor.as_ref().unwrap().problems()
    }

    pub(crate) fn sync_some(
        &mut self,
        host: &Host,
        cluster: &Snapshot,
        changed: Option<&ServiceName>,
    ) -> Report {
        let names: BTreeSet<ServiceName> = changed.cloned().into_iter().collect();
        self.look_without_failure(host, cluster, move |executor, snapshot| {
            let changes = match names.is_empty() {
                true => Changes::All,
                false => Changes::Services(&names),
            };
            executor.sync(snapshot, changes)
        })
    }

    /// Nothing changed but which other nodes are heard.
    pub(crate) fn sync_silence(&mut self, host: &Host, cluster: &Snapshot) -> Report {
        self.look_without_failure(host, cluster, |executor, snapshot| {
            executor.sync(snapshot, Changes::Silence)
        })
    }

    fn look_without_failure(
        &mut self,
        host: &Host,
        cluster: &Snapshot,
        look: impl FnOnce(&mut Executor, &Snapshot) -> Report + Send + 'static,
    ) -> Report {
        let report = self.look(host, cluster, look);
        let failures: Vec<String> =
            report.failures.iter().map(|f| format!("{f}: {}", f.source)).collect();
        assert!(failures.is_empty(), "{}: {failures:#?}", self.name);
        report
    }
}

/// Both nodes' executors, after a first look.
pub(crate) fn both_nodes(net: &Net, snapshot: &Snapshot) -> [Netd; 2] {
    let mut netds = [
        Netd::new(&net.node1, "node-1", crate::engine()),
        Netd::new(&net.node2, "node-2", crate::engine()),
    ];
    netds[0].sync(&net.node1, snapshot);
    netds[1].sync(&net.node2, snapshot);
    netds
}

pub(crate) fn settings(node: &str) -> Settings {
    Settings {
        node_name: node.into(),
        cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap(), "fd44::/16".parse().unwrap()],
        service_cidrs: vec!["10.96.0.0/12".parse().unwrap(), "fd96::/108".parse().unwrap()],
        bridge: "mini0".into(),
        node_ports: 30000..=32767,
        default_scheduler: "rr".into(),
    }
}

/// A cluster of the two nodes, without Services.
pub(crate) fn cluster() -> Snapshot {
    let mut snapshot = Snapshot::new(settings("node-1"));
    for n in [1, 2] {
        let node = Node {
            addresses: vec![
                format!("192.168.56.{}", 69 + n).parse().unwrap(),
                format!("fd56::{}", 69 + n).parse().unwrap(),
            ],
            pod_cidrs: vec![
                format!("10.244.{n}.0/24").parse().unwrap(),
                format!("fd44:{n}::/64").parse().unwrap(),
            ],
            zone: None,
        };
        snapshot.nodes.insert(format!("node-{n}").into(), Arc::new(node));
    }
    snapshot
}

/// Adds a Service with a TCP and a UDP port 80 and node ports 30080, served by `backends` at 8080.
pub(crate) fn add(
    snapshot: &mut Snapshot,
    name: &str,
    change: impl FnOnce(&mut Service),
    backends: &[&str],
) -> ServiceName {
    let full_name = ServiceName::new("default", name);
    let port = |name: &str, protocol| ServicePort {
        name: name.into(),
        protocol,
        port: 80,
        node_port: None,
    };
    let mut service = Service {
        ports: vec![port("t", Protocol::Tcp), port("u", Protocol::Udp)],
        ..Service::default()
    };
    change(&mut service);
    snapshot.services.insert(full_name.clone(), Arc::new(service));
    set_backends(snapshot, &full_name, backends);
    full_name
}

/// Makes these addresses the endpoints of a Service; those in `10.244.N.0/24` run on node N.
pub(crate) fn set_backends(snapshot: &mut Snapshot, name: &ServiceName, backends: &[&str]) {
    set_endpoints(snapshot, name, &backends.iter().map(|addr| ready(addr)).collect::<Vec<_>>());
}

/// An endpoint that takes connections.
pub(crate) fn ready(addr: &str) -> Endpoint {
    let addr: IpAddr = addr.parse().unwrap();
    Endpoint {
        node: Some(format!("node-{}", node_of(addr)).into()),
        addresses: vec![addr],
        ready: true,
        serving: true,
        ..Endpoint::default()
    }
}

/// Makes these the endpoints of a Service.
pub(crate) fn set_endpoints(snapshot: &mut Snapshot, name: &ServiceName, endpoints: &[Endpoint]) {
    let mut slices = Slices::default();
    for family in Family::ALL {
        let of_family = |e: &&Endpoint| Family::of(e.addresses[0]) == family;
        let endpoints = endpoints.iter().filter(of_family).cloned().collect();
        let port = |name: &str, protocol| EndpointPort { name: name.into(), protocol, port: 8080 };
        let ports = vec![port("t", Protocol::Tcp), port("u", Protocol::Udp)];
        let slice = EndpointSlice { family, ports, endpoints };
        slices.insert(Arc::from(format!("{}-{}", name.name, family.digit())), Arc::new(slice));
    }
    snapshot.slices.insert(name.clone(), slices);
}

fn node_of(addr: IpAddr) -> u16 {
    match addr {
        IpAddr::V4(addr) => addr.octets()[2].into(),
        IpAddr::V6(addr) => addr.segments()[1],
    }
}
