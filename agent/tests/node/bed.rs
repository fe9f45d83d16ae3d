//! The test bed: a containerd of its own, a network namespace of its own, a stand-in for the API
//! server and one agent, all in a temporary folder.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use agent::Config;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use proto::v1::{Target, node_client::NodeClient};
use serde_json::{Value, json};
use sha2::Digest as _;
use tokio::{sync::mpsc::UnboundedReceiver, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::api::Api;

/// One node under test.
pub(crate) struct Bed {
    pub(crate) api: Api,
    pub(crate) config: Config,
    tunnels: UnboundedReceiver<Upgraded>,
    agent: Option<(JoinHandle<Result<(), agent::AgentError>>, CancellationToken)>,
}

/// containerd, killed by its id when dropped.
struct Containerd {
    process: Child,
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn start_containerd(folder: &Path) -> Containerd {
    let config = format!(
        "version = 2\nroot = \"{0}/root\"\nstate = \"{0}/state\"\n\
         disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{0}/c.sock\"\n",
        folder.display()
    );
    let path = folder.join("config.toml");
    std::fs::write(&path, config).unwrap();
    let log = File::create(folder.join("containerd.log")).unwrap();
    let process = Command::new("containerd")
        .arg("--config")
        .arg(path)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("containerd is installed (Debian: containerd)");
    Containerd { process }
}

/// Waits until a condition holds; `state` is shown if it does not.
pub(crate) async fn wait_for(what: &str, mut condition: impl AsyncFnMut() -> Result<(), String>) {
    let start = Instant::now();
    loop {
        match condition().await {
            Ok(()) => return,
            Err(state) if start.elapsed() > Duration::from_secs(20) => {
                panic!("waited 20 s for {what}: {state}")
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

/// An OCI archive of busybox, with a user and a default command.
fn busybox_archive(path: &Path, name: &str) {
    let mut layer = tar::Builder::new(Vec::new());
    let mut add = |name: &str, mode: u32, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        layer.append_data(&mut header, name, content).unwrap();
    };
    let busybox = std::fs::read("/bin/busybox").expect("Debian: busybox-static");
    add("bin/busybox", 0o755, &busybox);
    add("etc/passwd", 0o644, b"root:x:0:0::/:/bin/sh\nweb:x:101:102::/:/bin/sh\n");
    add("etc/group", 0o644, b"web:x:102:\n");
    for applet in [
        "sh", "sleep", "cat", "echo", "httpd", "hostname", "id", "env", "kill", "ls", "stty", "wc",
        "dd", "tail",
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        layer.append_link(&mut header, format!("bin/{applet}"), "busybox").unwrap();
    }
    for folder in ["tmp/", "proc/", "sys/", "dev/"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o1777);
        header.set_size(0);
        layer.append_data(&mut header, folder, &[][..]).unwrap();
    }
    let layer = layer.into_inner().unwrap();
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Cmd": ["sleep", "1000"], "Env": ["FROM_IMAGE=yes"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]}, "history": [],
    })
    .to_string()
    .into_bytes();
    let descriptor = |kind: &str, bytes: &[u8]| {
        let media_type = format!("application/vnd.oci.image.{kind}");
        json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
    };
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", &config),
        "layers": [descriptor("layer.v1.tar", &layer)],
    })
    .to_string()
    .into_bytes();
    let mut entry = descriptor("manifest.v1+json", &manifest);
    entry["annotations"] = json!({"io.containerd.image.name": name});
    let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string().into_bytes();
    let mut archive = tar::Builder::new(File::create(path).unwrap());
    let blob = |bytes: &[u8]| format!("blobs/{}", digest(bytes).replace(':', "/"));
    for (name, content) in [
        ("index.json".to_owned(), &index),
        (blob(&layer), &layer),
        (blob(&config), &config),
        (blob(&manifest), &manifest),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, name, content.as_slice()).unwrap();
    }
    archive.into_inner().unwrap().flush().unwrap();
}

/// The log helper, built beside the tests.
fn helper() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    tests.parent().and_then(Path::parent).unwrap().join("examples/pod-log")
}

/// Runs a test on a fresh node, in a network namespace of its own, and takes everything away.
pub(crate) fn on_a_node<F: AsyncFnOnce(&mut Bed) + Send>(test: F) {
    assert!(nix::unistd::geteuid().is_root(), "these tests make containers: run them as root");
    let folder = tempfile::tempdir().unwrap();
    let containerd = start_containerd(folder.path());
    let namespace = netns::Namespace::create(&folder.path().join("netns")).unwrap();
    let outcome = namespace.run(|| {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.unwrap().block_on(async {
            let mut bed = Bed::new(folder.path()).await;
            let tested = std::panic::AssertUnwindSafe(test(&mut bed));
            let tested = futures::FutureExt::catch_unwind(tested).await;
            bed.stop_agent().await;
            let errors = agent::remove_all(&agent::Leftovers::from(&bed.config)).await;
            (tested, errors)
        })
    });
    namespace.remove().unwrap();
    let (tested, errors) = outcome.unwrap();
    drop(containerd);
    if let Err(panic) = tested {
        let log = std::fs::read_to_string(folder.path().join("containerd.log")).unwrap();
        let warnings: Vec<&str> = log.lines().filter(|line| !line.contains("level=info")).collect();
        eprintln!("containerd said: {warnings:#?}");
        std::panic::resume_unwind(panic);
    }
    assert!(errors.is_empty(), "left behind: {errors:?}");
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let place = folder.path().display().to_string();
    let left: Vec<&str> = mounts.lines().filter(|line| line.contains(&place)).collect();
    assert!(left.is_empty(), "mounts are left: {left:#?}");
}

impl Bed {
    async fn new(folder: &Path) -> Self {
        netns::Links::here().unwrap().set_loopback_up().await.unwrap();
        let (api, address, tunnels) = Api::start().await;
        let name = folder.file_name().unwrap().to_string_lossy().replace('.', "");
        let config = Config {
            node_name: "node-1".to_owned(),
            node_ips: vec!["192.168.56.70".parse().unwrap()],
            kube: kube::Config::new(format!("http://{address}").parse().unwrap()),
            containerd_socket: folder.join("c.sock"),
            containerd_namespace: "test".to_owned(),
            state_dir: folder.join("agent"),
            log_dir: folder.join("logs"),
            logger: helper(),
            cgroup_parent: format!("/minictl-test-{name}"),
            bridge: "mini0".to_owned(),
            cluster_dns: vec!["10.96.0.10".parse().unwrap()],
            cluster_domain: "cluster.local".to_owned(),
            mtu: 1500,
            drain: std::time::Duration::ZERO,
            services: tonic::service::Routes::default(),
        };
        let socket = config.containerd_socket.clone();
        wait_for("containerd's socket", async || {
            let connected = tokio::net::UnixStream::connect(&socket).await;
            connected.map(drop).map_err(|error| error.to_string())
        })
        .await;
        api.put(
            "/api/v1/namespaces/default/services/kubernetes",
            json!({"apiVersion": "v1", "kind": "Service",
                "metadata": {"name": "kubernetes", "namespace": "default"},
                "spec": {"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443}]}}),
        );
        let mut bed = Self { api, config, tunnels, agent: None };
        bed.import("docker.io/library/busybox:latest").await;
        bed.start_agent().await;
        bed
    }

    /// The archive of the last import.
    pub(crate) fn archive(&self) -> PathBuf {
        self.config.log_dir.with_file_name("image.tar")
    }

    /// Imports busybox under a name.
    pub(crate) async fn import(&self, name: &str) {
        let archive = self.archive();
        busybox_archive(&archive, name);
        let (socket, namespace) =
            (&self.config.containerd_socket, &self.config.containerd_namespace);
        let names = agent::import_image(socket, namespace, &archive).await.unwrap();
        assert_eq!(names, [name]);
        let again = std::time::Instant::now();
        agent::import_image(socket, namespace, &archive).await.unwrap();
        assert!(again.elapsed() < Duration::from_secs(1), "a second import has nothing to do");
    }

    pub(crate) async fn start_agent(&mut self) {
        let stop = CancellationToken::new();
        let task = tokio::spawn(agent::run(self.config.clone(), stop.clone()));
        self.agent = Some((task, stop));
        self.api
            .until("/api/v1/nodes/node-1", |node| {
                let conditions = node?["status"]["conditions"].as_array()?.clone();
                let ready = |c: &Value| c["type"] == "Ready" && c["status"] == "True";
                conditions.iter().any(ready).then_some(())
            })
            .await;
    }

    pub(crate) async fn stop_agent(&mut self) {
        if let Some((task, stop)) = self.agent.take() {
            stop.cancel();
            task.await.unwrap().unwrap();
        }
    }

    /// A client on the newest tunnel.
    pub(crate) async fn node(&mut self) -> NodeClient<Channel> {
        let dialled = tokio::time::timeout(Duration::from_secs(10), self.tunnels.recv()).await;
        let mut tunnel = dialled.expect("the agent dials").unwrap();
        while let Ok(newer) = self.tunnels.try_recv() {
            tunnel = newer;
        }
        let mut once = Some(TokioIo::new(tunnel));
        let connector = tower::service_fn(move |_| {
            let io = once.take().map(hyper_util::rt::TokioIo::into_inner);
            async move { io.ok_or_else(|| std::io::Error::other("used up")) }
        });
        let endpoint = Endpoint::from_static("http://node");
        NodeClient::new(endpoint.connect_with_connector(connector).await.unwrap())
    }

    pub(crate) fn path(name: &str) -> String {
        format!("/api/v1/namespaces/default/pods/{name}")
    }

    /// Creates a pod that is bound to the node.
    pub(crate) fn create_pod(&self, name: &str, mut spec: Value) {
        spec["nodeName"] = json!("node-1");
        let metadata = json!({"name": name, "namespace": "default", "labels": {"app": name}});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
        self.api.put(&Self::path(name), pod);
    }

    /// One container `c` of busybox that runs a shell script.
    pub(crate) fn create_shell(&self, name: &str, script: &str, policy: &str) {
        let container = json!({"name": "c", "image": "busybox", "command": ["sh", "-c", script]});
        self.create_pod(name, json!({
            "restartPolicy": policy, "containers": [container], "terminationGracePeriodSeconds": 1,
        }));
    }

    pub(crate) async fn until_ready(&self, name: &str) -> Value {
        self.api
            .until(&Self::path(name), |pod| {
                let status = &pod?["status"];
                let conditions = status["conditions"].as_array()?.clone();
                let ready = |c: &Value| c["type"] == "Ready" && c["status"] == "True";
                conditions.iter().any(ready).then(|| status.clone())
            })
            .await
    }

    pub(crate) async fn until_phase(&self, name: &str, phase: &str) -> Value {
        self.api
            .until(&Self::path(name), |pod| {
                let status = &pod?["status"];
                (status["phase"] == phase).then(|| status.clone())
            })
            .await
    }

    /// Waits until the log of the first run of a pod's container `c` has all of these texts.
    pub(crate) async fn until_log(&self, name: &str, expected: &[&str]) {
        let pod = self.api.get(&Self::path(name)).unwrap();
        let folder = format!("default_{name}_{}", pod["metadata"]["uid"].as_str().unwrap());
        let log = self.config.log_dir.join(folder).join("c/0.log");
        wait_for("the container's log", async || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let missing: Vec<_> = expected.iter().filter(|e| !text.contains(**e)).collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("no {missing:?} in\n{text}")) }
        })
        .await;
    }

    /// Marks a pod as the API server does when somebody deletes it.
    pub(crate) fn delete_pod(&self, name: &str, grace: i64) {
        self.api.change(&Self::path(name), |pod| {
            pod["metadata"]["deletionTimestamp"] = json!("2026-11-20T10:00:00Z");
            pod["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        });
    }

    pub(crate) async fn until_gone(&self, name: &str) {
        self.api.until(&Self::path(name), |pod| pod.is_none().then_some(())).await;
    }

    pub(crate) fn target(name: &str) -> Target {
        Target {
            namespace: "default".to_owned(),
            pod: name.to_owned(),
            uid: String::new(),
            container: "c".to_owned(),
        }
    }
}
