//! Handing out addresses, ports and ranges, without a repair loop: each is a key that is written in
//! the transaction of the object that owns it.
//!
//! Planners are pure: they look into a snapshot, draw, and return checks and writes. Somebody else
//! drawing the same meanwhile fails the check, and the pipeline plans again.

pub(crate) mod balancer;
pub(crate) mod cluster_ip;
pub(crate) mod node_port;
pub(crate) mod pod_range;
pub(crate) mod service;

use rand::RngExt as _;
use store::{Check, Op, Txn};

use crate::key;

/// A range of numbers of which the lower part is left to explicit requests while the upper part
/// has room (KEP-3070 for addresses, KEP-3668 for ports).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bands {
    /// How many numbers there are, counted from 0.
    pub(crate) size: u64,
    /// How many of them are left to explicit requests.
    pub(crate) reserved: u64,
}

impl Bands {
    /// A free number: a random one above the reserved band, else a random one inside it. `None`
    /// when everything is taken. `random` draws from `0..bound`.
    pub(crate) fn draw(
        self,
        taken: impl Fn(u64) -> bool,
        mut random: impl FnMut(u64) -> u64,
    ) -> Option<u64> {
        let mut within = |first: u64, size: u64| {
            if size == 0 {
                return None;
            }
            let start = random(size);
            (0..size).map(|step| first + (start + step) % size).find(|n| !taken(*n))
        };
        within(self.reserved, self.size.saturating_sub(self.reserved))
            .or_else(|| within(0, self.reserved.min(self.size)))
    }
}

/// A random number below `bound`.
pub(crate) fn random(bound: u64) -> u64 {
    rand::rng().random_range(0..bound.max(1))
}

/// Takes an item of a pool for an owner: it must be free when the transaction commits.
pub(crate) fn take(txn: &mut Txn, pool: &str, item: &str, owner: &str) {
    let key = key::allocation(pool, item);
    txn.checks.push(Check::Absent(key.clone()));
    txn.ops.push(Op::Put { key, value: owner.to_owned().into(), stamp: None });
}

/// Gives an item back.
pub(crate) fn give_back(pool: &str, item: &str) -> Op {
    Op::Delete { key: key::allocation(pool, item), last: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_upper_band_goes_first_and_the_reserved_one_last() {
        let bands = Bands { size: 10, reserved: 4 };
        let mut taken = BTreeSet::new();
        for round in 0..10 {
            let n = bands.draw(|n| taken.contains(&n), random).unwrap();
            assert_eq!(n >= 4, round < 6, "round {round} drew {n}");
            assert!(taken.insert(n));
        }
        assert_eq!(bands.draw(|n| taken.contains(&n), random), None);
    }

    proptest! {
        #[test]
        fn a_drawn_number_is_free_and_in_range(
            size in 0u64..200,
            reserved in 0u64..250,
            taken in proptest::collection::btree_set(0u64..200, 0..200),
            start in any::<u64>(),
        ) {
            let bands = Bands { size, reserved };
            let drawn = bands.draw(|n| taken.contains(&n), |bound| start % bound);
            match drawn {
                Some(n) => prop_assert!(n < size && !taken.contains(&n)),
                None => prop_assert!((0..size).all(|n| taken.contains(&n))),
            }
        }
    }
}
