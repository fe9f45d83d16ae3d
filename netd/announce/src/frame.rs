//! Ethernet frames that the announcer reads and writes, as bytes and back.
//!
//! [`arp`] and [`ndp`] say where an address is, [`beat`] says that a node lives. Everything here is
//! a pure function over bytes; whatever is malformed reads as nothing, because anybody on the
//! network can send anything. Deliberately not here: who answers, and when.

use std::fmt;

pub mod arp;
pub mod beat;
pub mod ndp;

/// Bytes of an Ethernet header.
pub(crate) const HEADER: usize = 14;

/// What follows an Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EtherType {
    /// The Address Resolution Protocol (RFC 826).
    Arp,
    /// IPv6, of which only neighbour discovery (RFC 4861) is read.
    Ipv6,
    /// IEEE's first number for local experiments: [`beat`].
    Beat,
}

impl EtherType {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Arp, Self::Ipv6, Self::Beat];

    /// Its number on the wire.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::Arp => 0x0806,
            Self::Ipv6 => 0x86dd,
            Self::Beat => 0x88b5,
        }
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Everybody on the network.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// None: as asked for in a request.
    pub const NONE: Self = Self([0; 6]);

    /// Reads an address of six bytes; links of other kinds have none or longer ones.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        Some(Self(bytes.try_into().ok()?)).filter(|mac| *mac != Self::NONE)
    }

    /// Is it an address of many?
    #[must_use]
    pub fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A frame that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Whom it is for.
    pub to: Mac,
    /// Who sent it.
    pub from: Mac,
    /// What it says.
    pub content: Content,
}

/// What a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// About an IPv4 address.
    Arp(arp::Arp),
    /// About an IPv6 address.
    Ndp(ndp::Ndp),
    /// About a node.
    Beat(beat::Beat),
}

impl Frame {
    /// Reads a frame; `None` for anything that is not well formed or not for us to read.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (header, body) = bytes.split_at_checked(HEADER)?;
        let kind = u16::from_be_bytes([header[12], header[13]]);
        let content = match EtherType::ALL.into_iter().find(|known| known.number() == kind)? {
            EtherType::Arp => Content::Arp(arp::Arp::read(body)?),
            EtherType::Ipv6 => Content::Ndp(ndp::Ndp::read(body)?),
            EtherType::Beat => Content::Beat(beat::Beat::read(body)?),
        };
        let mac = |at: usize| Mac([0, 1, 2, 3, 4, 5].map(|n| header[at + n]));
        Some(Self { to: mac(0), from: mac(6), content })
    }

    /// The frame as bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let (kind, body) = match &self.content {
            Content::Arp(arp) => (EtherType::Arp, arp.bytes()),
            Content::Ndp(ndp) => (EtherType::Ipv6, ndp.bytes()),
            Content::Beat(beat) => (EtherType::Beat, beat.bytes()),
        };
        let mut bytes = Vec::with_capacity(HEADER + body.len());
        bytes.extend(self.to.0);
        bytes.extend(self.from.0);
        bytes.extend(kind.number().to_be_bytes());
        bytes.extend(body);
        bytes
    }
}

#[cfg(test)]
mod tests;
