//! The command line: what can be typed. Each verb only carries values; nothing is done here.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;

pub(crate) mod dataplane;
pub(crate) mod dns;
pub(crate) mod lb;
mod netd;
mod node;

pub(crate) use node::{Node, NodeCommand, NodeVerb};

/// A mini Kubernetes to see how its networking works.
#[derive(Debug, Parser)]
#[command(name = "minictl", version, propagate_version = false, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: verbs::Globals,
    /// Folder in which clusters keep their state
    #[arg(long, global = true, env = "MINICTL_STATE_DIR", default_value = lab::paths::STATE)]
    pub(crate) state_dir: PathBuf,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a cluster of one node on this machine
    Up(Up),
    /// Stop the cluster on this machine and remove everything of it
    Down,
    /// Labs: several nodes on this machine, each a network namespace
    #[command(subcommand)]
    Lab(LabCommand),
    /// Images of the course and of your own
    #[command(subcommand)]
    Image(ImageCommand),
    /// Run the control plane: API server and controllers
    Server(Server),
    /// Run a node: agent and netd; or a shell on a node of a lab
    Node(NodeCommand),
    /// Run netd alone, for a cluster whose nodes have another agent
    Netd(Netd),
    /// The data plane of nodes: what is programmed, what differs, and which engine it uses
    #[command(subcommand)]
    Dataplane(dataplane::DataplaneCommand),
    /// The cluster's DNS: what pods asked, and what becomes of a name
    #[command(subcommand)]
    Dns(dns::DnsCommand),
    /// LoadBalancer addresses: who answers for one, and why nobody does
    #[command(subcommand)]
    Lb(lb::LbCommand),
    /// Print a kubeconfig with a new client certificate of a cluster's authority
    Kubeconfig(Kubeconfig),
    /// Keep the processes of a cluster running
    #[command(hide = true)]
    Supervise {
        /// The cluster's folder
        dir: PathBuf,
    },
    /// Be what a lab's nodes find outside: a name server and two sites
    #[command(hide = true)]
    LabInternet {
        /// The lab's folder: it says whose process this is, and is not read
        dir: PathBuf,
        /// The addresses at which names are answered
        #[arg(long, value_delimiter = ',', required = true)]
        address: Vec<IpAddr>,
        /// Ask this machine's name servers for names that are not the lab's own
        #[arg(long)]
        forward: bool,
    },
    /// Print a shell completion script
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    #[command(flatten)]
    Client(Box<verbs::Verb>),
}

/// The engine that carries Services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dataplane {
    /// IPVS where the kernel has it, nftables elsewhere
    #[default]
    Auto,
    /// IPVS
    Ipvs,
    /// nftables
    Nftables,
}

/// Who gives Services of type LoadBalancer their addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LoadBalancer {
    /// AddressPools; without any, the nodes' own addresses serve
    #[default]
    Pools,
    /// Nobody
    None,
}

/// The address ranges of a cluster.
#[derive(Args, Clone, Debug)]
pub(crate) struct Ranges {
    /// Addresses of pods; each node gets a /24 of it
    #[arg(long, default_value = "10.244.0.0/16", value_name = "CIDR", value_delimiter = ',')]
    pub(crate) cluster_cidr: Vec<IpNet>,
    /// Addresses of Services
    #[arg(long, default_value = "10.96.0.0/12", value_name = "CIDR", value_delimiter = ',')]
    pub(crate) service_cidr: Vec<IpNet>,
}

/// The address families of a new cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum IpFamily {
    /// IPv4 alone
    Ipv4,
    /// IPv6 alone
    Ipv6,
    /// Both; a Service is IPv4 unless it says otherwise
    Dual,
}

/// The address families and ranges of a new cluster.
#[derive(Args, Clone, Debug)]
pub(crate) struct NewRanges {
    /// Addresses of pods, a range of each family; each node gets a /24 or a /64 of it
    /// [default: 10.244.0.0/16,fd00:10:244::/56]
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub(crate) cluster_cidr: Vec<IpNet>,
    /// Addresses of Services, a range of each family; the first one is the cluster's own
    /// [default: 10.96.0.0/12,fd00:10:96::/112]
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub(crate) service_cidr: Vec<IpNet>,
}

/// `minictl up`
#[derive(Args, Clone, Debug)]
pub(crate) struct Up {
    /// The node's addresses, one of each family [default: those this machine is reached by]
    #[arg(long, value_delimiter = ',')]
    pub(crate) node_ip: Vec<IpAddr>,
    /// The address families [default: dual if this machine has an IPv6 address that others reach,
    /// else ipv4]
    #[arg(long, value_enum)]
    pub(crate) ip_family: Option<IpFamily>,
    /// The node's name [default: this machine's]
    #[arg(long)]
    pub(crate) node_name: Option<String>,
    #[command(flatten)]
    pub(crate) ranges: NewRanges,
    /// Engine for Services
    #[arg(long, value_enum, default_value_t)]
    pub(crate) dataplane: Dataplane,
    #[command(flatten)]
    pub(crate) images: Images,
}

/// Which images a new cluster gets.
#[derive(Args, Clone, Debug)]
pub(crate) struct Images {
    /// Folder of image archives to import; the course images are built into it if they are missing
    #[arg(long, default_value = lab::paths::IMAGE_CACHE, value_name = "DIR")]
    pub(crate) images: PathBuf,
    /// Build and import no images
    #[arg(long, conflicts_with = "images")]
    pub(crate) no_images: bool,
}

/// `minictl lab …`
#[derive(Debug, Subcommand)]
pub(crate) enum LabCommand {
    /// Start a lab
    Up(LabUp),
    /// Stop a lab and remove everything of it
    Down {
        /// The lab [default: the only one, or the one named "lab"]
        name: Option<String>,
    },
    /// List the labs of this machine
    List,
    /// Show hosts, processes and nodes of a lab
    Status {
        /// The lab [default: the only one, or the one named "lab"]
        name: Option<String>,
    },
    /// Run a command on a host of a lab
    Exec {
        /// LAB/HOST, or HOST alone where the lab is clear
        host: String,
        /// The command
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Print the path of a lab's kubeconfig
    Kubeconfig {
        /// The lab [default: the only one, or the one named "lab"]
        name: Option<String>,
    },
}

/// `minictl lab up`
#[derive(Args, Clone, Debug)]
pub(crate) struct LabUp {
    /// Name of the lab
    #[arg(default_value = lab::status::DEFAULT_LAB)]
    pub(crate) name: String,
    /// Number of nodes
    #[arg(long, default_value_t = 2)]
    pub(crate) nodes: u32,
    /// The node network, a range of each family; nodes get .70, .71, … (::70, ::71, …) of it
    /// [default: 192.168.56.0/24 and, with the same numbers, fd00:192:168:56::/64]
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub(crate) network: Vec<IpNet>,
    /// The address families
    #[arg(long, value_enum, default_value = "dual")]
    pub(crate) ip_family: IpFamily,
    #[command(flatten)]
    pub(crate) ranges: NewRanges,
    /// Engine for Services
    #[arg(long, value_enum, default_value_t)]
    pub(crate) dataplane: Dataplane,
    /// Let the lab out by this machine's own uplink
    #[arg(long)]
    pub(crate) uplink: bool,
    /// Make no pool of addresses for Services of type LoadBalancer: they get those of the nodes
    #[arg(long)]
    pub(crate) no_pool: bool,
    /// Who gives Services of type LoadBalancer their addresses; none: they stay pending, as in a
    /// cluster without a load balancer
    #[arg(long, value_enum, default_value_t)]
    pub(crate) load_balancer: LoadBalancer,
    #[command(flatten)]
    pub(crate) images: Images,
}

/// `minictl image …`
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Build the course images from Debian's packages
    Build {
        /// Folder for the archives
        #[arg(long, default_value = lab::paths::IMAGE_CACHE, value_name = "DIR")]
        output: PathBuf,
    },
    /// Import an image archive (OCI layout or docker save) into all nodes of a cluster
    Import {
        /// The archive
        archive: PathBuf,
        /// The lab; without it the cluster of this machine, or the lab named "lab"
        #[arg(long)]
        lab: Option<String>,
    },
}

/// `minictl server`
#[derive(Args, Clone, Debug)]
pub(crate) struct Server {
    /// Folder of the store
    #[arg(long)]
    pub(crate) data_dir: PathBuf,
    /// Folder of the cluster's authority
    #[arg(long)]
    pub(crate) pki_dir: PathBuf,
    /// Address to listen on
    #[arg(long, default_value = "0.0.0.0:6443")]
    pub(crate) bind: SocketAddr,
    /// Listen on the socket that is standard input, too
    #[arg(long, hide = true)]
    pub(crate) listen_stdin: bool,
    /// Where nodes and pods reach this server
    #[arg(long)]
    pub(crate) advertise: SocketAddr,
    /// Who gives Services of type LoadBalancer their addresses
    #[arg(long, value_enum, default_value_t, value_name = "WHO")]
    pub(crate) load_balancer: LoadBalancer,
    /// Whether the cluster has a DNS Service, which its nodes serve
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub(crate) dns: bool,
    /// Whether the cluster has a Service and a class of Ingresses, which its nodes serve
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub(crate) ingress: bool,
    #[command(flatten)]
    pub(crate) ranges: Ranges,
}

/// `minictl kubeconfig`
#[derive(Args, Clone, Debug)]
pub(crate) struct Kubeconfig {
    /// Folder of the cluster's authority; made if it is absent
    #[arg(long)]
    pub(crate) pki_dir: PathBuf,
    /// Name of the user
    #[arg(long, default_value = "admin")]
    pub(crate) as_user: String,
    /// Group of the user; "system:nodes" with user "system:node:NAME" for a node
    #[arg(long, default_value = "system:masters")]
    pub(crate) as_group: String,
}

/// `minictl netd`
#[derive(Args, Clone, Debug)]
pub(crate) struct Netd {
    /// The node's name
    #[arg(long)]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) ranges: Ranges,
    /// The link that pods are attached to
    #[arg(long, default_value = "mini0")]
    pub(crate) bridge: String,
    /// Socket at which "minictl dataplane --socket" and "dns --socket" may ask; only its owner can open it
    /// [default: /run/minictl/netd-NAME.sock]
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Engine for Services
    #[arg(long, value_enum, default_value_t)]
    pub(crate) dataplane: Dataplane,
    #[command(flatten)]
    pub(crate) netd: netd::NetdFlags,
}

impl From<IpFamily> for lab::spec::IpFamily {
    fn from(family: IpFamily) -> Self {
        match family {
            IpFamily::Ipv4 => Self::Ipv4,
            IpFamily::Ipv6 => Self::Ipv6,
            IpFamily::Dual => Self::Dual,
        }
    }
}

impl From<Dataplane> for lab::spec::Dataplane {
    fn from(dataplane: Dataplane) -> Self {
        match dataplane {
            Dataplane::Auto => Self::Auto,
            Dataplane::Ipvs => Self::Ipvs,
            Dataplane::Nftables => Self::Nftables,
        }
    }
}

impl From<Dataplane> for ::netd::Mode {
    fn from(dataplane: Dataplane) -> Self {
        match dataplane {
            Dataplane::Auto => Self::Auto,
            Dataplane::Ipvs => Self::Ipvs,
            Dataplane::Nftables => Self::Nftables,
        }
    }
}
