//! The API server from outside: kube-rs as an independent client, kubectl where one is there, and a
//! made-up agent at the far end of a tunnel. Everything runs on loopback, in folders of its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod addresses;
mod agent;
mod auth;
mod backends;
mod balancers;
mod dataplane;
mod deletes;
mod discovery;
mod dns;
mod harness;
mod kubectl;
mod objects;
mod proxy;
mod services;
mod streams;
mod watches;
