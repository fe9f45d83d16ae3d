//! netd: Services and routes of one node, kept in its kernel.
//!
//! Inputs are watches of Services, `EndpointSlice`s, Nodes and ServiceCIDRs ([`inputs`]); decisions
//! are `netmodel`'s; changes are made by [`executor`] through `kernel`; what came of them goes to the
//! API ([`tell`]), to metrics and health, and to whoever asks ([`Control`]). What the kernel can't
//! do itself, [`listeners`] do. Runs in the network namespace of its process. What it put into the
//! kernel stays when it stops, so that connections survive a restart; only [`clean_up`] removes it.
//! Deliberately not here: pods, their links and addresses (the agent's), and any policy.

mod address_check;
mod announcing;
mod conditions;
mod control;
mod convert;
mod engine;
mod events;
mod executor;
pub mod foreign;
mod health;
mod inputs;
mod kernel;
mod l7;
mod listeners;
mod metrics;
mod names;
mod reconcile;
mod relay;
mod service;
mod service_health;
mod settings;
mod tell;
mod wanted;
mod web;

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use kube::Client;
use netmodel::snapshot::Settings;
use tokio_util::sync::CancellationToken;

pub use address_check::load_balancer_service;
pub use control::{Activity, Control, ControlError, Counts, Problem, Questions, Status, control};
pub use engine::{Choice, Mode, choose};
pub use executor::{Changes, Executor, Report, VIP_LINK, clean_up};
pub use kernel::OpError;
pub use names::dns_service;
pub use service::{finding, service};
pub use settings::{keep_listening_to_routers, restore_settings, settings_now};
pub use wanted::WANTED_ANNOTATION;

/// The annotation on a Node that says which engine serves it, and why.
pub const ENGINE_ANNOTATION: &str = "minictl.io/dataplane";

/// What netd must be told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The Node object of the machine that netd runs on.
    pub node_name: String,
    /// Which engine to use.
    pub mode: Mode,
    /// The ranges of all pods, one of each family that the cluster has.
    pub cluster_cidrs: Vec<IpNet>,
    /// The ranges of all cluster addresses, one of each family that the cluster has.
    pub service_cidrs: Vec<IpNet>,
    /// Ports that Services may have on nodes' addresses.
    pub node_ports: RangeInclusive<u16>,
    /// The link that this node's pods hang on.
    pub bridge: String,
    /// The IPVS scheduler of Services that ask for none.
    pub scheduler: String,
    /// The DNS servers to ask for names outside the cluster; those that the machine asks if empty.
    pub dns_upstreams: Vec<SocketAddr>,
    /// Serve Ingresses on this node.
    pub ingress: bool,
    /// Where metrics are served; nowhere if absent.
    pub metrics_address: Option<SocketAddr>,
    /// Where health is told; nowhere if absent.
    pub health_address: Option<SocketAddr>,
}

impl Config {
    fn settings(&self) -> Settings {
        Settings {
            node_name: self.node_name.as_str().into(),
            cluster_cidrs: self.cluster_cidrs.clone(),
            service_cidrs: self.service_cidrs.clone(),
            bridge: self.bridge.as_str().into(),
            node_ports: self.node_ports.clone(),
            default_scheduler: self.scheduler.as_str().into(),
        }
    }
}

/// Why netd can't run.
#[derive(Debug, thiserror::Error)]
pub enum NetdError {
    /// The kernel can't be reached, or lacks the engine that was asked for.
    #[error("prepare the data plane of node {node}")]
    Prepare {
        /// The node.
        node: String,
        /// The step that failed.
        #[source]
        source: OpError,
    },
    /// The thread that talks to the kernel panicked.
    #[error("the data plane of node {node} stopped")]
    Stopped {
        /// The node.
        node: String,
        /// How.
        #[source]
        source: tokio::task::JoinError,
    },
}

/// Keeps the node's kernel equal to the cluster until told to stop; answers `questions` meanwhile.
///
/// # Errors
/// When the kernel can't be reached at all. Everything else is logged, reported and tried again.
pub async fn run(
    client: Client,
    config: Config,
    questions: Questions,
    stop: CancellationToken,
) -> Result<(), NetdError> {
    reconcile::run(client, config, questions, stop).await
}

/// An error with all of its causes on one line.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
