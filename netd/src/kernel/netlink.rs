//! One small blocking netlink client: nftables, IPVS, conntrack, routes and addresses all use it.
//!
//! Owns the framing (headers, attributes, acknowledgements, dumps). Invariant: a request returns
//! only after the kernel has answered it, and an error names the first message it refused.
//! Deliberately not here: what any message means.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use netlink_sys::protocols::{NETLINK_GENERIC, NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};

/// Ask for an acknowledgement.
pub(crate) const ACK: u16 = 0x4;
/// Ask for all objects.
pub(crate) const DUMP: u16 = 0x300;
/// Replace what is there.
pub(crate) const REPLACE: u16 = 0x100;
/// Fail if it is there.
pub(crate) const EXCLUSIVE: u16 = 0x200;
/// Create what isn't there.
pub(crate) const CREATE: u16 = 0x400;

/// Put it after what is there.
pub(crate) const APPEND: u16 = 0x800;

/// Room for what one receive gives. The kernel fills as much of it as it can (32 KiB) with one part
/// of a dump, and for each part of a set's dump it walks the set from its beginning.
const RECEIVE: usize = 0x2_0000;

const REQUEST: u16 = 0x1;
const HEADER: usize = 16;
const TYPE_ERROR: u16 = 2;
const TYPE_DONE: u16 = 3;
const FLAG_DUMP_INTERRUPTED: u16 = 0x10;
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;

/// A netlink family.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Protocol {
    /// Links, addresses, routes.
    Route,
    /// nftables and conntrack.
    Netfilter,
    /// IPVS.
    Generic,
}

impl Protocol {
    fn number(self) -> isize {
        match self {
            Self::Route => NETLINK_ROUTE,
            Self::Netfilter => NETLINK_NETFILTER,
            Self::Generic => NETLINK_GENERIC,
        }
    }
}

/// Netlink messages being written. Integers are in host order unless the name says `be`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        self.pad();
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    pub(crate) fn attr(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(4 + value.len()).expect("attributes are small");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.raw(value);
    }

    pub(crate) fn u8(&mut self, kind: u16, value: u8) {
        self.attr(kind, &[value]);
    }

    pub(crate) fn u16(&mut self, kind: u16, value: u16) {
        self.attr(kind, &value.to_ne_bytes());
    }

    pub(crate) fn u32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_ne_bytes());
    }

    pub(crate) fn be16(&mut self, kind: u16, value: u16) {
        self.attr(kind, &value.to_be_bytes());
    }

    pub(crate) fn be32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_be_bytes());
    }

    pub(crate) fn be64(&mut self, kind: u16, value: u64) {
        self.attr(kind, &value.to_be_bytes());
    }

    pub(crate) fn string(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attr(kind, &bytes);
    }

    pub(crate) fn nest(&mut self, kind: u16, inner: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0, 0]);
        self.0.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        inner(self);
        let length = u16::try_from(self.0.len() - start).expect("nests are split by their writers");
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    pub(crate) fn message(
        &mut self,
        kind: u16,
        flags: u16,
        sequence: u32,
        body: impl FnOnce(&mut Self),
    ) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.0.extend_from_slice(&sequence.to_ne_bytes());
        self.0.extend_from_slice(&[0; 4]);
        body(self);
        let length = u32::try_from(self.0.len() - start).expect("messages are below 4 GiB");
        self.0[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }
}

/// The attributes in some bytes; ends at the first malformed one.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The first attribute of a kind.
pub(crate) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(k, _)| *k == kind).map(|(_, value)| value)
}

/// Two bytes in host order.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Four bytes in host order.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A string attribute's value.
pub(crate) fn text(value: &[u8]) -> &str {
    std::str::from_utf8(value).unwrap_or_default().trim_end_matches('\0')
}

/// One message from the kernel.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// Its type.
    pub(crate) kind: u16,
    /// The port of the socket that caused it, in notifications.
    pub(crate) port: u32,
    /// Its sequence number.
    pub(crate) sequence: u32,
    flags: u16,
    /// What follows the header.
    pub(crate) body: Vec<u8>,
}

/// Splits what one receive gave into messages.
fn messages(mut bytes: &[u8]) -> Vec<Message> {
    let mut out = Vec::new();
    while let Some(length) = u32_at(bytes, 0).map(|n| n as usize) {
        let Some(message) = bytes.get(..length).filter(|_| length >= HEADER) else { break };
        let (Some(kind), Some(flags)) = (u16_at(message, 4), u16_at(message, 6)) else { break };
        let (Some(sequence), Some(port)) = (u32_at(message, 8), u32_at(message, 12)) else { break };
        out.push(Message { kind, port, sequence, flags, body: message[HEADER..].to_vec() });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    out
}

/// A connection to one netlink family, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: Socket,
    sequence: u32,
    port: u32,
    /// What was received last.
    received: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(protocol: Protocol) -> io::Result<Self> {
        let mut socket = Socket::new(protocol.number())?;
        let port = socket.bind_auto()?.port_number();
        socket.connect(&SocketAddr::new(0, 0))?;
        // Only makes messages clearer; old kernels do without.
        let _ = socket.set_ext_ack(true);
        Ok(Self { socket, sequence: 1, port, received: Vec::with_capacity(RECEIVE) })
    }

    /// The port by which notifications name this connection.
    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    /// One message; returns the answers.
    pub(crate) fn request(
        &mut self,
        kind: u16,
        flags: u16,
        body: impl FnOnce(&mut Writer),
    ) -> io::Result<Vec<Message>> {
        let mut answers = Vec::new();
        self.request_each(kind, flags, body, |message| answers.push(message))?;
        Ok(answers)
    }

    /// One message; hands over the answers as they come. A dump may be large: ten thousand
    /// Services are read without all of them being in memory twice.
    pub(crate) fn request_each(
        &mut self,
        kind: u16,
        flags: u16,
        body: impl FnOnce(&mut Writer),
        each: impl FnMut(Message),
    ) -> io::Result<()> {
        let sequence = self.next_sequence();
        let mut writer = Writer::default();
        let flags = if flags & DUMP == DUMP { flags } else { flags | ACK };
        writer.message(kind, flags, sequence, body);
        self.socket.send(writer.bytes(), 0)?;
        self.collect(sequence..=sequence, 1, each)
    }

    /// A number for one more message.
    pub(crate) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Sends messages written by the caller with [`Connection::next_sequence`] numbers in one go,
    /// and waits for `acknowledgements` of them.
    pub(crate) fn send_all(
        &mut self,
        writer: &Writer,
        sequences: std::ops::RangeInclusive<u32>,
        acknowledgements: usize,
    ) -> io::Result<()> {
        let room = writer.bytes().len() * 2 + 0x1_0000;
        // The limit of plain SO_SNDBUF is too small for thousands of Services; where the right to
        // exceed it is missing, the send itself fails and says so.
        let _ = setsockopt(&self.as_fd(), sockopt::SndBufForce, &room);
        self.socket.send(writer.bytes(), 0)?;
        self.collect(sequences, acknowledgements, drop)
    }

    /// Sends messages that the kernel treats one by one, all with [`ACK`]; returns how each fared,
    /// in the order of their sequence numbers.
    pub(crate) fn send_each(
        &mut self,
        writer: &Writer,
        sequences: std::ops::RangeInclusive<u32>,
    ) -> io::Result<Vec<io::Result<()>>> {
        self.socket.send(writer.bytes(), 0)?;
        let mut results = Vec::new();
        let count = (sequences.end() - sequences.start() + 1) as usize;
        while results.len() < count {
            for message in self.receive()? {
                if message.kind == TYPE_ERROR && sequences.contains(&message.sequence) {
                    results.push(refusal(&message).map_or(Ok(()), Err));
                }
            }
        }
        Ok(results)
    }

    fn receive(&mut self) -> io::Result<Vec<Message>> {
        loop {
            self.received.clear();
            match self.socket.recv(&mut self.received, 0) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                received => return received.map(|_| messages(&self.received)),
            }
        }
    }

    /// Reads answers until so many acknowledgements, errors or ends of dumps have come.
    fn collect(
        &mut self,
        sequences: std::ops::RangeInclusive<u32>,
        mut acknowledgements: usize,
        mut each: impl FnMut(Message),
    ) -> io::Result<()> {
        let mut failure = None;
        while acknowledgements > 0 {
            for message in self.receive()? {
                if !sequences.contains(&message.sequence) {
                    continue;
                }
                // Said by any message of a dump, the last one included.
                if message.flags & FLAG_DUMP_INTERRUPTED != 0 && message.kind != TYPE_ERROR {
                    failure = Some(io::ErrorKind::Interrupted.into());
                }
                match message.kind {
                    TYPE_ERROR => {
                        acknowledgements = acknowledgements.saturating_sub(1);
                        failure = failure.or(refusal(&message));
                    }
                    TYPE_DONE => acknowledgements = 0,
                    _ => each(message),
                }
            }
            if failure.is_some() && sequences.start() != sequences.end() {
                // A refused batch acknowledges only what it got to: what is left would never come.
                self.drain();
                break;
            }
        }
        failure.map_or(Ok(()), Err)
    }

    fn drain(&mut self) {
        let _ = self.socket.set_non_blocking(true);
        while self.socket.recv_from_full().is_ok() {}
        let _ = self.socket.set_non_blocking(false);
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The error that a message carries, with the kernel's own words if it has some.
fn refusal(message: &Message) -> Option<io::Error> {
    let code = i32::from_ne_bytes(message.body.get(..4)?.try_into().ok()?);
    (code != 0).then(|| io::Error::from_raw_os_error(-code))
}

/// A subscription to what changes in the kernel.
#[derive(Debug)]
pub(crate) struct Monitor {
    socket: Socket,
}

impl Monitor {
    /// Subscribes to groups (by number) of a family; never blocks.
    pub(crate) fn open(protocol: Protocol, groups: &[u32]) -> io::Result<Self> {
        let mut socket = Socket::new(protocol.number())?;
        socket.bind_auto()?;
        for group in groups {
            socket.add_membership(*group)?;
        }
        socket.set_non_blocking(true)?;
        Ok(Self { socket })
    }

    /// All messages that are waiting. An overrun is an error: something was missed. All is read
    /// even so, because the kernel says it once, and says nothing more to a socket that stays full.
    pub(crate) fn read(&self) -> io::Result<Vec<Message>> {
        let (mut out, mut missed) = (Vec::new(), None);
        loop {
            match self.socket.recv_from_full() {
                Ok((bytes, _)) => out.extend(messages(&bytes)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    return missed.map_or(Ok(out), Err);
                }
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => missed = Some(e),
                Err(e) => return Err(e),
            }
        }
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> i32 {
        self.socket.as_raw_fd()
    }
}
