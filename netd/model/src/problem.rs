//! What the data plane cannot honour of a Service, in a sentence for whoever wrote it.
//!
//! One Service's problem never stops the others: what can be served of it is served.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::address::{Backend, Frontend, Protocol};
use crate::service::Owner;

/// Something of a Service that is not as it asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The Service and its port; the port's name is empty when all ports are affected.
    pub owner: Owner,
    /// What, and why.
    pub cause: Cause,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It works as asked; its author should know a consequence.
    Notice,
    /// Something asked for is not there.
    Refused,
}

/// Why something can't be honoured.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Another Service has the same address, protocol and port.
    FrontendTaken {
        /// The frontend both claim.
        frontend: Frontend,
        /// Who has it.
        winner: Owner,
    },
    /// An external address is one of a node: that node's own port is not reachable any more.
    NodeAddress {
        /// The address.
        addr: IpAddr,
        /// The node.
        node: Arc<str>,
    },
    /// An external address lies where pods have theirs, or cluster addresses are given out.
    AddressInRange {
        /// The address.
        addr: IpAddr,
        /// The range.
        range: IpNet,
        /// What the range is for.
        purpose: Purpose,
    },
    /// An external address that no packet can come to from outside.
    SpecialAddress {
        /// The address.
        addr: IpAddr,
        /// What it is.
        sort: Sort,
    },
    /// An endpoint that can't or must not be sent to.
    Endpoint {
        /// The endpoint.
        backend: Backend,
        /// What it is.
        sort: Sort,
    },
    /// No IPVS scheduler has this name.
    UnknownScheduler {
        /// The name asked for.
        name: Arc<str>,
        /// What is used in its place.
        used: Arc<str>,
    },
    /// This kernel does not have the scheduler.
    SchedulerMissing {
        /// The name asked for.
        name: Arc<str>,
        /// What is used in its place.
        used: Arc<str>,
    },
    /// This kernel does not follow connections of the protocol.
    ProtocolMissing(Protocol),
    /// The kernel refused a change.
    Kernel {
        /// What was tried.
        step: String,
        /// What the kernel said.
        error: String,
    },
}

/// What a range of addresses is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Pods.
    Pods,
    /// Services.
    Services,
}

/// Addresses that are no place to send a Service's packets to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sort {
    /// `127.0.0.0/8`, `::1`.
    Loopback,
    /// `169.254.0.0/16`, `fe80::/10`.
    LinkLocal,
    /// A group of hosts.
    Multicast,
    /// `0.0.0.0`, `::`.
    Unspecified,
    /// In a range of cluster addresses: what is sent there would have to be translated twice.
    ClusterAddress,
    /// An API server, which only the Service `default/kubernetes` may have as an endpoint.
    ApiServer,
}

impl Sort {
    /// The sort of an address by itself, if it is one of these.
    #[must_use]
    pub fn of(addr: IpAddr) -> Option<Self> {
        let link_local = match addr {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        let special = |is, sort| if is { Some(sort) } else { None };
        special(addr.is_loopback(), Self::Loopback)
            .or_else(|| special(link_local, Self::LinkLocal))
            .or_else(|| special(addr.is_multicast(), Self::Multicast))
            .or_else(|| special(addr.is_unspecified(), Self::Unspecified))
    }
}

impl fmt::Display for Sort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "a loopback address",
            Self::LinkLocal => "a link-local address",
            Self::Multicast => "a multicast address",
            Self::Unspecified => "the unspecified address",
            Self::ClusterAddress => "the cluster address of a Service",
            Self::ApiServer => "an API server of this cluster",
        })
    }
}

impl Cause {
    /// The reason, in one word as conditions and events have it.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::FrontendTaken { .. } => "FrontendTaken",
            Self::NodeAddress { .. } => "NodeAddress",
            Self::AddressInRange { .. } | Self::SpecialAddress { .. } => "AddressNotAllowed",
            Self::Endpoint { .. } => "EndpointNotAllowed",
            Self::UnknownScheduler { .. } => "UnknownScheduler",
            Self::SchedulerMissing { .. } => "SchedulerNotLoaded",
            Self::ProtocolMissing(_) => "ProtocolNotSupported",
            Self::Kernel { .. } => "KernelRefused",
        }
    }

    /// How bad it is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            Self::NodeAddress { .. } => Severity::Notice,
            _ => Severity::Refused,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FrontendTaken { frontend, winner } => {
                let Frontend { addr, protocol, port } = frontend;
                write!(f, "{addr} port {port}/{protocol} belongs to Service {winner}")
            }
            Self::NodeAddress { addr, node } => write!(
                f,
                "{addr} is an address of node {node}: the Service's ports hide that node's own"
            ),
            Self::AddressInRange { addr, range, purpose } => {
                let whose = match purpose {
                    Purpose::Pods => "the addresses of pods",
                    Purpose::Services => "the addresses that the cluster gives to Services",
                };
                write!(f, "{addr} is in {range}, {whose}, and is not served")
            }
            Self::SpecialAddress { addr, sort } => write!(f, "{addr} is {sort} and is not served"),
            Self::Endpoint { backend, sort } => {
                write!(f, "endpoint {} is {sort} and gets no connections", backend.addr)
            }
            Self::UnknownScheduler { name, used } => {
                write!(f, "IPVS has no scheduler {name:?}; {used} is used")
            }
            Self::SchedulerMissing { name, used } => {
                write!(f, "this kernel does not have the IPVS scheduler {name}; {used} is used")
            }
            Self::ProtocolMissing(protocol) => {
                let name = protocol.to_string().to_uppercase();
                write!(f, "this kernel does not track {name} connections; its ports are not served")
            }
            Self::Kernel { step, error } => write!(f, "{step}: {error}"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.owner, self.cause)
    }
}
