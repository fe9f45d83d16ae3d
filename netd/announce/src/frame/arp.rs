//! ARP for IPv4 over Ethernet (RFC 826), with the readings of RFC 5227.

use std::net::Ipv4Addr;

use super::{Content, Frame, Mac};

/// Hardware Ethernet, protocol IPv4, and the lengths of their addresses.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
/// Bytes of a packet; what comes after them is padding.
const LENGTH: usize = 28;

/// An ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Question or answer.
    pub operation: Operation,
    /// Who speaks.
    pub sender_mac: Mac,
    /// The address that the speaker says it has; unspecified in a probe.
    pub sender: Ipv4Addr,
    /// Whom it is for, in an answer.
    pub target_mac: Mac,
    /// The address that is asked for.
    pub target: Ipv4Addr,
}

/// What an ARP packet does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Who has it?
    Request,
    /// I have it.
    Reply,
}

impl Arp {
    /// Reads a packet.
    #[must_use]
    pub fn read(body: &[u8]) -> Option<Self> {
        let body: &[u8; LENGTH] = body.first_chunk()?;
        if body[..6] != ETHERNET_IPV4 {
            return None;
        }
        let operation = match u16::from_be_bytes([body[6], body[7]]) {
            1 => Operation::Request,
            2 => Operation::Reply,
            _ => return None,
        };
        let mac = |at: usize| Mac([0, 1, 2, 3, 4, 5].map(|n| body[at + n]));
        let address = |at: usize| Ipv4Addr::from([0, 1, 2, 3].map(|n| body[at + n]));
        Some(Self {
            operation,
            sender_mac: mac(8),
            sender: address(14),
            target_mac: mac(18),
            target: address(24),
        })
    }

    /// The packet as bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let operation: u16 = match self.operation {
            Operation::Request => 1,
            Operation::Reply => 2,
        };
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.extend(ETHERNET_IPV4);
        bytes.extend(operation.to_be_bytes());
        bytes.extend(self.sender_mac.0);
        bytes.extend(self.sender.octets());
        bytes.extend(self.target_mac.0);
        bytes.extend(self.target.octets());
        bytes
    }

    /// "I have `address`", to whoever asked by `question`.
    #[must_use]
    pub fn answer(question: &Self, mac: Mac) -> Frame {
        let arp = Self {
            operation: Operation::Reply,
            sender_mac: mac,
            sender: question.target,
            target_mac: question.sender_mac,
            target: question.sender,
        };
        Frame { to: question.sender_mac, from: mac, content: Content::Arp(arp) }
    }

    /// "I have `address`", to everybody: a question and an answer, because some hosts listen to the
    /// one only, and some to the other (upstream: MetalLB's `internal/layer2/arp.go`).
    #[must_use]
    pub fn announcement(address: Ipv4Addr, mac: Mac) -> [Frame; 2] {
        [Operation::Request, Operation::Reply].map(|operation| {
            let arp = Self {
                operation,
                sender_mac: mac,
                sender: address,
                target_mac: Mac::BROADCAST,
                target: address,
            };
            Frame { to: Mac::BROADCAST, from: mac, content: Content::Arp(arp) }
        })
    }

    /// "Who has `address`?", asked without saying who one is: what is learned from it harms no
    /// table of neighbours (RFC 5227, 1.1).
    #[must_use]
    pub fn probe(address: Ipv4Addr, mac: Mac) -> Frame {
        let arp = Self {
            operation: Operation::Request,
            sender_mac: mac,
            sender: Ipv4Addr::UNSPECIFIED,
            target_mac: Mac::NONE,
            target: address,
        };
        Frame { to: Mac::BROADCAST, from: mac, content: Content::Arp(arp) }
    }
}
