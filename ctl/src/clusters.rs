//! `minictl lab …`, `up`, `down`, `image`: clusters on this machine, with progress and tables.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams};
use lab::paths::Paths;
use lab::spec::{IpFamily, LabSpec, LoadBalancer, Role, Wished};
use lab::up::{MachineSpec, Started};
use lab::{Progress, containerd, down, exec, images, preflight, status, up};

use crate::cli::{self, ImageCommand, LabCommand};
use crate::node;
use crate::terminal::{note, say, stop_signal};

/// The annotation by which netd reports its engine, and why it is that one.
const DATAPLANE_ANNOTATION: &str = "minictl.io/dataplane";

/// Prints each step with the time since the start.
struct Steps(Instant);

impl Progress for Steps {
    fn step(&self, text: &str) {
        note(&format!("[{:5.2}s] {text}", self.0.elapsed().as_secs_f32()));
    }
}

/// `minictl lab …`
pub(crate) async fn lab(state: &Path, command: LabCommand) -> Result<ExitCode> {
    match command {
        LabCommand::Up(options) => lab_up(state, options).await?,
        LabCommand::Down { name } => {
            let name = named(state, name)?;
            down::lab(state, &name).await?;
            say(&format!("lab {name} is down: nothing of it is left"));
        }
        LabCommand::List => list(state),
        LabCommand::Status { name } => show(state, &named(state, name)?).await?,
        LabCommand::Exec { host, command } => {
            return exec_on(state, &host, &command);
        }
        LabCommand::Kubeconfig { name } => {
            let name = named(state, name)?;
            status::spec(state, &name)?;
            say(&Paths::lab(state, &name).kubeconfig().display().to_string());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `minictl node shell`
pub(crate) fn shell(state: &Path, node: &str, command: &[String]) -> Result<ExitCode> {
    if !command.is_empty() {
        return exec_on(state, node, command);
    }
    let shell = std::env::var("SHELL").ok().filter(|shell| Path::new(shell).is_file());
    exec_on(state, node, &[shell.unwrap_or_else(|| "/bin/sh".to_owned())])
}

/// Runs a command on `LAB/HOST`, or `HOST` where the lab is clear.
fn exec_on(state: &Path, host: &str, command: &[String]) -> Result<ExitCode> {
    let (lab, host) = match host.split_once('/') {
        Some((lab, host)) => (lab.to_owned(), host),
        None => (status::only_lab(state)?, host),
    };
    let ended = exec::run(state, &lab, host, command)?;
    let code = ended.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}

fn named(state: &Path, name: Option<String>) -> Result<String> {
    name.map_or_else(|| status::only_lab(state), Ok)
}

async fn lab_up(state: &Path, options: cli::LabUp) -> Result<()> {
    let wished = Wished {
        cluster: options.ranges.cluster_cidr,
        service: options.ranges.service_cidr,
        network: options.network,
    };
    let spec = LabSpec {
        name: options.name,
        nodes: options.nodes,
        network: wished.network(options.ip_family.into())?,
        ranges: wished.ranges(options.ip_family.into())?,
        dataplane: options.dataplane.into(),
        uplink: options.uplink,
        load_balancer: match (options.load_balancer, options.no_pool) {
            (cli::LoadBalancer::None, _) => LoadBalancer::Nobody,
            (cli::LoadBalancer::Pools, true) => LoadBalancer::Nodes,
            (cli::LoadBalancer::Pools, false) => LoadBalancer::Pool,
        },
    };
    spec.validate()?;
    let paths = Paths::lab(state, &spec.name);
    if status::is_up(&paths) {
        say(&format!("lab {} is up", spec.name));
        return show(state, &spec.name).await;
    }
    preflight::check_machine()?;
    if !paths.dir().exists() {
        // Before the images are built, which takes a while the first time.
        preflight::check_network(&spec).await?;
    }
    let steps = Steps(Instant::now());
    build_images(&options.images, &steps)?;
    let program = this_program()?;
    let stop = stop_signal()?;
    let started = tokio::select! {
        started = up::lab(state, &spec, &program, &steps) => {
            started.inspect_err(|_| warn_of_firewalls(&spec))?
        }
        () = stop.cancelled() => {
            steps.step("interrupted: removing what was made");
            down::leftovers(state, &spec).await?;
            bail!("lab {} was not started", spec.name);
        }
    };
    if started == Started::Now {
        let nodes: Vec<String> = spec.node_hosts().into_iter().map(|host| host.name).collect();
        steps.step(&format!("{} nodes are ready", nodes.len()));
        import_all(&paths.containerd_socket(), &nodes, &options.images, &steps).await?;
    }
    show(state, &spec.name).await
}

fn this_program() -> Result<PathBuf> {
    std::env::current_exe().context("find this program's file")
}

fn build_images(options: &cli::Images, steps: &Steps) -> Result<()> {
    if !options.no_images {
        images::build_missing(&options.images, steps)?;
    }
    Ok(())
}

/// Imports every archive of the folder into every containerd namespace, all at once.
async fn import_all(
    socket: &Path,
    namespaces: &[String],
    options: &cli::Images,
    steps: &Steps,
) -> Result<()> {
    if options.no_images {
        return Ok(());
    }
    let archives = images::archives(&options.images);
    let mut imports = tokio::task::JoinSet::new();
    for archive in archives.clone() {
        for namespace in namespaces {
            let (socket, archive) = (socket.to_owned(), archive.clone());
            let namespace = namespace.clone();
            imports.spawn(async move {
                agent::import_image(&socket, &namespace, &archive)
                    .await
                    .with_context(|| format!("import {}", archive.display()))
            });
        }
    }
    while let Some(import) = imports.join_next().await {
        import.context("an import panicked")??;
    }
    steps.step(&format!("{} images are on every node", archives.len()));
    Ok(())
}

fn list(state: &Path) {
    let labs = status::labs(state);
    if labs.is_empty() {
        say("no labs: start one with \"minictl lab up\"");
        return;
    }
    let rows = labs.iter().map(|name| {
        let up = if status::is_up(&Paths::lab(state, name)) { "up" } else { "down" };
        let spec = status::spec(state, name).ok();
        let nodes = spec.as_ref().map_or_else(String::new, |spec| spec.nodes.to_string());
        let network = spec.map_or_else(String::new, |spec| list_of(&spec.network));
        vec![name.clone(), up.to_owned(), nodes, network]
    });
    table(&["NAME", "STATUS", "NODES", "NETWORK"], rows.collect());
}

async fn show(state: &Path, name: &str) -> Result<()> {
    let spec = status::spec(state, name)?;
    let paths = Paths::lab(state, name);
    if !status::is_up(&paths) {
        bail!("lab {name} is not running: start it again with \"minictl lab up {name}\"");
    }
    let api: Api<Node> = Api::all(up::client(&paths).await?);
    let nodes = api.list(&ListParams::default()).await.context("ask the API server for nodes")?;
    let networks = list_of(&spec.network);
    say(&format!("Lab {name}: bridge {}, network {networks}\n", spec.bridge()));
    let hosts = spec.hosts().into_iter().map(|host| {
        let node = nodes.items.iter().find(|node| node.metadata.name.as_ref() == Some(&host.name));
        let does = match host.role {
            Role::Node => node.map_or_else(|| "not registered".to_owned(), describe_node),
            Role::Client => "outside the cluster".to_owned(),
            Role::Internet => "the nodes' default gateway and name server".to_owned(),
        };
        vec![host.name.clone(), host.address_list(), host.namespace, does]
    });
    table(&["HOST", "ADDRESS", "NETNS", "STATUS"], hosts.collect());
    say("");
    let processes = status::processes(&paths).into_iter().map(|process| {
        let pid = process.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let memory =
            process.memory_kib.map_or_else(|| "-".to_owned(), |kib| format!("{} MB", kib / 1024));
        vec![process.name, pid, memory]
    });
    table(&["PROCESS", "PID", "MEMORY"], processes.collect());
    say(&format!("\nkubectl:  export KUBECONFIG={}", paths.kubeconfig().display()));
    say(&format!(
        "host:     minictl lab exec {name}/client -- curl http://{}:PORT",
        url_host(spec.hosts()[0].address())
    ));
    say(&format!("the end:  minictl lab down {name}"));
    warn_of_firewalls(&spec);
    Ok(())
}

/// Hosts, and the pods on them, talk through a bridge of this machine.
fn warn_of_firewalls(spec: &LabSpec) {
    let networks: Vec<_> = spec.network.iter().chain(&spec.ranges.cluster).copied().collect();
    crate::dataplane::warn_of_firewalls(&spec.bridge(), &networks);
}

fn describe_node(node: &Node) -> String {
    let ready = node
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten())
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let annotations = node.metadata.annotations.iter().flatten();
    let dataplane = annotations
        .filter(|(key, _)| *key == DATAPLANE_ANNOTATION)
        .map(|(_, value)| value.as_str())
        .next()
        .unwrap_or("no dataplane reported");
    format!("{}, {dataplane}", if ready { "Ready" } else { "NotReady" })
}

/// `minictl up`
pub(crate) async fn up(state: &Path, options: cli::Up) -> Result<()> {
    let paths = Paths::machine(state);
    if status::is_up(&paths) {
        say("the cluster of this machine is up");
        return Ok(());
    }
    preflight::check_machine()?;
    let steps = Steps(Instant::now());
    build_images(&options.images, &steps)?;
    let machine_containerd = Path::new(containerd::MACHINE_SOCKET);
    let reachable = std::os::unix::net::UnixStream::connect(machine_containerd).is_ok();
    let wished = Wished {
        cluster: options.ranges.cluster_cidr,
        service: options.ranges.service_cidr,
        network: Vec::new(),
    };
    let known = match options.node_ip.as_slice() {
        [] => machine_addresses().await?,
        given => given.to_vec(),
    };
    let families = options.ip_family.map_or_else(|| families_of(&known), IpFamily::from);
    let ranges = wished.ranges(families)?;
    let spec = MachineSpec {
        node: options.node_name.map_or_else(machine_name, Ok)?,
        addresses: one_of_each(&known, &ranges.service)?,
        ranges,
        dataplane: options.dataplane.into(),
        containerd: reachable.then(|| machine_containerd.to_owned()),
        settings_before: netd::settings_now(),
    };
    if families != IpFamily::Ipv4 {
        netd::keep_listening_to_routers()?;
    }
    up::machine(state, &spec, &this_program()?, &steps).await?;
    steps.step(&format!("node {} is ready", spec.node));
    let socket = spec.containerd.unwrap_or_else(|| paths.containerd_socket());
    import_all(&socket, &[up::CONTAINERD_NAMESPACE.to_owned()], &options.images, &steps).await?;
    let at = list_of(&spec.addresses);
    say(&format!("The cluster is up: node {} at {at}.", spec.node));
    say(&format!("kubectl:  export KUBECONFIG={}", paths.kubeconfig().display()));
    say("the end:  minictl down");
    Ok(())
}

fn machine_name() -> Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").context("read the hostname")?;
    Ok(name.trim().to_lowercase())
}

/// The addresses of the machine that others can reach it by.
async fn machine_addresses() -> Result<Vec<IpAddr>> {
    let links = netns::Links::here()?;
    let ways_out = links.routes().await?.into_iter().filter(|r| r.destination.prefix_len() == 0);
    let ways_out: Vec<u32> = ways_out.filter_map(|route| route.link).collect();
    Ok(reached_by(&links.addresses().await?, &ways_out))
}

/// Those on links that lead out of the machine, if any does: bridges of labs and of Docker have
/// addresses, too.
fn reached_by(addresses: &[(u32, IpNet)], ways_out: &[u32]) -> Vec<IpAddr> {
    let all = addresses.iter().filter(|(_, net)| is_reachable(&net.addr()));
    let (outside, others): (Vec<_>, Vec<_>) = all.partition(|(link, _)| ways_out.contains(link));
    let chosen = if outside.is_empty() { others } else { outside };
    chosen.into_iter().map(|(_, net)| net.addr()).collect()
}

fn is_reachable(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    }
}

fn families_of(addresses: &[IpAddr]) -> IpFamily {
    match (addresses.iter().any(IpAddr::is_ipv4), addresses.iter().any(IpAddr::is_ipv6)) {
        (true, true) => IpFamily::Dual,
        (false, true) => IpFamily::Ipv6,
        _ => IpFamily::Ipv4,
    }
}

/// The first address of each family, in the order of the cluster's ranges.
fn one_of_each(addresses: &[IpAddr], ranges: &[IpNet]) -> Result<Vec<IpAddr>> {
    let of_family = |range: &IpNet| {
        let six = range.addr().is_ipv6();
        let found = addresses.iter().find(|address| address.is_ipv6() == six);
        found.copied().with_context(|| {
            let family = if six { "IPv6" } else { "IPv4" };
            format!("this machine has no {family} address: give one with --node-ip")
        })
    };
    ranges.iter().map(of_family).collect()
}

fn list_of<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// An address as URLs have it.
fn url_host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// `minictl down`
pub(crate) async fn down(state: &Path) -> Result<()> {
    let paths = Paths::machine(state);
    let Ok(bytes) = std::fs::read(paths.spec()) else {
        say("there is no cluster on this machine");
        return Ok(());
    };
    let spec: MachineSpec = serde_json::from_slice(&bytes)
        .with_context(|| format!("read {}", paths.spec().display()))?;
    down::machine_processes(state).await?;
    let agent_dir = paths.node(&spec.node);
    let leftovers = agent::Leftovers {
        containerd_socket: spec.containerd.unwrap_or_else(|| paths.containerd_socket()),
        containerd_namespace: up::CONTAINERD_NAMESPACE.to_owned(),
        log_dir: agent_dir.join("logs"),
        state_dir: agent_dir,
        cgroup_parent: lab::plan::cgroup_parent(up::MACHINE, &spec.node),
        bridge: Some(node::BRIDGE.to_owned()),
    };
    let mut failed: Vec<String> =
        agent::remove_all(&leftovers).await.iter().map(ToString::to_string).collect();
    failed.extend(netd::clean_up(node::BRIDGE, &node::NODE_PORTS).iter().map(ToString::to_string));
    failed.extend(netd::restore_settings(&spec.settings_before).iter().map(ToString::to_string));
    failed.extend(down::machine_files(state).err().map(|error| error.to_string()));
    if !failed.is_empty() {
        bail!("not everything could be removed:\n  {}", failed.join("\n  "));
    }
    say("the cluster is down: nothing of it is left");
    Ok(())
}

/// `minictl image …`
pub(crate) async fn image(state: &Path, command: ImageCommand) -> Result<()> {
    let steps = Steps(Instant::now());
    match command {
        ImageCommand::Build { output } => {
            let built = images::build_missing(&output, &steps)?;
            say(&format!("{built} images built; all are in {}", output.display()));
        }
        ImageCommand::Import { archive, lab } => import(state, &archive, lab).await?,
    }
    Ok(())
}

async fn import(state: &Path, archive: &Path, lab: Option<String>) -> Result<()> {
    let machine = Paths::machine(state);
    let (socket, namespaces) = if lab.is_none() && status::is_up(&machine) {
        let bytes = std::fs::read(machine.spec())?;
        let spec: MachineSpec = serde_json::from_slice(&bytes)?;
        (
            spec.containerd.unwrap_or_else(|| machine.containerd_socket()),
            vec![up::CONTAINERD_NAMESPACE.to_owned()],
        )
    } else {
        let name = named(state, lab)?;
        let spec = status::spec(state, &name)?;
        let nodes = spec.node_hosts().into_iter().map(|host| host.name).collect();
        (Paths::lab(state, &name).containerd_socket(), nodes)
    };
    for namespace in namespaces {
        for image in agent::import_image(&socket, &namespace, archive).await? {
            say(&format!("{image} imported on {namespace}"));
        }
    }
    Ok(())
}

/// Prints columns as kubectl does: three spaces between them.
fn table(head: &[&str], rows: Vec<Vec<String>>) {
    for line in lay_out(head, &rows) {
        say(&line);
    }
}

fn lay_out(head: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            let cells = rows.iter().chain([&head]).filter_map(|row| row.get(column));
            cells.map(String::len).max().unwrap_or(0)
        })
        .collect();
    [&head]
        .into_iter()
        .chain(rows)
        .map(|row| {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            cells.join("   ").trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_a_reachable_ipv6_address_has_a_cluster_of_ipv4() {
        let all: Vec<IpAddr> = ["127.0.0.1", "10.0.0.5", "::1", "fe80::1", "fd00::5"]
            .map(|text| text.parse().unwrap())
            .to_vec();
        let reachable: Vec<IpAddr> = all.iter().copied().filter(is_reachable).collect();
        assert_eq!(list_of(&reachable), "10.0.0.5,fd00::5");
        let on = |link: u32, net: &str| (link, net.parse().unwrap());
        let seen = [on(1, "10.0.0.5/24"), on(2, "fe80::1/64"), on(2, "fd00:192:168:56::1/64")];
        assert_eq!(list_of(&reached_by(&seen, &[1])), "10.0.0.5", "a lab's bridge leads nowhere");
        assert_eq!(list_of(&reached_by(&seen, &[])), "10.0.0.5,fd00:192:168:56::1");
        assert_eq!(families_of(&reachable), IpFamily::Dual);
        assert_eq!(families_of(&reachable[..1]), IpFamily::Ipv4);
        let ranges = Wished::default().ranges(IpFamily::Dual).unwrap();
        assert_eq!(one_of_each(&reachable, &ranges.service).unwrap(), reachable);
        let error = one_of_each(&reachable[..1], &ranges.service).unwrap_err();
        assert_eq!(error.to_string(), "this machine has no IPv6 address: give one with --node-ip");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![vec!["node-1".to_owned(), "up".to_owned()]];
        assert_eq!(lay_out(&["H", "STATUS"], &rows), ["H        STATUS", "node-1   up"]);
    }
}
