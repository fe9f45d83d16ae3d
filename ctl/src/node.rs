//! `minictl node` and `minictl netd`: the processes of a node.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::Path;

use anyhow::{Context, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};
use netns::range::nth_address;
use tokio_util::sync::CancellationToken;

use crate::cli;
use crate::dataplane::{self, Socket};
use crate::footprint;

/// The bridge that pods are attached to.
pub(crate) const BRIDGE: &str = "mini0";
/// The ports that Services may take on nodes.
pub(crate) const NODE_PORTS: RangeInclusive<u16> = 30000..=32767;
/// Where a netd that runs alone can be asked.
const SOCKETS: &str = "/run/minictl";
/// The number of the name server's address in the range of Services, as kubeadm has it.
const CLUSTER_DNS: u128 = 10;
/// MTU of pods' links: Ethernet's, as nodes route to each other without a tunnel.
const MTU: u32 = 1500;

/// Runs agent and netd until `stop`. When the node's addresses change, both begin anew: the
/// connections they had are of an address that is gone. Containers, and connections that the kernel
/// carries, go on meanwhile.
pub(crate) async fn run(
    mut options: cli::Node,
    kubeconfig: Option<&Path>,
    stop: CancellationToken,
) -> Result<()> {
    let file = kubeconfig.context("minictl node needs --kubeconfig FILE")?;
    let wanted = options.node_ip.clone();
    let own_links = [BRIDGE, netd::VIP_LINK];
    loop {
        let round = stop.child_token();
        let changed = agent::follow_addresses(&wanted, &options.node_ip, &own_links);
        let now = {
            let mut halves = std::pin::pin!(run_halves(&options, file, round.clone()));
            let now = tokio::select! {
                ended = &mut halves => return ended,
                now = changed => now,
            };
            tracing::warn!(before = ?options.node_ip, ?now, "the node's addresses changed");
            round.cancel();
            halves.await?;
            now
        };
        options.node_ip = now;
    }
}

async fn run_halves(options: &cli::Node, kubeconfig: &Path, stop: CancellationToken) -> Result<()> {
    let kube = kube_config(kubeconfig).await?;
    let client = kube::Client::try_from(kube.clone())?;
    let (control, questions) = netd::control();
    let services = tonic::service::Routes::new(netd::service(control.clone()))
        .add_service(netd::dns_service(&control))
        .add_service(netd::load_balancer_service(control.clone()));
    let small = footprint::keep_small(control, stop.clone());
    let agent = agent::run(agent_config(options, kube, services)?, stop.child_token());
    let netd = netd::run(client, netd_config(options), questions, stop.child_token());
    let (agent, netd, ()) =
        tokio::join!(until_failure(agent, stop.clone()), until_failure(netd, stop.clone()), small);
    agent.context("agent")?;
    netd.context("netd")
}

/// One half of a node does not go on without the other: a supervisor starts both again.
async fn until_failure<E>(
    half: impl Future<Output = std::result::Result<(), E>>,
    stop: CancellationToken,
) -> std::result::Result<(), E> {
    let result = half.await;
    stop.cancel();
    result
}

/// Runs netd alone until `stop`.
pub(crate) async fn run_netd(
    options: cli::Netd,
    kubeconfig: Option<&Path>,
    stop: CancellationToken,
) -> Result<()> {
    let file = kubeconfig.context("minictl netd needs --kubeconfig FILE")?;
    let client = kube::Client::try_from(kube_config(file).await?)?;
    let socket = options
        .socket
        .unwrap_or_else(|| Path::new(SOCKETS).join(format!("netd-{}.sock", options.name)));
    let config = netd::Config {
        node_name: options.name,
        mode: options.dataplane.into(),
        cluster_cidrs: options.ranges.cluster_cidr.clone(),
        service_cidrs: options.ranges.service_cidr.clone(),
        node_ports: NODE_PORTS,
        bridge: options.bridge,
        scheduler: options.netd.ipvs_scheduler,
        dns_upstreams: options.netd.dns_upstream,
        ingress: options.netd.ingress,
        metrics_address: options.netd.metrics_bind_address.0,
        health_address: options.netd.healthz_bind_address.0,
    };
    let (control, questions) = netd::control();
    let told = tell(&socket, control.clone(), stop.child_token());
    let netd = netd::run(client, config, questions, stop.clone());
    let small = footprint::keep_small(control, stop.clone());
    let ((), (), netd) = tokio::join!(told, small, until_failure(netd, stop));
    Ok(netd?)
}

/// Answers at a socket. Services are served without it, too.
async fn tell(socket: &Path, control: netd::Control, stop: CancellationToken) {
    let told = match Socket::open(socket) {
        Ok(socket) => dataplane::serve(socket, control, stop).await,
        Err(error) => Err(error),
    };
    if let Err(error) = told {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, "nobody can ask this netd about its data plane");
    }
}

async fn kube_config(file: &Path) -> Result<kube::Config> {
    let kubeconfig =
        Kubeconfig::read_from(file).with_context(|| format!("read {}", file.display()))?;
    Ok(kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
}

fn agent_config(
    options: &cli::Node,
    kube: kube::Config,
    services: tonic::service::Routes,
) -> Result<agent::Config> {
    let ranges = options.ranges.service_cidr.iter();
    let dns: Vec<IpAddr> = ranges.filter_map(|range| nth_address(*range, CLUSTER_DNS)).collect();
    anyhow::ensure!(!dns.is_empty(), "the service CIDR is too small");
    Ok(agent::Config {
        node_name: options.name.clone(),
        node_ips: options.node_ip.clone(),
        kube,
        containerd_socket: options.containerd.clone(),
        containerd_namespace: options.containerd_namespace.clone(),
        state_dir: options.agent_dir.clone(),
        log_dir: options.agent_dir.join("logs"),
        logger: std::env::current_exe().context("find this program's file")?,
        cgroup_parent: options.cgroup_parent.clone(),
        bridge: BRIDGE.to_owned(),
        cluster_dns: dns,
        cluster_domain: "cluster.local".to_owned(),
        mtu: MTU,
        drain: options.drain,
        services,
    })
}

fn netd_config(options: &cli::Node) -> netd::Config {
    netd::Config {
        node_name: options.name.clone(),
        mode: options.dataplane.into(),
        cluster_cidrs: options.ranges.cluster_cidr.clone(),
        service_cidrs: options.ranges.service_cidr.clone(),
        node_ports: NODE_PORTS,
        bridge: BRIDGE.to_owned(),
        scheduler: options.netd.ipvs_scheduler.clone(),
        dns_upstreams: options.netd.dns_upstream.clone(),
        ingress: options.netd.ingress,
        metrics_address: options.netd.metrics_bind_address.0,
        health_address: options.netd.healthz_bind_address.0,
    }
}
