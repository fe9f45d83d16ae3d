//! The zone, shared by those who change it and those who read it.
//!
//! Invariant: whoever reads the generation before the zone knows when what was read is out of date.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use crate::zone::Zone;

/// A zone that changes.
#[derive(Debug)]
pub(crate) struct Book {
    zone: RwLock<Zone>,
    generation: AtomicU64,
}

impl Book {
    pub(crate) fn new(zone: Zone) -> Self {
        Self { zone: RwLock::new(zone), generation: AtomicU64::new(0) }
    }

    /// Goes up with each change.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Zone> {
        self.zone.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the zone; `change` says whether it did.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Zone) -> bool) {
        let mut zone = self.zone.write().unwrap_or_else(PoisonError::into_inner);
        if change(&mut zone) {
            self.generation.fetch_add(1, Ordering::Release);
        }
    }
}
