//! What netd listens on: pages about itself, checks for load balancers, node ports on loopback.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::{Api, NODES, SERVICES, SLICES, node, service, slice};
use crate::net::{Host, serve};
use crate::{Running, SOON, cluster, engine_name, net, serves_web};

/// Asks over HTTP, in the namespace; the whole answer, or why there is none.
pub(crate) fn get(host: &Host, at: &str, path: &str) -> String {
    let (at, path): (SocketAddr, _) = (at.parse().unwrap(), path.to_owned());
    host.run(move || {
        let asked = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(at)?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        asked().unwrap_or_else(|error| error.to_string())
    })
}

/// Asks until the answer is right.
#[track_caller]
fn get_until(netd: &Running, at: &str, path: &str, right: impl Fn(&str) -> bool) -> String {
    let last = std::cell::RefCell::new(String::new());
    netd.until(
        &format!("{at}{path}"),
        || last.borrow().clone(),
        || {
            *last.borrow_mut() = get(&netd.host, at, path);
            Some(last.borrow().clone()).filter(|answer| right(answer))
        },
    )
}

/// A Service with a node port, of TCP and UDP.
fn with_node_port(name: &str, vip: &str, node_port: u16) -> Value {
    let mut service = service(name, vip);
    service["spec"]["type"] = json!("NodePort");
    service["spec"]["ports"] = json!([
        {"name": "tcp", "port": 80, "nodePort": node_port},
        {"name": "udp", "port": 80, "nodePort": node_port, "protocol": "UDP"},
    ]);
    service
}

fn two_ports(service: &str, addrs: &[&str]) -> Value {
    let mut slice = slice(service, addrs);
    slice["ports"] = json!([
        {"name": "tcp", "port": 8080}, {"name": "udp", "port": 8080, "protocol": "UDP"},
    ]);
    slice
}

fn started(api: &Api) -> Running {
    let netd = Running::start(api);
    netd.wait_for(SOON, "the lists", serves_web);
    netd
}

#[test]
fn metrics_and_health_are_where_kube_proxy_has_them() {
    if !net::root() {
        return;
    }
    let api = cluster();
    let netd = started(&api);
    let metrics = get_until(&netd, "127.0.0.1:10249", "/metrics", |page| {
        page.contains("\nminictl_netd_services 1\n")
    });
    let engine = format!("minictl_netd_engine{{engine=\"{}\"}} 1", engine_name());
    for line in [
        "HTTP/1.1 200 OK",
        "kubeproxy_sync_full_proxy_rules_duration_seconds_count",
        "minictl_netd_failures_total 0",
        "kubeproxy_sync_proxy_rules_service_changes_total",
        &engine,
        "process_resident_memory_bytes",
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
    assert!(
        get(&netd.host, "127.0.0.1:10249", "/proxyMode")
            .ends_with(&format!("\r\n{}", engine_name()))
    );
    assert!(get(&netd.host, "127.0.0.1:10249", "/other").starts_with("HTTP/1.1 404"));

    let health = get(&netd.host, "192.168.56.70:10256", "/healthz");
    assert!(health.starts_with("HTTP/1.1 200 OK"), "{health}");
    assert!(health.contains("\"nodeEligible\": true"), "{health}");
    let mut leaving = node("node-1", "192.168.56.70", "10.244.1.0/24");
    leaving["spec"]["taints"] =
        json!([{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]);
    api.event(NODES, "MODIFIED", &leaving);
    get_until(&netd, "192.168.56.70:10256", "/healthz", |answer| {
        answer.starts_with("HTTP/1.1 503") && answer.contains("\"nodeEligible\": false")
    });
    assert!(get(&netd.host, "127.0.0.1:10256", "/livez").starts_with("HTTP/1.1 200"));
    netd.end();
}

#[test]
fn programming_of_an_endpoint_is_measured_from_its_cause() {
    if !net::root() {
        return;
    }
    let api = cluster();
    let netd = started(&api);
    let mut changed = slice("web", &["10.244.1.6"]);
    changed["metadata"]["annotations"] = json!({
        "endpoints.kubernetes.io/last-change-trigger-time": jiff::Timestamp::now().to_string(),
    });
    api.event(SLICES, "MODIFIED", &changed);
    get_until(&netd, "127.0.0.1:10249", "/metrics", |page| {
        page.contains("kubeproxy_network_programming_duration_seconds_count 1\n")
    });
    netd.end();
}

#[test]
fn a_load_balancer_is_told_whether_endpoints_are_here() {
    if !net::root() {
        return;
    }
    let api = cluster();
    let netd = started(&api);
    let mut balanced = service("web", "10.96.0.11");
    balanced["spec"]["type"] = json!("LoadBalancer");
    balanced["spec"]["externalTrafficPolicy"] = json!("Local");
    balanced["spec"]["healthCheckNodePort"] = json!(31000);
    api.event(SERVICES, "MODIFIED", &balanced);
    let at = "192.168.56.70:31000";
    let answer = get_until(&netd, at, "/", |answer| answer.starts_with("HTTP/1.1 200"));
    let lower = answer.to_lowercase();
    assert!(lower.contains("x-load-balancing-endpoint-weight: 1\r\n"), "{answer}");
    assert!(lower.contains("content-type: application/json\r\n"), "{answer}");
    assert!(answer.contains("\"localEndpoints\": 1,"), "{answer}");
    let mut elsewhere = slice("web", &["10.244.2.5"]);
    elsewhere["endpoints"][0]["nodeName"] = json!("node-2");
    api.event(SLICES, "MODIFIED", &elsewhere);
    get_until(&netd, at, "/any/path", |answer| answer.starts_with("HTTP/1.1 503"));
    balanced["spec"]["healthCheckNodePort"] = json!(31001);
    api.event(SERVICES, "MODIFIED", &balanced);
    get_until(&netd, "192.168.56.70:31001", "/", |answer| answer.starts_with("HTTP/1.1 503"));
    get_until(&netd, at, "/", |answer| answer.contains("refused"));
    balanced["spec"]["externalTrafficPolicy"] = json!("Cluster");
    api.event(SERVICES, "MODIFIED", &balanced);
    get_until(&netd, "192.168.56.70:31001", "/", |answer| answer.contains("refused"));
    netd.end();
}

#[test]
fn a_node_port_answers_at_localhost_and_nowhere_else_because_of_it() {
    if !net::root() {
        return;
    }
    let api = cluster();
    let netd = started(&api);
    let _server = serve(&netd.host, "here", "10.244.1.1:8080".parse().unwrap());
    api.event(SERVICES, "ADDED", &with_node_port("np", "10.96.0.30", 30080));
    api.event(SLICES, "ADDED", &two_ports("np", &["10.244.1.1"]));
    let tcp = |at: &'static str| {
        netd.host.run(move || {
            let mut stream = TcpStream::connect(at).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            stream.write_all(b"x").ok()?;
            let mut answer = [0; 64];
            let length = stream.read(&mut answer).ok()?;
            let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
            Some(answer).filter(|text| !text.is_empty())
        })
    };
    let sockets = || netd.host.command("ss", "-Hltun");
    let answer = netd.until("an answer by TCP", sockets, || tcp("127.0.0.1:30080"));
    assert!(answer.starts_with("here "), "{answer}");
    let udp = || {
        netd.host.run(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            socket.connect("127.0.0.1:30080").unwrap();
            socket.send(b"x").ok()?;
            let mut answer = [0; 64];
            let length = socket.recv(&mut answer).ok()?;
            Some(String::from_utf8_lossy(&answer[..length]).into_owned())
        })
    };
    let answer = netd.until("an answer by UDP", sockets, udp);
    assert!(answer.starts_with("here "), "{answer}");

    let mut six = two_ports("np", &["fd00:10:244:1::1"]);
    six["metadata"]["name"] = json!("np-six");
    six["addressType"] = json!("IPv6");
    let mut both = with_node_port("np", "10.96.0.30", 30080);
    both["spec"]["clusterIPs"] = json!(["10.96.0.30", "fd00:10:96::30"]);
    let mut dual = node("node-1", "192.168.56.70", "10.244.1.0/24");
    dual["spec"]["podCIDRs"] = json!(["10.244.1.0/24", "fd00:10:244:1::/64"]);
    dual["status"]["addresses"] = json!([
        {"type": "InternalIP", "address": "192.168.56.70"},
        {"type": "InternalIP", "address": "fd00:192:168:56::70"},
    ]);
    netd.host.ip("address add fd00:10:244:1::1/64 dev mini0 nodad");
    netd.host.ip("address add fd00:192:168:56::70/64 dev up0 nodad");
    let _six = serve(&netd.host, "six", "[fd00:10:244:1::1]:8080".parse().unwrap());
    api.event(NODES, "MODIFIED", &dual);
    api.event(SERVICES, "MODIFIED", &both);
    api.event(SLICES, "ADDED", &six);
    let answer = netd.until("an answer by IPv6", sockets, || tcp("[::1]:30080"));
    assert!(answer.starts_with("six "), "{answer}");

    for line in sockets().lines().filter(|line| line.contains(":30080")) {
        let loopback = line.contains("127.0.0.1:30080") || line.contains("[::1]:30080");
        assert!(loopback, "only loopback is listened on: {line}");
    }
    let route_localnet = netd.host.command("cat", "/proc/sys/net/ipv4/conf/all/route_localnet");
    assert_eq!(route_localnet.trim(), "0");

    api.event(SLICES, "MODIFIED", &two_ports("np", &[]));
    netd.until("a refusal without endpoints", sockets, || {
        let refused = || TcpStream::connect("127.0.0.1:30080").is_err();
        netd.host.run(refused).then_some(())
    });
    netd.end();
}

#[test]
fn a_port_that_somebody_holds_is_told_and_the_others_open() {
    if !net::root() {
        return;
    }
    let api = cluster();
    let netd = started(&api);
    let _held = netd.host.run(|| TcpListener::bind("0.0.0.0:30081").unwrap());
    api.event(SERVICES, "ADDED", &with_node_port("held", "10.96.0.31", 30081));
    api.event(SLICES, "ADDED", &two_ports("held", &["10.244.1.1"]));
    api.event(SERVICES, "ADDED", &with_node_port("free", "10.96.0.32", 30082));
    api.event(SLICES, "ADDED", &two_ports("free", &["10.244.1.1"]));
    let events = || format!("{:?}", api.told_about("held"));
    let (reason, message) = netd.until("the event", events, || api.told_about("held").pop());
    assert_eq!(reason, "FailedToListenOnLocalhost");
    assert!(
        message.starts_with("node node-1 does not serve node port 127.0.0.1:30081/tcp: "),
        "{message}"
    );
    netd.until("the other port", events, || {
        netd.host.run(|| TcpStream::connect("127.0.0.1:30082").is_ok()).then_some(())
    });
    netd.end();
}

#[test]
fn a_taken_port_of_a_page_is_not_the_end() {
    if !net::root() {
        return;
    }
    let api = cluster();
    let netd = Running::start_with(&api, |config| {
        // What nobody can have: an address of another machine.
        config.metrics_address = Some("192.0.2.1:10249".parse().unwrap());
        config.health_address = None;
    });
    netd.wait_for(SOON, "the lists", serves_web);
    netd.end();
}
