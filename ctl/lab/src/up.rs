//! Starts a cluster: checks, wires, writes its files, starts the supervisor, waits until it is ready.
//!
//! Either everything stands at the end or nothing half-made is left behind.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::paths::Paths;
use crate::plan::{self, Processes};
use crate::spec::{API_PORT, Dataplane, LabSpec, LoadBalancer, Ranges};
use crate::{Progress, containerd, down, network, preflight, status, supervise};

/// How long a cluster may take until it is ready; only a broken one takes it.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// The pool of addresses that is made with a lab.
const POOL: &str = "default";
/// Pause between two looks at a cluster that starts.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Whether there was anything to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// It has been started now.
    Now,
    /// It ran already.
    Before,
}

/// The cluster of the machine itself: one node, no namespaces of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSpec {
    /// The node's name.
    pub node: String,
    /// The node's addresses, one of each family, the cluster's own family first. Never empty.
    #[serde(alias = "address", deserialize_with = "crate::spec::families::one_or_many")]
    pub addresses: Vec<IpAddr>,
    /// Pod and Service addresses.
    pub ranges: Ranges,
    /// Engine for Services.
    pub dataplane: Dataplane,
    /// The machine's own containerd, if it runs one; else the cluster starts its own.
    pub containerd: Option<PathBuf>,
    /// Kernel settings as they were before, by name.
    pub settings_before: BTreeMap<String, String>,
}

/// The name that the cluster of the machine has in cgroups and in containerd.
pub const MACHINE: &str = "machine";
/// Its node's namespace inside containerd.
pub const CONTAINERD_NAMESPACE: &str = "minictl";

/// Starts a lab and waits until its nodes are ready.
///
/// # Errors
/// What is missing or failed, with the fix; whatever was made is removed again.
pub async fn lab(
    state: &Path,
    spec: &LabSpec,
    minictl: &Path,
    progress: &dyn Progress,
) -> Result<Started> {
    spec.validate()?;
    let paths = Paths::lab(state, &spec.name);
    if status::is_up(&paths) {
        return Ok(Started::Before);
    }
    preflight::check_machine()?;
    if paths.dir().exists() {
        progress.step("removing what an earlier run left behind");
        down::leftovers(state, spec).await?;
    }
    preflight::check_network(spec).await?;
    let started = start_lab(spec, &paths, minictl, progress).await;
    if started.is_err() {
        // The first error is the one worth telling.
        let _ = down::leftovers(state, spec).await;
    }
    started
}

async fn start_lab(
    spec: &LabSpec,
    paths: &Paths,
    minictl: &Path,
    progress: &dyn Progress,
) -> Result<Started> {
    let nodes: Vec<String> = spec.node_hosts().into_iter().map(|host| host.name).collect();
    make_folder(paths)?;
    std::fs::write(paths.spec(), serde_json::to_vec_pretty(spec)?)?;
    progress.step(&format!("wiring {} hosts to {}", spec.hosts().len(), spec.bridge()));
    network::build(spec).await?;
    containerd::write_config(paths)?;
    let settings = Control { cluster: &spec.name, advertise: spec.api_address(), nodes: &nodes };
    let listener = prepare(paths, &settings)?;
    launch(paths, &plan::lab(spec, paths, minictl), minictl, listener)?;
    progress.step("starting containerd, the control plane and the nodes");
    // The pool first, or rather at once: without one Services would get the nodes' own addresses.
    tokio::try_join!(make_pool(paths, spec), wait_ready(paths, nodes.len()))?;
    Ok(Started::Now)
}

/// Makes the pool of addresses for LoadBalancer Services as soon as the API answers. One that is
/// there already stays as it is.
async fn make_pool(paths: &Paths, spec: &LabSpec) -> Result<()> {
    if spec.load_balancer != LoadBalancer::Pool {
        return Ok(());
    }
    let kind = GroupVersionKind::gvk("minictl.io", "v1", "AddressPool");
    let resource = ApiResource::from_gvk_with_plural(&kind, "addresspools");
    let api: Api<DynamicObject> = Api::all_with(client(paths).await?, &resource);
    let addresses = serde_json::json!({ "spec": { "addresses": spec.pool() } });
    let pool = DynamicObject::new(POOL, &resource).data(addresses);
    let limit = Instant::now() + READY_LIMIT;
    loop {
        match api.create(&PostParams::default(), &pool).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => return Ok(()),
            Err(error) if Instant::now() > limit => {
                return Err(error).context("make the pool of addresses for load balancers");
            }
            // The API does not answer yet.
            Err(_) => sleep(LOOK_AGAIN).await,
        }
    }
}

/// Starts the machine's own cluster and waits until its node is ready.
///
/// # Errors
/// What is missing or failed, with the fix; processes that were started are stopped again.
pub async fn machine(
    state: &Path,
    spec: &MachineSpec,
    minictl: &Path,
    progress: &dyn Progress,
) -> Result<Started> {
    let paths = Paths::machine(state);
    if status::is_up(&paths) {
        return Ok(Started::Before);
    }
    preflight::check_machine()?;
    let started = start_machine(spec, &paths, minictl, progress).await;
    if started.is_err() {
        // The first error is the one worth telling.
        let _ = down::stop_processes(&paths, &format!("minictl/{MACHINE}")).await;
    }
    started
}

async fn start_machine(
    spec: &MachineSpec,
    paths: &Paths,
    minictl: &Path,
    progress: &dyn Progress,
) -> Result<Started> {
    make_folder(paths)?;
    std::fs::write(paths.spec(), serde_json::to_vec_pretty(spec)?)?;
    let address = spec.addresses.first().context("this node has no address")?;
    let advertise = SocketAddr::new(*address, API_PORT);
    let nodes = [spec.node.clone()];
    let settings = Control { cluster: MACHINE, advertise, nodes: &nodes };
    let listener = prepare(paths, &settings)?;
    let mut all = Vec::new();
    let socket = match &spec.containerd {
        Some(socket) => socket.clone(),
        None => {
            containerd::write_config(paths)?;
            all.push(plan::own_containerd(paths));
            paths.containerd_socket()
        }
    };
    all.push(plan::server(paths, minictl, advertise, &spec.ranges, None));
    let node = plan::NodeSettings {
        name: &spec.node,
        addresses: spec.addresses.clone(),
        containerd: &socket,
        containerd_namespace: CONTAINERD_NAMESPACE,
        cgroup_parent: plan::cgroup_parent(MACHINE, &spec.node),
        namespace: None,
        name_servers: Vec::new(),
    };
    all.push(plan::node(paths, minictl, &node, &spec.ranges, spec.dataplane));
    launch(paths, &Processes { all }, minictl, listener)?;
    progress.step("starting the control plane and the node");
    wait_ready(paths, 1).await?;
    Ok(Started::Now)
}

/// What certificates and kubeconfigs are made for.
struct Control<'a> {
    cluster: &'a str,
    advertise: SocketAddr,
    nodes: &'a [String],
}

fn make_folder(paths: &Paths) -> Result<()> {
    std::fs::create_dir_all(paths.dir())
        .with_context(|| format!("make {}", paths.dir().display()))?;
    // Keys and kubeconfigs live here.
    std::fs::set_permissions(paths.dir(), std::fs::Permissions::from_mode(0o700))?;
    Ok(())
}

/// Makes the authority and the kubeconfigs; answers the loopback listener that the administrator's
/// kubeconfig names. Loopback, so that no client of this machine ever sends to an address of the
/// lab, not even when the lab is gone.
fn prepare(paths: &Paths, control: &Control<'_>) -> Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen on loopback")?;
    let local = format!("https://{}", listener.local_addr()?);
    let authority = pki::Authority::load_or_create(&paths.pki())?;
    let admin = authority.client("admin", &["system:masters"])?;
    let ca = authority.ca_pem();
    let text = pki::kubeconfig(control.cluster, &local, None, ca, "admin", &admin);
    write_secret(&paths.kubeconfig(), &text)?;
    let inside = format!("https://{}", control.advertise);
    for node in control.nodes {
        let user = format!("system:node:{node}");
        let identity = authority.client(&user, &["system:nodes"])?;
        let text = pki::kubeconfig(control.cluster, &inside, None, ca, &user, &identity);
        write_secret(&paths.node_kubeconfig(node), &text)?;
    }
    Ok(listener)
}

fn write_secret(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("write {}", path.display()))?;
    file.write_all(text.as_bytes())?;
    Ok(())
}

fn launch(paths: &Paths, plan: &Processes, minictl: &Path, listener: TcpListener) -> Result<()> {
    std::fs::write(paths.processes(), serde_json::to_vec_pretty(plan)?)?;
    let log_file = paths.log("supervisor");
    if let Some(folder) = log_file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let log = OpenOptions::new().create(true).append(true).open(&log_file)?;
    Command::new(minictl)
        .arg("supervise")
        .arg(paths.dir())
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("run {}", minictl.display()))?;
    Ok(())
}

/// Waits until the API answers and that many nodes are ready.
///
/// # Errors
/// After a minute, with the end of the log of the process that is to blame.
pub async fn wait_ready(paths: &Paths, nodes: usize) -> Result<()> {
    let client = client(paths).await?;
    let api: Api<Node> = Api::all(client);
    let limit = Instant::now() + READY_LIMIT;
    loop {
        let seen = match api.list(&ListParams::default()).await {
            Ok(list) => {
                let ready = list.items.iter().filter(|node| is_ready(node)).count();
                if ready >= nodes {
                    return Ok(());
                }
                format!("{ready} of {nodes} nodes are ready")
            }
            Err(error) => format!("the API does not answer: {error}"),
        };
        if Instant::now() > limit {
            bail!("the cluster did not become ready: {seen}\n{}", last_words(paths));
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// A client with the administrator's kubeconfig.
///
/// # Errors
/// When the kubeconfig cannot be read.
pub async fn client(paths: &Paths) -> Result<kube::Client> {
    let file = paths.kubeconfig();
    let kubeconfig =
        Kubeconfig::read_from(&file).with_context(|| format!("read {}", file.display()))?;
    let config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(kube::Client::try_from(config)?)
}

fn is_ready(node: &Node) -> bool {
    node.status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The last lines of each process's log, for an error message.
fn last_words(paths: &Paths) -> String {
    let logs = paths.log("x").parent().map(Path::to_owned).unwrap_or_default();
    let mut files: Vec<PathBuf> = std::fs::read_dir(&logs)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.sort();
    files
        .iter()
        .filter_map(|file| {
            let text = std::fs::read_to_string(file).ok()?;
            let lines: Vec<&str> = text.lines().collect();
            let last = lines[lines.len().saturating_sub(3)..].join("\n  ");
            Some(format!("{}:\n  {last}", file.file_name()?.to_string_lossy()))
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// Supervises the cluster of a folder until SIGTERM; what `minictl supervise DIR` does.
///
/// # Errors
/// See [`supervise::run`].
pub async fn supervise_folder(dir: &Path, stop: tokio_util::sync::CancellationToken) -> Result<()> {
    supervise::detach()?;
    supervise::run(&Paths::at(dir), stop).await
}
