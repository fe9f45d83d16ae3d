//! The controllers: what turns wishes in the API into further objects in the API.
//!
//! Owns: deployment, replica set, scheduler, endpoint slices and endpoints, service CIDRs, load
//! balancers, the status of Ingresses, node lifecycle, garbage collector, pod garbage collector,
//! namespaces and what every namespace holds.
//! Input: one list and one watch per kind, through a [`kube::Client`]. Output: writes through the
//! same client. Nothing here knows how the client reaches the API server: the same code runs on
//! the in-process router, over TLS, and on the fake API of the tests.
//!
//! How a controller is built: a [`cache`] per kind is filled by its [`reflector`]; a change puts
//! keys into a controller's [`queue`]; a [`worker`] takes a key, gathers the objects, calls the
//! controller's pure `plan` and executes the [`write::Write`]s it returns. A plan never does I/O
//! and never reads a clock: `now` is an argument.
//!
//! Invariants: level-triggered (an event only says "look again"); nothing acts before all its
//! inputs were listed once; a controller always sees its own writes (see [`cache`]).
//! Deliberately not here: HTTP words, storage, validation, allocation of addresses.

mod api;
mod cache;
mod census;
mod clock;
mod controllers;
mod deployment;
mod endpoints;
mod endpointslice;
mod event;
mod garbage;
mod ingress;
mod loadbalancer;
mod meta;
mod mirroring;
mod namespace;
mod nodelifecycle;
mod pod;
mod podgc;
mod provision;
mod quantity;
mod queue;
mod reflector;
mod replicaset;
mod scheduler;
mod selector;
mod servicecidr;
mod view;
mod words;
mod worker;
mod write;

#[cfg(test)]
mod fake;

pub use controllers::{Config, Error, ResourceId, run};
