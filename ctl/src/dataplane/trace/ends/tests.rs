//! Who is meant by what is typed.

use serde_json::{Value, json};

use super::*;

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// Two nodes, a pod of one, a pod in the other's network, and three Services.
pub(in super::super) fn cluster() -> Cluster {
    let node = |name: &str, addr: &str| {
        json!({"metadata": {"name": name}, "status": {"addresses": [
            {"type": "InternalIP", "address": addr}, {"type": "Hostname", "address": name}]}})
    };
    let pod = |name: &str, node: &str, ips: &[&str]| {
        let ips: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
        json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"nodeName": node, "containers": []},
            "status": {"phase": "Running", "podIPs": ips}})
    };
    let service = |name: &str, spec: Value| json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec});
    let ports = json!([{"name": "http", "port": 80, "nodePort": 30080},
        {"name": "dns", "port": 53, "protocol": "UDP"}]);
    Cluster {
        nodes: read(json!([node("node-1", "192.168.56.70"), node("node-2", "192.168.56.71")])),
        pods: read(json!([
            pod("web-1", "node-2", &["10.244.1.2", "fd00:10:244:1::2"]),
            pod("proxy", "node-1", &["192.168.56.70"]),
        ])),
        services: read(json!([
            service(
                "web",
                json!({"clusterIPs": ["fd00:10:96::9", "10.96.0.9"], "ports": ports,
                "externalTrafficPolicy": "Local"})
            ),
            service("bare", json!({"clusterIP": "None", "ports": ports})),
            service("alias", json!({"type": "ExternalName", "externalName": "a.example"})),
        ])),
        namespace: "default".to_owned(),
    }
}

fn nobody(_: &str) -> Option<Vec<IpAddr>> {
    None
}

#[test]
fn senders_are_pods_nodes_hosts_or_addresses() {
    let cluster = cluster();
    for (typed, kind, node) in [
        ("web-1", Kind::Pod, Some("node-2")),
        ("pod/web-1", Kind::Pod, Some("node-2")),
        ("fd00:10:244:1::2", Kind::Pod, Some("node-2")),
        ("node/node-1", Kind::Node, Some("node-1")),
        ("node-2", Kind::Node, Some("node-2")),
        ("192.168.56.71", Kind::Node, Some("node-2")),
        ("proxy", Kind::Node, Some("node-1")),
        ("203.0.113.7", Kind::Network, None),
        ("client", Kind::Network, None),
    ] {
        let hosts = |name: &str| (name == "client").then(|| vec!["192.168.56.10".parse().unwrap()]);
        let origin = cluster.origin(typed, hosts).unwrap();
        assert_eq!((origin.kind, origin.node.as_deref()), (kind, node), "{typed}");
    }
    for typed in ["web-2", "pod/node-1", "lab/client"] {
        let error = cluster.origin(typed, nobody).unwrap_err().report();
        assert!(error.contains(&format!("nobody is called \"{typed}\"")), "{error}");
    }
}

#[test]
fn a_service_is_called_at_an_address_of_the_senders_family() {
    let cluster = cluster();
    let to = |typed: &str, protocol: Option<&str>, from: &str| {
        let origin = cluster.origin(from, nobody).unwrap();
        let found = cluster.destination(&Wanted::parse(typed, protocol).unwrap(), &origin);
        found.map(|to| format!("{} {}", to.socket(), to.protocol)).map_err(|error| error.report())
    };
    for (typed, protocol, from, called) in [
        ("svc/web", None, "web-1", "[fd00:10:96::9]:80 TCP"),
        ("web", None, "203.0.113.7", "10.96.0.9:80 TCP"),
        ("web:dns", None, "203.0.113.7", "10.96.0.9:53 UDP"),
        ("web", Some("udp"), "203.0.113.7", "10.96.0.9:53 UDP"),
        ("svc/web.default:dns", None, "203.0.113.7", "10.96.0.9:53 UDP"),
        ("web:8443", None, "203.0.113.7", "10.96.0.9:8443 TCP"),
        ("[::1]:80", Some("sctp"), "web-1", "[::1]:80 SCTP"),
    ] {
        assert_eq!(to(typed, protocol, from).as_deref(), Ok(called), "{typed}");
    }
    for (typed, says) in [
        ("web:https", "service \"web\" has no port \"https\": http (80/TCP), dns (53/UDP)"),
        ("bare", "service \"bare\" is headless"),
        ("alias", "service \"alias\" is an alias and has no address"),
        ("shop", "services \"shop\" not found in namespace default"),
        ("web.shop", "services \"web\" not found in namespace shop"),
    ] {
        let error = to(typed, None, "web-1").unwrap_err();
        assert!(error.contains(says), "{error}");
    }
    let error = Wanted::parse("10.96.0.9", None).unwrap_err().report();
    assert!(error.contains("a port is missing") && error.contains("10.96.0.9:80"), "{error}");
}

#[test]
fn a_packet_comes_to_its_senders_node_or_to_the_one_it_names() {
    let cluster = cluster();
    let entry = |from: &str, to: &str, node: Option<&str>| {
        let origin = cluster.origin(from, nobody).unwrap();
        let to = cluster.destination(&Wanted::parse(to, None).unwrap(), &origin).unwrap();
        cluster.entry(&origin, &to, node).map_err(|error| error.report())
    };
    assert_eq!(entry("web-1", "web", None).as_deref(), Ok("node-2"));
    assert_eq!(entry("203.0.113.7", "192.168.56.71:30080", None).as_deref(), Ok("node-2"));
    assert_eq!(entry("203.0.113.7", "10.244.1.2:8080", None).as_deref(), Ok("node-2"));
    assert_eq!(entry("203.0.113.7", "10.96.0.9:80", None).as_deref(), Ok("node-1"));
    assert_eq!(entry("203.0.113.7", "10.96.0.9:80", Some("node-2")).as_deref(), Ok("node-2"));
    let error = entry("web-1", "web", Some("node-1")).unwrap_err();
    assert!(error.contains("seen by node-2 first"), "{error}");
}
