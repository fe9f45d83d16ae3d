//! Clusters on one machine: a lab of network namespaces, or the machine itself as the only node.
//!
//! Owns: the hosts' namespaces and links, containerd, the supervisor that keeps the control plane
//! and the nodes running, what nodes find outside ([`internet`]), the course images, and leaving
//! nothing behind.
//! Flow: [`spec`] (what is wanted, pure) → [`plan`] (which processes, pure) → [`network`] and
//! [`supervise`] (carry it out) → [`status`] (look) → [`down`] (undo).
//! Invariants: everything of a cluster lives in its state folder, its namespaces, its bridge and
//! its cgroup; whatever can be removed is found from the spec and the kernel, never from memory of
//! a process, so that `down` works after a crash, too.
//! Deliberately not here: the control plane, the agent and netd (they are processes of this same
//! binary), and anything that prints.

pub mod containerd;
pub mod down;
pub mod exec;
pub mod images;
pub mod internet;
pub mod network;
pub mod paths;
pub mod plan;
pub mod preflight;
pub mod spec;
pub mod status;
pub mod supervise;
pub mod up;
mod uplink;

/// Takes what happens while a cluster starts, a line at a time.
pub trait Progress: Send + Sync {
    /// Something began or ended, in words for a person.
    fn step(&self, text: &str);
}
