//! `minictl dataplane …`: what can be typed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Dataplane;

/// What is asked about the data plane, or of it.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum DataplaneCommand {
    /// Display the engine of each node, how it fares, and what stands in its way
    #[command(after_help = STATUS_EXAMPLES)]
    Status(Status),
    /// Display what is programmed in the kernel of a node, and by which service
    #[command(after_help = DUMP_EXAMPLES)]
    Dump(Dump),
    /// Display what the kernel of a node has otherwise than it should
    ///
    /// Exit status: 0 No differences were found. 1 Differences were found. >1 It could not be told.
    #[command(after_help = DIFF_EXAMPLES)]
    Diff(Diff),
    /// Display the way of a packet: which rules it meets, who may answer, or why nobody does
    ///
    /// Nothing is sent: the tables in the kernel of the node that the packet comes to are walked
    /// through, for the first packet of a client that was not here before.
    ///
    /// Exit status: 0 It is delivered. 1 Some or all such packets are refused or dropped.
    /// >1 It could not be told.
    #[command(after_help = TRACE_EXAMPLES)]
    Trace(Trace),
    /// Switch nodes to another engine, without a break for connections that are open
    ///
    /// Waits until each node has switched. A node whose kernel lacks the engine says so and goes on
    /// with the one it has; the exit status is then 1.
    #[command(after_help = USE_EXAMPLES)]
    Use(Use),
}

const STATUS_EXAMPLES: &str = "\
Examples:
  # Which engine serves each node, and why
  minictl dataplane status

  # One node with its kernel settings and its latest repairs
  minictl dataplane status --node node-1 -o wide

  # Of a netd that runs alone on this machine
  minictl dataplane status --socket /run/minictl/netd-node-1.sock";

const DUMP_EXAMPLES: &str = "\
Examples:
  # All services on all nodes
  minictl dataplane dump

  # One service on one node, with the objects that stand for it in the kernel
  minictl dataplane dump web --node node-1 -o wide";

const DIFF_EXAMPLES: &str = "\
Examples:
  # Does every kernel have what it should?
  minictl dataplane diff";

const TRACE_EXAMPLES: &str = "\
Examples:
  # From a pod to a service
  minictl dataplane trace svc/web --from visitor

  # From outside to a node port; \"client\" is a host of the lab
  minictl dataplane trace 192.168.56.71:30080 --from client

  # From a node to the port \"dns\" of a service in another namespace
  minictl dataplane trace svc/kube-dns.kube-system:dns --from node/node-1";

const USE_EXAMPLES: &str = "\
Examples:
  # Switch all nodes
  minictl dataplane use ipvs

  # Leave it to one node which engine it uses
  minictl dataplane use auto --node node-2";

/// Who is asked.
#[derive(Args, Clone, Debug)]
pub(crate) struct Whom {
    /// The node; without it all nodes
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// Ask the netd behind this socket on this machine, and no API server
    #[arg(long, value_name = "PATH", conflicts_with = "node")]
    pub(crate) socket: Option<PathBuf>,
}

/// `minictl dataplane status`
#[derive(Args, Clone, Debug)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) whom: Whom,
    /// Output format. One of: (json, yaml, wide)
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(crate) output: String,
}

/// `minictl dataplane dump`
#[derive(Args, Clone, Debug)]
pub(crate) struct Dump {
    /// The service; without it all services
    pub(crate) service: Option<String>,
    #[command(flatten)]
    pub(crate) whom: Whom,
    /// Output format. One of: (json, yaml, wide)
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(crate) output: String,
}

/// `minictl dataplane diff`
#[derive(Args, Clone, Debug)]
pub(crate) struct Diff {
    #[command(flatten)]
    pub(crate) whom: Whom,
    /// Output format. One of: (json, yaml, wide)
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(crate) output: String,
}

/// `minictl dataplane trace`
#[derive(Args, Clone, Debug)]
pub(crate) struct Trace {
    /// Where to: ADDRESS:PORT, or a service as svc/NAME[.NAMESPACE][:PORT]
    #[arg(value_name = "DESTINATION")]
    pub(crate) to: String,
    /// Where from: pod/NAME, node/NAME, a host of the lab, or an address
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) from: String,
    /// The protocol; without it that of the service's port, or TCP
    #[arg(long, value_name = "PROTOCOL", value_parser = ["tcp", "udp", "sctp"])]
    pub(crate) protocol: Option<String>,
    /// The node that a packet from outside comes to, where its destination does not tell
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// Output format. One of: (json, yaml)
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(crate) output: String,
}

/// `minictl dataplane use`
#[derive(Args, Clone, Debug)]
pub(crate) struct Use {
    /// The engine
    #[arg(value_enum)]
    pub(crate) engine: Dataplane,
    /// The node; without it all nodes
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// The length of time to wait before giving up, zero means infinite
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    pub(crate) timeout: String,
}
