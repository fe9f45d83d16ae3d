//! Network namespaces pinned to paths, and the links between them.
//!
//! Owns: making and removing pinned namespaces ([`namespace`]), an rtnetlink handle that lives in a
//! namespace with the handful of verbs that the agent and the lab need ([`links`]), what it sees
//! there ([`look`]) and when to look again ([`monitor`]), and counting in address ranges ([`range`]).
//! Invariants: no thread that runs other code ever changes its namespace; a socket stays in the
//! namespace it was made in, so only the `socket()` call is made there, on a thread of its own.
//! Deliberately not here: which links and addresses there should be, iptables or nftables.

pub mod links;
pub mod look;
pub mod monitor;
pub mod namespace;
pub mod range;

pub use links::{LinkError, Links, Route, Veth};
pub use look::{Link, RouteSeen};
pub use monitor::Monitor;
pub use namespace::{Kind, Namespace, NamespaceError, pin};
