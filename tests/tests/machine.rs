//! `minictl up`, the cluster of one machine, and a lab's `--uplink`. The machine is a network
//! namespace that the test makes, so that the real one's network is left alone.

use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use e2e::{Answer, can_run_labs, finish, minictl, run, wait_for};

const LIMIT: Duration = Duration::from_secs(60);

/// One cluster of the machine at a time: whether it runs a containerd is a matter of all of it.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    // A test that failed has said so itself.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The option of `nsenter` for a namespace. `ip netns exec` would enter a mount namespace of its own,
/// too, in which pins made by one command are unknown to the next.
fn net(namespace: &str) -> String {
    format!("--net=/run/netns/{namespace}")
}

/// A machine with one address, and a neighbour that it can reach.
struct Machine {
    name: String,
    state: tempfile::TempDir,
}

impl Machine {
    fn new(name: &str) -> Self {
        let machine = Self { name: name.to_owned(), state: tempfile::tempdir().expect("a folder") };
        let neighbour = machine.neighbour();
        for line in [
            format!("netns add {name}"),
            format!("netns add {neighbour}"),
            format!("link add eth0 netns {name} type veth peer name eth0 netns {neighbour}"),
            format!("-n {name} link set lo up"),
            format!("-n {name} link set eth0 up"),
            format!("-n {name} addr add 198.51.100.2/24 dev eth0"),
            format!("-n {name} route add default via 198.51.100.1"),
            format!("-n {neighbour} link set lo up"),
            format!("-n {neighbour} link set eth0 up"),
            format!("-n {neighbour} addr add 198.51.100.1/24 dev eth0"),
        ] {
            let _ = run("ip", &line.split(' ').collect::<Vec<_>>()).ok();
        }
        machine
    }

    fn neighbour(&self) -> String {
        format!("{}-next", self.name)
    }

    fn minictl(&self, args: &[&str]) -> Answer {
        let mut command = Command::new("nsenter");
        command.arg(net(&self.name)).arg(minictl());
        command.env("MINICTL_STATE_DIR", self.state.path()).env_remove("KUBECONFIG");
        finish(command, args, None)
    }

    fn shell(&self, text: &str) -> String {
        run("nsenter", &[&net(&self.name), "sh", "-c", text]).ok()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Whatever a failed test left running must not outlive its network.
        let _ = self.minictl(&["down"]);
        let _ = self.minictl(&["lab", "down", "up"]);
        for name in [self.neighbour(), self.name.clone()] {
            let _ = run("ip", &["netns", "del", &name]);
        }
    }
}

#[test]
fn one_machine_is_a_cluster_and_is_left_as_it_was() {
    if !can_run_labs() {
        return;
    }
    let _alone = alone();
    let machine = Machine::new("mini-test");
    let network = "ip -o link | cut -d' ' -f2 | cut -d@ -f1; ip route; nft list tables; \
                   cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/all/send_redirects";
    let before = machine.shell(network);
    let up = machine.minictl(&["up", "--node-name", "alone"]).ok();
    assert!(up.contains("node alone at 198.51.100.2"), "{up}");
    assert_eq!(machine.minictl(&["up"]).ok(), "the cluster of this machine is up\n");
    assert_eq!(machine.minictl(&["get", "nodes", "-o", "name"]).ok(), "node/alone\n");
    let _ = machine.minictl(&["create", "deployment", "web", "--image=nginx"]).ok();
    let _ = machine.minictl(&["expose", "deployment", "web", "--port=80", "--type=NodePort"]).ok();
    let _ = machine.minictl(&["rollout", "status", "deployment/web", "--timeout=60s"]).ok();
    let path = "jsonpath={.spec.ports[0].nodePort}";
    let port = machine.minictl(&["get", "svc", "web", "-o", path]).ok();
    let url = format!("http://198.51.100.2:{port}");
    wait_for("the neighbour to reach the node port", LIMIT, || {
        let neighbour = net(&machine.neighbour());
        let answer = run("nsenter", &[&neighbour, "curl", "-s", "-m", "2", &url]);
        if answer.out.contains("Welcome to nginx!") { Ok(()) } else { Err(answer.to_string()) }
    });
    let down = machine.minictl(&["down"]).ok();
    assert_eq!(down, "the cluster is down: nothing of it is left\n");
    assert_eq!(machine.shell(network), before);
    let left: Vec<_> = std::fs::read_dir(machine.state.path()).into_iter().flatten().collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[test]
fn a_machine_with_ipv6_has_both_families_and_goes_on_listening_to_its_router() {
    if !can_run_labs() {
        return;
    }
    let _alone = alone();
    let machine = Machine::new("mini-both");
    let _ = machine.shell("ip addr add 2001:db8::2/64 dev eth0 nodad");
    // As of a lab: others don't reach the machine by it.
    let _ = machine.shell("ip link add mini-x type bridge; ip addr add fd00:7::1/64 dev mini-x");
    let settings = "cd /proc/sys/net/ipv6/conf; cat eth0/accept_ra all/forwarding";
    assert_eq!(machine.shell(settings), "1\n0\n");
    let up = machine.minictl(&["up", "--no-images", "--node-name", "both"]).ok();
    assert!(up.contains("node both at 198.51.100.2,2001:db8::2."), "{up}");
    assert_eq!(machine.shell(settings), "2\n1\n", "a router that forwards hears no other");
    let path = "jsonpath={.spec.podCIDRs[*]}";
    let ranges = machine.minictl(&["get", "node", "both", "-o", path]).ok();
    assert_eq!(ranges, "10.244.0.0/24 fd00:10:244::/64");
    let _ = machine.minictl(&["down"]).ok();
    assert_eq!(machine.shell(settings), "1\n0\n");
}

/// A containerd as a machine's service manager starts it, where none runs already.
struct Service(Option<(std::process::Child, tempfile::TempDir)>);

const SOCKET: &str = "/run/containerd/containerd.sock";

impl Service {
    fn ensure() -> Self {
        if std::os::unix::net::UnixStream::connect(SOCKET).is_ok() {
            return Self(None);
        }
        let dir = tempfile::tempdir().expect("a folder");
        let config = format!(
            "version = 2\nroot = \"{0}/root\"\nstate = \"{0}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{SOCKET}\"\n",
            dir.path().display()
        );
        let file = dir.path().join("config.toml");
        std::fs::write(&file, config).expect("a configuration");
        let log = std::fs::File::create(dir.path().join("log")).expect("a log");
        let child = Command::new("containerd")
            .arg("--config")
            .arg(&file)
            .stderr(log)
            .spawn()
            .expect("containerd is installed");
        wait_for("containerd to answer", LIMIT, || {
            std::os::unix::net::UnixStream::connect(SOCKET).map_err(|error| error.to_string())
        });
        Self(Some((child, dir)))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.0 {
            let _ = run("kill", &[child.id().to_string()]);
            let _ = child.wait();
            for socket in [SOCKET.to_owned(), format!("{SOCKET}.ttrpc")] {
                let _ = std::fs::remove_file(socket);
            }
            // Each stays if another containerd has something in it.
            for folder in
                ["/run/containerd/s", "/run/containerd/runc/minictl", "/run/containerd/runc"]
            {
                let _ = std::fs::remove_dir(folder);
            }
            let _ = std::fs::remove_dir("/run/containerd");
        }
    }
}

#[test]
fn the_machines_own_containerd_is_used_and_given_back() {
    if !can_run_labs() {
        return;
    }
    let _alone = alone();
    let _service = Service::ensure();
    let machine = Machine::new("mini-lent");
    let _ = machine.minictl(&["up", "--node-name", "alone"]).ok();
    let _ = machine.minictl(&["run", "web", "--image=nginx"]).ok();
    let _ = machine.minictl(&["wait", "pod/web", "--for=condition=Ready", "--timeout=60s"]).ok();
    let containers = || run("ctr", &["-n", "minictl", "containers", "ls", "-q"]).ok();
    assert_eq!(containers().lines().count(), 1);
    let _ = machine.minictl(&["down"]).ok();
    assert_eq!(containers(), "");
    let namespaces = run("ctr", &["namespaces", "ls", "-q"]).ok();
    assert!(!namespaces.contains("minictl"), "{namespaces}");
}

#[test]
fn a_lab_is_closed_unless_it_has_an_uplink() {
    if !can_run_labs() {
        return;
    }
    let machine = Machine::new("mini-uplink");
    let reach = ["lab", "exec", "up/node-1", "--", "curl", "-s", "-m", "2", "198.51.100.1:8000"];
    let mut server = Command::new("nsenter")
        .arg(net(&machine.neighbour()))
        .args(["busybox", "httpd", "-f", "-p", "8000", "-h", "/etc"])
        .spawn()
        .expect("busybox is installed");
    for (uplink, reached) in [(false, false), (true, true)] {
        let mut up =
            vec!["lab", "up", "up", "--nodes", "1", "--no-images", "--network", "192.168.67.0/24"];
        if uplink {
            up.push("--uplink");
        }
        let _ = machine.minictl(&up).ok();
        // busybox answers 404 for a folder without an index: an answer all the same.
        let answer = machine.minictl(&reach);
        assert_eq!(answer.code == 0, reached, "uplink {uplink}: {answer}");
        let _ = machine.minictl(&["lab", "down", "up"]).ok();
        assert_eq!(machine.shell("nft list tables; cat /proc/sys/net/ipv4/ip_forward"), "0\n");
    }
    server.kill().expect("the server is ours");
    server.wait().expect("the server ends");
}
