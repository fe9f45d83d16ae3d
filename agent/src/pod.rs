//! The life of pods on this node.
//!
//! Flow: one watch of this node's pods feeds one worker task per pod; a worker observes, plans
//! ([`plan`], pure), executes, reports ([`status`], pure) and waits. Invariants: workers share
//! nothing but the address pool; what a worker must not forget is in its [`record`].

mod backoff;
mod facts;
#[cfg(test)]
mod fixture;
mod plan;
mod record;
mod status;
