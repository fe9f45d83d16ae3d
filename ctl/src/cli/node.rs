//! `minictl node`: running one, and a shell in one.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::netd::NetdFlags;
use super::{Dataplane, Ranges};

/// `minictl node`
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct NodeCommand {
    #[command(flatten)]
    pub(crate) run: Option<Node>,
    #[command(subcommand)]
    pub(crate) verb: Option<NodeVerb>,
}

/// What to do with a node of a lab.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeVerb {
    /// A shell on a node, or a command there: in the node's network, as one would reach it by SSH
    Shell {
        /// The node: LAB/NODE, or NODE alone where the lab is clear
        node: String,
        /// The command [default: your shell]
        #[arg(last = true)]
        command: Vec<String>,
    },
}

/// What a node is told.
#[derive(Args, Clone, Debug)]
pub(crate) struct Node {
    /// The node's name
    #[arg(long)]
    pub(crate) name: String,
    /// The node's addresses, one of each family, the cluster's own family first
    #[arg(long, value_delimiter = ',', required = true)]
    pub(crate) node_ip: Vec<IpAddr>,
    /// containerd's socket
    #[arg(long, default_value = lab::containerd::MACHINE_SOCKET)]
    pub(crate) containerd: PathBuf,
    /// Namespace inside containerd
    #[arg(long, default_value = "minictl")]
    pub(crate) containerd_namespace: String,
    /// What the agent must remember; must be the same after a restart
    #[arg(long)]
    pub(crate) agent_dir: PathBuf,
    /// Parent of the pods' cgroups
    #[arg(long, default_value = "/minictl/machine")]
    pub(crate) cgroup_parent: String,
    /// How long a pod of a Service serves on after its deletion, until all nodes have heard of it;
    /// part of its grace period
    #[arg(long, default_value = "500ms", value_parser = duration)]
    pub(crate) drain: Duration,
    #[command(flatten)]
    pub(crate) ranges: Ranges,
    /// Engine for Services
    #[arg(long, value_enum, default_value_t)]
    pub(crate) dataplane: Dataplane,
    #[command(flatten)]
    pub(crate) netd: NetdFlags,
}

/// A whole number with its unit, as `500ms` or `2s`; zero needs none.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| "give a number and its unit, as 500ms or 2s")?;
    match (number, &text[digits.len()..]) {
        (_, "ms") => Ok(Duration::from_millis(number)),
        (_, "s") => Ok(Duration::from_secs(number)),
        (0, "") => Ok(Duration::ZERO),
        _ => Err("give the unit: ms or s".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        for wrong in ["", "5", "5m", "ms", "-1s", "1.5s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
