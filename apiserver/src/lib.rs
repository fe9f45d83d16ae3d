//! The API server: Kubernetes' API over TLS, driven by the resource table, on the store.
//!
//! A request goes decode ► default ► admit ► validate ► `store.commit` ► encode; module `http` leads
//! it through, `verbs` knows what each verb means, `watch` streams changes, `stream` leads exec,
//! logs and port-forward to the agents. Inputs: requests, and the agents' tunnels. Outputs:
//! responses; nothing but this crate writes the store.
//! Architecture invariant: a kind is known by its row in the table and its strategy (crate
//! `resources`); only admission and bootstrap name kinds here.
//! Deliberately not here: controllers, agents, the data plane, process set-up.

mod admit;
mod allocate;
mod api;
mod authn;
mod authz;
mod boot;
mod discovery;
mod http;
mod incoming;
mod key;
mod openapi;
mod present;
mod review;
mod selection;
mod server;
mod status;
mod stored;
mod stream;
mod tls;
mod verbs;
mod watch;

pub use api::Features;
pub use authn::User;
pub use server::{Config, ServeError, Server, StartError};
