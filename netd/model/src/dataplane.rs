//! The desired data plane, in no engine's words: every frontend of this node with what happens
//! there, kept up to date Service by Service.
//!
//! Owns which Service wins when two claim one frontend (the first by name; the API prevents it
//! for everything but external addresses). Invariant: after any sequence of [`Dataplane::refresh`]
//! calls that covers all changed Services, the value equals [`Dataplane::of`] the same snapshot.
//! Deliberately not here: kernel objects.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::address::{Backend, Frontend, Protocol};
use crate::problem::{Cause, Problem};
use crate::service::{Owner, VirtualService, virtual_services};
use crate::snapshot::{ServiceName, Snapshot};

/// Everything that may have changed between two states of the plane, as keys: a superset, because
/// the comparison that counts is made on the engine's own state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Frontends that may have appeared, changed or gone.
    pub frontends: BTreeSet<Frontend>,
    /// Backends of this node that may have appeared or gone.
    pub local_backends: BTreeSet<IpAddr>,
}

impl Touched {
    /// True when nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frontends.is_empty() && self.local_backends.is_empty()
    }
}

/// The desired data plane of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dataplane {
    /// All claims to each frontend; the first one wins.
    claims: BTreeMap<Frontend, BTreeMap<Owner, Arc<VirtualService>>>,
    /// The frontends each Service claims.
    claimed_by: BTreeMap<ServiceName, Vec<Frontend>>,
    /// How many claims name each backend of this node.
    local_backends: BTreeMap<IpAddr, usize>,
}

impl Dataplane {
    /// The plane of a whole snapshot.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut plane = Self::default();
        plane.refresh(snapshot, snapshot.services.keys());
        plane
    }

    /// Recomputes some Services and says what that changed.
    pub fn refresh<'a>(
        &mut self,
        snapshot: &Snapshot,
        services: impl IntoIterator<Item = &'a ServiceName>,
    ) -> Touched {
        let mut touched = Touched::default();
        for name in services {
            let wanted = virtual_services(snapshot, name);
            self.withdraw(name, &mut touched);
            self.claim(name, wanted, &mut touched);
        }
        touched
    }

    /// All Services that the plane knows; those that left the snapshot are refreshed by name.
    pub fn services(&self) -> impl Iterator<Item = &ServiceName> {
        self.claimed_by.keys()
    }

    /// What happens at a frontend.
    #[must_use]
    pub fn get(&self, frontend: &Frontend) -> Option<&VirtualService> {
        self.claims.get(frontend)?.values().next().map(AsRef::as_ref)
    }

    /// All frontends with what happens there.
    pub fn iter(&self) -> impl Iterator<Item = (&Frontend, &VirtualService)> {
        self.claims.iter().filter_map(|(f, claims)| Some((f, claims.values().next()?.as_ref())))
    }

    /// Claims that lost a frontend to another Service: (frontend, loser, winner).
    pub fn conflicts(&self) -> impl Iterator<Item = (&Frontend, &Owner, &Owner)> {
        self.claims.iter().flat_map(|(frontend, claims)| {
            let winner = claims.keys().next();
            claims.keys().skip(1).filter_map(move |loser| Some((frontend, loser, winner?)))
        })
    }

    /// What can't be honoured of the Services: the same on both engines.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        self.conflicts()
            .map(|(frontend, loser, winner)| Problem {
                owner: loser.clone(),
                cause: Cause::FrontendTaken { frontend: *frontend, winner: winner.clone() },
            })
            .collect()
    }

    /// Does any Service have a frontend at this address?
    #[must_use]
    pub fn is_claimed(&self, addr: IpAddr) -> bool {
        let from = Frontend::first_of(addr);
        let to = Frontend { addr, protocol: Protocol::Sctp, port: u16::MAX };
        self.claims.range(from..=to).next().is_some()
    }

    /// Is this backend one of this node's?
    #[must_use]
    pub fn is_local_backend(&self, addr: IpAddr) -> bool {
        self.local_backends.contains_key(&addr)
    }

    /// All backends that run on this node.
    pub fn local_backends(&self) -> impl Iterator<Item = IpAddr> {
        self.local_backends.keys().copied()
    }

    /// Does some client of this frontend still get to this backend?
    #[must_use]
    pub fn serves(&self, frontend: &Frontend, backend: &Backend) -> bool {
        self.get(frontend).is_some_and(|service| {
            service.pool.backends().contains(backend)
                || service.outside.as_ref().is_some_and(|p| p.backends().contains(backend))
        })
    }

    fn withdraw(&mut self, name: &ServiceName, touched: &mut Touched) {
        for frontend in self.claimed_by.remove(name).unwrap_or_default() {
            touched.frontends.insert(frontend);
            let Some(claims) = self.claims.get_mut(&frontend) else { continue };
            claims.retain(|owner, service| {
                if owner.service != *name {
                    return true;
                }
                for addr in &service.local {
                    release(&mut self.local_backends, *addr, touched);
                }
                false
            });
            if claims.is_empty() {
                self.claims.remove(&frontend);
            }
        }
    }

    fn claim(
        &mut self,
        name: &ServiceName,
        wanted: BTreeMap<Frontend, VirtualService>,
        touched: &mut Touched,
    ) {
        if wanted.is_empty() {
            return;
        }
        let mut frontends = Vec::with_capacity(wanted.len());
        for (frontend, service) in wanted {
            for addr in &service.local {
                let count = self.local_backends.entry(*addr).or_default();
                *count += 1;
                touched.local_backends.insert(*addr);
            }
            frontends.push(frontend);
            let claims = self.claims.entry(frontend).or_default();
            claims.insert(service.owner.clone(), Arc::new(service));
            touched.frontends.insert(frontend);
        }
        self.claimed_by.insert(name.clone(), frontends);
    }
}

fn release(counts: &mut BTreeMap<IpAddr, usize>, addr: IpAddr, touched: &mut Touched) {
    touched.local_backends.insert(addr);
    if let Some(count) = counts.get_mut(&addr) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&addr);
        }
    }
}
