//! Addresses of pods: a pure pool over the node's pod CIDR.
//!
//! Invariants: never the network's own address, the gateway (the first one) or the broadcast
//! address; an address that was given back is used again only after all others, so that peers'
//! caches have forgotten it.

use std::{collections::HashSet, net::IpAddr};

use ipnet::IpNet;

/// The pool. It is rebuilt from the pods' records when the agent starts.
#[derive(Debug)]
pub(crate) struct AddressPool {
    cidr: IpNet,
    used: HashSet<IpAddr>,
    last: Option<IpAddr>,
}

impl AddressPool {
    /// A pool without used addresses; allocation goes on after `last`.
    pub(crate) fn new(cidr: IpNet, last: Option<IpAddr>) -> Self {
        Self { cidr, used: HashSet::new(), last: last.filter(|last| cidr.contains(last)) }
    }

    /// The network.
    pub(crate) fn cidr(&self) -> IpNet {
        self.cidr
    }

    /// Marks an address as used.
    pub(crate) fn reserve(&mut self, address: IpAddr) {
        self.used.insert(address);
    }

    /// Takes the next free address after the one taken last.
    pub(crate) fn allocate(&mut self) -> Option<IpAddr> {
        let gateway = gateway(self.cidr);
        let free = |address: &IpAddr| Some(*address) != gateway && !self.used.contains(address);
        let last = self.last;
        let after = self.cidr.hosts().skip_while(|address| last.is_some_and(|l| *address <= l));
        let address = after.chain(self.cidr.hosts()).find(free)?;
        self.used.insert(address);
        self.last = Some(address);
        Some(address)
    }

    /// Gives an address back.
    pub(crate) fn release(&mut self, address: IpAddr) {
        self.used.remove(&address);
    }
}

/// The gateway of a pod CIDR: its first address.
pub(crate) fn gateway(cidr: IpNet) -> Option<IpAddr> {
    cidr.hosts().next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 244, 1, last])
    }

    fn pool(cidr: &str) -> AddressPool {
        AddressPool::new(cidr.parse().unwrap(), None)
    }

    #[test]
    fn network_gateway_and_broadcast_are_never_given() {
        let mut pool = pool("10.244.1.0/29");
        let given: Vec<_> = std::iter::from_fn(|| pool.allocate()).collect();
        assert_eq!(given, (2..=6).map(ip).collect::<Vec<_>>());
    }

    #[test]
    fn an_address_comes_back_only_after_all_others() {
        let mut pool = pool("10.244.1.0/29");
        let first = pool.allocate().unwrap();
        pool.release(first);
        let next: Vec<_> = std::iter::from_fn(|| pool.allocate()).collect();
        assert_eq!(next, [3, 4, 5, 6, 2].map(ip));
    }

    #[test]
    fn a_restart_goes_on_where_it_stopped() {
        let mut pool = AddressPool::new("10.244.1.0/29".parse().unwrap(), Some(ip(4)));
        pool.reserve(ip(5));
        assert_eq!(pool.allocate(), Some(ip(6)));
        assert_eq!(pool.allocate(), Some(ip(2)));
    }

    proptest! {
        #[test]
        fn no_two_pods_have_one_address(ops in prop::collection::vec(any::<bool>(), 0..200)) {
            let mut pool = pool("10.244.1.0/28");
            let mut held: Vec<IpAddr> = Vec::new();
            for take in ops {
                if take {
                    match pool.allocate() {
                        Some(address) => {
                            prop_assert!(!held.contains(&address));
                            held.push(address);
                        }
                        None => prop_assert_eq!(held.len(), 13),
                    }
                } else if !held.is_empty() {
                    pool.release(held.remove(0));
                }
            }
        }
    }
}
