//! `minictl dns …`: what can be typed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What is asked about the cluster's DNS.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum DnsCommand {
    /// Print which pod asked for which name, and who knew the answer
    #[command(after_help = LOG_EXAMPLES)]
    Log(Log),
    /// Look for a name as a pod does, and say what happens on the way
    ///
    /// Exit status: 0 The name has records. 1 It has none. >1 It could not be told.
    #[command(after_help = TRACE_EXAMPLES)]
    Trace(Trace),
}

const LOG_EXAMPLES: &str = "\
Examples:
  # What was asked lately, on all nodes
  minictl dns log

  # What one pod asks from now on
  minictl dns log --pod shop/web --tail=0 -f";

const TRACE_EXAMPLES: &str = "\
Examples:
  # What becomes of \"web\" in pod client
  minictl dns trace web --from client

  # A name outside the cluster, and its IPv6 addresses
  minictl dns trace www.example.com --from client -n shop --type AAAA";

/// `minictl dns log`
#[derive(Args, Clone, Debug)]
pub(crate) struct Log {
    /// Only what this pod asked: POD or NAMESPACE/POD
    #[arg(long, value_name = "POD")]
    pub(crate) pod: Option<String>,
    /// Go on printing as pods ask
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// How many of the latest lines of all nodes together to begin with; -1 prints all that are remembered
    #[arg(long, default_value_t = -1, allow_hyphen_values = true, value_name = "LINES")]
    pub(crate) tail: i64,
    /// The node; without it all nodes
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// Ask the netd behind this socket on this machine, and no API server
    #[arg(long, value_name = "PATH", conflicts_with = "node")]
    pub(crate) socket: Option<PathBuf>,
    /// Output format. One of: (json): one object on each line
    #[arg(short, long, default_value = "", hide_default_value = true, value_parser = ["", "json"])]
    pub(crate) output: String,
}

/// `minictl dns trace`
#[derive(Args, Clone, Debug)]
pub(crate) struct Trace {
    /// The name, as a program in the pod would give it
    pub(crate) name: String,
    /// The pod that looks for it
    #[arg(long, value_name = "POD")]
    pub(crate) from: String,
    /// The kind of records
    #[arg(long = "type", default_value = "A", value_name = "TYPE")]
    pub(crate) kind: String,
    /// Ask the netd behind this socket on this machine, and no API server
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Output format. One of: (json, yaml)
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(crate) output: String,
}
