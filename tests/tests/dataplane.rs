//! `minictl dataplane` in a lab: what is programmed, what differs, what others did, which engine.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use e2e::{Lab, can_run_labs, finish, run, wait_for};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);
/// Others' firewalls are looked for now and then.
const NOW_AND_THEN: Duration = Duration::from_secs(90);

const WEB: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  sessionAffinity: ClientIP
  ports: [{name: http, port: 80, targetPort: 8080, nodePort: 30080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.244.0.200]}, {addresses: [10.244.1.201]}]
";

fn lab(name: &str, network: &str) -> Lab {
    let lab = Lab::start(name, network, 2);
    let apply = lab.command("kubectl", None);
    let _ = finish(apply, &["apply", "-f", "-"], Some(WEB)).ok();
    lab
}

/// The frontends of `web` on a node, once all are there.
fn dump(lab: &Lab, node: &str) -> Vec<Value> {
    wait_for("the Service is in the kernel", LIMIT, || {
        let args = ["dataplane", "dump", "web", "--node", node, "-o", "json"];
        let told = lab.minictl(&args).json();
        let rows = told["frontends"].as_array().cloned().unwrap_or_default();
        let complete = |row: &Value| row["answer"]["backends"].as_array().map(Vec::len) == Some(2);
        if rows.len() == 2 && rows.iter().all(complete) { Ok(rows) } else { Err(told.to_string()) }
    })
}

fn status(lab: &Lab, node: &str) -> Value {
    lab.minictl(&["dataplane", "status", "--node", node, "-o", "json"]).json()
}

/// Events of netd about a node, as `REASON MESSAGE`.
fn events(lab: &Lab, node: &str) -> String {
    let about = format!("--field-selector=involvedObject.kind=Node,involvedObject.name={node}");
    let form = "jsonpath={range .items[?(@.source.component==\"netd\")]}{.reason} {.message}{\"\\n\"}{end}";
    lab.kubectl(&["get", "events", "-A", &about, "-o", form]).ok()
}

#[test]
fn a_node_tells_what_is_programmed_by_whom_and_what_differs() {
    if !can_run_labs() {
        return;
    }
    let lab = lab("dataplanea", "192.168.81.0/24");
    let version = "jsonpath={.metadata.resourceVersion}";
    let version = lab.kubectl(&["get", "service", "web", "-o", version]).ok();
    let rows = dump(&lab, "node-2");
    let kinds: Vec<&str> = rows.iter().filter_map(|row| row["kind"].as_str()).collect();
    assert!(kinds.contains(&"ClusterIP") && kinds.contains(&"NodePort"), "{kinds:?}");
    for row in &rows {
        assert_eq!(row["service"]["namespace"], "default", "{row}");
        assert_eq!(row["service"]["port"], "http", "{row}");
        assert_eq!(row["service"]["resourceVersion"], version.as_str(), "{row}");
        assert_eq!(row["affinitySeconds"], 10800, "{row}");
        assert!(!row["objects"].as_array().unwrap().is_empty(), "{row}");
    }
    let table = lab.minictl(&["dataplane", "dump", "svc/web", "--node", "node-1"]).ok();
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("NODE     SERVICE   PORT   VERSION"), "{table}");
    assert!(table.contains("10.244.0.200:8080,10.244.1.201:8080"), "{table}");
    let all = lab.minictl(&["dataplane", "dump", "--node", "node-1"]).ok();
    assert!(all.contains("kubernetes"), "every namespace, every Service:\n{all}");

    let table = lab.minictl(&["dataplane", "status"]).ok();
    let reason = status(&lab, "node-1")["engine"]["reason"].as_str().unwrap().to_owned();
    for node in ["node-1", "node-2"] {
        let line = table.lines().find(|line| line.starts_with(node)).unwrap_or_default();
        assert!(line.ends_with(&reason), "{table}");
    }
    let diff = lab.minictl(&["dataplane", "diff"]);
    assert_eq!((diff.code, diff.out.as_str()), (0, ""), "{diff}");
    let yaml = lab.minictl(&["dataplane", "diff", "--node", "node-1", "-o", "yaml"]).ok();
    assert!(yaml.contains("differences: []"), "{yaml}");

    let unknown = lab.minictl(&["dataplane", "status", "--node", "node-9"]);
    assert_eq!(unknown.code, 1, "{unknown}");
    assert!(unknown.err.contains("nodes \"node-9\" not found"), "{unknown}");
    let unknown = lab.minictl(&["dataplane", "diff", "--node", "node-9"]);
    assert_eq!(unknown.code, 2, "neither equal nor different: {unknown}");
}

#[test]
fn what_others_do_is_put_back_and_told_and_what_is_theirs_is_left() {
    if !can_run_labs() {
        return;
    }
    let lab = lab("dataplaneb", "192.168.82.0/24");
    dump(&lab, "node-1");
    let nft = |command: &str| lab.on("node-1", &["nft", command]).ok();
    let _ = nft("flush table inet minictl");
    wait_for("the table is put back", LIMIT, || {
        let diff = lab.minictl(&["dataplane", "diff", "--node", "node-1"]);
        let repairs = status(&lab, "node-1")["activity"]["repairs"].as_str().map(str::to_owned);
        let repairs = repairs.or_else(|| {
            status(&lab, "node-1")["activity"]["repairs"].as_u64().map(|n| n.to_string())
        });
        let repaired = repairs.is_some_and(|count| count != "0");
        if diff.code == 0 && repaired { Ok(()) } else { Err(diff.to_string()) }
    });
    dump(&lab, "node-1");
    wait_for("an event tells of it", LIMIT, || {
        let events = events(&lab, "node-1");
        if events.contains("DataplaneRepaired") { Ok(()) } else { Err(events) }
    });

    // As another kube-proxy has it.
    let _ = nft("table ip kube-proxy { chain services { type nat hook prerouting priority 0; }; }");
    let seen = lab.minictl(&["dataplane", "diff", "--node", "node-1"]);
    assert!(seen.out.contains("kube-proxy"), "{seen}");
    assert_eq!(seen.code, 0, "what is somebody else's is no difference: {seen}");
    assert!(nft("list table ip kube-proxy").contains("services"), "and is left alone");
    let _ = nft("delete table ip kube-proxy");
    let gone = lab.minictl(&["dataplane", "diff", "--node", "node-1"]);
    assert_eq!((gone.code, gone.out.as_str()), (0, ""), "{gone}");
}

#[test]
fn a_firewall_on_a_node_is_named_with_its_rule_and_the_way_out() {
    if !can_run_labs() {
        return;
    }
    let lab = lab("dataplanec", "192.168.83.0/24");
    dump(&lab, "node-1");
    let _ = lab
        .on("node-1", &["nft", "table inet guard { chain f { type filter hook forward priority 0; oifname mini0 drop; }; }"])
        .ok();
    let shown = wait_for("the firewall is seen", NOW_AND_THEN, || {
        let shown = lab.minictl(&["dataplane", "status", "--node", "node-1"]).ok();
        if shown.contains("Warning:") { Ok(shown) } else { Err(shown) }
    });
    assert!(shown.contains("nftables blocks"), "{shown}");
    assert!(shown.contains("inet guard f (hook forward): oifname \"mini0\" drop"), "{shown}");
    assert!(shown.contains("nft insert rule inet guard f oifname mini0 accept"), "{shown}");
    wait_for("an event tells of it", LIMIT, || {
        let events = events(&lab, "node-1");
        if events.contains("inet guard f") { Ok(()) } else { Err(events) }
    });
}

#[test]
fn another_engine_is_used_where_the_kernel_has_it_and_refused_where_not() {
    if !can_run_labs() {
        return;
    }
    let lab = lab("dataplaned", "192.168.84.0/24");
    dump(&lab, "node-1");
    let reason = status(&lab, "node-1")["engine"]["reason"].as_str().unwrap().to_owned();
    let switched = lab.minictl(&["dataplane", "use", "ipvs"]);
    if reason == "kernel has no ip_vs" {
        assert_eq!(switched.code, 1, "{switched}");
        for node in ["node-1", "node-2"] {
            let says = format!("error: node/{node} goes on with nftables (ipvs can't be used: ");
            assert!(switched.err.contains(&says), "{switched}");
        }
        assert_eq!(status(&lab, "node-1")["engine"]["wanted"], "ipvs");
    } else {
        assert_eq!(switched.out, "node/node-1 ipvs (as asked)\nnode/node-2 ipvs (as asked)\n");
    }
    let back = lab.minictl(&["dataplane", "use", "nftables", "--node", "node-1"]).ok();
    assert_eq!(back, "node/node-1 nftables (as asked)\n");
    assert_eq!(status(&lab, "node-1")["engine"]["name"], "nftables");
    let free = lab.minictl(&["dataplane", "use", "auto"]).ok();
    assert_eq!(free.lines().count(), 2, "{free}");
    let by_itself = match reason.as_str() {
        "kernel has no ip_vs" => "nftables (kernel has no ip_vs)",
        _ => "ipvs (kernel has ip_vs)",
    };
    assert!(free.lines().all(|line| line.ends_with(by_itself)), "{free}");
    dump(&lab, "node-1");
}

/// A netd that runs alone, in a lab host's network; it ends with the test.
struct Netd(Child);

impl Drop for Netd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_netd_alone_answers_at_its_socket() {
    if !can_run_labs() {
        return;
    }
    let lab = lab("dataplanee", "192.168.85.0/24");
    dump(&lab, "node-1");
    let socket = lab.state().join("netd.sock");
    // The lab's own kubeconfig names a port of the machine.
    let kubeconfig = lab.state().join("kubeconfig-inside");
    let text = std::fs::read_to_string(lab.kubeconfig(None)).unwrap();
    let inside = |line: &str| match line.split_once("server: ") {
        Some((indent, _)) => format!("{indent}server: https://192.168.85.70:6443\n"),
        None => format!("{line}\n"),
    };
    std::fs::write(&kubeconfig, text.lines().map(inside).collect::<String>()).unwrap();
    let log = std::fs::File::create(lab.state().join("netd.log")).unwrap();
    let mut netd = Netd(
        Command::new("nsenter")
            .arg("--net=/run/netns/dataplanee-client")
            .arg(e2e::minictl())
            .args(["netd", "--name", "client", "--kubeconfig"])
            .arg(&kubeconfig)
            .arg("--socket")
            .arg(&socket)
            .stderr(Stdio::from(log))
            .spawn()
            .unwrap(),
    );
    let ask =
        |verb: &str| lab.minictl(&["dataplane", verb, "--socket", &socket.display().to_string()]);
    wait_for("netd tells", LIMIT, || {
        let told = ask("dump");
        if told.out.contains("10.244.0.200:8080") { Ok(()) } else { Err(told.to_string()) }
    });
    assert!(ask("status").ok().contains("client"));
    assert_eq!(ask("diff").code, 0);
    assert_eq!(run("stat", &["-c", "%a", &socket.display().to_string()]).ok().trim(), "600");

    let _ = run("kill", &[&netd.0.id().to_string()]).ok();
    let _ = netd.0.wait();
    assert!(!Path::exists(&socket), "the socket goes with the process");
    let refused = ask("status");
    assert!(refused.err.contains("no netd answers at"), "{refused}");
    assert_eq!(refused.code, 1);
}
