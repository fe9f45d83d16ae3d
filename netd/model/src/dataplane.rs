//! The desired data plane, in no engine's words: every frontend of this node with what happens
//! there, kept up to date Service by Service.
//!
//! Owns which Service wins when two claim one frontend: the one to which the API gave it, else the
//! first by name (the API prevents it for everything but external addresses). Invariant: after any
//! sequence of [`Dataplane::refresh`] calls that covers all changed Services, the value equals
//! [`Dataplane::of`] the same snapshot.
//! Deliberately not here: kernel objects.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::address::{Backend, Frontend, Protocol};
use crate::problem::{Cause, Problem};
use crate::service::{Claims, Kind, Owner, Pool, Rules, VirtualService, api_servers, claims};
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
    frontends: BTreeMap<Frontend, Claim>,
    /// The frontends each Service claims.
    claimed_by: BTreeMap<ServiceName, Box<[Frontend]>>,
    /// Frontends that more than one Service port claims.
    contested: BTreeSet<Frontend>,
    /// What can't be honoured of each Service, conflicts aside.
    problems: BTreeMap<ServiceName, Box<[Problem]>>,
    /// How many claims name each backend of this node.
    local_backends: BTreeMap<IpAddr, usize>,
    /// Where API servers listen: other Services may not have them as endpoints.
    api_servers: BTreeSet<Backend>,
    /// Protocols that this kernel can't translate.
    missing: BTreeSet<Protocol>,
}

/// Who claims a frontend.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Claim {
    winner: Arc<VirtualService>,
    /// In the order in which they would follow.
    losers: Vec<Arc<VirtualService>>,
}

/// Whose claim goes first: that of higher rank, then the first by name.
fn rank(service: &VirtualService) -> (Kind, &Owner) {
    (service.kind, &service.owner)
}

impl Dataplane {
    /// The plane of a whole snapshot.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        Self::default().anew(snapshot)
    }

    /// A plane without Services, for a kernel that can't translate some protocols.
    #[must_use]
    pub fn lacking(missing: BTreeSet<Protocol>) -> Self {
        Self { missing, ..Self::default() }
    }

    /// The plane of a whole snapshot on the same kernel.
    #[must_use]
    pub fn anew(&self, snapshot: &Snapshot) -> Self {
        let mut plane = Self::lacking(self.missing.clone());
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
        let api_servers = api_servers(snapshot);
        if api_servers == self.api_servers {
            services.into_iter().for_each(|name| self.refresh_one(snapshot, name, &mut touched));
        } else {
            // It matters to every Service where the API servers are.
            self.api_servers = api_servers;
            let known: BTreeSet<ServiceName> =
                self.services().chain(snapshot.services.keys()).cloned().collect();
            known.iter().for_each(|name| self.refresh_one(snapshot, name, &mut touched));
        }
        touched
    }

    fn refresh_one(&mut self, snapshot: &Snapshot, name: &ServiceName, touched: &mut Touched) {
        let rules = Rules { snapshot, api_servers: &self.api_servers, missing: &self.missing };
        let wanted = claims(rules, name);
        self.withdraw(name, touched);
        self.claim(name, wanted, touched);
    }

    /// All Services that the plane knows; those that left the snapshot are refreshed by name.
    pub fn services(&self) -> impl Iterator<Item = &ServiceName> {
        self.claimed_by.keys()
    }

    /// What happens at a frontend.
    #[must_use]
    pub fn get(&self, frontend: &Frontend) -> Option<&VirtualService> {
        self.frontends.get(frontend).map(|claim| &*claim.winner)
    }

    /// All frontends with what happens there.
    pub fn iter(&self) -> impl Iterator<Item = (&Frontend, &VirtualService)> {
        self.frontends.iter().map(|(frontend, claim)| (frontend, &*claim.winner))
    }

    /// Claims that lost a frontend to another Service: (frontend, loser, winner).
    pub fn conflicts(&self) -> impl Iterator<Item = (&Frontend, &Owner, &Owner)> {
        self.contested.iter().flat_map(|frontend| {
            let claim = &self.frontends[frontend];
            claim.losers.iter().map(move |loser| (frontend, &loser.owner, &claim.winner.owner))
        })
    }

    /// What can't be honoured of the Services, whatever the engine, by Service.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let taken = self.conflicts().map(|(frontend, loser, winner)| Problem {
            owner: loser.clone(),
            cause: Cause::FrontendTaken { frontend: *frontend, winner: winner.clone() },
        });
        let mut out: Vec<Problem> =
            self.problems.values().flatten().cloned().chain(taken).collect();
        out.sort_unstable();
        out
    }

    /// Does any Service have a frontend at this address?
    #[must_use]
    pub fn is_claimed(&self, addr: IpAddr) -> bool {
        self.frontends.range(Frontend::all_of(addr)).next().is_some()
    }

    /// Does anybody else than a process of this node answer, refuse or drop at this address?
    #[must_use]
    pub fn is_balanced(&self, addr: IpAddr) -> bool {
        self.iter_at(addr).any(|service| !matches!(service.pool, Pool::Node(_)))
    }

    /// The frontends at an address.
    pub fn frontends_at(&self, addr: IpAddr) -> impl Iterator<Item = Frontend> {
        self.frontends.range(Frontend::all_of(addr)).map(|(frontend, _)| *frontend)
    }

    /// What happens at an address, by frontend.
    pub fn iter_at(&self, addr: IpAddr) -> impl Iterator<Item = &VirtualService> {
        self.frontends.range(Frontend::all_of(addr)).map(|(_, claim)| &*claim.winner)
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
        self.problems.remove(name);
        for frontend in self.claimed_by.remove(name).unwrap_or_default() {
            touched.frontends.insert(frontend);
            let Some(claim) = self.frontends.remove(&frontend) else { continue };
            let mut left = Vec::new();
            for service in claim.losers.into_iter().chain([claim.winner]) {
                if service.owner.service != *name {
                    left.push(service);
                    continue;
                }
                for addr in &*service.local {
                    release(&mut self.local_backends, *addr, touched);
                }
            }
            self.contested.remove(&frontend);
            for service in left {
                self.add(frontend, service);
            }
        }
    }

    fn claim(&mut self, name: &ServiceName, wanted: Claims, touched: &mut Touched) {
        if !wanted.problems.is_empty() {
            self.problems.insert(name.clone(), wanted.problems.into());
        }
        if wanted.frontends.is_empty() {
            return;
        }
        self.claimed_by.insert(name.clone(), wanted.frontends.keys().copied().collect());
        for (frontend, service) in wanted.frontends {
            for addr in &*service.local {
                *self.local_backends.entry(*addr).or_default() += 1;
                touched.local_backends.insert(*addr);
            }
            touched.frontends.insert(frontend);
            self.add(frontend, Arc::new(service));
        }
    }

    fn add(&mut self, frontend: Frontend, service: Arc<VirtualService>) {
        match self.frontends.entry(frontend) {
            Entry::Vacant(place) => {
                place.insert(Claim { winner: service, losers: Vec::new() });
            }
            Entry::Occupied(mut place) => {
                let claim = place.get_mut();
                claim.losers.push(service);
                if rank(&claim.losers[claim.losers.len() - 1]) < rank(&claim.winner) {
                    let last = claim.losers.len() - 1;
                    std::mem::swap(&mut claim.losers[last], &mut claim.winner);
                }
                claim.losers.sort_by(|a, b| rank(a).cmp(&rank(b)));
                self.contested.insert(frontend);
            }
        }
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
