//! Which node announces an address: a pure function of who offers to.
//!
//! Rendezvous hashing: every candidate gets a number from its name and the address, and the highest
//! wins. Nodes that hear the same candidates agree without talking about it; addresses spread over
//! the nodes; and when a node goes, only its own addresses move.

use std::net::IpAddr;

use crate::frame::beat::Grade;

/// The winner among candidates of the best grade that there is.
pub fn elect<'a>(
    address: IpAddr,
    candidates: impl IntoIterator<Item = (&'a str, Grade)>,
) -> Option<&'a str> {
    let rank = |(name, grade): &(&'a str, Grade)| {
        // Names decide between equal numbers, so that all nodes see the same winner.
        (std::cmp::Reverse(*grade), score(address, name), *name)
    };
    candidates.into_iter().max_by_key(rank).map(|(name, _)| name)
}

/// FNV-1a over name and address, then splitmix64's finish: FNV alone leaves names that differ in
/// their last letter close together. Part of the protocol: all nodes must compute the same.
fn score(address: IpAddr, name: &str) -> u64 {
    let mut hash = fnv(0xcbf2_9ce4_8422_2325, name.as_bytes());
    hash = match address {
        IpAddr::V4(address) => fnv(hash, &address.octets()),
        IpAddr::V6(address) => fnv(hash, &address.octets()),
    };
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// A number for a text, the same on every node.
#[must_use]
pub fn number_of(text: &str) -> u64 {
    fnv(0xcbf2_9ce4_8422_2325, text.as_bytes())
}

fn fnv(start: u64, bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn names(count: usize) -> Vec<String> {
        (1..=count).map(|n| format!("node-{n}")).collect()
    }

    fn winner(address: IpAddr, names: &[String]) -> Option<&str> {
        elect(address, names.iter().map(|name| (name.as_str(), Grade::Full)))
    }

    fn pool() -> impl Iterator<Item = IpAddr> {
        (0..=255).map(|n| Ipv4Addr::new(192, 168, 56, n).into())
    }

    /// A node of another build must come to the same result.
    #[test]
    fn the_numbers_never_change() {
        let three = names(3);
        let won = |address: &str| winner(address.parse().unwrap(), &three).unwrap().to_owned();
        let winners = ["192.168.56.200", "192.168.56.201", "192.168.56.202", "fd00::200"].map(won);
        assert_eq!(winners, ["node-2", "node-1", "node-3", "node-3"]);
    }

    #[test]
    fn addresses_spread_over_the_nodes() {
        let three = names(3);
        let mut won: BTreeMap<&str, usize> = BTreeMap::new();
        pool().for_each(|address| *won.entry(winner(address, &three).unwrap()).or_default() += 1);
        assert!(won.values().all(|count| (60..=110).contains(count)), "{won:?}");
    }

    #[test]
    fn when_a_node_goes_only_its_addresses_move() {
        let four = names(4);
        let three = names(3);
        for address in pool() {
            let before = winner(address, &four).unwrap();
            if before != "node-4" {
                assert_eq!(winner(address, &three), Some(before), "{address}");
            }
        }
    }

    #[test]
    fn a_reserve_wins_only_among_reserves() {
        for address in pool() {
            let candidates = [("node-1", Grade::Reserve), ("node-2", Grade::Full)];
            assert_eq!(elect(address, candidates), Some("node-2"));
        }
        let address = Ipv4Addr::new(10, 0, 0, 1).into();
        assert_eq!(elect(address, [("node-1", Grade::Reserve)]), Some("node-1"));
        assert_eq!(elect(address, []), None);
    }

    proptest! {
        #[test]
        fn the_order_in_which_nodes_are_heard_does_not_matter(
            address in any::<IpAddr>(),
            mut candidates in proptest::collection::vec(("[a-z]{1,4}", any::<bool>()), 0..8),
        ) {
            let elected = |list: &[(String, bool)]| {
                let graded = list.iter().map(|(name, full)| {
                    (name.as_str(), if *full { Grade::Full } else { Grade::Reserve })
                });
                elect(address, graded).map(str::to_owned)
            };
            let first = elected(&candidates);
            candidates.reverse();
            prop_assert_eq!(first, elected(&candidates));
        }
    }
}
