//! Addresses of pods: a pure pool over each of the node's pod CIDRs.
//!
//! Invariants: never the network's own address, the gateway (the first one) or the broadcast
//! address; an address that was given back is used again only after all others, so that peers'
//! caches have forgotten it; a pod has an address of each family or none at all.

use std::{collections::HashSet, net::IpAddr};

use ipnet::IpNet;
use netns::range::{last_number, nth_address, number_in};

/// The number of the gateway's address.
const GATEWAY: u128 = 1;
/// The number of the first address that a pod may have.
const FIRST: u128 = GATEWAY + 1;

/// The pools of a node, one of each family. They are rebuilt from the pods' records when the agent
/// starts.
#[derive(Debug)]
pub(crate) struct AddressPools {
    pools: Vec<AddressPool>,
}

impl AddressPools {
    /// Pools without used addresses; allocation goes on after `last`.
    pub(crate) fn new(cidrs: &[IpNet], last: &[IpAddr]) -> Self {
        let pool = |cidr: &IpNet| {
            let last = last.iter().find_map(|address| number_in(*cidr, *address));
            AddressPool { cidr: *cidr, used: HashSet::new(), last: last.unwrap_or(GATEWAY) }
        };
        Self { pools: cidrs.iter().map(pool).collect() }
    }

    /// Marks addresses as used.
    pub(crate) fn reserve(&mut self, addresses: &[IpAddr]) {
        for (pool, number) in self.holding(addresses) {
            pool.used.insert(number);
        }
    }

    /// Takes an address of each family; the error is the range that has none left.
    pub(crate) fn allocate(&mut self) -> Result<Vec<IpAddr>, IpNet> {
        let mut taken = Vec::new();
        for pool in &mut self.pools {
            match pool.allocate() {
                Some(address) => taken.push(address),
                None => {
                    let full = pool.cidr;
                    self.release(&taken);
                    return Err(full);
                }
            }
        }
        Ok(taken)
    }

    /// Gives addresses back.
    pub(crate) fn release(&mut self, addresses: &[IpAddr]) {
        for (pool, number) in self.holding(addresses) {
            pool.used.remove(&number);
        }
    }

    /// The pools of these addresses with the addresses' numbers.
    fn holding(&mut self, addresses: &[IpAddr]) -> impl Iterator<Item = (&mut AddressPool, u128)> {
        self.pools.iter_mut().filter_map(|pool| {
            let number = addresses.iter().find_map(|address| number_in(pool.cidr, *address))?;
            Some((pool, number))
        })
    }
}

/// The pool of one family; addresses are known by their numbers in the range.
#[derive(Debug)]
struct AddressPool {
    cidr: IpNet,
    used: HashSet<u128>,
    last: u128,
}

impl AddressPool {
    /// Takes the next free address after the one taken last.
    fn allocate(&mut self) -> Option<IpAddr> {
        let end = last_number(self.cidr);
        let after = self.last.max(GATEWAY) + 1;
        let number = (after..=end)
            .chain(FIRST..=self.last.min(end))
            .find(|number| !self.used.contains(number))?;
        self.used.insert(number);
        self.last = number;
        nth_address(self.cidr, number)
    }
}

/// The gateway of a pod CIDR: its first address.
pub(crate) fn gateway(cidr: IpNet) -> Option<IpAddr> {
    nth_address(cidr, GATEWAY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 244, 1, last])
    }

    fn pools(cidrs: &[&str]) -> AddressPools {
        let cidrs: Vec<IpNet> = cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect();
        AddressPools::new(&cidrs, &[])
    }

    /// Every address that is left in a pool of one family.
    fn drain(pools: &mut AddressPools) -> Vec<IpAddr> {
        std::iter::from_fn(|| Some(pools.allocate().ok()?[0])).collect()
    }

    #[test]
    fn network_gateway_and_broadcast_are_never_given() {
        let mut pool = pools(&["10.244.1.0/29"]);
        assert_eq!(drain(&mut pool), (2..=6).map(ip).collect::<Vec<_>>());
    }

    #[test]
    fn an_address_comes_back_only_after_all_others() {
        let mut pool = pools(&["10.244.1.0/29"]);
        let first = pool.allocate().unwrap();
        pool.release(&first);
        assert_eq!(drain(&mut pool), [3, 4, 5, 6, 2].map(ip));
    }

    #[test]
    fn a_restart_goes_on_where_it_stopped() {
        let mut pool = AddressPools::new(&["10.244.1.0/29".parse().unwrap()], &[ip(4)]);
        pool.reserve(&[ip(5)]);
        assert_eq!(pool.allocate().unwrap(), [ip(6)]);
        assert_eq!(pool.allocate().unwrap(), [ip(2)]);
    }

    #[test]
    fn a_pod_has_an_address_of_each_family() {
        let mut pool = pools(&["10.244.1.0/29", "fd00:10:244:1::/64"]);
        let given: Vec<String> = pool.allocate().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(given, ["10.244.1.2", "fd00:10:244:1::2"]);
        assert_eq!(
            gateway("fd00:10:244:1::/64".parse().unwrap()).unwrap().to_string(),
            "fd00:10:244:1::1"
        );
    }

    #[test]
    fn where_one_family_is_used_up_the_other_keeps_its_address() {
        let mut pool = pools(&["fd00:10:244:1::/64", "10.244.1.0/30"]);
        let first = pool.allocate().unwrap();
        let full: IpNet = "10.244.1.0/30".parse().unwrap();
        assert_eq!(pool.allocate(), Err(full));
        pool.release(&first);
        assert_eq!(pool.allocate().unwrap()[1], first[1]);
        assert_eq!(pool.pools[0].used.len(), 1, "nothing is held by nobody");
    }

    proptest! {
        #[test]
        fn no_two_pods_have_one_address(ops in prop::collection::vec(any::<bool>(), 0..200)) {
            let mut pool = pools(&["10.244.1.0/28"]);
            let mut held: Vec<IpAddr> = Vec::new();
            for take in ops {
                if take {
                    match pool.allocate() {
                        Ok(addresses) => {
                            prop_assert!(!held.contains(&addresses[0]));
                            held.extend(addresses);
                        }
                        Err(_) => prop_assert_eq!(held.len(), 13),
                    }
                } else if !held.is_empty() {
                    pool.release(&[held.remove(0)]);
                }
            }
        }
    }
}
