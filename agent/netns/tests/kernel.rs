//! Pins and links on the real kernel, checked with `ip -j`. Everything happens in namespaces that
//! the test makes; needs root.

use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ipnet::IpNet;
use netns::{Kind, Links, Namespace, Route, Veth, namespace, pin};

fn ip_json(namespace: &Path, args: &[&str]) -> serde_json::Value {
    let output = Command::new("nsenter")
        .arg(format!("--net={}", namespace.display()))
        .args(["ip", "-j"])
        .args(args)
        .output()
        .expect("nsenter and ip are installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

/// Sends one datagram from a namespace to a socket in another.
fn packet_passes(from: &Namespace, to: &Namespace, address: &str) {
    let server =
        to.run(|| UdpSocket::bind(address).expect("bind")).expect("enter the receiving namespace");
    server.set_read_timeout(Some(Duration::from_secs(5))).expect("set a time limit");
    from.run(|| {
        let client = UdpSocket::bind("0.0.0.0:0").expect("bind");
        client.send_to(b"hello", address).expect("send");
    })
    .expect("enter the sending namespace");
    let mut buffer = [0; 16];
    let length = server.recv(&mut buffer).expect("the datagram arrives");
    assert_eq!(&buffer[..length], b"hello");
}

#[tokio::test]
async fn a_pod_is_wired_to_a_bridge_in_another_namespace() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let node = Namespace::create(&dir.path().join("node")).expect("node namespace");
    let pod = Namespace::create(&dir.path().join("pod")).expect("pod namespace");

    let links = Links::inside(&node).expect("netlink in the node");
    let bridge = links.ensure_bridge("mini0", 1500).await.expect("bridge");
    assert_eq!(links.ensure_bridge("mini0", 1500).await.expect("bridge again"), bridge);
    links.set_up(bridge).await.expect("bridge up");
    links.ensure_address(bridge, net("10.244.0.1/24")).await.expect("address");
    links.ensure_address(bridge, net("10.244.0.1/24")).await.expect("address again");

    let veth = Veth {
        name: "veth-a",
        peer_name: "eth0",
        peer_namespace: &pod,
        peer_mac: Some([0x0a, 0x58, 10, 244, 0, 2]),
        mtu: 1450,
        bridge: Some(bridge),
        isolated: true,
        alias: Some("default/web"),
    };
    let (_, eth0) = links.add_veth(&veth).await.expect("veth");
    let inside = Links::inside(&pod).expect("netlink in the pod");
    inside.set_loopback_up().await.expect("lo");
    inside.ensure_address(eth0, net("10.244.0.2/32")).await.expect("pod address");
    inside.set_up(eth0).await.expect("eth0 up");
    let gateway: IpAddr = "10.244.0.1".parse().expect("an address");
    let route = Route {
        destination: net("0.0.0.0/0"),
        gateway: Some(gateway),
        source: None,
        metric: None,
        link: Some(eth0),
        onlink: true,
        protocol: None,
    };
    inside.ensure_route(&route).await.expect("default route");
    inside.ensure_route(&route).await.expect("default route again");

    let default = ip_json(pod.path(), &["route", "show", "default"]);
    assert_eq!(default[0]["gateway"], "10.244.0.1", "{default}");
    let eth0 = ip_json(pod.path(), &["link", "show", "eth0"]);
    assert_eq!(eth0[0]["address"], "0a:58:0a:f4:00:02", "{eth0}");
    let port = ip_json(node.path(), &["-d", "link", "show", "veth-a"]);
    assert_eq!(port[0]["master"], "mini0", "{port}");
    assert_eq!(port[0]["ifalias"], "default/web", "{port}");
    assert_eq!(port[0]["mtu"], 1450, "{port}");
    assert_eq!(port[0]["linkinfo"]["info_slave_data"]["isolated"], true, "{port}");
    packet_passes(&pod, &node, "10.244.0.1:7");
    assert_eq!(links.destinations().await.expect("routes"), vec![net("10.244.0.0/24")]);

    assert!(links.delete("veth-a").await.expect("delete"));
    assert!(!links.delete("veth-a").await.expect("delete again"));
    assert_eq!(links.index("veth-a").await.expect("look up"), None);
    pod.remove().expect("remove the pod");
    node.remove().expect("remove the node");
    assert_eq!(std::fs::read_dir(dir.path()).expect("folder").count(), 0);
}

#[test]
fn a_sandbox_pins_three_namespaces_and_its_hostname() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let paths = ["net", "ipc", "uts"].map(|name| dir.path().join(name));
    let pins = [(Kind::Net, &*paths[0]), (Kind::Ipc, &*paths[1]), (Kind::Uts, &*paths[2])];
    pin(&pins, Some("web-1")).expect("pin");
    let hostname = Command::new("nsenter")
        .arg(format!("--uts={}", paths[2].display()))
        .arg("hostname")
        .output()
        .expect("nsenter is installed");
    assert_eq!(String::from_utf8_lossy(&hostname.stdout).trim(), "web-1");
    for path in &paths {
        assert!(namespace::is_pinned(path));
        namespace::unpin(path).expect("unpin");
        namespace::unpin(path).expect("unpin again");
        assert!(!path.exists());
    }
}

#[test]
fn a_path_that_is_no_namespace_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("file");
    std::fs::write(&file, "").expect("write");
    let error = Namespace::open(&file).expect_err("no namespace");
    assert!(error.to_string().ends_with("is not a pinned namespace"), "{error}");
}
