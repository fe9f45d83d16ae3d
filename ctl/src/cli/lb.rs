//! `minictl lb …`: what can be typed.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What is asked about LoadBalancer addresses.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum LbCommand {
    /// Ask the network of the nodes who answers for an address, and say what is wrong if it does
    /// not work
    ///
    /// Every node asks by ARP (IPv6: by neighbour discovery) and connects to each TCP port of the
    /// service. Exit status: 0 The address is served. 1 It is not, or not as it should be. >1 It
    /// could not be told.
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Check),
}

const CHECK_EXAMPLES: &str = "\
Examples:
  # Who answers for the address of a service?
  minictl lb check 192.168.56.200

  # What each node said, word by word
  minictl lb check 192.168.56.200 -o yaml";

/// `minictl lb check`
#[derive(Args, Clone, Debug)]
pub(crate) struct Check {
    /// The address
    pub(crate) address: IpAddr,
    /// Ask the netd behind this socket on this machine, and no API server
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Output format. One of: (json, yaml)
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(crate) output: String,
}
