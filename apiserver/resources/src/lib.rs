//! What the API serves, as data and pure functions: one row per resource, one strategy per kind.
//!
//! Owns: the resource table, defaulting, validation, warnings, field selectors, printer columns.
//! Inputs: typed objects (k8s-openapi). Outputs: typed objects, [`field::FieldError`]s, table cells.
//! Deliberately not here: HTTP, storage, allocation of addresses, clocks (`now` is an argument).

pub mod address_pool;
pub mod addresses;
pub mod api_server;
pub mod columns;
pub mod duration;
pub mod event;
pub mod families;
pub mod field;
pub mod ingress;
pub mod ingress_class;
pub mod ip_address;
pub mod labels;
pub mod metadata;
pub mod names;
pub mod namespace;
pub mod object;
pub mod ports;
pub mod quantity;
pub mod service;
pub mod service_cidr;
pub mod strategy;
pub mod table;

mod config_map;
mod deployment;
mod endpoint_slice;
mod endpoints;
mod equality;
mod lease;
mod node;
mod omit;
pub mod pod;
mod replica_set;
mod secret;
mod service_account;
mod template;
