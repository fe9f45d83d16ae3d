//! A lab comes up, tells of itself, survives what its processes suffer, and leaves nothing behind.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use e2e::{Lab, can_run_labs, finish, run, wait_for};

const LIMIT: Duration = Duration::from_secs(60);

/// One lab at a time in this file: they compare what the machine has before and after.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    // A test that failed has said so itself.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everything of this machine that a lab could leave behind, a line each.
fn machine() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut note = |what: &str, text: String| {
        found.extend(text.lines().map(|line| format!("{what}: {line}")));
    };
    note("link", run("sh", &["-c", "ip -j link | jq -r '.[].ifname'"]).ok());
    note("address", run("sh", &["-c", "ip -j addr | jq -r '.[].addr_info[].local'"]).ok());
    note("route", run("ip", &["route", "show", "table", "all"]).ok());
    note("namespace", run("sh", &["-c", "ls /run/netns 2>/dev/null || true"]).ok());
    note("table", run("nft", &["list", "tables"]).out);
    note("mount", run("cut", &["-d ", "-f5", "/proc/self/mountinfo"]).ok());
    let cgroups = "find /sys/fs/cgroup -type d -path '*minictl*'";
    note("cgroup", run("sh", &["-c", cgroups]).ok());
    note("shim", run("sh", &["-c", "find /run/containerd 2>/dev/null || true"]).ok());
    note(
        "state",
        run("sh", &["-c", "ls -d /var/lib/minictl /var/lib/containerd/* 2>/dev/null || true"]).ok(),
    );
    note("sysctl", run("cat", &["/proc/sys/net/ipv4/ip_forward"]).ok());
    found
}

fn processes_naming(folder: &Path) -> String {
    let pattern = folder.display().to_string();
    run("sh", &["-c", &format!("ps -eo pid,args | grep -F {pattern} | grep -v grep || true")]).out
}

/// The hosts of a lab, known also after they are gone.
struct Hosts(BTreeSet<u64>);

impl Hosts {
    fn of(lab: &str) -> Self {
        let names = std::fs::read_dir("/run/netns").expect("namespaces").flatten();
        let prefix = format!("{lab}-");
        let of_lab = names.filter(|name| name.file_name().to_string_lossy().starts_with(&prefix));
        let found: BTreeSet<u64> = of_lab.filter_map(|name| inode(&name.path())).collect();
        assert!(!found.is_empty(), "{lab} has no hosts");
        Self(found)
    }

    /// What still runs in them.
    fn processes(&self) -> Vec<String> {
        let all = std::fs::read_dir("/proc").expect("processes").flatten();
        let inside = all.filter(|process| {
            inode(&process.path().join("ns/net")).is_some_and(|at| self.0.contains(&at))
        });
        let command = |process: std::fs::DirEntry| {
            let words = std::fs::read(process.path().join("cmdline")).ok()?;
            Some(String::from_utf8_lossy(&words).replace('\0', " "))
        };
        inside.filter_map(command).collect()
    }
}

fn inode(path: &Path) -> Option<u64> {
    Some(std::fs::metadata(path).ok()?.ino())
}

#[test]
fn a_lab_leaves_nothing_behind() {
    if !can_run_labs() {
        return;
    }
    let _alone = alone();
    let before = machine();
    let lab = Lab::start("tidy", "192.168.62.0/24", 2);
    let during = machine();
    assert!(during.contains("link: mini-tidy"), "the bridge is missing in {during:?}");
    assert!(during.contains("namespace: tidy-node-2"), "{during:?}");
    let create = ["create", "deployment", "web", "--image=nginx", "--replicas=4"];
    let _ = lab.minictl(&create).ok();
    let _ = lab.minictl(&["rollout", "status", "deployment/web", "--timeout=60s"]).ok();

    let (folder, hosts) = (lab.state().to_owned(), Hosts::of("tidy"));
    assert!(hosts.processes().len() > 3, "{:?}", hosts.processes());
    let _ = lab.minictl(&["lab", "down", "tidy"]).ok();
    assert_eq!((processes_naming(&folder), hosts.processes()), (String::new(), vec![]));
    let left: Vec<String> = machine().difference(&before).cloned().collect();
    assert!(left.is_empty(), "left behind: {left:#?}");
    let lost: Vec<String> = before.difference(&machine()).cloned().collect();
    assert!(lost.is_empty(), "taken away: {lost:#?}");
    assert!(!folder.exists(), "left: {:?}", run("find", &[&folder]).out);
    std::mem::forget(lab);
}

#[test]
fn a_lab_tells_of_itself_and_survives_its_processes() {
    if !can_run_labs() {
        return;
    }
    let _alone = alone();
    let lab = Lab::start("tell", "192.168.63.0/24", 1);
    let again = lab.minictl(&["lab", "up", "tell", "--network", "192.168.63.0/24"]).ok();
    assert!(again.starts_with("lab tell is up\n"), "{again}");
    let list = lab.minictl(&["lab", "list"]).ok();
    assert!(list.lines().any(|line| line.starts_with("tell   up")), "{list}");
    let status = lab.minictl(&["lab", "status", "tell"]).ok();
    for text in ["node-1", "192.168.63.70", "Ready, ", "client", "internet", "containerd", "server"]
    {
        assert!(status.contains(text), "{text} in\n{status}");
    }
    let path = lab.minictl(&["lab", "kubeconfig", "tell"]).ok();
    assert!(Path::new(path.trim()).is_file(), "{path}");
    let mut without = lab.command("minictl", None);
    without.env_remove("KUBECONFIG");
    let found = finish(without, &["get", "nodes", "-o", "name"], None).ok();
    assert_eq!(found, "node/node-1\n");
    let unknown = lab.minictl(&["lab", "exec", "tell/node-9", "--", "true"]).refused();
    assert!(unknown.contains("its hosts are node-1, client, internet"), "{unknown}");
    assert_eq!(lab.on("client", &["sh", "-c", "exit 7"]).code, 7);
    // Closed: the client knows the node network only, nodes lead to the internet host.
    assert_ne!(lab.on("client", &["ip", "route", "get", "203.0.113.1"]).code, 0);
    let route = lab.on("node-1", &["ip", "-j", "route", "show", "default"]).json();
    assert_eq!(route[0]["gateway"], "192.168.63.254");

    the_internet_is_there(&lab);
    pods_survive_every_process(&lab);
}

/// Names, sites at addresses of their own, and nothing else: closed.
fn the_internet_is_there(lab: &Lab) {
    let dig = |server: &str, more: &[&str]| {
        let dig = ["dig", server, "+time=2", "+tries=2"];
        lab.on("node-1", &[&dig[..], more].concat()).ok()
    };
    let (four, six) = ("@192.168.63.254", "@fd00:192:168:63::254");
    assert_eq!(dig(four, &["myservice.test.com", "+short"]).trim(), "203.0.113.10");
    let of_six = dig(six, &["someapi.somecompany.com", "AAAA", "+short"]);
    assert_eq!(of_six.trim(), "2001:db8:203:113::20");
    assert!(dig(four, &["debian.org"]).contains("status: NXDOMAIN"));
    let page = lab.on("node-1", &["curl", "-sS", "-m", "5", "http://203.0.113.20/v1"]).ok();
    let wanted = "This is someapi.somecompany.com at 203.0.113.20, outside the cluster.\n\
                  192.168.63.70 asked host 203.0.113.20 for /v1\n";
    assert_eq!(page, wanted);
    let pool = lab.minictl(&["get", "addresspool", "default", "-o", "json"]).json();
    let ranges = &pool["spec"]["addresses"];
    assert_eq!(ranges[0], "192.168.63.200-192.168.63.249", "{ranges}");
    assert_eq!(ranges[1], "fd00:192:168:63::200-fd00:192:168:63::249", "{ranges}");
}

/// The node and the control plane are killed; the container goes on, and both come back.
fn pods_survive_every_process(lab: &Lab) {
    let _ = lab.minictl(&["run", "web", "--image=nginx", "--port=80"]).ok();
    let _ = lab.minictl(&["wait", "pod/web", "--for=condition=Ready", "--timeout=60s"]).ok();
    let container = |lab: &Lab| {
        let pod = lab.minictl(&["get", "pod", "web", "-o", "json"]).json();
        let status = &pod["status"]["containerStatuses"][0];
        (
            status["containerID"].clone(),
            status["restartCount"].clone(),
            pod["status"]["podIP"].clone(),
        )
    };
    let before = container(lab);
    for process in ["node-1", "server"] {
        let file = lab.state().join("labs/tell/pids").join(process);
        let pid = std::fs::read_to_string(&file).expect("a pid");
        let _ = run("kill", &["-9", pid.trim()]).ok();
        wait_for(&format!("{process} to be started again"), LIMIT, || {
            let now = std::fs::read_to_string(&file).expect("a pid");
            if now == pid { Err(format!("still {pid}")) } else { Ok(()) }
        });
        let page = format!("http://{}", before.2.as_str().expect("a pod address"));
        let answer = lab.on("node-1", &["curl", "-s", "-m", "5", &page]).ok();
        assert!(answer.contains("Welcome to nginx!"), "{answer}");
    }
    wait_for("the API to answer as before", LIMIT, || {
        let answer = lab.minictl(&["exec", "web", "--", "cat", "/etc/hostname"]);
        if answer.out == "web\n" { Ok(()) } else { Err(answer.to_string()) }
    });
    assert_eq!(container(lab), before);
}

#[test]
fn a_lab_whose_supervisor_was_killed_is_removed_all_the_same() {
    if !can_run_labs() {
        return;
    }
    let _alone = alone();
    let lab = Lab::start("crash", "192.168.64.0/24", 1);
    let _ = lab.minictl(&["run", "web", "--image=nginx"]).ok();
    let _ = lab.minictl(&["wait", "pod/web", "--for=condition=Ready", "--timeout=60s"]).ok();
    let supervisor = std::fs::read_to_string(lab.state().join("labs/crash/lock")).expect("a pid");
    let _ = run("kill", &["-9", supervisor.trim()]).ok();
    let (folder, hosts) = (lab.state().to_owned(), Hosts::of("crash"));
    let _ = lab.minictl(&["lab", "down", "crash"]).ok();
    assert_eq!((processes_naming(&folder), hosts.processes()), (String::new(), vec![]));
    let left = machine();
    assert!(!left.iter().any(|line| line.contains("crash")), "{left:#?}");
    assert!(!folder.exists(), "left: {:?}", run("find", &[&folder]).out);
    std::mem::forget(lab);
}

#[test]
fn a_lab_whose_start_was_killed_is_removed_all_the_same() {
    if !can_run_labs() {
        return;
    }
    let _alone = alone();
    let state = tempfile::tempdir().expect("a folder");
    let minictl = |args: &[&str]| {
        let mut command = std::process::Command::new(e2e::minictl());
        command.args(args).env("MINICTL_STATE_DIR", state.path());
        command
    };
    let network = ["--nodes", "1", "--network", "192.168.68.0/24", "--no-images"];
    let up = minictl(&[&["lab", "up", "midway"][..], &network].concat())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn();
    let mut up = up.expect("minictl");
    wait_for("the first process of the lab", LIMIT, || {
        let pid = state.path().join("labs/midway/pids/internet");
        std::fs::read(&pid).map(drop).map_err(|error| error.to_string())
    });
    up.kill().expect("it runs");
    let _ = up.wait().expect("it was killed");
    let hosts = Hosts::of("midway");
    let _ = finish(minictl(&["lab", "down", "midway"]), &[] as &[&str], None).ok();
    assert_eq!((processes_naming(state.path()), hosts.processes()), (String::new(), vec![]));
    let left = machine();
    assert!(!left.iter().any(|line| line.contains("midway")), "{left:#?}");
}

#[test]
fn what_cannot_be_started_is_refused_with_its_fix() {
    if !can_run_labs() {
        return;
    }
    let state = tempfile::tempdir().expect("a folder");
    let minictl = |args: &[&str]| {
        let mut command = std::process::Command::new(e2e::minictl());
        command.env("MINICTL_STATE_DIR", state.path());
        finish(command, args, None).refused()
    };
    // The network of the machine's own loopback is surely in use.
    let clash = std::process::Command::new("ip");
    let routes = finish(clash, &["-j", "-4", "route"], None).json();
    let mut used = routes.as_array().into_iter().flatten().filter_map(|r| r["dst"].as_str());
    if let Some(network) = used.find(|dst| dst.ends_with("/24") || dst.ends_with("/16")) {
        let error = minictl(&["lab", "up", "clash", "--no-images", "--network", network]);
        assert!(error.contains("clashes with"), "{error}");
        assert!(error.contains("--network"), "{error}");
    }
    let error = minictl(&["lab", "up", "Upper", "--no-images"]);
    assert!(error.contains("lab name \"Upper\" is not usable"), "{error}");
    let error = minictl(&["lab", "up", "--nodes", "0", "--no-images"]);
    assert!(error.contains("--nodes 0 is out of range"), "{error}");
    let error = minictl(&["lab", "down", "nothing"]);
    assert!(error.contains("there is no lab nothing"), "{error}");
    let mut unprivileged = std::process::Command::new("setpriv");
    unprivileged.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(e2e::minictl());
    let error = finish(unprivileged, &["lab", "up", "--no-images"], None).refused();
    assert!(error.contains("needs root"), "{error}");
    let mut bare = std::process::Command::new("env");
    bare.arg("PATH=/nonexistent").arg(e2e::minictl());
    let error = finish(bare, &["lab", "up", "--no-images"], None).refused();
    assert!(error.contains("is not installed: apt-get install -y containerd"), "{error}");
    assert_eq!(std::fs::read_dir(state.path()).expect("the folder").count(), 0, "half-made state");
}
