//! The gRPC contracts: between the API server and the agents (`node.proto`), and between netd and
//! who asks about its data plane (`dataplane.proto`); the files say who dials whom.
//! Generated code only: no logic lives here.

#![expect(missing_docs, reason = "generated from the .proto files, which carry the comments")]
#![expect(clippy::too_many_lines, reason = "generated")]

/// Version 1 of the contract with agents.
pub mod v1 {
    tonic::include_proto!("minictl.node.v1");
}

/// Version 1 of what netd tells.
pub mod dataplane {
    tonic::include_proto!("minictl.dataplane.v1");
}

/// Version 1 of what a node knows of a LoadBalancer address.
pub mod lb {
    tonic::include_proto!("minictl.lb.v1");
}

/// Version 1 of what a node's name server tells.
pub mod dns {
    tonic::include_proto!("minictl.dns.v1");
}

/// The token of the HTTP upgrade with which an agent offers its services.
pub const TUNNEL_PROTOCOL: &str = "minictl-node";

/// The path an agent upgrades on.
///
/// # Examples
/// `tunnel_path("node-1")` is `/minictl.io/v1/nodes/node-1/tunnel`.
#[must_use]
pub fn tunnel_path(node: &str) -> String {
    format!("/minictl.io/v1/nodes/{node}/tunnel")
}

/// The path where the API server answers for the data plane of a node; `question` is `status`,
/// `dump`, `diff` or `trace`.
///
/// # Examples
/// `dataplane_path("node-1", "diff")` is `/minictl.io/v1/nodes/node-1/dataplane/diff`.
#[must_use]
pub fn dataplane_path(node: &str, question: &str) -> String {
    format!("/minictl.io/v1/nodes/{node}/dataplane/{question}")
}

/// The path where the API server answers what a node knows of a LoadBalancer address, which is named
/// by the parameter `address`.
///
/// # Examples
/// `load_balancer_path("node-1")` is `/minictl.io/v1/nodes/node-1/lb/check`.
#[must_use]
pub fn load_balancer_path(node: &str) -> String {
    format!("/minictl.io/v1/nodes/{node}/lb/check")
}

/// The path where the API server answers for the name server of a node; `question` is `log` or
/// `trace`.
///
/// # Examples
/// `dns_path("node-1", "log")` is `/minictl.io/v1/nodes/node-1/dns/log`.
#[must_use]
pub fn dns_path(node: &str, question: &str) -> String {
    format!("/minictl.io/v1/nodes/{node}/dns/{question}")
}
