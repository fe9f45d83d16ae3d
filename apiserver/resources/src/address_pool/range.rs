//! A run of addresses, written `192.168.56.200-192.168.56.249` or `192.168.57.0/24`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use ipnet::IpNet;
use thiserror::Error;

use crate::families::Family;

/// Addresses of one family, from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

/// Why a text is no range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RangeError {
    /// Neither form.
    #[error("must be a range of addresses (e.g. 192.168.56.200-192.168.56.249 or fd00::/120)")]
    Form,
    /// The two ends are of different families.
    #[error("the two ends must be of one family")]
    Families,
    /// The last address stands before the first one.
    #[error("the last address must not stand before the first one")]
    Order,
    /// A network with bits behind its prefix.
    #[error("must not have bits set beyond the prefix length")]
    HostBits,
    /// IPv4 addresses in the clothes of IPv6.
    #[error("must not have an IPv4-mapped IPv6 address")]
    Mapped,
}

impl AddressRange {
    /// The family of all its addresses.
    #[must_use]
    pub fn family(self) -> Family {
        self.first.into()
    }

    /// The first address.
    #[must_use]
    pub fn first(self) -> IpAddr {
        self.first
    }

    /// The last address.
    #[must_use]
    pub fn last(self) -> IpAddr {
        self.last
    }

    /// How many addresses it has; as many as can be counted if there are more.
    #[must_use]
    pub fn size(self) -> u128 {
        (number(self.last) - number(self.first)).saturating_add(1)
    }

    /// Whether it has the address.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        self.family() == address.into() && self.numbers().contains(&number(address))
    }

    /// Whether an address is in both.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.family() == other.family()
            && number(self.first) <= number(other.last)
            && number(other.first) <= number(self.last)
    }

    /// Its addresses, the lowest first.
    pub fn addresses(self) -> impl Iterator<Item = IpAddr> {
        let family = self.family();
        self.numbers().map(move |n| match family {
            Family::V4 => Ipv4Addr::from(u32::try_from(n).unwrap_or(u32::MAX)).into(),
            Family::V6 => Ipv6Addr::from(n).into(),
        })
    }

    fn numbers(self) -> RangeInclusive<u128> {
        number(self.first)..=number(self.last)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

impl From<IpNet> for AddressRange {
    fn from(net: IpNet) -> Self {
        // Of IPv6, too, this is the last address.
        Self { first: net.network(), last: net.broadcast() }
    }
}

impl From<IpAddr> for AddressRange {
    fn from(address: IpAddr) -> Self {
        Self { first: address, last: address }
    }
}

impl FromStr for AddressRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let range = match text.split_once('-') {
            Some((first, last)) => {
                let end = |text: &str| text.trim().parse().map_err(|_| RangeError::Form);
                Self { first: end(first)?, last: end(last)? }
            }
            None => {
                let net: IpNet = text.parse().map_err(|_| RangeError::Form)?;
                if net.addr() != net.network() {
                    return Err(RangeError::HostBits);
                }
                net.into()
            }
        };
        let mapped = |a: IpAddr| matches!(a, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
        if mapped(range.first) || mapped(range.last) {
            return Err(RangeError::Mapped);
        }
        if range.first.is_ipv4() != range.last.is_ipv4() {
            return Err(RangeError::Families);
        }
        if range.last < range.first { Err(RangeError::Order) } else { Ok(range) }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The shorter form, where there is one.
        let bits = self.size().ilog2();
        let longest = if self.first.is_ipv4() { 32 } else { 128 };
        let net = u8::try_from(longest - bits).ok().and_then(|l| IpNet::new(self.first, l).ok());
        match net {
            Some(net) if self.first != self.last && Self::from(net) == *self => write!(f, "{net}"),
            _ => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> AddressRange {
        text.parse().expect(text)
    }

    #[test]
    fn both_forms_are_read() {
        let pool = range("192.168.56.200-192.168.56.249");
        assert_eq!(pool.size(), 50);
        assert!(pool.contains("192.168.56.249".parse().expect("an address")));
        assert!(!pool.contains("192.168.56.250".parse().expect("an address")));
        assert!(!pool.contains("::c0a8:38c8".parse().expect("an address")));
        assert_eq!(range("fd00::/120").size(), 256);
        assert_eq!(range("::/0").size(), u128::MAX);
        assert_eq!(range("10.0.0.0/30"), range("10.0.0.0-10.0.0.3"));
        for (text, usual) in [
            ("fd00::1 - fd00::2", "fd00::1-fd00::2"),
            ("10.0.0.0-10.0.0.255", "10.0.0.0/24"),
            ("10.0.0.4-10.0.0.11", "10.0.0.4-10.0.0.11"),
            ("10.0.0.7-10.0.0.7", "10.0.0.7-10.0.0.7"),
        ] {
            assert_eq!(range(text).to_string(), usual, "{text}");
        }
    }

    #[test]
    fn addresses_come_in_order() {
        let all: Vec<String> =
            range("10.0.0.254-10.0.1.1").addresses().map(|a| a.to_string()).collect();
        assert_eq!(all, ["10.0.0.254", "10.0.0.255", "10.0.1.0", "10.0.1.1"]);
        let first = range("fd00::/64").addresses().next().map(|a| a.to_string());
        assert_eq!(first.as_deref(), Some("fd00::"), "none of the others is counted for it");
    }

    #[test]
    fn what_is_no_range_says_why() {
        for (text, expected) in [
            ("", RangeError::Form),
            ("10.0.0.1", RangeError::Form),
            ("10.0.0.1-", RangeError::Form),
            ("a-b", RangeError::Form),
            ("10.0.0.1-fd00::1", RangeError::Families),
            ("10.0.0.2-10.0.0.1", RangeError::Order),
            ("10.0.0.1/24", RangeError::HostBits),
            ("::ffff:10.0.0.1-::ffff:10.0.0.2", RangeError::Mapped),
        ] {
            assert_eq!(text.parse::<AddressRange>(), Err(expected), "{text}");
        }
    }

    #[test]
    fn overlap_is_mutual() {
        for (a, b, expected) in [
            ("10.0.0.1-10.0.0.5", "10.0.0.5-10.0.0.9", true),
            ("10.0.0.0/24", "10.0.0.7-10.0.0.7", true),
            ("10.0.0.1-10.0.0.4", "10.0.0.5-10.0.0.9", false),
            ("0.0.0.0/0", "::/0", false),
        ] {
            assert_eq!(range(a).overlaps(range(b)), expected, "{a} {b}");
            assert_eq!(range(b).overlaps(range(a)), expected, "{b} {a}");
        }
    }
}
