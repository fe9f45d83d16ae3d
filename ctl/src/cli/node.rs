//! `minictl node`: running one, and a shell in one.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgMatches, Args, Command, FromArgMatches, Subcommand};

use super::netd::NetdFlags;
use super::{Dataplane, Ranges};

/// `minictl node`: with flags it runs a node, with a verb it does something with one.
#[derive(Clone, Debug)]
pub(crate) enum NodeCommand {
    /// Run one.
    Run(Box<Node>),
    /// Do something with one.
    Verb(NodeVerb),
}

// By hand, as the derived code cannot say that a verb makes up for flags that a node needs.
impl FromArgMatches for NodeCommand {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        match matches.subcommand_name() {
            Some(_) => NodeVerb::from_arg_matches(matches).map(Self::Verb),
            None => Node::from_arg_matches(matches).map(|node| Self::Run(Box::new(node))),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for NodeCommand {
    fn augment_args(command: Command) -> Command {
        NodeVerb::augment_subcommands(Node::augment_args(command))
            .subcommand_required(false)
            .args_conflicts_with_subcommands(true)
            .subcommand_negates_reqs(true)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// What to do with a node of a lab.
#[derive(Clone, Debug, Subcommand)]
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
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    fn parsed(line: &str) -> Result<NodeCommand, clap::Error> {
        match Cli::try_parse_from(line.split_whitespace())?.command {
            crate::cli::Command::Node(command) => Ok(command),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_node_is_run_with_flags_and_visited_with_a_verb() {
        let run = "minictl node --name=n --node-ip=10.0.0.1,fd00::1 --agent-dir=/a --drain=0";
        match parsed(run).unwrap() {
            NodeCommand::Run(node) => {
                assert_eq!((node.name.as_str(), node.node_ip.len()), ("n", 2));
                assert_eq!(node.drain, Duration::ZERO);
            }
            NodeCommand::Verb(verb) => panic!("{verb:?}"),
        }
        match parsed("minictl node shell lab/node-1 -- curl 10.244.0.2").unwrap() {
            NodeCommand::Verb(NodeVerb::Shell { node, command }) => {
                assert_eq!((node.as_str(), command.len()), ("lab/node-1", 2));
            }
            NodeCommand::Run(node) => panic!("{node:?}"),
        }
        assert!(parsed("minictl node").is_err());
        assert!(parsed("minictl node --name=n").is_err());
        assert!(parsed("minictl node shell").is_err());
    }

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
