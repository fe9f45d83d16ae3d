//! Neighbour solicitations and advertisements of IPv6 (RFC 4861), each with its IPv6 header.

use std::net::Ipv6Addr;

use super::{Content, Frame, Mac};

/// Bytes of an IPv6 header.
const IPV6: usize = 40;
/// Bytes of a solicitation or advertisement without options.
const MESSAGE: usize = 24;
/// The next header ICMPv6.
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Nobody beyond a router can send a packet that still has it.
const HOP_LIMIT: u8 = 255;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
/// Options: the sender's link-layer address, and the target's.
const SOURCE_MAC: u8 = 1;
const TARGET_MAC: u8 = 2;

/// All hosts on a link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// A message of neighbour discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ndp {
    /// Who sent it; unspecified while the sender is looking whether its address is free.
    pub source: Ipv6Addr,
    /// Whom it is for.
    pub destination: Ipv6Addr,
    /// The address it is about.
    pub target: Ipv6Addr,
    /// Question or answer.
    pub message: Message,
    /// The link-layer address that it gives.
    pub mac: Option<Mac>,
}

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Who has it?
    Solicitation,
    /// I have it.
    Advertisement {
        /// It answers a question.
        solicited: bool,
        /// What was known before is wrong.
        overrides: bool,
    },
}

impl Ndp {
    /// Reads an IPv6 packet; its checksum must be right and it must not have passed a router.
    #[must_use]
    pub fn read(packet: &[u8]) -> Option<Self> {
        let (header, rest) = packet.split_first_chunk::<IPV6>()?;
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let body = rest.get(..length)?;
        if header[0] >> 4 != 6 || header[6] != ICMPV6 || header[7] != HOP_LIMIT {
            return None;
        }
        let source = address(header, 8)?;
        let destination = address(header, 24)?;
        if body.len() < MESSAGE || checksum(source, destination, body) != 0 || body[1] != 0 {
            return None;
        }
        let (message, option) = match body[0] {
            SOLICITATION => (Message::Solicitation, SOURCE_MAC),
            ADVERTISEMENT => {
                let (solicited, overrides) = (body[4] & SOLICITED != 0, body[4] & OVERRIDE != 0);
                (Message::Advertisement { solicited, overrides }, TARGET_MAC)
            }
            _ => return None,
        };
        let target = address(body, 8).filter(|target| !target.is_multicast())?;
        let mac = mac_option(&body[MESSAGE..], option)?;
        Some(Self { source, destination, target, message, mac })
    }

    /// The packet as bytes, checksum included.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let (kind, flags, option) = match self.message {
            Message::Solicitation => (SOLICITATION, 0, SOURCE_MAC),
            Message::Advertisement { solicited, overrides } => {
                let flag = |on: bool, bit: u8| if on { bit } else { 0 };
                (ADVERTISEMENT, flag(solicited, SOLICITED) | flag(overrides, OVERRIDE), TARGET_MAC)
            }
        };
        let mut body = vec![kind, 0, 0, 0, flags, 0, 0, 0];
        body.extend(self.target.octets());
        if let Some(mac) = self.mac {
            body.extend([option, 1]);
            body.extend(mac.0);
        }
        let sum = checksum(self.source, self.destination, &body);
        body[2..4].copy_from_slice(&sum.to_be_bytes());
        let length = u16::try_from(body.len()).expect("a message and one option are 32 bytes");
        let mut packet = Vec::with_capacity(IPV6 + body.len());
        packet.extend([0x60, 0, 0, 0]);
        packet.extend(length.to_be_bytes());
        packet.extend([ICMPV6, HOP_LIMIT]);
        packet.extend(self.source.octets());
        packet.extend(self.destination.octets());
        packet.extend(body);
        packet
    }

    /// "I have it", to whoever asked by `question`; `asker` is the frame's sender. Who has no
    /// address yet is answered by telling everybody (RFC 4861, 7.2.4).
    #[must_use]
    pub fn answer(question: &Self, asker: Mac, mac: Mac) -> Frame {
        if question.source.is_unspecified() {
            return Self::announcement(question.target, mac);
        }
        let ndp = Self {
            source: question.target,
            destination: question.source,
            target: question.target,
            message: Message::Advertisement { solicited: true, overrides: true },
            mac: Some(mac),
        };
        Frame { to: question.mac.unwrap_or(asker), from: mac, content: Content::Ndp(ndp) }
    }

    /// "I have `address`", to everybody.
    #[must_use]
    pub fn announcement(address: Ipv6Addr, mac: Mac) -> Frame {
        let ndp = Self {
            source: address,
            destination: ALL_NODES,
            target: address,
            message: Message::Advertisement { solicited: false, overrides: true },
            mac: Some(mac),
        };
        Frame { to: group_mac(ALL_NODES), from: mac, content: Content::Ndp(ndp) }
    }

    /// "Who has `address`?", asked as one asks who looks whether it is free (RFC 4862, 5.4): it
    /// changes nobody's table of neighbours, and everybody hears the answer.
    #[must_use]
    pub fn probe(address: Ipv6Addr, mac: Mac) -> Frame {
        let group = solicited_group(address);
        let ndp = Self {
            source: Ipv6Addr::UNSPECIFIED,
            destination: group,
            target: address,
            message: Message::Solicitation,
            mac: None,
        };
        Frame { to: group_mac(group), from: mac, content: Content::Ndp(ndp) }
    }
}

/// The group that questions about an address are sent to (RFC 4291, 2.7.1).
#[must_use]
pub fn solicited_group(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (a & 0xff), b)
}

/// The Ethernet address of a group (RFC 2464, 7).
fn group_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    Mac([0x33, 0x33, a, b, c, d])
}

fn address(bytes: &[u8], at: usize) -> Option<Ipv6Addr> {
    Some(Ipv6Addr::from(*bytes.get(at..)?.first_chunk::<16>()?))
}

/// The link-layer address among options, if there is one; `None` when options are malformed.
#[expect(clippy::option_option, reason = "malformed is not the same as absent")]
fn mac_option(mut options: &[u8], wanted: u8) -> Option<Option<Mac>> {
    let mut found = None;
    while let [kind, eights, ..] = *options {
        let length = usize::from(eights) * 8;
        // A length of nought would never end (RFC 4861, 4.6).
        let option = options.get(..length).filter(|option| !option.is_empty())?;
        if kind == wanted {
            found = found.or_else(|| Mac::from_slice(option.get(2..8)?));
        }
        options = &options[length..];
    }
    Some(found)
}

/// The Internet checksum over pseudo header and message; nought over one that carries its own.
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let words = |bytes: &[u8]| -> u32 {
        let word = |pair: &[u8]| {
            u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))
        };
        bytes.chunks(2).map(word).sum()
    };
    let mut sum = words(&source.octets())
        + words(&destination.octets())
        + u32::from(length)
        + u32::from(ICMPV6)
        + words(message);
    while let high @ 1.. = sum >> 16 {
        sum = (sum & 0xffff) + high;
    }
    !u16::try_from(sum).expect("folded to sixteen bits")
}
