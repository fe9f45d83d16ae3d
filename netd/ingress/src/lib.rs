//! Ingress: HTTP routing by host and path, and the proxy that does it on a node.
//!
//! The pure half: [`objects`] (what the cluster says, lean) → [`routes`] → [`table`] (who answers
//! for a host and a path), [`request`] and [`headers`] (what may pass, and how), [`refusal`] (pages
//! that say why not), [`certificates`] (which key for which name).
//! The half that does it: [`Proxy`] starts one worker for each core. A worker is a thread with its
//! own sockets, its own connections to backends and nothing shared but the table, which is read
//! without a lock; so a request never leaves its core.
//!
//! Endpoints come straight from `EndpointSlice`s: a request goes from here to a pod, not through a
//! Service's address. Invariants: a new table or certificate ends no connection; bodies are
//! never gathered; nothing that a client sent is trusted. Deliberately not here: watches, and what
//! Ingresses' status says.

mod backend;
mod body;
pub mod certificates;
mod connection;
mod fast;
mod forward;
mod gathered;
pub mod headers;
mod limits;
mod metrics;
pub mod objects;
mod pool;
mod proxy;
pub mod refusal;
pub mod request;
mod rewound;
pub mod routes;
pub mod table;
mod tunnel;
mod worker;

pub use backend::Names;
pub use proxy::{Counters, Door, Proxy, StartError};
