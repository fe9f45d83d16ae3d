//! The nodes' own frames: "I live, and these addresses I would serve".
//!
//! Each node sends them to everybody on the network of the nodes, ten times a second while it would
//! serve anything. Pods can't: they are routed, so no frame of theirs reaches that network. A host
//! on that network could, as it could answer ARP; a network is trusted by those who share it.
//!
//! Layout (integers in network order): `mctl`, version, kind, grade, part, parts, cluster (8),
//! sequence (8), length of the name, the name, count of IPv4 addresses (2), count of IPv6 addresses
//! (2), and these. Addresses that do not fit into one frame go on in the next part.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::{Content, Frame, Mac};

const MAGIC: [u8; 4] = *b"mctl";
/// Others are not read: nodes that don't understand each other must not elect together.
const VERSION: u8 = 1;
/// Bytes of addresses in a frame: with the longest name it stays below Ethernet's 1500.
const ROOM: usize = 1200;
const SHORTEST: usize = 60;

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// A number that nodes of one cluster have in common: several may share a network.
    pub cluster: u64,
    /// The node.
    pub node: Arc<str>,
    /// Grows with each beat, also over restarts: a late one is not taken for a new one.
    pub sequence: u64,
    /// What it says.
    pub message: Message,
}

/// What a beat says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// It lives.
    Alive {
        /// How well it would serve.
        grade: Grade,
        /// Which part of its offers these are, counted from nought, …
        part: u8,
        /// … of how many.
        parts: u8,
        /// The addresses that it would serve.
        offers: Vec<IpAddr>,
    },
    /// It goes; others need not wait until it is missed.
    Farewell,
}

/// How well a node would serve; the lower, the sooner it is elected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// As it should be.
    Full,
    /// Only where nobody does better: it has just come, was not awake for a while, or does not
    /// know what the cluster looks like now.
    Reserve,
}

impl Beat {
    /// Reads a beat.
    #[must_use]
    pub fn read(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        if reader.take::<4>()? != MAGIC || reader.byte()? != VERSION {
            return None;
        }
        let [kind, grade, part, parts] = reader.take()?;
        let cluster = u64::from_be_bytes(reader.take()?);
        let sequence = u64::from_be_bytes(reader.take()?);
        let length = usize::from(reader.byte()?);
        let node: Arc<str> = std::str::from_utf8(reader.slice(length)?).ok()?.into();
        let message = match kind {
            0 => {
                let grade = match grade {
                    0 => Grade::Full,
                    1 => Grade::Reserve,
                    _ => return None,
                };
                if part >= parts {
                    return None;
                }
                Message::Alive { grade, part, parts, offers: reader.addresses()? }
            }
            1 => Message::Farewell,
            _ => return None,
        };
        Some(Self { cluster, node, sequence, message })
    }

    /// The beat as bytes, padded to the shortest frame that Ethernet has.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let (kind, grade, part, parts, offers) = match &self.message {
            Message::Alive { grade, part, parts, offers } => {
                (0, u8::from(*grade == Grade::Reserve), *part, *parts, offers.as_slice())
            }
            Message::Farewell => (1, 0, 0, 0, &[][..]),
        };
        let mut bytes = MAGIC.to_vec();
        bytes.extend([VERSION, kind, grade, part, parts]);
        bytes.extend(self.cluster.to_be_bytes());
        bytes.extend(self.sequence.to_be_bytes());
        // Names of nodes are DNS names: 253 characters at most.
        let name = self.node.as_bytes();
        let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
        bytes.push(length);
        bytes.extend(&name[..usize::from(length)]);
        if kind == 0 {
            write_addresses(&mut bytes, offers);
        }
        bytes.resize(bytes.len().max(SHORTEST - super::HEADER), 0);
        bytes
    }

    /// The beat as a frame to everybody.
    #[must_use]
    pub fn frame(self, mac: Mac) -> Frame {
        Frame { to: Mac::BROADCAST, from: mac, content: Content::Beat(self) }
    }
}

/// Cuts offers into what fits in a frame each; at least one part, at most 255: addresses beyond
/// (some nineteen thousand IPv6 ones) are not offered.
pub fn parts(offers: impl IntoIterator<Item = IpAddr>) -> Vec<Vec<IpAddr>> {
    let mut parts = vec![Vec::new()];
    let mut room = ROOM;
    for offer in offers {
        let size = if offer.is_ipv4() { 4 } else { 16 };
        if size > room {
            if parts.len() == usize::from(u8::MAX) {
                break;
            }
            parts.push(Vec::new());
            room = ROOM;
        }
        room -= size;
        if let Some(last) = parts.last_mut() {
            last.push(offer);
        }
    }
    parts
}

fn write_addresses(bytes: &mut Vec<u8>, addresses: &[IpAddr]) {
    let four = addresses.iter().filter(|address| address.is_ipv4()).count();
    for count in [four, addresses.len() - four] {
        let count = u16::try_from(count).expect("a part is far smaller");
        bytes.extend(count.to_be_bytes());
    }
    for address in addresses {
        if let IpAddr::V4(address) = address {
            bytes.extend(address.octets());
        }
    }
    for address in addresses {
        if let IpAddr::V6(address) = address {
            bytes.extend(address.octets());
        }
    }
}

/// Takes bytes from the front, as long as there are any.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take().map(|[byte]| byte)
    }

    fn slice(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn addresses(&mut self) -> Option<Vec<IpAddr>> {
        let four = u16::from_be_bytes(self.take()?);
        let six = u16::from_be_bytes(self.take()?);
        let mut addresses = Vec::new();
        for _ in 0..four {
            addresses.push(Ipv4Addr::from(self.take::<4>()?).into());
        }
        for _ in 0..six {
            addresses.push(Ipv6Addr::from(self.take::<16>()?).into());
        }
        Some(addresses)
    }
}
