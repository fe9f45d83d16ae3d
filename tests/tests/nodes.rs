//! Nodes under other people's hands: a damaged pod network mends itself, a node whose address
//! changes is followed, and whoever is on a node reaches its pods.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use e2e::{Answer, Lab, can_run_labs, run, wait_for};
use nix::sched::{CloneFlags, setns};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
/// How long damage may last.
const REPAIR: Duration = Duration::from_secs(1);

/// Two pods of nginx behind a node port of both families.
fn serve(lab: &Lab, replicas: &str) -> [String; 2] {
    let replicas = format!("--replicas={replicas}");
    let _ = lab.minictl(&["create", "deployment", "web", "--image=nginx", &replicas]).ok();
    let _ = lab.minictl(&["rollout", "status", "deployment/web", "--timeout=60s"]).ok();
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {type: NodePort, \
                   ipFamilyPolicy: RequireDualStack, selector: {app: web}, \
                   ports: [{port: 80, nodePort: 30080}]}\n";
    let file = lab.state().join("service.yaml");
    std::fs::write(&file, service).expect("a manifest");
    let _ = lab.minictl(&["apply", "-f", &file.display().to_string()]).ok();
    let service = lab.minictl(&["get", "service", "web", "-o", "json"]).json();
    let ips = texts(&service["spec"]["clusterIPs"]);
    [ips[0].clone(), format!("[{}]", ips[1])]
}

fn texts(list: &Value) -> Vec<String> {
    let list = list.as_array().unwrap_or_else(|| panic!("no list: {list}"));
    list.iter().map(|item| item.as_str().expect("a text").to_owned()).collect()
}

fn page(lab: &Lab, from: &str, host: &str) -> Answer {
    lab.on(from, &["curl", "-sS", "-m", "1", "-o", "/dev/null", &format!("http://{host}/")])
}

fn until_page(lab: &Lab, what: &str, limit: Duration, from: &str, host: &str) {
    wait_for(&format!("a page of {host} for {from}, {what}"), limit, || {
        let answer = page(lab, from, host);
        if answer.code == 0 { Ok(()) } else { Err(answer.to_string()) }
    });
}

/// Hosts of all pods, as URLs have them.
fn pod_hosts(lab: &Lab) -> Vec<String> {
    let pods = lab.minictl(&["get", "pods", "-l", "app=web", "-o", "json"]).json();
    let pods = pods["items"].as_array().cloned().unwrap_or_default();
    let ips = pods.iter().flat_map(|pod| pod["status"]["podIPs"].as_array().cloned());
    let ips = ips.flatten().map(|ip| ip["ip"].as_str().expect("an address").to_owned());
    ips.map(|ip| if ip.contains(':') { format!("[{ip}]") } else { ip }).collect()
}

#[test]
fn a_damaged_pod_network_mends_itself_within_a_second() {
    if !can_run_labs() {
        return;
    }
    let lab = Lab::start("mend", "192.168.83.0/24", 1);
    let services = serve(&lab, "2");
    let mut hosts = pod_hosts(&lab);
    assert_eq!(hosts.len(), 4, "two pods of two families: {hosts:?}");
    hosts.extend(services);
    for host in &hosts {
        until_page(&lab, "before any damage", LIMIT, "node-1", host);
    }
    let sockets: Vec<SocketAddr> =
        hosts.iter().map(|host| format!("{host}:80").parse().expect("an address")).collect();
    let first_pod = "$(ls -d $NODES/node-1/pods/*/net | head -n 1)";
    let damages = [
        ("ip link del mini0".to_owned(), "bridge mini0"),
        ("ip link set mini0 down".to_owned(), "bridge mini0"),
        ("ip link del $(ip -br link | grep -o '^pod[0-9a-f]*' | head -n 1)".to_owned(), "links"),
        (
            "ip link set $(ip -br link | grep -o '^pod[0-9a-f]*' | head -n 1) nomaster".to_owned(),
            "links",
        ),
        ("ip addr flush dev mini0".to_owned(), "bridge mini0"),
        ("ip route del 10.244.0.0/24 dev mini0".to_owned(), "route to 10.244.0.0/24"),
        ("ip -6 route del fd00:10:244::/64 dev mini0".to_owned(), "route to fd00:10:244::/64"),
        (format!("nsenter --net={first_pod} ip addr flush dev eth0 scope global"), "links"),
        (format!("nsenter --net={first_pod} ip route del default"), "links"),
    ];
    let nodes = lab.state().join("labs/mend/nodes").display().to_string();
    for (damage, told) in damages {
        let damage = damage.replace("$NODES", &nodes);
        // A machine that was busy with something else has two more tries.
        let mut took = Vec::new();
        while took.len() < 3 && took.iter().all(|took| *took >= REPAIR) {
            let before = lab.minictl(&["get", "events", "-o", "json"]).json();
            took.push(mended_after("/run/netns/mend-node-1", &damage, &sockets));
            wait_for(&format!("the event about {damage:?}"), LIMIT, || {
                let events = lab.minictl(&["get", "events", "-o", "json"]).json();
                if repairs(&events, told) > repairs(&before, told) {
                    Ok(())
                } else {
                    Err(events.to_string())
                }
            });
        }
        assert!(took.iter().any(|took| *took < REPAIR), "{damage:?} was mended after {took:?}");
    }
}

/// Does damage in a namespace; answers how long it takes until all servers can be reached again.
fn mended_after(namespace: &str, damage: &str, servers: &[SocketAddr]) -> Duration {
    let namespace = File::open(namespace).expect("the namespace");
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("enter the namespace");
            let start = Instant::now();
            let _ = run("sh", &["-c", damage]).ok();
            for server in servers {
                while TcpStream::connect_timeout(server, Duration::from_millis(100)).is_err() {
                    assert!(start.elapsed() < LIMIT, "{server} stays away after {damage:?}");
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            start.elapsed()
        });
        inside.join().expect("the servers come back")
    })
}

/// How often it was told that something was repaired.
fn repairs(events: &Value, what: &str) -> i64 {
    let events = events["items"].as_array().cloned().unwrap_or_default();
    let ours = events.iter().filter(|event| {
        event["reason"] == "NetworkRepaired"
            && event["involvedObject"]["kind"] == "Node"
            && event["message"].as_str().is_some_and(|message| message.contains(what))
    });
    ours.map(|event| event["count"].as_i64().unwrap_or(1)).sum()
}

/// K22: a node port answers at the address that a node has now.
#[test]
fn a_node_whose_address_changes_is_followed() {
    if !can_run_labs() {
        return;
    }
    let lab = Lab::start("follow", "192.168.85.0/24", 2);
    let services = serve(&lab, "4");
    until_page(&lab, "at first", LIMIT, "client", "192.168.85.71:30080");
    let restarts = restart_counts(&lab);
    for (new, old) in [
        ("192.168.85.171/24", "192.168.85.71/24"),
        ("fd00:192:168:85::171/64", "fd00:192:168:85::71/64"),
    ] {
        let _ = lab.on("node-2", &["ip", "addr", "add", new, "dev", "eth0"]).ok();
        let _ = lab.on("node-2", &["ip", "addr", "del", old, "dev", "eth0"]).ok();
    }
    let expected = ["192.168.85.171", "fd00:192:168:85::171"];
    wait_for("the node to tell its new addresses", LIMIT, || {
        let node = lab.minictl(&["get", "node", "node-2", "-o", "json"]).json();
        let addresses = node["status"]["addresses"].as_array().cloned().unwrap_or_default();
        let ips = addresses.iter().filter(|address| address["type"] == "InternalIP");
        let ips: Vec<String> =
            ips.filter_map(|a| Some(a["address"].as_str()?.to_owned())).collect();
        if ips == expected { Ok(()) } else { Err(format!("{addresses:?}")) }
    });
    for host in ["192.168.85.171:30080", "[fd00:192:168:85::171]:30080"] {
        until_page(&lab, "at the new address", LIMIT, "client", host);
    }
    // The other node has learnt the way to the pods that are there, and Services work all over.
    for host in pod_hosts(&lab).iter().chain(&services) {
        until_page(&lab, "after the change", LIMIT, "node-1", host);
        until_page(&lab, "after the change", LIMIT, "node-2", host);
    }
    assert_eq!(restart_counts(&lab), restarts, "containers went on");
    let pod = pod_on(&lab, "node-2");
    wait_for("the API server to reach the node", LIMIT, || {
        let answer = lab.minictl(&["exec", &pod, "--", "cat", "/etc/hostname"]);
        if answer.code == 0 { Ok(()) } else { Err(answer.to_string()) }
    });
}

fn pods(lab: &Lab) -> Vec<Value> {
    let pods = lab.minictl(&["get", "pods", "-l", "app=web", "-o", "json"]).json();
    pods["items"].as_array().cloned().unwrap_or_default()
}

fn pod_on(lab: &Lab, node: &str) -> String {
    let pods = pods(lab);
    let found = pods.iter().find(|pod| pod["spec"]["nodeName"] == node);
    let name = found.and_then(|pod| pod["metadata"]["name"].as_str());
    name.unwrap_or_else(|| panic!("no pod on {node}: {pods:?}")).to_owned()
}

/// Pods with the restarts of their containers.
fn restart_counts(lab: &Lab) -> Vec<String> {
    let count = |pod: &Value| {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        format!("{name}: {}", pod["status"]["containerStatuses"][0]["restartCount"])
    };
    let mut counts: Vec<String> = pods(lab).iter().map(count).collect();
    counts.sort();
    counts
}

/// C28: on a node one reaches a pod by its address; from outside one needs a Service.
#[test]
fn a_shell_on_a_node_reaches_pods_and_a_host_outside_does_not() {
    if !can_run_labs() {
        return;
    }
    let lab = Lab::start("visit", "192.168.86.0/24", 1);
    let _ = lab.minictl(&["run", "web", "--image=nginx", "--port=80"]).ok();
    let _ = lab.minictl(&["wait", "pod/web", "--for=condition=Ready", "--timeout=60s"]).ok();
    let pod = lab.minictl(&["get", "pod", "web", "-o", "json"]).json();
    let status = &pod["status"];
    assert_eq!(status["podIPs"][0]["ip"], "10.244.0.2");
    assert_eq!(status["podIPs"][1]["ip"], "fd00:10:244::2");
    assert_eq!(status["hostIPs"][1]["ip"], "fd00:192:168:86::70");
    for page in ["http://10.244.0.2", "http://[fd00:10:244::2]"] {
        let shell = ["node", "shell", "node-1", "--", "curl", "-sS", "-m", "5", page];
        wait_for("nginx to listen", LIMIT, || {
            let answer = lab.minictl(&shell);
            if answer.out.contains("Welcome to nginx!") { Ok(()) } else { Err(answer.to_string()) }
        });
        let _ = lab.on("client", &["curl", "-sS", "-m", "2", page]).refused();
    }
    let typed = "hostname -I || ip -br addr; exit 3\n";
    let shell = lab.command("minictl", None);
    let mut shell = shell;
    shell.env("SHELL", "/bin/sh");
    let session = e2e::finish(shell, &["node", "shell", "visit/node-1"], Some(typed));
    assert_eq!(session.code, 3, "{session}");
    assert!(session.out.contains("192.168.86.70"), "{session}");
    let hosts = lab.minictl(&["exec", "web", "--", "cat", "/etc/hosts"]).ok();
    assert!(hosts.contains("10.244.0.2\tweb\nfd00:10:244::2\tweb\n"), "{hosts}");
}
