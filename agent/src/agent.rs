//! Starting and removing the agent: the composition of its parts.
//!
//! Order: containerd, the node's own network, the Node object (whose answer carries the pod CIDRs),
//! the bridge, what an earlier agent left, then pods, status, tunnel and events side by side.

use std::{
    fs, io,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Service;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, reflector, watcher},
};
use netns::Monitor;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    downward::NodeFacts,
    image::{self, ensure_namespace},
    node::{Machine, NodeKeeper},
    pod::{Host, PodRecord, Pods, last_addresses},
    recorder::Recorder,
    runtime::{Containerd, RuntimeError},
    sandbox::{
        AddressPools, NodeNetwork, PodFolder, SandboxError, Wired, keep, pin_host_network, stands,
    },
    tunnel::{self, NodeService},
};

/// How long containerd is waited for.
const CONTAINERD_STARTS: Duration = Duration::from_secs(3);
/// Time between two tries to reach it.
const CONTAINERD_PAUSE: Duration = Duration::from_millis(20);

/// Why the agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// containerd.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The client of the API.
    #[error("prepare the client of the API server")]
    Client(#[source] Box<kube::Error>),
    /// A folder of the agent.
    #[error("prepare {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The node's network.
    #[error("set up the node's pod network")]
    Network(#[source] SandboxError),
    /// A part of the agent that must run as long as the agent has ended.
    #[error("a part of the agent has ended by itself")]
    Ended,
}

/// Runs the agent of a node until `stop`. Containers run on after it; the next agent with the same
/// configuration picks them up.
///
/// # Errors
/// No containerd, no permission, or a folder that cannot be made. A missing API server is waited
/// for.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), AgentError> {
    let config = Arc::new(config);
    for path in [PodFolder::all(&config.state_dir), config.log_dir.clone()] {
        fs::create_dir_all(&path).map_err(|source| AgentError::Folder { path, source })?;
    }
    let containerd = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        containerd = wait_for_containerd(&config) => containerd?,
    };
    ensure_namespace(&containerd, &config.containerd_namespace).await?;
    let machine = Machine::read(containerd.version().await?);
    let host_net = pin_host_network(&config.state_dir).map_err(AgentError::Network)?;
    let client = Client::try_from(config.kube.clone())
        .map_err(|error| AgentError::Client(Box::new(error)))?;
    let not_ready = Err("container runtime network not ready".to_owned());
    let (readiness, ready) = watch::channel(not_ready);
    let keeper = NodeKeeper::new(
        client.clone(),
        Arc::clone(&config),
        machine.clone(),
        containerd.clone(),
        ready,
    );
    let cidrs = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        cidrs = keeper.register() => cidrs,
    };
    let network = NodeNetwork::set_up(&config.bridge, &cidrs, config.mtu)
        .await
        .map_err(AgentError::Network)?;
    // The old value is of no interest.
    drop(readiness.send_replace(Ok(())));
    let parts = Parts { config, client, containerd, machine, host_net, network, cidrs };
    parts.run(keeper, stop).await
}

/// containerd may be starting at the same time; one that does not come is an error.
async fn wait_for_containerd(config: &Config) -> Result<Containerd, RuntimeError> {
    let deadline = tokio::time::Instant::now() + CONTAINERD_STARTS;
    loop {
        let socket = &config.containerd_socket;
        match Containerd::connect(socket, &config.containerd_namespace).await {
            Err(error) if tokio::time::Instant::now() >= deadline => return Err(error),
            Err(_) => tokio::time::sleep(CONTAINERD_PAUSE).await,
            connected => return connected,
        }
    }
}

struct Parts {
    config: Arc<Config>,
    client: Client,
    containerd: Containerd,
    machine: Machine,
    host_net: PathBuf,
    network: NodeNetwork,
    cidrs: Vec<ipnet::IpNet>,
}

impl Parts {
    async fn run(self, keeper: NodeKeeper, stop: CancellationToken) -> Result<(), AgentError> {
        let Self { config, client, containerd, machine, host_net, network, cidrs } = self;
        let records = load_records(&config)?;
        let (recorder, recording) = Recorder::new(client.clone(), config.node_name.clone());
        let (services, store_writer) = reflector::store::<Service>();
        let node = NodeFacts {
            name: config.node_name.clone(),
            host_ips: config.node_ips.clone(),
            cpu_milli: machine.cpus * 1000,
            memory: machine.memory,
        };
        let service = NodeService {
            config: Arc::clone(&config),
            containerd: containerd.clone(),
            host_net: host_net.clone(),
        };
        note_wired(&config, &network, &records);
        let monitor = Monitor::here().inspect_err(|error| {
            let error = crate::error_chain(error);
            tracing::warn!(error, "damage to the pod network is noticed late");
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(keep(network.clone(), monitor.ok(), recorder.clone()));
        tasks.spawn(recording);
        tasks.spawn(keeper.run(stop.clone()));
        tasks.spawn(watch_services(client.clone(), store_writer));
        tasks.spawn(tunnel::run(
            config.kube.clone(),
            config.node_name.clone(),
            service,
            config.services.clone(),
            stop.clone(),
        ));
        let images = watch::Sender::new(());
        tasks.spawn(image::watch_imports(containerd.clone(), images.clone()));
        let pools = Mutex::new(pools(&config, &cidrs, &records));
        let host = Arc::new(Host {
            config,
            client: client.clone(),
            containerd,
            recorder,
            network,
            host_net,
            node,
            machine,
            services: services.clone(),
            pools,
            images,
        });
        let pods_stop = stop.clone();
        tasks.spawn(async move {
            // Containers learn of Services when they start, so these must be known first.
            let known = services.wait_until_ready();
            if pods_stop.run_until_cancelled(known).await.is_some() {
                Pods::new(host, records).run(client, pods_stop).await;
            }
        });
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            ended = tasks.join_next() => {
                if stop.is_cancelled() {
                    return Ok(());
                }
                if let Some(Err(error)) = ended {
                    tracing::error!(%error, "a part of the agent panicked");
                }
                Err(AgentError::Ended)
            }
        }
    }
}

fn load_records(config: &Config) -> Result<Vec<PodRecord>, AgentError> {
    let path = PodFolder::all(&config.state_dir);
    let records = PodRecord::load_all(&path);
    let records = records.map_err(|source| AgentError::Folder { path, source })?;
    Ok(records.into_iter().map(|(_, record)| record).collect())
}

/// Pods that an earlier agent has connected are watched over like those that come.
fn note_wired(config: &Config, network: &NodeNetwork, records: &[PodRecord]) {
    for record in records {
        let Some(sandbox) = record.sandbox.as_ref().filter(|sandbox| !sandbox.ips.is_empty())
        else {
            continue;
        };
        let folder = PodFolder::new(&config.state_dir, &record.uid);
        if stands(&folder, false) {
            let wired = Wired::new(&record.namespace, &record.name, &folder.net(), &sandbox.ips);
            network.note(record.uid.clone(), wired);
        }
    }
}

/// The addresses that recorded pods hold are taken.
fn pools(config: &Config, cidrs: &[ipnet::IpNet], records: &[PodRecord]) -> AddressPools {
    let last = fs::read_to_string(last_addresses(&config.state_dir)).unwrap_or_default();
    let last: Vec<IpAddr> = last.lines().filter_map(|line| line.trim().parse().ok()).collect();
    let mut pools = AddressPools::new(cidrs, &last);
    for sandbox in records.iter().filter_map(|record| record.sandbox.as_ref()) {
        pools.reserve(&sandbox.ips);
    }
    pools
}

async fn watch_services(client: Client, writer: reflector::store::Writer<Service>) {
    let services = watcher(Api::<Service>::all(client), watcher::Config::default());
    let services = services.default_backoff().modify(|service| {
        // Only names, addresses and ports become variables.
        service.metadata.managed_fields = None;
        service.metadata.annotations = None;
        service.status = None;
    });
    let mut events = reflector::reflector(writer, services).boxed();
    while let Some(event) = events.next().await {
        if let Err(error) = event {
            tracing::debug!(error = crate::error_chain(&error), "the watch of services");
        }
    }
}
