//! Names for addresses: PTR records below `in-addr.arpa` and `ip6.arpa`.
//!
//! A Service is named by its ClusterIPs, an endpoint of a headless Service by its own address. In
//! the ranges of the cluster nobody else knows better: what has no name there has none at all.
//! Other addresses are left to others, unless a headless Service has them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::rdata::PTR;
use hickory_proto::rr::{Name, RData, RecordType};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::lookup::{Known, Lookup, Outcome, under};
use super::{Service, Zone};

impl Zone {
    /// The answer to a question for the name of an address; none when it is not ours to tell.
    pub(super) fn reverse(&self, name: &Name, labels: &[&str], kind: RecordType) -> Option<Lookup> {
        let net = network(labels)?;
        let apex = self.reverse_apex(net);
        let alone = net.prefix_len() == net.max_prefix_len();
        let names = if alone { self.names_of(net.addr()) } else { Vec::new() };
        if !names.is_empty() {
            let data = names.into_iter().map(|name| RData::PTR(PTR(name))).collect();
            let apex = apex.unwrap_or_else(|| self.apex().clone());
            return Some(self.answer(&apex, name, kind, Known::Records(data)));
        }
        // A part of an address, with some of the cluster's addresses below it, exists.
        let outcome = if alone { Outcome::NoName } else { Outcome::NoData };
        apex.map(|apex| self.negative(&apex, outcome))
    }

    /// Services and endpoints at an address.
    fn names_of(&self, ip: IpAddr) -> Vec<Name> {
        let mut names = Vec::new();
        for (namespace, service) in self.by_address.get(&ip).into_iter().flatten() {
            let own = under(&format!("{service}.{namespace}.svc"), self.apex());
            match self.entry(namespace, service) {
                Some(entry) if matches!(entry.service, Some(Service::Addresses { .. })) => {
                    names.push(own);
                }
                Some(entry) => {
                    let here = entry.published().filter(|(endpoint, _)| endpoint.addr == ip);
                    names.extend(here.map(|(endpoint, _)| under(&endpoint.label(), &own)));
                }
                None => {}
            }
        }
        names.sort();
        names.dedup();
        names
    }

    /// The zone of the cluster that a part of the address space belongs to.
    fn reverse_apex(&self, net: IpNet) -> Option<Name> {
        let range = self.ranges.iter().find(|range| range.contains(&net))?;
        Some(arpa(*range))
    }
}

/// The zone of a range, at the last full label.
fn arpa(range: IpNet) -> Name {
    let text = match range {
        IpNet::V4(range) => {
            let kept = usize::from(range.prefix_len() / 8);
            let octets = range.network().octets();
            let labels: Vec<String> = octets[..kept].iter().rev().map(u8::to_string).collect();
            [labels, vec!["in-addr.arpa.".to_owned()]].concat().join(".")
        }
        IpNet::V6(range) => {
            let kept = usize::from(range.prefix_len() / 4);
            let nibbles = nibbles(range.network());
            let labels: Vec<String> =
                nibbles[..kept].iter().rev().map(|n| format!("{n:x}")).collect();
            [labels, vec!["ip6.arpa.".to_owned()]].concat().join(".")
        }
    };
    Name::from_ascii(text).expect("digits and dots are a name")
}

fn nibbles(addr: Ipv6Addr) -> Vec<u8> {
    addr.octets().into_iter().flat_map(|octet| [octet >> 4, octet & 15]).collect()
}

/// The part of the address space that a name stands for.
fn network(labels: &[&str]) -> Option<IpNet> {
    match labels {
        [digits @ .., "in-addr", "arpa"] if digits.len() <= 4 => {
            let mut octets = [0; 4];
            for (octet, digit) in octets.iter_mut().zip(digits.iter().rev()) {
                *octet = digit.parse().ok().filter(|_| !digit.starts_with('+'))?;
            }
            let length = u8::try_from(digits.len() * 8).ok()?;
            Ipv4Net::new(Ipv4Addr::from(octets), length).ok().map(IpNet::V4)
        }
        [digits @ .., "ip6", "arpa"] if digits.len() <= 32 => {
            let mut bits: u128 = 0;
            for (at, digit) in digits.iter().rev().enumerate() {
                let nibble = u8::from_str_radix(digit, 16).ok().filter(|_| digit.len() == 1)?;
                bits |= u128::from(nibble) << (124 - 4 * at);
            }
            let length = u8::try_from(digits.len() * 4).ok()?;
            Ipv6Net::new(Ipv6Addr::from_bits(bits), length).ok().map(IpNet::V6)
        }
        _ => None,
    }
}
