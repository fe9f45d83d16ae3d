//! The gRPC contract between the API server and the agents; see `node.proto` for who dials whom.
//! Generated code only: no logic lives here.

#![expect(missing_docs, reason = "generated from node.proto, which carries the comments")]
#![expect(clippy::too_many_lines, reason = "generated")]

/// Version 1 of the contract.
pub mod v1 {
    tonic::include_proto!("minictl.node.v1");
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
