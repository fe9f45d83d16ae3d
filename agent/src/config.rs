//! What the agent is told when it starts.

use std::{net::IpAddr, path::PathBuf, time::Duration};

/// One node's settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node's name, as in its client certificate.
    pub node_name: String,
    /// The node's addresses, which others reach it by: one of each family, the cluster's own family
    /// first. Never empty.
    pub node_ips: Vec<IpAddr>,
    /// How to reach the API server; its TLS settings are the tunnel's too.
    pub kube: kube::Config,
    /// containerd's socket.
    pub containerd_socket: PathBuf,
    /// The containerd namespace of this node's containers and images; nobody else's.
    pub containerd_namespace: String,
    /// Pins, pods' files and records; survives restarts, and must lie where containerd sees it.
    pub state_dir: PathBuf,
    /// Container logs.
    pub log_dir: PathBuf,
    /// The program whose `pod-log` command runs [`crate::pod_log`]; an absolute path.
    pub logger: PathBuf,
    /// The cgroup under which pods' cgroups are made, such as `/minictl/node-1`.
    pub cgroup_parent: String,
    /// The node's bridge.
    pub bridge: String,
    /// Name servers of pods.
    pub cluster_dns: Vec<IpAddr>,
    /// Domain of cluster names, such as `cluster.local`.
    pub cluster_domain: String,
    /// MTU of pods' links, in bytes.
    pub mtu: u32,
    /// How long a pod of a Service serves on after its deletion, until all nodes have heard of it;
    /// part of its grace period, zero for not at all.
    pub drain: Duration,
    /// What other parts of this process offer to the API server on the agent's tunnel.
    pub services: tonic::service::Routes,
}

impl Config {
    /// The node's address of the cluster's own family.
    #[must_use]
    pub fn node_ip(&self) -> IpAddr {
        *self.node_ips.first().expect("a node has an address: the command line asks for it")
    }
}

/// Settings for tests of pure code.
#[cfg(test)]
pub(crate) fn example() -> Config {
    Config {
        node_name: "node-1".to_owned(),
        node_ips: vec![IpAddr::from([192, 168, 56, 70])],
        kube: kube::Config::new("http://127.0.0.1:1".parse().unwrap()),
        containerd_socket: PathBuf::from("/none"),
        containerd_namespace: "test".to_owned(),
        state_dir: PathBuf::from("/none"),
        log_dir: PathBuf::from("/none"),
        logger: PathBuf::from("/none"),
        cgroup_parent: "/test".to_owned(),
        bridge: "mini0".to_owned(),
        cluster_dns: vec![IpAddr::from([10, 96, 0, 10])],
        cluster_domain: "cluster.local".to_owned(),
        mtu: 1500,
        drain: Duration::ZERO,
        services: tonic::service::Routes::default(),
    }
}
