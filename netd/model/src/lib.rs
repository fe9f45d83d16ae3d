//! The data plane as a value: what Kubernetes Services mean for one node's kernel.
//!
//! Pure. A [`snapshot::Snapshot`] of the cluster becomes a [`dataplane::Dataplane`] (no engine's
//! words), which becomes the state of an engine ([`nft::State`] or [`ipvs::State`]), which is
//! compared with what the kernel has, which gives operations. [`nft::walk::walk`] and
//! [`ipvs::walk`] tell what becomes of a packet, from the same state that is sent to the kernel.
//! Deliberately not here: I/O, clocks, threads.

pub mod address;
#[cfg(any(test, feature = "testing"))]
pub mod cases;
pub mod conntrack;
pub mod dataplane;
pub mod foreign;
pub mod handover;
pub mod inspect;
pub mod ipvs;
pub mod nft;
pub mod packet;
pub mod problem;
pub mod repair;
pub mod route;
pub mod service;
pub mod snapshot;
pub mod trace;

#[cfg(test)]
mod tests;
