//! Which remembered connections and clients lead nowhere any more.
//!
//! UDP has no end of connection: a client that keeps sending keeps its translation alive, to a
//! backend that is gone. TCP finds out by itself and is never touched.

use std::collections::BTreeSet;

use crate::address::{Backend, Frontend, Protocol};
use crate::dataplane::Dataplane;

/// A connection as the kernel remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// Where the client sent it.
    pub to: Frontend,
    /// Who answers it.
    pub answered_by: Backend,
}

/// Must this connection be forgotten? `ours` are frontends that no longer exist but did.
#[must_use]
pub fn is_stale(flow: &Flow, plane: &Dataplane, ours: &BTreeSet<Frontend>) -> bool {
    if flow.to.protocol != Protocol::Udp {
        return false;
    }
    let known = plane.get(&flow.to).is_some() || ours.contains(&flow.to);
    known && !plane.serves(&flow.to, &flow.answered_by)
}

/// Must it be forgotten that a client of this frontend keeps this backend?
#[must_use]
pub fn is_stale_affinity(frontend: &Frontend, backend: &Backend, plane: &Dataplane) -> bool {
    let sticky = plane.get(frontend).is_some_and(|s| s.affinity_seconds.is_some());
    !sticky || !plane.serves(frontend, backend)
}
