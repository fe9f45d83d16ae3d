//! A lab that has IPv6 and nothing else: nodes, pods, Services and the API are reached by it, and no
//! object has an address of the other family.

use std::path::PathBuf;
use std::time::Duration;

use e2e::{Answer, Lab, can_run_labs, capable, run, timeout, wait_for};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
const MANIFEST: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: nginx, image: nginx, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, nodePort: 30080}]}
";

fn page(lab: &Lab, from: &str, host: &str) -> Answer {
    let url = format!("http://{host}/");
    lab.on(from, &["curl", "-sS", "-g", "-m", "2", "-o", "/dev/null", &url])
}

#[track_caller]
fn until_page(lab: &Lab, from: &str, host: &str) {
    wait_for(&format!("a page of {host} for {from}"), LIMIT, || {
        let answer = page(lab, from, host);
        if answer.code == 0 { Ok(()) } else { Err(answer.to_string()) }
    });
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// Where the network namespace of a pod is pinned.
fn pod_namespace(lab: &Lab, pod: &Value) -> PathBuf {
    let (node, uid) = (text(&pod["spec"]["nodeName"]), text(&pod["metadata"]["uid"]));
    let nodes = lab.state().join("labs").join(&lab.name).join("nodes");
    nodes.join(node).join("pods").join(uid).join("net")
}

/// The texts at a path of an object; a list's, or the one.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::String(text) => vec![text.clone()],
        Value::Object(fields) => {
            fields.get("ip").or_else(|| fields.get("address")).map(texts).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

#[track_caller]
fn only_ipv6(what: &str, addresses: &[String]) {
    assert!(!addresses.is_empty(), "{what} has no address");
    assert!(addresses.iter().all(|address| address.contains(':')), "{what}: {addresses:?}");
}

#[test]
fn a_lab_of_ipv6_alone_serves() {
    let ipv6 = std::path::Path::new("/proc/sys/net/ipv6").exists();
    if !can_run_labs() || !capable("IPv6", ipv6) {
        return;
    }
    let flags = ["--ip-family", "ipv6"];
    let lab = Lab::start_with("six", "fd00:192:168:58::/64", 2, &flags);
    let file = lab.state().join("web.yaml");
    std::fs::write(&file, MANIFEST).expect("a manifest");
    let _ = lab.minictl(&["apply", "-f", &file.display().to_string()]).ok();
    let _ = lab.minictl(&["rollout", "status", "deployment/web", &timeout(LIMIT)]).ok();

    let object = |kind: &str, name: &str| lab.minictl(&["get", kind, name, "-o", "json"]).json();
    let mut nodes = Vec::new();
    for name in ["node-1", "node-2"] {
        let node = object("node", name);
        let all = node["status"]["addresses"].as_array().cloned().unwrap_or_default();
        let internal = all.iter().find(|address| address["type"] == "InternalIP");
        let addresses = texts(internal.expect("a node has an address"));
        only_ipv6(name, &addresses);
        only_ipv6(name, &texts(&node["spec"]["podCIDRs"]));
        nodes.extend(addresses);
    }
    let service = object("service", "web");
    assert_eq!(service["spec"]["ipFamilies"], serde_json::json!(["IPv6"]));
    let vips = texts(&service["spec"]["clusterIPs"]);
    only_ipv6("service web", &vips);
    only_ipv6("service kubernetes", &texts(&object("service", "kubernetes")["spec"]["clusterIPs"]));
    let pods = lab.minictl(&["get", "pods", "-l", "app=web", "-o", "json"]).json();
    let pods = pods["items"].as_array().cloned().unwrap_or_default();
    assert_eq!(pods.len(), 2);
    for pod in &pods {
        only_ipv6("a pod", &texts(&pod["status"]["podIPs"]));
    }

    let vip = format!("[{}]", vips[0]);
    for pod in &pods {
        let address = format!("[{}]", texts(&pod["status"]["podIPs"])[0]);
        until_page(&lab, "node-1", &address);
    }
    for node in ["node-1", "node-2"] {
        until_page(&lab, node, &vip);
        until_page(&lab, node, "[::1]:30080");
    }
    for node in &nodes {
        until_page(&lab, "client", &format!("[{node}]:30080"));
    }
    let pod = &pods[0];
    let (name, namespace) = (text(&pod["metadata"]["name"]), pod_namespace(&lab, pod));
    wait_for("a page of the Service for a pod", LIMIT, || {
        let net = format!("--net={}", namespace.display());
        let url = format!("http://{vip}/");
        let answer =
            run("nsenter", &[&net, "curl", "-sS", "-g", "-m", "2", "-o", "/dev/null", &url]);
        if answer.code == 0 { Ok(()) } else { Err(answer.to_string()) }
    });
    // The API server's way to a node.
    assert_eq!(lab.minictl(&["exec", &name, "--", "echo", "hi"]).ok(), "hi\n");
    // No address of the other family came in by another door.
    for node in ["node-1", "node-2"] {
        let four = lab.on(node, &["ip", "-4", "-oneline", "address"]).ok();
        let others: Vec<&str> = four.lines().filter(|line| !line.contains("127.0.0.1/8")).collect();
        assert!(others.is_empty(), "{node}: {others:?}");
    }
}
