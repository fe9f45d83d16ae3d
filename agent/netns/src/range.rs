//! Addresses of a range by their number: pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The address that many after the network's own one; `None` beyond the end of the range.
#[must_use]
pub fn nth_address(range: IpNet, number: u128) -> Option<IpAddr> {
    let address = match range {
        IpNet::V4(net) => {
            let number = u32::try_from(number).ok()?;
            IpAddr::V4(Ipv4Addr::from(u32::from(net.network()).checked_add(number)?))
        }
        IpNet::V6(net) => {
            IpAddr::V6(Ipv6Addr::from(u128::from(net.network()).checked_add(number)?))
        }
    };
    range.contains(&address).then_some(address)
}

/// How many addresses after the network's own one this address is; `None` if it is no part of it.
#[must_use]
pub fn number_in(range: IpNet, address: IpAddr) -> Option<u128> {
    if !range.contains(&address) {
        return None;
    }
    match (range, address) {
        (IpNet::V4(net), IpAddr::V4(address)) => {
            Some(u128::from(u32::from(address) - u32::from(net.network())))
        }
        (IpNet::V6(net), IpAddr::V6(address)) => {
            Some(u128::from(address) - u128::from(net.network()))
        }
        _ => None,
    }
}

/// The number of the range's last address that a host may have: IPv4 keeps the very last one for
/// broadcasts.
#[must_use]
pub fn last_number(range: IpNet) -> u128 {
    let bits = u32::from(range.max_prefix_len() - range.prefix_len());
    let last = 1_u128.checked_shl(bits).map_or(u128::MAX, |size| size - 1);
    match range {
        IpNet::V4(net) if net.prefix_len() < 31 => last - 1,
        _ => last,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_are_counted_from_the_networks_own_in_both_families() {
        assert_eq!(nth_address(range("10.96.0.0/12"), 10), Some(ip("10.96.0.10")));
        assert_eq!(nth_address(range("fd00:10:96::/112"), 10), Some(ip("fd00:10:96::a")));
        assert_eq!(nth_address(range("10.0.0.0/30"), 4), None);
        assert_eq!(nth_address(range("255.255.255.0/24"), 256), None);
        assert_eq!(nth_address(range("10.0.0.0/30"), u128::MAX), None);
    }

    #[test]
    fn numbers_and_addresses_are_each_others_inverse() {
        for text in ["10.244.1.0/24", "fd00:10:244:1::/64"] {
            let range = range(text);
            let last = nth_address(range, last_number(range)).unwrap();
            assert_eq!(number_in(range, last), Some(last_number(range)));
        }
        assert_eq!(number_in(range("10.244.1.0/24"), ip("10.244.2.1")), None);
        assert_eq!(number_in(range("10.244.1.0/24"), ip("::1")), None);
    }

    #[test]
    fn the_broadcast_address_is_no_hosts() {
        assert_eq!(last_number(range("10.244.1.0/24")), 254);
        assert_eq!(last_number(range("10.244.1.0/31")), 1);
        assert_eq!(last_number(range("fd00::/120")), 255);
        assert_eq!(last_number(range("::/0")), u128::MAX);
    }
}
