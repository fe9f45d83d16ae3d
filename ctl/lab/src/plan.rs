//! Which processes make up a cluster, with their arguments. Pure: the supervisor only carries it out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::containerd;
use crate::paths::{self, Paths};
use crate::spec::{Dataplane, LabSpec, LoadBalancer, Ranges};

/// A process that the supervisor keeps running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// `containerd`, `server`, `node-1`, …; names its log.
    pub name: String,
    /// What it is to the others.
    pub stage: Stage,
    /// Program.
    pub program: PathBuf,
    /// Arguments.
    pub args: Vec<String>,
    /// The pinned network namespace it runs in; `None` is the machine's own.
    pub namespace: Option<PathBuf>,
    /// Whether the loopback listener is handed over as standard input.
    pub takes_listener: bool,
    /// Where its output goes.
    pub log: PathBuf,
}

/// What a process is to the others. All are started at once, as each waits for what it needs; they
/// are stopped stage by stage, last one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Is what the others find outside.
    Outside,
    /// Runs containers.
    Containers,
    /// Serves the API.
    Control,
    /// Uses both.
    Node,
}

/// Everything the supervisor runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Processes {
    /// The processes.
    pub all: Vec<Process>,
}

/// What a node process is told.
#[derive(Clone, Debug)]
pub struct NodeSettings<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its addresses, one of each family, the cluster's own family first.
    pub addresses: Vec<IpAddr>,
    /// The containerd it uses.
    pub containerd: &'a Path,
    /// Its namespace inside containerd.
    pub containerd_namespace: &'a str,
    /// The parent of its pods' cgroups.
    pub cgroup_parent: String,
    /// Its network namespace.
    pub namespace: Option<PathBuf>,
    /// Who knows names that are not the cluster's; if nobody, the machine's own name servers.
    pub name_servers: Vec<IpAddr>,
}

/// The processes of a lab.
#[must_use]
pub fn lab(spec: &LabSpec, paths: &Paths, minictl: &Path) -> Processes {
    let socket = paths.containerd_socket();
    let nodes = spec.node_hosts();
    let first = paths::namespace(&nodes[0].namespace);
    let mut control = server(paths, minictl, spec.api_address(), &spec.ranges, Some(first));
    if spec.load_balancer == LoadBalancer::Nobody {
        control.args.push("--load-balancer=none".to_owned());
    }
    let mut all = vec![internet(spec, paths, minictl), own_containerd(paths), control];
    for host in &nodes {
        let settings = NodeSettings {
            name: &host.name,
            addresses: host.addresses.iter().map(IpNet::addr).collect(),
            containerd: &socket,
            containerd_namespace: &host.name,
            cgroup_parent: cgroup_parent(&spec.name, &host.name),
            namespace: Some(paths::namespace(&host.namespace)),
            name_servers: spec.gateways(),
        };
        all.push(node(paths, minictl, &settings, &spec.ranges, spec.dataplane));
    }
    Processes { all }
}

/// The cgroup below which all pods of a lab's node run.
#[must_use]
pub fn cgroup_parent(cluster: &str, node: &str) -> String {
    format!("/minictl/{cluster}/{node}")
}

/// A containerd of the cluster's own.
#[must_use]
pub fn own_containerd(paths: &Paths) -> Process {
    Process {
        name: "containerd".to_owned(),
        stage: Stage::Containers,
        program: PathBuf::from("containerd"),
        args: vec!["--config".to_owned(), text(&containerd::config_file(paths))],
        namespace: None,
        takes_listener: false,
        log: paths.log("containerd"),
    }
}

/// The name server and the sites of the `internet` host. It has no file in the cluster's folder, and
/// names it all the same: by that `down` finds processes whose supervisor is gone.
fn internet(spec: &LabSpec, paths: &Paths, minictl: &Path) -> Process {
    let host = spec.internet();
    let mut args = vec!["lab-internet".to_owned(), text(paths.dir())];
    args.push(format!("--address={}", host.address_list()));
    if spec.uplink {
        args.push("--forward".to_owned());
    }
    Process {
        name: host.name.clone(),
        stage: Stage::Outside,
        program: minictl.to_owned(),
        args,
        namespace: Some(paths::namespace(&host.namespace)),
        takes_listener: false,
        log: paths.log(&host.name),
    }
}

/// The control plane.
#[must_use]
pub fn server(
    paths: &Paths,
    minictl: &Path,
    advertise: SocketAddr,
    ranges: &Ranges,
    namespace: Option<PathBuf>,
) -> Process {
    let args = [
        "server".to_owned(),
        format!("--data-dir={}", text(&paths.data())),
        format!("--pki-dir={}", text(&paths.pki())),
        format!("--bind={}", everywhere(advertise.port(), ranges)),
        "--listen-stdin".to_owned(),
        format!("--advertise={advertise}"),
        format!("--cluster-cidr={}", comma_separated(&ranges.cluster)),
        format!("--service-cidr={}", comma_separated(&ranges.service)),
    ];
    Process {
        name: "server".to_owned(),
        stage: Stage::Control,
        program: minictl.to_owned(),
        args: args.to_vec(),
        namespace,
        takes_listener: true,
        log: paths.log("server"),
    }
}

/// A node: agent and netd.
#[must_use]
pub fn node(
    paths: &Paths,
    minictl: &Path,
    settings: &NodeSettings<'_>,
    ranges: &Ranges,
    dataplane: Dataplane,
) -> Process {
    let state = paths.node(settings.name);
    let mut args = vec![
        "node".to_owned(),
        format!("--name={}", settings.name),
        format!("--node-ip={}", comma_separated(&settings.addresses)),
        format!("--kubeconfig={}", text(&paths.node_kubeconfig(settings.name))),
        format!("--containerd={}", text(settings.containerd)),
        format!("--containerd-namespace={}", settings.containerd_namespace),
        format!("--agent-dir={}", text(&state)),
        format!("--cgroup-parent={}", settings.cgroup_parent),
        format!("--cluster-cidr={}", comma_separated(&ranges.cluster)),
        format!("--service-cidr={}", comma_separated(&ranges.service)),
        format!("--dataplane={}", dataplane.as_str()),
    ];
    if !settings.name_servers.is_empty() {
        args.push(format!("--dns-upstream={}", comma_separated(&settings.name_servers)));
    }
    Process {
        name: settings.name.to_owned(),
        stage: Stage::Node,
        program: minictl.to_owned(),
        args,
        namespace: settings.namespace.clone(),
        takes_listener: false,
        log: paths.log(settings.name),
    }
}

/// All addresses of the host: a socket of IPv6 serves IPv4, too, but not every machine has IPv6.
fn everywhere(port: u16, ranges: &Ranges) -> SocketAddr {
    let any: IpAddr = match ranges.all().any(|range| range.addr().is_ipv6()) {
        true => Ipv6Addr::UNSPECIFIED.into(),
        false => Ipv4Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(any, port)
}

fn comma_separated<T: ToString>(list: &[T]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{IpFamily, Wished};

    fn spec() -> LabSpec {
        LabSpec {
            name: "lab".to_owned(),
            nodes: 2,
            network: Wished::default().network(IpFamily::Dual).unwrap(),
            ranges: Wished::default().ranges(IpFamily::Dual).unwrap(),
            dataplane: Dataplane::Nftables,
            uplink: false,
            load_balancer: LoadBalancer::Pool,
        }
    }

    #[test]
    fn a_lab_is_containerd_a_control_plane_on_the_first_node_and_a_process_per_node() {
        let paths = Paths::lab(Path::new("/state"), "lab");
        let plan = lab(&spec(), &paths, Path::new("/bin/minictl"));
        let names: Vec<&str> = plan.all.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["internet", "containerd", "server", "node-1", "node-2"]);
        let namespaces: Vec<Option<String>> =
            plan.all.iter().map(|p| p.namespace.as_deref().map(text)).collect();
        let first = Some("/run/netns/lab-node-1".to_owned());
        let second = Some("/run/netns/lab-node-2".to_owned());
        let outside = Some("/run/netns/lab-internet".to_owned());
        assert_eq!(namespaces, [outside, None, first.clone(), first, second]);
        let addresses = "--address=192.168.56.254,fd00:192:168:56::254";
        assert_eq!(plan.all[0].args, ["lab-internet", "/state/labs/lab", addresses], "closed");
        assert_eq!(plan.all.iter().filter(|p| p.takes_listener).count(), 1);
        assert!(plan.all[2].args.contains(&"--advertise=192.168.56.70:6443".to_owned()));
        assert!(plan.all[4].args.contains(&"--cgroup-parent=/minictl/lab/node-2".to_owned()));
        assert!(plan.all[4].args.contains(&"--dataplane=nftables".to_owned()));
        assert!(plan.all[2].args.contains(&"--bind=[::]:6443".to_owned()));
        let outside = "--dns-upstream=192.168.56.254,fd00:192:168:56::254".to_owned();
        assert!(plan.all[4].args.contains(&outside), "{:?}", plan.all[4].args);
        let addresses = "--node-ip=192.168.56.71,fd00:192:168:56::71".to_owned();
        assert!(plan.all[4].args.contains(&addresses), "{:?}", plan.all[4].args);
    }

    #[test]
    fn a_lab_whose_load_balancers_stay_pending_tells_its_control_plane() {
        let paths = Paths::lab(Path::new("/state"), "lab");
        let told = |load_balancer| {
            let spec = LabSpec { load_balancer, ..spec() };
            let plan = lab(&spec, &paths, Path::new("/bin/minictl"));
            plan.all[2].args.contains(&"--load-balancer=none".to_owned())
        };
        assert!(told(LoadBalancer::Nobody));
        assert!(!told(LoadBalancer::Pool) && !told(LoadBalancer::Nodes));
    }

    #[test]
    fn the_plan_survives_its_file() {
        let paths = Paths::lab(Path::new("/state"), "lab");
        let plan = lab(&spec(), &paths, Path::new("/bin/minictl"));
        let json = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Processes>(&json).unwrap(), plan);
    }
}
