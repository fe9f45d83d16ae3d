//! The ways to a Service in a lab with real pods: from pods, nodes, and outside, in both families.
//!
//! Numbers of rows (K3, K4, K11, K12, K24, K26, K28) are those of the course's list.

use std::collections::{BTreeMap, BTreeSet};

use e2e::room::{CurlError, Room, SharedLab, text};
use e2e::{can_run_labs, capable, run};
use serde_json::Value;

/// Without a load balancer of its own: what one does is tested elsewhere.
static LAB: SharedLab =
    SharedLab::new("paths", "192.168.72.0/24", 2).with(&["--load-balancer", "none"]);
const NODES: [(&str, &str); 2] = [("node-1", "192.168.72.70"), ("node-2", "192.168.72.71")];
const SOON: std::time::Duration = std::time::Duration::from_secs(20);

/// A room for a test with minictl; what clients do to objects is tested elsewhere.
fn room(name: &str) -> Option<Room> {
    can_run_labs().then(|| LAB.room("minictl", name))
}

/// A room for a test with kubectl.
fn kubectl_room(name: &str) -> Option<Room> {
    let there = can_run_labs() && capable("kubectl", run("which", &["kubectl"]).code == 0);
    there.then(|| LAB.room("kubectl", name))
}

fn service(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
         spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}], {spec}}}\n"
    )
}

fn spec(room: &Room, service: &str) -> Value {
    room.object("service", service)["spec"].clone()
}

fn host_of(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}

/// `http://` URLs of a Service's cluster addresses, one of each family.
fn vips(room: &Room, service: &str) -> Vec<String> {
    let spec = spec(room, service);
    let addresses = spec["clusterIPs"].as_array().cloned().unwrap_or_default();
    addresses.iter().map(|address| format!("http://{}", host_of(&text(address)))).collect()
}

fn node_port(room: &Room, service: &str) -> String {
    spec(room, service)["ports"][0]["nodePort"].to_string()
}

/// `http://` URLs of a node port on a node, one of each family.
fn at_node(room: &Room, node: &str, port: &str) -> Vec<String> {
    let node = room.object("node", node);
    let addresses = node["status"]["addresses"].as_array().cloned().unwrap_or_default();
    addresses
        .iter()
        .filter(|address| address["type"] == "InternalIP")
        .map(|address| format!("http://{}:{port}", host_of(&text(&address["address"]))))
        .collect()
}

/// The addresses of a pod, and the node it runs on.
fn pod_addresses(room: &Room, pod: &str) -> (Vec<String>, String) {
    let pod = room.object("pod", pod);
    let addresses = pod["status"]["podIPs"].as_array().cloned().unwrap_or_default();
    let addresses = addresses.iter().map(|address| text(&address["ip"])).collect();
    (addresses, text(&pod["spec"]["nodeName"]))
}

/// The pods that may answer, by what is told of a packet's way.
fn traced(room: &Room, to: &str, from: &str) -> BTreeSet<String> {
    let told = room.types(&format!("dataplane trace {to} --from {from} -o json")).json();
    let ends = told["ends"].as_array().cloned().unwrap_or_default();
    let who = ends.iter().filter_map(|end| end["who"].as_str()?.split([' ', '/']).nth(2));
    who.map(str::to_owned).collect()
}

const DUAL: &str = "ipFamilyPolicy: RequireDualStack";

/// K3: every pod reaches every pod by its own address, whichever node it is on, and is seen by its
/// own.
#[test]
fn pods_of_all_nodes_reach_each_other() {
    let Some(room) = room("pod-to-pod") else { return };
    room.deploys("web", 3);
    let pods = room.ready_pods("app=web", 3);
    let addresses: BTreeMap<String, (Vec<String>, String)> =
        pods.iter().map(|pod| (pod.clone(), pod_addresses(&room, pod))).collect();
    let nodes: BTreeSet<&String> = addresses.values().map(|(_, node)| node).collect();
    assert_eq!(nodes.len(), 2, "on both nodes: {addresses:?}");
    for from in &pods {
        for (to, (addresses, _)) in &addresses {
            assert_eq!(addresses.len(), 2, "one of each family: {addresses:?}");
            for address in addresses {
                let url = format!("http://{}:8080", host_of(address));
                assert_eq!(room.asks_from_pod(from, &url), Ok(to.clone()), "{from} to {address}");
            }
        }
    }
}

/// K4: a cluster address is for the cluster, and a pod's address, too.
#[test]
fn a_client_outside_reaches_neither_cluster_addresses_nor_pods() {
    let Some(room) = room("outside") else { return };
    room.deploys("web", 2);
    let pods = room.ready_pods("app=web", 2);
    room.applies(&service("web", DUAL));
    for vip in vips(&room, "web") {
        room.is_served("node-1", &vip, &pods);
        assert!(room.asks("client", &vip).is_err(), "{vip}");
    }
    for pod in &pods {
        for address in pod_addresses(&room, pod).0 {
            let url = format!("http://{}:8080", host_of(&address));
            assert_eq!(room.asks("node-1", &url), Ok(pod.clone()));
            assert!(room.asks("client", &url).is_err(), "{url}");
        }
    }
    let why = room.types("dataplane trace svc/web --from client").ok();
    assert!(
        why.contains("a cluster address, which means something inside the cluster only"),
        "{why}"
    );
    let unserved = room.types("dataplane trace svc/web:22 --from node-1");
    assert_eq!(unserved.code, 1, "{unserved}");
    let vip = text(&spec(&room, "web")["clusterIP"]);
    let says = format!("/web has the address {vip}, but no port 22/TCP.");
    assert!(unserved.out.contains(&says), "{unserved}");
}

/// K12, C27: a Service spans nodes; any node's address and port will do, also one without a pod.
#[test]
fn a_node_port_answers_on_every_node_in_both_families() {
    let Some(room) = kubectl_room("every-node") else { return };
    room.deploys("web", 1);
    let pods = room.ready_pods("app=web", 1);
    room.applies(&service("web", &format!("type: NodePort, {DUAL}")));
    let port = node_port(&room, "web");
    for (node, _) in NODES {
        let urls = at_node(&room, node, &port);
        assert_eq!(urls.len(), 2, "one of each family: {urls:?}");
        for url in urls {
            for host in ["client", "node-1", "node-2"] {
                room.is_served(host, &url, &pods);
            }
            let pod = pods.first().expect("one pod");
            assert_eq!(room.asks_from_pod(pod, &url), Ok(pod.clone()), "{url} from its own pod");
        }
        // And the one address that only the node itself has.
        for url in [format!("http://127.0.0.1:{port}"), format!("http://[::1]:{port}")] {
            room.is_served(node, &url, &pods);
            assert_eq!(room.asks("client", &url), Err(CurlError::Refused), "{url} is its own");
        }
    }
}

/// K11: each pod gets its share. (A few hundred calls here; χ² over thousands of connections is
/// tested without containers.)
#[test]
fn calls_are_spread_over_all_pods() {
    let Some(room) = room("spread") else { return };
    room.deploys("web", 3);
    let pods = room.ready_pods("app=web", 3);
    room.applies(&service("web", ""));
    let vip = vips(&room, "web").remove(0);
    room.is_served("node-1", &vip, &pods);
    // A connection for each call, by one process.
    let url = format!("{vip}/?[1-240]");
    let answer = room.on("node-1", &["curl", "-sS", "-m", "60", "-H", "Connection: close", &url]);
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for line in answer.ok().lines() {
        *counts.entry(line.trim_start_matches("Welcome! ").to_owned()).or_default() += 1;
    }
    let names: BTreeSet<String> = counts.keys().cloned().collect();
    assert_eq!(names, pods, "{counts:?}");
    // Six standard deviations of 240 throws of a fair die with three sides are 44.
    assert!(counts.values().all(|n| (36..=124).contains(n)), "{counts:?}");
}

/// K24: without a load balancer's provider the address is pending, and the node port works.
#[test]
fn a_load_balancer_without_provider_is_a_node_port() {
    let Some(room) = kubectl_room("pending") else { return };
    room.deploys("web", 2);
    let pods = room.ready_pods("app=web", 2);
    room.applies(&service("web", "type: LoadBalancer"));
    let table = room.types("get svc web").ok();
    assert!(table.contains("<pending>"), "{table}");
    let port = node_port(&room, "web");
    for (_, address) in NODES {
        room.is_served("client", &format!("http://{address}:{port}"), &pods);
    }
}

/// K26: a load balancer's traffic comes by the node port, or to the address itself where the
/// Service has none.
#[test]
fn a_load_balancer_address_is_served_with_and_without_a_node_port() {
    let Some(room) = room("balanced") else { return };
    room.deploys("web", 2);
    let pods = room.ready_pods("app=web", 2);
    for (name, address, more) in [
        ("by-node-port", "203.0.113.10", ""),
        ("direct", "203.0.113.11", ", allocateLoadBalancerNodePorts: false"),
    ] {
        room.applies(&service(name, &format!("type: LoadBalancer{more}")));
        // What a provider writes once it has announced the address.
        let status =
            format!(r#"{{"status":{{"loadBalancer":{{"ingress":[{{"ip":"{address}"}}]}}}}}}"#);
        let path = ["patch", "svc", name, "-n", room.namespace(), "--subresource=status"];
        let args = [&path[..], &["--type=merge", "-p", &status]].concat();
        let _ = room.minictl(&args).ok();
        let table = room.types(&format!("get svc {name}")).ok();
        assert!(table.contains(address), "{table}");
        let _ = room.on("client", &["ip", "route", "replace", address, "via", NODES[0].1]).ok();
        for host in ["client", "node-1", "node-2"] {
            room.is_served(host, &format!("http://{address}"), &pods);
            assert_eq!(traced(&room, &format!("{address}:80"), host), pods, "from {host}");
        }
    }
    let port = node_port(&room, "by-node-port");
    let at_port = format!("{}:{port}", NODES[1].1);
    room.is_served("client", &format!("http://{at_port}"), &pods);
    assert_eq!(traced(&room, &at_port, "client"), pods, "the way is told as it is");
    // The path through the node port is visible: the rule that looks it up, and whose it is.
    let way = room.types(&format!("dataplane trace {at_port} --from client")).ok();
    assert!(
        way.contains("node-2 (") && way.contains(&format!("{}/by-node-port", room.namespace())),
        "{way}"
    );
    let first = pods.first().expect("two pods");
    assert_eq!(traced(&room, "svc/direct", first), pods);
    assert_eq!(spec(&room, "direct")["ports"][0]["nodePort"], Value::Null);
}

/// K28: a client keeps its pod, by whatever door, and whoever joins.
#[test]
fn a_client_keeps_its_pod() {
    let Some(room) = room("sticky") else { return };
    room.deploys("web", 3);
    let pods = room.ready_pods("app=web", 3);
    let affinity =
        "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 600}}";
    room.applies(&service("web", &format!("type: NodePort, {affinity}, {DUAL}")));
    let port = node_port(&room, "web");
    let keeps = |ask: &dyn Fn() -> Result<String, CurlError>, what: &str| -> String {
        let seen: BTreeSet<String> =
            (0..6).map(|_| ask().unwrap_or_else(|e| panic!("{what}: {e:?}"))).collect();
        assert_eq!(seen.len(), 1, "{what}: {seen:?}");
        seen.into_iter().next().expect("one")
    };
    // All endpoints must be there before the first call decides.
    e2e::wait_for("all endpoints", SOON, || {
        let text = room.types("describe svc web").ok();
        if text.matches(":8080").count() == 3 { Ok(()) } else { Err(text) }
    });
    let mut kept = BTreeMap::new();
    for url in vips(&room, "web") {
        kept.insert(url.clone(), keeps(&|| room.asks("node-1", &url), &url));
        // Also a pod that may be given itself.
        for pod in &pods {
            keeps(&|| room.asks_from_pod(pod, &url), &format!("{pod} to {url}"));
        }
    }
    let mut kept_outside = BTreeMap::new();
    for url in at_node(&room, "node-1", &port) {
        kept_outside.insert(url.clone(), keeps(&|| room.asks("client", &url), &url));
    }
    let _ = room.types("scale deployment web --replicas=5").ok();
    let more = room.ready_pods("app=web", 5);
    assert!(more.is_superset(&pods));
    for (url, pod) in kept {
        assert_eq!(keeps(&|| room.asks("node-1", &url), &url), pod, "after two more pods");
    }
    for (url, pod) in kept_outside {
        assert_eq!(keeps(&|| room.asks("client", &url), &url), pod, "after two more pods");
    }
}

/// C37: a pod that calls the Service it is the only backend of.
#[test]
fn a_pod_reaches_itself_through_its_service() {
    let Some(room) = kubectl_room("itself") else { return };
    room.deploys("web", 1);
    let pods = room.ready_pods("app=web", 1);
    let pod = pods.first().expect("one pod");
    room.applies(&service("web", DUAL));
    for vip in vips(&room, "web") {
        room.is_served("node-1", &vip, &pods);
        assert_eq!(room.asks_from_pod(pod, &vip), Ok(pod.clone()), "{vip}");
    }
}
