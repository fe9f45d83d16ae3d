//! A proxy with one rule, to be measured and tried out: `ingress_proxy LISTEN BACKEND...`.
#![expect(clippy::print_stdout, reason = "it is a program of its own")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use ingress::objects::{
    Backend, CONTROLLER, Cluster, Ingress, IngressClass, ObjectName, Path, PathKind, Port, Rule,
    Service, ServicePort, Slice,
};
use ingress::routes::routes;
use ingress::{Door, Names, Proxy};

/// All paths of all hosts go to these endpoints.
fn cluster(backends: &[SocketAddr]) -> Cluster {
    let name = ObjectName::new("default", "web");
    let backend = Backend::Service("web".into(), Port::Number(80));
    let path = Path { path: "/".into(), kind: PathKind::Prefix, backend };
    let rules = vec![Rule { host: "".into(), paths: vec![path] }];
    let ingress = Ingress { class: Some("minictl".into()), rules, ..Ingress::default() };
    let class = IngressClass { controller: CONTROLLER.into(), is_default: true };
    let port = ServicePort { name: "".into(), port: 80, app_protocol: None };
    let service = Service { external_name: None, ports: vec![port] };
    let slices = backends.iter().enumerate().map(|(n, address)| {
        let ports = Box::from([(Arc::from(""), address.port())]);
        let slice = Slice { ports, ready: Box::from([address.ip()]), leaving: Box::default() };
        (Arc::from(n.to_string()), slice)
    });
    Cluster {
        ingresses: BTreeMap::from([(name.clone(), Arc::new(ingress))]),
        classes: BTreeMap::from([("minictl".into(), class)]),
        services: BTreeMap::from([(name.clone(), Arc::new(service))]),
        slices: BTreeMap::from([(name, slices.collect())]),
        ..Cluster::default()
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<SocketAddr>());
    let listen = arguments.next().expect("an address to listen at").expect("address:port");
    let backends: Vec<_> = arguments.map(|one| one.expect("address:port of a backend")).collect();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut proxy = Proxy::start(cores, &Names::of_the_machine()).expect("start");
    proxy.route(routes(&cluster(&backends)).table);
    let secure = SocketAddr::new(listen.ip(), listen.port() + 1);
    let doors = [Door { address: listen, tls: false }, Door { address: secure, tls: true }];
    let failed = proxy.listen(doors);
    assert!(failed.is_empty(), "{failed:?}");
    println!("{listen} and {secure} (TLS) lead to {backends:?}");
    loop {
        std::thread::park();
    }
}
