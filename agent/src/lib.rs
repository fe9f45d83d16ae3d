//! The node agent: what kubelet is in Kubernetes.
//!
//! Owns: the pods of one node. Inputs: the node's pods from the API, containerd, the kernel.
//! Outputs: running containers, the pods' and the node's status, logs, exec and port-forward
//! through a tunnel that the agent dials. Invariants: containers outlive the agent; nothing is
//! decided outside of pure functions (`pod/plan.rs`, `status.rs`, `spec.rs`, `env.rs`); every file,
//! mount, cgroup and container lies under names of our own. Deliberately not here: Services
//! (netd), the API (apiserver).

mod agent;
mod config;
mod downward;
mod env;
mod image;
mod log;
mod node;
mod pod;
mod probe;
mod quantity;
mod recorder;
mod remove;
mod runtime;
mod sandbox;
mod spec;
mod streams;
mod tunnel;
mod volumes;

pub use agent::{AgentError, run};
pub use config::Config;
pub use image::{ImageError, import_image};
pub use log::pod_log;
pub use node::follow_addresses;
pub use remove::{Leftovers, RemoveError, remove_all};
pub use runtime::RuntimeError;
pub use sandbox::SandboxError;

/// An error with all of its causes on one line, for logs and statuses.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
