//! What a cluster consists of: names, addresses and links, computed and never looked up. Pure.

use std::net::{IpAddr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};
use netns::range::nth_address;
use serde::{Deserialize, Serialize};

pub use families::{FamilyError, IpFamily, Wished};

pub(crate) mod families;

/// Port of the API server on its node.
pub const API_PORT: u16 = 6443;
/// Host part of the first node's address, as the course has it (192.168.56.70).
const FIRST_NODE: u32 = 70;
/// Host part of the outside client's address.
const CLIENT: u32 = 10;
/// Host part of the machine's own address on the lab bridge.
const MACHINE: u32 = 1;
/// Host part of the address of the `internet` host, the nodes' default gateway.
const INTERNET: u32 = 254;
/// Host parts of the addresses for LoadBalancer Services: the first and the last one. No host has
/// one of them, however many nodes there are.
const POOL: (u32, u32) = (200, 249);
/// Longest lab name: with the suffix of a host it must fit into a link's name (15 characters).
const NAME_LIMIT: usize = 10;

/// A wish that cannot be fulfilled, with the fix.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SpecError {
    /// The name is no lower-case label.
    #[error(
        "lab name {0:?} is not usable: use 1 to {NAME_LIMIT} of a-z, 0-9 and '-', beginning with a letter"
    )]
    Name(String),
    /// Too few or too many nodes for the network.
    #[error("--nodes {0} is out of range: use 1 to {1} with this network")]
    Nodes(u32, u32),
    /// The network is too small.
    #[error("--network {0} is too small: use {1}")]
    Network(IpNet, &'static str),
    /// An uplink for a lab without IPv4.
    #[error("--uplink needs IPv4: use --ip-family ipv4 or dual")]
    Uplink,
    /// The networks of nodes, pods and Services overlap.
    #[error("{0} and {1} overlap: choose another --network, --cluster-cidr or --service-cidr")]
    Overlap(IpNet, IpNet),
    /// No such host.
    #[error("lab {lab} has no host {host:?}: its hosts are {hosts}")]
    Host {
        /// The lab.
        lab: String,
        /// What was asked for.
        host: String,
        /// What there is.
        hosts: String,
    },
}

/// Which engine carries Services; handed on to netd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dataplane {
    /// IPVS where the kernel has it, nftables elsewhere.
    #[default]
    Auto,
    /// IPVS.
    Ipvs,
    /// nftables.
    Nftables,
}

impl Dataplane {
    /// As written on a command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Ipvs => "ipvs",
            Self::Nftables => "nftables",
        }
    }
}

/// Where the addresses of LoadBalancer Services come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoadBalancer {
    /// A pool of addresses of the node network, made with the lab.
    #[default]
    Pool,
    /// No pool: the nodes' own addresses serve.
    Nodes,
    /// Nobody gives any, as in a cluster without a load balancer.
    Nobody,
}

/// The address ranges of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranges {
    /// Pods, a range of each family; each node gets a /24 or /64 of it.
    #[serde(deserialize_with = "families::one_or_many")]
    pub cluster: Vec<IpNet>,
    /// ClusterIPs, a range of each family; the first is the cluster's own family.
    #[serde(deserialize_with = "families::one_or_many")]
    pub service: Vec<IpNet>,
}

impl Ranges {
    /// All ranges.
    pub fn all(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.cluster.iter().chain(&self.service).copied()
    }
}

/// A lab: nodes, a client outside the cluster, and an `internet` host, on one bridge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabSpec {
    /// Name; part of the names of namespaces and links.
    pub name: String,
    /// Number of nodes.
    pub nodes: u32,
    /// The node network, a range of each family; the first is the cluster's own family.
    #[serde(deserialize_with = "families::one_or_many")]
    pub network: Vec<IpNet>,
    /// Pod and Service addresses.
    pub ranges: Ranges,
    /// Engine for Services.
    pub dataplane: Dataplane,
    /// Whether the `internet` host forwards to the machine's own uplink.
    pub uplink: bool,
    /// Where the addresses of LoadBalancer Services come from.
    #[serde(default)]
    pub load_balancer: LoadBalancer,
}

/// What a host of a lab is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs pods; the first one runs the control plane, too.
    Node,
    /// Outside the cluster, knows the node network only.
    Client,
    /// Where the nodes' default route leads.
    Internet,
}

/// A host of a lab: a network namespace with an address of each family on the lab bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// `node-1`, `client`, `internet`.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Its addresses on the lab bridge, the cluster's own family first; with the network's prefix.
    pub addresses: Vec<IpNet>,
    /// Name of its namespace, as `ip netns` shows it.
    pub namespace: String,
    /// Name of its port on the lab bridge.
    pub port: String,
}

impl Host {
    /// Its address of the cluster's own family.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.addresses.first().expect("a lab has a network: validate() refuses one without").addr()
    }

    /// All of its addresses, without prefix, with commas between them.
    #[must_use]
    pub fn address_list(&self) -> String {
        let addresses: Vec<String> =
            self.addresses.iter().map(|net| net.addr().to_string()).collect();
        addresses.join(",")
    }
}

impl LabSpec {
    /// Checks the wish; see [`SpecError`] for what can be wrong.
    ///
    /// # Errors
    /// The first thing that is wrong, with the fix.
    pub fn validate(&self) -> Result<(), SpecError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let starts_well = self.name.starts_with(|c: char| c.is_ascii_lowercase());
        if !starts_well || self.name.len() > NAME_LIMIT || !self.name.chars().all(plain) {
            return Err(SpecError::Name(self.name.clone()));
        }
        for network in &self.network {
            let (longest, example) = match network {
                IpNet::V4(_) => (24, "a /24 such as 192.168.56.0/24"),
                IpNet::V6(_) => (112, "a /64 such as fd00:192:168:56::/64"),
            };
            if network.prefix_len() > longest {
                return Err(SpecError::Network(*network, example));
            }
        }
        // Two digits: a third would not fit into the name of a bridge port.
        let most = 99;
        if self.nodes == 0 || self.nodes > most {
            return Err(SpecError::Nodes(self.nodes, most));
        }
        if self.uplink && self.network_v4().is_none() {
            return Err(SpecError::Uplink);
        }
        let ranges: Vec<IpNet> = self.network.iter().copied().chain(self.ranges.all()).collect();
        for (i, a) in ranges.iter().enumerate() {
            if let Some(b) = ranges[i + 1..].iter().find(|b| overlap(a, b)) {
                return Err(SpecError::Overlap(*a, *b));
            }
        }
        Ok(())
    }

    /// The lab bridge in the machine's own namespace.
    #[must_use]
    pub fn bridge(&self) -> String {
        format!("mini-{}", self.name)
    }

    /// The machine's own addresses on the lab bridge.
    #[must_use]
    pub fn machine_addresses(&self) -> Vec<IpNet> {
        self.at(MACHINE)
    }

    /// All hosts: nodes, client, internet.
    #[must_use]
    pub fn hosts(&self) -> Vec<Host> {
        let mut hosts: Vec<Host> = (1..=self.nodes)
            .map(|n| {
                self.host(&format!("node-{n}"), Role::Node, FIRST_NODE + n - 1, &format!("n{n}"))
            })
            .collect();
        hosts.push(self.host("client", Role::Client, CLIENT, "cl"));
        hosts.push(self.internet());
        hosts
    }

    /// The host outside, where the nodes' default route leads.
    #[must_use]
    pub fn internet(&self) -> Host {
        self.host("internet", Role::Internet, INTERNET, "in")
    }

    /// The hosts that run pods.
    #[must_use]
    pub fn node_hosts(&self) -> Vec<Host> {
        self.hosts().into_iter().filter(|host| host.role == Role::Node).collect()
    }

    /// A host by name.
    ///
    /// # Errors
    /// [`SpecError::Host`], naming the hosts there are.
    pub fn host_named(&self, name: &str) -> Result<Host, SpecError> {
        let hosts = self.hosts();
        hosts.iter().find(|host| host.name == name).cloned().ok_or_else(|| SpecError::Host {
            lab: self.name.clone(),
            host: name.to_owned(),
            hosts: hosts.iter().map(|host| host.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }

    /// Where nodes reach the API server.
    #[must_use]
    pub fn api_address(&self) -> SocketAddr {
        SocketAddr::new(self.hosts()[0].address(), API_PORT)
    }

    /// The default gateways of the nodes: the `internet` host.
    #[must_use]
    pub fn gateways(&self) -> Vec<IpAddr> {
        self.at(INTERNET).iter().map(IpNet::addr).collect()
    }

    /// The ranges of addresses for LoadBalancer Services, as an AddressPool has them.
    #[must_use]
    pub fn pool(&self) -> Vec<String> {
        let ends = self.at(POOL.0).into_iter().zip(self.at(POOL.1));
        ends.map(|(first, last)| format!("{}-{}", first.addr(), last.addr())).collect()
    }

    /// The node network of the IPv4 family.
    #[must_use]
    pub fn network_v4(&self) -> Option<Ipv4Net> {
        self.network.iter().find_map(|network| match network {
            IpNet::V4(network) => Some(*network),
            IpNet::V6(_) => None,
        })
    }

    fn host(&self, name: &str, role: Role, number: u32, short: &str) -> Host {
        Host {
            name: name.to_owned(),
            role,
            addresses: self.at(number),
            namespace: format!("{}-{name}", self.name),
            port: format!("{}-{short}", self.name),
        }
    }

    /// The addresses of a host's number. In IPv6 its decimal digits are read as hexadecimal ones,
    /// so that both end alike: 192.168.56.70 and `fd00:192:168:56::70`.
    fn at(&self, number: u32) -> Vec<IpNet> {
        let addresses = self.network.iter().filter_map(|network| {
            let number = match network {
                IpNet::V4(_) => number.into(),
                IpNet::V6(_) => families::digits(number),
            };
            IpNet::new(nth_address(*network, number)?, network.prefix_len()).ok()
        });
        addresses.collect()
    }
}

/// Whether two networks share an address.
#[must_use]
pub fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// The networks of the machine that a cluster's ranges would clash with, as (range, existing one).
#[must_use]
pub fn clashes(wanted: &[IpNet], present: &[IpNet]) -> Vec<(IpNet, IpNet)> {
    wanted.iter().flat_map(|w| present.iter().filter(|p| overlap(w, p)).map(|p| (*w, *p))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn lab(nodes: u32) -> LabSpec {
        LabSpec {
            name: "lab".to_owned(),
            nodes,
            network: vec![net("192.168.56.0/24"), net("fd00:192:168:56::/64")],
            ranges: Ranges {
                cluster: vec![net("10.244.0.0/16"), net("fd00:10:244::/56")],
                service: vec![net("10.96.0.0/12"), net("fd00:10:96::/112")],
            },
            dataplane: Dataplane::Auto,
            uplink: false,
            load_balancer: LoadBalancer::Pool,
        }
    }

    #[test]
    fn nodes_have_the_addresses_of_the_course() {
        let hosts = lab(4).hosts();
        let nodes: Vec<String> = hosts[..4].iter().map(|h| h.address().to_string()).collect();
        assert_eq!(nodes, ["192.168.56.70", "192.168.56.71", "192.168.56.72", "192.168.56.73"]);
        assert_eq!(lab(4).api_address().to_string(), "192.168.56.70:6443");
        assert_eq!(hosts[0].namespace, "lab-node-1");
        assert_eq!(hosts[0].address_list(), "192.168.56.70,fd00:192:168:56::70");
        assert_eq!(hosts[5].address_list(), "192.168.56.254,fd00:192:168:56::254");
    }

    #[test]
    fn a_lab_of_before_there_were_two_families_can_be_read() {
        let old = r#"{"name":"old","nodes":1,"network":"192.168.56.0/24",
            "ranges":{"cluster":"10.244.0.0/16","service":"10.96.0.0/12"},
            "dataplane":"auto","uplink":false}"#;
        let old: LabSpec = serde_json::from_str(old).unwrap();
        assert_eq!(old.network, [net("192.168.56.0/24")]);
        assert_eq!(old.ranges.all().count(), 2);
        assert_eq!(old.load_balancer, LoadBalancer::Pool);
        let new: LabSpec = serde_json::from_value(serde_json::to_value(lab(2)).unwrap()).unwrap();
        assert_eq!(new, lab(2));
    }

    #[test]
    fn every_host_of_the_largest_lab_has_an_address_of_its_own() {
        let hosts = lab(99).hosts();
        let mut all: Vec<IpNet> = hosts.iter().flat_map(|host| host.addresses.clone()).collect();
        assert_eq!(all.len(), 2 * 101);
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 2 * 101);
    }

    #[test]
    fn no_host_of_the_largest_lab_has_an_address_of_the_pool() {
        let spec = lab(99);
        let pool = ["192.168.56.200-192.168.56.249", "fd00:192:168:56::200-fd00:192:168:56::249"];
        assert_eq!(spec.pool(), pool);
        let ends =
            |(a, b): (&str, &str)| -> (IpAddr, IpAddr) { (a.parse().unwrap(), b.parse().unwrap()) };
        let ranges = pool.map(|range| ends(range.split_once('-').unwrap()));
        let machine = spec.machine_addresses();
        let hosts: Vec<IpNet> = spec.hosts().into_iter().flat_map(|host| host.addresses).collect();
        for taken in hosts.iter().chain(&machine).map(IpNet::addr) {
            assert!(
                ranges.iter().all(|(first, last)| !(*first..=*last).contains(&taken)),
                "{taken}"
            );
        }
    }

    #[test]
    fn link_names_fit_the_kernel_even_for_the_longest_lab() {
        let mut spec = lab(99);
        spec.name = "abcdefghij".to_owned();
        assert_eq!(spec.validate(), Ok(()));
        assert!(spec.bridge().len() <= 15);
        // One character more: the name of the other end while it travels.
        assert!(spec.hosts().iter().all(|host| host.port.len() <= 14));
    }

    #[test]
    fn bad_wishes_are_named() {
        for name in ["", "Lab", "1st", "a_b", "abcdefghijk"] {
            let mut spec = lab(1);
            spec.name = name.to_owned();
            assert_eq!(spec.validate(), Err(SpecError::Name(name.to_owned())));
        }
        assert_eq!(lab(0).validate(), Err(SpecError::Nodes(0, 99)));
        assert_eq!(lab(100).validate(), Err(SpecError::Nodes(100, 99)));
        let mut spec = lab(1);
        spec.network = vec![net("10.100.0.0/24")];
        assert_eq!(
            spec.validate(),
            Err(SpecError::Overlap(net("10.100.0.0/24"), net("10.96.0.0/12")))
        );
        spec.network = vec![net("192.168.56.0/28")];
        assert_eq!(
            spec.validate().unwrap_err().to_string(),
            "--network 192.168.56.0/28 is too small: use a /24 such as 192.168.56.0/24"
        );
        spec.network = vec![net("fd00:192:168:56::/120")];
        assert_eq!(
            spec.validate().unwrap_err().to_string(),
            "--network fd00:192:168:56::/120 is too small: use a /64 such as fd00:192:168:56::/64"
        );
        spec.network = vec![net("fd00:192:168:56::/64")];
        assert_eq!(spec.validate(), Ok(()));
        spec.uplink = true;
        assert_eq!(spec.validate(), Err(SpecError::Uplink));
    }

    #[test]
    fn an_unknown_host_is_answered_with_the_known_ones() {
        let error = lab(2).host_named("node-3").unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"lab lab has no host "node-3": its hosts are node-1, node-2, client, internet"#
        );
    }

    #[test]
    fn clashes_name_both_sides() {
        let present = [net("192.168.0.0/16"), net("172.17.0.0/16")];
        assert_eq!(
            clashes(&[net("192.168.56.0/24"), net("10.96.0.0/12")], &present),
            vec![(net("192.168.56.0/24"), net("192.168.0.0/16"))]
        );
    }
}
